"""MCP's tools: over stdio and within the process a call is one of a tool; over HTTP what is asked is HTTP."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests.clients import call, chat, outcomes, recordings
from tests.provider import Provider
from tests.sdks.dump import dump
from tests.sdks.harness import installed
from tests.sdks.mcp_server import McpServer
from tests.sdks.tools import Entries

mcp = installed("mcp")
_server = installed("mcp.server.mcpserver", "mcp")
_errors = installed("mcp.shared.exceptions", "mcp")
_stdio = installed("mcp.client.stdio", "mcp")
_types = installed("mcp_types", "mcp")

SCRIPT = '''
import pathlib
from mcp.server.mcpserver import MCPServer

made = MCPServer("tests", log_level="ERROR")

@made.tool()
def find(city: str) -> str:
    """Find it."""
    log = pathlib.Path({log!r})
    log.write_text(log.read_text() + "x" if log.exists() else "x")
    return f"{{log.read_text()}} in {{city}}"

made.run("stdio")
'''


def made(entries: Entries, name: str = "tests") -> Any:
    """A server in this process."""
    server = _server.MCPServer(name, log_level="ERROR")

    @server.tool()
    def find(city: str) -> str:
        """Find it."""
        return f"{entries.enter()} in {city}"

    @server.tool()
    def measure(city: str) -> dict[str, float]:
        """Measure it."""
        return {"number": float(entries.enter()[-1]), "degrees": 18.123456789012345}

    @server.tool()
    def fail(city: str) -> str:
        """Fail."""
        raise ValueError(f"{entries.enter()}: no {city}")

    @server.tool()
    def draw(city: str) -> Any:
        """Draw it."""
        return [_types.ImageContent(type="image", data="AP8=", mime_type="image/png"), entries.enter()]

    @server.tool()
    def ask(url: str) -> str:
        """Ask a model."""
        return f"{entries.enter()}: {call('sync', url, chat('hello'))}"

    return server


def asked(server: Any, *names: str, **arguments: Any) -> list[Any]:
    """What calls come to, by one client; a string, an address or a server in this process."""

    async def whole() -> list[Any]:
        async with mcp.Client(server) as client:
            return [await client.call_tool(name, arguments) for name in names]

    return asyncio.run(whole())


@pytest.mark.parametrize("name", ["find", "measure", "fail", "draw"])
def test_in_memory_the_result_comes_back_and_the_tool_is_not_entered(name: str, store: Path) -> None:
    entries = Entries()
    with nr.session(store, mode="record") as session:
        recorded = asked(made(entries), name, city="Tokyo")
    assert outcomes(session) == ["recorded"]
    assert type(recorded[0]) is _types.CallToolResult
    (recording,) = recordings(store)
    assert recording.request == {"tool": name, "arguments": {"city": "Tokyo"}}
    entries.close()
    with nr.session(store, mode="replay") as session:
        replayed = asked(made(entries), name, city="Tokyo")
    assert outcomes(session) == ["replayed"]
    assert replayed == recorded
    assert dump(replayed) == dump(recorded), "which fields are set, too"
    assert (entries.number, entries.wrong) == (1, 0)
    with nr.session(store, mode="replay"), pytest.raises(BaseException) as caught:
        asked(made(entries), name, city="Kyoto")
    assert f"tool {name}" in repr(_leaves(caught.value))
    assert entries.number == 1


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in _leaves(one)]


def test_an_error_of_the_protocol_comes_back(store: Path) -> None:
    async def run() -> str:
        async with mcp.Client(made(Entries())) as client:
            with pytest.raises(_errors.MCPError) as caught:
                await client.call_tool("find", {"city": "a"}, read_timeout_seconds=1e-9)
        return repr((caught.value.code, caught.value.message, caught.value.data))

    with nr.session(store, mode="record"):
        recorded = asyncio.run(run())
    with nr.session(store, mode="replay") as session:
        assert asyncio.run(run()) == recorded
    assert outcomes(session) == ["replayed"]


def test_what_a_tool_in_this_process_asks_is_not_recorded(provider: Provider, store: Path) -> None:
    entries = Entries()
    with nr.session(store, mode="record") as session:
        recorded = asked(made(entries), "ask", url=provider.url)
    assert outcomes(session) == ["recorded"]
    entries.close()
    hits = len(provider.requests)
    with nr.session(store, mode="replay") as session:
        assert asked(made(entries), "ask", url=provider.url) == recorded
    assert (outcomes(session), len(provider.requests)) == (["replayed"], hits)


def test_over_stdio_the_server_runs_and_its_tool_is_not_entered(store: Path, tmp_path: Path) -> None:
    log, script = tmp_path / "log", tmp_path / "server.py"
    script.write_text(SCRIPT.format(log=str(log)))

    async def run() -> list[Any]:
        parameters = mcp.StdioServerParameters(command=sys.executable, args=[str(script)])
        async with _stdio.stdio_client(parameters) as streams, mcp.ClientSession(*streams) as session:
            await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]
            return [names, *[await session.call_tool("find", {"city": city}) for city in ("a", "b")]]

    with nr.session(store, mode="record") as session:
        recorded = asyncio.run(run())
    assert outcomes(session) == ["recorded"] * 2
    assert log.read_text() == "xx"
    with nr.session(store, mode="replay") as session:
        assert dump(asyncio.run(run())) == dump(recorded)
    assert outcomes(session) == ["replayed"] * 2
    assert log.read_text() == "xx"


def test_over_http_the_exchange_is_recorded(store: Path) -> None:
    async def run(url: str) -> list[Any]:
        async with mcp.Client(url) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            return [tools, *[await client.call_tool(name, {"city": "Tokyo"}) for name in ("get_weather", "get_table")]]

    with McpServer() as server, nr.session(store, mode="record") as session:
        recorded = asyncio.run(run(f"{server.url}/mcp"))
    kinds = [item.request.kind for item in session.interactions if item.request is not None]
    assert set(kinds) == {"http"}
    with nr.session(store, mode="replay") as again:
        assert dump(asyncio.run(run(f"{server.url}/mcp"))) == dump(recorded)
    assert outcomes(again) == ["replayed"] * len(outcomes(session))


def test_a_tool_of_another_framework_over_it_is_recorded_once(store: Path) -> None:
    langchain = installed("langchain_core.tools", "langchain-openai")
    entries = Entries()

    @langchain.tool
    async def outer(city: str) -> str:
        """Ask the server."""
        async with mcp.Client(made(entries)) as client:
            return str((await client.call_tool("find", {"city": city})).content[0].text)

    with nr.session(store, mode="record") as session:
        recorded = asyncio.run(outer.ainvoke({"city": "a"}))
    assert outcomes(session) == ["recorded"]
    entries.close()
    with nr.session(store, mode="replay") as session:
        assert asyncio.run(outer.ainvoke({"city": "a"})) == recorded
    assert (outcomes(session), entries.wrong) == (["replayed"], 0)


def test_two_servers_with_a_tool_of_one_name_are_an_error_and_one_made_again_is_none(store: Path) -> None:
    entries = Entries()
    with nr.session(store, mode="record"):
        for _ in range(2):
            asked(made(entries), "find", city="a")
        with pytest.raises(BaseException) as caught:
            asked(made(entries, "others"), "find", city="a")
    assert "two tools are called find" in repr(_leaves(caught.value))
