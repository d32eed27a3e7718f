"""Files of a store, which a stranger may have prepared, written whole or not at all, by one writer at a time.

A clone carries symbolic links, and a folder may hold pipes and devices: only regular files are read, and no link is
written through. Where the system allows it, a folder is opened once and its entries are reached from it, so that nobody
can put a link in its way meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from nbreplay.errors import StoreError, UnsafeRecordingError

PRIVATE = ".nbreplay"
"""Folder in a store for the lock, half-written files and notes of failures; ignored by git."""

RECORDING = re.compile(r"[a-z]+-[0-9a-f]{16,64}\.json")
BLOB = re.compile(r"blob-[0-9a-f]{32}\.bin")
_DIGEST = re.compile(r"sha256:([0-9a-f]{32})[0-9a-f]{32} \d+ bytes")
VARIABLES = "nbreplay-variables.txt"
"""Lists, one a line, the environment variables whose values recorded requests carried; see `Store.variables`."""

_MEMBER = rf"{RECORDING.pattern}|{BLOB.pattern}|{re.escape(VARIABLES)}"
_HEAD = 1 << 14
_TAKES = b'\n  "takes": ['
_OTHERS = r"spool|\.gitignore|failed-[a-z]+-[0-9a-f]+\.txt"
_TEMPORARY = rf"\.?(?:{_MEMBER}|{_OTHERS})\.\d+\.[0-9a-f]+\.\d+(?:\.tmp)?"  # earlier versions had no dot
_LARGE_PIECE = 1 << 20
_SMALL = 1 << 16  # bytes; reading so few takes about as long as asking for the file's date

FileStat = tuple[int, int, int, int]
"""When a file was written, when its inode was changed, its size and its inode."""

Version = bytes | FileStat
"""Tells whether a file has changed: the content of a small file, the `FileStat` of a large one."""

_BINARY, _NO_FOLLOW = getattr(os, "O_BINARY", 0), getattr(os, "O_NOFOLLOW", 0)
# Opening a pipe without O_NONBLOCK waits for its writer.
_SAFE = _BINARY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)
_CREATING = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _NO_FOLLOW
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
# Not under Pyodide, whose file systems differ in what they know of descriptors of folders.
_RELATIVE = (
    sys.platform != "emscripten"
    and bool(_NO_FOLLOW)
    and os.scandir in os.supports_fd
    and {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd
)
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_numbers = itertools.count()
_token = os.urandom(4).hex()


def is_member(name: str) -> bool:
    """Tell whether a file of a store may have this name."""
    return re.fullmatch(_MEMBER, name) is not None


def named_blobs(text: str) -> set[str]:
    """Return the files beside it that the text of a recording names: bodies of answers, and uploads by their digest."""
    return {*BLOB.findall(text), *(f"blob-{digest}.bin" for digest in _DIGEST.findall(text))}


def open_regular(path: str, flags: int = os.O_RDONLY, *, shown: str = "", folder: int | None = None) -> int:
    """Return the descriptor of a regular file; raise `UnsafeRecordingError` for a link, a folder, a pipe or a device.

    `folder` is the descriptor of the folder that `path` is relative to; error messages then name `shown`.
    """
    try:
        if not _NO_FOLLOW and not (flags & os.O_CREAT and not os.path.lexists(path)):
            _require_regular(os.lstat(path).st_mode, shown or path)
        descriptor = os.open(path, flags | _SAFE, 0o666, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError:
        # Which error a link or a socket gives depends on the system.
        with contextlib.suppress(OSError):
            _require_regular(os.stat(path, dir_fd=folder, follow_symlinks=False).st_mode, shown or path)
        raise
    try:
        _require_regular(os.fstat(descriptor).st_mode, shown or path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_regular(path: str, size: int) -> bool:
    """Tell whether there is a regular file of this size, itself and not by a link."""
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_size == size
    return False


def create(path: str, *, folder: int | None = None) -> int:
    """Return the descriptor of a new file; raise `OSError` where there is one already, or a link."""
    return os.open(path, _CREATING, 0o666, dir_fd=folder)


@contextlib.contextmanager
def _replacement(temporary: str, name: str, folder: int | None = None) -> Iterator[BinaryIO]:
    """Open a new file, which gets its name when the block ends, or is removed where it fails."""
    descriptor = create(temporary, folder=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def temporary_name(name: str) -> str:
    """Return a name that nobody else uses, for a file that gets its own name when it is whole."""
    return f".{name}.{os.getpid()}.{_token}.{next(_numbers)}.tmp"


def _require_folder(path: str) -> None:
    """Raise `OSError` where a path is not a folder, and `UnsafeRecordingError` where it is a link to one."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        why = f"{path} is a symbolic link, and nothing is written or removed through it"
        raise UnsafeRecordingError(f"{why}. Remove the link")
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(20, "not a folder", path)


