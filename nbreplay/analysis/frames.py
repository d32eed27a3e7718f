"""Frames out of items, by the declared columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from nbreplay.analysis.columns import FRAMES, SESSION_INTERACTIONS, Column
from nbreplay.analysis.names import NameIndex
from nbreplay.analysis.pandas import np, pd
from nbreplay.analysis.rows import Row, chunks, messages, tool_calls

if TYPE_CHECKING:
    from pandas.api.extensions import ExtensionArray

_ITEMS: Mapping[str, Callable[[Sequence[Row]], Iterable[Any]]] = {
    "interactions": lambda rows: rows,
    "messages": lambda rows: (item for row in rows for item in messages(row)),
    "chunks": lambda rows: (item for row in rows for item in chunks(row)),
    "tool_calls": lambda rows: tool_calls([row.fact for row in rows]),
}


def items_of(name: str, rows: Sequence[Row]) -> Iterable[Any]:
    """Return the items of a frame, given its rows."""
    return _ITEMS[name](rows)


class FrameSource(Protocol):
    """Where frames come from: rows, the cache of a store, an export, or a library of any of them."""

    def __len__(self) -> int: ...

    def frame(self, name: str) -> pd.DataFrame:
        """Return one of the frames in `FRAMES`."""

    def row(self, interaction: str) -> Row:
        """Return the row of an interaction, named as in the index of `interactions`, or as `NameIndex.find` says."""


class RowFrames:
    """Frames that are built from rows."""

    def __init__(self, rows: Sequence[Row], *, served: bool = False) -> None:
        self._rows, self._served = rows, served

    def __len__(self) -> int:
        return len(self._rows)

    def frame(self, name: str) -> pd.DataFrame:
        """Return a frame."""
        return frame_of(declared_columns(name, self._served), items_of(name, self._rows), index_of(name))

    def items(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of a frame as they are without pandas."""
        columns, items = declared_columns(name, self._served), list(items_of(name, self._rows))
        names, values = [column.name for column in columns], [column.values(items) for column in columns]
        return [dict(zip(names, item, strict=True)) for item in zip(*values, strict=True)]

    def row(self, interaction: str) -> Row:
        """Return the row of an interaction."""
        return self._rows[self._names.find(interaction)]

    @cached_property
    def _names(self) -> NameIndex:
        return NameIndex([row.interaction for row in self._rows], [row.key for row in self._rows])


def declared_columns(name: str, served: bool = False) -> tuple[Column, ...]:
    """Return the columns of a frame as it is stored; `served` for that of a session."""
    return SESSION_INTERACTIONS if served and name == "interactions" else FRAMES[name]


def index_of(name: str) -> str | None:
    """Return the column that is the index of a frame."""
    return "interaction" if name == "interactions" else None


def frame_of(columns: Sequence[Column], items: Iterable[Any], index: str | None = None) -> pd.DataFrame:
    """Return a frame with the declared columns and types, whatever items there are."""
    items = list(items)
    data = {column.name: array_of(column, column.values(items)) for column in columns}
    frame = pd.DataFrame(data, copy=False)
    return frame if index is None else frame.set_index(index)


def array_of(column: Column, values: Sequence[Any]) -> ExtensionArray:
    """Return values as an array of the declared type; None becomes NA, and datetimes are milliseconds."""
    if column.dtype == "string":
        return _strings(values)
    if column.dtype == "category":
        # Interactions are in the order in which they come, other categories in that of the alphabet.
        return _category(values, is_sorted=column.name != "interaction")
    if column.dtype == "datetime":
        stamps = np.array([np.iinfo(np.int64).min if value is None else value for value in values], dtype=np.int64)
        return pd.DatetimeIndex(stamps.astype("datetime64[ms]")).tz_localize("UTC")
    return pd.array([pd.NA if value is None else value for value in values], dtype=column.dtype)


def _strings(values: Sequence[str | None]) -> Any:
    # Backed by Arrow where pyarrow is installed.
    return pd.array(valid_text(values), dtype=pd.StringDtype("pyarrow" if find_spec("pyarrow") else "python"))


def _category(values: Sequence[str | None], *, is_sorted: bool) -> pd.Categorical:
    valid = valid_text(values)
    names = list(dict.fromkeys(value for value in valid if value is not None))
    categories = sorted(names) if is_sorted else names
    places = {name: place for place, name in enumerate(categories)} | {None: -1}
    codes = np.fromiter((places[value] for value in valid), dtype=np.int64, count=len(valid))
    return pd.Categorical.from_codes(codes, categories=pd.Index(_strings(categories)))


def valid_text(values: Sequence[str | None]) -> list[str | None]:
    """Return texts that UTF-8 can hold: half of a surrogate pair becomes U+FFFD."""
    try:
        "".join(value for value in values if value is not None).encode("utf-8")
    except UnicodeEncodeError:
        return [
            None if value is None else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for value in values
        ]
    return list(values)
