"""The kernel of a notebook: which one is started, why one died, and that none outlives the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbreplay.errors import NbreplayError
from nbreplay.testing.kernel_choice import choose_kernel
from nbreplay.testing.kernel_death import describe_death, read_last_words
from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run, run_all, update
from nbreplay.testing.warm import tree
from tests.testing.making import ASK, gone, notebook

needs_forks = pytest.mark.skipif(not tree.CAN_FORK, reason="kernels are forked on Linux only")
HERE = Path(__file__).resolve().parents[2]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where kernels can be installed."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return tmp_path / "jupyter" / "kernels"


def install(kernels: Path, name: str, language: str, *argv: str) -> None:
    """Install a kernel."""
    (kernels / name).mkdir(parents=True)
    text = json.dumps({"argv": argv, "display_name": name, "language": language})
    (kernels / name / "kernel.json").write_text(text)


def chosen(name: str | None = None, **metadata: Any) -> tuple[str, str]:
    """Return the name and the note of the kernel for a notebook with this metadata."""
    made = choose_kernel(nbformat.from_dict({"cells": [], "metadata": metadata}), Path("one.ipynb"), name)
    return made.name, made.note


@pytest.mark.parametrize("name", ["conda-env-llm-py", ".venv", "myenv", "Python 3", "python-3.9", "irene"])
def test_a_kernel_that_is_not_installed_is_replaced_by_this_python(name: str) -> None:
    note = f"kernel {name!r} is not installed: run with this Python"
    assert chosen(kernelspec={"name": name, "language": "python", "display_name": "mine"}) == ("python3", note)
    assert chosen(kernelspec={"name": name}, language_info={"name": "python"}) == ("python3", note)
    assert chosen(kernelspec={"name": name}) == ("python3", note)


def test_notebooks_that_name_no_kernel(kernels: Path) -> None:
    assert chosen() == chosen(kernelspec={}) == chosen(kernelspec={"name": "python3"}) == ("python3", "")
    assert chosen(kernelspec="python3", language_info=[]) == ("python3", "")


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "ir", "language": "R"}}, "R"),
        ({"kernelspec": {"name": "ir"}}, "R"),
        ({"kernelspec": {"name": "mine"}, "language_info": {"name": "julia"}}, "julia"),
        ({"kernelspec": {"name": "julia-1.11"}}, "Julia"),
        ({"kernelspec": {"name": "python3", "language": "javascript"}}, "javascript"),
        ({"kernelspec": {"name": "bash"}}, "Bash"),
        ({"kernelspec": {"name": ".net-csharp", "language": "C#"}}, "C#"),
    ],
)
def test_a_notebook_in_another_language_is_refused(metadata: dict[str, Any], language: str) -> None:
    with pytest.raises(NbreplayError) as caught:
        chosen(**metadata)
    text = f"The notebook one.ipynb is for the language {language}, and nbreplay runs Python only. Leave it out"
    assert str(caught.value) == text


def test_an_installed_kernel_in_another_language_is_refused(kernels: Path) -> None:
    install(kernels, "mine", "bash", "bash_kernel")
    with pytest.raises(NbreplayError, match=r"^The kernel 'mine' of one.ipynb is for the language bash, .*--kernel"):
        chosen(kernelspec={"name": "mine"})
    with pytest.raises(NbreplayError, match=r"^The kernel 'mine' is for the language bash, .* Pass another one$"):
        chosen("mine")


def test_the_kernel_that_a_user_names(kernels: Path) -> None:
    install(kernels, "mine", "python", sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    assert chosen("mine") == chosen("mine", kernelspec={"name": "other"}) == ("mine", "")
    with pytest.raises(NbreplayError, match=r"^No kernel 'none' is installed. Installed kernels: mine, python3$"):
        chosen("none")


@pytest.mark.parametrize("forked", [False, pytest.param(True, marks=needs_forks)])
def test_a_run_says_which_kernel_it_took_and_keeps_the_name_in_the_notebook(tmp_path: Path, forked: bool) -> None:
    metadata = {"kernelspec": {"name": "conda-env-llm-py", "display_name": "llm", "language": "python"}}
    paths = [notebook(tmp_path / f"{name}.ipynb", "print(1)", **metadata) for name in ("ab" if forked else "a")]
    for result in run_all(paths, RunOptions(compare=False), number=2):
        assert result.errors == []
        assert "kernel 'conda-env-llm-py' is not installed: run with this Python" in result.notes
        before = json.loads(result.path.read_text())
        update(result)
        after = json.loads(result.path.read_text())
        assert after["cells"][0].pop("outputs")
        assert after["metadata"] == before["metadata"] == metadata


def test_a_kernel_whose_python_lacks_nbreplay(kernels: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['nbreplay'] = None; from ipykernel import kernelapp as k; k.launch_new_instance()"
    install(kernels, "bare", "python", sys.executable, "-c", code, "-f", "{connection_file}")
    (error,) = run(notebook(tmp_path / "one.ipynb", "print(1)"), kernel="bare").errors
    assert error == (
        f"nbreplay is not installed in the Python of the kernel 'bare'. Run: {sys.executable} -m pip install nbreplay"
    )


def test_a_kernel_that_does_not_start(kernels: Path, tmp_path: Path) -> None:
    install(kernels, "broken", "python", sys.executable, "-c", "raise SystemExit('no such \\x1b[31mthing')")
    (error,) = run(notebook(tmp_path / "one.ipynb", "print(1)"), kernel="broken").errors
    assert error.startswith("Cannot start the kernel 'broken' of ")
    assert error.endswith("the kernel died with exit status 1\n  no such thing")


DEATHS = {
    "exit": ("os._exit(3)", ["with exit status 3"]),
    "kill": ("os.kill(os.getpid(), 9)", ["of SIGKILL (perhaps because memory ran out)"]),
    "abort": (
        "def inner():\n    os.abort()\ninner()",
        ["of SIGABRT", "Aborted", "line 3 in inner", "line 4 in <module>"],
    ),
    "crash": ("import ctypes\nctypes.string_at(0)", ["of SIGSEGV", "Segmentation fault", "line 3 in <module>"]),
}


@pytest.mark.full(quick=["False-abort", "True-kill"])
@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("forked", [False, pytest.param(True, marks=needs_forks)])
def test_why_a_kernel_died(tmp_path: Path, how: str, forked: bool) -> None:
    source, parts = DEATHS[how]
    paths = [notebook(tmp_path / f"{name}.ipynb", ASK, f"import os\n{source}") for name in ("ab" if forked else "a")]
    for result in run_all(paths, RunOptions(), number=2):
        (error,) = result.errors
        assert error.startswith("cell 2 (import os): the kernel died ")
        assert all(part in error for part in parts), error
        assert "ipykernel/" not in error, "the frames of Jupyter are left out"
        assert "\x1b" not in error
    assert gone(tmp_path)


def test_last_words(tmp_path: Path) -> None:
    file = tmp_path / "stderr"
    assert read_last_words(file) == []
    file.write_bytes(b"old\n" * 100_000 + b"\x1b[31mred\x1b[0m \xff\n\nlast\n")
    assert read_last_words(file) == [*["old"] * 10, "red �", "last"]
    assert describe_death(-11, tmp_path).splitlines()[-1] == "  last"
    file.write_text('noise\nFatal Python error: Aborted\n\nStack:\n  File "/x/ipykernel/kernelbase.py", line 1 in f\n')
    assert read_last_words(file) == ["Fatal Python error: Aborted", "Stack:"]
    assert describe_death(-200, tmp_path).startswith("the kernel died of signal 200\n")


@needs_forks
def test_a_forked_kernel_that_dies_while_it_imports_is_started_again(tmp_path: Path) -> None:
    """Nothing has been done then. What it does later is never done twice."""
    module = "import os\nif 'warm.server' in open('/proc/%d/cmdline' % os.getppid()).read():\n    os._exit(4)"
    (tmp_path / "fragile.py").write_text(module)
    early = [notebook(tmp_path / f"{name}.ipynb", "import fragile", "print(1)") for name in "ab"]
    late = [notebook(tmp_path / f"{name}.ipynb", "print('did')\nimport fragile") for name in "cd"]
    results = run_all([*early, *late], RunOptions(compare=False), number=2)
    for result in results[:2]:
        assert result.errors == []
        (note,) = [note for note in result.notes if "started again" in note]
        assert note.startswith("cell 1 (import fragile): the kernel died with exit status 4\n")
    assert all("the kernel died with exit status 4" in result.errors[0] for result in results[2:])


@pytest.mark.full
@pytest.mark.parametrize("number", [1, 2], ids=["alone", "forked"])
@pytest.mark.parametrize("command", ["pytest", "run"])
def test_no_process_outlives_one_that_is_killed(tmp_path: Path, command: str, number: int) -> None:
    """Neither the kernels, nor the processes that start them."""
    source = "import os, time\nprint(os.getppid(), file=open('kernels', 'a'))\ntime.sleep(300)"
    for place in range(number):
        notebook(tmp_path / f"{place}.ipynb", ASK, source)
    arguments = {
        "pytest": ["pytest", "-p", "no:cacheprovider", "-p", "nbreplay.testing.plugin", "--nbreplay"],
        "run": ["nbreplay", "run", "-n", "2"],
    }
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with subprocess.Popen(
        [sys.executable, "-m", *arguments[command], str(tmp_path)], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        while not (tmp_path / "kernels").exists() or len((tmp_path / "kernels").read_text().split()) < 2 * number:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(600)
    if command == "run" and number == 1:  # the parent is the process that was killed
        assert str(process.pid) in (tmp_path / "kernels").read_text().split()
    deadline = time.monotonic() + 120
    while not gone(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(tmp_path)


def test_a_notebook_that_jupyter_cannot_run_does_not_end_the_run_of_others(tmp_path: Path) -> None:
    wrong, good = notebook(tmp_path / "a.ipynb", "print('x')"), notebook(tmp_path / "b.ipynb", "1")
    wrong.write_text(wrong.read_text().replace("print('x')", "print('\\ud83d')"))  # half of a character
    results = run_all([wrong, good], RunOptions(compare=False))
    assert [result.passed for result in results] == [False, True]
    assert results[0].errors[0].startswith(f"{wrong} cannot be run: UnicodeEncodeError: ")
