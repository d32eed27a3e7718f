"""Writing files into a store: whole or not at all, one writer at a time among threads and processes."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
import time
from collections.abc import Iterator

from nbreplay.core.store.folder import Folder, create, open_folder, open_regular, require_folder, temporary_name
from nbreplay.errors import StoreError, UnsafeRecordingError

PRIVATE = ".nbreplay"
"""Folder in a store for the lock and for half-written files; ignored by git."""

RECORDING = re.compile(r"[a-z]+-[0-9a-f]{16,64}\.json")
BLOB = re.compile(r"blob-[0-9a-f]{32}\.bin")
_MEMBER = rf"{RECORDING.pattern}|{BLOB.pattern}"
_TEMPORARY = rf"\.?(?:{_MEMBER}|spool|\.gitignore)\.\d+\.[0-9a-f]+\.\d+(?:\.tmp)?"  # earlier versions had no dot
_SMALL = 1 << 16  # bytes; reading so few takes about as long as asking for the file's date

FileStat = tuple[int, int, int, int]
"""When a file was written, when its inode was changed, its size and its inode."""

Version = bytes | FileStat
"""Tells whether a file has changed: the content of a small file, the `FileStat` of a large one."""


def is_member(name: str) -> bool:
    """Tell whether a file of a store may have this name."""
    return re.fullmatch(_MEMBER, name) is not None


def read_file(path: str) -> tuple[bytes, Version]:
    """Return the content of a regular file, and its version; raise `UnsafeRecordingError` for any other."""
    with os.fdopen(open_regular(path), "rb", buffering=0) as file:
        data = file.read(_SMALL)
        if len(data) < _SMALL:  # the end of the file: a regular file gives as much as it has
            return data, data
        # Of the open file: another may have taken its place since the path was looked at.
        status = os.fstat(file.fileno())
        return data + file.readall(), file_stat(status)


def file_stat(status: os.stat_result) -> FileStat:
    """Return the version of a large file."""
    # A replaced file has another inode, and no program sets when an inode was changed.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def failed_path(folder: str | os.PathLike[str], error: OSError) -> str:
    """Return the path that an error is about: it may name one relative to the folder, or a descriptor."""
    name = error.filename
    return os.path.join(folder, name) if isinstance(name, str | os.PathLike) else os.fspath(folder)


def write_error(path: str | os.PathLike[str], error: OSError) -> StoreError:
    """Return the error for a file that could not be written."""
    why = error.strerror or error
    return StoreError(f"{os.fspath(path)} cannot be written: {why}. Free the disk or name another store")


class Writer:
    """Writes files into a folder. Every method raises `OSError`, or `UnsafeRecordingError` for a link in the way.

    `root` ends with a separator, and is made where it is missing. It may be a link to a store or to an empty folder:
    people keep their data elsewhere. One to anything else, such as ``recordings`` in a clone that leads to a home
    folder, is not written through. `durable` has the disk confirm every write (fsync).
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
            remove_half_written(private, _TEMPORARY, entries)
        self._lock = _locks.setdefault(root, _Lock(self._private))

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Keep every other writer out, of this process and of others."""
        return self._lock.hold()

    def temporary(self, name: str) -> str:
        """Return a path that nobody else uses, for a file that gets its own name when it is whole."""
        require_folder(self._private)  # it was a folder when this began, and may have been replaced
        return os.path.join(self._private, temporary_name(name))

    def replace(self, name: str, data: bytes) -> Version:
        """Put `data` into the file `name`, at once for every reader; return its version."""
        path, temporary = self._root + name, self.temporary(name)
        try:
            with os.fdopen(create(temporary), "wb") as file:
                file.write(data)
                file.flush()
                if self._durable:
                    os.fsync(file.fileno())
                written = file_stat(os.fstat(file.fileno()))
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._confirm_folder()
        if len(data) <= _SMALL:
            return data
        with contextlib.suppress(OSError):  # the file may be gone already
            status = file_stat(os.lstat(path))
            if (status[0], *status[2:]) == (written[0], *written[2:]):
                return status  # renaming has changed the inode
        return written

    def adopt(self, path: str, name: str) -> None:
        """Give a whole file, whose path is from `temporary`, its name."""
        if self._durable:
            _confirm(path, os.O_RDWR)
        os.replace(path, self._root + name)
        self._confirm_folder()

    def _confirm_folder(self) -> None:
        if self._durable and os.name == "posix":
            _confirm(self._root, os.O_RDONLY)


class _Lock:
    """The lock of a folder: among the threads of this process, and by a file among processes."""

    def __init__(self, private: str) -> None:
        self._private, self._path = private, os.path.join(private, "lock")
        self._threads, self._depth = threading.RLock(), 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        # A stream that is garbage-collected during a write is written within it, in the same thread.
        with self._threads, contextlib.nullcontext() if self._depth else self._exclude_processes():
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def _exclude_processes(self) -> Iterator[None]:
        try:
            from filelock import lock_descriptor, unlock_descriptor
        except ImportError:  # Pyodide has only one process
            yield
            return
        while True:
            try:
                require_folder(self._private)
            except FileNotFoundError:
                os.makedirs(self._private, exist_ok=True)
                continue
            with os.fdopen(open_regular(self._path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0) as file:
                lock_descriptor(file.fileno(), poll_interval=0.002)
                try:
                    current = False
                    with contextlib.suppress(FileNotFoundError):
                        # A file that was removed meanwhile would keep nobody out.
                        current = os.path.samestat(os.fstat(file.fileno()), os.lstat(self._path))
                    if current:
                        yield
                        return
                finally:
                    with contextlib.suppress(OSError):  # closing it unlocks it, too, unless a forked child has it
                        unlock_descriptor(file.fileno())


_locks: dict[str, _Lock] = {}


def _confirm(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_store(path: str) -> None:
    """Refuse a link to a folder that is neither empty nor a store."""
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


def remove_half_written(folder: Folder, names: str, entries: dict[str, os.stat_result]) -> None:
    """Remove files that a killed process left an hour ago or more; `names` is the expression that their names match."""
    old = time.time() - 3600
    for name, status in entries.items():
        if re.fullmatch(names, name) and status.st_mtime <= old and stat.S_ISREG(status.st_mode):
            with contextlib.suppress(OSError):
                folder.remove(name)
