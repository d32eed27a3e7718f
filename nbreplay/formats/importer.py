"""Imports: finding and reading files of other recorders within bounds, writing their contents into a store, counts.

Knows no foreign format. Every interaction of a file is counted: it is imported, or a message that names its file says
why it is not. Nothing is overwritten.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.recording.json_text import is_deep
from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.store.folder import open_regular
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, RecordingFormatError, StoreError

LARGEST = 256 << 20  # bytes; a larger file is refused before it is read
_IN_FAULTY, _UNWRITABLE = "in a file with an error", "for a recording that cannot be written"


class Contents(msgspec.Struct, frozen=True):
    """The interactions of one foreign file. Each of them is a take, of an unsupported kind, or covered by `error`."""

    interactions: int = 0  # the number of interactions in the file; 0 where it cannot be read at all
    takes: Sequence[tuple[Request, Take]] = ()  # those that can be imported, in the order of the file
    # The number of each kind that nbreplay cannot record, such as ``"websocket message"``.
    unsupported: Mapping[str, int] = {}
    error: RecordingFormatError | None = None  # the reason why nothing of the file is imported

    def problem(self, path: Path) -> RecordingFormatError | None:
        """Return the error that says which interactions of the file are not imported; None where all are."""
        if self.error is not None or not self.unsupported:
            return self.error
        return RecordingFormatError(
            f"{path} is not imported in full: {sum(self.unsupported.values())} of {self.interactions} interactions are "
            f"not HTTP ({_list(self.unsupported)}). Only HTTP can be imported. Keep the file"
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
        text = f"{_count(self.written, 'answer')} of {_count(self.recordings, 'request')} {action}"
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

    def text(self, action: str) -> str:
        """Return the counts in words; `action` says what happened to the takes, such as ``"added to recordings"``."""
        parts = [f"{self.written} {action}"]
        if self.known:
            parts.append(f"{self.known} already there")
        if self.not_imported:
            parts.append(f"{sum(self.not_imported.values())} not imported ({_list(self.not_imported)})")
        text = f"{_count(self.interactions, 'interaction')} in {_count(self.files, 'file')}: {', '.join(parts)}"
        return text + (f"; {_count(self.unreadable, 'file')} cannot be read" if self.unreadable else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {number}" for name, number in counts.items())


# Files


def find_files(source: str | os.PathLike[str], endings: tuple[str, ...]) -> list[Path]:
    """Return the file that is named; of a folder, the files in it and in its folders, by name."""
    path = Path(source).expanduser()
    if path.is_dir():
        # Links and pipes too: the import names a file that it does not read.
        return sorted(file for file in path.rglob("*") if file.suffix in endings and not file.is_dir())
    if path.is_file():
        return [path]
    raise StoreError(f"{path} is neither a file nor a folder. Name the one that holds the recordings to import")


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


def read_contents(paths: Iterable[Path], read: Callable[[Path], Contents]) -> Iterator[tuple[Path, Contents]]:
    """Yield every file with its contents, which hold an error where the file cannot be read."""
    for path in paths:
        try:
            contents = read(path)
        except RecordingFormatError as error:
            contents = Contents(error=error)
        except OSError as error:
            contents = Contents(error=RecordingFormatError(f"{path} cannot be read: {error.strerror or error}"))
        except (RecursionError, TypeError, ValueError, KeyError, AttributeError, IndexError, NbreplayError) as error:
            # A stranger's file may be wrong in any way; its siblings are read all the same.
            why = f"unexpected structure ({type(error).__name__}: {str(error)[:200]})"
            contents = Contents(error=import_error(path, why))
        number = len(contents.takes) + sum(contents.unsupported.values())
        if contents.error is None and number != contents.interactions:
            why = f"{number} of {contents.interactions} interactions were read, which is a bug in nbreplay"
            contents = Contents(contents.interactions, error=import_error(path, why))
        yield path, contents


# Recordings

_ByKey = dict[str, tuple[Request, list[Take]]]


def _add(by_key: _ByKey, contents: Contents) -> None:
    for request, take in contents.takes:
        by_key.setdefault(request.key, (request, []))[1].append(take)


def _recordings(by_key: _ByKey) -> Iterator[Recording]:
    for request, takes in by_key.values():
        yield Recording(request.key, request.kind, request.fields).with_takes(takes)


def merge_contents(files: Iterable[tuple[Path, Contents]]) -> Iterator[Recording | RecordingFormatError]:
    """Yield an error for each file that is not imported in full, then the recordings that all files make up."""
    by_key: _ByKey = {}
    for path, contents in files:
        problem = contents.problem(path)
        if problem is not None:
            yield problem
        _add(by_key, contents)
    yield from _recordings(by_key)


def write_contents(files: Iterable[tuple[Path, Contents]], store: Store) -> ImportCounts:
    """Write the interactions of foreign files into a store, beside its takes; a take that it has is not added again."""
    number = unreadable = interactions = written = known = recordings = 0
    not_imported: Counter[str] = Counter()
    left_out: list[str] = []
    by_key: _ByKey = {}
    for path, contents in files:
        number += 1
        interactions += contents.interactions
        problem = contents.problem(path)
        if problem is not None:
            left_out.append(str(problem))
        if contents.error is None:
            not_imported.update(contents.unsupported)
        elif contents.interactions:
            not_imported[_IN_FAULTY] += contents.interactions
        else:
            unreadable += 1
        _add(by_key, contents)
    for recording in _recordings(by_key):
        try:
            new, old = _write(store, recording)
        except RecordingFormatError as error:
            left_out.append(str(error))
            not_imported[_UNWRITABLE] += len(recording.takes)
        else:
            recordings, written, known = recordings + 1, written + new, known + old
    if interactions != written + known + not_imported.total():
        raise StoreError(
            f"{store.shown} has {written + known} of {interactions} interactions, and {not_imported.total()} were "
            "left out: this is a bug in nbreplay. Please report it, and do not rely on this import"
        )
    return ImportCounts(
        number, unreadable, interactions, written, known, recordings, dict(not_imported), tuple(left_out)
    )


def _write(store: Store, recording: Recording) -> tuple[int, int]:
    """Add the takes that the store does not have; return the numbers of new and of old ones."""
    new = old = 0

    def change(takes: list[Take]) -> list[Take]:
        nonlocal new, old
        # An answer that was recorded twice is there twice: it was asked for twice.
        stored = Counter(take.text().encode("utf-8") for take in takes)
        added = []
        for take, text in zip(recording.takes, recording.texts, strict=True):
            if stored[text]:
                stored[text] -= 1
            else:
                added.append(take)
        new, old = len(added), len(recording.takes) - len(added)
        return [*takes, *added] if added else takes

    store.write(recording.kind, recording.key, recording.request, change)
    return new, old
