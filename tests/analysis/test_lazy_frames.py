"""The frames of polars and duckdb: those of pandas, over the cache of a store and over a dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis import columns, frame_cache, parquet
from nbreplay.analysis.frames import index_of
from nbreplay.core.store.store import Store
from tests.analysis.making import lib, put

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
pytest.importorskip("polars", reason="polars is not installed: pip install -e '.[polars]'")
pytest.importorskip("duckdb", reason="duckdb is not installed: pip install -e '.[duckdb]'")
OWN = Path(__file__).parents[2] / "recordings"
ENGINES = ("polars", "duckdb")
ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
SAID = {"choices": [{"index": 0, "message": {"content": "b"}}]}


def loaded(source: Any, engine: str, **options: Any) -> Any:
    return nbreplay.load(source, engine=engine, **options)


def table(frame: Any) -> Any:
    """Everything in a frame of polars or duckdb."""
    return frame.collect().to_arrow() if hasattr(frame, "collect") else frame.to_arrow_table()


def same(source: Any, engine: str, **options: Any) -> None:
    """The frames are those of pandas without a cache, types and the order of rows and columns too."""
    made, plain = loaded(source, engine, **options), nbreplay.load(source, **{**options, "cache": False})
    assert len(made) == len(plain)
    assert repr(made) == repr(plain).replace("Library", type(made).__name__)
    for name, declared in {**columns.FRAMES, "unread": columns.UNREAD}.items():
        found = table(getattr(made, name))
        assert found.column_names == [column.name for column in declared]
        stored = getattr(plain, name).drop(columns="cost_usd", errors="ignore")
        pd.testing.assert_frame_equal(parquet.from_table(found, declared, index=index_of(name)), stored)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    # Its name is a pattern of files, a partition and no SQL text.
    return Path(shutil.copytree(OWN, tmp_path / "it's=1" / "[s]*?", ignore=shutil.ignore_patterns(".nbreplay")))


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("engine", ENGINES)
def test_they_are_those_of_pandas(store: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 10**15)
    same(store, engine)  # young, so that nothing is kept
    assert not (store / ".nbreplay" / "frames").exists()
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    monkeypatch.setattr(frame_cache, "BATCH", 4)  # as a large store is read
    same(store, engine, cache=False)
    assert not (store / ".nbreplay" / "frames").exists()
    same(store, engine)
    assert len(list((store / ".nbreplay" / "frames").iterdir())) == len(columns.FRAMES)
    monkeypatch.setattr(frame_cache, "read_batches", None)
    for name in columns.FRAMES:  # out of the cache
        assert len(table(getattr(loaded(store, engine), name))) == len(getattr(nbreplay.load(store), name))


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("engine", ENGINES)
def test_they_are_those_of_an_export(tmp_path: Path, engine: str) -> None:
    nbreplay.load(OWN).to_parquet(tmp_path / "[x].parquet")
    made, plain = loaded(tmp_path / "[x].parquet", engine), nbreplay.load(tmp_path / "[x].parquet")
    for name, declared in columns.FRAMES.items():
        found = parquet.from_table(table(getattr(made, name)), declared, index=index_of(name))
        pd.testing.assert_frame_equal(found, getattr(plain, name).drop(columns="cost_usd", errors="ignore"))
    for part in (tmp_path / "[x].parquet" / "chunks").rglob("*.parquet"):
        pd.read_parquet(part).drop(columns="text").to_parquet(part)
    with pytest.raises(nbreplay.RecordingFormatError, match="has no column text"):
        made = loaded(tmp_path / "[x].parquet", engine).chunks


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_cannot_be_read_is_an_error_or_told(store: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    monkeypatch.setattr(frame_cache, "BATCH", 4)
    text = next(store.glob("chat-*.json")).read_text()
    (store / "chat-0000000000000001.json").write_text("{")
    (store / "chat-0000000000000002.json").write_text(text)  # a key twice, in two batches
    (store / "package.json").write_text("{}")
    with pytest.raises(nbreplay.RecordingFormatError, match=r"chat-0000000000000001\.json"):
        loaded(store, engine)
    same(store, engine, strict=False)
    # Nothing is kept, as of pandas.
    assert not list((store / ".nbreplay" / "frames").iterdir())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frame_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    monkeypatch.setattr(frame_cache, "BATCH", 1)  # nothing that was read stays in memory
    lib(tmp_path, (ASKED, SAID), ({**ASKED, "temperature": 1}, SAID))
    first = loaded(tmp_path, engine)
    calls = first.interactions
    put(Store(tmp_path), ASKED, SAID)
    assert len(table(loaded(tmp_path, engine).interactions)) == 3
    assert len(table(calls)) == 2
    with pytest.raises(nbreplay.StoreError, match="Load it again"):
        first.messages  # noqa: B018


def test_they_answer_queries(store: Path) -> None:
    import duckdb
    import polars as pl

    expected = nbreplay.load(store).interactions.groupby("model", observed=True).output_tokens.sum()
    lazy = nbreplay.load(store, engine="polars").interactions
    by_model = lazy.filter(pl.col("model").is_not_null()).group_by("model").agg(pl.sum("output_tokens")).collect()
    assert dict(by_model.iter_rows()) == expected.to_dict()
    calls = nbreplay.load(store, engine="duckdb").interactions  # noqa: F841
    found = duckdb.sql("select model, sum(output_tokens) from calls where model is not null group by model")
    assert {model: tokens or 0 for model, tokens in found.fetchall()} == expected.to_dict()


def test_what_it_does_not_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nbreplay.OptionError, match="one store"):
        nbreplay.load([OWN, OWN], engine="polars")
    for missing in ("duckdb", "pyarrow.parquet"):
        with monkeypatch.context() as patch:
            patch.setitem(__import__("sys").modules, missing, None)
            with pytest.raises(nbreplay.OptionError, match=r"pip install 'nbreplay\[duckdb\]'"):
                nbreplay.load(OWN, engine="duckdb")
