"""The harness sees what it is there to see: each of its checks fails where it should."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.clients import entered, http, wait
from tests.sdks.dump import dump
from tests.sdks.harness import Cell, Sdk, Stage, check

SDK = Sdk("plain", "openai", {"sync": lambda _: http.Client(verify=False)})


async def get(c: Any, stage: Stage) -> Any:
    return await wait(c.get(f"{stage.url}/plain/json"))


async def good(c: Any, stage: Stage) -> Any:
    return await get(c, stage)


async def silent(c: Any, stage: Stage) -> Any:
    return "no call"


async def constant(c: Any, stage: Stage) -> Any:
    await get(c, stage)
    return "the same, live and replayed"


async def different(c: Any, stage: Stage) -> Any:
    return await get(c, stage), 1 if stage.replaying else True


async def connecting(c: Any, stage: Stage) -> Any:
    if stage.replaying:
        socket.socket().close()
    return await get(c, stage)


async def curious(c: Any, stage: Stage) -> Any:
    return [await get(c, stage) for _ in range(1 if stage.replaying else 2)][:1]


async def buffering(c: Any, stage: Stage) -> Any:
    text = (await wait(c.get(f"{stage.url}/plain/events"))).text
    stage.arrived()
    return text


async def prompt(c: Any, stage: Stage) -> Any:
    async with entered(c.stream("GET", f"{stage.url}/plain/events")) as answer:
        return await stage.all(answer.iter_lines())


def cell(operation: Any, streams: bool = False) -> Cell:
    return Cell(SDK, "sync", operation.__name__, operation, streams, answered=True)


@pytest.mark.parametrize(
    ("operation", "complaint"),
    [
        (silent, "nothing was seen of the calls"),
        (constant, "a live answer would be told from a replayed one"),
        (different, "what is replayed equals what was recorded"),
        (connecting, "a replay opens no socket"),
        (curious, "each recorded call is replayed, once"),
    ],
)
def test_a_fault_is_found(operation: Any, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check(cell(operation), tmp_path, lambda *_: None)


def test_a_stream_that_is_held_up_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="reached its caller while the server held the rest"):
        check(cell(buffering, streams=True), tmp_path, lambda *_: None, patience=0.1)


def test_a_cell_that_says_nothing_of_its_stream_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the server held back what streams"):
        check(cell(good, streams=True), tmp_path, lambda *_: None)


@pytest.mark.parametrize(("operation", "streams"), [(good, False), (prompt, True)])
def test_what_is_right_passes(operation: Any, streams: bool, tmp_path: Path) -> None:
    told: dict[str, object] = {}
    check(cell(operation, streams), tmp_path, told.__setitem__, patience=5)
    assert told["library"] == f"{http.__name__} {http.__version__}"


def test_the_server_is_gone_before_the_replay(tmp_path: Path) -> None:
    urls = []

    async def looking(c: Any, stage: Stage) -> Any:
        urls.append(stage.url)
        return await get(c, stage)

    check(cell(looking), tmp_path, lambda *_: None)
    with pytest.raises(http.ConnectError), http.Client(verify=False) as client:
        client.get(urls[0])


def test_a_dump_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="how to look into a builtins"):
        dump({"inner": [object()]})
