"""Frames as Arrow tables and Parquet files, and back with the declared types. Needs pyarrow, and says so."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import Column
from nbreplay.core.store.folder import Folder
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["arrow", "from_table", "is_available", "read", "to_table", "write"]

_MARK = b"nbreplay"
_KINDS = {"string": pd.StringDtype, "Int64": pd.Int64Dtype, "Float64": pd.Float64Dtype, "boolean": pd.BooleanDtype}


def is_available() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def arrow() -> ModuleType:
    """Return pyarrow, with its Parquet.

    Raises
    ------
    OptionError
        Where it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise OptionError("Parquet needs pyarrow: pip install 'nbreplay[parquet]'") from None
    return importlib.import_module("pyarrow")


def to_table(frame: pd.DataFrame, declared: Sequence[Column]) -> pyarrow.Table:
    """Return the declared columns of a frame, its index included, as an Arrow table."""
    pa = arrow()
    flat = frame.reset_index() if frame.index.name is not None else frame
    return pa.table({column.name: pa.Array.from_pandas(flat[column.name].array) for column in declared})


def from_table(table: pyarrow.Table, declared: Sequence[Column], *, index: str | None = None) -> pd.DataFrame:
    """Return a frame with the declared columns and types.

    Parameters
    ----------
    table : pyarrow.Table
    declared : sequence of Column
    index : str, optional
        The column that is the index.
    """
    # Interactions are in the order in which they come, other categories in that of the alphabet.
    data = {
        column.name: _array(table.column(column.name), column.dtype, is_sorted=column.name != "interaction")
        for column in declared
    }
    frame = pd.DataFrame(data, copy=False)
    return frame if index is None else frame.set_index(index)


def _array(values: Any, dtype: str, *, is_sorted: bool) -> Any:
    pa = arrow()
    if dtype == "category":
        return _categorical(values, is_sorted=is_sorted)
    if dtype == "datetime":
        stamps = values.cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).combine_chunks()
        plain = stamps.fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
        return pd.DatetimeIndex(plain.astype("datetime64[ms]")).tz_localize("UTC")
    if dtype == "string":
        values = values.cast(pa.large_string())
        return pd.StringDtype("pyarrow").__from_arrow__(values)
    wanted = {"Int64": pa.int64(), "Float64": pa.float64(), "boolean": pa.bool_()}[dtype]
    return _KINDS[dtype]().__from_arrow__(values.cast(wanted))


def _categorical(values: Any, *, is_sorted: bool) -> pd.Categorical:
    pa = arrow()
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    whole = values.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # older pyarrow, of no chunks
        whole = whole.chunk(0) if whole.num_chunks else pa.array([], pa.string()).dictionary_encode()
    known = whole.dictionary.cast(pa.large_string())
    codes = whole.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    there, first = np.unique(codes[codes >= 0], return_index=True)
    names = known.take(pa.array(there))
    order = np.argsort(first, kind="stable")
    if is_sorted:
        order = pc.array_sort_indices(names).to_numpy()
    rank = np.full(len(known) + 1, -1, dtype=np.int64)
    rank[there[order]] = np.arange(len(there))
    return pd.Categorical.from_codes(rank[codes], categories=_strings(names.take(pa.array(order))))


def _strings(values: Any) -> pd.Index:
    pa = arrow()
    return pd.Index(pd.StringDtype("pyarrow").__from_arrow__(pa.chunked_array([values.cast(pa.large_string())])))


def write(table: pyarrow.Table, folder: Folder, name: str, *, mark: str = "") -> None:
    """Write a table to a file in a folder, whole or not at all; `read` may ask for its mark.

    Raises
    ------
    OSError
    """
    # A path given to Arrow may be a URI, and must be UTF-8.
    with folder.write(name) as file:
        arrow().parquet.write_table(table.replace_schema_metadata({_MARK: mark}), file, compression="zstd")


def read(folder: Folder, name: str, *, mark: str | None = None) -> pyarrow.Table:
    """Return the table in a file of a folder.

    Raises
    ------
    OSError
        Also where the file is not Parquet, or has another mark.
    UnsafeRecordingError
        Where it is not a regular file.
    """
    pa, path = arrow(), os.path.join(folder.path, name)
    try:
        with folder.read(name) as file:
            whole = pa.parquet.ParquetFile(file)
            if mark is not None and (whole.schema_arrow.metadata or {}).get(_MARK) != mark.encode():
                raise OSError(f"{path} has another mark")
            return whole.read()
    except pa.ArrowException as error:
        raise OSError(f"{path} cannot be read: {error}") from error
