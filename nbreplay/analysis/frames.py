"""Frames out of rows: a list a column, and one frame of them. Knows no recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import Column

__all__ = ["frame", "repeated", "sound"]


def frame(
    columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, index: str | None = None, first: Any = None
) -> pd.DataFrame:
    """Return a frame with the declared columns and types, whatever rows there are.

    Parameters
    ----------
    columns : sequence of Column
    rows : iterable of sequence
        A value a column, None where there is none.
    index : str, optional
        The column that is the index.
    first : array, optional
        The first column, ready made; the rows are without it then.
    """
    own = list(columns) if first is None else list(columns)[1:]
    lists = list(zip(*rows, strict=True)) or [()] * len(own)
    data = {} if first is None else {columns[0].name: first}
    data.update({column.name: _MAKERS[column.dtype](values) for column, values in zip(own, lists, strict=True)})
    made = pd.DataFrame(data, columns=[column.name for column in columns], copy=False)
    return made if index is None else made.set_index(index)


def repeated(values: Sequence[str], counts: Sequence[int]) -> pd.Categorical:
    """Return a categorical with each value as often as its count says; those with none are no category."""
    there = [(value, count) for value, count in zip(values, counts, strict=True) if count]
    codes = np.repeat(np.arange(len(there)), np.array([count for _, count in there], dtype=np.int64))
    return pd.Categorical.from_codes(codes, categories=_index([value for value, _ in there]))


def _index(values: Sequence[str]) -> pd.Index:
    return pd.Index(_strings(values), dtype=_string_dtype())


def _string_dtype() -> pd.StringDtype:
    """Arrow-backed where pyarrow is there."""
    return pd.StringDtype("pyarrow" if find_spec("pyarrow") is not None else "python")


def sound(values: Sequence[str | None]) -> Sequence[str | None]:
    """Return texts of which UTF-8 can hold each: half of a surrogate pair becomes U+FFFD."""
    try:
        "".join([value for value in values if value is not None]).encode("utf-8")
    except UnicodeEncodeError:
        return [
            None if value is None else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for value in values
        ]
    return values


def _strings(values: Sequence[str | None]) -> Any:
    return pd.array(list(sound(values)), dtype=_string_dtype())


def _category(values: Sequence[str | None]) -> pd.Categorical:
    # By hand: few values, and each is hashed once.
    places: dict[str, int] = {}
    codes = [-1 if value is None else places.setdefault(value, len(places)) for value in sound(values)]
    order = sorted(places)
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[-1] = -1
    for number, value in enumerate(order):
        rank[places[value]] = number
    return pd.Categorical.from_codes(rank[np.array(codes, dtype=np.int64)], categories=_index(order))


def _masked(kind: type[Any], dtype: str, absent: Any) -> Callable[[Sequence[Any]], Any]:
    def made(values: Sequence[Any]) -> Any:
        if None in values:
            mask = np.fromiter((value is None for value in values), dtype=bool, count=len(values))
            values = [absent if value is None else value for value in values]
        else:
            mask = np.zeros(len(values), dtype=bool)
        return kind(np.array(values, dtype=dtype), mask)

    return made


def _datetimes(values: Sequence[int | None]) -> Any:
    stamps = np.array([np.iinfo(np.int64).min if value is None else value for value in values], dtype=np.int64)
    return pd.DatetimeIndex(stamps.astype("datetime64[ms]")).tz_localize("UTC")


_MAKERS: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "string": _strings,
    "category": _category,
    "Int64": _masked(pd.arrays.IntegerArray, "int64", 0),
    "Float64": _masked(pd.arrays.FloatingArray, "float64", 0.0),
    "boolean": _masked(pd.arrays.BooleanArray, "bool", False),
    "datetime": _datetimes,
}
