"""Groups: the rows of a frame by columns, or by values of the caller's. Knows frames alone.

Every row is in a group, and every group has a name: rows without a value are the group ``(no NAME)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from nbreplay.analysis.columns import FRAMES, SERVED
from nbreplay.analysis.pandas import pd
from nbreplay.core.words import suggest
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from pandas.api.typing import DataFrameGroupBy

_Key: TypeAlias = "str | pd.Series | pd.Grouper | Callable[[pd.DataFrame], Any]"
By: TypeAlias = "_Key | Sequence[_Key] | None"
"""What to group by: a column, a series, a `pandas.Grouper`, a function of the frame, several of those, or None."""

TOOLS = "(tools)"
"""The group of tools where rows are grouped by model."""

_KEY = "by "  # prefix of a column that a frame is grouped by, which may also have one of that name


def require_columns(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Return the frame, with its index as a column if that is `interaction`; refuse one that lacks a column."""
    frame = frame.reset_index() if frame.index.name == "interaction" else frame
    missing = [name for name in names if name not in frame.columns]
    if missing:
        home = next((home for home, columns in FRAMES.items() if _holds(columns, missing)), "interactions")
        many = "s" if len(missing) > 1 else ""
        raise OptionError(f"the frame has no column{many} {', '.join(missing)}. Use lib.{home}, or rows of it")
    return frame


def _holds(columns: Sequence[Any], names: Sequence[str]) -> bool:
    return {column.name for column in columns}.issuperset(names)


def add_keys(
    rows: pd.DataFrame, by: By, of: pd.DataFrame | None = None, *, own_first: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """Return rows with the columns that `group_rows` groups them by, and the names of these.

    `of` are interactions, by their index: a key of theirs goes to the rows of each. Where rows and interactions have a
    column of one name, that of the interactions is meant, unless `own_first`.
    """
    names: list[str] = []
    keys: dict[str, Any] = {}
    for one in [by] if by is None or isinstance(by, str) or not isinstance(by, Sequence) else by:
        if one is None:
            continue
        own = one in rows.columns if isinstance(one, str) else True
        if of is None or (own and own_first) or (isinstance(one, str) and one not in of.columns):
            name, values = _values(rows, one)
        else:
            name, values = _values(of, one)
            values = pd.Series(values.array, of.index)[~of.index.duplicated()]
            values = values.reindex(rows.interaction.astype(object))
        names.append(name)
        keys[_KEY + name] = values.array
    return rows.assign(**keys), names


def _values(frame: pd.DataFrame, key: Any) -> tuple[str, pd.Series]:
    """Return the name of a key, and its value in each row."""
    if isinstance(key, str):
        return key, _column(frame, key)
    if isinstance(key, pd.Grouper) and key.key is not None:
        times = _column(frame, key.key)
        values = pd.Series(index=range(len(frame)), dtype=times.dtype)
        # A Grouper leaves out missing times; that of pandas 2.2 fails if it sees nothing else.
        timed = pd.DataFrame({key.key: times.array}).dropna().sort_values(key.key, kind="stable")
        for label, places in timed.groupby(key, observed=True).indices.items():
            values[timed.index[places]] = label
        return str(key.key), values
    values = key(frame) if callable(key) else key
    if isinstance(key, pd.Series) and key.index.name == "interaction" and len(key) == len(frame):
        names = frame.index if frame.index.name == "interaction" else frame.interaction
        values = key if key.index.equals(pd.Index(names)) else key.reindex(names.astype(object))  # as pandas aligns it
    if not isinstance(values, pd.Series) or len(values) != len(frame):
        raise OptionError(
            f"by must name columns, or give a value for each of the {len(frame)} rows, and {key!r} does not. "
            'Pass a column, a series of the frame, a function of it, or pd.Grouper(key="recorded_at", freq="MS")'
        )
    return str(values.name or "group"), values


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name == frame.index.name:
        return frame.index.to_series()
    if name not in frame.columns:
        raise OptionError(f"the frame has no column {name!r} to group by. {_remedy(frame, name)}")
    values = frame[name]
    if name == "model" and "kind" in frame.columns:
        values = values.astype(object).mask((frame["kind"] == "tool").to_numpy(bool, na_value=False), TOOLS)
    return values


def _remedy(frame: pd.DataFrame, name: str) -> str:
    if _holds(SERVED, [name]):
        return "Only the interactions of a session have it: nbreplay.load(session)"
    return suggest(name, map(str, frame.columns)).strip() or f"Use one of {', '.join(map(str, frame.columns))}"


def group_rows(rows: pd.DataFrame, names: Sequence[str]) -> DataFrameGroupBy:
    """Return the groups of rows that `add_keys` has returned."""
    keys = [_KEY + name for name in names]
    return rows.groupby(keys or (lambda _: "all"), observed=True, dropna=False)


def group_table(columns: Mapping[str, Any], names: Sequence[str], order: str) -> pd.DataFrame:
    """Return figures of groups as a frame: a row per group, the highest `order` first."""
    table = pd.DataFrame(dict(columns))
    table = table.sort_values(order, ascending=False, kind="stable")
    if len(names) == 1:
        table.index = _name_missing(table.index, names[0])
    elif names:
        levels = [_name_missing(table.index.get_level_values(level), name) for level, name in enumerate(names)]
        table.index = pd.MultiIndex.from_arrays(levels, names=names)
    return table


def _name_missing(values: pd.Index, name: str) -> pd.Index:
    if values.hasnans:
        values = values.astype(object).fillna(f"(no {name})")
    return values.rename(name)


def list_groups(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Return the groups of rows that `add_keys` has returned, each with its name."""
    return [(group_name(label, names), group) for label, group in group_rows(rows, names)]


def group_name(label: Any, names: Sequence[str]) -> str:
    """Return the name of a group as it is shown, such as ``gpt-4o`` or ``2026-11-01``."""
    parts = label if isinstance(label, tuple) else (label,)
    if len(parts) != len(names):  # of one group of all
        return str(label)
    texts = []
    for part, name in zip(parts, names, strict=True):
        if pd.isna(part):
            texts.append(f"(no {name})")
        elif isinstance(part, pd.Timestamp) and part == part.normalize():
            texts.append(f"{part:%Y-%m-%d}")
        else:
            texts.append(str(part))
    return ", ".join(texts)
