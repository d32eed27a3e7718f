"""MCP's tools: over stdio and within the process a call is one of a tool; over HTTP what is asked is HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.core.log import find_uncovered
from tests.clients import call, chat, outcomes, recordings
from tests.provider import Provider
from tests.sdks.dump import dump
from tests.sdks.harness import installed
from tests.sdks.mcp_server import McpServer
from tests.sdks.stdio_server import Listener, write_server
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


def test_over_stdio_the_tool_is_not_entered(store: Path, tmp_path: Path) -> None:
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
    assert outcomes(session) == ["recorded"] * 4, "the handshake and the list of tools, too"
    assert log.read_text() == "xx"
    with nr.session(store, mode="replay") as session:
        assert dump(asyncio.run(run())) == dump(recorded)
    assert outcomes(session) == ["replayed"] * 4
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


def test_each_of_two_servers_with_a_tool_of_one_name_gets_its_own_answers_again(store: Path) -> None:
    entries = Entries()
    with nr.session(store, mode="record"):
        recorded = {name: asked(made(entries, name), "find", city="a") for name in ("one", "other")}
    with nr.session(store, mode="replay"):
        assert {name: asked(made(entries, name), "find", city="a") for name in ("other", "one")} == recorded
    takes = json.loads(next(store.glob("tool-*.json")).read_text())["takes"]
    assert [take["tool"] for take in takes] == ["mcp:one", "mcp:other"]


def _sampled(url: str) -> Any:
    return lambda text: str(call("sync", url, chat(text)))


def test_over_stdio_all_that_a_server_says_comes_again_and_no_server_starts(
    provider: Provider, store: Path, tmp_path: Path
) -> None:
    command = write_server(tmp_path)
    listener = Listener(mcp, _sampled(provider.url))
    with nr.session(store, mode="record") as session:
        live = asyncio.run(listener.run(command, "Oslo", "Rome"))
    heard, hits = list(listener.heard), len(provider.requests)
    assert [item[0] for item in heard if item[0] in ("progress", "log", "sampling", "roots")] == (
        ["progress", "log", "sampling", "roots", "progress"] * 2
    )
    assert ("progress", (0.5, 1.0, "half")) in heard
    asked = [item.request.model for item in session.interactions if item.request]
    assert asked == ["initialize", "tools/list", "resources/read", "ping", "work", "test", "work", "test"]
    Path(command[1]).unlink()
    with listener.fresh() as again, nr.session(store, mode="replay") as session:
        assert asyncio.run(listener.run(command, "Oslo", "Rome")) == live
    assert again == heard
    assert outcomes(session) == ["replayed"] * 8
    assert len(provider.requests) == hits
    assert (tmp_path / "log").read_text() == "xx"
    assert "child" not in dict(find_uncovered([session.log]))

    listener.sample = lambda _: "something else"
    with nr.session(store, mode="replay") as session, pytest.raises(BaseException) as caught:
        asyncio.run(listener.run(command, "Oslo"))
    (missing,) = (error for error in _leaves(caught.value) if isinstance(error, nr.RecordingMissing))
    assert "sampling/createMessage" in str(missing)
    assert "something else" in str(missing)
    with nr.session(store, mode="replay") as session, pytest.raises(BaseException) as caught:
        asyncio.run(listener.run(command, "Bern"))
    assert "tool work" in repr(_leaves(caught.value))
    assert outcomes(session)[-1] == "missing"


@pytest.mark.full
@pytest.mark.parametrize("mode", ["replay", "auto"])
def test_over_stdio_a_server_that_runs_is_not_asked_for_what_is_recorded(
    mode: Any, provider: Provider, store: Path, tmp_path: Path
) -> None:
    """It runs in auto, and in a replay of a store that has no handshake, as older ones."""
    command, listener = write_server(tmp_path), Listener(mcp, _sampled(provider.url))
    with nr.session(store, mode="record"):
        live = asyncio.run(listener.run(command, "Oslo"))
    heard = [item for item in listener.heard if item[0] != "ProgressNotification"]
    if mode == "replay":
        for path in store.glob("tool-*.json"):
            if '"InitializeResult"' in path.read_text():
                path.unlink()
    with listener.fresh() as again, nr.session(store, mode=mode) as session:
        assert asyncio.run(listener.run(command, "Oslo")) == live
    assert [item for item in again if item[0] != "ProgressNotification"] == heard
    assert outcomes(session) == ["replayed"] * 2, "the tool, and what its sampling asked"
    assert (tmp_path / "log").read_text() == "x"


@pytest.mark.full
def test_over_stdio_the_client_of_mcp_2_replays_without_a_server(store: Path, tmp_path: Path) -> None:
    command = write_server(tmp_path)

    async def run() -> list[Any]:
        parameters = mcp.StdioServerParameters(command=command[0], args=command[1:])
        async with mcp.Client(parameters) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            return [names, dump(await client.call_tool("find", {"city": "Oslo"}))]

    with nr.session(store, mode="record"):
        live = asyncio.run(run())
    Path(command[1]).unlink()
    with nr.session(store, mode="replay") as session:
        assert asyncio.run(run()) == live
    assert set(outcomes(session)) == {"replayed"}
