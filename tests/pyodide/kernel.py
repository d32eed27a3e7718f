"""JupyterLite's kernel in a process of node, and what comes of a cell that it runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernel import Ran

__all__ = ["SITE", "PyodideKernel", "node_modules", "start_pyodide"]

SITE = "pyodide-site"  # beside npm's packages: those of Python
_ROOT = Path(__file__).parents[2]
_PATIENCE = 300.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class PyodideKernel:
    """The kernel of one page."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._receive()  # that it is ready

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(_PATIENCE, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            pytest.fail(f"node has ended, or was killed after {_PATIENCE:.0f} s: see its stderr above")
        received: dict[str, Any] = json.loads(line)
        return received

    def run(self, code: str, cell_id: str = "") -> Ran:
        """Run a cell."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"code": code, "id": cell_id}) + "\n")
        self._process.stdin.flush()
        ran = Ran(**self._receive())
        ran.ename = ran.ename.removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
        ran.traceback = _COLOUR.sub("", ran.traceback)
        return ran


def node_modules() -> Path:
    """Return the folder with Pyodide and the packages of its kernel; skip where there is none."""
    folders = [Path(each) for each in os.environ.get("NODE_PATH", "").split(os.pathsep) if each]
    modules = next((each for each in folders if (each / "pyodide").is_dir() and (each / SITE).is_dir()), None)
    if modules is None:
        pytest.skip("Pyodide's kernel is not installed: python -m tests.pyodide FOLDER, and set NODE_PATH as it says")
    return modules


@contextlib.contextmanager
def start_pyodide(
    mounts: Sequence[Path], *, server: str = "", packages: Mapping[str, Any] | None = None
) -> Iterator[PyodideKernel]:
    """Start a kernel that sees the repository and the folders `mounts`.

    `packages` are those of a lock file, which a server has; they are kept in the first folder.
    """
    modules = node_modules()
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    cache = modules / "pyodide-cache"
    cache.mkdir(exist_ok=True)
    options = {
        "site": str(modules / SITE),
        "cache": str(cache),
        "root": str(_ROOT),
        "mounts": [*map(str, (_ROOT, *mounts))],
        "downloads": str(mounts[0]),
        "server": server or "http://127.0.0.1:9/",
        "packages": packages or {},
        "env": {"TZ": "UTC"},
    }
    command = ["node", str(Path(__file__).with_name("kernel.mjs")), json.dumps(options)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            yield PyodideKernel(process)
        finally:
            process.kill()
