"""Writing a file whole or not at all, one writer at a time among threads and processes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["PRIVATE", "Writer", "thread_lock"]

PRIVATE = ".nbreplay"
"""Folder in a store for the lock and for half-written files; ignored by git."""

_locks: dict[str, threading.RLock] = {}


def thread_lock(root: str) -> threading.RLock:
    """Return the one lock that a folder has in this process, whatever number of stores there are of it."""
    return _locks.setdefault(root, threading.RLock())


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
        self._between = _file_lock(os.path.join(self._private, "lock"))
        self._clean()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other writer out, of this process and of others."""
        with thread_lock(self._root), self._between:
            yield

    def replace(self, name: str, data: bytes) -> tuple[int, int, int]:
        """Put `data` into the file `name`, at once for every reader; return its time, size and inode."""
        temporary = os.path.join(self._private, f"{name}.{os.getpid()}.{threading.get_ident()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                if self._durable:
                    os.fsync(descriptor)
                stat = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, self._root + name)
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
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _clean(self) -> None:
        """Remove what a killed process left half-written an hour ago or more."""
        old = time.time() - 3600
        with contextlib.suppress(OSError), os.scandir(self._private) as entries:
            for entry in entries:
                if entry.name not in ("lock", ".gitignore") and entry.is_file() and entry.stat().st_mtime < old:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def _file_lock(path: str) -> Any:
    try:
        from filelock import FileLock
    except ImportError:  # Pyodide, where there is no other process
        return contextlib.nullcontext()
    # The usual wait of 50 ms between two tries would be longer than a whole recording.
    return FileLock(path, thread_local=False, is_singleton=True, poll_interval=0.002)
