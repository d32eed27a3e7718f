"""A notebook run many times: each passes, with the same outputs, and nothing is left of any."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from jupyter_core.paths import jupyter_runtime_dir

from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run_all
from tests.testing.making import ASK, gone, notebook, recorded


def left() -> dict[str, set[object]]:
    """What a process holds, and what is on the disk where kernels put things."""
    gc.collect()
    runtime = Path(jupyter_runtime_dir())
    return {
        "children": {child.pid for child in psutil.Process().children(recursive=True)},
        "threads": set(range(threading.active_count())),
        "files": set(range(psutil.Process().num_fds())),
        "connections": {path.name for path in runtime.glob("kernel-*")} if runtime.exists() else set(),
    }


@pytest.mark.skipif(sys.platform == "win32", reason="counts file descriptors, which Windows has none of")
@pytest.mark.parametrize("number", [8, pytest.param(200, marks=pytest.mark.full)])
def test_many_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    recorded(tmp_path / "recordings", "hello")
    path = notebook(tmp_path / "one.ipynb", ASK, "%load_ext nbreplay\n%replay on", "ask()", "print(ask())")
    first = run_all([path] * 2, RunOptions(), number=2)  # what is imported, or made once a process
    before = left()
    results = run_all([path] * number, RunOptions(), number=4)
    assert [result.errors for result in results if not result.passed] == []
    texts = {nbformat.writes(result.notebook) for result in (*first, *results)}
    assert len(texts) == 1
    assert sum(result.count("replayed") for result in results) == 2 * number
    # What an earlier test has left in this process may end meanwhile.
    more = {name: after - before[name] for name, after in left().items()}
    assert not any(more.values()), more
    assert gone(tmp_path)
    kept = [path.name for path in (tmp_path / "tmp").iterdir() if not path.name.startswith("nbreplay")]
    assert kept == []


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "xdist"])
def test_ctrl_c_under_pytest_leaves_no_kernel(tmp_path: Path, workers: int) -> None:
    for name in "abc":
        notebook(tmp_path / f"{name}.ipynb", ASK, "import time\ntime.sleep(300)")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "nbreplay.testing.plugin", "--nbreplay"]
    command += ["-p", "xdist", f"-n{workers}"] if workers else []
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [*command, str(tmp_path)], cwd=tmp_path, env=here, stdout=subprocess.PIPE, text=True
    ) as process:
        while not (tmp_path / "kernels").exists() or len((tmp_path / "kernels").read_text().split()) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=600)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, said
    deadline = time.monotonic() + 120
    while not gone(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(tmp_path)
