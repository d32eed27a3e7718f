"""Frames written as a Parquet dataset, read back, and read by others."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis import columns, parquet
from nbreplay.analysis.dataset import MARK
from nbreplay.analysis.library import Library
from nbreplay.cli.main import main
from tests.core.making import chat, record, session
from tests.formats.making import REAL, real_files

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
OWN = Path(__file__).parents[2] / "recordings"
SAID = {"choices": [{"index": 0, "message": {"content": "Hello"}}], "usage": {"prompt_tokens": 3}}


def hold(made: Library, plain: Library) -> None:
    for name in columns.FRAMES:
        pd.testing.assert_frame_equal(getattr(made, name), getattr(plain, name))
    assert len(made) == len(plain)


@pytest.mark.full(quick=["none", "own"])
@pytest.mark.parametrize("source", ["own", "llama-stack", "none"])
def test_what_was_written_comes_back(tmp_path: Path, source: str) -> None:
    if source == "llama-stack":
        real_files()
    (tmp_path / "none").mkdir()
    plain = nbreplay.load({"own": OWN, "llama-stack": REAL, "none": tmp_path / "none"}[source])
    plain.to_parquet(tmp_path / "x.parquet")
    hold(nbreplay.load(tmp_path / "x.parquet"), plain)
    # A second time, in place of the first.
    plain.to_parquet(tmp_path / "x.parquet")
    made = nbreplay.load(str(tmp_path / "x.parquet"))
    hold(made, plain)
    assert made.interactions.llm.gaps().equals(plain.interactions.llm.gaps())
    assert nbreplay.compare(made, plain).counts["same"] == len(plain)
    assert not list(tmp_path.glob(".*"))


def test_a_session_keeps_what_only_it_has(tmp_path: Path) -> None:
    with session(tmp_path / "store") as live:
        record(live, chat("One"), SAID)
    plain = nbreplay.load(live)
    plain.to_parquet(tmp_path / "x.parquet")
    made = nbreplay.load(tmp_path / "x.parquet")
    hold(made, plain)
    assert made.interactions.outcome.tolist() == ["recorded"]


def test_others_read_it_as_a_dataset_in_months(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.parquet"
    assert main(["export", str(out), "--store", str(OWN), "--format", "parquet"]) == 0
    plain = nbreplay.load(OWN)
    assert capsys.readouterr().out.startswith(f"{len(plain)} answers of ")
    whole = pd.read_parquet(out / "interactions")
    assert whole.input_tokens.sum() == plain.interactions.input_tokens.sum()
    assert set(whole.month) == set(plain.interactions.recorded_at.dt.strftime("%Y-%m"))
    assert len(pd.read_parquet(out / "chunks")) == len(plain.chunks)


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "chat-0000000000000001.json").write_text("{")
    assert main(["export", str(tmp_path / "x"), "--store", str(store), "--format", "parquet"]) == 1
    assert "chat-0000000000000001.json cannot be read" in capsys.readouterr().err
    assert len(nbreplay.load(tmp_path / "x")) == 0


def test_nothing_of_others_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("years of work")
    assert main(["export", str(tmp_path / "x"), "--store", str(OWN), "--format", "parquet"]) == 2
    assert "Name another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["thesis.txt"]


def test_an_export_from_before_a_column_was_added_is_read(tmp_path: Path) -> None:
    out, plain = tmp_path / "x", nbreplay.load(OWN).interactions
    nbreplay.load(OWN).to_parquet(out)
    longer = {name: f"{key}#{name.partition('#')[2]}" for name, key in plain.key.items()}
    for part in out.rglob("*.parquet"):
        frame = pd.read_parquet(part)
        frame["interaction"] = frame.interaction.map(longer)
        if "model" in frame:
            frame["model"] = frame.model.astype(object).fillna(frame.tool.astype(object))
            frame = frame.drop(columns=["notebook", "tool", "prompt", "answer"])
        frame.to_parquet(part)
    made = nbreplay.load(out).interactions
    assert made[["notebook", "prompt", "answer"]].isna().all().all()
    pd.testing.assert_frame_equal(
        made[["model", "tool"]].reset_index(drop=True), plain[["model", "tool"]].reset_index(drop=True)
    )
    texts = nbreplay.compare(out, OWN).frame.query("kind == 'chat'")
    pd.testing.assert_series_equal(texts.text_a, texts.text_b, check_names=False)
    assert texts.prompt.notna().all()
    lib = nbreplay.load(OWN)
    assert [lib.row(name).interaction for name in made.index] == list(plain.index)


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    out = tmp_path / "x"
    nbreplay.load(OWN).to_parquet(out)
    part = next((out / "interactions").rglob("*.parquet"))
    data = part.read_bytes()
    part.write_bytes(data[: len(data) // 2])
    with pytest.raises(nbreplay.RecordingFormatError, match=r"part-0\.parquet"):
        nbreplay.load(out).interactions  # noqa: B018
    pd.DataFrame({"a": [1]}).to_parquet(part)
    with pytest.raises(nbreplay.RecordingFormatError, match="has no column"):
        nbreplay.load(out).interactions  # noqa: B018
    part.unlink()
    with pytest.raises(nbreplay.RecordingFormatError, match="has no month="):
        nbreplay.load(out).interactions  # noqa: B018
    for text, said in (
        ("{", "cannot be read"),
        (json.dumps({"nbreplay-frames": 9, "served": False, "interactions": 0}), "newer"),
    ):
        (out / MARK).write_text(text)
        with pytest.raises(nbreplay.RecordingFormatError, match=said):
            nbreplay.load(out)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(nbreplay.OptionError, match=r"nbreplay\[parquet\]"):
        parquet.arrow()
