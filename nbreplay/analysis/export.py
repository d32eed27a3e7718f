"""Export of a store's frames to Parquet, counted as other exports are."""

from __future__ import annotations

import os

from nbreplay.analysis.dataset import write
from nbreplay.analysis.library import load
from nbreplay.core.store.store import Store
from nbreplay.formats.importer import Counts

__all__ = ["export"]


def export(store: Store, folder: str | os.PathLike[str]) -> Counts:
    """Write the frames of a store as a partitioned dataset; what cannot be read is left out, and said.

    Raises
    ------
    OptionError, StoreError
        As for `nbreplay.analysis.dataset.write`.
    """
    library = load(store, strict=False)
    write(library, folder)
    frame = library.interactions
    return Counts(len(frame), 0, int(frame.key.nunique()), tuple(library.unread.reason))
