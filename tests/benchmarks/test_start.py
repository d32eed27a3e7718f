"""The benchmark of a start of Python runs."""

from __future__ import annotations

import pytest

from tests.benchmarks import start


@pytest.mark.full
def test_it_prints_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    start.main(["--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("ratio of medians" in line for line in lines)
