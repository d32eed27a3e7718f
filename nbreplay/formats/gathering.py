"""Foreign files: which there are, reading them within bounds, and putting what they hold into a store.

Knows no foreign format. What cannot be read becomes an error that names its file; nothing is written over.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbreplay.core.folder import open_regular
from nbreplay.core.frozen import frozen
from nbreplay.core.recording import Recording
from nbreplay.core.request import Request
from nbreplay.core.store import Store
from nbreplay.core.take import Take
from nbreplay.core.wire import is_deep
from nbreplay.errors import NbreplayError, RecordingFormatError, StoreError

__all__ = ["Counts", "Gathered", "each", "files", "gather", "loaded_json", "put", "read_text", "refused"]

LARGEST = 256 << 20  # bytes; a larger file is refused before it is read

Parsed = Iterable[tuple[Request, Take]]


@frozen
class Counts:
    """What an import or an export did.

    Attributes
    ----------
    written : int
        Takes that were added to a store, or files that were written to a folder.
    known : int
        Those that were there already.
    recordings : int
        Requests that the takes belong to; of an export, those of the store.
    left_out : tuple of str
        What could not be read or written, each with its file, the reason and the remedy.
    """

    written: int
    known: int
    recordings: int
    left_out: tuple[str, ...] = ()

    def text(self, done: str) -> str:
        """Return the counts in words; `done` says what was done with what was written."""
        made = f"{_counted(self.written, 'answer')} of {_counted(self.recordings, 'request')} {done}"
        if self.known:
            made += f", {self.known} there already"
        return made + (f", {len(self.left_out)} left out" if self.left_out else "")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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


def files(source: str | os.PathLike[str], endings: tuple[str, ...]) -> list[Path]:
    """Return the files of a folder and of those in it by name, or the one that is named.

    Raises
    ------
    StoreError
        Where there is nothing of that name.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        # Links and pipes too: what is not read is said, and not left out in silence.
        return sorted(found for found in path.rglob("*") if found.suffix in endings and not found.is_dir())
    if path.is_file():
        return [path]
    raise StoreError(f"{path} is neither a file nor a folder: name the one that holds the recordings to import")


def each(
    paths: Iterable[Path], parse: Callable[[Path], Parsed]
) -> Iterator[tuple[Path, list[tuple[Request, Take]] | RecordingFormatError]]:
    """Yield every file with what it holds, or with an error where it cannot be read."""
    for path in paths:
        try:
            yield path, list(parse(path))
        except RecordingFormatError as error:
            yield path, error
        except OSError as error:
            yield path, RecordingFormatError(f"{path} cannot be read: {error.strerror or error}")
        except (RecursionError, TypeError, ValueError, KeyError, AttributeError, IndexError, NbreplayError) as error:
            # A stranger's file may be wrong in any way; its siblings are read all the same.
            why = f"it is not as such files are ({type(error).__name__}: {str(error)[:200]})"
            yield path, refused(path, why)


def gather(paths: Iterable[Path], parse: Callable[[Path], Parsed]) -> Iterator[Recording | RecordingFormatError]:
    """Yield an error for each file that cannot be read, then the recordings that all others make up together."""
    gathered = Gathered()
    for _, found in each(paths, parse):
        if isinstance(found, RecordingFormatError):
            yield found
        else:
            for request, take in found:
                gathered.add(request, take)
    yield from gathered.recordings()


def refused(path: Path, why: str, kind: type[RecordingFormatError] = RecordingFormatError) -> RecordingFormatError:
    """Return the error for a file that cannot be imported."""
    return kind(f"{path} cannot be imported: {why}. It is left as it is: correct it, or move it out of the folder")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises
    ------
    RecordingFormatError
        Where it is too large, or not UTF-8.
    UnsafeRecordingError
        Where it is not a regular file.
    """
    try:
        with os.fdopen(open_regular(str(path)), encoding="utf-8-sig") as file:
            size = os.fstat(file.fileno()).st_size
            if size > LARGEST:
                why = f"its {size >> 20} MB are more than the {LARGEST >> 20} MB that are read of one file"
                raise refused(path, why)
            return file.read()
    except UnicodeDecodeError as error:
        raise refused(path, f"it is no UTF-8 ({error})") from None


def loaded_json(path: Path, text: str) -> Any:
    """Return JSON data.

    Raises
    ------
    RecordingFormatError
        Where it is none, or nested absurdly.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise refused(path, "it is nested too deeply") from None
    except ValueError as error:
        raise refused(path, f"it is not JSON ({error})") from None
    if is_deep(value, text.encode("utf-8", "surrogatepass")):
        raise refused(path, "it is nested too deeply")
    return value


def put(found: Iterable[Recording | RecordingFormatError], store: Store) -> Counts:
    """Write recordings into a store, beside the takes that are there; a take that is there already is not added.

    Raises
    ------
    StoreError
        Where it cannot be written.
    """
    written = known = recordings = 0
    left_out: list[str] = []
    for item in found:
        if isinstance(item, RecordingFormatError):
            left_out.append(str(item))
            continue
        new: list[Take] = []

        def change(takes: list[Take], item: Recording = item, new: list[Take] = new) -> list[Take]:
            # An answer that was recorded twice is there twice: it was asked for twice.
            have = Counter(take.text().encode("utf-8") for take in takes)
            new.clear()
            for take, text in zip(item.takes, item.texts, strict=True):
                if have[text]:
                    have[text] -= 1
                else:
                    new.append(take)
            return [*takes, *new] if new else takes

        try:
            store.write(item.kind, item.key, item.request, change)
        except RecordingFormatError as error:
            left_out.append(str(error))
            continue
        recordings += 1
        written += len(new)
        known += len(item.takes) - len(new)
    return Counts(written, known, recordings, tuple(left_out))
