"""IPython without a kernel: in a terminal, in a script, and fed through a pipe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.notebook.conftest import CLIENT
from tests.provider import Spawned

IN_PROCESS = """
from IPython.core.interactiveshell import InteractiveShell

import pytest
shell = InteractiveShell.instance()
shell.run_cell({client!r})
shell.run_line_magic("load_ext", "nbreplay")
"""


def python(script: str, model: Spawned) -> str:
    """What a script prints that starts with a shell of its own, in which nbreplay is loaded."""
    whole = IN_PROCESS.format(client=CLIENT.format(url=model.url)) + script
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ipython(cells: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run IPython, as in a terminal, with what is typed."""
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner", "--no-confirm-exit", *arguments]
    return subprocess.run(command, input=cells, capture_output=True, text=True, timeout=600)


def test_the_status_is_text(model: Spawned) -> None:
    client = CLIENT.format(url=model.url).strip()
    Path("client.py").write_text(client)
    typed = "from client import *\n%load_ext nbreplay\n%replay record kept\nask()\n%replay replay\nask()\n%replay\n"
    done = ipython(typed)
    assert done.stdout.count("answer ") == 2, done.stdout + done.stderr
    assert "nbreplay records · kept" in done.stdout
    assert "nbreplay: 1 recorded" in done.stdout
    assert "nbreplay: 1 replayed" in done.stdout
    assert "1 replayed, 1 recorded" in done.stdout
    assert "<div" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_one_command(model: Spawned) -> None:
    Path("client.py").write_text(CLIENT.format(url=model.url).strip())
    hits = model.hits
    recorded = "%load_ext nbreplay\n%replay record kept\nfrom client import *\nprint(ask())\n"
    done = ipython("", "-c", f"{recorded}%replay replay\nprint(ask())\nask('else')")
    first, second = [line for line in done.stdout.splitlines() if line.startswith("answer")]
    assert first == second
    assert "RecordingMissing" in done.stdout + done.stderr
    assert model.hits == hits + 1


@pytest.mark.full
def test_cells_of_a_script(model: Spawned) -> None:
    out = python(
        """
def told(cell, **more):
    result = shell.run_cell(cell, **more)
    print(repr(result.result), type(result.error_in_exec or result.error_before_exec).__name__)

told("%%replay record kept\\nask()")
told("%%replay replay kept\\nask()", store_history=True)
told("%%replay replay kept\\nawait aask()", store_history=True)
told("%%replay replay kept\\nask('else')")
told("%%replay sideways\\nask('else')")
from nbreplay.core.cell import current_run
from nbreplay.core.session import active_sessions
print(active_sessions(), current_run())
""",
        model,
    )
    lines = [
        line for line in out.splitlines() if line.endswith(("NoneType", "Missing", "Rejected", "UsageError", "None"))
    ]
    first, second, third, missed, refused, left = lines
    assert first.startswith("'answer")
    assert first == second == third
    assert missed == "None RecordingMissing"
    assert refused == "None UsageError"
    assert left == "() None"


COMPLETE = [
    ("%%replay record\n", "incomplete"),
    ("%%replay record\nx = 1\n", "incomplete"),
    ("%%replay record\nfor x in y:\n", "incomplete"),
    ("%replay record\n", "complete"),
    ("x = 1\n", "complete"),
    ("for x in y:\n", "incomplete"),
]
"""What has been typed, and whether a terminal runs it."""


@pytest.mark.full
def test_a_terminal_waits_for_the_body(model: Spawned) -> None:
    check = f"for code, _ in {COMPLETE!r}:\n    print(shell.input_transformer_manager.check_complete(code)[0])"
    assert python(check, model).split() == [status for _, status in COMPLETE]


def test_unloading(model: Spawned) -> None:
    out = python(
        """
transforms, gates = len(shell.input_transformers_cleanup), len(shell.ast_transformers)
shell.run_line_magic("unload_ext", "nbreplay")
print(transforms - len(shell.input_transformers_cleanup), gates - len(shell.ast_transformers))
shell.run_line_magic("load_ext", "nbreplay")
print(transforms - len(shell.input_transformers_cleanup), gates - len(shell.ast_transformers))
""",
        model,
    )
    assert out.split() == ["1", "1", "0", "0"]
