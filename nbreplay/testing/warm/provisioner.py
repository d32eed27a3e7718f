"""Warm kernels: real ones, forked from a process that has imported what notebooks import.

Where forking is not possible (another system than Linux, another kernel than this Python's own), they are started the
ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from nbreplay.testing.warm.server import OPTIONS

__all__ = ["PROVISIONER", "Provisioner", "Warm", "possible"]

PROVISIONER = "nbreplay-warm"
"""The name that `Provisioner` has among jupyter_client's entry points."""

_START_SECONDS = 60.0


def possible() -> bool:
    """Whether kernels can be forked here."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class Warm:
    """The process that kernels are forked from, in a folder.

    Parameters
    ----------
    folder : Path
        Where it imports: some modules look at files of the working directory.
    modules : iterable of str
        What it imports besides what every kernel needs.
    """

    def __init__(self, folder: Path, modules: Iterable[str]) -> None:
        self._folder, self._modules = folder, list(modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[bool] | None = None
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[int]] = {}

    async def start(self) -> None:
        """Start it; `ready` waits until it has imported what it should."""
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
        """Tell whether kernels can be had of it."""
        if self._ready is None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                return await asyncio.shield(self._ready)
        return False

    async def fork(self, cmd: list[str], env: dict[str, str], cwd: str) -> Forked:
        """Return the process of a new kernel.

        Raises
        ------
        OSError
            Where it has ended meanwhile.
        """
        number = len(self._asked)
        self._asked[number] = asyncio.get_running_loop().create_future()
        self._send(kernel=number, cmd=cmd, env=env, cwd=cwd)
        pid = await self._asked[number]
        return Forked(pid, self._ended[pid])

    async def stop(self) -> None:
        """End it, and what kernels there still are."""
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
                told = json.loads(line)
                if "ready" in told:
                    self._ready.set_result(True)
                elif "kernel" in told:
                    self._ended[told["pid"]] = asyncio.get_running_loop().create_future()
                    self._asked[told["kernel"]].set_result(told["pid"])
                else:
                    self._ended[told["ended"]].set_result(told["status"])
        if not self._ready.done():
            self._ready.set_result(False)
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(BrokenPipeError("the process that kernels are forked from has ended"))
        for ended in self._ended.values():
            if not ended.done():
                ended.set_result(-9)


class Forked:
    """A forked kernel's process, as far as jupyter_client asks for one.

    Attributes
    ----------
    pid : int
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, ended: asyncio.Future[int]) -> None:
        self.pid, self.ended = pid, ended

    def poll(self) -> int | None:
        """Return its exit status, or None where it runs."""
        return self.ended.result() if self.ended.done() else None

    def wait(self) -> int:
        """Return its exit status: it is asked for only when it has ended."""
        return self.ended.result()

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if not self.ended.done():
            os.kill(self.pid, number)


class Provisioner(LocalProvisioner):
    """Forks a kernel where its manager has a `Warm` that can, else starts it as jupyter_client does."""

    async def launch_kernel(self, cmd: list[str], **given: Any) -> Any:
        """Do what jupyter_client does, with a forked process."""
        warm: Warm | None = getattr(self.parent, "warm", None)
        if warm is None or not _own(cmd) or not await warm.ready():
            return await super().launch_kernel(cmd, **given)
        try:
            forked = await warm.fork(cmd, given["env"], str(given["cwd"]))
        except OSError:
            return await super().launch_kernel(cmd, **given)
        self.process: Any = forked
        self.pid = self.pgid = forked.pid
        return self.connection_info

    async def wait(self) -> int | None:
        """Wait for the process without looking again and again."""
        if isinstance(self.process, Forked):
            status = await asyncio.shield(self.process.ended)
            self.process = None
            return status
        return await super().wait()


def _own(cmd: list[str]) -> bool:
    """Whether a command starts this Python's own kernel, with no option of Python's that matters."""
    program, *rest = (item for item in cmd if item != "-Xfrozen_modules=off")
    return program == sys.executable and rest[:2] == ["-m", "ipykernel_launcher"]
