"""Frames as Arrow tables and Parquet files, and back with the declared types. Needs pyarrow, and says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import Column
from nbreplay.core.store.folder import Folder
from nbreplay.errors import OptionError

__all__ = ["arrow", "available", "from_table", "read", "to_table", "write"]

_KINDS = {"string": pd.StringDtype, "Int64": pd.Int64Dtype, "Float64": pd.Float64Dtype, "boolean": pd.BooleanDtype}


def available() -> bool:
    """Tell whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def arrow() -> Any:
    """Return pyarrow, with its Parquet.

    Raises
    ------
    OptionError
        Where it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise OptionError("Parquet needs pyarrow: pip install 'nbreplay[parquet]'") from None
    return pyarrow


def to_table(frame: pd.DataFrame, declared: Sequence[Column]) -> Any:
    """Return the declared columns of a frame, its index among them, as an Arrow table."""
    pa = arrow()
    flat = frame.reset_index() if frame.index.name is not None else frame
    return pa.table({column.name: pa.Array.from_pandas(flat[column.name].array) for column in declared})


def from_table(
    table: Any, declared: Sequence[Column], *, index: str | None = None, rows: tuple[Any, Any] | None = None
) -> pd.DataFrame:
    """Return a frame with the declared columns and types.

    Parameters
    ----------
    table : pyarrow.Table
    declared : sequence of Column
    index : str, optional
        The column that is the index.
    rows : (array, array), optional
        In place of the first column: for each row the number of its interaction, and the interactions.
    """
    data: dict[str, Any] = {}
    for column in declared:
        if column is declared[0] and rows is not None:
            numbers, names = rows
            there, codes = np.unique(numbers, return_inverse=True)
            data[column.name] = pd.Categorical.from_codes(codes, categories=_strings(names.take(there)))
        else:
            # Interactions are in the order in which they come, other categories in that of the alphabet.
            data[column.name] = _array(table.column(column.name), column.dtype, ordered=column.name != "interaction")
    made = pd.DataFrame(data, columns=[column.name for column in declared], copy=False)
    return made if index is None else made.set_index(index)


def _array(values: Any, dtype: str, *, ordered: bool) -> Any:
    pa = arrow()
    if dtype == "category":
        return _categorical(values, ordered=ordered)
    if dtype == "datetime":
        stamps = values.cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).combine_chunks()
        plain = stamps.fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
        return pd.DatetimeIndex(plain.astype("datetime64[ms]")).tz_localize("UTC")
    if dtype == "string":
        values = values.cast(pa.large_string())
        return pd.StringDtype("pyarrow").__from_arrow__(values)
    wanted = {"Int64": pa.int64(), "Float64": pa.float64(), "boolean": pa.bool_()}[dtype]
    return _KINDS[dtype]().__from_arrow__(values.cast(wanted))


def _categorical(values: Any, *, ordered: bool) -> pd.Categorical:
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
    if ordered:
        order = pc.array_sort_indices(names).to_numpy()
    rank = np.full(len(known) + 1, -1, dtype=np.int64)
    rank[there[order]] = np.arange(len(there))
    return pd.Categorical.from_codes(rank[codes], categories=_strings(names.take(pa.array(order))))


def _strings(values: Any) -> pd.Index:
    pa = arrow()
    return pd.Index(pd.StringDtype("pyarrow").__from_arrow__(pa.chunked_array([values.cast(pa.large_string())])))


def write(table: Any, folder: Folder, name: str) -> None:
    """Write a table to a file in a folder, whole or not at all.

    Raises
    ------
    OSError
    """
    # Opened here: a path of Arrow's may be a URI, and cannot be other than UTF-8.
    with folder.write(name) as file:
        arrow().parquet.write_table(table, file, compression="zstd")


def read(folder: Folder, name: str) -> Any:
    """Return the table in a file of a folder.

    Raises
    ------
    OSError
        Also where the file is not Parquet.
    UnsafeRecordingError
        Where it is not a regular file.
    """
    pa = arrow()
    try:
        with folder.read(name) as file:
            return pa.parquet.ParquetFile(file).read()
    except pa.ArrowException as error:
        raise OSError(f"{os.path.join(folder.path, name)} cannot be read: {error}") from error
