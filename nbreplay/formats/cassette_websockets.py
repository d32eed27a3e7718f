"""Websocket sessions in cassettes of pydantic-ai: read from the list of interactions, beside those over HTTP.

A message is a mapping with ``direction`` (``sent`` or ``received``) and ``data``, which is JSON data; the end of a
session is one with ``kind: close``, ``code``, ``reason`` and ``ok``. Any other field or form is an error. A file holds
sessions one after another, without their addresses: these are assumed from what the messages say, unless the user names
one. Nothing says how a session ended whose close is not there: its take is one that the caller closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from nbreplay.core.recording.json_text import dicts
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, Request
from nbreplay.core.websocket import WebSocketRecorder
from nbreplay.errors import OptionError, RecordingFormatError
from nbreplay.formats.importer import json_data, make_recorder, remove_times

_MESSAGE = frozenset(("kind", "direction", "data"))
_CLOSE = frozenset(("kind", "code", "reason", "ok"))
# How the model of a session begins, and its address. The first that fits wins; the last one is OpenAI's.
_ADDRESSES = (
    (
        "models/",
        "wss://generativelanguage.googleapis.com/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    ),
    (
        "publishers/google/",
        "wss://aiplatform.googleapis.com/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
    ),
    ("grok", "wss://api.x.ai/v1/realtime?model={}"),
    ("", "wss://api.openai.com/v1/realtime?model={}"),
)


class Close(NamedTuple):
    """The end of a session."""

    code: int
    reason: str


class WebSocketSession(msgspec.Struct):
    """The messages of one session, in their order, each with whether the client sent it; and how it ended."""

    number: int  # of its first message in the file, from 1
    messages: list[tuple[bool, Any]]
    close: Close | None = None


def is_part(item: Mapping[str, Any]) -> bool:
    """Tell whether an interaction is a message or the end of a session."""
    return item.get("kind") in ("message", "close") or item.get("direction") in ("sent", "received")


def read_sessions(items: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[WebSocketSession]:
    """Yield the sessions of a file, given those of its interactions that are part of one, with their numbers."""
    session: WebSocketSession | None = None
    for number, item in items:
        try:
            if item.get("kind") == "close":
                if session is None:
                    raise RecordingFormatError("a session ends that has not begun")
                session.close = _read_close(item)
                yield session
                session = None
                continue
            sent, data = _read_message(item)
        except RecordingFormatError as error:
            raise RecordingFormatError(f"interaction {number}: {error}") from None
        if session is not None and _begins(sent, data) and any(_begins(*message) for message in session.messages):
            yield session
            session = None
        session = session or WebSocketSession(number, [])
        session.messages.append((sent, data))
    if session is not None:
        yield session


def _read_message(item: Mapping[str, Any]) -> tuple[bool, Any]:
    _check_fields(item, _MESSAGE)
    if item.get("kind", "message") != "message":
        raise RecordingFormatError(f"kind: {str(item['kind'])[:40]!r} is neither 'message' nor 'close'")
    direction, data = item.get("direction"), item.get("data")
    if direction not in ("sent", "received"):
        raise RecordingFormatError(f"direction: {str(direction)[:40]!r} is neither 'sent' nor 'received'")
    if not isinstance(data, dict | list):
        raise RecordingFormatError(f"data: {type(data).__name__} is not JSON data as messages have it")
    json_data(data, "data")
    return direction == "sent", data


def _read_close(item: Mapping[str, Any]) -> Close:
    _check_fields(item, _CLOSE)
    code, reason = item.get("code"), item.get("reason", "")
    if type(code) is not int or not 1000 <= code <= 4999:
        raise RecordingFormatError(f"code: {str(code)[:40]!r} is not a code with which a websocket closes")
    if not isinstance(reason, str):
        raise RecordingFormatError(f"reason: {str(reason)[:40]!r} is not text")
    # What was seen as an error without a close frame is written as 1000.
    return Close(1006 if code == 1000 and item.get("ok") is False else code, reason)


def _check_fields(item: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := [str(name) for name in item if name not in known]:
        raise RecordingFormatError(f"unknown field {unknown[0][:40]!r} of a websocket {item.get('kind', 'message')}")


def _begins(sent: bool, data: Any) -> bool:
    """Tell whether a message is one that a session has only at its beginning."""
    if not isinstance(data, dict):
        return False
    return "setup" in data if sent else data.get("type") == "session.created"


def address_of(session: WebSocketSession) -> str:
    """Return the address that a session must have had. Raise RecordingFormatError if its messages do not tell."""
    for _, message in session.messages:
        if (model := _model_of(message)) is not None:
            address = next(address for start, address in _ADDRESSES if model.startswith(start))
            return address.format(quote(model, safe="")) if model else address.partition("?")[0]
    raise RecordingFormatError(
        "the cassette does not tell the address of its websocket session. Import it with the address: "
        "nbreplay import CASSETTE --url wss://HOST/PATH"
    )


def _model_of(message: Any) -> str | None:
    """Return the model that a message of a session names; None where it does not tell whose session it is."""
    places = [message.get(name) for name in ("setup", "session")] if isinstance(message, dict) else []
    return next((str(place["model"]) for place in dicts(places) if isinstance(place.get("model"), str)), None)


def record_session(session: WebSocketSession, url: str, extra: Mapping[str, Any]) -> tuple[Request, Take]:
    """Return a session as nbreplay would have recorded it, at `url` or at the address that its messages point to."""
    host, target = split_address(url or address_of(session))
    call = Call("GET", host, target, "", b"", is_websocket=True)
    request, recorder = make_recorder(WebSocketRecorder, call)
    recorder.begin(101, ())
    for sent, message in session.messages:
        (recorder.note_sent if sent else recorder.note_received)(json_data(message, "data").decode("utf-8"))
    if session.close is not None:
        recorder.note_close("server", *session.close)
    return request, remove_times(recorder.take(None if session.close else "closed"), extra=extra)


def split_address(url: str) -> tuple[str, str]:
    """Return host and target of a websocket's address. Raise OptionError for any other address."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.username is not None:
        raise OptionError(f"{url} is not the address of a websocket. Write it as wss://HOST/PATH")
    host = parts.netloc.removesuffix(":443" if parts.scheme == "wss" else ":80")
    return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
