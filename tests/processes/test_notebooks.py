"""The children of a notebook count in its summary and in its verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run
from tests.processes.test_children import GONE, ROOT, record


def notebook(*cells: str) -> Path:
    """Write a notebook of these cells into the working folder."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(made, "notebook.ipynb")
    return Path("notebook.ipynb")


def test_a_notebook_replays_the_calls_of_its_children_and_fails_on_their_misses() -> None:
    record(Path("recordings"), "a", "b")
    command = f"{sys.executable} {ROOT}/tests/processes/worker.py {GONE}"
    path = notebook(
        f"!{command} a",
        f"%%bash\n{command} b",
        f"import subprocess\nsubprocess.run({command.split()!r} + ['c'])",
    )
    result = run(path, RunOptions(compare=False))
    assert (result.count("replayed"), result.count("missing")) == (2, 1)
    assert not result.uncovered
    assert not result.passed
    assert 'asked "c"' in str(result.errors)
    assert [call.number for call in result.calls] == [1, 2, 3], "each is the call of its cell"
