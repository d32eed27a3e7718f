"""Every notebook of this repository, in replay and with no key: its outputs are exactly the stored ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from nbreplay.testing.notebook_file import read_notebook
from nbreplay.testing.runner import run

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))
ANALYSIS = {"03_analysis"}
"""Those that read what the others recorded, with pandas."""
SILENT = {*ANALYSIS, "05_tests_and_ci"}
"""Those that ask no model."""


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def drawn(outputs: list[Any]) -> list[Any]:
    """Outputs, of plots no more than that there is one: another matplotlib draws other pixels."""
    made = copy.deepcopy(outputs)
    for output in made:
        if "image/png" in output.get("data", {}):
            output["data"]["image/png"] = "a plot"
    return made


@pytest.mark.full(quick=["01_quickstart", "02_streams_and_tools"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_its_stored_outputs(path: Path) -> None:
    if path.stem in ANALYSIS:
        pytest.importorskip("matplotlib", reason="the notebook draws: pip install -e '.[plot]'")
        pytest.importorskip("pyarrow", reason="the notebook reads parquet: pip install -e '.[parquet]'")
    before = path.read_bytes()
    result = run(path)
    assert result.errors == []
    assert {call.outcome for call in result.calls} == (set() if path.stem in SILENT else {"replayed"})
    stored = read_notebook(path)
    for cell, executed in zip(stored.cells, result.notebook.cells, strict=True):
        if cell.cell_type == "code" and "nbreplay-run" not in cell.metadata.get("tags", []):
            assert drawn(executed.outputs) == drawn(cell.outputs), cell.source
            assert executed.execution_count == cell.execution_count
    assert path.read_bytes() == before
