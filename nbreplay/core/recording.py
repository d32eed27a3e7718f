"""Recording and Take, and the file that holds them: from text to values, and back.

Knows the format and no folder; `nbreplay.core.store` reads and writes the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbreplay.core.request import key_of
from nbreplay.core.stream import Events, events_from
from nbreplay.core.wire import Blob, Json, Text, body_of
from nbreplay.errors import RecordingFormatError

__all__ = ["FORMAT", "CellRef", "Recording", "Take", "file_name", "parse", "parse_head"]

FORMAT = 1
REASONS = ("closed", "dropped", "interrupted", "open")
"""Why a take may be incomplete: the caller stopped, the connection broke, the kernel was interrupted, it still runs."""

Body = Json | Text | Blob | Events


@dataclass(frozen=True, slots=True)
class CellRef:
    """Which cell asked: its id, where it has one, and the digest of its source."""

    id: str | None
    source: str


@dataclass(frozen=True, slots=True)
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

    @property
    def transient(self) -> bool:
        """Whether it is a failure that may pass: such a take never displaces a good one."""
        if self.error is not None and self.status is None:
            return True
        return self.status in (401, 403, 408, 409, 429) or (self.status or 0) >= 500

    @property
    def good(self) -> bool:
        """Whether it is an answer that is worth more than a failure: complete, or as much as its caller wanted."""
        return not self.transient and (self.complete or self.reason == "closed")

    def text(self) -> str:
        """Return the take as it stands in a file."""
        lines: list[dict[str, Any]] = [
            {"recorded_at": self.recorded_at, "host": self.host, "url": self.url, "sdk": self.sdk}
        ]
        cell = None if self.cell is None else {"id": self.cell.id, "source": self.cell.source}
        lines.append({"cell": cell, "ids": list(self.ids)})
        state: dict[str, Any] = {"status": self.status, "headers": dict(self.headers), "complete": self.complete}
        if self.reason:
            state["reason"] = self.reason
        if self.error is not None:
            state["error"] = dict(self.error)
        if self.redacted:
            state["redacted"] = self.redacted
        if self.elapsed_ms is not None:
            state["elapsed_ms"] = self.elapsed_ms
        lines.append({**state, **self.extra})
        stored = self.body.stored()
        lines += [{name: value} for name, value in stored.items()]
        text = ",\n     ".join(_dumps(line)[1:-1] for line in lines)
        if isinstance(self.body, Events):
            chunks = ",\n      ".join(_safe(self.body.stored_lines()))
            text += f',\n     "chunks": [\n      {chunks}\n     ]' if chunks else ',\n     "chunks": []'
        return f"    {{{text}}}"


@dataclass(frozen=True, slots=True)
class Recording:
    """One file: a request and its takes.

    Attributes
    ----------
    key, kind : str
    request : mapping
        The canonical request; `key` is the hash of it and of `kind`.
    takes : tuple of Take
    texts : tuple of str
        What `Take.text` gave for each take, so that adding one encodes only that one.
    extra : mapping
        Fields of later versions: kept, not understood.
    """

    key: str
    kind: str
    request: Mapping[str, Any]
    takes: tuple[Take, ...] = ()
    texts: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def with_takes(self, takes: Sequence[Take]) -> Recording:
        """Return the recording with other takes; those that it has already are not encoded again."""
        known = {id(take): text for take, text in zip(self.takes, self.texts, strict=False)}
        texts = tuple(known[id(take)] if id(take) in known else take.text() for take in takes)
        return replace(self, takes=tuple(takes), texts=texts)

    def text(self) -> str:
        """Return the content of the file."""
        texts = self.texts if len(self.texts) == len(self.takes) else tuple(take.text() for take in self.takes)
        extra = "".join(f"  {_dumps({name: value})[1:-1]},\n" for name, value in self.extra.items())
        takes = ",\n".join(texts)
        return (
            f'{{\n  "nbreplay": {FORMAT},\n  "key": {_dumps(self.key)},\n  "kind": {_dumps(self.kind)},\n'
            f'  "request": {_request_text(self.request)},\n{extra}  "takes": [\n{takes}\n  ]\n}}\n'
        )


def file_name(kind: str, key: str) -> str:
    """Return the name of the file for a key: ``chat-3f2a9c81d04be77a.json``."""
    return f"{kind}-{key.partition(':')[2][:16]}.json"


_decode = json.JSONDecoder().decode
_readable = json.JSONEncoder(ensure_ascii=False).encode


def _dumps(value: Any) -> str:
    return _safe([_readable(value)])[0]


def _safe(lines: Sequence[str]) -> Sequence[str]:
    """Escape in JSON texts what UTF-8 cannot hold (half of a surrogate pair) and what editors would break a line at."""
    text = "".join(lines)
    if text.isascii() or not _UNSAFE.search(text):
        return lines
    return [_UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", line) for line in lines]


_UNSAFE = re.compile("[\ud800-\udfff\u2028\u2029\x85]")


def _request_text(request: Mapping[str, Any]) -> str:
    """One line a message, so that a diff of two recordings reads like a conversation."""
    short = {name: value for name, value in request.items() if name not in ("body", "arguments", "parts")}
    lines = [_dumps(short)[1:-1]] if short else []
    for name in ("body", "arguments", "parts"):
        if name not in request:
            continue
        value = request[name]
        if isinstance(value, dict):
            flat = {key: item for key, item in value.items() if not _is_rows(item)}
            inner = [_dumps(flat)[1:-1]] if flat else []
            inner += [f"{_dumps(key)}: {_rows(item, 8)}" for key, item in value.items() if _is_rows(item)]
            separator = ",\n      "
            lines.append(f"{_dumps(name)}: {{{separator.join(inner)}}}")
        else:
            lines.append(f"{_dumps(name)}: {_rows(value, 6) if _is_rows(value) else _dumps(value)}")
    return "{" + ",\n    ".join(lines) + "}"


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _rows(items: list[Any], indent: int) -> str:
    pad = "\n" + " " * indent
    return "[" + ",".join(pad + _dumps(item) for item in items) + pad[:-2] + "]"


def parse(text: str | bytes) -> Recording:
    """Read a recording from the content of its file.

    Raises
    ------
    RecordingFormatError
        Where it is no recording; the message says what is wrong and names no file.
    UnsafeRecordingError
        Where it names what it may not.
    """
    try:
        data = _decode(text) if isinstance(text, str) else json.loads(text)
    except RecursionError:
        raise RecordingFormatError("it is nested too deeply") from None
    except ValueError as error:
        raise RecordingFormatError(f"it is not JSON ({error})") from None
    kind, key, request = _head(data)
    takes = data.get("takes")
    if not isinstance(takes, list):
        raise RecordingFormatError("it has no list of 'takes'")
    extra = {name: value for name, value in data.items() if name not in _TOP}
    made = []
    for index, take in enumerate(takes):
        try:
            made.append(_take(take))
        except RecordingFormatError as error:
            raise type(error)(f"take {index + 1}: {error}") from None
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RecordingFormatError(f"take {index + 1} is not as it should be ({error})") from None
    return Recording(key, kind, request, tuple(made), (), extra)


_TOP = frozenset({"nbreplay", "key", "kind", "request", "takes"})
_TAKE = frozenset(
    (
        *("recorded_at", "host", "url", "sdk", "cell", "ids", "status", "headers", "complete", "reason", "redacted"),
        *(
            "elapsed_ms",
            "error",
            "json",
            "text",
            "blob",
            "size",
            "style",
            "end",
            "framing",
            "fields",
            "common",
            "chunks",
        ),
    )
)


def _head(data: Any) -> tuple[str, str, dict[str, Any]]:
    if not isinstance(data, dict) or "nbreplay" not in data:
        raise RecordingFormatError("it is no recording of nbreplay's: it has no field 'nbreplay'")
    version = data["nbreplay"]
    if type(version) is not int or version < 1:
        raise RecordingFormatError(f"its format {version!r} is none that there ever was")
    if version > FORMAT:
        raise RecordingFormatError(
            f"it has format {version} and this nbreplay reads up to {FORMAT}: install a newer nbreplay"
        )
    kind, key, request = data.get("kind"), data.get("key"), data.get("request")
    if not isinstance(kind, str) or not isinstance(key, str) or not isinstance(request, dict):
        raise RecordingFormatError("it lacks 'key', 'kind' or 'request'")
    return kind, key, request


def _take(data: dict[str, Any]) -> Take:
    status, ids, headers, cell = data.get("status", 200), data.get("ids", []), data.get("headers", {}), data.get("cell")
    if status is not None and (type(status) is not int or not 100 <= status <= 599):
        raise RecordingFormatError(f"its status is {status!r}")
    for name in ("recorded_at", "host", "url", "sdk"):
        if not isinstance(data.get(name, ""), str):
            raise RecordingFormatError(f"its {name} is {data[name]!r}")
    if not all(isinstance(value, str) for value in headers.values()):
        raise RecordingFormatError("a header of it is no text")
    reason = data.get("reason")
    if reason is not None and reason not in REASONS:
        raise RecordingFormatError(f"its reason is {reason!r}, none of {', '.join(REASONS)}")
    if not isinstance(ids, list) or not all(isinstance(value, str) for value in ids):
        raise RecordingFormatError(f"its ids are {ids!r}")
    error = data.get("error")
    if error is not None and not all(isinstance(value, str) for value in error.values()):
        raise RecordingFormatError(f"its error is {error!r}")
    elapsed = data.get("elapsed_ms")
    if elapsed is not None and type(elapsed) not in (int, float):
        raise RecordingFormatError(f"its elapsed_ms is {elapsed!r}")
    return Take(
        data.get("recorded_at", ""),
        data.get("host", ""),
        data.get("url", ""),
        data.get("sdk", ""),
        events_from(data) if "chunks" in data else body_of(data),
        status,
        headers,
        None if cell is None else CellRef(cell.get("id"), str(cell.get("source", ""))),
        tuple(ids),
        bool(data.get("complete", True)),
        reason,
        data.get("redacted", 0),
        elapsed,
        error,
        {name: value for name, value in data.items() if name not in _TAKE} if not data.keys() <= _TAKE else {},
    )


def parse_head(text: str) -> tuple[str, str, dict[str, Any]]:
    """Read kind, key and request only, without the takes, which may be long.

    Raises
    ------
    RecordingFormatError
    """
    start = text.find('\n  "takes": [')
    if start > 0:
        try:
            return _head(json.loads(text[:start].rstrip().rstrip(",") + "}"))
        except (ValueError, RecursionError):
            pass
    recording = parse(text)
    return recording.kind, recording.key, dict(recording.request)


def is_keyed_right(recording: Recording) -> bool:
    """Tell whether the key of a recording is the hash of its request."""
    return key_of(recording.kind, recording.request) == recording.key
