"""Library: recordings, or the calls of a session, as pandas frames; and `nbreplay.load`, which makes it.

Files are read by `load`, and each frame is built when it is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import parquet
from nbreplay.analysis.columns import UNREAD
from nbreplay.analysis.dataset import Dataset, is_dataset, write_dataset
from nbreplay.analysis.frame_cache import CachedFrames
from nbreplay.analysis.frames import FrameSource, RowFrames, frame_of
from nbreplay.analysis.metrics import link_to_library
from nbreplay.analysis.rows import Row
from nbreplay.analysis.sources import Source, Trouble, own_store, pause_gc, read, unreadable
from nbreplay.core.session import Session
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from nbreplay.analysis.dask_frames import DaskLibrary


class Library:
    """Recordings as frames; `nbreplay.load` makes it.

    The columns are declared in `nbreplay.analysis.columns`. Times are seconds, absent where they were not recorded.
    """

    def __init__(self, source: FrameSource, troubles: Sequence[Trouble] = ()) -> None:
        self._source, self._troubles = source, troubles
        self._frames: dict[str, pd.DataFrame] = {}

    def __repr__(self) -> str:
        unread = f", {len(self._troubles)} unread" if self._troubles else ""
        return f"Library({len(self)} interactions{unread})"

    def __len__(self) -> int:
        return len(self._source)

    def row(self, interaction: str) -> Row:
        """Return the request and the answer of an interaction.

        Raises
        ------
        OptionError
            For an export of frames, which holds no answers.
        StoreError
            Where the interaction has been removed from its file.
        """
        return self._source.row(interaction)

    def frame(self, name: str) -> pd.DataFrame:
        """Return the frame of this name, which is built when it is first asked for."""
        if name not in self._frames:
            with pause_gc():
                self._frames[name] = link_to_library(self._source.frame(name), self)
        return self._frames[name]

    @property
    def interactions(self) -> pd.DataFrame:
        """A row per take; of a session, a row per call, with `outcome` and `served_s`. Indexed by `interaction`."""
        return self.frame("interactions")

    @property
    def messages(self) -> pd.DataFrame:
        """A row per message, of requests and of answers."""
        return self.frame("messages")

    @property
    def chunks(self) -> pd.DataFrame:
        """A row per chunk of a stream."""
        return self.frame("chunks")

    @property
    def tool_calls(self) -> pd.DataFrame:
        """A row per tool call of an answer, with its result and where that comes from."""
        return self.frame("tool_calls")

    @property
    def unread(self) -> pd.DataFrame:
        """A row per file that could not be read, or not all of it, with the reason."""
        return frame_of(UNREAD, self._troubles)

    def to_parquet(self, folder: str | os.PathLike[str]) -> None:
        """Write the frames as a partitioned Parquet dataset, which `load` reads; replaces one that is there.

        Raises
        ------
        OptionError
            Where pyarrow is not installed, or the folder holds anything else.
        StoreError
            Where the folder cannot be written.
        """
        write_dataset(self, folder)


@overload
def load(
    source: Source | Sequence[Source], *, strict: bool = ..., cache: bool = ..., engine: Literal["pandas"] = ...
) -> Library: ...


@overload
def load(
    source: Source | Sequence[Source], *, strict: bool = ..., cache: bool = ..., engine: Literal["dask"]
) -> DaskLibrary: ...


def load(
    source: Source | Sequence[Source], *, strict: bool = True, cache: bool = True, engine: str = "pandas"
) -> Library | DaskLibrary:
    """Read recordings, or the calls of a session, as pandas frames.

    Parameters
    ----------
    source : path, Store, Session, or a list of those
        A store: a folder, a ``.zip`` of one or the https address of that; or a folder of llama-stack's recordings or
        VCR cassettes, or one that ``nbreplay export --format parquet`` wrote. Of a session, a row per call.
    strict : bool
        Whether a file that cannot be read is an error. If not, `Library.unread` lists it.
    cache : bool
        Whether the frames of a store are kept in its folder ``.nbreplay/frames``, where pyarrow is installed, so that
        a store that has not changed is not read again. The folder may be deleted.
    engine : {"pandas", "dask"}
        With dask, which is an extra, the frames are dask frames, of one store or one export.

    Returns
    -------
    Library or DaskLibrary

    Raises
    ------
    RecordingFormatError
        Where `strict`, and a file cannot be read; it names up to ten.
    StoreError
        For a path that does not exist.
    OptionError
        For an object that is not a source.

    Examples
    --------
    >>> lib = nbreplay.load("recordings")
    >>> lib.interactions.groupby("model").output_tokens.sum()
    """
    if engine not in ("pandas", "dask"):
        raise OptionError(f'engine must be "pandas" or "dask", not {engine!r}')
    if engine == "dask":
        from nbreplay.analysis.dask_frames import DaskLibrary

        return DaskLibrary(source, strict=strict)
    if is_dataset(source):
        return Library(Dataset(source))
    with pause_gc():
        frames, troubles = _read(source, cache)
    if strict and troubles:
        raise unreadable(troubles)
    return Library(frames, troubles)


def _read(source: Source | Sequence[Source], cache: bool) -> tuple[FrameSource, list[Trouble]]:
    store = own_store(source) if cache and parquet.is_available() else None
    if store is not None:
        cached = CachedFrames(store)
        return cached, cached.troubles
    rows, troubles = read(source)
    sources = source if isinstance(source, list | tuple) else [source]
    return RowFrames(rows, served=any(isinstance(one, Session) for one in sources)), troubles
