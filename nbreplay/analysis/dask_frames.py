"""Frames as dask frames: over the files of a store, a batch at a time, or over a Parquet dataset. Needs dask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import TOOL_CALLS, UNREAD
from nbreplay.analysis.costs import with_costs
from nbreplay.analysis.dataset import Dataset, is_dataset, part_files, read_part
from nbreplay.analysis.frames import RowFrames, declared_columns, frame_of, index_of
from nbreplay.analysis.rows import Row, tool_calls
from nbreplay.analysis.sources import Trouble, other_files, own_store, read_store, unreadable
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError
from nbreplay.providers.tool_links import Fact

if TYPE_CHECKING:
    import dask.dataframe

FILES = 2000
"""How many recordings are a partition."""


class DaskLibrary:
    """The four frames as dask frames; ``nbreplay.load(..., engine="dask")`` makes it.

    Their rows are those of the pandas frames, in the same order. A file that cannot be read is an error when a frame is
    computed, and one that is not called as recordings are is an error at once; with ``strict=False`` they are left out
    and listed in `unread`.
    """

    def __init__(self, source: Any, *, strict: bool = True) -> None:
        try:
            import dask.dataframe as dd
        except ImportError:
            raise OptionError("engine=\"dask\" needs dask: pip install 'nbreplay[dask]'") from None
        self._dd = dd
        self._dataset = Dataset(source) if is_dataset(source) else None
        store = None if self._dataset is not None else own_store(source)
        if self._dataset is None and store is None:
            raise OptionError('engine="dask" reads one store, or one export to parquet. Export other sources first')
        self._others = [] if store is None else other_files(store)
        if strict and self._others:
            raise unreadable(self._others)
        names = [] if store is None else sorted(store.names())
        self._batches = [
            _Batch(store.name, tuple(names[at : at + FILES]), strict) for at in range(0, len(names), FILES) if store
        ]

    @cached_property
    def interactions(self) -> dask.dataframe.DataFrame:
        """As `Library.interactions`."""
        return self._frame("interactions")

    @cached_property
    def messages(self) -> dask.dataframe.DataFrame:
        """As `Library.messages`."""
        return self._frame("messages")

    @cached_property
    def chunks(self) -> dask.dataframe.DataFrame:
        """As `Library.chunks`."""
        return self._frame("chunks")

    @cached_property
    def tool_calls(self) -> dask.dataframe.DataFrame:
        """As `Library.tool_calls`; a call and its result may be in any two files, so it is one partition."""
        if self._dataset is not None:
            return self._frame("tool_calls")
        from dask import delayed

        facts = [delayed(_facts)(batch) for batch in self._batches]
        return self._dd.from_delayed([delayed(_tool_call_frame)(facts)], meta=_empty("tool_calls"), verify_meta=False)

    @cached_property
    def unread(self) -> dask.dataframe.DataFrame:
        """As `Library.unread`."""
        empty = frame_of(UNREAD, ())
        if self._dataset is not None:
            return self._dd.from_pandas(empty, npartitions=1)
        parts = [(batch, ()) for batch in self._batches] + [(None, self._others)]
        return self._dd.from_map(_unread, *zip(*parts, strict=True), meta=empty)

    def _frame(self, name: str) -> dask.dataframe.DataFrame:
        if self._dataset is None:
            return self._dd.from_map(_batch_frame, self._batches, name=name, meta=_empty(name))
        served = self._dataset.served
        paths = part_files(self._dataset.path, name)
        return self._dd.from_map(_part_frame, paths, name=name, served=served, meta=_empty(name, served))


class _Batch(NamedTuple):
    """Some recordings of a store."""

    store: str
    names: tuple[str, ...]
    strict: bool

    def read(self) -> tuple[list[Row], list[Trouble]]:
        rows, troubles = read_store(Store(self.store), self.names)
        if self.strict and troubles:
            raise unreadable(troubles)
        return rows, troubles


def _empty(name: str, served: bool = False) -> pd.DataFrame:
    from dask.dataframe.utils import clear_known_categories

    frame = frame_of(declared_columns(name, served), (), index_of(name))
    return clear_known_categories(with_costs(name, frame))


def _batch_frame(batch: _Batch, name: str) -> pd.DataFrame:
    return with_costs(name, RowFrames(batch.read()[0]).frame(name))


def _part_frame(path: Path, name: str, served: bool) -> pd.DataFrame:
    declared = declared_columns(name, served)
    frame = parquet.from_table(read_part(path, declared).sort_by("row"), declared, index=index_of(name))
    return with_costs(name, frame)


def _facts(batch: _Batch) -> list[Fact | None]:
    return [row.fact for row in batch.read()[0]]


def _tool_call_frame(batches: Sequence[Sequence[Fact | None]]) -> pd.DataFrame:
    return frame_of(TOOL_CALLS, tool_calls([fact for batch in batches for fact in batch]))


def _unread(batch: _Batch | None, others: Sequence[Trouble]) -> pd.DataFrame:
    return frame_of(UNREAD, others if batch is None else batch._replace(strict=False).read()[1])
