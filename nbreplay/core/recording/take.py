"""Take: one recorded answer, and the text of it in a file."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeGuard, cast

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from nbreplay.core.recording.blob import Blob, blob_from
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.json_text import STYLES
from nbreplay.core.recording.stream import LONGEST_MS, Chunk, Events
from nbreplay.core.recording.stream_parser import Framing
from nbreplay.errors import RecordingFormatError

Reason = Literal["closed", "dropped", "interrupted", "open"]
"""Why a take may be incomplete: the caller stopped, the connection broke, the kernel was interrupted, it still runs."""

Body = Json | Text | Blob | Events
RpcId = int | str

HTTP11 = "HTTP/1.1"


class CellRef(msgspec.Struct, frozen=True):
    """Which cell asked: its id, where it has one, the digest of its source, and its notebook, where that is known."""

    id: str | None = None
    source: str = ""
    notebook: str | None = None  # its path from the folder that the store is in, or only its name


_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Span = msgspec.Meta(ge=0, le=LONGEST_MS)


class _Fields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a take besides its body."""

    recorded_at: str = ""
    host: str = ""
    url: str = ""
    sdk: str = ""
    cell: CellRef | None = None
    ids: tuple[str, ...] = ()
    task: _Count | None = None
    thread: Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9})*)?$")] = ""
    tool: str = ""
    turns: tuple[tuple[_Count, _Count], ...] = ()
    rpc_id: RpcId | None = None
    status: Annotated[int, msgspec.Meta(ge=100, le=999)] | None = 200
    headers: dict[str, str] = {}
    complete: bool = True
    reason: Reason | None = None
    standing: bool = False
    error: dict[str, str] | None = None
    redacted: _Count = 0
    elapsed_ms: Annotated[int, _Span] | Annotated[float, _Span] | None = None
    reason_phrase: str | None = None
    http_version: Annotated[str, msgspec.Meta(pattern=r"^HTTP/[0-9](\.[0-9])?$")] = HTTP11
    sized: bool = True


class Take(_Fields, frozen=True, kw_only=True, gc=False):
    """One recorded answer.

    Attributes
    ----------
    recorded_at : str
        ISO 8601, UTC.
    host, url, sdk : str
        Where it came from, without secrets, and who asked.
    body : Json, Text, Blob or Events
    status : int or None
        None if the connection failed before there was an answer.
    headers : mapping of str to str
        The values of one that came several times are the lines of one string.
    cell : CellRef or None
    ids : tuple of str
        The ids that the request carried, verbatim, in the order of their
        replacements.
    complete : bool
    reason : str or None
        A `Reason`, if it is not complete.
    redacted : int
        How many secrets were taken out of the answer.
    elapsed_ms : int or None
        From sending the request to the end of the answer; None if nobody
        measured.
    error : mapping or None
        ``type`` and ``message`` of the transport's error that ended the call.
    reason_phrase : str or None
        The phrase after the status, if it is not the status' own.
    http_version : str
    sized : bool
        Whether the answer said its length; not asked of events, nor of answers
        without a body.
    extra : mapping
        Fields of later versions: kept, not understood.
    rpc_id : int, str or None
        The id of the JSON-RPC request, which the answer repeats.
    standing : bool
        Whether it stayed open until its caller left, as such streams do:
        nothing of it is missing.
    task : int or None
        Which of several asyncio tasks made together asked, from 0: each is to
        get its own answer again.
    thread : str
        The rank of the thread that asked, or of the work item of a pool, among
        those that were started alike, from 0; after those of the threads and
        tasks that it comes from.
    turns : tuple of pairs of int
        If other calls were under way, too: the turns in which the answer came,
        as `nbreplay.core.turns` counts them, each with the number of its chunks.
    tool : str
        The module and name of the tool that was called, which tell it from
        others of its name.

    Examples
    --------
    >>> import nbreplay as nr
    >>> recordings = nr.Store("recordings").recordings()
    >>> take = next(recording.takes[0] for _, recording in recordings)
    >>> take.status, take.host, take.complete
    (200, 'api.openai.com', True)
    """

    body: Body
    extra: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        answer = f"status {self.status}" if self.status is not None else (self.error or {}).get("type", "no answer")
        parts = [answer, self.host, f"recorded at {self.recorded_at}" if self.recorded_at else ""]
        parts += [f"{len(self.body.chunks):,} chunks"] if isinstance(self.body, Events) else []
        parts += [] if self.duration_s is None else [f"{self.duration_s:g} s"]
        return f"Take({', '.join(filter(None, parts))!r})"

    @property
    def transient(self) -> bool:
        """Whether it is a failure that may pass: such a take never displaces a good one."""
        if self.status is None:
            return self.error is not None
        return self.status in (401, 403, 408, 409, 429) or 500 <= self.status <= 599

    @property
    def failure(self) -> str:
        """The failure in words, such as ``429 Too Many Requests``; ``""`` for a take that is not transient."""
        if not self.transient:
            return ""
        if self.status is None:
            return (self.error or {}).get("type", "")
        with contextlib.suppress(ValueError):
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        return str(self.status)

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
        """From sending the request to the end of the answer, in seconds.

        None if nobody measured.
        """
        if not self.timed:
            return None
        if isinstance(self.body, Events) and self.body.chunks:
            return self.body.duration_ms / 1000
        return None if self.elapsed_ms is None else self.elapsed_ms / 1000

    def readable(self) -> Take:
        """Return the take, without an answer that a replay can give back and nobody can read; its error says why."""
        if type(self.body) is Json:
            try:
                _ = self.body.value
            except RecordingFormatError as error:
                reason = {"type": "RecordingFormatError", "message": str(error)}
                return msgspec.structs.replace(self, body=Text(""), error=reason)
        return self

    def text(self) -> str:
        """Return the take as it stands in a file."""
        cell = None if self.cell is None else msgspec.structs.asdict(self.cell)
        if cell is not None and cell["notebook"] is None:
            del cell["notebook"]
        head = {"status": self.status, **self._unusual("reason_phrase", "http_version"), "headers": self.headers}
        end = self._unusual("sized", "reason", "standing", "error", "redacted", "elapsed_ms")
        lines: list[dict[str, Any]] = [
            {"recorded_at": self.recorded_at, "host": self.host, "url": self.url, "sdk": self.sdk},
            {"cell": cell, "ids": self.ids, **self._unusual("task", "thread", "tool", "turns", "rpc_id")},
            {**head, "complete": self.complete, **end, **self.extra},
            *({name: value} for name, value in self.body.as_fields().items()),
        ]
        text = ",\n     ".join(dumps(line)[1:-1] for line in lines)
        if isinstance(self.body, Events):
            chunks = _escape(",\n      ".join(self.body.stored_chunks()))
            text += f',\n     "chunks": [\n      {chunks}\n     ]' if chunks else ',\n     "chunks": []'
        return f"    {{{text}}}"

    def _unusual(self, *names: str) -> dict[str, Any]:
        """Return those of the fields that do not have their default."""
        return {name: getattr(self, name) for name in names if getattr(self, name) != _DEFAULTS[name]}


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(_Fields)}
_UNREADABLE = re.compile("[\ud800-\udfff\u2028\u2029\x85]")
_encode_readable = json.JSONEncoder(ensure_ascii=False).encode


