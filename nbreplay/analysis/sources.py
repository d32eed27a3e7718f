"""Sources of frames: stores, recordings of others, sessions; read into one row a take or a call.

Imports no pandas. What cannot be read becomes a `Trouble` that names its file; nothing is left out in silence.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from nbreplay.analysis import progress
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.session import Session
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError, RecordingFormatError, StoreError
from nbreplay.formats import registry
from nbreplay.formats.cassettes import ENDINGS
from nbreplay.formats.foreign_files import files
from nbreplay.formats.llama_stack import reader

__all__ = ["Row", "Source", "Trouble", "own_store", "read", "read_store"]

Source = str | os.PathLike[str] | Store | Session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    """What a row of `interactions` is made of.

    Attributes
    ----------
    interaction : str
    file : str or None
    request : Request or None
        None for a call that a session did not look at.
    take : Take or None
        None where there is no answer.
    recorded_ms : int or None
        Milliseconds since 1970, UTC.
    cell : str or None
    origin : str or None
    host : str
    outcome : str or None
        Of a session's call.
    served_s : float or None
    """

    interaction: str
    file: str | None
    request: Request | None
    take: Take | None
    recorded_ms: int | None = None
    cell: str | None = None
    origin: str | None = None
    host: str = ""
    outcome: str | None = None
    served_s: float | None = None


class Trouble(NamedTuple):
    """A file that could not be read, or not all of it, and why."""

    file: str
    reason: str


def read(sources: Source | list[Any] | tuple[Any, ...]) -> tuple[list[Row], list[Trouble]]:
    """Read sources one after the other; takes of one key are numbered through.

    Raises
    ------
    OptionError
        For what is no source.
    StoreError
        Where there is nothing of a name.
    """
    reading = _Reading()
    for source in sources if isinstance(sources, list | tuple) else [sources]:
        reading.add(source)
    return reading.rows, reading.troubles


def own_store(source: Any) -> Store | None:
    """Return the store that a source is, where it is a folder and nothing else."""
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        source = Store(path) if path.is_dir() else None
    return source if isinstance(source, Store) and not source.archive and source.names() else None


def read_store(store: Store, names: Sequence[str]) -> tuple[list[Row], list[Trouble]]:
    """Read some of a store's recordings; what else lies there is told of, too."""
    reading = _Reading()
    reading.store(store, names)
    return reading.rows, reading.troubles


class _Reading:
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.troubles: list[Trouble] = []
        self.numbers: Counter[str] = Counter()

    def add(self, source: Any) -> None:
        if isinstance(source, Session):
            self.session(source)
        elif isinstance(source, Store):
            self.store(source)
        elif is_archive(source):
            self.store(Store(source))
        elif isinstance(source, str | os.PathLike):
            self.path(Path(source).expanduser())
        else:
            raise OptionError(
                f"load takes a folder, a Store, a Session or a list of those, not a {type(source).__name__}"
            )

    def path(self, path: Path) -> None:
        if path.is_dir():
            store = Store(path)
            if store.names() or not files(path, ENDINGS):
                self.store(store)
            else:
                self.foreign(path)
        elif path.suffix in ENDINGS and path.is_file():
            self.foreign(path)
        elif path.exists():
            raise StoreError(f"{path} is a file, and no recording: name the folder that holds the recordings")
        else:
            raise StoreError(f"there is no folder {path}: name the one that holds the recordings")

    def store(self, store: Store, some: Sequence[str] | None = None) -> None:
        names = sorted(store.names())
        for name in progress.told(names if some is None else some, "recordings read"):
            path = os.path.join(store.name, name)
            try:
                recording = store.read(name, Recording.decode)
            except (RecordingFormatError, StoreError) as error:
                self.troubles.append(Trouble(path, str(error)))
                continue
            if recording is None:
                self.troubles.append(Trouble(path, f"{path} cannot be read: it is gone"))
                continue
            if file_name(recording.kind, recording.key) != name:
                self.troubles.append(Trouble(path, _other_name(path, recording.kind, recording.key)))
            request = Request(recording.kind, recording.request, recording.key)
            for take in recording.takes:
                self.take(request, take, path)
        for other in sorted(set(_json_in(store)).difference(names)):
            path = os.path.join(store.name, other)
            self.troubles.append(Trouble(path, _stranger(path)))

    def foreign(self, path: Path) -> None:
        for file, contents in registry.read(path):
            problem = contents.problem(file)
            if problem is not None:
                self.troubles.append(Trouble(str(file), str(problem)))
            for request, take in contents.takes:
                self.take(request, take, str(file))

    def take(self, request: Request, take: Take, path: str) -> None:
        cell = None if take.cell is None else take.cell.id or take.cell.source or None
        self.rows.append(
            Row(
                self.number(request.key),
                path,
                request,
                take,
                self.recorded_ms(take, path),
                cell,
                _origin(take.extra),
                take.host,
            )
        )

    def session(self, session: Session) -> None:
        for item in session.interactions:
            take, request = item.take and item.take.readable(), item.request
            own = request.key if request is not None else item.outcome
            # An answer that went to the store or came out of it has a file there; any other has none.
            stored = request is not None and item.outcome in ("recorded", "replayed")
            path = os.path.join(item.store, file_name(request.kind, request.key)) if stored and request else None
            ref = item.cell.ref if item.cell is not None else take.cell if take is not None else None
            self.rows.append(
                Row(
                    self.number(own),
                    path,
                    request,
                    take,
                    None if take is None else self.recorded_ms(take, path or session.store.name),
                    None if ref is None else ref.id or ref.source or None,
                    None if take is None else _origin(take.extra),
                    item.host or ("" if take is None else take.host),
                    item.outcome,
                    item.served_s,
                )
            )

    def number(self, key: str) -> str:
        self.numbers[key] += 1
        return f"{key}#{self.numbers[key]}"

    def recorded_ms(self, take: Take, path: str) -> int | None:
        told = take.recorded_at
        if not told:
            return None
        try:
            at = datetime.fromisoformat(told)
            delta = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - _EPOCH
        except (ValueError, OverflowError):
            why = f"{path}: a take of it was recorded at {told[:80]!r}, which is no time: its recorded_at is absent. "
            self.troubles.append(Trouble(path, why + "Correct it"))
            return None
        return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def _json_in(store: Store) -> list[str]:
    try:
        return [name for name in os.listdir(store.path) if name.endswith(".json")]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _origin(extra: Mapping[str, Any]) -> str:
    # Of foreign recordings only llama-stack's say more of themselves than that they have no times.
    return "llama-stack" if reader.OWN in extra else "vcr" if extra.get("timed") is False else "nbreplay"


def _other_name(path: str, kind: str, key: str) -> str:
    return (
        f"{path} should be called {file_name(kind, key)}: a replay does not find it, and its takes may be there twice. "
        "Rename it, or remove it"
    )


def _stranger(path: str) -> str:
    return f"{path} is not read: its name is none of a recording (kind-0123456789abcdef.json). Move it out of the store"
