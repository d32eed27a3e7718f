"""Catalogue: a library's interactions as the explorer lists them, newest first. Calls are read when they are chosen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from nbreplay.analysis.frames import FrameSource
from nbreplay.analysis.pandas import pd
from nbreplay.analysis.sources import Trouble
from nbreplay.core.log import Interaction
from nbreplay.core.words import count_of

_SEARCHED = ("prompt", "answer", "model", "tool", "kind", "notebook", "file", "error_type")


class LibraryCatalogue:
    """A library, as `nbreplay.notebook.catalogue.Catalogue` says."""

    def __init__(self, source: FrameSource, troubles: Sequence[Trouble] = ()) -> None:
        self._source = source
        count = len({trouble.file for trouble in troubles})
        self.notes = [f"{count_of(count, 'file')} could not be read in full: see Library.unread"] if count else []
        frame = source.frame("interactions")
        if "outcome" not in frame:  # the calls of a session stay in their order
            frame = frame.sort_values("recorded_at", ascending=False, kind="stable", na_position="last")
        self._frame = frame
        self.columns = _columns(frame)

    def __len__(self) -> int:
        return len(self._frame)

    def call(self, place: int) -> Interaction:
        """Return a recording by its place in the list; raise `NbreplayError` where it cannot be read."""
        return self._source.row(self._frame.index[place]).call

    def search(self, words: Sequence[str]) -> list[int]:
        """Return the places whose texts have all words, in any case."""
        texts = [self._frame[name].astype("string") for name in _SEARCHED]
        found = pd.Series(True, index=self._frame.index)
        for word in words:
            has = [text.str.contains(word, case=False, regex=False).fillna(False) for text in texts]
            found &= pd.concat(has, axis=1).any(axis=1)
        return [place for place, is_found in enumerate(found) if is_found]


def _columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    times, tokens = frame.recorded_at, frame[["input_tokens", "output_tokens"]]
    state = pd.Series("ok", index=frame.index).mask(frame.complete.eq(False).fillna(False), "incomplete")
    series = {
        "file": frame.file.map(lambda path: os.path.basename(path).removesuffix(".json"), na_action="ignore"),
        "at": times.dt.as_unit("s").astype("int64").mask(times.isna()),
        "tokens": tokens.sum(axis=1, min_count=1),
        "seconds": frame.duration_s.round(3),
        "state": state.mask(frame.error_type.notna(), "error"),
        "problem": frame.error_type,
    }
    names = ("notebook", "kind", "model", "tool", "prompt", "answer", "outcome")
    absent = pd.Series(pd.NA, index=frame.index, dtype=object)
    series |= {name: frame.get(name, absent) for name in names}
    calls = frame.n_tool_calls.map(lambda count: count_of(count, "tool call") if count else pd.NA)
    series["answer"] = series["answer"].astype(object).fillna(calls)
    return {name: _without_na(values) for name, values in series.items()}


def _without_na(values: pd.Series) -> list[Any]:
    return list(values.astype(object).where(values.notna(), None))
