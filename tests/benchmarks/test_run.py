"""That the benchmarks run and measure everything; never how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.full
def test_quick_run_yields_every_figure(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks.run", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text("utf-8"))["figures"]
    assert [figure["name"] for figure in figures] == [
        "import nbreplay.session after openai",
        "import nbreplay.load_ipython_extension after openai",
        "mode off / not installed",
        "the floor itself, plain call",
        "replay, plain call, cold / floor",
        "replay, plain call, warm / floor",
        "the floor itself, stream of 50 chunks",
        "replay, stream of 50 chunks, cold / floor",
        "replay, stream of 50 chunks, warm / floor",
        "replay, plain call, cold, none ahead / floor",
        "replay, cold, 200 recordings / 100",
        "open 200 recordings, first call",
        "first miss among 200 recordings",
        "second miss among 200 recordings",
        "recording adds to a plain call, new keys",
        "recorded / not, a plain call, new keys",
        "recording adds to a plain call, one key, 10 takes",
        "recorded / not, a plain call, one key, 10 takes",
        "recording adds to a chunk of 50",
        "recorded / not, a chunk of 50",
        "a file replaced 10 times, without nbreplay",
        "not on disk when the call returns, of 5",
        "file of a stream of 50, a chunk",
        "mode off / not installed, after a replay without keys",
    ]
    assert {*map(frozenset, figures)} == {frozenset(figures[0])}
    assert {"name", "measured", "target", "met"} <= figures[0].keys()
    assert all(figure["name"] in done.stdout for figure in figures)
