"""Library: recordings, or the calls of a session, as pandas frames; and `nbreplay.load`, which makes it.

Files are read by `load`, and each frame is built when it is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import UNREAD
from nbreplay.analysis.costs import with_costs
from nbreplay.analysis.dataset import Dataset, is_dataset, write_dataset
from nbreplay.analysis.frame_cache import CachedFrames
from nbreplay.analysis.frames import FrameSource, RowFrames, frame_of
from nbreplay.analysis.metrics import link_to_library
from nbreplay.analysis.pandas import has_pandas, pd
from nbreplay.analysis.rows import Row, relative_path
from nbreplay.analysis.sources import Source, Trouble, own_store, pause_gc, read, unreadable
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.core.words import count_of
from nbreplay.errors import OptionError, StoreError

if TYPE_CHECKING:
    from nbreplay.analysis.catalogue import LibraryCatalogue
    from nbreplay.analysis.dask_frames import DaskLibrary
    from nbreplay.analysis.lazy_frames import DuckdbLibrary, PolarsLibrary
    from nbreplay.analysis.metrics import Frame


class Library:
    """Recordings as frames; `nbreplay.load` makes it.

    `nbreplay.analysis.columns` declares the columns. Times are seconds, absent
    if they were not recorded.

    Attributes
    ----------
    interactions, messages, chunks, tool_calls : pandas.DataFrame
        A row per answer, message, chunk of a stream, and tool call.
    unread : pandas.DataFrame
        A row per file that could not be read.
    names : tuple of str
        The paths or addresses that it was loaded from, as they were given; of a
        session, that of its store.

    Examples
    --------
    >>> import nbreplay as nr
    >>> lib = nr.load("recordings")
    >>> lib.interactions.query("stream").model.tolist()
    ['gpt-4o']
    >>> lib.messages.query("role == 'user'").content.iloc[0]
    'Weather in Tokyo?'
    """

    def __init__(self, source: FrameSource, troubles: Sequence[Trouble] = (), names: Sequence[str] = ()) -> None:
        self._source, self._troubles, self.names = source, troubles, tuple(names)
        self._frames: dict[str, Frame] = {}

    def __repr__(self) -> str:
        unread = f", {len(self._troubles)} unread" if self._troubles else ""
        return f"Library({''.join(f'{name!r}, ' for name in self.names)}{count_of(len(self), 'interaction')}{unread})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from nbreplay.analysis.overviews import library_overview

        if not has_pandas():
            return {"text/plain": repr(self)}
        self.frame("interactions")  # the one frame that is built for it
        return library_overview(self.names, self._frames, self.unread)

    def __len__(self) -> int:
        return len(self._source)

    def row(self, interaction: str) -> Row:
        """Return the request and the answer of an interaction.

        Parameters
        ----------
        interaction : str
            A name in the index of `interactions`, or the key of its request,
            ``#`` and the same number; the digits of both may be cut.

        Raises
        ------
        OptionError
            For an export of frames, which holds no answers.
        StoreError
            Where there is none of that name, or it has been removed from its file.
        """
        return self._source.row(interaction)

    def path(self, interaction: str) -> Path:
        """Return the absolute path of the file that holds an interaction.

        It is named as for `row`, and the errors are the same.
        """
        file = self.row(interaction).file
        if file is None:
            raise StoreError(f"{interaction} is in no file: its answer was neither recorded nor replayed")
        if not os.path.isfile(file):
            why = f"{relative_path(file)} is not a file: it is part of an archive, or was removed"
            raise StoreError(f"{why}. Unzip the archive, and load the folder")
        return Path(file)

    def frame(self, name: str) -> Frame:
        """Return the frame of this name, which is built when it is first asked for."""
        if name not in self._frames:
            with pause_gc():
                self._frames[name] = link_to_library(with_costs(name, self._source.frame(name)), self)
        return self._frames[name]

    @property
    def interactions(self) -> Frame:
        """A row per take; of a session, a row per call, with `outcome` and `served_s`.

        Indexed by `interaction`.
        """
        return self.frame("interactions")

    @property
    def messages(self) -> Frame:
        """A row per message, of requests and of answers."""
        return self.frame("messages")

    @property
    def chunks(self) -> Frame:
        """A row per chunk of a stream."""
        return self.frame("chunks")

    @property
    def tool_calls(self) -> Frame:
        """A row per tool call of an answer, with its result and where that comes from."""
        return self.frame("tool_calls")

    @property
    def unread(self) -> pd.DataFrame:
        """A row per file that could not be read, or not all of it, with the reason."""
        return frame_of(UNREAD, self._troubles)

    def show(self) -> None:
        """Display the recordings: search and filter them, and play the chosen one.

        In a notebook it is an explorer; elsewhere the newest are printed as a
        table.

        Examples
        --------
        >>> import nbreplay as nr
        >>> lib = nr.load("recordings")
        >>> lib.show()  # doctest: +SKIP
        """
        from nbreplay.notebook.catalogue import show

        show(self.catalogue())

    def catalogue(self) -> LibraryCatalogue:
        """Return the recordings as a list to explore; `show` displays it."""
        from nbreplay.analysis.catalogue import LibraryCatalogue

        return LibraryCatalogue(self, self._troubles)

    def to_parquet(self, folder: str | os.PathLike[str]) -> None:
        """Write the frames as a partitioned Parquet dataset, which `load` reads.

        A dataset that is there is replaced.

        Raises
        ------
        OptionError
            Where pyarrow is not installed, or the folder holds anything else.
        StoreError
            Where the folder cannot be written.
        """
        write_dataset(self, folder)


Engine = Literal["pandas", "polars", "duckdb", "dask"]


@overload
def load(
    source: Source | Sequence[Source], *, strict: bool = ..., cache: bool = ..., engine: Literal["pandas"] = ...
) -> Library: ...


@overload
def load(
    source: Source | Sequence[Source], *, strict: bool = ..., cache: bool = ..., engine: Literal["dask"]
) -> DaskLibrary: ...


@overload
def load(
    source: Source | Sequence[Source], *, strict: bool = ..., cache: bool = ..., engine: Literal["polars"]
) -> PolarsLibrary: ...


@overload
def load(
    source: Source | Sequence[Source], *, strict: bool = ..., cache: bool = ..., engine: Literal["duckdb"]
) -> DuckdbLibrary: ...


def load(
    source: Source | Sequence[Source], *, strict: bool = True, cache: bool = True, engine: Engine = "pandas"
) -> Library | DaskLibrary | PolarsLibrary | DuckdbLibrary:
    """Read recordings, or the calls of a session, as pandas frames.

    Parameters
    ----------
    source : path, Store, Session, or a list of those
        A store: a folder, a ``.zip`` of one or the https address of that; or
        a folder of llama-stack's recordings or VCR cassettes, or one that
        ``nbreplay export --format parquet`` wrote. Of a session, a row per
        call.
    strict : bool
        Whether a file that cannot be read is an error. If not,
        `Library.unread` lists it.
    cache : bool
        Whether the frames of a store are kept in its folder
        ``.nbreplay/frames``, if pyarrow is installed, so that a store that
        has not changed is not read again. The folder may be deleted.
    engine : {"pandas", "polars", "duckdb", "dask"}
        The others are extras. With them, the frames of one store or one
        export are lazy frames of polars, relations of duckdb or dask frames:
        nothing is in memory but what a query reads.

    Returns
    -------
    Library, PolarsLibrary, DuckdbLibrary or DaskLibrary

    Raises
    ------
    RecordingFormatError
        If `strict`, and a file cannot be read; it names up to ten.
    StoreError
        For a path that does not exist.
    OptionError
        For an object that is not a source.

    Examples
    --------
    >>> import nbreplay as nr
    >>> lib = nr.load("recordings")
    >>> lib.interactions.groupby("model").output_tokens.sum().to_dict()
    {'gpt-4o': 5, 'o3': 5, 'text-embedding-3-small': 0}

    With an extra, as lazy frames::

        calls = nr.load("recordings", engine="polars").interactions
        calls.group_by("model").agg(polars.sum("output_tokens")).collect()
    """
    if engine not in ("pandas", "polars", "duckdb", "dask"):
        raise OptionError(f'engine must be "pandas", "polars", "duckdb" or "dask", not {engine!r}')
    if engine in ("polars", "duckdb"):
        from nbreplay.analysis.lazy_frames import DuckdbLibrary, PolarsLibrary

        return (PolarsLibrary if engine == "polars" else DuckdbLibrary)(source, strict=strict, cache=cache)
    if engine == "dask":
        from nbreplay.analysis.dask_frames import DaskLibrary

        return DaskLibrary(source, strict=strict)
    sources: Sequence[Source] = source if isinstance(source, list | tuple) else [source]  # type: ignore[list-item]
    names = [_name(one) for one in sources]
    if is_dataset(source):
        return Library(Dataset(source), names=names)
    with pause_gc():
        frames, troubles = _read(source, cache)
    if strict and troubles:
        raise unreadable(troubles)
    return Library(frames, troubles, names)


def plain_items(library: Library, name: str) -> list[dict[str, Any]]:
    """Return the rows of a frame of a library as dicts, where pandas is not installed."""
    source = library._source
    return source.items(name) if isinstance(source, RowFrames) else library.frame(name).to_dict("records")


def _name(source: Source) -> str:
    store = source.store if isinstance(source, Session) else source
    return store.shown if isinstance(store, Store) else str(store)


def _read(source: Source | Sequence[Source], cache: bool) -> tuple[FrameSource, list[Trouble]]:
    store = own_store(source) if cache and parquet.is_available() else None
    if store is not None:
        cached = CachedFrames(store)
        cached.frame("interactions")  # from the cache, or out of the files
        return cached, cached.troubles
    rows, troubles = read(source)
    sources = source if isinstance(source, list | tuple) else [source]
    return RowFrames(rows, served=any(isinstance(one, Session) for one in sources)), troubles
