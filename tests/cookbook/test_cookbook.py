"""A foreign cookbook: recorded as it is, replayed without keys; what does not replay is named."""

from __future__ import annotations

import json
import re
import shlex
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
def test_the_commands_at_the_top_of_readme_work_in_a_fresh_folder(tmp_path: Path) -> None:
    block = README.read_text("utf-8").partition("```sh\n")[2].partition("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [command[0] for command in commands] == ["nbreplay"] * len(commands)
    folder = copy_cookbook(tmp_path / "examples", ["structured/math_tutor.ipynb"])
    assert folder.name in {argument.rstrip("/") for argument in commands[0]}
    with Services() as services:
        first = nbreplay(tmp_path, services, *commands[0][1:], keys=True)
        assert first.returncode == 0, first.stdout
    for command in commands[1:]:
        done = nbreplay(tmp_path, services, *command[1:], keys=False)
        assert done.returncode == 0, done.stdout
        assert "1 replayed" in done.stdout
