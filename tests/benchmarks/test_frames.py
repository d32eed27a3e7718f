"""The benchmark of frames runs, and says what it is to say. No time is asserted."""

from __future__ import annotations

import pytest

from tests.benchmarks import frames

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")


@pytest.mark.full
def test_it_measures_first_and_second_loads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "YOUNG_NS", 0)
    frames.main(["--recordings", "20", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.startswith("20 recordings, ")
        assert line.count("times as fast") == 3
    frames.main(["--recordings", "20", "--memory"])
    assert capsys.readouterr().out.count("GiB at most") == 2
