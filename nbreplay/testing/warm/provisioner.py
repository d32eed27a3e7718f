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
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbreplay.testing.warm.server import OPTIONS

PROVISIONER = "nbreplay-warm"
"""The entry point of `Provisioner` in jupyter_client's group."""

_START_SECONDS = 60.0


def can_fork() -> bool:
    """Return whether this system can fork kernels."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class WarmProcess:
    """The process that kernels of one folder are forked from.

    Parameters
    ----------
    folder : Path
        Its working directory: some modules read files there.
    modules : iterable of str
        Modules to import, besides those of every kernel.
    """

    def __init__(self, folder: Path, modules: Iterable[str]) -> None:
        self._folder, self._modules = folder, list(modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[bool] | None = None
        self._requests: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}

    async def start(self) -> None:
        """Start the process. `ready` waits until it has imported its modules."""
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, *OPTIONS, "-m", "nbreplay.testing.warm.server", str(its.fileno())],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                start_new_session=True,
            )
        self._ready = asyncio.get_running_loop().create_future()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader))
        self._send(modules=self._modules)

    async def ready(self) -> bool:
        """Wait until the process can fork kernels, and return whether it can."""
        if self._ready is None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                return await asyncio.shield(self._ready)
        return False

    async def fork(self, cmd: list[str], env: dict[str, str], cwd: str) -> ForkedProcess:
        """Fork a kernel.

        Raises
        ------
        OSError
            If the process has ended meanwhile.
        """
        number = len(self._requests)
        self._requests[number] = asyncio.get_running_loop().create_future()
        self._send(kernel=number, cmd=cmd, env=env, cwd=cwd)
        pid = await self._requests[number]
        return ForkedProcess(pid, self._ended[pid])

    async def stop(self) -> None:
        """Stop the process and its remaining kernels."""
        if self._process is None or self._reading is None:
            return
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await self._reading
        await asyncio.to_thread(self._process.wait)

    def _send(self, **request: Any) -> None:
        self._writer.write(json.dumps(request).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        assert self._ready is not None
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                message = json.loads(line)
                if "ready" in message:
                    self._ready.set_result(True)
                elif "kernel" in message:
                    self._ended[message["pid"]] = asyncio.get_running_loop().create_future()
                    self._requests[message["kernel"]].set_result(message["pid"])
                else:
                    self._ended[message["ended"]].set_result(message["status"])
        if not self._ready.done():
            self._ready.set_result(False)
        for waiting in self._requests.values():
            if not waiting.done():
                waiting.set_exception(BrokenPipeError("The process that kernels are forked from has ended"))
        for ended in self._ended.values():
            if not ended.done():
                ended.set_result(-9)


class ForkedProcess:
    """The process of a forked kernel, with the methods of Popen that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.pid, self.ended = pid, ended

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        return self.ended.result() if self.ended.done() else None

    def wait(self) -> int:
        """Return the exit status. Only called once the process has ended."""
        return self.ended.result()

    def send_signal(self, number: int) -> None:
        """Send a signal if it still runs."""
        if not self.ended.done():
            os.kill(self.pid, number)


class Provisioner(LocalProvisioner):
    """Forks a kernel where its manager has a `WarmProcess` that can, else starts it as jupyter_client does."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Launch a kernel like jupyter_client, as a forked process if possible."""
        warm: WarmProcess | None = getattr(self.parent, "warm", None)
        if warm is None or not _is_own_kernel(cmd) or not await warm.ready():
            return await super().launch_kernel(cmd, **options)
        try:
            forked = await warm.fork(cmd, options["env"], str(options["cwd"]))
        except OSError:
            return await super().launch_kernel(cmd, **options)
        self.process: Any = forked
        self.pid = self.pgid = forked.pid
        return self.connection_info

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
    names = dict.fromkeys(name for path in paths for source in _sources(path) for name in _names(source))
    installed = [entry for entry in sys.path if entry and Path(entry).resolve() != folder.resolve()]
    modules = []
    for name in names:
        top = name.partition(".")[0]
        if PathFinder.find_spec(top, [str(folder)]) is None and PathFinder.find_spec(top, installed) is not None:
            modules.append(name)
    return modules


def _sources(path: Path) -> Iterator[str]:
    """Yield the sources of the code cells. An invalid notebook is reported when it is run."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])


def _names(source: str) -> Iterator[str]:
    # A regular expression, since cells contain magics. Indented imports may never run.
    for first, several in re.findall(r"^(?:from +([\w.]+) +import|import +([^#;\n]+))", source, re.MULTILINE):
        for name in [first] if first else several.split(","):
            yield from re.findall(r"^ *(\w[\w.]*)", name)
