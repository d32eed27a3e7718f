"""Installs in cells: which commands are installs, what is compared beside them, and how they are left out."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

from nbreplay.testing.installs import find_installs
from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run
from tests.testing.making import notebook


@pytest.mark.parametrize(
    "source",
    [
        "%pip install -q thing",
        "# what is needed\n!pip install thing\n%conda install -y thing",
        "pip install thing",
        "%uv pip install thing",
        "!pip install 'thing>=1' \\\n    other 2>&1 | grep -v satisfied",
        "!{sys.executable} -m pip install thing",
        "!sudo apt-get update > /dev/null && sudo apt-get -y install thing && echo done",
        "%%bash\n# set up\npip install -r requirements.txt\nnpm i thing",
        "%%capture\n%pip install thing",
        "get_ipython().system('pip install thing')",
        "os.system('pip install thing')",
        "subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'thing'])",
    ],
)
def test_a_cell_that_only_installs(source: str) -> None:
    assert find_installs(source).are_all


@pytest.mark.parametrize(
    "source",
    [
        "!pip install thing\nimport thing",
        "%%time\n!pip install thing\nprint(1)",
        "if not here:\n    %pip install thing",
        "log = !pip install thing\nlog",
    ],
)
def test_a_cell_that_installs_and_does_more(source: str) -> None:
    commands, are_all = find_installs(source)
    assert [command.split()[:2] for command in commands] == [["pip", "install"]]
    assert not are_all


@pytest.mark.parametrize(
    "source",
    [
        "!pip list",
        "!pip install thing && python thing.py",
        "%%bash\npip install thing\ncurl example.org",
        "print('pip install thing')",
        "pip = install = 3",
        "%%writefile setup.sh\npip install thing",
        "if (\n!pip install thing",
        "!python -m thing install",
    ],
)
def test_a_cell_that_does_not_install_or_more_in_one_command(source: str) -> None:
    assert find_installs(source).commands == ()


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook with installs, run before; a ``pip`` of its own writes its arguments down."""
    program = tmp_path / "bin" / "pip"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "log"}\necho collecting "$@" $$\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
    mixed = "number = 1\n!pip install two\ndisplay(number)"
    path = notebook(tmp_path / "a.ipynb", "!pip install one", mixed, "%%sh\npip install three", "print(number)")
    content = nbformat.read(path, as_version=4)
    for cell, text in zip(content.cells, ("then", "then", "then", "1\n"), strict=True):
        cell.execution_count, cell.outputs = 1, [nbformat.v4.new_output("stream", text=text)]
    content.cells[1].outputs.append(nbformat.v4.new_output("display_data", {"text/plain": "1"}))
    nbformat.write(content, path)
    return path


def test_what_an_install_prints_is_not_compared_and_the_rest_is(book: Path) -> None:
    result = run(book, RunOptions())
    assert (book.parent / "log").read_text().split("\n") == ["install one", "install two", "install three", ""]
    assert (result.errors, [cell.status for cell in result.cells]) == ([], ["ok"] * 4)
    content = nbformat.read(book, as_version=4)
    content.cells[1].outputs[1].data = {"text/plain": "2"}
    nbformat.write(content, book)
    assert [failure.cell for failure in run(book, RunOptions()).failures] == [2]


def test_installs_are_left_out_and_the_rest_runs(book: Path) -> None:
    result = run(book, RunOptions(skip_installs=True))
    assert not (book.parent / "log").exists()
    assert (result.errors, [cell.status for cell in result.cells]) == ([], ["skipped", "ok", "skipped", "ok"])
    assert "skipped, since only packages are installed there: cells 1 and 3" in result.notes
    stored = nbformat.read(book, as_version=4)
    assert [result.notebook.cells[index].outputs for index in (0, 2)] == [
        stored.cells[index].outputs for index in (0, 2)
    ]
    assert result.notebook.cells[1].outputs == stored.cells[1].outputs[1:]
