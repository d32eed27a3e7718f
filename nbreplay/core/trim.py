"""Recordings that nothing asks for: which they are, and removing them with what lies beside them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable

from nbreplay.core.files import Writer
from nbreplay.core.store import Store
from nbreplay.errors import StoreError

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
    """
    removed = []
    try:
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
        raise StoreError(f"{error.filename or store.path} cannot be removed: {error.strerror or error}") from error
    return sorted(removed)


def _named(path: str) -> set[str]:
    """Return the files that a recording names. Read as text: one that cannot be parsed names them, too."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return set(_BESIDE.findall(file.read()))
