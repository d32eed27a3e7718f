"""Writing a file whole or not at all, one writer at a time among threads and processes."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

__all__ = [
    "PRIVATE", "SETTLED", "State", "Writer", "content", "dated", "is_settled", "private_folder", "removed",
    "thread_lock",
]  # fmt: skip

PRIVATE = ".nbreplay"
"""Folder in a store for the lock and for half-written files; ignored by git."""

_BINARY = getattr(os, "O_BINARY", 0)
_READING = os.O_RDONLY | _BINARY
_SMALL = 1 << 16  # bytes; to read so few takes not much longer than to ask for their date
SETTLED = 3_000_000_000  # nanoseconds; the coarsest clock of a file system, FAT's, moves every two seconds
_numbers = itertools.count()
_locks: dict[str, threading.RLock] = {}


Dated = tuple[int, int, int, int]
"""When a file was written, when its inode was changed, its size and its inode."""

State = bytes | Dated
"""By what a file is known to be the same still: `Dated`, if it is large or settled; else what it holds."""


def thread_lock(root: str) -> threading.RLock:
    """Return the one lock that a folder has in this process, whatever number of stores there are of it."""
    return _locks.setdefault(root, threading.RLock())


def content(path: str) -> tuple[bytes, State]:
    """Return what a file holds, and what it is known by.

    Raises
    ------
    OSError
    """
    descriptor = os.open(path, _READING)
    try:
        data = os.read(descriptor, _SMALL)
        if len(data) < _SMALL:  # so much is always given of a file, unless it ends there
            return data, data
        # Of the open file: another may have taken its place since the path was looked at.
        stat = os.fstat(descriptor)
        parts = [data]
        while more := os.read(descriptor, max(stat.st_size, _SMALL)):
            parts.append(more)
        return b"".join(parts), _dated(stat)
    finally:
        os.close(descriptor)


def dated(path: str) -> Dated:
    """Return by what a file is known, without reading it.

    Raises
    ------
    OSError
    """
    return _dated(os.stat(path))


def is_settled(known: Dated) -> bool:
    """Tell whether a file was written so long ago that being written once more would change its dates."""
    return time.time_ns() - max(known[:2]) > SETTLED


def _renamed(known: Dated, path: str) -> Dated:
    """Return by what a file is known that has just got its name, which is a change of its inode."""
    with contextlib.suppress(OSError):  # it may be gone already
        now = dated(path)
        if (now[0], *now[2:]) == (known[0], *known[2:]):
            return now
    return known


def _dated(stat: os.stat_result) -> Dated:
    # A replaced file has another inode, and no program sets when an inode was changed.
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def private_folder() -> str:
    """Return a new folder that only this user can look into, and that goes when the process ends."""
    import tempfile

    folder = tempfile.mkdtemp(prefix="nbreplay-")
    atexit.register(_at_exit, folder, os.getpid())
    return folder


def removed(folder: str) -> None:
    """Remove a folder and what is in it, as far as that can be done."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _at_exit(folder: str, process: int) -> None:
    # A forked child still reads what its parent has put there.
    if process == os.getpid():
        removed(folder)


class Writer:
    """Writes files into a folder.

    Parameters
    ----------
    root : str
        The folder, with a separator at its end; made where it is missing.
    durable : bool
        Have the disk confirm every write (fsync).

    Raises
    ------
    OSError
        Where the folder cannot be made or written.
    """

    def __init__(self, root: str, *, durable: bool) -> None:
        self._root, self._durable = root, durable
        self._private = os.path.join(root, PRIVATE)
        os.makedirs(self._private, exist_ok=True)
        ignore = os.path.join(self._private, ".gitignore")
        if not os.path.exists(ignore):
            with open(ignore, "w", encoding="utf-8", newline="\n") as file:
                file.write("*\n")
        if not os.access(self._private, os.W_OK):
            raise PermissionError(13, "permission denied")
        self._lock = _FileLock(os.path.join(self._private, "lock"))
        self._clean()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other writer out, of this process and of others."""
        with thread_lock(self._root):
            self._lock.acquire()
            try:
                yield
            finally:
                self._lock.release()

    def temporary(self, name: str) -> str:
        """Return a path that nobody else uses, for a file that is not yet what it is to be."""
        return os.path.join(self._private, f"{name}.{os.getpid()}.{threading.get_ident()}.{next(_numbers)}")

    def replace(self, name: str, data: bytes) -> State:
        """Put `data` into the file `name`, at once for every reader; return what it is known by."""
        temporary = self.temporary(name)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                if self._durable:
                    os.fsync(descriptor)
                state: State = data if len(data) <= _SMALL else _dated(os.fstat(descriptor))
            finally:
                os.close(descriptor)
            os.replace(temporary, self._root + name)
            state = state if isinstance(state, bytes) else _renamed(state, self._root + name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if self._durable and os.name == "posix":
            folder = os.open(self._root, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return state

    def _clean(self) -> None:
        """Remove what a killed process left half-written an hour ago or more."""
        old = time.time() - 3600
        with contextlib.suppress(OSError), os.scandir(self._private) as entries:
            for entry in entries:
                if entry.name not in ("lock", ".gitignore") and entry.is_file() and entry.stat().st_mtime < old:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


class _FileLock:
    """The lock among processes, on a file that stays open: opening it for every write takes longer than writing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor, self._process = -1, -1
        weakref.finalize(self, _close, self.__dict__)

    def acquire(self) -> None:
        try:
            from filelock import lock_descriptor
        except ImportError:  # Pyodide, where there is no other process
            return
        while True:
            # A forked child would share its parent's lock; a file that was removed meanwhile would keep nobody out.
            if self._process != os.getpid():
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
                self._process = os.getpid()
            lock_descriptor(self._descriptor, poll_interval=0.002)
            try:
                if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                    return
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._path), exist_ok=True)
            os.close(self._descriptor)
            self._process = -1

    def release(self) -> None:
        try:
            from filelock import unlock_descriptor
        except ImportError:
            return
        unlock_descriptor(self._descriptor)


def _close(state: dict[str, Any]) -> None:
    if state["_process"] == os.getpid():
        with contextlib.suppress(OSError):
            os.close(state["_descriptor"])
