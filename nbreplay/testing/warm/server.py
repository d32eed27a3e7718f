"""The process that kernels are forked from. It has imported what notebooks import, and no state of any notebook.

It is a program (``python -m nbreplay.testing.warm.server FD``) that exchanges lines of JSON through the socket FD.

Requests: ``{"modules": [...]}`` once; then ``{"kernel": N, "cmd": [...], "env": {...}, "cwd": ...}`` for each kernel.
Answers: ``{"ready": true}``; ``{"kernel": N, "pid": ...}``; ``{"ended": PID, "status": ...}``. When the socket closes,
the parent has ended, and the program ends with its kernels.
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

# Modules that every kernel imports.
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
# Modules that libraries import on first use.
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
# Jupyter_client starts kernels with this option, too.
COMMAND = (sys.executable, "-Xfrozen_modules=off", "-m", "nbreplay.testing.warm.server")

_LEFT_OUT = "NBREPLAY_LEFT_OUT"


def main() -> None:
    """Serve until the socket closes. In a forked process, become the kernel."""
    if not sys.path[0] or os.path.abspath(sys.path[0]) == os.getcwd():
        del sys.path[0]  # as ipykernel's own launcher does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        request = _Server(control).serve(sys.argv[2:])
    if request is not None:
        _become_kernel(request)


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.unread = b""
        self.selector = selectors.DefaultSelector()
        self.kernels: dict[int, int] = {}  # process ids, each with its pidfd

    def serve(self, requests: list[str]) -> dict[str, Any] | None:
        """Return None when the socket closes, and the request of the kernel in a forked process."""
        self.selector.register(self.control, selectors.EVENT_READ)
        try:
            for line in requests:
                self._answer(json.loads(line))
            while True:
                for key, _ in self.selector.select():
                    if key.data is not None:
                        self._report_end(key.data)
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
            _import_modules(request["modules"], again=request, control=self.control)
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

    def _report_end(self, pid: int) -> None:
        descriptor = self.kernels.pop(pid)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        self._send(ended=pid, status=os.waitstatus_to_exitcode(status))

    def _send(self, **answer: Any) -> None:
        self.control.sendall(json.dumps(answer).encode() + b"\n")


def _import_modules(modules: list[str], *, again: dict[str, Any], control: socket.socket) -> None:
    """Import modules. Restart the process without those that a kernel would notice."""
    left_out = set(filter(None, os.environ.get(_LEFT_OUT, "").split(",")))
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as ipykernel does
    later = (name for module in modules for name in _LATER.get(module, ()))
    for name in (*_KERNEL, *modules, *later):
        if name not in left_out and _has_side_effects(name):
            os.environ[_LEFT_OUT] = ",".join({*left_out, name})
            os.set_inheritable(control.fileno(), True)
            os.execv(sys.executable, [*COMMAND, str(control.fileno()), json.dumps(again)])
    gc.collect()
    gc.freeze()  # keeps the memory shared with the kernels


def _has_side_effects(name: str) -> bool:
    """Import a module, and return whether it printed or warned, or left a thread running, which a fork would lack."""
    output, failed = io.StringIO(), False
    redirect = contextlib.redirect_stdout(output), contextlib.redirect_stderr(output)
    with warnings.catch_warnings(record=True) as warned, redirect[0], redirect[1]:
        try:
            importlib.import_module(name)
        except BaseException:  # the notebook will get the same exception
            failed = True
    if output.getvalue() or warned:
        return True
    return name in sys.modules if failed else threading.active_count() > 1 or _threads() > 1


def _threads() -> int:
    """Count the threads that remain after libraries stopped those that they stop before a fork."""
    if (count := _thread_count()) > 1:
        if not (pid := os.fork()):
            os._exit(0)
        os.waitpid(pid, 0)
        for _ in range(20):
            if (count := _thread_count()) <= 1:
                break
            time.sleep(0.005)
    return count


def _thread_count() -> int:
    names = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
            names.append(file.read().strip())
    # The allocator of pyarrow restarts its thread in the child.
    return len(names) - names.count("jemalloc_bg_thd")


def _become_kernel(request: dict[str, Any]) -> None:
    """Become a kernel, as if started by its command."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    parent = str(os.getppid())
    os.environ.clear()
    os.environ.update({**request["env"], "JPY_PARENT_PID": parent})
    time.tzset()
    importlib.invalidate_caches()
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    from ipykernel import kernelapp

    launcher = os.path.join(os.path.dirname(os.path.dirname(kernelapp.__file__)), "ipykernel_launcher.py")
    arguments = request["cmd"][request["cmd"].index("ipykernel_launcher") + 1 :]
    # The parent is also an argument: ipykernel reads the environment when it is imported.
    sys.argv[:] = [launcher, *arguments, f"--IPKernelApp.parent_handle={parent}"]
    kernelapp.launch_new_instance()
    # Exit like multiprocessing: tearing down all modules would take longer than a small notebook.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