def _require_regular(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        copy = "Put a copy of the file in its place (git annex unlock, dvc unprotect)"
        remedy = copy if stat.S_ISLNK(mode) else "Move it away"
        raise UnsafeRecordingError(f"{path} is {kind}, and only regular files are read. {remedy}")


class Folder:
    """An open folder; its entries are reached from it, and links among them are not followed.

    Every method raises `OSError`; `read` and `folder` raise `UnsafeRecordingError` for a link.
    """

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path, self._descriptor = path, descriptor

    def _at(self, name: str) -> str:
        return name if self._descriptor is not None else os.path.join(self.path, name)

    def entries(self) -> dict[str, os.stat_result]:
        """Return the state of each entry by its name; of a link, not of what it leads to."""
        states = {}
        with os.scandir(self.path if self._descriptor is None else self._descriptor) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    states[entry.name] = entry.stat(follow_symlinks=False)
        return states

    def names(self) -> list[str]:
        """Return the names of its entries."""
        return os.listdir(self.path if self._descriptor is None else self._descriptor)

    def versions(self, names: Iterable[str]) -> dict[str, FileStat]:
        """Return the `file_stat` of each of these entries that is there, by name; of a link, not of its target."""
        prefix, folder = "" if self._descriptor is not None else os.path.join(self.path, ""), self._descriptor
        found = {}
        for name in names:
            try:
                found[name] = file_stat(os.stat(prefix + name, dir_fd=folder, follow_symlinks=False))
            except FileNotFoundError:
                continue
        return found

    def read(self, name: str) -> BinaryIO:
        """Open a regular file to read it."""
        shown = os.path.join(self.path, name)
        return os.fdopen(open_regular(self._at(name), shown=shown, folder=self._descriptor), "rb")

    def write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a new file, which replaces the one called `name` when the block ends, or is removed where it fails."""
        return _replacement(self._at(temporary_name(name)), self._at(name), self._descriptor)

    def remove(self, name: str) -> None:
        """Remove a file; of a link, not what it leads to."""
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def folder(self, name: str, *, make: bool = False) -> Folder:
        """Open a folder in it, made where it is missing and `make` is true."""
        path = os.path.join(self.path, name)
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._at(name), dir_fd=self._descriptor)
        _require_folder(path)
        return Folder(path, os.open(name, _FOLDER | _NO_FOLLOW, dir_fd=self._descriptor) if _RELATIVE else None)

    def close(self) -> None:
        """Close its descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)


@contextlib.contextmanager
def open_folder(path: str | os.PathLike[str], *names: str, make: bool = False) -> Iterator[Folder]:
    """Open a folder that a user has named, which may be a link, or one that `names` lead down to from there.

    Raise `OSError`, or `UnsafeRecordingError` for a link on the way down. `make` makes what is missing on it.
    """
    with contextlib.ExitStack() as stack:
        folder = Folder(os.fspath(path), os.open(path, _FOLDER) if _RELATIVE else None)
        stack.enter_context(contextlib.closing(folder))
        for name in names:
            folder = stack.enter_context(contextlib.closing(folder.folder(name, make=make)))
        yield folder


def read_head(path: str) -> str:
    """Return the text of a recording up to the beginning of its takes; all of it if they are not found."""
    descriptor = open_regular(path)
    try:
        data, end, size = bytearray(), -1, _HEAD
        while end < 0 and (more := os.read(descriptor, size)):
            start = max(0, len(data) - len(_TAKES))
            data += more
            end, size = data.find(_TAKES, start), 2 * size
        return (data[: end + len(_TAKES)] if end >= 0 else data).decode("utf-8")
    finally:
        os.close(descriptor)


def read_file(path: str) -> tuple[bytes, Version]:
    """Return the content of a regular file, and its version; raise `UnsafeRecordingError` for any other."""
    descriptor = open_regular(path)
    try:
        data = os.read(descriptor, _SMALL)
        if len(data) < _SMALL:  # the end of the file: a regular file gives as much as it has
            return data, data
        # Of the open file: another may have taken its place since the path was looked at.
        status, pieces = os.fstat(descriptor), [data]
        while more := os.read(descriptor, _LARGE_PIECE):
            pieces.append(more)
        return b"".join(pieces), file_stat(status)
    finally:
        os.close(descriptor)


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
        _require_folder(self._private)  # it was a folder when this began, and may have been replaced
        return os.path.join(self._private, temporary_name(name))

    def replace(self, name: str, data: bytes) -> Version:
        """Put `data` into the file `name`, at once for every reader; return its version."""
        path = self._root + name
        with _replacement(self.temporary(name), path) as file:
            file.write(data)
            file.flush()
            if self._durable:
                os.fsync(file.fileno())
            written = file_stat(os.fstat(file.fileno()))
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
        self.renew()

    def renew(self) -> None:
        """Forget the threads that hold it."""
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
        if sys.platform == "emscripten":  # Pyodide has only one process
            yield
            return
        while True:
            try:
                _require_folder(self._private)
            except FileNotFoundError:
                os.makedirs(self._private, exist_ok=True)
                continue
            with os.fdopen(open_regular(self._path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0) as file:
                unlock = _lock_file(file.fileno())
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
                        unlock(file.fileno())


def _lock_file(descriptor: int) -> Callable[[int], None]:
    """Lock an open file among processes, and return the function that unlocks it."""
    try:
        from filelock import lock_descriptor, unlock_descriptor
    except ImportError:  # Colab may have one before 3.30, which has no function for what it does; Windows requires 3.30
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return lambda locked: fcntl.flock(locked, fcntl.LOCK_UN)
    lock_descriptor(descriptor, poll_interval=0.002)
    return unlock_descriptor


_locks: dict[str, _Lock] = {}


def _renew_locks() -> None:
    """Give up what threads hold that are not in a forked process."""
    for lock in _locks.values():
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


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
