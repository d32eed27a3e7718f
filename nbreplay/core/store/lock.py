"""The locks of a folder: one among the threads of this process, one among processes."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any

from nbreplay.core.store.folder import open_regular, require_folder

__all__ = ["FileLock", "thread_lock"]

_locks: dict[str, threading.RLock] = {}


def thread_lock(root: str) -> threading.RLock:
    """Return the one lock that a folder has in this process, whatever number of stores there are of it."""
    return _locks.setdefault(root, threading.RLock())


class FileLock:
    """The lock among processes, on a file that stays open: opening it for every write takes longer than writing.

    Parameters
    ----------
    private : str
        The private folder of a store, which the file is in.
    """

    def __init__(self, private: str) -> None:
        self._private, self._path = private, os.path.join(private, "lock")
        self._descriptor, self._process = -1, -1
        weakref.finalize(self, _close, self.__dict__)

    def acquire(self) -> None:
        """Wait until no other process has the lock.

        Raises
        ------
        OSError, UnsafeRecordingError
        """
        try:
            from filelock import lock_descriptor
        except ImportError:  # Pyodide, where there is no other process
            return
        while True:
            # A forked child would share its parent's lock; a file that was removed meanwhile would keep nobody out.
            if self._process != os.getpid():
                os.makedirs(self._private, exist_ok=True)
                require_folder(self._private)
                self._descriptor = open_regular(self._path, os.O_RDWR | os.O_CREAT)
                self._process = os.getpid()
            try:
                lock_descriptor(self._descriptor, poll_interval=0.002)
                if os.path.samestat(os.fstat(self._descriptor), os.lstat(self._path)):
                    return
            except FileNotFoundError:
                pass
            except BaseException:
                self._forget()
                raise
            self._forget()

    def release(self) -> None:
        """Let others have the lock."""
        try:
            from filelock import unlock_descriptor
        except ImportError:
            return
        try:
            unlock_descriptor(self._descriptor)
        except OSError:
            self._forget()

    def _forget(self) -> None:
        """Close the file, which unlocks it whatever has failed."""
        _close(self.__dict__)
        self._process = -1


def _close(state: dict[str, Any]) -> None:
    if state["_process"] == os.getpid():
        with contextlib.suppress(OSError):
            os.close(state["_descriptor"])
