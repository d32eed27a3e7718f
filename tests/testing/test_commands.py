"""``nbreplay run`` and ``trim``: what their options do, by the command line, with real kernels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbreplay.cli.main import main
from nbreplay.testing.notebook_file import read_notebook, save_outputs
from nbreplay.testing.runner import run
from tests.testing.making import ASK, notebook, recorded


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command has printed as JSON."""
    return json.loads(capsys.readouterr().out)


def tag(path: Path, *tags: str) -> None:
    """Give each cell of a notebook its tag, or none."""
    made = read_notebook(path)
    for cell, name in zip(made.cells, tags, strict=True):
        if name:
            cell.metadata["tags"] = [name]
    nbformat.write(made, path)


def stored(path: Path) -> Path:
    """Store a notebook's outputs."""
    assert save_outputs(path, run(path).notebook)
    return path


def test_parameters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Set after the tagged cell, as values of JSON's types or as texts, and without a trace in the notebook."""
    path = notebook(tmp_path / "one.ipynb", "city, number, other = 'Rome', 1, None", "print(city, number + 1, other)")
    tag(path, "parameters", "")
    out = tmp_path / "out"
    given = ["-p", "city=Tokyo = 東京", "-p", "number=41", "-p", 'other={"a": [true, null]}']
    assert main(["run", str(path), *given, "--output", str(out)]) == 0
    executed = read_notebook(out / "one.ipynb")
    assert executed.cells[1].outputs[0].text == "Tokyo = 東京 42 {'a': [True, None]}\n"
    assert [cell.source for cell in executed.cells] == [cell.source for cell in read_notebook(path).cells]
    assert [cell.execution_count for cell in executed.cells] == [1, 2]
    tag(path, "", "")
    untagged = notebook(tmp_path / "two.ipynb", "print(city)")
    assert main(["run", str(untagged), "-p", "city=Rome", "--output", str(out)]) == 0
    assert read_notebook(out / "two.ipynb").cells[0].outputs[0].text == "Rome\n"
    capsys.readouterr()
    assert main(["run", str(path), "-p", "city"]) == 2
    assert "--parameter city has no value. Write NAME=VALUE" in capsys.readouterr().err
    assert main(["run", str(path), "-p", "class=1"]) == 1
    assert "'class' is not a valid Python name" in capsys.readouterr().out


def test_going_on_after_a_failing_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path / "one.ipynb", "1 / 0", "print('on')", "open('none such')")
    assert main(["run", str(path), "--json"]) == 1
    (result,) = told(capsys)
    assert [cell["status"] for cell in result["cells"]] == ["failed"]
    assert main(["run", str(path), "--json", "--keep-going"]) == 1
    (result,) = told(capsys)
    assert [cell["status"] for cell in result["cells"]] == ["failed", "ok", "failed"]
    assert [error.split(":")[0] for error in result["errors"]] == ["cell 1 (1 / 0)", "cell 3 (open('none such'))"]


def test_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A skipped cell keeps its outputs; one that may fail may; what may differ may."""
    sources = ("print(1)", "raise SystemError", "1 / 0", "import time\nprint(time.time())", "print(5)")
    path = notebook(tmp_path / "one.ipynb", *sources)
    made = read_notebook(path)
    made.cells[1].outputs = [nbformat.v4.new_output("stream", text="as it was\n")]
    made.cells[3].outputs = [nbformat.v4.new_output("stream", text="another time\n")]
    made.cells[4].outputs = [nbformat.v4.new_output("stream", text="5\n")]
    nbformat.write(made, path)
    tag(path, "", "skip", "nbreplay-ignore", "nbreplay-run", "")
    assert main(["run", str(path), "--json"]) == 0
    (result,) = told(capsys)
    assert [cell["status"] for cell in result["cells"]] == ["ok", "skipped", "ok", "ok", "ok"]
    assert main(["run", str(path), "--update"]) == 0
    assert read_notebook(path).cells[1].outputs[0].text == "as it was\n"
    assert read_notebook(path).cells[4].execution_count == 4


def test_what_is_displayed_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a replay, unless told otherwise; the difference is shown by cell, and in colour to people."""
    path = notebook(tmp_path / "one.ipynb", "# first\nprint('one')\nprint('two')", "print('three')")
    assert main(["run", str(path)]) == 0, "it was never run: there is nothing to compare"
    stored(path)
    made = read_notebook(path)
    made.cells[0].outputs[0].text = "one\nTWO\n"
    nbformat.write(made, path)
    before = path.read_bytes()
    capsys.readouterr()
    assert main(["run", str(path)]) == 1
    said = capsys.readouterr().out
    assert "cell 1 (# first):" in said
    assert "- TWO\n" in said
    assert "+ two\n" in said
    assert "cell 2" not in said
    assert "nbreplay run --update" in said
    assert "\x1b" not in said
    assert path.read_bytes() == before
    assert main(["run", str(path), "--no-compare"]) == 0


