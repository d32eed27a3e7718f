"""The matrix: what an SDK can do, sync and async, recorded from a live server and replayed without it.

An SDK's module makes an `Sdk`, gives it clients and cells, and parametrizes one test with them; see README.md.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.metadata
import inspect
import platform
import pprint
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.core.config import Mode
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session
from tests.clients import finish, items, outcomes, wait
from tests.sdks.dump import dump
from tests.sdks.server import Server, Told
from tests.sdks.sockets import counted

__all__ = ["Cell", "Sdk", "Stage", "check", "installed", "raised"]

Operation = Callable[[Any, "Stage"], Awaitable[Any]]
FLAVOURS = ("sync", "async")


def installed(module: str, distribution: str | None = None, extra: str = "sdks") -> Any:
    """Return an SDK's module; skip the whole test module, in one line, where it is not installed.

    Parameters
    ----------
    module, distribution : str
        What is imported, and what is installed for it, where that has another name.
    extra : str
        The extra of nbreplay that installs it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what an SDK's own import has to complain of is not ours
            return importlib.import_module(module)
    except ModuleNotFoundError:
        name = distribution or module
        pytest.skip(f"{name} is not installed: pip install nbreplay[{extra}]", allow_module_level=True)


class Stage:
    """What a cell has besides its client.

    Attributes
    ----------
    url : str
        The server's address, ``http://127.0.0.1:PORT``.
    replaying : bool
        Whether this is the replay: a cell with concurrent calls starts them in another order then.
    """

    def __init__(self, url: str, arrived: Callable[[], None], replaying: bool = False) -> None:
        self.url, self.replaying, self._arrived = url, replaying, arrived

    def arrived(self) -> None:
        """Say that something of a stream has reached the caller: the server has held the rest back until now."""
        self._arrived()

    async def all(self, stream: Any) -> list[Any]:
        """Return a stream's events one by one, sync or async, each dumped as it comes: some SDKs change them later."""
        found = []
        async for item in items(stream):
            self.arrived()
            found.append(dump(item))
        return found

    async def together(self, calls: Iterable[Awaitable[Any]]) -> list[Any]:
        """Return the results of calls at once, in the calls' order; a replay starts them in the reverse one."""
        turn = -1 if self.replaying else 1
        return (await asyncio.gather(*list(calls)[::turn]))[::turn]

    def in_threads(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Return the results of calls at once in threads of their own, as `together` does."""
        turn = -1 if self.replaying else 1
        with ThreadPoolExecutor(len(calls)) as pool:
            running = [pool.submit(call) for call in calls[::turn]]
            return [one.result() for one in running[::turn]]


async def raised(kind: type[BaseException], call: Callable[[], Any]) -> BaseException:
    """Return the error that a call ends with, which must be of this very kind."""
    with pytest.raises(kind) as caught:
        await wait(call())
    assert caught.type is kind
    return caught.value


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix.

    Attributes
    ----------
    sdk : Sdk
    flavour : str
        ``sync`` or ``async``.
    kind : str
        What is done, such as ``chat-stream-tools``.
    operation : async function of (client, Stage)
    streams : bool
        Whether the beginning of a stream must reach the caller while the server holds the rest back.
    answered : bool
        Whether an answer comes; else the connection fails.
    inside : int
        How many requests tools make, which are not recorded: the tools are.
    """

    sdk: Sdk
    flavour: str
    kind: str
    operation: Operation
    streams: bool
    answered: bool
    inside: int = 0

    def __str__(self) -> str:
        return f"{self.sdk.name}-{self.flavour}-{self.kind}"

    def run(self, stage: Stage) -> Any:
        """Do it with a new client, and dump what came of it."""

        async def whole() -> Any:
            manager = self.sdk.clients[self.flavour](stage)
            if self.flavour == "sync":  # some clients are managers of both kinds
                with manager as client:
                    return dump(await self.operation(client, stage))
            async with manager as client:
                return dump(await self.operation(client, stage))

        return finish(self.flavour, whole())


@dataclass(slots=True)
class Sdk:
    """An SDK and what it can do.

    Attributes
    ----------
    name : str
        How its cells are called.
    distribution : str
        What is installed; ``python`` for what comes with it.
    clients : mapping
        A flavour's function of `Stage` that makes a client, which is a context manager, sync or async.
    cells : list of Cell
    """

    name: str
    distribution: str
    clients: Mapping[str, Callable[[Stage], Any]]
    cells: list[Cell] = field(default_factory=list, repr=False)

    @property
    def version(self) -> str:
        """The version that is installed."""
        stdlib = self.distribution == "python"
        return platform.python_version() if stdlib else importlib.metadata.version(self.distribution)

    def cell(
        self,
        operation: Operation | None = None,
        *,
        kind: str = "",
        streams: bool = False,
        answered: bool = True,
        only: str | None = None,
        inside: int = 0,
    ) -> Any:
        """Add an operation's cells, one a flavour; `kind` is its name if not given, with hyphens. A decorator.

        Parameters
        ----------
        operation : async function of (client, Stage)
        kind : str
        streams, answered, inside
            See `Cell`.
        only : {"sync", "async"}, optional
            The only flavour that has it.
        """
        if operation is None:
            return functools.partial(self.cell, kind=kind, streams=streams, answered=answered, only=only, inside=inside)
        assert inspect.iscoroutinefunction(operation), operation
        name = kind or operation.__name__.strip("_").replace("_", "-")
        for flavour in FLAVOURS:
            if flavour in self.clients and only in (None, flavour):
                self.cells.append(Cell(self, flavour, name, operation, streams, answered, inside))
        return operation


def check(cell: Cell, folder: Path, tell: Callable[[str, object], None], patience: float = 20.0) -> None:
    """Record a cell, stop the server, replay it, and hold the two against each other.

    Parameters
    ----------
    cell : Cell
    folder : path
        An empty one, for the recordings.
    tell : function of (str, object)
        pytest's `record_property`, for the report.
    patience : float
        How many seconds the server holds a stream back at the most.
    """
    for name in ("flavour", "kind"):
        tell(name, getattr(cell, name))
    tell("streams", cell.streams)
    tell("sdk", cell.sdk.name)
    tell("distribution", cell.sdk.distribution)
    tell("version", cell.sdk.version)
    store = folder / "recordings"
    with Server(cell.streams, patience) as server:
        with nr.session(store, mode="record") as recorded:
            libraries = _libraries(recorded)
            said = cell.run(Stage(server.url, server.ack))
        told = server.told()
        live = cell.run(Stage(server.url, server.ack)) if cell.answered else None
    tell("library", " + ".join(sorted(libraries)))
    _recorded(cell, recorded, told)
    with counted() as opened, nr.session(store, mode="replay") as replayed:
        again = cell.run(Stage(server.url, lambda: None, replaying=True))
    assert not opened, "a replay opens no socket"
    assert outcomes(replayed) == ["replayed"] * len(outcomes(recorded)), "each recorded call is replayed, once"
    assert replayed.last_miss is None
    _equal(again, said)
    assert repr(live) != repr(said), "a live answer would be told from a replayed one"


def _libraries(session: Session) -> set[str]:
    """Have the HTTP libraries noted that ask a session."""
    found: set[str] = set()
    ask = session.ask

    def noting(call: Call, mode: Mode) -> Any:
        if call.tool is None:
            found.add(call.library)
        return ask(call, mode)

    session.ask = noting  # type: ignore[method-assign]
    return found


def _recorded(cell: Cell, session: Session, told: Told) -> None:
    assert session.interactions, "nothing was seen of the calls"
    assert set(outcomes(session)) == {"recorded"}
    if cell.answered:
        # Tools run in this process.
        sent = [item for item in session.interactions if item.request and item.request.kind != "tool"]
        assert len(sent) + cell.inside == told.hits, "each request that reached the server was recorded, once"
    assert bool(told.held) == cell.streams, "the server held back what streams"
    assert told.late == 0, "the beginning of a stream reached its caller while the server held the rest"


def _equal(again: Any, said: Any) -> None:
    """Compare the dumps; their texts, since 1, 1.0 and True are not the same."""
    if repr(again) != repr(said):
        lines = [pprint.pformat(value, width=150, sort_dicts=False).splitlines() for value in (again, said)]
        assert lines[0] == lines[1], "what is replayed equals what was recorded"
        raise AssertionError("the dumps differ, but look the same")
