"""Which notebook made a recording: takes name it, and the commands and the frames show it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.cell import Cell
from nbreplay.core.config import Mode
from nbreplay.notebook.magics import find_notebook
from nbreplay.testing.runner import run
from tests.provider import Provider
from tests.testing.making import ASK, notebook


def test_recordings_name_their_notebooks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of two that ask the same names its own, one that is renamed replays, and every command shows them."""
    store = tmp_path / "recordings"
    store.mkdir()
    with Provider() as provider:
        ask = f"URL = {provider.url!r}\nask(url=URL)"
        one = notebook(tmp_path / "examples" / "one.ipynb", ASK, ask, "ask('bye', URL)")
        two = notebook(tmp_path / "two.ipynb", ASK, "# another cell", ask)
        for path in (one, two):
            assert run(path, mode=Mode.RECORD).errors == []
    shared, alone = sorted(nr.Store(store).recordings(), key=lambda item: -len(item[1].takes))  # type: ignore[union-attr]
    assert isinstance(shared[1], nr.Recording)
    assert [take.cell and take.cell.notebook for take in shared[1].takes] == ["examples/one.ipynb", "two.ipynb"]
    assert '"cell": {"id": "cell-1", "source": "' in shared[1].text()
    assert '", "notebook": "examples/one.ipynb"}, "ids": []' in shared[1].text()
    assert str(tmp_path) not in shared[1].text()

    renamed = one.rename(one.with_name("renamed.ipynb"))
    assert run(renamed).errors == []

    assert main(["ls", str(store), "--by", "notebook"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [["examples/one.ipynb", "2", "2"], ["two.ipynb", "1", "1"]]
    assert main(["ls", str(store), "--by", "notebook", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    row = {"notebook": "two.ipynb", "recordings": 1, "takes": 1, "bytes": (store / shared[0]).stat().st_size}
    assert rows[1].items() >= row.items()
    assert main(["show", shared[0], "--store", str(store)]) == 0
    assert "  in two.ipynb\n" in capsys.readouterr().out
    assert main(["trim", str(two)]) == 0
    assert f"  {alone[0]}  made by examples/one.ipynb\n" in capsys.readouterr().out
    assert sorted(nr.load(store, cache=False).interactions.notebook) == ["examples/one.ipynb"] * 2 + ["two.ipynb"]


def test_recordings_of_scripts_name_no_notebook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBREPLAY_NOTEBOOK_FILE", "/home/somebody/one.ipynb")

    @nr.tool
    def double(number: int) -> int:
        return 2 * number

    with nr.session(tmp_path / "store", mode="record"):
        double(2)
    (text,) = [path.read_text() for path in (tmp_path / "store").glob("*.json")]
    assert '"cell": null' in text
    assert main(["ls", str(tmp_path / "store"), "--by", "notebook"]) == 0
    assert capsys.readouterr().out.startswith("(not known)\t1\t1\t")


def test_a_notebook_is_named_from_the_folder_of_the_store(tmp_path: Path) -> None:
    """Never by its whole path: that would tell the user's name."""
    (tmp_path / "nb" / "deep").mkdir(parents=True)

    def name(path: object, folder: Path = tmp_path / "nb") -> str | None:
        return Cell("a", 1, "ask()", str(path)).notebook_from(str(folder))

    assert name(tmp_path / "nb" / "deep" / "one.ipynb") == "deep/one.ipynb"
    assert name(tmp_path / "nb" / "one.ipynb") == "one.ipynb"
    assert name(tmp_path / "one.ipynb") == "one.ipynb"
    assert name(tmp_path / "nb" / ".." / "other" / "one.ipynb") == "one.ipynb"
    assert name(tmp_path / "nbx" / "one.ipynb") == "one.ipynb"
    (tmp_path / "link").symlink_to(tmp_path / "nb")
    assert name(tmp_path / "link" / "one.ipynb") == "one.ipynb"
    assert Cell("a", 1, "ask()").notebook_from(str(tmp_path)) is None


def test_how_a_kernel_knows_its_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBREPLAY_NOTEBOOK_FILE", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    shell = SimpleNamespace(user_ns={})
    assert find_notebook(shell) is None
    monkeypatch.setenv("JPY_SESSION_NAME", "deep/console-1")
    assert find_notebook(shell) is None
    monkeypatch.setenv("JPY_SESSION_NAME", "deep/one.ipynb")
    assert find_notebook(shell) == str(tmp_path / "one.ipynb"), "a kernel runs in the notebook's folder"
    monkeypatch.setenv("JPY_SESSION_NAME", "/root/deep/one.ipynb")
    assert find_notebook(shell) == "/root/deep/one.ipynb"
    shell.user_ns["__vsc_ipynb_file__"] = "/root/code.ipynb"
    assert find_notebook(shell) == "/root/code.ipynb"
    monkeypatch.setenv("NBREPLAY_NOTEBOOK_FILE", "/root/run.ipynb")
    assert find_notebook(shell) == "/root/run.ipynb"
