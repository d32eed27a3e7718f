"""A server of every API that the SDKs of the matrix call, in a process of its own, one for each cell.

It is `tests.provider` with more routes, which stand in `tests.sdks.answers`. It is spoken to over a pipe, not over
HTTP: what the tests themselves have to say to it must not be recorded.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import pkgutil
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import provider
from tests.sdks import answers
from tests.sdks.asked import HOLD, Answer, Asked, Route

__all__ = ["Server", "Told", "prepare"]

# What stands before the endpoint: OpenAI's version, Azure's deployments, groq's gateway.
_PREFIX = re.compile(r"^/v1(?=/)|^/openai/deployments/[^/]+(?=/)|^/openai/v1(?=/)|^/openai(?=/responses)")
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_processes = multiprocessing.get_context(_METHOD)


@dataclass(frozen=True, slots=True)
class Told:
    """What a server tells of itself.

    Attributes
    ----------
    hits : int
        The requests that it got.
    held : int
        The streams that it held back until the caller told that their beginning had reached it.
    late : int
        Those of them for which nobody told so in time.
    """

    hits: int
    held: int
    late: int


class Server:
    """A server in another process, from its making to `stop`.

    Parameters
    ----------
    holds : bool
        Whether it holds every stream after its first piece, until `ack`.
    patience : float
        For how many seconds at the most.
    """

    def __init__(self, holds: bool = False, patience: float = 20.0) -> None:
        self._pipe, theirs = _processes.Pipe()
        self._process = _processes.Process(target=_serve, args=(theirs, holds, patience), daemon=True)
        self._process.start()
        theirs.close()
        self.port = int(self._pipe.recv())
        self.url = f"http://127.0.0.1:{self.port}"

    def ack(self) -> None:
        """Tell that something of a stream has reached its caller."""
        self._pipe.send("ack")

    def told(self) -> Told:
        """Ask it about itself."""
        self._pipe.send("tell")
        return Told(*self._pipe.recv())

    def stop(self) -> None:
        """End the process, and see that nobody listens any more."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._pipe.close()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0, "the server is gone"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def prepare() -> None:
    """Start what servers are forked from, with all that they need imported."""
    root = Path(__file__).resolve().parents[2]
    if _METHOD == "forkserver":
        from multiprocessing import forkserver

        _processes.set_forkserver_preload([__name__])
        with contextlib.chdir(root):  # it imports from where it is started
            forkserver.ensure_running()


class _Provider(provider.Provider):
    """The tests' provider, with the routes of all SDKs, holding streams back on demand."""

    def __init__(self, holds: bool, patience: float) -> None:
        self.holds, self.patience, self.held, self.late = holds, patience, 0, 0
        super().__init__()
        self.RequestHandlerClass = _Handler

    def hold(self, seen: int) -> None:
        if self.holds:
            with self._changed:
                self.held += 1
                came = self._changed.wait_for(lambda: self._closed or self.acks > seen, self.patience)
                self.late += not came


class _Handler(provider._Handler):
    server: _Provider

    def _reply(self, route: str, body: bytes) -> None:
        self._acks, self._status = self.server.acks, 0
        super()._reply(_PREFIX.sub("", urlsplit(self.path).path), body)

    def _send(self, hit: int, answer: Any, status: int = 200) -> None:
        body, kind, more = answer
        if status == 429:
            more = {"retry-after-ms": "1"}  # the tests are not to sleep while they record, either
        super()._send(hit, (body, kind, more), self._status or status)

    def _answer(self, ask: Any, route: str) -> Any:
        number = ask.number if self.command == "POST" else self.server.hits
        asked = Asked(number, ask.arrival, self.command, route, ask.body)
        for method, pattern, answer in _routes():
            match = pattern.fullmatch(route) if method == self.command else None
            made = answer(replace(asked, groups=match.groups())) if match else None
            if made is not None:
                self._status = made.status
                return self._written(made), made.kind, dict(made.headers)
        return super()._answer(replace(ask, body=_deciding(ask.body)), route)

    def _written(self, answer: Answer) -> Any:
        if isinstance(answer.body, bytes):
            return answer.body
        if isinstance(answer.body, dict | list):
            return json.dumps(answer.body, ensure_ascii=False).encode()
        return self._held(answer.body)

    def _held(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if piece == HOLD:
                self.server.hold(self._acks)
            else:
                yield piece

    def _paced(self, ask: Any, pieces: list[str]) -> Iterator[str]:
        for position, piece in enumerate(super()._paced(ask, pieces)):
            if position == 1:
                self.server.hold(self._acks)
            yield piece


def _deciding(body: dict[str, Any]) -> dict[str, Any]:
    """Have the model call a tool whenever it has one, and answer when it has got the result."""
    if not body.get("tools") or body.get("tool_choice") == "none":
        return body
    last = (body.get("messages") or [{}])[-1]
    if last.get("role") == "tool":
        return {name: value for name, value in body.items() if name not in ("tools", "tool_choice")}
    chosen = body.get("tool_choice")
    return {**body, "tool_choice": chosen if isinstance(chosen, dict) else "required"}


_found: list[Route] = []


def _routes() -> list[Route]:
    if not _found:
        for module in pkgutil.iter_modules(answers.__path__):
            _found.extend(importlib.import_module(f"{answers.__name__}.{module.name}").ROUTES)
    return _found


def _serve(pipe: Connection, holds: bool, patience: float) -> None:
    with _Provider(holds, patience) as server:
        pipe.send(server.port)
        with contextlib.suppress(EOFError):
            while True:
                if pipe.recv() == "ack":
                    server.ack()
                else:
                    pipe.send((server.hits, server.held, server.late))


if _METHOD == "forkserver":
    _routes()  # before the fork, so that no child has to
