"""The frames of a store as Parquet files beside it, so that a store that has not changed is not read again.

A frame is one file in ``.nbreplay/frames``, which git ignores and anybody may delete. It counts as long as every file
of the store has the size, the times and the inode that it had when it was read. Nothing is kept of a store that has a
file which cannot be read, or one that changed less than `YOUNG_NS` before: as git does, so as not to miss another
change within the same tick of the clock. Needs pyarrow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import NamedTuple

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import FRAMES
from nbreplay.analysis.frames import RowFrames, declared_columns, index_of, valid_text
from nbreplay.analysis.rows import Row
from nbreplay.analysis.sources import Trouble, read_store
from nbreplay.core.store.files import PRIVATE, Folder, Writer, open_folder, remove_half_written
from nbreplay.core.store.store import Store
from nbreplay.errors import StoreError, UnsafeRecordingError

YOUNG_NS = 2_000_000_000
_TEMPORARY = r"\.[a-z_]+\.parquet\.\d+\.[0-9a-f]+\.\d+\.tmp"
_FORMAT = 2  # raise it when an extractor changes


class _State(NamedTuple):
    """The files of a store at one time; equal digests mean that none has changed."""

    names: list[str]
    digest: str
    is_settled: bool


def _scan(store: Store) -> _State:
    start = time.time_ns()
    states, newest = dict[str, tuple[int, ...]](), 0
    for name in sorted(os.listdir(store.identity)):
        if name.endswith((".json", ".bin")):
            with contextlib.suppress(FileNotFoundError):
                _size, *times, _inode = states[name] = _state(os.path.join(store.identity, name))
                newest = max(newest, *times)
    declared = [column[:3] for columns in FRAMES.values() for column in columns]
    identity = repr((_FORMAT, version("nbreplay"), declared, list(states.items())))
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return _State(sorted(set(states).intersection(store.names())), digest, newest <= start - YOUNG_NS)


def _state(path: str) -> tuple[int, int, int, int]:
    state = os.lstat(path)
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


class CachedFrames:
    """The frames of one store, out of the cache where nothing has changed.

    Raises `UnsafeRecordingError` where the folder of the cache is a link.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._state = store, _scan(store)
        self._rows: RowFrames | None = None
        self.troubles: list[Trouble] = []
        self._interactions = self._load("interactions")
        if self._interactions is None:
            rows, self.troubles = read_store(store, self._state.names)
            self._rows = RowFrames(rows)

    def __len__(self) -> int:
        return len(self.frame("interactions") if self._rows is None else self._rows)

    def frame(self, name: str) -> pd.DataFrame:
        """Return a frame; raise `StoreError` where it must be read and the store has changed since it was loaded."""
        if self._interactions is None:  # whichever frame is asked for: without this one, the next load reads all again
            self._interactions = self._build("interactions")
        if name == "interactions":
            return self._interactions
        frame = self._load(name) if self._rows is None else None
        return self._build(name) if frame is None else frame

    def row(self, interaction: str) -> Row:
        """Return the row of an interaction, read from its file."""
        if self._rows is not None:
            return self._rows.row(interaction)
        files = self.frame("interactions").file
        names = [os.path.basename(files[interaction])] if interaction in files else []
        return RowFrames(read_store(self._store, names)[0]).row(interaction)

    def _build(self, name: str) -> pd.DataFrame:
        if self._rows is None:
            rows, _ = read_store(self._store, self._state.names)
            if _scan(self._store).digest != self._state.digest:
                raise StoreError(f"{self._store.name} has changed since it was loaded. Load it again")
            self._rows = RowFrames(rows)
        frame = self._rows.frame(name)
        self._save(name, frame)
        return frame

    def _open(self, *, make: bool = False) -> AbstractContextManager[Folder]:
        return open_folder(self._store.identity, PRIVATE, "frames", make=make)

    def _load(self, name: str) -> pd.DataFrame | None:
        with contextlib.suppress(OSError), self._open() as folder, contextlib.suppress(UnsafeRecordingError):
            table = parquet.read(folder, f"{name}.parquet", mark=self._state.digest)
            frame = parquet.from_table(table, declared_columns(name), index=index_of(name))
            if name == "interactions":
                # The store may have been renamed, or named in another way.
                root = os.path.join(self._store.name, "")
                files = valid_text([root + os.path.basename(path) for path in frame.file])
                frame["file"] = pd.array(files, dtype=frame.file.dtype)
            return frame
        return None

    def _save(self, name: str, frame: pd.DataFrame) -> None:
        if not self._state.is_settled or self.troubles:
            return
        # A disk that is full, or may not be written, costs nobody the frame.
        with contextlib.suppress(OSError, UnsafeRecordingError):
            Writer(self._store.identity, durable=False)  # makes the folder that git ignores
            with self._open(make=True) as folder:
                table = parquet.to_table(frame, declared_columns(name))
                parquet.write(table, folder, f"{name}.parquet", mark=self._state.digest)
                remove_half_written(folder, _TEMPORARY, folder.entries())
