"""Keeping: the frames of one store, of which only the files that have changed are read.

Puts together what the cache kept of the other files with what these say now; the result is what reading all would give.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import columns, parquet, rows
from nbreplay.analysis.cache import Cache, Kept, scan
from nbreplay.analysis.frames import frame, sound
from nbreplay.analysis.links import fact, tool_calls
from nbreplay.analysis.sources import Row, read_store
from nbreplay.core.recording.blob import Blob
from nbreplay.core.store.store import Store
from nbreplay.errors import StoreError
from nbreplay.providers.tool_links import Fact

__all__ = ["Keeping"]

_FACTS = (columns.Column("interaction", "string", ""), columns.Column("fact", "string", ""))
Maker = Callable[[rows.Told], Sequence[Sequence[Any]]]


class Keeping:
    """One store's rows: those that are kept, and those that were read now.

    Attributes
    ----------
    troubles : list of Trouble
    interactions : list of str
        Of every row, in order.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._cache = store, Cache(store)
        self._files = scan(store)
        self._kept: Kept | None = self._cache.kept(self._files)
        known: set[str] = self._kept.names if self._kept is not None else set()
        found, self.troubles = read_store(store, [name for name in self._files.names if name not in known])
        if self._kept is not None and self._same_keys(found):
            self._kept = None
            found, self.troubles = read_store(store, self._files.names)
        self._told = [rows.Told(row) for row in found]
        self._arrange()
        # What a file beside a recording holds is not seen in the state of the recording.
        untrusted = {os.path.basename(row.file or "") for row in found if row.take and isinstance(row.take.body, Blob)}
        untrusted |= {os.path.basename(trouble.file) for trouble in self.troubles}
        if self._files.names:
            self._cache.begin(self._files, untrusted, self.interactions, self._names)

    def _same_keys(self, found: Sequence[Row]) -> bool:
        """Tell whether a key is in a file that is kept and in another: its answers are then numbered through both."""
        kept = self._kept
        assert kept is not None
        keys = {
            own.rpartition("#")[0]
            for own, file in zip(kept.interactions, kept.files, strict=True)
            if file in kept.names
        }
        return any(row.interaction.rpartition("#")[0] in keys for row in found)

    def _arrange(self) -> None:
        """Put the rows in the order of their files."""
        names: list[str] = []
        owns: list[str] = []
        places: list[int] = []
        kept = self._kept
        if kept is not None:
            for number, (own, file) in enumerate(zip(kept.interactions, kept.files, strict=True)):
                if file in kept.names:
                    names.append(file)
                    owns.append(own)
                    places.append(number)
        self._before = np.full(len(kept.interactions) if kept is not None else 0, -1, dtype=np.int64)
        names += [os.path.basename(told.row.file or "") for told in self._told]
        owns += [told.row.interaction for told in self._told]
        order = sorted(range(len(names)), key=names.__getitem__)
        after = np.empty(len(order), dtype=np.int64)
        after[order] = np.arange(len(order))
        self._before[places] = after[: len(places)]
        self._now = after[len(places) :]
        self.interactions = [owns[place] for place in order]
        self._names = [names[place] for place in order]
        self._whole = not self._told and len(places) == len(self._before)

    def found(self, interaction: str) -> Iterator[Row]:
        """Yield rows, read anew: those of the file that held an interaction first, for it may be in another now."""
        name = self._names[self.interactions.index(interaction)]
        for names in ([name], self._store.names()):
            found, _ = read_store(self._store, names)
            yield from found

    def frame(self) -> pd.DataFrame:
        """Return `interactions`."""
        declared = columns.INTERACTIONS
        table = self._table("interactions", declared, lambda told: [rows.interaction(told)[1:]])
        pa = parquet.arrow()
        folder = os.path.join(self._store.name, "")
        paths = pa.array(sound([folder + name for name in self._names]), pa.large_string())
        own = pa.array(self.interactions, pa.large_string())
        # The order is that of the rows, one each.
        table = table.drop_columns(["row"]).append_column("interaction", own)
        table = table.set_column(table.schema.get_field_index("file"), "file", paths)
        return parquet.from_table(table, declared, index="interaction")

    def many(self, name: str, declared: Sequence[columns.Column], make: Maker) -> pd.DataFrame:
        """Return a frame with any number of rows an interaction."""
        return self._framed(self._table(name, declared, make), declared)

    def tool_calls(self) -> pd.DataFrame:
        """Return `tool_calls`; who carried a result is looked for anew where any file has changed."""
        declared = columns.TOOL_CALLS
        table = self._cache.table(self._kept, "tool_calls") if self._kept is not None and self._whole else None
        if table is None:
            told = self._table("facts", _FACTS, _facts)
            facts: list[Fact | None] = [None] * len(self.interactions)
            for row, text in zip(table_list(told, "row"), table_list(told, "fact"), strict=True):
                facts[row] = Fact(self.interactions[row], *json.loads(text))
            groups = tool_calls(facts)
            table = _numbered(declared, np.arange(len(groups)), groups)
            self._cache.write("tool_calls", table)
        return self._framed(table, declared)

    def _framed(self, table: Any, declared: Sequence[columns.Column]) -> pd.DataFrame:
        pa = parquet.arrow()
        names = pa.array(self.interactions, pa.large_string())
        return parquet.from_table(table, declared, rows=(table.column("row").to_numpy(), names))

    def _table(self, name: str, declared: Sequence[columns.Column], make: Maker) -> Any:
        """Return a frame's rows, each with the number of its interaction in place of it, in order."""
        kept = None if self._kept is None else self._cache.table(self._kept, name)
        if self._kept is not None and kept is None:
            self._read_all()
        if kept is not None and self._whole:
            return kept
        table = _numbered(declared, self._now, [make(told) for told in self._told])
        if kept is not None:
            table = self._merged(kept, table)
        if name == "interactions" or kept is not None:
            table = table.take(np.argsort(table.column("row").to_numpy(), kind="stable"))
        self._cache.write(name, table)
        return table

    def _merged(self, kept: Any, table: Any) -> Any:
        pa = parquet.arrow()
        moved = self._before[kept.column("row").to_numpy()]
        kept = kept.set_column(0, "row", pa.array(moved)).filter(pa.array(moved >= 0))
        plain = pa.schema([(field.name, _plain(pa, field.type)) for field in table.schema])
        return pa.concat_tables([kept.cast(plain), table.cast(plain)])

    def _read_all(self) -> None:
        """Read every file, for a frame that nobody had asked for."""
        files = scan(self._store)
        found, _ = read_store(self._store, files.names)
        if not files.same(self._files) or sorted(row.interaction for row in found) != sorted(self.interactions):
            raise StoreError(f"{self._store.name} has changed since it was loaded: load it again")
        self._kept = None
        self._told = [rows.Told(row) for row in found]
        self._arrange()


def table_list(table: Any, name: str) -> list[Any]:
    """Return a column as a list."""
    made: list[Any] = table.column(name).to_pylist()
    return made


def _plain(pa: Any, kind: Any) -> Any:
    return pa.large_string() if pa.types.is_dictionary(kind) or pa.types.is_string(kind) else kind


def _numbered(declared: Sequence[columns.Column], numbers: Any, groups: Sequence[Sequence[Sequence[Any]]]) -> Any:
    """Return rows as a table that has the number of the interaction in place of the first column."""
    made = parquet.to_table(frame(declared[1:], (row for group in groups for row in group)), declared[1:])
    row = np.repeat(np.asarray(numbers, dtype=np.int64), [len(group) for group in groups])
    return made.add_column(0, "row", parquet.arrow().array(row))


def _facts(told: rows.Told) -> list[tuple[str]]:
    made = fact(told)
    return [] if made is None else [(json.dumps(made[1:]),)]
