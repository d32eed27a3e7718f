"""Messages of a websocket, and the body of the take that holds them.

A session is a take of status 101. Its body is `Events` with the framing ``ndjson``, a chunk per message; the gap of a
chunk is the time since the message before it, whoever sent that. The name of the first member tells who sent it, ``>``
the client and ``<`` the server, and how its content is stored:

=============  =====================================================================================================
``>``          a JSON object or array, as a value. ``style`` and ``end`` tell how it was written, as for bodies of
               answers; without them it is compact. ``binary`` is true where the message was binary.
``>text``      any other text message, as a string: also JSON that does not come back byte for byte, and a JSON string
``>base64``    any other binary message
``>blob``      a large binary message: the name of its file beside the recording; ``size`` is its length. A recorder
               takes those of more than 64 KiB for large.
``close``      ``{"code": 1000, "reason": "", "by": "client"}``: a close frame, by ``client`` or ``server``. Code 1005
               is a frame without a code. The answer of a client to the server's frame is left out.
=============  =====================================================================================================

In a file::

    "framing": "ndjson",
    "chunks": [
     [12, {"<": {"type": "session.created"}}],
     [3, {">": {"type": "response.create"}, "style": "spaced"}],
     [40, {"<base64": "AAEC"}],
     [1, {"close": {"code": 1000, "reason": "", "by": "server"}}]
    ]

Text, binary and close are all there is: a fragmented or compressed message is stored whole and decoded, and pings and
pongs are not stored.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeGuard

import msgspec

from nbreplay.core.recording.blob import Blob, blob_from
from nbreplay.core.recording.body import Json, plain_body
from nbreplay.core.recording.json_text import STYLES, JsonValue, encode_json
from nbreplay.core.recording.stream import LONGEST_MS, Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.secrets.redact import Redactor
from nbreplay.errors import RecordingFormatError

Peer = Literal["client", "server"]

LARGE_BINARY = 1 << 16
"""Bytes; a larger binary message lies in a file of its own."""

_SIGNS: dict[Peer, str] = {"client": ">", "server": "<"}
_PEERS: dict[str, Peer] = {sign: peer for peer, sign in _SIGNS.items()}
_MODIFIERS = frozenset(["style", "end", "binary", "size"])
NO_CODE, ABNORMAL = 1005, 1006


class Message(msgspec.Struct, frozen=True):
    """A text message, whose content is a `str`, or a binary one."""

    by: Peer
    content: str | bytes | Blob

    @property
    def value(self) -> JsonValue:
        """The JSON object or array in it; None if it is anything else."""
        body = _json_of(self.content)
        return None if body is None else body.value

    def data_bytes(self) -> bytes:
        """Return the content as bytes. Raise RecordingFormatError if a file that holds it is gone or corrupt."""
        content = self.content
        if isinstance(content, str):
            return content.encode("utf-8", "surrogateescape")
        return content if isinstance(content, bytes) else content.data()

    def redact(self, redactor: Redactor) -> Message:
        """Return it without its secrets, as far as they are in this message alone."""
        content = self.content
        if (body := _json_of(content)) is not None:
            data = body.data()
            if (clean := redactor.json(body.value, data)) is body.value:
                return self
            data = Json(clean, body.style, body.end).data()
            return Message(self.by, data if isinstance(content, bytes) else data.decode("utf-8"))
        if isinstance(content, bytes):
            return Message(self.by, redactor.data(content))
        return self if isinstance(content, Blob) else Message(self.by, redactor.text(content))

    def data(self) -> dict[str, Any]:
        """Return it as a chunk stores it."""
        sign, content = _SIGNS[self.by], self.content
        if isinstance(content, Blob):
            return {f"{sign}blob": content.name, "size": content.size}
        if (body := _json_of(content)) is not None:
            fields = body.as_fields()
            binary = {"binary": True} if isinstance(content, bytes) else {}
            return {sign: fields.pop("json"), **fields, **binary}
        if isinstance(content, bytes):
            return {f"{sign}base64": base64.b64encode(content).decode("ascii")}
        return {f"{sign}text": content}


class Close(msgspec.Struct, frozen=True):
    """A close frame, or, with code 1006, the end of a connection without one."""

    by: Peer
    code: int = 1000
    reason: str = ""

    def data(self) -> dict[str, Any]:
        """Return it as a chunk stores it."""
        return {"close": {"code": self.code, "reason": self.reason, "by": self.by}}


Frame = Message | Close


def is_websocket(take: Take) -> bool:
    """Tell whether a take is a websocket session; a refused one is an HTTP answer."""
    return take.status == 101 and isinstance(take.body, Events)


def websocket_body(frames: Iterable[tuple[float, Frame]], started: float) -> Events:
    """Return the body of a session, given its messages, each with its time in seconds.

    `started` is when the connection was asked for.
    """
    chunks, before = [], 0
    for at, frame in frames:
        # Rounding the times and not the differences keeps errors from adding up.
        millis = max(before, round((at - started) * 1000))
        chunks.append(Chunk(min(millis - before, LONGEST_MS), frame.data()))
        before = millis
    return Events(tuple(chunks), "ndjson")


def frames_of(body: Events, folder: str = "") -> list[tuple[int, Frame]]:
    """Return the messages of a session, each with the milliseconds since the one before it.

    Blobs can be read where `folder` says where they lie, with a separator at its end. Raise RecordingFormatError if the
    body does not hold messages as this module describes them.
    """
    frames = []
    for number, chunk in enumerate(body.chunks, 1):
        try:
            frames.append((chunk.gap_ms, _parse(body.value(chunk), folder)))
        except (RecordingFormatError, ValueError, RecursionError) as error:
            raise RecordingFormatError(f"message {number} of the websocket cannot be read ({error})") from None
    return frames


def blobs_of(take: Take) -> list[Blob]:
    """Return the files beside a recording that a take names: its body, or those of messages."""
    if isinstance(take.body, Blob):
        return [take.body]
    frames = frames_of(take.body) if is_websocket(take) and isinstance(take.body, Events) else []
    contents = [frame.content for _, frame in frames if isinstance(frame, Message)]
    return [content for content in contents if isinstance(content, Blob)]


def times_of(body: Events) -> list[int]:
    """Return when each message came or went, in milliseconds since the connection was asked for."""
    return list(itertools.accumulate(chunk.gap_ms for chunk in body.chunks))


def _json_of(content: str | bytes | Blob) -> Json | None:
    if isinstance(content, Blob):
        return None
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    if data.lstrip(b" \t\r\n")[:1] not in (b"{", b"["):
        return None
    body = plain_body(data, "application/json")
    # Files hold no half of a surrogate pair but as the escape that it came as.
    is_odd = b"\\ud" in data.lower() and not _is_utf8(encode_json(body.value) if isinstance(body, Json) else "")
    return body if isinstance(body, Json) and not is_odd else None


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parse(data: dict[str, Any] | None, folder: str) -> Frame:
    names = (data or {}).keys() - _MODIFIERS
    if data is None or len(names) != 1:
        raise RecordingFormatError("a message must have one content")
    name = names.pop()
    value = data[name]
    if name == "close":
        return _parse_close(value)
    peer, form = _PEERS.get(name[:1]), name[1:]
    if peer is None or form not in _CONTENTS:
        raise RecordingFormatError(f"unknown member {name[:40]!r}")
    return Message(peer, _CONTENTS[form](value, data, folder))


def _parse_close(value: Any) -> Close:
    if not isinstance(value, dict):
        raise RecordingFormatError("a close must be an object")
    code, reason, by = value.get("code"), value.get("reason", ""), value.get("by")
    if type(code) is not int or not 1000 <= code <= 4999 or not isinstance(reason, str) or not _is_peer(by):
        raise RecordingFormatError("the code, reason or sender of a close is invalid")
    return Close(by, code, reason)


def _is_peer(value: Any) -> TypeGuard[Peer]:
    return isinstance(value, str) and value in _SIGNS


def _parse_json(value: Any, data: dict[str, Any], _: str) -> str | bytes:
    style, end = data.get("style", "compact"), data.get("end", "")
    if style not in STYLES or not isinstance(end, str) or end.strip():
        raise RecordingFormatError(f"unknown JSON style {str(style)[:40]!r}, or text after the JSON")
    written = Json(value, style, end).data()
    return written if data.get("binary") is True else written.decode("utf-8")


def _parse_text(value: Any, *_: Any) -> str:
    if not isinstance(value, str):
        raise RecordingFormatError("the text of a message must be a string")
    return value


def _parse_base64(value: Any, *_: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, binascii.Error):
        raise RecordingFormatError("a binary message is not base64") from None


def _parse_blob(value: Any, data: dict[str, Any], folder: str) -> Blob:
    return blob_from(value, data.get("size"), folder)


_CONTENTS: dict[str, Callable[[Any, dict[str, Any], str], str | bytes | Blob]] = {
    "": _parse_json,
    "text": _parse_text,
    "base64": _parse_base64,
    "blob": _parse_blob,
}
