"""MCP's tools with mcp 1, whose results and errors are of other classes: recorded and replayed as with mcp 2."""

from __future__ import annotations

import asyncio
import datetime
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests.clients import outcomes, recordings
from tests.sdks.dump import dump
from tests.sdks.harness import installed
from tests.sdks.stdio_server import Listener, write_server

installed("mcp.server.fastmcp", "mcp 1", "sdks-openai2")
mcp = installed("mcp")
_http = installed("mcp.client.streamable_http", "mcp")

SCRIPT = '''
import pathlib
from mcp.server.fastmcp import FastMCP

server = FastMCP("tests", log_level="ERROR", port={port})
log = pathlib.Path({log!r})

def entered() -> str:
    log.write_text(log.read_text() + "x" if log.exists() else "x")
    return log.read_text()

@server.tool()
def find(city: str) -> str:
    """Find it."""
    return f"{{entered()}} in {{city}}"

@server.tool()
def measure(city: str) -> dict[str, float]:
    """Measure it."""
    return {{"number": float(len(entered())), "degrees": 18.123456789012345}}

@server.tool()
def fail(city: str) -> str:
    """Fail."""
    raise ValueError(f"{{entered()}}: no {{city}}")

server.run({transport!r})
'''
NAMES = ("find", "measure", "fail", "find")


def script(folder: Path, transport: str, port: int = 0) -> list[str]:
    """Write the program of a server, and return the command that starts it."""
    path = folder / "server.py"
    path.write_text(SCRIPT.format(log=str(folder / "log"), transport=transport, port=port))
    return [sys.executable, str(path)]


async def calls(session: Any) -> list[Any]:
    """What calls of every tool come to."""
    await session.initialize()
    return [await session.call_tool(name, {"city": "Tokyo"}) for name in NAMES]


def over_stdio(command: list[str], use: Any = calls) -> Any:
    async def run() -> Any:
        parameters = mcp.StdioServerParameters(command=command[0], args=command[1:])
        async with mcp.stdio_client(parameters) as streams, mcp.ClientSession(*streams) as session:
            return await use(session)

    return asyncio.run(run())


def test_over_stdio_the_tools_are_not_entered(store: Path, tmp_path: Path) -> None:
    command = script(tmp_path, "stdio")
    with nr.session(store, mode="record") as session:
        recorded = over_stdio(command)
    assert outcomes(session) == ["recorded"] * 5
    requests = {recording.request["tool"] for recording in recordings(store)}
    assert requests == {"initialize", *NAMES}
    with nr.session(store, mode="replay") as session:
        assert dump(over_stdio(command)) == dump(recorded)
    assert outcomes(session) == ["replayed"] * 5
    assert (tmp_path / "log").read_text() == "xxxx"


def test_an_error_of_the_protocol_comes_back(store: Path, tmp_path: Path) -> None:
    async def late(session: Any) -> tuple[int, str, Any]:
        await session.initialize()
        with pytest.raises(mcp.McpError) as caught:
            await session.call_tool("find", {"city": "a"}, read_timeout_seconds=datetime.timedelta(seconds=1e-9))
        await session.call_tool("find", {"city": "b"})  # the late answer arrives before this one
        return caught.value.error.code, str(caught.value), caught.value.error.data

    command = script(tmp_path, "stdio")
    with nr.session(store, mode="record"):
        recorded = over_stdio(command, late)
    with nr.session(store, mode="replay") as session:
        assert over_stdio(command, late) == recorded
    assert outcomes(session) == ["replayed"] * 3


def test_over_http_the_exchange_is_recorded(store: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def run() -> list[Any]:
        connection = _http.streamable_http_client(f"http://127.0.0.1:{port}/mcp")
        async with connection as (*streams, _), mcp.ClientSession(*streams) as session:
            return await calls(session)

    server = subprocess.Popen(script(tmp_path, "streamable-http", port))
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with nr.session(store, mode="record") as session:
            recorded = asyncio.run(run())
    finally:
        server.kill()
        server.wait()
    kinds = [item.request.kind for item in session.interactions if item.request is not None]
    assert set(kinds) == {"http"}
    with nr.session(store, mode="replay") as again:
        assert dump(asyncio.run(run())) == dump(recorded)
    assert outcomes(again) == ["replayed"] * len(outcomes(session))


def test_all_that_a_server_says_comes_again_and_no_server_starts(store: Path, tmp_path: Path) -> None:
    command, listener = write_server(tmp_path), Listener(mcp, str.upper)
    with nr.session(store, mode="record") as session:
        live = asyncio.run(listener.run(command, "Oslo", "Rome"))
    heard = list(listener.heard)
    assert [item[0] for item in heard if item[0] in ("progress", "log", "sampling", "roots")] == (
        ["progress", "log", "sampling", "roots", "progress"] * 2
    )
    Path(command[1]).unlink()
    with listener.fresh() as again, nr.session(store, mode="replay") as session:
        assert asyncio.run(listener.run(command, "Oslo", "Rome")) == live
    assert again == heard
    assert outcomes(session) == ["replayed"] * 6
