"""Imports: what each foreign file holds, writing it into a store, and the counts.

Knows no foreign format. Every interaction of a file is counted: it is imported, or a message that names its file says
why it is not. Nothing is overwritten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, RecordingFormatError, StoreError
from nbreplay.formats.foreign_files import refused

__all__ = ["Contents", "Counts", "Gathered", "ImportCounts", "gather", "put", "read_files"]

_IN_FAULTY, _UNWRITABLE = "in a file with an error", "for a recording that cannot be written"


class Contents(msgspec.Struct, frozen=True):
    """The interactions of one foreign file. Each of them is a take, of an unsupported kind, or covered by `error`.

    Attributes
    ----------
    interactions : int
        How many interactions the file has; 0 where it cannot be read at all.
    takes : sequence of (Request, Take)
        Those that can be imported, in the order of the file.
    unsupported : mapping of str to int
        How many there are of each kind that nbreplay cannot record, such as ``"websocket message"``.
    error : RecordingFormatError or None
        Why nothing of the file is imported.
    """

    interactions: int = 0
    takes: Sequence[tuple[Request, Take]] = ()
    unsupported: Mapping[str, int] = msgspec.field(default_factory=dict)
    error: RecordingFormatError | None = None

    def problem(self, path: Path) -> RecordingFormatError | None:
        """Return the error that says which interactions of the file are not imported; None where all are."""
        if self.error is not None or not self.unsupported:
            return self.error
        return RecordingFormatError(
            f"{path} is not imported in full: {sum(self.unsupported.values())} of {self.interactions} interactions are "
            f"not HTTP ({_listed(self.unsupported)}). Keep the file, as only HTTP can be imported"
        )


class Counts(msgspec.Struct, frozen=True):
    """The result of an export.

    Attributes
    ----------
    written : int
        Takes or files that were written.
    known : int
        Those that were there already.
    recordings : int
        Recordings of the store.
    left_out : tuple of str
        One message for everything that could not be written, with its file, the reason and the remedy.
    """

    written: int
    known: int
    recordings: int
    left_out: tuple[str, ...] = ()

    def text(self, done: str) -> str:
        """Return the counts in words; `done` says what happened to the takes, such as ``"written to out"``."""
        made = f"{_counted(self.written, 'answer')} of {_counted(self.recordings, 'request')} {done}"
        if self.known:
            made += f", {self.known} there already"
        return made + (f", {len(self.left_out)} left out" if self.left_out else "")


class ImportCounts(msgspec.Struct, frozen=True):
    """The result of an import: `interactions` equals `written` + `known` + all of `not_imported`.

    Attributes
    ----------
    files : int
        Files that were looked at.
    unreadable : int
        Those whose interactions could not even be counted.
    interactions : int
        Interactions of the other files.
    written : int
        Interactions that were added to the store, each as a take.
    known : int
        Those that the store had already.
    recordings : int
        Recordings that these takes belong to.
    not_imported : mapping of str to int
        How many interactions are not in the store, by reason or kind.
    left_out : tuple of str
        One message for each file with such interactions, with the reason and the remedy.
    """

    files: int
    unreadable: int
    interactions: int
    written: int
    known: int
    recordings: int
    not_imported: Mapping[str, int]
    left_out: tuple[str, ...] = ()

    def text(self, done: str) -> str:
        """Return the counts in words; `done` says what happened to the takes, such as ``"added to recordings"``."""
        parts = [f"{self.written} {done}"]
        if self.known:
            parts.append(f"{self.known} already there")
        if self.not_imported:
            parts.append(f"{sum(self.not_imported.values())} not imported ({_listed(self.not_imported)})")
        text = f"{_counted(self.interactions, 'interaction')} in {_counted(self.files, 'file')}: {', '.join(parts)}"
        return text + (f"; {_counted(self.unreadable, 'file')} cannot be read" if self.unreadable else "")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what}: {number}" for what, number in counts.items())


@dataclass(slots=True)
class Gathered:
    """Recordings as they are put together, by key."""

    takes: dict[str, list[Take]] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)

    def add(self, request: Request, take: Take) -> None:
        """Put a take to its request's others."""
        self.requests.setdefault(request.key, request)
        self.takes.setdefault(request.key, []).append(take)

    def recordings(self) -> Iterator[Recording]:
        """Yield what was put together, in the order in which the requests came first."""
        for key, request in self.requests.items():
            yield Recording(key, request.kind, request.fields).with_takes(self.takes[key])


def read_files(paths: Iterable[Path], parse: Callable[[Path], Contents]) -> Iterator[tuple[Path, Contents]]:
    """Yield every file with its contents, which hold an error where the file cannot be read."""
    for path in paths:
        try:
            contents = parse(path)
        except RecordingFormatError as error:
            contents = Contents(error=error)
        except OSError as error:
            contents = Contents(error=RecordingFormatError(f"{path} cannot be read: {error.strerror or error}"))
        except (RecursionError, TypeError, ValueError, KeyError, AttributeError, IndexError, NbreplayError) as error:
            # A stranger's file may be wrong in any way; its siblings are read all the same.
            why = f"unexpected structure ({type(error).__name__}: {str(error)[:200]})"
            contents = Contents(error=refused(path, why))
        found = len(contents.takes) + sum(contents.unsupported.values())
        if contents.error is None and found != contents.interactions:
            why = f"it has {contents.interactions} interactions, but {found} were read, which is a bug in nbreplay"
            contents = Contents(contents.interactions, error=refused(path, why))
        yield path, contents


def gather(read: Iterable[tuple[Path, Contents]]) -> Iterator[Recording | RecordingFormatError]:
    """Yield an error for each file that is not imported in full, then the recordings that all files make up."""
    gathered = Gathered()
    for path, contents in read:
        problem = contents.problem(path)
        if problem is not None:
            yield problem
        for request, take in contents.takes:
            gathered.add(request, take)
    yield from gathered.recordings()


def put(read: Iterable[tuple[Path, Contents]], store: Store) -> ImportCounts:
    """Write the interactions of foreign files into a store, beside its takes; a take that it has is not added again.

    Raises
    ------
    StoreError
        Where the store cannot be written.
    """
    number = unreadable = interactions = written = known = recordings = 0
    not_imported: Counter[str] = Counter()
    left_out: list[str] = []
    gathered = Gathered()
    for path, contents in read:
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
        for request, take in contents.takes:
            gathered.add(request, take)
    for recording in gathered.recordings():
        new, old = list[Take](), list[Take]()

        def change(
            takes: list[Take], recording: Recording = recording, new: list[Take] = new, old: list[Take] = old
        ) -> list[Take]:
            # An answer that was recorded twice is there twice: it was asked for twice.
            have = Counter(take.text().encode("utf-8") for take in takes)
            new.clear()
            old.clear()
            for take, text in zip(recording.takes, recording.texts, strict=True):
                if have[text]:
                    have[text] -= 1
                    old.append(take)
                else:
                    new.append(take)
            return [*takes, *new] if new else takes

        try:
            store.write(recording.kind, recording.key, recording.request, change)
        except RecordingFormatError as error:
            left_out.append(str(error))
            not_imported[_UNWRITABLE] += len(recording.takes)
            continue
        recordings += 1
        written += len(new)
        known += len(old)
    if interactions != written + known + not_imported.total():
        raise StoreError(
            f"{store.shown} has {written + known} of {interactions} interactions, and {not_imported.total()} were "
            "left out: this is a bug in nbreplay. Please report it, and do not rely on this import"
        )
    return ImportCounts(
        number, unreadable, interactions, written, known, recordings, dict(not_imported), tuple(left_out)
    )
