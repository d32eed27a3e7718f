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
    printed = capsys.readouterr().out
    assert printed.count("20 recordings, ") == 2
    for name in frames._rows():
        assert printed.count(name) == 2
    monkeypatch.setattr(frames, "ENGINES", ["pandas"])  # each is a process
    frames.main(["--recordings", "20", "--memory"])
    lines = [line for line in capsys.readouterr().out.splitlines() if ", cold" in line or ", again" in line]
    assert len(lines) == 2
