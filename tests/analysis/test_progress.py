"""Progress: said of what takes long, and of nothing else."""

from __future__ import annotations

import pytest

from nbreplay.analysis import progress


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.told([1, 2, 3], "things")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "AFTER_S", 0.0)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    assert len(list(progress.told(range(3000), "things read"))) == 3000
    said = capsys.readouterr()
    assert said.out == ""
    first, *_, last = said.err.split("\r")[1:]
    assert first == "nbreplay: 0 of 3,000 things read"
    assert last.startswith("nbreplay: 3,000 things read in ")
    assert last.endswith(" s\n")
