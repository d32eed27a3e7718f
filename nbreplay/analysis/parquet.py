"""Frames as Arrow tables and Parquet files, and back with the declared types. Needs pyarrow, and says so."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbreplay.analysis.columns import Column
from nbreplay.analysis.frames import array_of
from nbreplay.analysis.pandas import np, pd
from nbreplay.core.store.files import Folder, open_folder
from nbreplay.errors import OptionError, RecordingFormatError

if TYPE_CHECKING:
    import pyarrow

_MARK = b"nbreplay"
_NOT_A_TIME = -(2**63)


def is_available() -> bool:
    """Return whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def arrow() -> ModuleType:
    """Return pyarrow, with its Parquet; raise `OptionError` where it is not installed."""
    try:
        importlib.import_module("pyarrow.compute")
        importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise OptionError("Parquet needs pyarrow: pip install 'nbreplay[parquet]'") from None
    return importlib.import_module("pyarrow")


def to_table(frame: pd.DataFrame, declared: Sequence[Column]) -> pyarrow.Table:
    """Return the declared columns of a frame, its index included, as an Arrow table."""
    pa = arrow()
    flat = frame.reset_index() if frame.index.name is not None else frame
    return pa.table({column.name: pa.Array.from_pandas(flat[column.name].array) for column in declared})


def table_of(declared: Sequence[Column], items: Sequence[Any]) -> pyarrow.Table:
    """Return the declared columns of items as an Arrow table with `schema_of` them."""
    arrays = [_arrow_array(column, column.values(items)) for column in declared]
    return arrow().table(arrays, schema=schema_of(declared))


def schema_of(declared: Sequence[Column], mark: str = "") -> pyarrow.Schema:
    """Return the schema of declared columns; categories are texts, which Parquet stores once each by itself."""
    pa = arrow()
    kinds = {"datetime": pa.timestamp("ms", "UTC"), "Int64": pa.int64(), "Float64": pa.float64(), "boolean": pa.bool_()}
    fields = [(column.name, kinds.get(column.dtype, pa.large_string())) for column in declared]
    return pa.schema(fields, {_MARK: mark})


def _arrow_array(column: Column, values: Sequence[Any]) -> pyarrow.Array:
    pa = arrow()
    kind = schema_of([column]).field(0).type
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        # Half of a surrogate pair, or a number that pandas rounds.
        return pa.Array.from_pandas(array_of(column, values)).cast(kind)


def with_prefix(table: pyarrow.Table, name: str, prefix: str) -> pyarrow.Table:
    """Return a table with this text before each one of a column."""
    pa = arrow()
    before, nothing = (pa.scalar(text, pa.large_string()) for text in (prefix, ""))
    whole = pa.compute.binary_join_element_wise(before, table.column(name), nothing)
    return table.set_column(table.column_names.index(name), name, whole)


def from_table(table: pyarrow.Table, declared: Sequence[Column], *, index: str | None = None) -> pd.DataFrame:
    """Return a frame with the declared columns and types; `index` is the column that is the index."""
    frame = pd.DataFrame({column.name: _array(table.column(column.name), column) for column in declared}, copy=False)
    return frame if index is None else frame.set_index(index)


def _array(values: Any, column: Column) -> Any:
    pa = arrow()
    if column.dtype == "category":
        return _category(values, is_sorted=column.name != "interaction")
    if column.dtype == "datetime":
        stamps = values.cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).fill_null(_NOT_A_TIME)
        return pd.DatetimeIndex(stamps.to_numpy().astype("datetime64[ms]")).tz_localize("UTC")
    if column.dtype == "string":
        return pd.StringDtype("pyarrow").__from_arrow__(values.cast(pa.large_string()))
    kind = {"Int64": pa.int64(), "Float64": pa.float64(), "boolean": pa.bool_()}[column.dtype]
    dtype: Any = pd.api.types.pandas_dtype(column.dtype)
    return dtype.__from_arrow__(values.cast(kind))


def _category(values: Any, *, is_sorted: bool) -> pd.Categorical:
    """Return a column of texts as `array_of` makes it."""
    pa = arrow()
    if pa.types.is_dictionary(values.type):
        encoded = values.unify_dictionaries().combine_chunks()
    else:
        encoded = values.cast(pa.large_string()).combine_chunks().dictionary_encode()
    names = encoded.dictionary.cast(pa.large_string())
    # Codes of -1, those of no text, lead to the last place.
    places = np.append(np.arange(len(names)), -1)
    if is_sorted:
        order = pa.compute.array_sort_indices(names)
        places[order.to_numpy()] = np.arange(len(names))
        names = names.take(order)
    codes = places[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return pd.Categorical.from_codes(codes, categories=pd.Index(pd.StringDtype("pyarrow").__from_arrow__(names)))


def write(table: pyarrow.Table, folder: Folder, name: str, *, mark: str = "") -> None:
    """Write a table to a file in a folder, whole or not at all; `read` may ask for its mark."""
    table = table.replace_schema_metadata({_MARK: mark})
    with open_writer(folder, name, table.schema) as writer:
        writer.write_table(table)


@contextlib.contextmanager
def open_writer(folder: Folder, name: str, schema: pyarrow.Schema) -> Iterator[Any]:
    """Open a writer of tables to a file in a folder, which is there when the block ends, or not at all if it fails."""
    # A path given to Arrow may be a URI, and must be UTF-8.
    with folder.write(name) as file, arrow().parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer


@contextlib.contextmanager
def open_file(folder: Folder, name: str, *, mark: str | None = None, declared: Sequence[Column] = ()) -> Iterator[Any]:
    """Open a Parquet file; raise `OSError` where it is not one, or has another mark. As `read`."""
    pa, path = arrow(), os.path.join(folder.path, name)
    categories = [column.name for column in declared if column.dtype == "category"]
    try:
        with folder.read(name) as file:
            whole = pa.parquet.ParquetFile(file, read_dictionary=categories)
            if mark is not None and (whole.schema_arrow.metadata or {}).get(_MARK) != mark.encode():
                raise OSError(f"{path} has another mark")
            yield whole
    except pa.ArrowException as error:
        raise OSError(f"{path} cannot be read: {error}") from error


def check(folder: Folder, name: str, *, mark: str) -> None:
    """Raise `OSError` where a file is not Parquet, or has another mark."""
    with open_file(folder, name, mark=mark):
        pass


def read(folder: Folder, name: str, *, mark: str | None = None, declared: Sequence[Column] = ()) -> pyarrow.Table:
    """Return the table in a file of a folder; its columns that are declared as categories are dictionaries.

    Raise `OSError` where it is not Parquet, or has another mark.
    """
    with open_file(folder, name, mark=mark, declared=declared) as file:
        return file.read(use_threads=False)  # threads take half as much again of CPU time


def count_rows(paths: Sequence[str]) -> int:
    """Return the number of rows in files that are Parquet."""
    return sum(int(arrow().parquet.read_metadata(path).num_rows) for path in paths)


def require_columns(path: Path, declared: Sequence[Column]) -> str:
    """Return the path of a Parquet file that has these columns; raise `RecordingFormatError` where it has not."""
    try:
        with open_folder(path.parent) as folder, open_file(folder, path.name) as file:
            found = file.schema_arrow.names
    except OSError as error:
        raise RecordingFormatError(f"{path}: {error}. Export the recordings again") from None
    if lacking := sorted({column.name for column in declared}.difference(found)):
        raise RecordingFormatError(f"{path} has no column {', '.join(lacking)}. Export the recordings again")
    return str(path)
