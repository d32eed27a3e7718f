"""The list of a library's interactions that the explorer shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nbreplay
from nbreplay.analysis.catalogue import LibraryCatalogue
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError
from nbreplay.notebook.catalogue import COLUMNS
from tests.analysis.making import lib, put, streamed


def asked(text: str, model: str = "m") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


SAID: dict[str, Any] = {"choices": [{"index": 0, "message": {"content": "Hello"}}], "usage": {"prompt_tokens": 3}}


@pytest.fixture
def catalogue(tmp_path: Path) -> LibraryCatalogue:
    """Three answers, one of them a failure and one cut short; and a tool's."""
    lib(
        tmp_path,
        (asked("first"), SAID),
        (asked("second " + "x" * 500 + " Oslo"), {"error": {"message": "no", "type": "overloaded"}}, {"status": 429}),
        (asked("third"), streamed(SAID), {"complete": False, "reason": "dropped"}),
    )
    put(Store(tmp_path), {"tool": "weather", "arguments": {"city": "Rome"}}, {"result": "mild"}, kind="tool", at=9)
    return LibraryCatalogue(nbreplay.load(tmp_path))


def test_the_newest_comes_first(catalogue: LibraryCatalogue) -> None:
    assert len(catalogue) == 4
    assert set(catalogue.columns) == set(COLUMNS)
    assert {len(values) for values in catalogue.columns.values()} == {4}
    assert catalogue.columns["at"] == sorted(catalogue.columns["at"], reverse=True)
    assert [text and text[:6] for text in catalogue.columns["prompt"][1:]] == ["third", "second", "first"]
    assert catalogue.columns["kind"] == ["tool", "chat", "chat", "chat"]
    assert catalogue.columns["tool"] == ["weather", None, None, None]
    assert catalogue.columns["model"] == [None, "m", "m", "m"]


def test_a_state_tells_failures_and_answers_that_were_cut_short(catalogue: LibraryCatalogue) -> None:
    assert catalogue.columns["state"] == ["ok", "incomplete", "error", "ok"]
    assert catalogue.columns["problem"] == [None, None, "overloaded", None]
    assert catalogue.columns["tokens"] == [None, 3, None, 3]
    assert catalogue.columns["outcome"] == [None] * 4


def test_a_call_is_that_of_its_row(catalogue: LibraryCatalogue) -> None:
    for place, prompt in enumerate(catalogue.columns["prompt"]):
        request = catalogue.call(place).request
        assert request is not None
        assert request.kind == "tool" or request.body["messages"][0]["content"] == prompt


@pytest.mark.parametrize(
    ("words", "places"),
    [(["oslo"], [2]), (["oslo", "overloaded"], [2]), (["oslo", "first"], []), (["WEATHER"], [0]), ([], [0, 1, 2, 3])],
)
def test_whole_texts_are_searched(words: list[str], places: list[int], catalogue: LibraryCatalogue) -> None:
    assert catalogue.search(words) == places


def test_a_recording_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    lib(tmp_path, (asked("first"), SAID))
    made = LibraryCatalogue(nbreplay.load(tmp_path))
    made._frame.index = made._frame.index.map(lambda name: f"{name}0")
    with pytest.raises(NbreplayError, match="is not among"):
        made.call(0)


def test_what_could_not_be_read_is_noted(tmp_path: Path) -> None:
    made = lib(tmp_path, (asked("first"), SAID))
    (tmp_path / "chat-0123456789abcdef.json").write_text("{")
    made = nbreplay.load(tmp_path, strict=False)
    assert LibraryCatalogue(made, made._troubles).notes == ["1 file could not be read in full: see Library.unread"]


def test_a_library_prints_its_newest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lib(tmp_path, (asked("first"), SAID)).show()
    assert capsys.readouterr().out.startswith("1 recording\n")


def test_an_empty_library_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nbreplay.load(tmp_path).show()
    assert capsys.readouterr().out == "0 recordings\n"
