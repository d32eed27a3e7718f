"""Library: recordings, or the calls of a session, as pandas frames that are built when first asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import UNREAD
from nbreplay.analysis.dataset import write_dataset
from nbreplay.analysis.frames import FrameSource, frame_of
from nbreplay.analysis.metrics import link_to_library
from nbreplay.analysis.rows import Row
from nbreplay.analysis.sources import Trouble, pause_gc

__all__ = ["Library"]


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
