"""Frames as Arrow tables and Parquet files, and back with the declared types. Needs pyarrow, and says so."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import Column
from nbreplay.analysis.frames import array_of
from nbreplay.core.store.files import Folder
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    import pyarrow

_MARK = b"nbreplay"


def is_available() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def arrow() -> ModuleType:
    """Return pyarrow, with its Parquet; raise `OptionError` where it is not installed."""
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
    """Return a frame with the declared columns and types; `index` is the column that is the index."""
    frame = pd.DataFrame({column.name: _array(table.column(column.name), column) for column in declared}, copy=False)
    return frame if index is None else frame.set_index(index)


def _array(values: Any, column: Column) -> Any:
    pa = arrow()
    if column.dtype == "category":
        return array_of(column, values.cast(pa.large_string()).to_pylist())
    if column.dtype == "datetime":
        return array_of(column, values.cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_pylist())
    if column.dtype == "string":
        return pd.StringDtype("pyarrow").__from_arrow__(values.cast(pa.large_string()))
    kind = {"Int64": pa.int64(), "Float64": pa.float64(), "boolean": pa.bool_()}[column.dtype]
    return pd.api.types.pandas_dtype(column.dtype).__from_arrow__(values.cast(kind))


def write(table: pyarrow.Table, folder: Folder, name: str, *, mark: str = "") -> None:
    """Write a table to a file in a folder, whole or not at all; `read` may ask for its mark."""
    # A path given to Arrow may be a URI, and must be UTF-8.
    with folder.write(name) as file:
        arrow().parquet.write_table(table.replace_schema_metadata({_MARK: mark}), file, compression="zstd")


def read(folder: Folder, name: str, *, mark: str | None = None) -> pyarrow.Table:
    """Return the table in a file of a folder; raise `OSError` where it is not Parquet, or has another mark."""
    pa, path = arrow(), os.path.join(folder.path, name)
    try:
        with folder.read(name) as file:
            whole = pa.parquet.ParquetFile(file)
            if mark is not None and (whole.schema_arrow.metadata or {}).get(_MARK) != mark.encode():
                raise OSError(f"{path} has another mark")
            return whole.read()
    except pa.ArrowException as error:
        raise OSError(f"{path} cannot be read: {error}") from error
