"""The frames of a store as Parquet files beside it, so that a store that has not changed is not read again.

A frame is one file in ``.nbreplay/frames``, written whole, which git ignores and anybody may delete. It counts as long
as every file of the store has the size, the times and the inode that it had when it was read; a digest of these is a
part of its name, so that what a file holds never changes. Nothing is kept of a store that has a file which cannot be
read, or one that changed less than `YOUNG_NS` before: as git does, so as not to miss another change within the same
tick of the clock. A large store is read a batch of files at a time, and no more than that is in memory. Needs pyarrow.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import FRAMES, Column
from nbreplay.analysis.frames import index_of, items_of, valid_text
from nbreplay.analysis.names import NameIndex, ShortNames
from nbreplay.analysis.pandas import pd
from nbreplay.analysis.rows import Row, relative_path, tool_calls
from nbreplay.analysis.sources import Trouble, other_file, read_batches, read_store
from nbreplay.core.store.files import PRIVATE, RECORDING, Folder, Writer, open_folder, remove_half_written, write_error
from nbreplay.core.store.store import Store
from nbreplay.errors import StoreError, UnsafeRecordingError
from nbreplay.providers.tool_links import Fact

if TYPE_CHECKING:
    import pyarrow

YOUNG_NS = 2_000_000_000
BATCH = 2000
"""How many recordings are in memory at once; the rows of a store that has no more are kept for the other frames."""
_KEPT = rf"({'|'.join(FRAMES)})(-[0-9a-f]+)?\.parquet"  # earlier versions had no digest there
_TEMPORARY = rf"\.{_KEPT}\.\d+\.[0-9a-f]+\.\d+\.tmp"
_FORMAT = 5  # raise it when an extractor changes
_OTHERS = ("messages", "chunks", "tool_calls")


class _State(NamedTuple):
    """The files of a store at one time; equal digests mean that none has changed."""

    names: list[str]  # those of recordings
    others: list[str]  # those of other JSON files
    digest: str
    is_settled: bool


def _scan(store: Store) -> _State:
    start = time.time_ns()
    with open_folder(store.identity) as folder:
        files = sorted(name for name in folder.names() if name.endswith((".json", ".bin")))
        states = folder.versions(files)
    *times, _sizes, _inodes = list(zip(*states.values(), strict=True)) or [(0,)] * 4
    declared = [column[:3] for columns in FRAMES.values() for column in columns]
    digest = hashlib.sha256(repr((_FORMAT, version("nbreplay"), declared)).encode())
    digest.update(os.fsencode("\0".join(states)))
    try:
        digest.update(msgspec.msgpack.encode(list(states.values())))
    except OverflowError:  # an inode of ReFS, or a time far away, has more than 64 bits
        digest.update(repr(list(states.values())).encode())
    is_settled = max(map(max, times)) <= start - YOUNG_NS
    names = list(filter(RECORDING.fullmatch, states))
    others = [] if len(names) == len(states) else [name for name in states.keys() - names if name.endswith(".json")]
    return _State(names, sorted(others), digest.hexdigest(), is_settled)


class CachedFrames:
    """The frames of one store, out of the cache where nothing has changed.

    Raises `UnsafeRecordingError` where the folder of the cache is a link.
    """

    def __init__(self, store: Store, *, is_kept: bool = True) -> None:
        self._store, self._state, self._uses_cache = store, _scan(store), is_kept
        self._rows: Sequence[Row] | None = None  # of a small store that was read
        self._tables: dict[str, pyarrow.Table] = {}  # of frames that were built, and neither kept nor asked for
        self._folder: str | None = None  # for frames that may not be kept
        self.troubles: list[Trouble] = []

    def __len__(self) -> int:
        return len(self._interactions)

    @cached_property
    def _interactions(self) -> pd.DataFrame:
        return self._frame("interactions")

    def frame(self, name: str) -> pd.DataFrame:
        """Return a frame; raise `StoreError` where it must be read and the store has changed since it was loaded."""
        return self._interactions if name == "interactions" else self._frame(name)

    def _frame(self, name: str) -> pd.DataFrame:
        table = self._load(name)
        table = self._tables.pop(name, None) if table is None else table
        table = self._build(name) if table is None else table
        if name == "interactions":
            table = parquet.with_prefix(table, "file", self.root)
        return parquet.from_table(table, FRAMES[name], index=index_of(name))

    @property
    def root(self) -> str:
        """What stands before the name of a file in the column ``file``."""
        (root,) = valid_text([relative_path(os.path.join(self._store.name, ""))])
        return str(root)

    def row(self, interaction: str) -> Row:
        """Return the row of an interaction, read from its file."""
        place = self._names.find(interaction)
        if self._rows is not None:
            return self._rows[place]
        frame = self.frame("interactions")
        interaction, file = frame.index[place], frame.file.iloc[place]
        rows, troubles = read_store(self._store, [os.path.basename(file)], self._short)
        # By its place in the file: a misnamed copy has the same key, and its takes are numbered on from the others'.
        number = int((frame.file.iloc[:place] == file).sum())
        if number < len(rows) and rows[number].key == frame.key.iloc[place]:
            msgspec.structs.force_setattr(rows[number], "interaction", interaction)
            return rows[number]
        if troubles:
            raise StoreError(troubles[0].reason)
        raise StoreError(f"{interaction} was removed from the file that it was loaded from. Load the store again")

    @cached_property
    def _names(self) -> NameIndex:
        frame = self.frame("interactions")
        return NameIndex(frame.index.tolist(), frame.key.tolist())

    @cached_property
    def _short(self) -> ShortNames:
        return ShortNames(self._state.names)

    def path(self, name: str) -> str:
        """Return the path of the Parquet file of a frame, without `root` in the column ``file``.

        Raise `StoreError` where the file can be written nowhere, or the store has changed since it was loaded.
        """
        if (path := self._find(name)) is not None:
            return path
        if self._is_kept and valid_text([self._store.identity]) == [self._store.identity]:
            with contextlib.suppress(OSError, UnsafeRecordingError), self._open_to_write() as folder:
                self._write(folder, name)
            if (path := self._find(name)) is not None:
                return path
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="nbreplay-")
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        path = os.path.join(self._folder, self._file(name))
        try:
            if not os.path.exists(path):
                with open_folder(self._folder) as folder:
                    self._write(folder, name)
        except OSError as error:
            raise write_error(path, error) from error
        return path

    def _build(self, name: str) -> pyarrow.Table:
        """Return a frame, and keep it with others that are built along with it; put into `_tables` what is not kept."""
        parts = {one: [parquet.table_of(FRAMES[one], ())] for one in self._together(name)}
        for one, table in self._parts(parts):
            parts[one].append(table)
        whole = {one: parquet.arrow().concat_tables(tables) for one, tables in parts.items()}
        for one, table in whole.items():
            # Of the others, those that are kept can be loaded.
            if not self._save(one, table) and one != name:
                self._tables[one] = table
        return whole[name]

    def _together(self, name: str) -> Sequence[str]:
        """Return the frames to build with one of them: a large store is not read more than twice."""
        return (name,) if name == "interactions" or len(self._state.names) <= BATCH else _OTHERS

    def _parts(self, names: Collection[str]) -> Iterator[tuple[str, pyarrow.Table]]:
        """Yield the tables of frames, a batch of recordings after the other."""
        facts, is_new = list[Fact](), self._rows is None and "interactions" not in names
        for rows in self._batches():
            for name in names:
                if name == "tool_calls":  # a call and its result may be in any two files
                    facts += [fact for row in rows if (fact := row.fact) is not None]
                else:
                    yield name, parquet.table_of(_stored_columns(name), list(items_of(name, rows)))
        if is_new and _scan(self._store).digest != self._state.digest:
            self._rows = None  # of another state: none of them may be given later
            raise StoreError(f"{self._store.name} has changed since it was loaded. Load it again")
        if "tool_calls" in names:
            yield "tool_calls", parquet.table_of(FRAMES["tool_calls"], list(tool_calls(facts)))

    def _batches(self) -> Iterator[Sequence[Row]]:
        if self._rows is not None:
            yield self._rows
            return
        troubles = list[Trouble]()
        for rows, more in read_batches(self._store, self._state.names, BATCH):
            troubles += more
            if len(self._state.names) <= BATCH:
                self._rows = rows
            yield rows
        self.troubles = troubles + [other_file(self._store, name) for name in self._state.others]

    @property
    def _is_kept(self) -> bool:
        return self._uses_cache and self._state.is_settled and not self.troubles

    def _file(self, name: str) -> str:
        return f"{name}-{self._state.digest[:16]}.parquet"

    def _open(self) -> AbstractContextManager[Folder]:
        return open_folder(self._store.identity, PRIVATE, "frames")

    @contextlib.contextmanager
    def _open_to_write(self) -> Iterator[Folder]:
        Writer(self._store.identity, durable=False)  # makes the folder that git ignores
        with open_folder(self._store.identity, PRIVATE, "frames", make=True) as folder:
            yield folder
            self._clean(folder)

    def _find(self, name: str) -> str | None:
        """Return the path of a frame in the cache."""
        if not self._uses_cache:
            return None
        file, mark = self._file(name), self._state.digest
        with contextlib.suppress(OSError), self._open() as folder, contextlib.suppress(UnsafeRecordingError):
            parquet.check(folder, file, mark=mark)
            return os.path.join(folder.path, file)
        return None

    def _load(self, name: str) -> pyarrow.Table | None:
        with contextlib.suppress(OSError), self._open() as folder, contextlib.suppress(UnsafeRecordingError):
            return parquet.read(folder, self._file(name), mark=self._state.digest, declared=FRAMES[name])
        return None

    def _save(self, name: str, table: pyarrow.Table) -> bool:
        """Keep a table where that is allowed; return whether it is kept."""
        # A disk that is full, or may not be written, costs nobody the frame.
        if self._is_kept:
            with contextlib.suppress(OSError, UnsafeRecordingError), self._open_to_write() as folder:
                if self._find(name) is None:  # else somebody may be reading what another process has kept
                    parquet.write(table, folder, self._file(name), mark=self._state.digest)
                return True
        return False

    def _write(self, folder: Folder, name: str) -> None:
        """Write a frame into a folder, with others that are built along with it, a batch after the other."""
        names, was_kept = self._together(name), self._is_kept
        with contextlib.ExitStack() as stack:
            writers = {}
            for one in names:
                schema = parquet.schema_of(FRAMES[one], self._state.digest)
                writers[one] = stack.enter_context(parquet.open_writer(folder, self._file(one), schema))
            for one, table in self._parts(names):
                writers[one].write_table(table)
            if was_kept and not self._is_kept:
                raise OSError("a file cannot be read, so that nothing is kept")
            if folder.path != self._folder and all(self._find(one) for one in names):
                raise OSError("another process has kept the frames meanwhile, and somebody may be reading them")

    def _clean(self, folder: Folder) -> None:
        """Remove what earlier states and killed processes have left."""
        entries = folder.entries()
        remove_half_written(folder, _TEMPORARY, entries)
        others = [name for name in entries if re.fullmatch(_KEPT, name) and self._state.digest[:16] not in name]
        # Somebody may still read the frames of the state before this one.
        for name in sorted(others, key=lambda name: entries[name].st_mtime_ns)[: -len(FRAMES)]:
            with contextlib.suppress(OSError):
                folder.remove(name)


def _stored_columns(name: str) -> list[Column]:
    """Return the columns of a frame as the cache has them: a store may be renamed, or named in another way."""
    return [one._replace(get=_base_name) if one.name == "file" else one for one in FRAMES[name]]


def _base_name(row: Row) -> str:
    return os.path.basename(row.file or "")
