"""Writing a file whole or not at all, one writer at a time among threads and processes."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator

from nbreplay.core.store.folder import Folder, create, open_folder, open_regular, require_folder, temporary_name
from nbreplay.core.store.lock import FileLock, thread_lock
from nbreplay.errors import StoreError, UnsafeRecordingError

__all__ = [
    "PRIVATE", "SETTLED", "State", "Writer", "content", "dated", "failed_path", "is_member", "is_settled",
    "private_folder", "removed", "write_error",
]  # fmt: skip

PRIVATE = ".nbreplay"
"""Folder in a store for the lock and for half-written files; ignored by git."""

# Compiled when they are first needed, by `re` itself.
_MEMBER = r"[a-z]+-[0-9a-f]{16,64}\.json|blob-[0-9a-f]{32}\.bin"
_TEMPORARY = rf"\.?(?:{_MEMBER}|spool|\.gitignore)\.\d+\.[0-9a-f]+\.\d+(?:\.tmp)?"  # earlier ones were not hidden
_STANDING = ("lock", ".gitignore")
_SMALL = 1 << 16  # bytes; to read so few takes not much longer than to ask for their date
SETTLED = 3_000_000_000  # nanoseconds; the coarsest clock of a file system, FAT's, moves every two seconds


Dated = tuple[int, int, int, int]
"""When a file was written, when its inode was changed, its size and its inode."""

State = bytes | Dated
"""By what a file is known to be the same still: `Dated`, if it is large or settled; else what it holds."""


def is_member(name: str) -> bool:
    """Tell whether a name is one that a file of a store has."""
    return re.fullmatch(_MEMBER, name) is not None


def content(path: str) -> tuple[bytes, State]:
    """Return what a regular file holds, and what it is known by.

    Raises
    ------
    OSError
    UnsafeRecordingError
        For a link, a folder, a pipe or a device.
    """
    descriptor = open_regular(path)
    try:
        data = os.read(descriptor, _SMALL)
        if len(data) < _SMALL:  # so much is always given of a file, unless it ends there
            return data, data
        # Of the open file: another may have taken its place since the path was looked at.
        found = os.fstat(descriptor)
        parts = [data]
        while more := os.read(descriptor, max(found.st_size, _SMALL)):
            parts.append(more)
        return b"".join(parts), _dated(found)
    finally:
        os.close(descriptor)


def dated(path: str) -> Dated:
    """Return by what a file is known, without reading it.

    Raises
    ------
    OSError
    """
    return _dated(os.lstat(path))


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


def _dated(found: os.stat_result) -> Dated:
    # A replaced file has another inode, and no program sets when an inode was changed.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def failed_path(folder: str | os.PathLike[str], error: OSError) -> str:
    """Return the path that an error is about: it may tell one that is relative to the folder, or a descriptor."""
    name = error.filename
    return os.path.join(folder, name) if isinstance(name, str | os.PathLike) else os.fspath(folder)


def write_error(path: str | os.PathLike[str], error: OSError) -> StoreError:
    """Return the error for a file that could not be written."""
    why = error.strerror or error
    return StoreError(f"{os.fspath(path)} cannot be written: {why}. Free the disk or name another store")


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
        The folder, with a separator at its end; made where it is missing. It may be a link to a store or to an empty
        folder: people keep their data elsewhere. One to anything else, such as ``recordings`` in a clone that leads to
        a home folder, is not written through.
    durable : bool
        Have the disk confirm every write (fsync).

    Raises
    ------
    OSError
        Where the folder cannot be made or written.
    UnsafeRecordingError
        Where it leads to a folder that is not a store, or its private folder is a link.
    """

    def __init__(self, root: str, *, durable: bool) -> None:
        self._root, self._durable = root, durable
        self._private = os.path.join(root, PRIVATE)
        _require_store(root.rstrip(os.sep) or root)
        os.makedirs(root, exist_ok=True)
        with open_folder(root, PRIVATE, make=True) as private:
            if not os.access(self._private, os.W_OK):
                raise PermissionError(13, "permission denied")
            entries = private.entries()
            if ".gitignore" not in entries:
                with private.write(".gitignore") as file:
                    file.write(b"*\n")
            _clean(private, entries)
        self._lock = FileLock(self._private)

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
        """Return a path that nobody else uses, for a file that is not yet what it is to be.

        Raises
        ------
        OSError, UnsafeRecordingError
        """
        require_folder(self._private)  # it was a folder when this began, and may have been replaced
        return os.path.join(self._private, temporary_name(name))

    def replace(self, name: str, data: bytes) -> State:
        """Put `data` into the file `name`, at once for every reader; return what it is known by."""
        temporary = self.temporary(name)
        descriptor = create(temporary)
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
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._confirm_folder()
        return state if isinstance(state, bytes) else _renamed(state, self._root + name)

    def adopt(self, path: str, name: str) -> None:
        """Give a whole file, which `temporary` named, its place."""
        if self._durable:
            _confirm(path, os.O_RDWR)
        os.replace(path, self._root + name)
        self._confirm_folder()

    def _confirm_folder(self) -> None:
        if self._durable and os.name == "posix":
            _confirm(self._root, os.O_RDONLY)


def _confirm(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_store(path: str) -> None:
    """Refuse a link to a folder that has something in it and is not a store."""
    if not os.path.islink(path):
        return
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(path)
        if not names or any(name == PRIVATE or is_member(name) for name in names):
            return
    raise UnsafeRecordingError(
        f"{path} is a symbolic link to {os.path.realpath(path)}, which is not a store: nothing is written there. "
        "Name that folder itself, or remove the link"
    )


def _clean(private: Folder, entries: dict[str, os.stat_result]) -> None:
    """Remove what a killed process left half-written an hour ago or more, and nothing else."""
    old = time.time() - 3600
    for name, found in entries.items():
        if name in _STANDING or found.st_mtime > old or not stat.S_ISREG(found.st_mode):
            continue
        if re.fullmatch(_TEMPORARY, name):
            with contextlib.suppress(OSError):
                private.remove(name)
