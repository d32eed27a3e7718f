"""A foreign cookbook: recorded as it is, replayed without keys; what does not replay is named."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from tests.cookbook.server import Services
from tests.cookbook.table import NOTEBOOKS, adopt, commit, copy_cookbook, git, nbreplay, read_rows, record_and_replay

_NAMES = sorted(path.relative_to(NOTEBOOKS).as_posix() for path in NOTEBOOKS.rglob("*.ipynb"))
_PACKAGES = (
    "agents",
    "anthropic",
    "dotenv",
    "langchain_openai",
    "matplotlib",
    "mcp",
    "nest_asyncio",
    "pydantic_ai",
    "tenacity",
)
# A notebook, recordings, and the files that adopt writes beside them.
_MAY_CHANGE = re.compile(r" M .*\.ipynb|\?\? (.*/recordings/.*|pyproject\.toml|\.github/workflows/notebooks\.yml)")
_EDITS = {
    "streaming/haikus.ipynb": ("about the sea", "about the lake"),
    "progress/tqdm_loop.ipynb": ("{question:>6} =", "{question:>6} is"),
    "displays/rich_output.ipynb": ('"Done?"', '"Finished?"'),
    "images/generate_image.ipynb": ("What is in this image?", "Which colour is it?"),
    "openai_agents/weather_agent.ipynb": ("What's the weather in", "How hot is it in"),
}
"""A text in the source of a cell by notebook, and the text to put in its place."""
README = Path(__file__).parents[2] / "README.md"
AUTHOR = {f"GIT_{role}_{what}": "reader@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
GUIDE = README.parent / "docs" / "guide" / "many-notebooks.md"


@pytest.fixture
def cookbook(tmp_path: Path) -> Path:
    """A copy of all notebooks, where all that they import is installed."""
    for package in _PACKAGES:
        pytest.importorskip(package, reason="pip install -e '.[test-full,sdks]'")
    return copy_cookbook(tmp_path / "cookbook")


@pytest.mark.full
@pytest.mark.first
def test_a_cookbook_is_adopted_in_one_commit(cookbook: Path) -> None:
    sources = {name: _sources(cookbook / name) for name in _NAMES}
    with Services() as services:
        adopted = adopt(cookbook, services)
        assert adopted == {row.notebook: (row.adopt, row.replays) for row in read_rows()}
        changed = git(cookbook, "status", "--porcelain", "--untracked-files=all").splitlines()
        assert [line for line in changed if not _MAY_CHANGE.fullmatch(line)] == []
        assert {name: _sources(cookbook / name) for name in _NAMES} == sources
        commit(cookbook, "Adopted")
        hits = services.hits
        assert [replays for _, replays in adopt(cookbook, services).values()] == [row.replays for row in read_rows()]
        assert services.hits == hits, "what was recorded is not asked again"
        assert git(cookbook, "status", "--porcelain") == ""
    replayed = nbreplay(cookbook, services, "run", "--isolated", "--json", ".", keys=False)
    passed = {row["notebook"]: "yes" if row["passed"] else "no" for row in json.loads(replayed.stdout)}
    # Its variable is set in this run, as adopt says.
    assert passed == {row.notebook: row.replays for row in read_rows()} | {"plain/web_page.ipynb": "yes"}


@pytest.mark.full
@pytest.mark.first
def test_each_notebook_of_the_cookbook_is_recorded_and_replayed_as_expected(cookbook: Path) -> None:
    expected = {row.notebook: (row.record, row.replay) for row in read_rows()}
    assert record_and_replay(cookbook) == expected


def _sources(path: Path) -> list[object]:
    return [cell["source"] for cell in json.loads(path.read_text("utf-8"))["cells"]]


@pytest.mark.full
def test_a_changed_cell_changes_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("agents", reason="pip install openai-agents")
    cookbook = copy_cookbook(tmp_path / "cookbook", _EDITS)
    with Services() as services:
        done = nbreplay(cookbook, services, "adopt", "--yes", ".", keys=True)
        assert done.returncode == 0, done.stdout
        commit(cookbook, "Adopted")
        old = {name: json.loads((cookbook / name).read_text("utf-8")) for name in _EDITS}
        for name, edit in _EDITS.items():
            text = (cookbook / name).read_text("utf-8")
            before, after = (json.dumps(part)[1:-1] for part in edit)
            assert before in text
            # The source of a cell stands before its outputs.
            (cookbook / name).write_text(text.replace(before, after, 1), "utf-8")
        done = nbreplay(cookbook, services, "run", "--mode", "auto", "--update", ".", keys=True)
        assert done.returncode == 0, done.stdout
    status = git(cookbook, "status", "--short", "--untracked-files=all").splitlines()
    for name in _EDITS:
        new = json.loads((cookbook / name).read_text("utf-8"))
        changed = [number for number, cell in enumerate(old[name]["cells"]) if cell != new["cells"][number]]
        assert len(changed) == 1, name
        assert old[name] | {"cells": []} == new | {"cells": []}, name
        status.remove(f" M {name}")
        assert len([line for line in status if f" {Path(name).parent.as_posix()}/" in line]) <= 2, name
    assert all(re.fullmatch(r"\?\? \w+/recordings/.*", line) for line in status), (
        "recordings are added, and none is changed"
    )
    replayed = nbreplay(cookbook, services, "run", ".", keys=False)
    assert replayed.returncode == 0, replayed.stdout


@pytest.mark.parametrize("name", _NAMES)
def test_each_notebook_of_the_cookbook_is_valid_and_knows_nothing_of_nbreplay(name: str) -> None:
    text = (NOTEBOOKS / name).read_text("utf-8")
    nbformat.validate(json.loads(text))
    assert "replay" not in text.lower()


def test_the_expected_table_has_a_row_for_each_notebook() -> None:
    assert [row.notebook for row in read_rows()] == _NAMES


@pytest.mark.full
@pytest.mark.parametrize("page", [README, GUIDE], ids=lambda page: page.name)
def test_the_first_recipe_of_a_page_works_in_a_fresh_folder(page: Path, tmp_path: Path) -> None:
    found = re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    recipe = next(block for block in found if "--mode" in block)
    commands = [shlex.split(line, comments=True) for line in recipe.splitlines()]
    copy_cookbook(tmp_path / "examples", ["structured/math_tutor.ipynb"])
    shutil.copy(tmp_path / "examples" / "structured" / "math_tutor.ipynb", tmp_path / "my_notebook.ipynb")
    git(tmp_path, "init", "-q")
    with Services() as services:
        first = nbreplay(tmp_path, services, *commands[0][1:], keys=True)
        assert first.returncode == 0, first.stdout
    for command, line in zip(commands[1:], recipe.splitlines()[1:], strict=True):
        if command[0] == "git":
            subprocess.run(line, shell=True, cwd=tmp_path, env=os.environ | AUTHOR, check=True, timeout=60)
            continue
        done = nbreplay(tmp_path, services, *command[1:], keys=False)
        assert done.returncode == 0, done.stdout
        assert "1 replayed" in done.stdout
