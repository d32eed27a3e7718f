"""Files of other recorders, read within bounds, and takes out of them, recorded like live answers.

Knows no foreign format. Secrets are removed, headers chosen and streams cut as in a session. Foreign recordings have no
times, so none are made up: every gap is 0, and the take says ``"timed": false``.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from msgspec.structs import replace

from nbreplay.core.cell import Run
from nbreplay.core.config import Mode
from nbreplay.core.recorder import Keeper, Recorder
from nbreplay.core.recording.json_text import is_deep
from nbreplay.core.recording.recording import check_texts
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, Request, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import open_regular
from nbreplay.core.words import count_of
from nbreplay.errors import RecordingFormatError

_Recorder = TypeVar("_Recorder", bound=Recorder)
LARGEST = 256 << 20  # bytes; a larger file is refused before it is read


class Contents(msgspec.Struct, frozen=True):
    """The interactions of one foreign file. Each of them is a take, of an unsupported kind, or covered by `error`."""

    interactions: int = 0  # the number of interactions in the file; 0 where it cannot be read at all
    takes: Sequence[tuple[Request, Take]] = ()  # those that can be imported, in the order of the file
    # The number of each kind that nbreplay cannot record, such as ``"gRPC call"``.
    unsupported: Mapping[str, int] = {}
    error: RecordingFormatError | None = None  # the reason why nothing of the file is imported
    assumed: Mapping[str, int] = {}  # the number of websocket sessions by the host that their messages point to

    def problem(self, path: Path) -> RecordingFormatError | None:
        """Return the error that says which interactions of the file are not imported; None where all are."""
        if self.error is not None or not self.unsupported:
            return self.error
        return RecordingFormatError(
            f"{path} is not imported in full: {sum(self.unsupported.values())} of {self.interactions} interactions are "
            f"of other kinds ({_list(self.unsupported)}). HTTP and websockets can be imported. Keep the file"
        )


class Counts(msgspec.Struct, frozen=True):
    """The result of an export."""

    written: int  # takes or files that were written
    known: int  # those that were there already
    recordings: int  # recordings of the store
    # One message for everything that could not be written, with its file, the reason and the remedy.
    left_out: tuple[str, ...] = ()

    def text(self, action: str) -> str:
        """Return the counts in words; `action` says what happened to the takes, such as ``"written to out"``."""
        text = f"{count_of(self.written, 'answer')} of {count_of(self.recordings, 'request')} {action}"
        if self.known:
            text += f", {self.known} there already"
        return text + (f", {len(self.left_out)} left out" if self.left_out else "")


class ImportCounts(msgspec.Struct, frozen=True):
    """The result of an import: `interactions` equals `written` + `known` + all of `not_imported`."""

    files: int  # files that were looked at
    unreadable: int  # those whose interactions could not even be counted
    interactions: int  # interactions of the other files
    written: int  # interactions that were added to the store, each as a take
    known: int  # those that the store had already
    recordings: int  # recordings that these takes belong to
    not_imported: Mapping[str, int]  # the number of interactions that are not in the store, by reason or kind
    left_out: tuple[str, ...] = ()  # one message for each file with such interactions, with the reason and the remedy
    assumed: Mapping[str, int] = {}  # the number of websocket sessions by host, where the files do not name it

    def text(self, action: str) -> str:
        """Return the counts in words; `action` says what happened to the takes, such as ``"added to recordings"``."""
        parts = [f"{self.written} {action}"]
        if self.known:
            parts.append(f"{self.known} already there")
        if self.not_imported:
            parts.append(f"{sum(self.not_imported.values())} not imported ({_list(self.not_imported)})")
        text = f"{count_of(self.interactions, 'interaction')} in {count_of(self.files, 'file')}: {', '.join(parts)}"
        text += f"; {count_of(self.unreadable, 'file')} cannot be read" if self.unreadable else ""
        if self.assumed:
            hosts = ", ".join(f"{host} ({number})" for host, number in self.assumed.items())
            text += (
                f"\nThe files do not name the address of {count_of(sum(self.assumed.values()), 'websocket session')}. "
                f"Their messages point to {hosts}. If another service answered, pass --url wss://HOST/PATH"
            )
        return text


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in counts.items())


# Files


def import_error(path: Path, why: str, kind: type[RecordingFormatError] = RecordingFormatError) -> RecordingFormatError:
    """Return the error for a file that cannot be imported."""
    return kind(f"{path} cannot be imported: {why}. Correct the file, or move it out of the folder")


def read_text(path: Path) -> str:
    """Return the text of a file, which must be a regular one, UTF-8, and not too large."""
    try:
        with os.fdopen(open_regular(str(path)), encoding="utf-8-sig") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                raise import_error(path, f"{size >> 20} MB is more than the limit of {LARGEST >> 20} MB")
            return file.read()
    except UnicodeDecodeError as error:
        raise import_error(path, f"not UTF-8 ({error})") from None


def load_json(path: Path, text: str) -> object:
    """Return JSON data, which must not be nested too deeply, nor have a name twice in one object."""
    try:
        value = json.loads(text, object_pairs_hook=_build_object)
    except RecursionError:
        raise import_error(path, "nested too deeply") from None
    except ValueError as error:
        raise import_error(path, f"not JSON ({error})") from None
    if is_deep(value, text.encode("utf-8", "surrogatepass")):
        raise import_error(path, "nested too deeply")
    return value


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} is there twice in one object")
    return fields


# Takes


class Answer(msgspec.Struct, frozen=True):
    """An answer as a server would have sent it."""

    status: int | None  # None where the connection failed before there was an answer
    headers: Sequence[tuple[str, str]] = ()
    data: bytes = b""  # without any content encoding
    error: Mapping[str, str] | None = None  # the type and the message of the error that ended the call


def record_answer(
    call: Call,
    answer: Answer,
    *,
    recorded_at: str = "",
    extra: Mapping[str, Any] | None = None,
    issued: Mapping[str, str] | None = None,
) -> tuple[Request, Take]:
    """Return a call and its answer as a session would have recorded them.

    `recorded_at` is ``""`` where it is not known, and the take keeps the fields of `extra`. `issued` has the ids that
    earlier answers of the same recording brought, each with the key of its request.
    """
    request, recorder = make_recorder(Recorder, call, issued)
    recorder.decode = lambda pieces: pieces  # a recorder that decodes needs no store for a large body
    if answer.status is not None:
        # A length that is claimed may be that of a compressed body.
        headers = [pair for pair in answer.headers if not answer.data or pair[0].lower() != "content-length"]
        recorder.begin(answer.status, headers)
    if answer.data:
        recorder.feed(answer.data)
    return request, remove_times(recorder.take("dropped" if answer.error else None, answer.error), recorded_at, extra)


def make_recorder(
    kind: type[_Recorder], call: Call, issued: Mapping[str, str] | None = None
) -> tuple[Request, _Recorder]:
    """Return the request of a call, and a recorder for its answer that belongs to no session."""
    request = request_of(call, Normaliser(), issued or {}, Redactor(call.tokens, again=True))
    return request, kind(cast(Keeper, None), request, call, Run(None), 0, Mode.RECORD, 0)


def remove_times(take: Take, recorded_at: str = "", extra: Mapping[str, Any] | None = None) -> Take:
    """Return a take that was just recorded without the times of that."""
    check_texts(take)
    body = take.body
    if isinstance(body, Events):
        body = replace(body, chunks=tuple(chunk._replace(gap_ms=0) for chunk in body.chunks), lines=None)
    extra = {"timed": False, **(extra or {})}
    return replace(take, recorded_at=recorded_at, body=body, elapsed_ms=None, extra=extra)


def header_pairs(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as a `Call` has them."""
    return [(name.encode("utf-8", "replace"), value.encode("utf-8", "replace")) for name, value in headers]


def compact_json(value: Any) -> bytes:
    """Return JSON written compactly, in ASCII where it has half of a surrogate pair."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def json_data(value: Any, field: str) -> bytes:
    """Return data as JSON; YAML's dates, bytes and sets are errors, and so are names that are not text."""
    try:
        _check_names(value)
        return compact_json(value)
    except (TypeError, ValueError) as error:
        raise RecordingFormatError(f"{field} is not JSON ({error})") from None


def _check_names(value: Any) -> None:
    for name in value if isinstance(value, dict) else ():
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} is not text")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _check_names(item)
