"""Recordings that nothing asks for: which they are, and removing them with what lies beside them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable

from nbreplay.core.store.files import Writer, content, failed_path
from nbreplay.core.store.store import Store
from nbreplay.errors import StoreError, UnsafeRecordingError

__all__ = ["remove", "unused"]

_BESIDE = re.compile(r"blob-[0-9a-f]{32}\.bin")


def unused(store: Store, used: Collection[str]) -> list[str]:
    """Return the names of recordings that are not among those that were used, sorted.

    Raises
    ------
    StoreError
        Where the store cannot be read.
    """
    return sorted(set(store.names()).difference(used))


def remove(store: Store, names: Iterable[str]) -> list[str]:
    """Remove recordings, and bodies beside them that no other recording names; return what was removed, sorted.

    Raises
    ------
    StoreError
        Where a file cannot be removed, or read.
    UnsafeRecordingError
        Where the store, or a file in it that is to be removed or read, is a link.
    """
    removed = []
    try:
        if store.path.is_symlink():
            raise UnsafeRecordingError(
                f"{store.path} is a symbolic link, and nothing is removed through it. "
                f"Name the folder that it leads to: {os.path.realpath(store.path)}"
            )
        with Writer(store.identity, durable=False).exclusive():
            beside = set[str]()
            for name in names:
                path = os.path.join(store.path, name)
                with contextlib.suppress(FileNotFoundError):
                    beside |= _named(path)
                    os.unlink(path)
                    removed.append(name)
            if beside:
                for name in store.names():
                    beside -= _named(os.path.join(store.path, name))
            for name in beside:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(store.path, name))
                    removed.append(name)
    except OSError as error:
        why = f"{error.strerror or error}. Make it writable, and trim again"
        raise StoreError(f"{failed_path(store.path, error)} cannot be removed: {why}") from error
    return sorted(removed)


def _named(path: str) -> set[str]:
    """Return the files that a recording names. Read as text: one that cannot be parsed names them, too."""
    return set(_BESIDE.findall(content(path)[0].decode("utf-8", "replace")))
