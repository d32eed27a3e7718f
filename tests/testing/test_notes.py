"""What is noted of a run that passes: no call, a traceback on stderr, an edited cell that calls nothing new."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from nbreplay.cli.main import main
from nbreplay.core.config import Mode
from nbreplay.testing.runner import run
from tests.provider import Provider
from tests.testing.making import ASK, notebook, recorded


def test_a_notebook_that_makes_no_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path / "one.ipynb", "print(1)")
    assert main(["run", str(path)]) == 0
    assert f"ok    {path}\n      makes no call\n" in capsys.readouterr().out
    assert main(["run", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["notes"] == ["makes no call"]
    notebook(path, "1 / 0")
    assert run(path).notes == []


def test_tracebacks_on_stderr(tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "hello")
    path = notebook(
        tmp_path / "one.ipynb",
        ASK,
        "import threading\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()\nask()",
        "import logging\ntry:\n    int('x')\nexcept ValueError:\n    logging.exception('no number')",
        "import sys\nprint('only a warning', file=sys.stderr)",
    )
    result = run(path)
    assert result.errors == []
    assert result.notes == [
        "cell 2 (import threading) prints a traceback: ZeroDivisionError: division by zero",
        "cell 3 (import logging) prints a traceback: ValueError: invalid literal for int() with base 10: 'x'",
    ]


def test_an_edited_cell_that_calls_nothing_new(tmp_path: Path) -> None:
    """Only in ``auto``, where a new recording may be expected."""
    with Provider() as provider:
        path = notebook(tmp_path / "one.ipynb", ASK, f"URL = {provider.url!r}", "ask(url=URL)", "ask('bye', URL)")
        assert run(path, mode=Mode.RECORD).notes == []
        made = nbformat.read(path, as_version=4)
        made.cells[2].source = "# edited\nask(url=URL)"
        made.cells[3].source = "ask('bye now', URL)"
        nbformat.write(made, path)
        result = run(path, mode=Mode.AUTO)
    assert [call.outcome for call in result.calls] == ["replayed", "recorded"]
    assert result.notes == ["cell 3 (# edited) was edited after it was recorded, and calls nothing new"]
    assert run(path).notes == []
