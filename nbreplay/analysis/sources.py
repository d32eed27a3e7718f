"""Sources of frames: stores, recordings of other tools, and sessions, read into rows. Imports no pandas.

A file that cannot be read becomes a `Trouble` that names it; nothing is left out in silence.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from nbreplay.analysis.names import ShortNames
from nbreplay.analysis.rows import Row
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.request.request import Request
from nbreplay.core.session import Session
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.files import RECORDING
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError, RecordingFormatError, StoreError
from nbreplay.formats import registry
from nbreplay.formats.llama_stack import recordings

Source = str | os.PathLike[str] | Store | Session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PROGRESS_AFTER_S = 2.0


class Trouble(NamedTuple):
    """A file that could not be read, or not all of it, and why."""

    file: str
    reason: str


def read(sources: Source | Sequence[Source]) -> tuple[list[Row], list[Trouble]]:
    """Read sources one after the other; takes of one key are numbered through. `load` has the errors."""
    reading = _Reading()
    for source in sources if isinstance(sources, list | tuple) else [sources]:
        reading.add(source)
    return reading.rows(), reading.troubles


@contextmanager
def pause_gc() -> Iterator[None]:
    """Pause the collector of cycles, which takes half of the time of reading 10,000 recordings."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def own_store(source: object) -> Store | None:
    """Return the store that a source is, where it is one folder of nbreplay's own recordings."""
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        source = Store(path) if path.is_dir() else None
    return source if isinstance(source, Store) and not source.archive and source.has_recordings() else None


def read_store(store: Store, names: Iterable[str], short: ShortNames | None = None) -> tuple[list[Row], list[Trouble]]:
    """Read these recordings of a store. `short` are the short names of all of them, whichever are read."""
    reading = _Reading()
    reading.add_store(store, names)
    return reading.rows(short or ShortNames(store.names())), reading.troubles


def name_rows(rows: list[Row], short: ShortNames, numbers: dict[str, int] | None = None) -> list[Row]:
    """Give rows their names; takes of one recording are numbered through, on from `numbers`."""
    numbers = {} if numbers is None else numbers
    for row in rows:
        name = str(row.outcome) if row.source is None else short.short(row.source.kind, row.source.key)
        numbers[name] = number = numbers.get(name, 0) + 1
        msgspec.structs.force_setattr(row, "interaction", f"{name}#{number}")
    return rows


def read_batches(store: Store, names: Sequence[str], size: int) -> Iterator[tuple[list[Row], list[Trouble]]]:
    """Read these recordings of a store, `size` of them at a time, as `read_store` does."""
    short, numbers, rest = ShortNames(names), dict[str, int](), _with_progress(names)
    while batch := list(itertools.islice(rest, size)):
        reading = _Reading()
        reading.add_store(store, batch)
        yield name_rows(reading.found, short, numbers), reading.troubles


def other_files(store: Store) -> list[Trouble]:
    """Return the other JSON files in the folder of a store, which are not read."""
    return [other_file(store, name) for name in sorted(_json_files(store)) if not RECORDING.fullmatch(name)]


def other_file(store: Store, name: str) -> Trouble:
    """Return the trouble with a JSON file that is not called as recordings are."""
    path = os.path.join(store.name, name)
    why = f"{path} is not read: a recording is called kind-0123456789abcdef.json. Move it out of the store"
    return Trouble(path, why)


def unreadable(troubles: Sequence[Trouble]) -> RecordingFormatError:
    """Return the error that names the files that cannot be read, up to ten of them."""
    count = len({trouble.file for trouble in troubles})
    head = f"{count} files cannot be read:" if count > 1 else "a file cannot be read:"
    lines = [f"- {trouble.reason}" for trouble in troubles[:10]]
    more = [f"- and {len(troubles) - 10} more"] if len(troubles) > 10 else []
    hint = "Pass load(..., strict=False) to skip them; they are listed in .unread"
    return RecordingFormatError("\n".join([head, *lines, *more, hint]))


