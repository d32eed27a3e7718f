"""A disk that fails: the n-th system call on a file below a folder, and those after it where the fault lasts."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest

__all__ = ["ERRORS", "Disk"]

ERRORS = ("ENOSPC", "EIO", "EINTR", "EROFS", "short")
"""What a call does instead; "short" writes fewer bytes than it is given, which is not an error."""

_BY_PATH = ("open", "unlink", "rmdir", "mkdir", "stat", "lstat", "scandir", "listdir", "utime", "replace", "rename")
_BY_DESCRIPTOR = ("write", "read", "fsync", "fstat", "fchmod", "close")


class _Raw(io.RawIOBase):
    """An open file all of whose calls are those of `os`, which io's own are not."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        if not self.closed:
            try:
                os.close(self._descriptor)
            finally:
                super().close()


class Disk:
    """Counts the system calls on files below a folder, and has some of them fail.

    Attributes
    ----------
    calls : list of str
        The names of the calls since `failing` began, those that failed marked with ``!``.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = os.path.abspath(root)
        self.calls: list[str] = []
        self._paths: dict[int, str] = {}
        self._armed: tuple[int, str, bool] | None = None
        monkeypatch.setattr(os, "fsync", lambda _: None)  # which takes longest, and does nothing that is seen here
        for name in (*_BY_PATH, *_BY_DESCRIPTOR):
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        monkeypatch.setattr(os, "fdopen", self._fdopen)
        for name in ("lock_descriptor", "unlock_descriptor"):
            monkeypatch.setattr(filelock, name, self._wrapped(name, getattr(filelock, name)))

    @contextmanager
    def failing(self, number: int, error: str, *, lasts: bool = False) -> Iterator[None]:
        """Have one call fail in the block, from 0, and those after it where the fault lasts."""
        self.calls.clear()
        self._armed = number, error, lasts
        try:
            yield
        finally:
            self._armed = None

    @property
    def failed(self) -> bool:
        """Whether a call has failed."""
        return any(call.endswith("!") for call in self.calls)

    def _below(self, name: str, given: tuple[Any, ...], more: dict[str, Any]) -> bool:
        if name in _BY_PATH and not isinstance(given[0] if given else ".", int):
            folder = next((more[key] for key in ("dir_fd", "src_dir_fd") if more.get(key) is not None), None)
            path = os.fspath(given[0]) if given else "."
            path = os.path.join(self._paths.get(folder, ""), path) if folder is not None else os.path.abspath(path)
        else:
            path = self._paths.get(given[0], "")
        return path == self.root or path.startswith(self.root + os.sep)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if self._armed is None:
                return real(*given, **more) if name != "open" else self._opened(real, given, more)
            number, error, lasts = self._armed
            if not self._below(name, given, more) or (error == "short" and name != "write"):
                return real(*given, **more) if name != "open" else self._opened(real, given, more)
            place = len(self.calls)
            fails = place >= number if lasts else place == number
            self.calls.append(name + "!" * fails)
            if not fails:
                return real(*given, **more) if name != "open" else self._opened(real, given, more)
            if error == "short":
                return real(given[0], memoryview(given[1])[: max(1, len(given[1]) // 2)])
            if name == "close":
                real(*given)  # which is closed all the same
            code = getattr(errno, error)
            raise OSError(code, os.strerror(code), *(given[:1] if name in _BY_PATH else ()))

        return call

    def _opened(self, real: Callable[..., int], given: tuple[Any, ...], more: dict[str, Any]) -> int:
        descriptor = real(*given, **more)
        folder = more.get("dir_fd")
        path = os.fspath(given[0])
        self._paths[descriptor] = (
            os.path.join(self._paths.get(folder, ""), path) if folder is not None else os.path.abspath(path)
        )
        return descriptor

    def _fdopen(self, descriptor: int, mode: str = "r", buffering: int = -1, encoding: str | None = None) -> Any:
        raw = _Raw(descriptor)
        if buffering == 0:
            return raw
        made: Any = io.BufferedWriter(raw) if "w" in mode else io.BufferedReader(raw)
        return made if "b" in mode else io.TextIOWrapper(made, encoding=encoding)
