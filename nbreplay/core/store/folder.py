"""Files and folders that a stranger may have prepared: only regular files are read, and no link is written through.

A clone carries symbolic links, and a folder may hold pipes and devices. Where the system allows it, a folder is opened
once and its entries are reached from it, so that nobody can put a link in its way meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO

from nbreplay.errors import UnsafeRecordingError

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


def temporary_name(name: str) -> str:
    """Return a name that nobody else uses, for a file that gets its own name when it is whole."""
    return f".{name}.{os.getpid()}.{_token}.{next(_numbers)}.tmp"


def require_folder(path: str, mode: int | None = None) -> None:
    """Raise `OSError` where a path is not a folder, and `UnsafeRecordingError` where it is a link to one.

    `mode` is that of its entry, where it is known.
    """
    mode = os.lstat(path).st_mode if mode is None else mode
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

    def read(self, name: str) -> BinaryIO:
        """Open a regular file to read it."""
        shown = os.path.join(self.path, name)
        return os.fdopen(open_regular(self._at(name), shown=shown, folder=self._descriptor), "rb")

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file, which replaces the one called `name` when the block ends, or is removed where it fails."""
        temporary = temporary_name(name)
        descriptor = create(self._at(temporary), folder=self._descriptor)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
            os.replace(self._at(temporary), self._at(name), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                self.remove(temporary)
            raise

    def remove(self, name: str) -> None:
        """Remove a file; of a link, not what it leads to."""
        os.unlink(self._at(name), dir_fd=self._descriptor)

    def folder(self, name: str, *, make: bool = False) -> Folder:
        """Open a folder in it, made where it is missing and `make` is true."""
        path = os.path.join(self.path, name)
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._at(name), dir_fd=self._descriptor)
        require_folder(path, os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False).st_mode)
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
