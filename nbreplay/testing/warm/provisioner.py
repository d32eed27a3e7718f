"""Warm kernels: real kernels, forked from a process that has already imported what notebooks import.

This saves about a second per notebook. Kernels of other Pythons, and kernels on other systems than Linux, are started
in the usual way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbreplay.testing.warm.server import COMMAND

PROVISIONER = "nbreplay-warm"
"""The entry point of `Provisioner` in jupyter_client's group."""

CAN_FORK = sys.platform == "linux" and hasattr(os, "pidfd_open")
_START_SECONDS = 60.0


@contextlib.asynccontextmanager
async def warm_processes(paths: Sequence[Path]) -> AsyncIterator[Mapping[Path, WarmProcess]]:
    """Start a process to fork kernels from, for each folder with several notebooks, if the system can fork."""
    folders = Counter(path.parent for path in paths)
    async with contextlib.AsyncExitStack() as stack:
        warm: dict[Path, WarmProcess] = {}
        for folder in (folder for folder, number in folders.items() if number > 1 and CAN_FORK):
            modules = imported_modules(dict.fromkeys(path for path in paths if path.parent == folder), folder)
            warm[folder] = await stack.enter_async_context(_start(folder.resolve(), modules))
        yield warm


@contextlib.asynccontextmanager
async def _start(folder: Path, modules: list[str]) -> AsyncIterator[WarmProcess]:
    """Start a process that imports modules, in the folder of the notebooks, since some modules read files there."""
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [*COMMAND, str(its.fileno())],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            pass_fds=(its.fileno(),),
            start_new_session=True,
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    warm = WarmProcess(writer)
    reading = asyncio.create_task(warm.read(reader))
    warm.send(modules=modules)
    try:
        yield warm
    finally:
        writer.close()  # the process and its kernels end then
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        await reading
        await asyncio.to_thread(process.wait)


class WarmProcess:
    """The process that kernels of one folder are forked from."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._ready: asyncio.Future[bool] = asyncio.Future()
        self._requests: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}

    async def ready(self) -> bool:
        """Wait until the process has imported its modules, and return whether it can fork kernels."""
        await asyncio.wait([self._ready], timeout=_START_SECONDS)
        return self._ready.done() and self._ready.result()

    async def fork(self, cmd: list[str], env: dict[str, str], cwd: str) -> ForkedProcess:
        """Fork a kernel. Raise OSError if the process has ended meanwhile."""
        number = len(self._requests)
        self._requests[number] = asyncio.Future()
        self.send(kernel=number, cmd=cmd, env=env, cwd=cwd)
        pid = await self._requests[number]
        return ForkedProcess(pid, self._ended[pid])

    def send(self, **request: Any) -> None:
        """Send a request, as the server's docstring describes it."""
        self._writer.write(json.dumps(request).encode() + b"\n")

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Read the answers until the process ends."""
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                message = json.loads(line)
                if "ready" in message:
                    self._ready.set_result(True)
                elif "kernel" in message:
                    self._ended[message["pid"]] = asyncio.Future()
                    self._requests[message["kernel"]].set_result(message["pid"])
                else:
                    self._ended[message["ended"]].set_result(message["status"])
        if self._ready.done():
            self._ready = asyncio.Future()  # kernels that are wanted later are not forked
        self._ready.set_result(False)
        for waiting in self._requests.values():
            if not waiting.done():
                waiting.set_exception(BrokenPipeError("The process that kernels are forked from has ended"))
        for ended in self._ended.values():
            if not ended.done():
                ended.set_result(-9)


class ForkedProcess:
    """The process of a forked kernel, with the methods of Popen that jupyter_client uses."""

    def __init__(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.pid, self.ended = pid, ended

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self.ended.result() if self.ended.done() else None

    def send_signal(self, number: int) -> None:
        """Send a signal if it still runs."""
        if not self.ended.done():
            os.kill(self.pid, number)


class Provisioner(LocalProvisioner):
    """Forks a kernel where its manager has a `WarmProcess` that can, else starts it as jupyter_client does."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Launch a kernel like jupyter_client, as a forked process if possible."""
        warm: WarmProcess | None = getattr(self.parent, "warm", None)
        with contextlib.suppress(OSError):
            if warm is not None and _is_own_kernel(cmd) and await warm.ready():
                self.process: Any = await warm.fork(cmd, options["env"], str(options["cwd"]))
                self.pid = self.pgid = self.process.pid
                return self.connection_info
        return await super().launch_kernel(cmd, **options)

    async def wait(self) -> int | None:
        """Wait for the process without polling."""
        if isinstance(self.process, ForkedProcess):
            status = await asyncio.shield(self.process.ended)
            self.process = None
            return status
        return await super().wait()


def _is_own_kernel(cmd: list[str]) -> bool:
    """Return whether a command starts the kernel of this Python, without further options of Python."""
    program, *rest = (item for item in cmd if item != "-Xfrozen_modules=off")
    return program == sys.executable and rest[:2] == ["-m", "ipykernel_launcher"]


def imported_modules(paths: Iterable[Path], folder: Path) -> list[str]:
    """Return the installed modules that the cells of notebooks import, in order.

    Modules in the folder of the notebooks are left out: they may change between runs.
    """
    installed = [entry for entry in sys.path if entry and Path(entry).resolve() != folder.resolve()]

    def is_installed(name: str) -> bool:
        top = name.partition(".")[0]
        return PathFinder.find_spec(top, [str(folder)]) is None and PathFinder.find_spec(top, installed) is not None

    return list(filter(is_installed, dict.fromkeys(name for path in paths for name in _imports(path))))


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules that a notebook imports. An invalid notebook is reported when it is run."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"]) if cell["cell_type"] == "code" else ""
            # A regular expression, since cells contain magics. Indented imports may never run.
            for first, several in re.findall(r"^(?:from +([\w.]+) +import|import +([^#;\n]+))", source, re.MULTILINE):
                for name in [first] if first else several.split(","):
                    yield from re.findall(r"^ *(\w[\w.]*)", name)
