"""Cache: the frames of a store as they were read, beside it, in a folder that git ignores and anybody may delete.

What is kept of a file counts for as long as the file is the one that was read: same size, times and inode. A file that
had been changed less than `YOUNG_NS` before it was read is not trusted, as git does not trust it: another change within
the same tick of the clock would leave its time as it is. Nor is one that could not be read wholly, or that names
others. Such files are read again each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from nbreplay.analysis import parquet
from nbreplay.core.store.files import PRIVATE, Writer
from nbreplay.core.store.folder import Folder, open_folder
from nbreplay.core.store.store import Store
from nbreplay.errors import UnsafeRecordingError

__all__ = ["YOUNG_NS", "Cache", "Files", "Kept", "scan"]

YOUNG_NS = 2_000_000_000
_FORMAT = "1"  # a change of what is kept, or of how it is made, raises it
_GENERATIONS = 2
_LARGEST = 2**63 - 1
# All that is ever removed: folders of this name with nothing but files of these names in them.
_GENERATION = re.compile(r"[0-9a-f]{32}")
_FRAME = re.compile(r"\.?[a-z_]+\.parquet(?:\.\d+\.[0-9a-f]+(?:\.\d+)?\.tmp)?")


class Files(NamedTuple):
    """The files of a store as they are: names, in order, and of each size, times and inode; and when that was."""

    names: list[str]
    states: np.ndarray[Any, Any]
    at_ns: int

    def same(self, other: Files) -> bool:
        """Tell whether not one of them has changed."""
        return self.names == other.names and np.array_equal(self.states, other.states)


def scan(store: Store) -> Files:
    """Look at the files of a store."""
    at_ns = time.time_ns()
    # Of a store that has not changed, this is most of what there is to do.
    root = os.path.join(store.identity, "")
    names, states = list[str](), list[tuple[int, int, int, int]]()
    for name in sorted(store.names()):
        try:
            states.append(_state(root + name))
        except OSError:
            continue  # it has gone meanwhile
        names.append(name)
    return Files(names, np.array(states, dtype=np.int64).reshape(len(names), 4), at_ns)


def _state(path: str) -> tuple[int, int, int, int]:
    found = os.lstat(path)
    # An inode may be any number below 2**64.
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino & _LARGEST


class Kept(NamedTuple):
    """What is kept of files that are still the same.

    Attributes
    ----------
    names : set of str
        These files.
    interactions, files : list of str
        Of each row that is kept, of whatever file.
    generation : str
        The name of the folder that the frames are in.
    """

    names: set[str]
    interactions: list[str]
    files: list[str]
    generation: str


class Cache:
    """The cache of one store.

    Its folders are used only where they are folders: one that is a link is an `UnsafeRecordingError`.
    """

    def __init__(self, store: Store) -> None:
        from nbreplay import __version__

        self._store = store
        self._version = f"{_FORMAT}-{__version__}"
        self._generation: str | None = None

    def _open(self, *names: str, make: bool = False) -> AbstractContextManager[Folder]:
        return open_folder(self._store.identity, PRIVATE, "frames", *names, make=make)

    def kept(self, files: Files) -> Kept | None:
        """Return what is kept of the files that are the same, from where most is."""
        best = None
        for name in self._generations():
            with contextlib.suppress(OSError, KeyError, ValueError, UnsafeRecordingError), self._open(name) as folder:
                table = parquet.read(folder, "files.parquet")
                if (table.schema.metadata or {}).get(b"nbreplay") != self._version.encode():
                    continue
                names = self._same(files, table)
                if names and (best is None or len(names) > len(best.names)):
                    rows = parquet.read(folder, "rows.parquet").to_pydict()
                    best = Kept(names, rows["interaction"], rows["file"], name)
                    if len(names) == len(files.names):
                        return best
        return best

    def _same(self, files: Files, table: Any) -> set[str]:
        known = table.column("name").to_pylist()
        trusted = table.column("trusted").to_numpy()
        states = np.column_stack([table.column(name).to_numpy() for name in ("size", "mtime", "ctime", "inode")])
        if known == files.names:
            same = trusted & (states == files.states).all(axis=1)
            return {name for name, one in zip(known, same, strict=True) if one}
        place = {name: number for number, name in enumerate(known)}
        made = set()
        for name, state in zip(files.names, files.states, strict=True):
            number = place.get(name)
            if number is not None and trusted[number] and np.array_equal(states[number], state):
                made.add(name)
        return made

    def begin(self, files: Files, untrusted: Collection[str], interactions: Sequence[str], rows: Sequence[str]) -> None:
        """Say what the frames that follow are of: which files, and of each row its interaction and its file."""
        with contextlib.suppress(OSError):
            pa = parquet.arrow()
            young = files.states[:, 1:3].max(axis=1) > files.at_ns - YOUNG_NS if files.names else np.empty(0, bool)
            trusted = ~young & np.array([name not in untrusted for name in files.names], dtype=bool)
            said = hashlib.sha256(f"{self._version}\0".encode())
            for part in (files.names, interactions, rows):
                said.update("\n".join(part).encode("utf-8", "surrogateescape") + b"\0")
            said.update(files.states.tobytes() + trusted.tobytes())
            self._generation = said.hexdigest()[:32]
            with contextlib.suppress(FileNotFoundError), self._open(self._generation) as folder:
                if "files.parquet" in folder.entries():
                    folder.touch()
                    return
            Writer(self._store.identity, durable=False)  # makes the folder that git ignores
            with self._open(self._generation, make=True) as folder:
                parquet.write(pa.table({"interaction": list(interactions), "file": list(rows)}), folder, "rows.parquet")
                columns = dict(zip(("size", "mtime", "ctime", "inode"), files.states.T, strict=True))
                table = pa.table({"name": pa.array(files.names, pa.string()), **columns, "trusted": trusted})
                # Last: without it the folder is not looked into.
                parquet.write(table.replace_schema_metadata({"nbreplay": self._version}), folder, "files.parquet")
            self._clean()

    def table(self, kept: Kept, name: str) -> Any | None:
        """Return a frame's rows of all files, or None where it is not kept."""
        try:
            with self._open(kept.generation) as folder:
                return parquet.read(folder, f"{name}.parquet")
        except (OSError, UnsafeRecordingError):
            return None

    def write(self, name: str, table: Any) -> None:
        """Keep a frame; a disk that is full or may not be written costs nobody the frame."""
        if self._generation is not None:
            with contextlib.suppress(OSError, UnsafeRecordingError), self._open(self._generation) as folder:
                parquet.write(table, folder, f"{name}.parquet")

    def _generations(self) -> list[str]:
        """Return the names of the folders that there are, the newest first."""
        with contextlib.suppress(OSError), self._open() as frames:
            found = [
                (state.st_mtime_ns, name)
                for name, state in frames.entries().items()
                if _GENERATION.fullmatch(name) and stat.S_ISDIR(state.st_mode)
            ]
            return [name for _, name in sorted(found, reverse=True)]
        return []

    def _clean(self) -> None:
        """Remove the folders that are too many, file by file; one that has anything else in it stays."""
        for name in self._generations()[_GENERATIONS:]:
            with contextlib.suppress(OSError), self._open() as frames:
                with frames.folder(name) as folder:
                    states = folder.entries()
                    if not all(_FRAME.fullmatch(each) and stat.S_ISREG(states[each].st_mode) for each in states):
                        continue
                    for each in states:
                        folder.remove(each)
                frames.remove_folder(name)