@pytest.mark.full
def test_what_is_compared_follows_the_mode_and_the_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(notebook(tmp_path / "one.ipynb", "print('one')\nprint('two')"))
    path.write_text(path.read_text().replace('"two\\n"', '"TWO\\n"'))
    assert main(["run", str(path)]) == 1
    assert main(["run", str(path), "--mode", "auto"]) == 0
    (tmp_path / "pyproject.toml").write_text("[tool.nbreplay.outputs]\nmask = ['(?i)two']\n")
    assert main(["run", str(path)]) == 0
    (tmp_path / "pyproject.toml").write_text("[tool.nbreplay.outputs]\nmasks = 1\n")
    capsys.readouterr()
    assert main(["run", str(path)]) == 1
    assert "pyproject.toml, [tool.nbreplay.outputs]" in capsys.readouterr().out
    (tmp_path / "pyproject.toml").unlink()
    assert main(["run", str(path), "--update"]) == 0
    assert main(["run", str(path)]) == 0


def test_several_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = notebook(
        tmp_path / "same.ipynb", "import ipywidgets\nipywidgets.IntSlider(3)", "display(1, display_id=True)"
    )
    address = notebook(tmp_path / "address.ipynb", "import os\nprint(f'<it at 0x7f{os.urandom(5).hex()}>')")
    differs = notebook(tmp_path / "differs.ipynb", "import os\nprint(os.getpid())")
    assert main(["run", "--times", "3", *map(str, (same, address, differs))]) == 1
    said = capsys.readouterr().out
    assert f"ok    {same} · 3 runs, byte for byte the same\n" in said
    assert f"ok    {address} · 3 runs, the same except for masked text\n" in said
    assert f"FAIL  {differs}\n" in said
    assert "cell 1 (import os):" in said
    assert main(["run", "--times", "2", "--mode", "auto", str(same)]) == 2


def test_the_ids_of_widgets_stay(tmp_path: Path) -> None:
    """Those of a cell depend on no other: an update changes only what has changed."""
    slider = "import ipywidgets\nslider = ipywidgets.IntSlider(3)\nslider"
    path = stored(notebook(tmp_path / "one.ipynb", slider, "handle = display('a', display_id=True)\nhandle.display_id"))
    made = read_notebook(path)
    first = made.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert len(first) == 3
    cell = nbformat.v4.new_code_cell("ipywidgets.Text('new')\nimport ipywidgets", id="new")
    made.cells.insert(0, nbformat.v4.new_code_cell("import ipywidgets\nipywidgets.Text('new')", id=cell["id"]))
    nbformat.write(made, path)
    again = read_notebook(stored(path))
    second = again.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    assert set(first) < set(second)
    assert again.cells[1].outputs[0].data == made.cells[1].outputs[0].data
    assert again.cells[2].outputs[-1].data == made.cells[2].outputs[-1].data


@pytest.mark.full
def test_trim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shows what nothing asked for, and removes it when told; not where a notebook failed, which had more to ask.

    What a forked process asked for counts, too.
    """
    store = tmp_path / "recordings"
    recorded(store, "hello", "bye", "never")
    one = notebook(tmp_path / "one.ipynb", ASK, "ask()")
    forked = (
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(1) as pool:\n    pool.map(ask, ['bye'])"
    )
    two = notebook(tmp_path / "two.ipynb", ASK, forked)
    names = {
        text: next(p.name for p in store.glob("chat-*") if f'"{text}"' in p.read_text()) for text in ("bye", "never")
    }
    assert main(["trim", "--json", str(one)]) == 0
    (row,) = told(capsys)
    assert row == {"store": str(store), "used": 1, "unused": sorted(names.values()), "made_by": {}, "removed": []}
    assert main(["trim", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{store}: 2 used by these notebooks, 1 unused\n  {names['never']}\ntrim --yes removes them." in said
    assert len(list(store.glob("chat-*"))) == 3
    child = notebook(tmp_path / "child.ipynb", ASK, "!python --version\n!an-unknown-program\nask()")
    assert main(["trim", str(child)]) == 0
    assert capsys.readouterr().err == "nbreplay: trim does not see what child processes use: an-unknown-program\n"
    child.unlink()
    failing = notebook(tmp_path / "x.ipynb", ASK, "ask('new')")
    assert main(["trim", "--yes", str(tmp_path)]) == 1
    assert "nothing is trimmed: a notebook failed" in capsys.readouterr().err
    assert len(list(store.glob("chat-*"))) == 3
    failing.unlink()
    assert main(["trim", "--yes", str(tmp_path)]) == 0
    assert f"  removed {names['never']}\n" in capsys.readouterr().out
    assert len(list(store.glob("chat-*"))) == 2
    assert main(["run", str(one), str(two)]) == 0


def test_the_mode_is_not_trims_to_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBREPLAY_MODE", "auto")
    assert main(["trim", str(notebook(tmp_path / "one.ipynb", "1"))]) == 2
    assert "NBREPLAY_MODE is auto" in capsys.readouterr().err


def test_cells_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path / "recordings", "hello", "bye")
    path = notebook(tmp_path / "one.ipynb", ASK, "ask()\nask('bye')", "import time\ntime.sleep(0.3)")
    assert main(["run", str(path), "--json"]) == 0
    (result,) = told(capsys)
    first, second, third = result["cells"]
    assert (second["id"], second["index"], second["counts"]) == ("cell-1", 2, {"replayed": 2})
    assert first["counts"] == third["counts"] == {}
    assert 0.3 <= third["seconds"] < result["seconds"]
    assert os.path.exists(path)


def test_output_never_replaces_the_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path / "one.ipynb", "1")
    assert main(["run", str(path), "--output", str(tmp_path)]) == 2
    assert "contains the notebook itself" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["run", str(path), "--output", str(tmp_path / "file")]) == 1
    assert "Cannot write" in capsys.readouterr().err
