"""Library: recordings, or what a session did, as pandas frames that are built when first asked for.

Reading is eager, so that what cannot be read is known at once; folding and building are not.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import columns, parquet, rows
from nbreplay.analysis.dataset import Dataset, is_dataset, write
from nbreplay.analysis.frame_cache import Keeping
from nbreplay.analysis.frames import frame, repeated
from nbreplay.analysis.links import fact, tool_calls
from nbreplay.analysis.metrics import linked
from nbreplay.analysis.sources import Row, Source, Trouble, own_store, read
from nbreplay.core.session import Session
from nbreplay.errors import OptionError, RecordingFormatError, StoreError

__all__ = ["Library", "load", "refused"]


def load(source: Source | Sequence[Source], *, strict: bool = True, cache: bool = True, engine: str = "pandas") -> Any:
    """Read recordings, or what a session has done, as pandas frames.

    Parameters
    ----------
    source : path, Store, Session, or a list of those
        A folder that is a store, a ``.zip`` of one or the https address of that; or a folder that holds llama-stack's
        recordings or VCR cassettes, or one that ``nbreplay export --format parquet`` wrote. Of a session, a row a call.
    strict : bool
        Whether a file that cannot be read is an error. If not, `Library.unread` tells of it.
    cache : bool
        Whether the frames of a store are kept beside it, where pyarrow is installed, so that only files that have
        changed are read the next time. They are in its folder ``.nbreplay/frames``, and may be deleted.
    engine : {"pandas", "dask"}
        With dask, which is an extra, the frames are dask frames, of one store or one export.

    Returns
    -------
    Library or DaskLibrary

    Raises
    ------
    RecordingFormatError
        Where `strict` and there is a file that cannot be read; it names up to ten.
    StoreError
        Where there is nothing of that name.
    OptionError
        For what is no source.

    Examples
    --------
    >>> lib = nbreplay.load("recordings")
    >>> lib.interactions.groupby("model").output_tokens.sum()
    """
    if engine not in ("pandas", "dask"):
        raise OptionError(f'the engine is "pandas" or "dask", not {engine!r}')
    if engine == "dask":
        from nbreplay.analysis.dask_frames import DaskLibrary

        return DaskLibrary(source, strict=strict)
    if is_dataset(source):
        return Library([], dataset=Dataset(source))  # type: ignore[arg-type]
    with _uncollected():
        store = own_store(source) if cache and parquet.available() else None
        keeping = None if store is None else Keeping(store)
        if keeping is not None:
            found, troubles = list[Row](), keeping.troubles
        else:
            found, troubles = read(source)  # type: ignore[arg-type]
    if strict and troubles:
        raise refused(troubles)
    given = source if isinstance(source, list | tuple) else [source]
    if keeping is not None:
        return Library(found, troubles, keeping=keeping)
    return Library(found, troubles, served=any(isinstance(one, Session) for one in given))


def refused(troubles: Sequence[Trouble]) -> RecordingFormatError:
    """Return the error that names the files that cannot be read, up to ten of them."""
    files = len({trouble.file for trouble in troubles})
    head = f"{files} files cannot be read as they are" if files > 1 else "a file cannot be read as it is"
    listed = [f"- {trouble.reason}" for trouble in troubles[:10]]
    more = [f"- and {len(troubles) - 10} more"] if len(troubles) > 10 else []
    hint = "To go on with the others, say load(..., strict=False); .unread tells of these then"
    return RecordingFormatError("\n".join([f"{head}:", *listed, *more, hint]))


class Library:
    """Recordings as frames; `nbreplay.load` makes it.

    The columns are declared in `nbreplay.analysis.columns`. Times are seconds, absent where nobody recorded them.
    """

    def __init__(
        self,
        found: Sequence[Row],
        troubles: Sequence[Trouble] = (),
        *,
        served: bool = False,
        keeping: Keeping | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        self._told = [rows.Told(row) for row in found]
        self._keeping, self._dataset = keeping, dataset
        self._troubles = list(troubles)
        self._served = served

    def __repr__(self) -> str:
        unread = f", {len(self._troubles)} unread" if self._troubles else ""
        return f"Library({len(self)} interactions{unread})"

    def __len__(self) -> int:
        if self._dataset is not None:
            return self._dataset.count
        return len(self._told if self._keeping is None else self._keeping.interactions)

    def row(self, interaction: str) -> Row:
        """Return what the row of an interaction is made of.

        Raises
        ------
        OptionError
            Where frames were exported: they hold no answers.
        StoreError
            Where its file is there no longer.
        """
        if self._dataset is not None:
            raise OptionError("an export holds frames, and no answers to be shown: load the store it was made of")
        rows = self._keeping.found(interaction) if self._keeping is not None else (told.row for told in self._told)
        row = next((row for row in rows if row.interaction == interaction), None)
        if row is None:
            raise StoreError(f"{interaction} is no longer where it was loaded from: load it again")
        return row

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """A row a take; of a session, a row a call, with `outcome` and `served_s`. By `interaction`."""
        with _uncollected():
            if self._dataset is not None:
                made = self._dataset.frame("interactions")
            elif self._keeping is not None:
                made = self._keeping.frame()
            elif not self._served:
                made = frame(columns.INTERACTIONS, map(rows.interaction, self._told), index="interaction")
            else:
                served = ((*rows.interaction(told), told.row.outcome, told.row.served_s) for told in self._told)
                made = frame((*columns.INTERACTIONS, *columns.SERVED), served, index="interaction")
            return linked(made, self)

    @cached_property
    def messages(self) -> pd.DataFrame:
        """A row a message, of those that went in and of those that came out."""
        return self._many("messages", lambda told: list(rows.messages(told)))

    @cached_property
    def chunks(self) -> pd.DataFrame:
        """A row a chunk of a stream."""
        return self._many("chunks", lambda told: [] if told.row.take is None else list(rows.chunks(told.row.take)))

    @cached_property
    def tool_calls(self) -> pd.DataFrame:
        """A row a tool call that an answer asks for, with its result and where that comes from."""
        with _uncollected():
            if self._dataset is not None:
                return linked(self._dataset.frame("tool_calls"), self)
            if self._keeping is not None:
                return linked(self._keeping.tool_calls(), self)
            return self._built(columns.TOOL_CALLS, tool_calls([fact(told) for told in self._told]))

    @cached_property
    def unread(self) -> pd.DataFrame:
        """A row a file that could not be read, or not all of it, with the reason."""
        return frame(columns.UNREAD, self._troubles)

    def to_parquet(self, folder: str | os.PathLike[str]) -> None:
        """Write the frames as a partitioned Parquet dataset, which `load` reads; replaces one that is there.

        Raises
        ------
        OptionError
            Where pyarrow is not installed, or the folder has something else in it.
        StoreError
            Where it cannot be written.
        """
        write(self, folder)

    def _many(self, name: str, make: Callable[[rows.Told], Sequence[Sequence[Any]]]) -> pd.DataFrame:
        declared = columns.FRAMES[name]
        with _uncollected():
            if self._dataset is not None:
                return linked(self._dataset.frame(name), self)
            if self._keeping is not None:
                return linked(self._keeping.many(name, declared, make), self)
            return self._built(declared, [make(told) for told in self._told])

    def _built(self, declared: Sequence[columns.Column], groups: Sequence[Sequence[Any]]) -> pd.DataFrame:
        first = repeated([told.row.interaction for told in self._told], [len(group) for group in groups])
        return linked(frame(declared, (row for group in groups for row in group), first=first), self)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the collector of cycles back: it would walk through all that is being read, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                # What was read stays: it goes to the old ones at once, and is not walked through on the way.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
