"""Copies of a notebook's folder: as the folder is, in its project, and nothing comes back but recordings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nbreplay.core.config import Mode, project
from nbreplay.testing.isolation import copy_folder, find_left_files, list_files
from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run, run_all
from tests.provider import Provider
from tests.testing.making import ASK, notebook, recorded


def write_files(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_copy_has_what_the_folder_has_and_links_to_what_is_around_it(tmp_path: Path) -> None:
    texts = {
        "pyproject.toml": "[tool.nbreplay]\nmask = ['x']",
        "data/table.csv": "1,2",
        "nb/one.txt": "one",
        "nb/deep/two.txt": "two",
        "nb/recordings/a.txt": "recorded",
        "nb/__pycache__/x.pyc": "old",
        "nb/.env": "OPENAI_API_KEY=sk-1",
    }
    root = write_files(tmp_path / "project", texts)
    (root / ".git").mkdir()
    os.mkfifo(root / "nb" / "pipe")
    (root / "nb" / "link.csv").symlink_to("../data/table.csv")
    into = tmp_path / "into"
    into.mkdir()
    copy = copy_folder(root / "nb", into, secrets=False)
    assert sorted(path.name for path in copy.iterdir()) == ["deep", "link.csv", "one.txt", "recordings"]
    assert (copy / "../data/table.csv").read_text() == (copy / "link.csv").read_text() == "1,2"
    assert (copy / "../pyproject.toml").read_text().startswith("[tool.nbreplay]")
    assert (copy / "recordings").resolve() == (root / "nb" / "recordings").resolve()
    (copy / "link.csv").write_text("changed")
    assert (root / "data" / "table.csv").read_text() == "1,2", "nothing is written through a link"
    (copy / "deep" / "two.txt").write_text("changed")
    assert (root / "nb" / "deep" / "two.txt").read_text() == "two"
    assert sorted(list_files(copy)) == ["deep/two.txt", "link.csv", "one.txt"]


def test_a_notebook_that_runs_in_a_copy_records_into_its_own_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("project") / "nb"
    with Provider() as provider:
        sources = (ASK, f"URL = {provider.url!r}", "open('left.txt', 'w').write('x')", "ask(url=URL)")
        path = notebook(folder / "one.ipynb", *sources)
        into = tmp_path / "into"
        into.mkdir()
        copies = {path: copy_folder(folder, into) / path.name}
        (result,) = run_all([path], RunOptions(Mode.RECORD), copies=copies)
    assert result.errors == []
    assert result.path == path
    assert sorted(entry.name for entry in folder.iterdir()) == ["one.ipynb", "recordings"]
    (again,) = run_all([path], RunOptions(), copies=copies)
    assert again.errors == []
    assert again.count("replayed") == 1
    assert list(again.used) == [str(tmp_path / folder / "recordings")]


STATE = """import os
seen = os.path.exists("cache.db")
open("cache.db", "w").close()
ask("bye" if seen else "hello")"""


@pytest.mark.full
@pytest.mark.parametrize("has_git", [True, False])
def test_a_miss_names_what_an_earlier_run_has_left(tmp_path: Path, has_git: bool) -> None:
    folder = tmp_path / "nb"
    recorded(folder / "recordings", "hello")
    write_files(folder, {"notes.md": "ours", "helper.py": ""})
    path = notebook(folder / "a.ipynb", ASK, STATE)
    if has_git:
        (folder / "data.bin").write_text("tracked")
        for command in (["init", "-q"], ["add", "."]):
            subprocess.run(["git", *command], cwd=folder, check=True)
    isolated = RunOptions(isolated=True)
    for _ in range(2):
        assert run(path, isolated).passed
    assert not (folder / "cache.db").exists()
    assert run(path).passed
    (error,) = run(path).errors
    hint = "What an earlier run has left may be the reason: cache.db, kernels. Remove it"
    assert error.endswith(f"{hint}, and pass --isolated")
    (error,) = run(path, isolated).errors
    assert error.endswith(hint), "a copy has it, too"


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("has_git", [True, False])
def test_a_folder_with_notebooks_is_never_to_be_removed(tmp_path: Path, has_git: bool) -> None:
    """A notebook in a folder below writes a file beside itself."""
    notebook(tmp_path / "below" / "b.ipynb", "1")
    write_files(tmp_path, {"code/tool.py": "", "notes.txt": ""})
    if has_git:
        for command in (["init", "-q"], ["add", "."]):
            subprocess.run(["git", *command], cwd=tmp_path, check=True)
    write_files(tmp_path, {"below/answers.csv": "1", "cache/answers.json": "1"})
    if has_git:
        write_files(tmp_path, {"code/cache.db": "1"})
    else:
        shutil.rmtree(tmp_path / "code")
    notebook(tmp_path / "new" / "c.ipynb", "1")
    assert find_left_files(tmp_path, os.listdir(tmp_path), 0.0) == ["cache"]


@pytest.mark.parametrize("date", ["no date", "2020-01-01", ""])
def test_a_miss_is_told_whatever_else_is_in_the_folder(tmp_path: Path, date: str) -> None:
    """Recordings of strangers have any date, and files any name."""
    recorded(tmp_path / "recordings", "hello")
    (recording,) = (tmp_path / "recordings").glob("*.json")
    recording.write_text(re.sub(r'(?<="recorded_at": ")[^"]*', date, recording.read_text()))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / os.fsdecode(b"caf\xe9.db")).write_text("")
    (error,) = run(notebook(tmp_path / "a.ipynb", ASK, "ask('bye')")).errors
    assert "no recorded answer" in error
    assert ("caf" in error) is (date == "2020-01-01")
    error.encode()  # it can be printed


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "locked"), OSError("no links here")])
def test_a_folder_that_cannot_be_copied_fails_its_notebook_only(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(shutil, "copy2", refuse)
    (result,) = run_all([notebook(tmp_path / "a.ipynb", "1")], RunOptions(isolated=True))
    assert result.errors[0].startswith(f"Cannot copy {tmp_path} to ")
    assert str(error.strerror or error) in result.errors[0]


def test_a_project_has_its_notebooks_run_in_copies(tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "hello")
    write_files(tmp_path, {"pyproject.toml": "[tool.nbreplay]\nisolated = true"})
    result = run(notebook(tmp_path / "nb" / "a.ipynb", ASK, STATE))
    assert result.passed
    assert [*result.used] == [str(tmp_path / "recordings")]
    assert os.listdir(tmp_path / "nb") == ["a.ipynb"]


@pytest.mark.parametrize("name", ["isolated", "fast_sleep", "skip_installs"])
def test_a_project_sets_options_of_its_runs(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {"pyproject.toml": f"[tool.nbreplay]\n{name} = true"})
    assert RunOptions().with_defaults(project(tmp_path)) == RunOptions(**{name: True})
    assert RunOptions(**{name: True}).with_defaults(project(tmp_path.parent)) == RunOptions(**{name: True})


def test_what_is_recorded_in_a_copy_is_not_lost_unsaid(tmp_path: Path, provider: Provider) -> None:
    (tmp_path / "nb" / "recordings").mkdir(parents=True)
    own = f"import nbreplay as nr\nwith nr.session('own'):\n    ask(url={provider.url!r})"
    for name, source in {"default": f"ask(url={provider.url!r})", "own": own}.items():
        result = run(notebook(tmp_path / "nb" / f"{name}.ipynb", ASK, source), RunOptions(Mode.RECORD, isolated=True))
        text = f"{tmp_path / 'nb' / 'own'} was copied with the folder of the notebook, so what was recorded is gone"
        assert [error.partition(". ")[0] for error in result.errors] == ([text] if name == "own" else [])
    assert len(list((tmp_path / "nb" / "recordings").glob("chat-*"))) == 1
