"""Kernels that are forked: real ones, each as if it were the first, and gone with whoever wanted them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbreplay.testing.result import Result, RunOptions
from nbreplay.testing.runner import run, run_all
from nbreplay.testing.warm import provisioner
from nbreplay.testing.warm.provisioner import imported_modules
from tests.testing.making import ASK, gone, notebook, recorded

needs_forks = pytest.mark.skipif(not provisioner.CAN_FORK, reason="kernels are forked on Linux only")

LEAK = """import atexit, builtins, os, random, sys, tempfile, threading, time, warnings
import numpy
os.environ["LEAKED"] = "yes"
os.chdir("/")
os.umask(0o77)
sys.path.insert(0, "/leaked")
sys.modules["leaked"] = sys
builtins.leaked = 1

__import__("textwrap").dedent = print
random.seed(1)
numpy.random.seed(1)
warnings.simplefilter("error")
leaked_file = tempfile.TemporaryFile()
threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
sys.setrecursionlimit(5000)
with open(START + "/leaked", "w") as file:
    print(os.getpid(), file=file)"""

LOOK = """import builtins, json, os, random, sys, threading, warnings
import numpy
seen = {
    "LEAKED": os.environ.get("LEAKED"),
    "cwd": os.getcwd() == START,
    "umask": os.umask(0o22),
    "path": "/leaked" in sys.path,
    "module": "leaked" in sys.modules,
    "builtin": hasattr(builtins, "leaked"),
    "textwrap": __import__("textwrap").dedent is print,
    "warnings": warnings.filters[0][0] == "error",
    "threads": sorted(type(thread).__name__ for thread in threading.enumerate()),
    "limit": sys.getrecursionlimit(),
    "argv": sys.argv[0],
    "main": sys.modules["__main__"].__dict__ is globals(),
    "files": len(os.listdir("/proc/self/fd")),
}
print(json.dumps(seen))
print(random.random(), numpy.random.random(), __import__("secrets").token_hex(4), os.getpid())"""


def printed(result: Result) -> list[str]:
    """What the last cell of a notebook has printed, by line."""
    assert result.errors == []
    return str(result.notebook.cells[-1].outputs[0].text).splitlines()


@pytest.mark.full
@needs_forks
def test_nothing_passes_from_one_notebook_to_the_next(tmp_path: Path) -> None:
    """Nor is a forked kernel told from one that is started the ordinary way, by what a notebook can see."""
    start = "import os\nSTART = os.getcwd()"
    paths = [
        notebook(tmp_path / "a.ipynb", start, LEAK),
        *(notebook(tmp_path / f"{name}.ipynb", start, LOOK) for name in "bcd"),
    ]
    results = run_all(paths, RunOptions(), number=1)
    assert results[0].errors == []
    looks = [printed(result) for result in results[1:]]
    ordinary = printed(run(paths[1]))
    seen = json.loads(ordinary[0])
    assert seen["LEAKED"] is None
    assert seen["cwd"]
    for look in looks:
        forked = json.loads(look[0])
        assert abs(forked.pop("files") - seen["files"]) <= 3
        assert forked == {name: value for name, value in seen.items() if name != "files"}
    drawn = [tuple(look[1].split()) for look in looks]
    assert all(len(set(column)) == len(drawn) for column in zip(*drawn, strict=True)), "each has its own randomness"


@needs_forks
def test_kernels_are_forked_where_there_are_several(tmp_path: Path) -> None:
    source = "import os\nprint(os.getppid(), len(open('/proc/%d/cmdline' % os.getppid()).read().split('warm.server')))"
    paths = [notebook(tmp_path / f"{name}.ipynb", source) for name in "abc"]
    parents = {tuple(printed(result)[0].split()) for result in run_all(paths, RunOptions(), number=3)}
    assert len(parents) == 1, "one process has forked them all"
    ((parent, parts),) = parents
    assert parts == "2"
    with pytest.raises(ProcessLookupError):
        os.kill(int(parent), 0)
    assert printed(run(paths[0]))[0] == f"{os.getpid()} 1"


@pytest.mark.full(quick=1)
@needs_forks
@pytest.mark.parametrize(
    "module",
    [
        "import warnings\nwarnings.warn('look here')",
        "print('look here')",
        "import sys\nprint('look here', file=sys.stderr)",
    ],
    ids=["warns", "prints", "complains"],
)
def test_what_an_import_says_is_said_in_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """A module that would be noticed is not imported ahead, and the others are."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "loud_module.py").write_text(module)
    (tmp_path / "site" / "quiet_module.py").write_text("import os\nPID = os.getpid()")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    paths = [
        notebook(
            tmp_path / f"{name}.ipynb",
            "import quiet_module\nimport loud_module",
            "import os\nprint(quiet_module.PID == os.getpid())",
        )
        for name in "ab"
    ]
    for result in run_all(paths, RunOptions(), number=2):
        assert "look here" in result.notebook.cells[0].outputs[0].text
        assert printed(result) == ["False"]


