"""The processes that kernels are forked from. They have imported what notebooks import, and no state of any notebook.

The first is a program (``python -m nbreplay.testing.warm.server FD``), and the others are its forks, and theirs. Each
exchanges lines of JSON through a socket.

Requests: ``{"modules": [...], "left_out": [...]}``, with a socket, for a fork that imports modules; ``{"kernel": N,
"cmd": [...], "env": {...}, "cwd": ..., "stderr": PATH}`` for a kernel.
Answers: at first ``{"ready": [...]}``, with the names of all modules, or ``{"left_out": NAME}``, with the name of one
that a notebook would notice; ``{"kernel": N, "pid": ...}``; ``{"ended": PID, "status": ...}``. When the socket closes,
whoever wanted the kernels has ended, and the process ends with them.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
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
    "nbreplay.testing.inputs",
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

_END_SECONDS = 2.0

_environment: dict[str, str] = {}  # before any import


def main() -> None:
    """Serve until the socket closes. In a forked process, serve in its turn, or become the kernel."""
    if not sys.path[0] or os.path.abspath(sys.path[0]) == os.getcwd():
        del sys.path[0]  # as ipykernel's own launcher does
    del globals()["__file__"]  # a kernel's main module has none, which libraries take for interactive
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # as ipykernel does
    _environment.update(os.environ)
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        with control:
            request, branch = _Server(control).serve()
        if request is None:
            os._exit(0)  # tearing down all modules would take long
        if branch is None:
            return _become_kernel(request)
        control = branch
        left_out = _import_modules(request["modules"], request["left_out"])
        tops = {name.partition(".")[0] for name in sys.modules}
        _send(control, **({"left_out": left_out} if left_out else {"ready": sorted(tops)}))
        if left_out:
            os._exit(0)


def _send(control: socket.socket, **answer: Any) -> None:
    with contextlib.suppress(ConnectionError):  # the next read tells
        control.sendall(json.dumps(answer).encode() + b"\n")


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.unread = b""
        self.sockets: list[socket.socket] = []  # for forks that are to be requested
        self.selector = selectors.DefaultSelector()
        self.children: dict[int, int] = {}  # process ids, each with its pidfd
        self.kernels: set[int] = set()  # those that are kernels

    def serve(self) -> tuple[dict[str, Any] | None, socket.socket | None]:
        """Return None when the socket closes. In a forked process, return the request for it, and its socket."""
        self.selector.register(self.control, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.data is not None:
                    self._report_end(key.data)
                    continue
                try:
                    received, descriptors, *_ = socket.recv_fds(self.control, 1 << 20, 8)
                except ConnectionError:
                    received, descriptors = b"", []
                if not received:
                    self._end_children()
                    return None, None
                self.sockets += [socket.socket(fileno=descriptor) for descriptor in descriptors]
                *lines, self.unread = (self.unread + received).split(b"\n")
                for line in filter(None, lines):
                    request = json.loads(line)
                    branch = None if "kernel" in request else self.sockets.pop(0)
                    if self._fork(request, branch):
                        return request, branch

    def _fork(self, request: dict[str, Any], branch: socket.socket | None) -> bool:
        """Fork, and return whether this is the child."""
        pid = os.fork()
        if not pid:
            for descriptor in self.children.values():
                os.close(descriptor)
            for other in self.sockets:
                other.close()
            self.selector.close()
            return True
        self.children[pid] = os.pidfd_open(pid)
        self.selector.register(self.children[pid], selectors.EVENT_READ, pid)
        if branch is not None:
            branch.close()
        else:
            self.kernels.add(pid)
            _send(self.control, kernel=request["kernel"], pid=pid)
        return False

    def _report_end(self, pid: int) -> None:
        descriptor = self.children.pop(pid)
        self.kernels.discard(pid)
        self.selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        _send(self.control, ended=pid, status=os.waitstatus_to_exitcode(status))

    def _end_children(self) -> None:
        """Kill the kernels. The forks that serve end by themselves, since their sockets close, too."""
        self.selector.unregister(self.control)
        for pid in self.kernels:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        deadline = time.monotonic() + _END_SECONDS
        while self.children and (remaining := deadline - time.monotonic()) > 0:
            for key, _ in self.selector.select(remaining):
                self._report_end(key.data)
        for pid in self.children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _import_modules(modules: list[str], left_out: list[str]) -> str:
    """Import modules. Return the name of one that a kernel would notice, after which the process is of no use."""
    kernel = _KERNEL if "ipykernel.kernelapp" not in sys.modules else ()
    later = (name for module in modules if module not in left_out for name in _LATER.get(module, ()))
    names: list[str] = [*kernel, *modules, *later]
    for name in names:
        if name not in left_out and _has_side_effects(name):
            return name
    _import_hooks()
    gc.collect()
    gc.freeze()  # keeps the memory shared with the kernels
    return ""


def _import_hooks() -> None:
    """Import what nbreplay will hook into the libraries that are there."""
    from nbreplay.intercept.registry import LIBRARIES

    for library, hook in LIBRARIES.items():
        if library in sys.modules:
            importlib.import_module(f"nbreplay.intercept.{hook.partition(':')[0]}")


def _has_side_effects(name: str) -> bool:
    """Import a module, and return whether it printed or warned, or left a thread running, which a fork would lack.

    Neither may it replace a stream.
    """
    from nbreplay.testing.warm.streams import early_streams

    failed = False
    shown: list[object] = []

    def note(*warning: object, **_: object) -> None:
        shown.append(warning)

    show, warnings.showwarning = warnings.showwarning, note
    with early_streams() as streams:
        try:
            importlib.import_module(name)
        except BaseException:  # the notebook will get the same exception
            failed = True
        is_replaced = (sys.stdout, sys.stderr) != (streams["stdout"], streams["stderr"])
    is_replaced |= warnings.showwarning is not note
    warnings.showwarning = show  # the filters stay as the module has set them
    if is_replaced or shown or any(stream.is_written for stream in streams.values()):
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
    errors = os.open(request["stderr"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(errors, 2)
    os.close(errors)
    parent = str(os.getppid())
    # What the imports set, they would set in this kernel, too.
    changes = {name: value for name, value in os.environ.items() if _environment.get(name) != value}
    os.environ.clear()
    os.environ.update({**changes, **request["env"], "JPY_PARENT_PID": parent})
    time.tzset()
    importlib.invalidate_caches()
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    from ipykernel import kernelapp

    from nbreplay.testing.warm.streams import FACTORY

    launcher = os.path.join(os.path.dirname(os.path.dirname(kernelapp.__file__)), "ipykernel_launcher.py")
    arguments = request["cmd"][request["cmd"].index("ipykernel_launcher") + 1 :]
    # The parent is also an argument: ipykernel reads the environment when it is imported.
    sys.argv[:] = [launcher, *arguments, f"--IPKernelApp.parent_handle={parent}"]
    kernelapp.launch_new_instance(outstream_class=FACTORY)
    # Exit like multiprocessing: tearing down all modules would take longer than a small notebook.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
