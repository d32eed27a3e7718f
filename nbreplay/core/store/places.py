"""Where a store is: a folder, a ``.zip`` of one, or an address of that. Opening the latter two is `archive`'s.

Apart from it, for every session asks this, and few have a zip.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbreplay.core.store.archive import Archive

__all__ = ["archive_of", "is_archive", "is_url", "let_out_by", "way_out", "whole_url"]

_URL = re.compile(r"(https?):/{1,2}(?=[^/])", re.IGNORECASE)
_out: list[Callable[[str], AbstractContextManager[object]]] = [nullcontext]


def is_archive(store: object) -> bool:
    """Tell whether a store is named that is a ``.zip`` or an address, and no folder."""
    if not isinstance(store, str | os.PathLike):
        return False
    return is_url(store) or (os.fspath(store).lower().endswith(".zip") and not Path(store).expanduser().is_dir())


def archive_of(store: str | os.PathLike[str]) -> Archive | None:
    """Return the zip that a store is, opened; None where it is none.

    Raises
    ------
    StoreError
        Where it cannot be had, or is no zip of a store.
    """
    if not is_archive(store):
        return None
    from nbreplay.core.store.archive import opened

    return opened(store)


def is_url(store: object) -> bool:
    """Tell whether a store is named by an address."""
    return isinstance(store, str | os.PathLike) and _URL.match(os.fspath(store)) is not None


def whole_url(store: str | os.PathLike[str]) -> str:
    """Return an address as it was meant: a Path makes one slash of two."""
    return _URL.sub(lambda found: f"{found[1].lower()}://", os.fspath(store), count=1)


def let_out_by(permitted: Callable[[str], AbstractContextManager[object]]) -> None:
    """Have a zip fetched inside of ``permitted(host)``: a network guard is to let it through."""
    _out[:] = [permitted]


def way_out(host: str) -> AbstractContextManager[object]:
    """Return what a zip is fetched inside of."""
    return _out[0](host)
