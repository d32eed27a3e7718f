"""Every notebook of this repository, in replay and with no key: its outputs are exactly the stored ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbreplay.testing.outputs import read
from nbreplay.testing.runner import run

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_its_stored_outputs(path: Path) -> None:
    before = path.read_bytes()
    result = run(path)
    assert result.errors == []
    assert {call.outcome for call in result.calls} == {"replayed"}
    stored = read(path)
    for cell, executed in zip(stored.cells, result.notebook.cells, strict=True):
        if cell.cell_type == "code":
            assert executed.outputs == cell.outputs, cell.source
            assert executed.execution_count == cell.execution_count
    assert path.read_bytes() == before
