"""Frames as dask frames: over the files of a store, so many at a time, or over a Parquet dataset. Needs dask."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import columns, parquet
from nbreplay.analysis.dataset import Dataset, is_dataset, parts, table_of
from nbreplay.analysis.frames import frame
from nbreplay.analysis.library import Library, refused
from nbreplay.analysis.links import fact, tool_calls
from nbreplay.analysis.rows import Told
from nbreplay.analysis.sources import own_store, read_store
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError

__all__ = ["DaskLibrary"]

FILES = 2000
"""How many recordings are a partition."""


class DaskLibrary:
    """The four frames as dask frames; ``nbreplay.load(..., engine="dask")`` makes it.

    Their rows are those of the pandas frames, in the same order. A file that cannot be read is an error when it is
    computed, or left out and told of in `unread` where `load` was told ``strict=False``.
    """

    def __init__(self, source: Any, *, strict: bool = True) -> None:
        try:
            import dask.dataframe as dd
        except ImportError:
            raise OptionError("engine=\"dask\" needs dask: pip install 'nbreplay[dask]'") from None
        self._dd, self._strict = dd, strict
        self._dataset = Dataset(source) if is_dataset(source) else None
        store = None if self._dataset is not None else own_store(source)
        if self._dataset is None and store is None:
            raise OptionError(
                'engine="dask" reads one store, or one export to parquet: export what else there is first'
            )
        names = [] if store is None else sorted(store.names())
        self._batches = [names[at : at + FILES] for at in range(0, len(names), FILES)]
        self._path = "" if store is None else store.identity
        self._name = "" if store is None else store.name

    @cached_property
    def interactions(self) -> Any:
        """As `Library.interactions`."""
        return self._made("interactions")

    @cached_property
    def messages(self) -> Any:
        """As `Library.messages`."""
        return self._made("messages")

    @cached_property
    def chunks(self) -> Any:
        """As `Library.chunks`."""
        return self._made("chunks")

    @cached_property
    def tool_calls(self) -> Any:
        """As `Library.tool_calls`; calls and results are of any files, so it is one partition."""
        if self._dataset is not None:
            return self._made("tool_calls")
        from dask import delayed

        facts = [delayed(_facts)(self._name, names, self._strict) for names in self._batches]
        made = delayed(_linked)(facts)
        return self._dd.from_delayed([made], meta=_empty("tool_calls", False), verify_meta=False)

    @cached_property
    def unread(self) -> Any:
        """As `Library.unread`."""
        batches = self._batches or [[]]
        return self._dd.from_map(_unread, [(self._name, names) for names in batches], meta=frame(columns.UNREAD, ()))

    def _made(self, name: str) -> Any:
        served = self._dataset is not None and self._dataset.served
        given: list[Any]
        if self._dataset is not None:
            given = [(str(path), served) for path in parts(self._dataset.path, name)]
            return self._dd.from_map(_part, given, name=name, meta=_empty(name, served))
        given = [(self._name, names) for names in self._batches]
        return self._dd.from_map(_batch, given, name=name, strict=self._strict, meta=_empty(name, served))


def _declared(name: str, served: bool) -> Sequence[columns.Column]:
    declared: Sequence[columns.Column] = columns.FRAMES[name]
    return (*declared, *columns.SERVED) if served and name == "interactions" else declared


def _empty(name: str, served: bool) -> pd.DataFrame:
    from dask.dataframe.utils import clear_known_categories

    made = frame(_declared(name, served), (), index="interaction" if name == "interactions" else None)
    return clear_known_categories(made)


def _read(path: str, names: Sequence[str], strict: bool) -> Any:
    found, troubles = read_store(Store(path), names)
    own = {str(Path(path) / name) for name in names}
    # What is no recording at all is seen by every batch.
    troubles = [trouble for trouble in troubles if trouble.file in own]
    if strict and troubles:
        raise refused(troubles)
    return found, troubles


def _batch(given: tuple[str, Sequence[str]], name: str, strict: bool) -> pd.DataFrame:
    found, _ = _read(*given, strict)
    made = getattr(Library(found), name)
    made.attrs.clear()
    return made


def _part(given: tuple[str, bool], name: str) -> pd.DataFrame:
    path, served = given
    declared = _declared(name, served)
    table = table_of(Path(path), declared).sort_by("row")
    return parquet.from_table(table, declared, index="interaction" if name == "interactions" else None)


def _facts(path: str, names: Sequence[str], strict: bool) -> list[Any]:
    found, _ = _read(path, names, strict)
    return [fact(Told(row)) for row in found]


def _linked(batches: Sequence[Sequence[Any]]) -> pd.DataFrame:
    facts = [one for batch in batches for one in batch]
    groups = tool_calls(facts)
    rows = [(one.interaction, *row) for one, group in zip(facts, groups, strict=True) if one for row in group]
    made = frame(columns.TOOL_CALLS, rows)
    there = made.interaction.astype(object)
    return made.assign(
        interaction=pd.Categorical(
            there, categories=pd.Index(there.unique(), dtype=made.interaction.cat.categories.dtype)
        )
    )


def _unread(given: tuple[str, Sequence[str]]) -> pd.DataFrame:
    return frame(columns.UNREAD, _read(*given, False)[1])
