"""Takes out of foreign recordings, recorded like live answers: secrets out, headers chosen, streams cut.

Knows no foreign format. Foreign recordings have no times, so none are made up: every gap is 0, and the take says
``"timed": false``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from nbreplay.core.cell import Run
from nbreplay.core.config import Mode
from nbreplay.core.recorder import Keeper, Recorder
from nbreplay.core.recording.recording import check_texts
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, Request, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import Redactor


class Answer(msgspec.Struct, frozen=True):
    """An answer as a server would have sent it."""

    status: int | None  # None where the connection failed before there was an answer
    headers: tuple[tuple[str, str], ...] = ()
    data: bytes = b""  # without any content encoding
    error: Mapping[str, str] | None = None  # the type and the message of the error that ended the call


class _TakeHolder:
    """Gets the take of a recorder, in place of a keeper with a store."""

    take: Take

    def keep(self, _: Recorder, build: Callable[[], Take]) -> None:
        self.take = build()


def record_answer(
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
    recorded_at : str
        ``""`` where it is not known.
    extra : mapping, optional
        Fields that the take is to keep.
    issued : mapping of str to str, optional
        Ids that earlier answers of the same recording brought, each with the key of its request.
    """
    request = request_of(call, Normaliser(), issued or {}, Redactor(call.tokens, again=True))
    holder = _TakeHolder()
    recorder = Recorder(cast(Keeper, holder), request, call, Run(None), 0, Mode.RECORD, 0)
    recorder.decode = lambda pieces: pieces  # a recorder that decodes needs no store for a large body
    if answer.status is not None:
        # A length that is claimed may be that of a compressed body.
        recorder.begin(
            answer.status, [p for p in answer.headers if not answer.data or p[0].lower() != "content-length"]
        )
    if answer.data:
        recorder.feed(answer.data)
    if answer.error is None:
        recorder.end()
    else:
        recorder.fail(answer.error["type"], answer.error["message"])
    take = holder.take
    check_texts(take)
    body = take.body
    if isinstance(body, Events):
        body = replace(body, chunks=tuple(chunk._replace(gap_ms=0) for chunk in body.chunks), lines=None)
    extra = {"timed": False, **(extra or {})}
    return request, replace(take, recorded_at=recorded_at, body=body, elapsed_ms=None, extra=extra)


def header_pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as a `Call` has them."""
    return [(name.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in headers]


def compact_json(value: Any) -> bytes:
    """Return JSON written compactly, in ASCII where it has half of a surrogate pair."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")