@needs_forks
def test_a_module_that_leaves_a_thread_is_not_imported_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    code = (
        "import threading, time\nTHREAD = threading.Thread(target=time.sleep, args=(300,), daemon=True)\nTHREAD.start()"
    )
    (tmp_path / "site" / "busy_module.py").write_text(code)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    paths = [
        notebook(tmp_path / f"{name}.ipynb", "import busy_module\nprint(busy_module.THREAD.is_alive())")
        for name in "ab"
    ]
    assert [printed(result) for result in run_all(paths, RunOptions(), number=2)] == [["True"]] * 2


def test_what_notebooks_import(tmp_path: Path) -> None:
    (tmp_path / "local_helpers.py").write_text("")
    sources = (
        "%load_ext nbreplay\nimport json, openai as o  # and not: import nothing\nfrom pandas.api import types",
        "import local_helpers\nimport none_such\nif False:\n    import numpy\nfrom . import x\n!import dask",
        "import json\nimport email.mime.text;import nbformat",
    )
    broken = tmp_path / "b.ipynb"
    broken.write_text('{"cells": [3, {}]}')
    found = imported_modules([broken, tmp_path / "none.ipynb", notebook(tmp_path / "a.ipynb", *sources)], tmp_path)
    assert found == ["json", "openai", "pandas.api", "email.mime.text"]


@pytest.mark.full(quick=1)
@needs_forks
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_wanted_them_is_gone(tmp_path: Path, number: int) -> None:
    """Neither a kernel nor the process that they are forked from stays, however the run ends."""
    for name in "abc":
        notebook(
            tmp_path / f"{name}.ipynb",
            ASK,
            "import os\nprint(os.getppid(), file=open('kernels', 'a'))\nimport time\ntime.sleep(300)",
        )
    script = "import sys; from nbreplay.cli.main import main; sys.exit(main(['run', '-n', '3', sys.argv[1]]))"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "kernels").exists() or len((tmp_path / "kernels").read_text().split()) < 6:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(60)
    deadline = time.monotonic() + 60
    while not gone(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(tmp_path)


@needs_forks
def test_a_forked_kernel_that_dies_costs_the_others_nothing(tmp_path: Path) -> None:
    answers = recorded(tmp_path / "recordings", "hello")
    dies = [notebook(tmp_path / f"d{n}.ipynb", ASK, "os._exit(3)") for n in range(2)]
    lives = [notebook(tmp_path / f"l{n}.ipynb", ASK, "print(ask())") for n in range(2)]
    results = run_all([*dies, *lives], RunOptions(), number=4)
    assert [result.errors for result in results[:2]] == [["cell 2 (os._exit(3)): the kernel died"]] * 2
    assert [printed(result) for result in results[2:]] == [[answers["hello"]]] * 2
    assert gone(tmp_path)


@needs_forks
def test_without_the_process_they_are_started_the_ordinary_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = provisioner.subprocess.Popen  # type: ignore[attr-defined]

    def broken(command: Any, **given: Any) -> Any:
        return real([sys.executable, "-c", "raise SystemExit(1)"], **given)

    monkeypatch.setattr(provisioner.subprocess, "Popen", broken)  # type: ignore[attr-defined]
    paths = [notebook(tmp_path / f"{name}.ipynb", "import os\nprint(os.getppid())") for name in "ab"]
    assert [printed(result) for result in run_all(paths, RunOptions(), number=2)] == [[str(os.getpid())]] * 2


def test_a_process_that_has_ended_forks_nothing_more() -> None:
    """A kernel that is wanted then is started the ordinary way; nobody waits for an answer that never comes."""

    async def is_ready() -> list[bool]:
        reader = asyncio.StreamReader()
        warm = provisioner.WarmProcess(None)  # type: ignore[arg-type]
        reading = asyncio.create_task(warm.read(reader))
        reader.feed_data(b'{"ready": true}\n')
        before = await warm.ready()
        reader.feed_eof()
        await reading
        return [before, await warm.ready()]

    assert asyncio.run(is_ready()) == [True, False]


@needs_forks
def test_what_a_notebook_leaves_for_the_end_is_done(tmp_path: Path) -> None:
    """Handlers of the exit, threads that nobody has joined, files that are to be flushed."""
    source = """import atexit, concurrent.futures, tempfile, threading, time, weakref
atexit.register(lambda: open("handler", "w").close())
pool = concurrent.futures.ThreadPoolExecutor()
pool.submit(lambda: (time.sleep(0.2), open("pool", "w").close()))
threading.Thread(target=lambda: (time.sleep(0.2), open("thread", "w").close())).start()
folder = tempfile.TemporaryDirectory(dir=".")
class Thing: pass
thing = Thing()
weakref.finalize(thing, lambda: open("finalizer", "w").close())"""
    paths = [notebook(tmp_path / f"{name}.ipynb", source) for name in "ab"]
    assert [result.errors for result in run_all(paths, RunOptions(), number=1)] == [[], []]
    names = {path.name for path in tmp_path.iterdir()} - {"work"}  # where the tests themselves are
    assert names == {"a.ipynb", "b.ipynb", "handler", "pool", "thread", "finalizer"}
