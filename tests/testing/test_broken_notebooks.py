"""The notebooks of this repository under pytest: they pass, and each way of breaking one fails in its own way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.testing.test_notebooks import ANALYSIS, NOTEBOOKS, SILENT

pytestmark = pytest.mark.full

HERE = Path(__file__).resolve().parents[2]
QUICKSTART = "01_quickstart"
RUNNER = "05_tests_and_ci"
"""It runs the quickstart, which must lie beside it, several times."""
WAYS = {
    QUICKSTART: ("edited", "new", "hangs", "dies", "removed"),
    RUNNER: ("edited",),
    "06_any_process": ("edited",),
    "07_any_client": ("edited", "removed"),
}
"""How a notebook is broken, where not in the usual ways: what takes long is shown with one."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the notebooks and their recordings, elsewhere."""
    for name in ("notebooks", "recordings"):
        shutil.copytree(HERE / name, tmp_path / name, ignore=shutil.ignore_patterns(".nbreplay", "images"))
    shutil.copy(HERE / "pyproject.toml", tmp_path)
    return tmp_path


def under_pytest(project: Path, *given: str, path: str = "notebooks") -> tuple[int, str]:
    """Run pytest over notebooks as anybody would, with no key; return its exit status and what it says."""
    keys = {name for name in os.environ if name.endswith("_API_KEY") or name.startswith(("NBREPLAY", "PYTEST_"))}
    environment = {name: value for name, value in os.environ.items() if name not in keys}
    environment["PYTHONPATH"] = str(HERE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbreplay", "-o", "addopts=", *given]
    command += ["-p", "nbreplay.testing.plugin", str(project / path)]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    return done.returncode, done.stdout + done.stderr


def changed(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the cells of a notebook."""
    made = json.loads(path.read_text("utf-8"))
    change(made["cells"])
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")


def words(output: dict[str, Any]) -> str:
    """A word of an output's text, or nothing."""
    text = output.get("text") or output.get("data", {}).get("text/plain") or ""
    return next(iter(re.findall(r"[A-Za-z]{5,}", "".join(text))), "")


def added(source: str) -> Callable[[list[dict[str, Any]]], None]:
    """A change: another cell at the end."""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "added",
        "metadata": {},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
    return lambda cells: cells.append(cell)


def test_all_of_them_pass(project: Path) -> None:
    pytest.importorskip("matplotlib", reason="a notebook draws: pip install -e '.[plot]'")
    pytest.importorskip("pyarrow", reason="a notebook reads parquet: pip install -e '.[parquet]'")
    before = {path: path.read_bytes() for path in project.rglob("*.ipynb")}
    status, said = under_pytest(project, "--nbreplay-update")
    assert status == 0, said
    assert f"{len(NOTEBOOKS)} passed" in said
    assert ", 0 recorded, 0 missing" in said
    assert "outputs stored" not in said
    assert {path: path.read_bytes() for path in project.rglob("*.ipynb")} == before, "not one byte"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_way_of_breaking_one(project: Path, path: Path) -> None:
    """All at once, each in a copy of its own: the failure names the cell, and what to do."""
    if path.stem in ANALYSIS:
        pytest.importorskip("matplotlib", reason="it draws: pip install -e '.[plot]'")
        pytest.importorskip("pyarrow", reason="it reads parquet: pip install -e '.[parquet]'")
    ways = WAYS.get(path.stem, ("edited", "new", "removed"))
    notebook = project / "notebooks" / path.name
    stored = json.loads(notebook.read_text("utf-8"))["cells"]
    shown = {at: text for at, cell in enumerate(stored) for out in cell.get("outputs", ()) if (text := words(out))}
    edited, word = next(iter(shown.items()))

    def edit(cells: list[dict[str, Any]]) -> None:
        cells[edited]["outputs"] = json.loads(json.dumps(cells[edited]["outputs"]).replace(word, "another"))

    changes: dict[str, Callable[[list[dict[str, Any]]], None]] = {
        "edited": edit,
        "new": added(
            "import openai\n"
            "openai.OpenAI().chat.completions.create(model='m', messages=[{'role': 'user', 'content': 'new'}])"
        ),
        "hangs": added("import time\ntime.sleep(600)"),
        "dies": added("import os\nos._exit(3)"),
        "removed": lambda _: None,
    }
    for other in project.rglob("*.ipynb"):
        if other != notebook and not (path.stem == RUNNER and other.stem == QUICKSTART):
            other.unlink()
    for way in ways:
        # One lacks a recording that it asks for, or reads: it has a store of its own.
        home = project / "removed" if way == "removed" else project
        if way == "removed":
            shutil.copytree(project / "recordings", home / "recordings")
            shutil.copytree(project / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns("*.ipynb"))
            _remove_recording(home / "recordings", stored, every=path.stem in SILENT)
        copied = home / "notebooks" / f"{way}.ipynb"
        shutil.copy(notebook, copied)
        changed(copied, changes[way])
    notebook.unlink()
    others = len(list(project.rglob("*.ipynb"))) - len(ways)
    given = ["--nbreplay-timeout=20"] if "hangs" in ways else []
    status, said = under_pytest(project, *given, "--nbreplay-n=2", path=".")
    assert status == 1, said
    assert f"{len(ways)} failed{f', {others} passed' if others else ' in'}" in said, said
    parts = {}
    for block in said.split("\n_____")[1:]:
        parts[next(way for way in ways if f"{way}.ipynb" in block.split("\n")[0])] = " ".join(block.split())
    number = len(stored) + 1
    # What reads them all has nothing to say of one; without any it says something else, or raises.
    expected = {
        "edited": [f"cell {edited + 1} (", "--nbreplay-update"],
        "new": [f"cell {number} (import openai): RecordingMissing", 'asked "new"'],
        "hangs": [f"cell {number} (import time): cell timed out after 20 s"],
        "dies": [f"cell {number} (import os): the kernel died"],
        "removed": ["cell " if path.stem in SILENT else "RecordingMissing: no recorded"],
    }
    absent = {way: [text for text in expected[way] if text not in parts[way]] for way in ways}
    assert not any(absent.values()), (absent, parts)
    assert "RecordingMissing" not in parts["edited"]


def _remove_recording(store: Path, cells: list[dict[str, Any]], *, every: bool) -> None:
    """Remove the first recording of some cells, or all recordings."""
    ids = {hashlib.sha256("".join(cell["source"]).strip().encode()).hexdigest()[:8]: cell["id"] for cell in cells}
    for file in sorted(store.glob("chat-*.json")):
        owners = [take["cell"] for take in json.loads(file.read_text("utf-8"))["takes"] if take.get("cell")]
        if every or any((owner.get("source"), owner.get("id")) in ids.items() for owner in owners):
            file.unlink()
            if not every:
                return


def test_one_changed_cell_changes_that_cell_only(project: Path) -> None:
    path = project / "notebooks" / "01_quickstart.ipynb"
    before = path.read_text("utf-8")
    made = json.loads(before)
    (place, *_) = [at for at, cell in enumerate(made["cells"]) if "".join(cell["source"]).startswith("print(")] or [
        next(at for at, cell in enumerate(made["cells"]) if any("name" in out for out in cell.get("outputs", ())))
    ]
    source = "".join(made["cells"][place]["source"]) + "\nprint('one more line')"
    changed(path, lambda cells: cells[place].update(source=source.splitlines(keepends=True)))
    edited = path.read_text("utf-8")
    status, said = under_pytest(project, "--nbreplay-update", path="notebooks/01_quickstart.ipynb")
    assert status == 0, said
    assert "outputs stored in notebooks/01_quickstart.ipynb" in said
    after, old = json.loads(path.read_text("utf-8")), json.loads(edited)
    assert "one more line" in json.dumps(after["cells"][place]["outputs"])
    after["cells"][place]["outputs"] = old["cells"][place]["outputs"]
    assert after == old
    # The lines of the file, too: only within that cell's outputs.
    new_lines, old_lines = path.read_text("utf-8").split("\n"), edited.split("\n")
    same = sum(line in new_lines for line in old_lines)
    assert same >= len(old_lines) - 2


def test_somebody_elses_notebook_works_from_any_working_directory(tmp_path: Path, project: Path) -> None:
    """Outside the repository, with its own recordings beside it: by both commands, from here and from there."""
    home = tmp_path / "home" / "user" / "course"
    home.mkdir(parents=True)
    shutil.copy(project / "notebooks" / "01_quickstart.ipynb", home / "mine.ipynb")
    shutil.copytree(project / "recordings", home / "recordings")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(HERE)
    environment.pop("NBREPLAY_MODE", None)
    run = ["-m", "nbreplay", "run"]
    test = ["-m", "pytest", "-p", "no:cacheprovider", "-p", "nbreplay.testing.plugin", "--nbreplay"]
    for folder, command, name in (
        (home, run, "mine.ipynb"),
        (elsewhere, run, str(home / "mine.ipynb")),
        (tmp_path, test, "home"),
    ):
        done = subprocess.run(
            [sys.executable, *command, name], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "8 replayed, 0 recorded, 0 missing" in done.stdout
    assert not list(elsewhere.iterdir())
