"""Take: one recorded answer, and the text of it in a file."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, TypeGuard

from nbreplay.core.blob import Blob
from nbreplay.core.frozen import frozen
from nbreplay.core.stream import Events, events_from
from nbreplay.core.wire import Json, Text, body_of
from nbreplay.errors import RecordingFormatError

__all__ = ["REASONS", "Body", "CellRef", "RpcId", "Take", "beyond", "dumps", "is_rpc_id", "take_from"]

REASONS = ("closed", "dropped", "interrupted", "open")
"""Why a take may be incomplete: the caller stopped, the connection broke, the kernel was interrupted, it still runs."""

Body = Json | Text | Blob | Events
RpcId = int | str


@frozen
class CellRef:
    """Which cell asked: its id, where it has one, and the digest of its source."""

    id: str | None
    source: str


@frozen
class Take:
    """One recorded answer.

    Attributes
    ----------
    recorded_at : str
        ISO 8601, UTC.
    host, url, sdk : str
        Where it came from, without secrets, and who asked.
    body : Json, Text, Blob or Events
    status : int or None
        None where the connection failed before there was an answer.
    headers : mapping of str to str
    cell : CellRef or None
    ids : tuple of str
        The ids that the request carried, verbatim, in the order of their replacements.
    complete : bool
    reason : str or None
        One of `REASONS`, where it is not complete.
    redacted : int
        How many secrets were taken out of the answer.
    elapsed_ms : int or None
        From sending the request to the end of the answer; None where nobody measured.
    error : mapping or None
        ``type`` and ``message`` of the transport's error that ended the call.
    extra : mapping
        Fields of later versions: kept, not understood.
    rpc_id : int, str or None
        The id of the JSON-RPC request, which the answer repeats.
    standing : bool
        Whether it stayed open until its caller left, as such streams do: nothing of it is missing.
    task : int or None
        Which of several asyncio tasks made together asked, from 0: each is to get its own answer again.
    """

    recorded_at: str
    host: str
    url: str
    sdk: str
    body: Body
    status: int | None = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cell: CellRef | None = None
    ids: tuple[str, ...] = ()
    complete: bool = True
    reason: str | None = None
    redacted: int = 0
    elapsed_ms: int | None = None
    error: Mapping[str, str] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    rpc_id: RpcId | None = None
    standing: bool = False
    task: int | None = None

    @property
    def transient(self) -> bool:
        """Whether it is a failure that may pass: such a take never displaces a good one."""
        if self.error is not None and self.status is None:
            return True
        return self.status in (401, 403, 408, 409, 429) or (self.status or 0) >= 500

    @property
    def good(self) -> bool:
        """Whether it is an answer that is worth more than a failure: complete, or as much as its caller wanted."""
        return not self.transient and (self.complete or self.reason == "closed" or self.standing)

    @property
    def timed(self) -> bool:
        """Whether its times were measured: foreign recordings tell none, and their gaps of 0 are not times."""
        return self.extra.get("timed") is not False

    @property
    def duration_s(self) -> float | None:
        """From sending the request to the end of the answer, in seconds; None where nobody measured."""
        if not self.timed:
            return None
        if isinstance(self.body, Events) and self.body.chunks:
            return self.body.duration_ms / 1000
        return None if self.elapsed_ms is None else self.elapsed_ms / 1000

    def text(self) -> str:
        """Return the take as it stands in a file."""
        lines: list[dict[str, Any]] = [
            {"recorded_at": self.recorded_at, "host": self.host, "url": self.url, "sdk": self.sdk}
        ]
        cell = None if self.cell is None else {"id": self.cell.id, "source": self.cell.source}
        rpc = {} if self.rpc_id is None else {"rpc_id": self.rpc_id}
        task = {} if self.task is None else {"task": self.task}
        lines.append({"cell": cell, "ids": list(self.ids), **task, **rpc})
        state: dict[str, Any] = {"status": self.status, "headers": dict(self.headers), "complete": self.complete}
        if self.reason:
            state["reason"] = self.reason
        if self.standing:
            state["standing"] = True
        if self.error is not None:
            state["error"] = dict(self.error)
        if self.redacted:
            state["redacted"] = self.redacted
        if self.elapsed_ms is not None:
            state["elapsed_ms"] = self.elapsed_ms
        lines.append({**state, **self.extra})
        stored = self.body.stored()
        lines += [{name: value} for name, value in stored.items()]
        text = ",\n     ".join(dumps(line)[1:-1] for line in lines)
        if isinstance(self.body, Events):
            chunks = ",\n      ".join(_safe(self.body.stored_lines()))
            text += f',\n     "chunks": [\n      {chunks}\n     ]' if chunks else ',\n     "chunks": []'
        return f"    {{{text}}}"


_readable = json.JSONEncoder(ensure_ascii=False).encode


def dumps(value: Any) -> str:
    return _safe([_readable(value)])[0]


def _safe(lines: Sequence[str]) -> Sequence[str]:
    """Escape in JSON texts what UTF-8 cannot hold (half of a surrogate pair) and what editors would break a line at."""
    text = "".join(lines)
    if text.isascii() or not _UNSAFE.search(text):
        return lines
    return [_UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", line) for line in lines]


_UNSAFE = re.compile("[\ud800-\udfff\u2028\u2029\x85]")


def is_rpc_id(value: Any) -> TypeGuard[RpcId]:
    """Tell whether a JSON value is an id by which JSON-RPC tells calls apart."""
    return type(value) is int or type(value) is str


def take_from(data: dict[str, Any], folder: str = "") -> Take:
    """Read a take from what stands in a file.

    Parameters
    ----------
    data : dict
    folder : str
        Where the file lies, with a separator at its end; without it what lies beside the file is not read.

    Raises
    ------
    OSError
        Where a file beside it cannot be read.
    RecordingFormatError, UnsafeRecordingError
    """
    (
        at,
        host,
        url,
        sdk,
        status,
        headers,
        cell,
        ids,
        complete,
        reason,
        redacted,
        elapsed,
        error,
        rpc_id,
        standing,
        task,
    ) = _values(_FIELDS | data)
    if status is not None and (type(status) is not int or not 100 <= status <= 599):
        raise RecordingFormatError(f"its status is {status!r}")
    if not _TEXT.issuperset(map(type, (at, host, url, sdk))):
        raise RecordingFormatError(f"one of its recorded_at, host, url and sdk is no text: {(at, host, url, sdk)!r}")
    if not _TEXT.issuperset(map(type, headers.values())):
        raise RecordingFormatError("a header of it is no text")
    if reason is not None and reason not in REASONS:
        raise RecordingFormatError(f"its reason is {reason!r}, none of {', '.join(REASONS)}")
    if type(ids) is not list or (ids and not _TEXT.issuperset(map(type, ids))):
        raise RecordingFormatError(f"its ids are {ids!r}")
    if error is not None and not _TEXT.issuperset(map(type, error.values())):
        raise RecordingFormatError(f"its error is {error!r}")
    if elapsed is not None and type(elapsed) not in (int, float):
        raise RecordingFormatError(f"its elapsed_ms is {elapsed!r}")
    if rpc_id is not None and not is_rpc_id(rpc_id):
        raise RecordingFormatError(f"its rpc_id is {rpc_id!r}")
    if task is not None and type(task) is not int:
        raise RecordingFormatError(f"its task is {task!r}")
    return Take(
        at,
        host,
        url,
        sdk,
        events_from(data) if "chunks" in data else body_of(data, folder),
        status,
        headers,
        None if cell is None else CellRef(cell.get("id"), str(cell.get("source", ""))),
        tuple(ids),
        bool(complete),
        reason,
        redacted,
        elapsed,
        error,
        beyond(data, _TAKE),
        rpc_id,
        bool(standing),
        task,
    )


def beyond(data: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the fields of `data` that are none of `known`: a later version's, kept as they are."""
    return {} if data.keys() <= known else {name: value for name, value in data.items() if name not in known}


_TEXT = frozenset([str])
# The fields of a take in a file, its body's apart, and what each is where it is not there.
_FIELDS: dict[str, Any] = dict.fromkeys(("recorded_at", "host", "url", "sdk"), "") | {
    "status": 200,
    "headers": {},
    "cell": None,
    "ids": [],
    "complete": True,
    "reason": None,
    "redacted": 0,
    "elapsed_ms": None,
    "error": None,
    "rpc_id": None,
    "standing": False,
    "task": None,
}
_BODY = ("json", "text", "blob", "size", "style", "end", "framing", "fields", "common", "chunks")
_TAKE = frozenset([*_FIELDS, *_BODY])
_values = operator.itemgetter(*_FIELDS)