def dumps(value: Any) -> str:
    """Return JSON as a recording shows it, which is valid UTF-8 and has no line ends."""
    return _escape(_encode_readable(value))


def _escape(text: str) -> str:
    """Escape characters that UTF-8 cannot hold (half of a surrogate pair) or at which editors break a line."""
    return text if text.isascii() else _UNREADABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def is_rpc_id(value: Any) -> TypeGuard[RpcId]:
    """Tell whether a JSON value is an id by which JSON-RPC tells calls apart."""
    return type(value) is int or type(value) is str


# Patterns, compiled when they are first needed: few answers need one.
_NAME = r"[!-9;-~]+"
_FOLD = r"\r?\n[ \t]+"
_UNSENDABLE = "[\r\0\ud800-\udc7f\udd00-\udfff]"  # undecodable bytes are kept as \udc80 to \udcff


def check_headers(headers: Mapping[str, str], phrase: str | None) -> None:
    """Check the head of an answer in a file; raise RecordingFormatError if it cannot be sent."""
    for name, value in headers.items():
        if not is_header_name(name):
            raise RecordingFormatError(f"{name!r} is not a name of a header")
        if not value.isprintable() and re.search(_UNSENDABLE, unfold(value)):
            raise RecordingFormatError(f"the header {name!r} has a line end, a NUL or half of a surrogate pair")
    if phrase and (re.search(_UNSENDABLE, phrase) or "\n" in phrase):
        raise RecordingFormatError("the reason phrase has a line end, a NUL or half of a surrogate pair")


@functools.lru_cache(maxsize=4096)
def is_header_name(name: str) -> bool:
    """Tell whether a header may have this name."""
    return bool(re.fullmatch(_NAME, name))


def unfold(value: str) -> str:
    """Return the value of a header on a line; the lines of several values stay."""
    return re.sub(_FOLD, " ", value)


_ABSENT: Any = msgspec.Raw()


class StoredTake(_Fields, frozen=True, forbid_unknown_fields=True):
    """A take as it stands in a file that has no other fields."""

    json: msgspec.Raw = _ABSENT  # most are given back as they stand here, and never parsed
    text: str | UnsetType = UNSET
    blob: Any = _ABSENT
    size: Any = None
    style: str = "compact"
    end: str = ""
    framing: str = "sse"
    fields: tuple[str, ...] = ()
    common: dict[str, Any] = {}
    chunks: tuple[Chunk, ...] | UnsetType = UNSET

    @property
    def _is_plain(self) -> bool:
        """Whether it can have no other body than compact JSON."""
        is_alone = self.chunks is UNSET and self.text is UNSET and self.blob is _ABSENT
        return is_alone and self.style == "compact" and not self.end

    def take(self, folder: str, extra: Mapping[str, Any] = {}, value: Any = _ABSENT) -> Take:
        """Return the take, given the other fields of its file, and the value of its JSON if that has been parsed.

        Raise RecordingFormatError if it has no body, or several, or one that cannot be given back.
        """
        check_headers(self.headers, self.reason_phrase)
        value = self.json if value is _ABSENT else value
        if value is not _ABSENT and self._is_plain:  # as most are
            return Take(*astuple(self)[: len(_DEFAULTS)], body=Json(value), extra=extra)
        parts = {"json": value, "text": self.text, "blob": self.blob, "chunks": self.chunks}
        names = [name for name, part in parts.items() if part is not _ABSENT and part is not UNSET]
        if len(names) != 1:
            why = f"a take must have one of json, text, blob and chunks, but has {' and '.join(names) or 'none'}"
            raise RecordingFormatError(why)
        body: Body
        if self.chunks is not UNSET:
            body = Events(self.chunks, cast("Framing", self.framing), self.fields, self.common, self.style)
            body.verify()
        elif self.text is not UNSET:
            body = Text(self.text)
        elif value is _ABSENT:
            body = blob_from(self.blob, self.size, folder)
        elif self.style in STYLES and not self.end.strip():
            body = Json(value, self.style, self.end)
        else:
            raise RecordingFormatError(f"unknown JSON style {self.style!r}, or text after the JSON: {self.end!r}")
        return Take(*astuple(self)[: len(_DEFAULTS)], body=body, extra=extra)
