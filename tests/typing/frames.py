"""Libraries, frames and comparisons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, assert_type

import dask.dataframe
import duckdb
import pandas as pd
import polars
from matplotlib.axes import Axes

import nbreplay as nr


def read(store: Path, session: nr.Session) -> pd.DataFrame:
    lib = nr.load(store)
    assert_type(lib, nr.Library)
    assert_type(nr.load([store, "other.zip"], strict=False, cache=False, engine="pandas"), nr.Library)
    assert_type(nr.load(session), nr.Library)
    frames: list[pd.DataFrame] = [lib.interactions, lib.messages, lib.chunks, lib.tool_calls, lib.unread]
    assert_type(len(lib), int)
    lib.to_parquet(store / "export")
    return pd.concat(frames)


def lazily(store: str) -> list[dask.dataframe.DataFrame]:
    lib = nr.load(store, engine="dask")
    return [lib.interactions, lib.messages, lib.chunks, lib.tool_calls, lib.unread]


def query(store: str) -> tuple[polars.LazyFrame, duckdb.DuckDBPyRelation]:
    lazy, relations = nr.load(store, engine="polars"), nr.load(store, engine="duckdb", cache=False)
    assert_type(lazy.chunks, polars.LazyFrame)
    assert_type(relations.unread, duckdb.DuckDBPyRelation)
    return lazy.interactions, relations.tool_calls


def measure(lib: nr.Library) -> None:
    streams = lib.interactions.query("stream").sort_values("recorded_at")
    assert_type(streams.llm.summary(by=["provider", "model"]), pd.DataFrame)
    assert_type(lib.interactions.head(10).llm.ttft(), pd.DataFrame)
    assert_type(lib.chunks.llm.gaps(stall=0.5), pd.DataFrame)
    assert_type(lib.tool_calls.llm.tool_success(), pd.DataFrame)
    assert_type(lib.interactions.llm.cost({"gpt-4o": {"input": 2.5, "output": 10}}), pd.DataFrame)
    assert_type(streams.llm.throughput(by=None), pd.DataFrame)
    assert_type(lib.interactions.llm.otel(), pd.DataFrame)


def draw(lib: nr.Library, ax: Axes) -> list[Axes]:
    plot = lib.interactions.llm.plot
    draws: list[Callable[[], Axes]] = [plot.ttft, plot.gaps, plot.timeline, plot.tokens, plot.cost]
    assert_type(plot.ttft(by="provider", ax=ax), Axes)
    assert_type(plot(), Axes)
    assert_type(plot(kind="ttft"), Axes)
    return [draw() for draw in draws]


def compare(old: nr.Library, session: nr.Session) -> int:
    by_key = nr.compare("recordings-october", "recordings")
    assert_type(by_key, nr.Comparison)
    calls = old.interactions
    by_prompt = nr.compare(calls.query("model == 'gpt-4o'"), calls.query("model == 'o3'"), on="prompt")
    assert_type(by_prompt.on, Literal["key", "prompt"])
    assert_type(by_prompt.counts, dict[str, int])
    assert_type(by_prompt.changed, pd.DataFrame)
    nr.compare(old, session.interactions).show()
    for one, other in by_key.sides:
        assert_type((one, other), tuple[nr.Interaction | None, nr.Interaction | None])
    return len(by_key.frame)
