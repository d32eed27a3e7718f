"""An answer out of a foreign recording, taken down as a live one is: secrets out, headers chosen, streams cut.

Knows no foreign format. Foreign recordings tell no times, so none are made up: every gap is 0, and the take says
``"timed": false``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from nbreplay.core.cell import Run
from nbreplay.core.config import Mode
from nbreplay.core.recorder import Keeper, Recorder
from nbreplay.core.recording.recording import check_texts
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Body, Take
from nbreplay.core.request.request import Call, Request, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import Redactor

__all__ = ["Answer", "header_pairs", "taken"]


class Answer(msgspec.Struct, frozen=True):
    """What a server would have sent.

    Attributes
    ----------
    status : int or None
        None where the connection failed before there was an answer.
    headers : tuple of (str, str)
    data : bytes
        The body, without any content encoding.
    error : mapping or None
        ``type`` and ``message`` of what ended the call, where something did.
    """

    status: int | None
    headers: tuple[tuple[str, str], ...] = ()
    data: bytes = b""
    error: Mapping[str, str] | None = None


class _Tray:
    """Where a recorder puts its take, in place of a store."""

    take: Take

    def keep(self, _: Recorder, made: Callable[[], Take]) -> None:
        self.take = made()


def taken(
    call: Call,
    answer: Answer,
    *,
    recorded_at: str = "",
    extra: Mapping[str, Any] | None = None,
    issued: Mapping[str, str] | None = None,
) -> tuple[Request, Take]:
    """Return a call and its answer as a session would have recorded them.

    Parameters
    ----------
    call : Call
    answer : Answer
    recorded_at : str
        ``""`` where nobody knows.
    extra : mapping, optional
        Fields that the take is to keep.
    issued : mapping of str to str, optional
        Ids that earlier answers of the same recording brought, each with the key of its request.

    Raises
    ------
    RecordingFormatError
        Where it has texts that no file can hold.
    """
    request = request_of(call, Normaliser(), issued or {}, Redactor(call.tokens, again=True))
    tray = _Tray()
    recorder = Recorder(cast(Keeper, tray), request, call, Run(None), 0, Mode.RECORD, 0)
    recorder.decode = _as_they_are  # where it decodes, a recorder has no need of a store for a large body
    if answer.status is not None:
        # A length that is claimed may be that of a compressed body.
        said = [pair for pair in answer.headers if not answer.data or pair[0].lower() != "content-length"]
        recorder.begin(answer.status, said)
    if answer.data:
        recorder.feed(answer.data)
    if answer.error is None:
        recorder.end()
    else:
        recorder.fail(answer.error["type"], answer.error["message"])
    check_texts(tray.take)
    body = _untimed(tray.take.body)
    more = {"timed": False, **(extra or {})}
    return request, replace(tray.take, recorded_at=recorded_at, body=body, elapsed_ms=None, extra=more)


def _as_they_are(pieces: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    return pieces


def _untimed(body: Body) -> Body:
    if not isinstance(body, Events):
        return body
    return replace(body, chunks=tuple(chunk._replace(gap_ms=0) for chunk in body.chunks), lines=None)


def header_pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as a `Call` wants them."""
    return [(name.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in headers]
