"""The dask frames: those of pandas, over the files of a store and over a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis import columns, dask_frames

pytest.importorskip("dask.dataframe", reason="dask is not installed: pip install -e '.[dask]'")
OWN = Path(__file__).parents[2] / "recordings"


def same(made: Any, plain: pd.DataFrame) -> None:
    assert list(made.columns) == list(plain.columns)
    found = made.compute(scheduler="sync")
    if found.index.name is None:  # numbered anew in each partition, as dask does
        found = found.reset_index(drop=True)
    # Categories are of each partition: they are all there, in another order.
    pd.testing.assert_frame_equal(found, plain, check_categorical=False, check_dtype=False)
    for name, dtype in plain.dtypes.items():
        assert isinstance(found[name].dtype, type(dtype)), name


@pytest.mark.parametrize("source", ["store", "dataset"])
@pytest.mark.parametrize("name", [*columns.FRAMES, "unread"])
def test_they_are_those_of_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, name: str) -> None:
    monkeypatch.setattr(dask_frames, "FILES", 4)  # several partitions
    plain = nbreplay.load(OWN)
    if source == "dataset":
        plain.to_parquet(tmp_path / "x.parquet")
    made = nbreplay.load(OWN if source == "store" else tmp_path / "x.parquet", engine="dask")
    same(getattr(made, name), getattr(plain, name))
    if source == "store" and name == "interactions":
        assert made.interactions.npartitions > 1
        assert made.interactions.input_tokens.sum().compute() == plain.interactions.input_tokens.sum()


def test_what_cannot_be_read_is_an_error_or_told(tmp_path: Path) -> None:
    (tmp_path / "chat-0000000000000001.json").write_text("{")
    with pytest.raises(nbreplay.RecordingFormatError, match=r"chat-0000000000000001\.json"):
        nbreplay.load(tmp_path, engine="dask").interactions.compute(scheduler="sync")
    made = nbreplay.load(tmp_path, engine="dask", strict=False)
    assert len(made.interactions.compute(scheduler="sync")) == 0
    assert len(made.unread.compute(scheduler="sync")) == 1
    (tmp_path / "chat.json").write_text("{}")
    with pytest.raises(nbreplay.RecordingFormatError, match=r"chat\.json is not read"):
        nbreplay.load(tmp_path, engine="dask")
    unread = nbreplay.load(tmp_path, engine="dask", strict=False).unread.compute(scheduler="sync")
    assert [Path(file).name for file in unread.file] == ["chat-0000000000000001.json", "chat.json"]


def test_what_it_does_not_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nbreplay.OptionError, match="one store"):
        nbreplay.load([OWN, OWN], engine="dask")
    with pytest.raises(nbreplay.OptionError, match='"duckdb" or "dask"'):
        nbreplay.load(OWN, engine="spark")  # type: ignore[call-overload]
    monkeypatch.setitem(__import__("sys").modules, "dask.dataframe", None)
    with pytest.raises(nbreplay.OptionError, match=r"nbreplay\[dask\]"):
        nbreplay.load(OWN, engine="dask")
