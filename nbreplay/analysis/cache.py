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
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbreplay.analysis import parquet
from nbreplay.core.files import PRIVATE, Writer
from nbreplay.core.store import Store

__all__ = ["YOUNG_NS", "Cache", "Files", "Kept", "scan"]

YOUNG_NS = 2_000_000_000
_FORMAT = "1"  # a change of what is kept, or of how it is made, raises it
_GENERATIONS = 2
_LARGEST = 2**63 - 1


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
    stat = os.stat(path)
    # An inode may be any number below 2**64.
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino & _LARGEST


class Kept(NamedTuple):
    """What is kept of files that are still the same.

    Attributes
    ----------
    names : set of str
        These files.
    interactions, files : list of str
        Of each row that is kept, of whatever file.
    folder : Path
        Where the frames are.
    """

    names: set[str]
    interactions: list[str]
    files: list[str]
    folder: Path

    def table(self, name: str) -> Any | None:
        """Return a frame's rows of all files, or None where it is not kept."""
        try:
            return parquet.read(self.folder / f"{name}.parquet")
        except OSError:
            return None


class Cache:
    """The cache of one store."""

    def __init__(self, store: Store) -> None:
        from nbreplay import __version__

        self._store = store
        self.root = Path(store.identity) / PRIVATE / "frames"
        self._version = f"{_FORMAT}-{__version__}"
        self._folder: Path | None = None

    def kept(self, files: Files) -> Kept | None:
        """Return what is kept of the files that are the same, from where most is."""
        best = None
        for folder in self._generations():
            with contextlib.suppress(OSError, KeyError, ValueError):
                table = parquet.read(folder / "files.parquet")
                if (table.schema.metadata or {}).get(b"nbreplay") != self._version.encode():
                    continue
                names = self._same(files, table)
                if names and (best is None or len(names) > len(best.names)):
                    rows = parquet.read(folder / "rows.parquet").to_pydict()
                    best = Kept(names, rows["interaction"], rows["file"], folder)
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
            folder = self.root / said.hexdigest()[:32]
            self._folder = folder
            if (folder / "files.parquet").exists():
                os.utime(folder)
                return
            Writer(self._store.identity, durable=False)  # makes the folder that git ignores
            folder.mkdir(parents=True, exist_ok=True)
            parquet.write(pa.table({"interaction": list(interactions), "file": list(rows)}), folder / "rows.parquet")
            columns = dict(zip(("size", "mtime", "ctime", "inode"), files.states.T, strict=True))
            table = pa.table({"name": pa.array(files.names, pa.string()), **columns, "trusted": trusted})
            # Last: a folder without it is none.
            parquet.write(table.replace_schema_metadata({"nbreplay": self._version}), folder / "files.parquet")
            for old in self._generations()[_GENERATIONS:]:
                shutil.rmtree(old, ignore_errors=True)

    def write(self, name: str, table: Any) -> None:
        """Keep a frame; a disk that is full or may not be written costs nobody the frame."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                parquet.write(table, self._folder / f"{name}.parquet")

    def _generations(self) -> list[Path]:
        """Return the folders that there are, the newest first."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self.root) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found.append((entry.stat().st_mtime_ns, entry.path))
        return [Path(path) for _, path in sorted(found, reverse=True)]
