"""What adopting notebooks proposes to change: masks in pyproject.toml, and a workflow."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from nbreplay.errors import NbreplayError
from nbreplay.testing.adoption.changes import Change, add_settings, format_workflow, imported_packages

PROJECTS = {
    "none": "",
    "other tables": '[project]\nname = "x"  # a comment\n\n[tool.ruff]\nline-length = 100\n',
    "no last line end": '[project]\nname = "x"',
    "table": '[tool.nbreplay]\nstore = "recordings"  # here\n\n[tool.ruff]\nline-length = 100\n',
    "both tables": "[tool.nbreplay]\nignore = ['a']\n\n[tool.nbreplay.outputs]\nstderr = true\n# last\n",
    "one mask": "[tool.nbreplay.outputs]\nmask = 'old'  # why\n",
    "one line": "[tool.nbreplay]\nmask = ['old']  # why\n[tool.nbreplay.outputs]\nmask = [ \"old\" ]\n",
    "lines": "[tool.nbreplay.outputs]\nmask = [\n  'old',  # why\n  # more\n  'older',\n]\ncompare = true\n",
    "lines, no comma": "[tool.nbreplay.outputs]\nmask = [\n\t'old',\n\t'older'\n]\n",
    "empty": "[tool.nbreplay]\nmask = []\n",
    "only outputs": "[tool.nbreplay.outputs]\nmask = ['old']\n\n[build-system]\nrequires = []\n",
    "dotted": "[tool]\nnbreplay.store = 'x'\nnbreplay.outputs.stderr = true\n",
    "inline": "[tool]\nnbreplay = {store = 'x', outputs = {mask = ['old']}}\n",
    "far apart": "[tool.nbreplay]\nstore = 'x'\n[project]\nname = 'x'\n[tool.nbreplay.outputs]\nstderr = true\n",
    "windows": "[tool.nbreplay]\r\nstore = 'x'\r\n\r\n[tool.z]\r\nb = 1\r\n",
}
REQUESTS, OUTPUTS = ("tool", "nbreplay", "mask"), ("tool", "nbreplay", "outputs", "mask")
NEW = {REQUESTS: [r"run \d+"], OUTPUTS: [r"Took \d+ s", "it's 5", "old"]}


def masks(table: dict[str, Any]) -> list[str]:
    found = table.get("mask", [])
    return [found] if isinstance(found, str) else found


@pytest.mark.parametrize("text", PROJECTS.values(), ids=PROJECTS)
def test_masks_are_added_and_the_rest_stays(text: str) -> None:
    before, changed = tomllib.loads(text), add_settings(text, NEW)
    after = tomllib.loads(changed)
    old, new = (table.get("tool", {}).get("nbreplay", {}) for table in (before, after))
    assert masks(new) == list(dict.fromkeys([*masks(old), *NEW[REQUESTS]]))
    assert masks(new["outputs"]) == list(dict.fromkeys([*masks(old.get("outputs", {})), *NEW[OUTPUTS]]))
    for table in (old, new, old.get("outputs", {}), new["outputs"]):
        table.pop("mask", None)
    if not old.get("outputs"):
        old["outputs"] = {}
    before.setdefault("tool", {})["nbreplay"] = old
    assert after == before
    assert add_settings(changed, NEW) == changed, "and only once"
    removed = [line for line in difflib.ndiff(text.splitlines(), changed.splitlines()) if line.startswith("- ")]
    assert all("mask" in line or "'older'" in line or "nbreplay = {" in line for line in removed), removed
    assert all(
        comment in changed for comment in ("# a comment", "# here", "# last", "# why", "# more") if comment in text
    )


def test_masks_look_as_a_person_would_write_them() -> None:
    one = '[project]\nname = "x"\n'
    assert add_settings(one, {OUTPUTS: [r"\d+ s"]}) == one + "\n[tool.nbreplay.outputs]\nmask = ['\\d+ s']\n"
    assert add_settings("", {REQUESTS: ["a", "b"]}) == "[tool.nbreplay]\nmask = [\n    'a',\n    'b',\n]\n"
    assert "  'older',\n  '\\d',\n]\n" in add_settings(PROJECTS["lines"], {OUTPUTS: [r"\d"]})


@pytest.mark.parametrize("text", ["[tool", "tool = 1\n", "[tool]\nnbreplay = 3\n", "[tool.nbreplay]\nmask = 3\n"])
def test_a_pyproject_that_is_wrong_is_left_to_a_person(text: str) -> None:
    with pytest.raises(NbreplayError, match=r"no setting can be added: .*Correct the file"):
        add_settings(text, {REQUESTS: ["a"]})


def test_the_workflow_runs_the_notebooks_whatever_their_names() -> None:
    def steps(names: list[str]) -> list[str]:
        workflow = yaml.safe_load(format_workflow(names, ["openai", "-r", "requirements.txt"]))
        return [step["run"] for step in workflow["jobs"]["replay"]["steps"] if "run" in step]

    assert steps(["nbs"]) == ["pip install nbreplay openai -r requirements.txt", "nbreplay run nbs"]
    names = ["a: b #.ipynb", "it's.ipynb", "plain.ipynb"]
    assert steps(names)[1] == "nbreplay run 'a: b #.ipynb' 'it'\"'\"'s.ipynb' plain.ipynb"
    assert steps(["with space"])[1] == "nbreplay run 'with space'"


def test_the_packages_that_notebooks_import() -> None:
    sources = (
        "%pip install x\nimport pytest as p, json\n!ls",
        "def f():\n    from yaml.loader import Loader",
        "this is(",
    )
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    assert imported_packages([nbformat.v4.new_notebook(cells=cells)]) == ["pytest", "PyYAML"]


def test_a_change_is_shown_and_written_unless_the_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.txt"
    change = Change(path, None, "a" * 1000 + "\nb\n")
    assert change.diff().splitlines()[:3] == ["--- /dev/null", "+++ b/../new/one.txt", "@@ -0,0 +1,2 @@"]
    assert "… (1,000 characters)" in change.diff()
    change.write()
    assert path.read_text() == "a" * 1000 + "\nb\n"
    with pytest.raises(NbreplayError, match="has changed meanwhile"):
        change.write()
