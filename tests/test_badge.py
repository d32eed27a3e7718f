"""``nbreplay badge``: the badges of a notebook, from what git knows of its repository, or from options."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from nbreplay.cli.main import main
from nbreplay.core.store.archive import open_archive
from nbreplay.errors import StoreError
from tests.testing.making import recorded

NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
MARKDOWN = """\
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]\
(https://colab.research.google.com/github/Ann/moon.py/blob/{branch}/notebooks/my%20moon.ipynb)
[![Open in Binder](https://mybinder.org/badge_logo.svg)]\
(https://mybinder.org/v2/gh/Ann/moon.py/HEAD?urlpath=lab/tree/notebooks/my%20moon.ipynb)
[![Run it in your browser](https://jupyterlite.rtfd.io/en/latest/_static/badge.svg)]\
(https://ann.github.io/moon.py/lab/index.html?path=notebooks/my%20moon.ipynb)

The first cell on Colab, which gets the recordings:
%pip install nbreplay
%load_ext nbreplay
%replay on https://github.com/Ann/moon.py/archive/HEAD.zip#recordings
"""
BROWSER = "note: the browser badge needs the site of nbreplay lite there. Pass --site for another address\n"
BINDER = "note: Binder installs what binder/requirements.txt names. Add that file, with nbreplay in it\n"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone, in which the test is; it has a notebook and its recordings."""
    folder = tmp_path / "clone"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "notebooks" / "my moon.ipynb").write_text(NOTEBOOK)
    recorded(folder / "recordings", "hello")
    git(folder, "init", "-q", "-b", "next")
    monkeypatch.chdir(folder)
    return folder


def git(folder: Path, *command: str) -> None:
    subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True)


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/Ann/moon.py.git",
        "https://ann:SECRET@github.com/Ann/moon.py",
        "git@github.com:Ann/moon.py.git",
        "ssh://git@github.com:22/Ann/moon.py.git",
    ],
)
def test_the_badges_of_a_clone(clone: Path, capsys: pytest.CaptureFixture[str], remote: str) -> None:
    git(clone, "remote", "add", "origin", remote)
    assert main(["badge", "notebooks/my moon.ipynb"]) == 0
    assert capsys.readouterr().out == MARKDOWN.format(branch="next") + f"\n{BROWSER}".replace(BROWSER, BINDER + BROWSER)


def test_names_that_are_given(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clone / "binder").mkdir()
    assert main(["badge", "notebooks/my moon.ipynb", "--repo", "Ann/moon.py", "--branch", "v 1"]) == 0
    assert capsys.readouterr().out == MARKDOWN.format(branch="v%201") + f"\n{BROWSER}"
    site = ["--site", "https://ann.dev/try/"]
    assert main(["badge", "notebooks/my moon.ipynb", "--repo", "Ann/moon.py", *site]) == 0
    out = capsys.readouterr().out
    assert "(https://ann.dev/try/lab/index.html?path=notebooks/my%20moon.ipynb)" in out
    assert "note:" not in out


def test_what_git_does_not_know_is_said(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(clone, "remote", "add", "origin", "../elsewhere")
    assert main(["badge", "notebooks/my moon.ipynb", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert "/OWNER/REPO/blob/next/" in printed["badges"]["colab"]
    assert printed["notes"][0] == "git has no remote called origin with a known address. Pass --repo OWNER/REPO"
    git(clone, "remote", "set-url", "origin", "https://gitlab.com/group/sub/moon.git")
    assert main(["badge", "notebooks/my moon.ipynb", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["badges"]) == ["binder"]
    assert "/v2/gl/group%2Fsub%2Fmoon/HEAD" in printed["badges"]["binder"]
    assert printed["first_cell"] is None
    assert any("gitlab.com" in note for note in printed["notes"])


def test_without_git_and_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.ipynb").write_text(NOTEBOOK)
    monkeypatch.setenv("PATH", "")
    assert main(["badge", "a.ipynb"]) == 0
    out = capsys.readouterr().out
    assert "github/OWNER/REPO/blob/main/a.ipynb" in out
    assert "first cell" not in out
    assert f"note: {tmp_path} is taken to be the folder of the repository" in out
    assert "/recordings does not have recordings yet" in out


@pytest.mark.parametrize("form", ["html", "rst"])
def test_other_formats(clone: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    main(["badge", "notebooks/my moon.ipynb", "--repo", "Ann/moon.py", "--format", form])
    line = {
        "html": '<a href="https://mybinder.org/v2/gh/Ann/moon.py/HEAD?urlpath=lab/tree/notebooks/my%20moon.ipynb">'
        '<img src="https://mybinder.org/badge_logo.svg" alt="Open in Binder"></a>',
        "rst": "   :target: https://mybinder.org/v2/gh/Ann/moon.py/HEAD?urlpath=lab/tree/notebooks/my%20moon.ipynb",
    }
    assert line[form] in capsys.readouterr().out.splitlines()


def test_the_first_cell_names_a_store(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it says after ``%replay on`` is an address that `open_archive` takes."""
    main(["badge", "notebooks/my moon.ipynb", "--repo", "Ann/moon.py", "--json"])
    address = json.loads(capsys.readouterr().out)["first_cell"].rpartition(" ")[2]
    with pytest.raises(StoreError, match=r"moon\.py/archive/HEAD\.zip cannot be fetched"):
        open_archive(address.replace("github.com", "localhost:1"))