class _Reading:
    def __init__(self) -> None:
        self.found: list[Row] = []  # without their names
        self.files: set[str] = set()  # the names that all recordings have in a store
        self.troubles: list[Trouble] = []

    def rows(self, short: ShortNames | None = None) -> list[Row]:
        """Return the rows, with their names."""
        return name_rows(self.found, short or ShortNames(self.files))

    def add(self, source: object) -> None:
        if isinstance(source, Session):
            self.add_session(source)
        elif isinstance(source, Store):
            names = sorted(source.names())
            self.files.update(names)
            self.add_store(source, _with_progress(names))
            self.troubles += other_files(source)
        elif isinstance(source, str | os.PathLike):
            if is_archive(source):
                self.add(Store(source))
            else:
                self.add_path(Path(source).expanduser())
        else:
            raise OptionError(
                f"load takes a folder, a Store, a Session or a list of those, not {type(source).__name__}"
            )

    def add_path(self, path: Path) -> None:
        if path.is_dir():
            store = Store(path)
            if store.names() or not registry.find_files(path, registry.ENDINGS):
                self.add(store)
            else:
                self.add_foreign(path)
        elif path.suffix in registry.ENDINGS and path.is_file():
            self.add_foreign(path)
        elif path.exists():
            raise StoreError(f"{path} is not a recording. Name the folder that holds the recordings")
        else:
            raise StoreError(f"{path} does not exist. Name the folder that holds the recordings")

    def add_store(self, store: Store, names: Iterable[str]) -> None:
        root = os.path.join(store.name, "")
        for name in names:
            path = root + name
            try:
                recording = store.read(name, Recording.check, keep=False)
            except (RecordingFormatError, StoreError) as error:
                self.troubles.append(Trouble(path, str(error)))
                continue
            if recording is None:
                self.troubles.append(Trouble(path, f"{path} cannot be read: the file has been removed"))
                continue
            own = file_name(recording.kind, recording.key)
            if own != name:
                why = f"{path} should be called {own}: replay does not find it, and its takes may be there twice. "
                self.troubles.append(Trouble(path, why + "Rename it, or remove it"))
            for take in recording.takes:
                self.add_take(recording, take, path)

    def add_foreign(self, path: Path) -> None:
        for file, contents in registry.read_files(path):
            problem = contents.problem(file)
            if problem is not None:
                self.troubles.append(Trouble(str(file), str(problem)))
            for request, take in contents.takes:
                self.files.add(file_name(request.kind, request.key))
                self.add_take(request, take, os.path.abspath(file))

    def add_session(self, session: Session) -> None:
        for item in session.interactions:
            take, request, path, ms, origin = item.take and item.take.readable(), item.request, None, None, None
            # Only an answer that went to the store or came out of it has a file there.
            if request is not None:
                self.files.add(own := file_name(request.kind, request.key))
                if item.outcome in ("recorded", "replayed"):
                    path = os.path.join(item.store, own)
            if take is not None:
                ms, origin = self.recorded_ms(take, path or session.store.name), _origin(take)
            cell = _cell(item.cell.ref if item.cell is not None else take.cell if take is not None else None)
            host = item.host or (take.host if take is not None else "")
            self.found.append(Row("", path, request, take, ms, cell, origin, host, item.outcome, item.served_s))

    def add_take(self, source: Recording | Request, take: Take, path: str) -> None:
        ms, cell, origin = self.recorded_ms(take, path), _cell(take.cell), _origin(take)
        self.found.append(Row("", path, source, take, ms, cell, origin, take.host))

    def recorded_ms(self, take: Take, path: str) -> int | None:
        if not take.recorded_at:
            return None
        try:
            at = datetime.fromisoformat(take.recorded_at)
            delta = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH
        except (ValueError, OverflowError):
            why = f"{path}: the recorded_at of a take is not a time: {take.recorded_at[:80]!r}. Correct it"
            self.troubles.append(Trouble(path, why))
            return None
        return delta // timedelta(milliseconds=1)


def _with_progress(names: Sequence[str]) -> Iterator[str]:
    """Yield names; show a progress bar on standard error where that takes long."""
    start = time.monotonic()
    for number, name in enumerate(names):
        if number % 64 == 0 and time.monotonic() - start >= PROGRESS_AFTER_S and sys.platform != "emscripten":
            break
        yield name
    else:
        return
    from rich.console import Console
    from rich.progress import track

    # Not as the output of a cell: that would differ from run to run.
    console = Console(stderr=True, force_jupyter=False)
    yield from track(names[number:], "Reading recordings", len(names), completed=number, console=console)


def _json_files(store: Store) -> list[str]:
    try:
        return [name for name in os.listdir(store.path) if name.endswith(".json")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _cell(ref: CellRef | None) -> str | None:
    return None if ref is None else ref.id or ref.source or None


def _origin(take: Take) -> str:
    if not take.extra:
        return "nbreplay"
    # Foreign recordings other than llama-stack's only say that they have no times.
    return "llama-stack" if recordings.OWN in take.extra else "vcr" if take.extra.get("timed") is False else "nbreplay"
