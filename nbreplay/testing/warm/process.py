"""Warm processes, from which kernels are forked, as this process sees them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbreplay.testing.warm.imports import local_modules
from nbreplay.testing.warm.server import COMMAND

_START_SECONDS = 60.0
_ENDED = "The process that kernels are forked from has ended"


def repeatable_environment() -> dict[str, str]:
    """Return the environment with a fixed hash seed, unless the user set one: sets of texts keep their order then.

    A forked kernel has the seed of the process that it is forked from.
    """
    environment = {**os.environ, "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED") or "0"}
    environment.pop("PYTEST_CURRENT_TEST", None)  # a kernel that finds it gives its streams no descriptors
    environment["NBREPLAY_CHILD"] = ""  # a session of this process does not cover what a test runs
    return environment


class WarmProcess:
    """A process that has imported modules. It starts when a kernel is wanted, as a fork of its parent.

    Parameters
    ----------
    parent : WarmProcess or Path
        The process that it is forked from; of the first one, the working folder.
    modules : sequence of str
        The modules that it imports, beside those of its parent.
    users : int
        The number of kernels to be forked from it and its children. After the last one, it ends.
    """

    def __init__(self, parent: WarmProcess | Path, modules: Sequence[str] = (), users: int = 0) -> None:
        self.parent, self.modules, self.users = parent, modules, users
        self._loaded: set[str] | None = None  # top-level modules; None unless it runs
        self._starting: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._program: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._unread = b""
        self._forked: list[asyncio.Future[int]] = []
        self._ended: dict[int, asyncio.Future[int]] = {}

    async def ready(self, folder: str = "") -> bool:
        """Start the process, and wait until it can fork kernels. Return whether it can fork one for a folder.

        It cannot for a folder with a module of its own that has the name of an imported one.
        """
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        await asyncio.wait([self._starting], timeout=_START_SECONDS)
        return self._loaded is not None and (not folder or self._loaded.isdisjoint(local_modules(folder)))

    async def fork(self, cmd: list[str], env: dict[str, str], cwd: str, stderr: str) -> ForkedProcess:
        """Fork a kernel, whose errors go to a file. Raise OSError if the process has ended meanwhile."""
        if self._loaded is None:
            raise BrokenPipeError(_ENDED)
        number = len(self._forked)
        self._forked.append(asyncio.Future())
        await self._send(kernel=number, cmd=cmd, env=env, cwd=cwd, stderr=stderr)
        pid = await self._forked[number]
        return ForkedProcess(pid, self._ended[pid])

    async def release(self) -> None:
        """Count a kernel as done. End each process that has forked its last one."""
        for process in self.lineage():
            process.users -= 1
            if not process.users:
                await process.close()

    async def close(self) -> None:
        """End the process, with its kernels and its children."""
        if tasks := [task for task in (self._starting, self._reading) if task is not None]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)  # they use the socket
        self._end()
        if self._socket is not None:
            self._socket.close()
        if self._program is not None:
            await asyncio.to_thread(self._program.wait)

    def lineage(self) -> list[WarmProcess]:
        """Return this process, its parent, and so on."""
        return [self, *(self.parent.lineage() if isinstance(self.parent, WarmProcess) else ())]

    async def _start(self) -> None:
        with contextlib.suppress(OSError):
            if isinstance(self.parent, Path):
                self._start_program(self.parent)
                self._loaded = set()
            elif await self.parent.ready():
                left_out: list[str] = []
                # A fork has ended if a module turned out to have effects that a notebook would notice.
                while (message := await self._branch(self.parent, left_out)) and "left_out" in message:
                    left_out.append(message["left_out"])
                if message and self._socket is not None:
                    self._loaded = set(message["ready"])
                    self._reading = asyncio.create_task(self._read(self._socket))

    def _start_program(self, folder: Path) -> None:
        self._socket, its = socket.socketpair()
        with its:
            self._program = subprocess.Popen(
                [*COMMAND, str(its.fileno())],
                cwd=folder,
                env=repeatable_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                start_new_session=True,
            )
        self._socket.setblocking(False)
        self._reading = asyncio.create_task(self._read(self._socket))

    async def _branch(self, parent: WarmProcess, left_out: list[str]) -> dict[str, Any]:
        """Fork this process, and return its first answer, empty if it has ended."""
        if self._socket is not None:
            self._socket.close()
        self._socket, its = socket.socketpair()
        self._socket.setblocking(False)
        with its:
            await parent._send(its, modules=list(self.modules), left_out=left_out)
        self._unread = b""
        return await self._receive(self._socket) or {}

    async def _send(self, *descriptors: socket.socket, **request: Any) -> None:
        """Send a request, as the server's docstring describes it."""
        if self._socket is None:
            raise BrokenPipeError(_ENDED)
        async with self._lock:
            if descriptors:  # with an empty line, which always fits
                socket.send_fds(self._socket, [b"\n"], [each.fileno() for each in descriptors])
            await asyncio.get_running_loop().sock_sendall(self._socket, json.dumps(request).encode() + b"\n")

    async def _receive(self, connection: socket.socket) -> dict[str, Any] | None:
        """Return the next answer, None if the process has ended."""
        while b"\n" not in self._unread:
            received = await asyncio.get_running_loop().sock_recv(connection, 1 << 16)
            if not received:
                return None
            self._unread += received
        line, self._unread = self._unread.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    async def _read(self, connection: socket.socket) -> None:
        """Read the answers until the process ends."""
        with contextlib.suppress(OSError):
            while message := await self._receive(connection):
                if "kernel" in message:
                    self._ended[message["pid"]] = asyncio.Future()
                    self._forked[message["kernel"]].set_result(message["pid"])
                elif message["ended"] in self._ended:  # and not a child process
                    self._ended[message["ended"]].set_result(message["status"])
        self._end()

    def _end(self) -> None:
        """Let nobody wait for an answer that never comes."""
        self._loaded = None
        for waiting in self._forked:
            if not waiting.done():
                waiting.set_exception(BrokenPipeError(_ENDED))
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
