"""The process that kernels are forked from: it has imported what notebooks import, and has no state of any notebook.

A program of its own (``python -m nbreplay.testing.warm.server FD``), spoken to through the socket FD, a line of JSON a
message. It imports nothing of jupyter's before it is told to.

To it: ``{"modules": [...]}`` once; then ``{"kernel": N, "cmd": [...], "env": {...}, "cwd": ...}`` for each kernel.
From it: ``{"ready": true}``; ``{"kernel": N, "pid": ...}``; ``{"ended": PID, "status": ...}``. When the socket closes,
whoever started it has ended: so do the kernels, and it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import random
import selectors
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any

__all__ = ["OPTIONS", "main"]

# What every kernel imports, the last of it only when it has started.
_KERNEL = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.debugger",
    "tornado.platform.asyncio",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.magics.extension",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "psutil",
    "pydoc",
    "sqlite3",
    "ipywidgets",
    "nbreplay.intercept.http.httpx",
    "nbreplay.intercept.http.http_client",
    "nbreplay.notebook.magics",
    "nbreplay.testing.in_kernel",
)
# What libraries import only when they are used.
_LATER = {
    "openai": (
        "openai.lib.streaming.chat",
        "openai.resources.chat.chat",
        "openai.resources.chat.completions.completions",
        "openai.resources.chat.completions.messages",
        "openai.resources.embeddings",
        "openai.resources.responses.responses",
        "anyio._backends._asyncio",
        "httpcore2",
        "httpcore",
    ),
    "matplotlib.pyplot": ("matplotlib_inline.backend_inline", "matplotlib.backends.backend_agg"),
}
OPTIONS = ("-Xfrozen_modules=off",)
"""Of Python's, as jupyter_client starts its kernels."""

_LEFT_OUT = "NBREPLAY_LEFT_OUT"


def main() -> None:
    """Serve until the socket closes; in a kernel's process, be the kernel."""
    if not sys.path[0] or os.path.abspath(sys.path[0]) == os.getcwd():
        del sys.path[0]  # as ipykernel's own launcher does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        request = _Server(control).serve(sys.argv[2:])
    if request is not None:
        _be(request)


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.unread = b""
        self.selector = selectors.DefaultSelector()
        self.kernels: dict[int, int] = {}  # process ids, each with its pidfd

    def serve(self, asked: list[str]) -> dict[str, Any] | None:
        """Return None when there is nobody left to serve, and in a kernel's process what it is asked to be."""
        self.selector.register(self.control, selectors.EVENT_READ)
        try:
            for line in asked:
                self._answer(json.loads(line))
            while True:
                for key, _ in self.selector.select():
                    if key.data is not None:
                        self._ended(key.data)
                        continue
                    received = self.control.recv(1 << 20)
                    if not received:
                        return None
                    *lines, self.unread = (self.unread + received).split(b"\n")
                    for each in lines:
                        if (request := self._answer(json.loads(each))) is not None:
                            return request
        except ConnectionError:
            return None
        finally:
            for pid in self.kernels:
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if "modules" in request:
            _warm(request["modules"], again=request, control=self.control)
            self._send(ready=True)
            return None
        pid = os.fork()
        if not pid:
            for descriptor in self.kernels.values():
                os.close(descriptor)
            self.kernels.clear()
            self.selector.close()
            return request
        self.kernels[pid] = os.pidfd_open(pid)
        self.selector.register(self.kernels[pid], selectors.EVENT_READ, pid)
        self._send(kernel=request["kernel"], pid=pid)
        return None

    def _ended(self, pid: int) -> None:
        descriptor = self.kernels.pop(pid)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        self._send(ended=pid, status=os.waitstatus_to_exitcode(status))

    def _send(self, **answer: Any) -> None:
        self.control.sendall(json.dumps(answer).encode() + b"\n")


def _warm(modules: list[str], *, again: dict[str, Any], control: socket.socket) -> None:
    """Import modules; where one of them would be noticed in a kernel, start anew without it."""
    left_out = set(filter(None, os.environ.get(_LEFT_OUT, "").split(",")))
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as ipykernel does
    later = (name for module in modules for name in _LATER.get(module, ()))
    for name in (*_KERNEL, *modules, *later):
        if name in left_out or not _noticed(name):
            continue
        left_out.add(name)
        os.environ[_LEFT_OUT] = ",".join(left_out)
        program = [
            sys.executable,
            *OPTIONS,
            "-m",
            "nbreplay.testing.warm.server",
            str(control.fileno()),
            json.dumps(again),
        ]
        os.set_inheritable(control.fileno(), True)
        os.execv(sys.executable, program)
    gc.collect()
    gc.freeze()  # what is there now is shared by all kernels for as long as nobody writes to it


def _noticed(name: str) -> bool:
    """Import a module; tell whether it said something, or left a thread running, which a fork would not have."""
    said = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            importlib.import_module(name)
        except BaseException:  # the notebook is to see it
            return name in sys.modules or bool(said.getvalue() or warned)
    return bool(said.getvalue() or warned) or threading.active_count() > 1 or _threads() > 1


def _threads() -> int:
    """Return how many threads are left once libraries have ended those that they end before a fork."""
    if (known := _running()) > 1:
        if not (pid := os.fork()):
            os._exit(0)
        os.waitpid(pid, 0)
        for _ in range(20):
            if (known := _running()) <= 1:
                break
            time.sleep(0.005)
    return known


def _running() -> int:
    names = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
            names.append(file.read().strip())
    # The allocator of pyarrow starts its own anew in the child.
    return len(names) - names.count("jemalloc_bg_thd")


def _be(request: dict[str, Any]) -> None:
    """Be a kernel, as if it had been started by its command."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    parent = str(os.getppid())
    os.environ["JPY_PARENT_PID"] = parent
    time.tzset()
    importlib.invalidate_caches()
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    at = request["cmd"].index("ipykernel_launcher")
    from ipykernel import kernelapp

    folder = os.path.dirname(os.path.dirname(kernelapp.__file__))
    # The parent is an argument, too: ipykernel looks into the environment when it is imported.
    sys.argv[:] = [
        os.path.join(folder, "ipykernel_launcher.py"),
        *request["cmd"][at + 1 :],
        f"--IPKernelApp.parent_handle={parent}",
    ]

    kernelapp.launch_new_instance()
    # As the processes of multiprocessing end. Taking apart all that was imported takes longer than a small notebook.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
