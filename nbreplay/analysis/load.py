"""`nbreplay.load`: chooses where the frames come from. Files are read at once, frames are built when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

from nbreplay.analysis import parquet
from nbreplay.analysis.dataset import Dataset, is_dataset
from nbreplay.analysis.frame_cache import CachedFrames
from nbreplay.analysis.frames import FrameSource, RowFrames
from nbreplay.analysis.library import Library
from nbreplay.analysis.sources import Source, Trouble, own_store, pause_gc, read, unreadable
from nbreplay.core.session import Session
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from nbreplay.analysis.dask_frames import DaskLibrary

__all__ = ["load"]


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
