"""Frames of polars and relations of duckdb over Parquet files, which are those of the cache of a store, or an export.

Nothing is in memory but what a query reads. Needs polars or duckdb, and pyarrow.
"""

from __future__ import annotations

import importlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Generic, TypeVar

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import UNREAD, Column
from nbreplay.analysis.dataset import Dataset, is_dataset, part_files
from nbreplay.analysis.frame_cache import CachedFrames
from nbreplay.analysis.frames import declared_columns
from nbreplay.analysis.sources import Trouble, own_store, pause_gc, unreadable
from nbreplay.core.store.store import Store
from nbreplay.core.words import count_of
from nbreplay.errors import OptionError, StoreError

if TYPE_CHECKING:
    import duckdb
    import polars
    import pyarrow

Frame = TypeVar("Frame")


class LazyLibrary(ABC, Generic[Frame]):
    """The four frames over Parquet files; the library of each engine says what a frame is.

    Their rows and columns are those of the pandas frames, in the same order; categories are texts, and ``interaction``
    is a column. Estimates of costs, which depend on prices, are not among them. They are of the time of `load`: load
    again after the store has changed.

    Attributes
    ----------
    name : str
        The path that it was loaded from, as it was given.
    """

    _engine = ""

    def __init__(self, source: object, *, strict: bool = True, cache: bool = True) -> None:
        self._module = _import_engine(self._engine)
        self.name = str(source.shown if isinstance(source, Store) else source)
        self._dataset = Dataset(source) if is_dataset(source) else None
        self._frames: CachedFrames | None = None
        self._troubles: Sequence[Trouble] = ()
        if self._dataset is None:
            store = own_store(source)
            if store is None:
                if isinstance(source, str | os.PathLike) and not os.path.exists(os.path.expanduser(source)):
                    raise StoreError(f"{source} does not exist. Name the folder that holds the recordings")
                what = f'engine="{self._engine}" reads one store, or one export to parquet'
                raise OptionError(f"{what}. Export other sources first")
            self._frames = CachedFrames(store, is_kept=cache)
            with pause_gc():
                self._frames.path("interactions")
            self._troubles = self._frames.troubles
            if strict and self._troubles:
                raise unreadable(self._troubles)

    def __repr__(self) -> str:
        unread = f", {len(self._troubles)} unread" if self._troubles else ""
        return f"{type(self).__name__}({self.name!r}, {count_of(len(self), 'interaction')}{unread})"

    def __len__(self) -> int:
        return parquet.count_rows(self._paths("interactions"))

    @cached_property
    def interactions(self) -> Frame:
        """As `Library.interactions`."""
        return self._frame("interactions")

    @cached_property
    def messages(self) -> Frame:
        """As `Library.messages`."""
        return self._frame("messages")

    @cached_property
    def chunks(self) -> Frame:
        """As `Library.chunks`."""
        return self._frame("chunks")

    @cached_property
    def tool_calls(self) -> Frame:
        """As `Library.tool_calls`."""
        return self._frame("tool_calls")

    @cached_property
    def unread(self) -> Frame:
        """As `Library.unread`."""
        return self._from_table(parquet.table_of(UNREAD, self._troubles))

    def _frame(self, name: str) -> Frame:
        if self._frames is not None:
            return self._scan(self._paths(name), declared_columns(name), self._frames.root, "")
        served = self._dataset is not None and self._dataset.served
        return self._scan(self._paths(name), declared_columns(name, served), "", "row")

    def _paths(self, name: str) -> list[str]:
        if self._dataset is not None:
            served = self._dataset.served
            paths = part_files(self._dataset.path, name)
            return [parquet.require_columns(path, declared_columns(name, served)) for path in paths]
        with pause_gc():
            return [self._frames.path(name)] if self._frames is not None else []

    @abstractmethod
    def _scan(self, paths: list[str], columns: Sequence[Column], root: str, order: str) -> Frame:
        """Return the frame in files, ordered by the column `order`, with `root` before each text of ``file``."""

    @abstractmethod
    def _from_table(self, table: pyarrow.Table) -> Frame:
        """Return an Arrow table as a frame."""


class PolarsLibrary(LazyLibrary["polars.LazyFrame"]):
    """The four frames as lazy frames of polars; ``nbreplay.load(..., engine="polars")`` makes it.

    Examples
    --------
    >>> import nbreplay as nr
    >>> lib = nr.load("recordings", engine="polars")
    >>> tokens = lib.interactions.group_by("model").agg(pl.sum("output_tokens")).collect()
    """

    _engine = "polars"

    def _scan(self, paths: list[str], columns: Sequence[Column], root: str, order: str) -> polars.LazyFrame:
        pl = self._module
        frame = pl.scan_parquet(paths, glob=False, hive_partitioning=False)
        frame = frame.sort(order) if order else frame
        names = [column.name for column in columns]
        texts = [column.name for column in columns if column.dtype == "category"]
        frame = frame.select(names).with_columns(pl.col(texts).cast(pl.String))
        return frame.with_columns(file=pl.lit(root) + pl.col("file")) if root and "file" in names else frame

    def _from_table(self, table: pyarrow.Table) -> polars.LazyFrame:
        return self._module.from_arrow(table).lazy()


class DuckdbLibrary(LazyLibrary["duckdb.DuckDBPyRelation"]):
    """The four frames as relations of duckdb; ``nbreplay.load(..., engine="duckdb")`` makes it.

    They are of duckdb's default connection, so that ``duckdb.sql`` finds variables that hold them.

    Examples
    --------
    >>> import duckdb, nbreplay as nr
    >>> calls = nr.load("recordings", engine="duckdb").interactions
    >>> duckdb.sql("select model, sum(output_tokens) from calls group by model")
    """

    _engine = "duckdb"

    def _scan(self, paths: list[str], columns: Sequence[Column], root: str, order: str) -> duckdb.DuckDBPyRelation:
        # A path is a pattern to duckdb.
        patterns = [re.sub(r"([*?\[\]])", r"[\1]", path) for path in paths]
        relation = self._module.read_parquet(patterns, hive_partitioning=False)
        relation = relation.order(order) if order else relation
        names = [f'"{column.name}"' for column in columns]
        literal = root.replace("'", "''")
        return relation.project(
            ", ".join(f"'{literal}' || file AS file" if root and name == '"file"' else name for name in names)
        )

    def _from_table(self, table: pyarrow.Table) -> duckdb.DuckDBPyRelation:
        return self._module.from_arrow(table)


def _import_engine(name: str) -> ModuleType:
    try:
        parquet.arrow()
        return importlib.import_module(name)
    except (ImportError, OptionError):
        raise OptionError(f"engine=\"{name}\" needs {name} and pyarrow: pip install 'nbreplay[{name}]'") from None
