"""mcp over streamable HTTP: its own client of both eras, against a server made with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.sdks import harness
from tests.sdks.harness import Cell, Sdk, Stage, check, installed
from tests.sdks.mcp_server import McpServer

installed("mcp.server.mcpserver", "mcp 2")
mcp = installed("mcp")


def client(mode: str) -> Any:
    return lambda stage: mcp.Client(f"{stage.url}/mcp", mode=mode)


SDK = Sdk("mcp", "mcp", {"async": client("auto")})
LEGACY = Sdk("mcp-session", "mcp", {"async": client("legacy")})  # with a session, and a stream that stays open


@SDK.cell
@LEGACY.cell
async def tools(c: Any, stage: Stage) -> Any:
    return await c.list_tools(), await c.call_tool("get_weather", {"city": "Tokyo", "days": 3})


@SDK.cell
@LEGACY.cell
async def structured(c: Any, stage: Stage) -> Any:
    return await c.call_tool("get_table", {"city": "Tokyo"})


@SDK.cell
@LEGACY.cell
async def error_tools(c: Any, stage: Stage) -> Any:
    return await c.call_tool("get_nothing", {"city": "Tokyo"})


@SDK.cell(streams=True)
@LEGACY.cell(streams=True)
async def stream_tools(c: Any, stage: Stage) -> Any:
    found = []

    async def seen(*progress: Any) -> None:
        stage.arrived()
        found.append(progress)

    return await c.call_tool("get_slowly", {"city": "Tokyo"}, progress_callback=seen), found


@SDK.cell
@LEGACY.cell
async def resources(c: Any, stage: Stage) -> Any:
    return await c.list_resource_templates(), await c.read_resource("weather://Tokyo")


@SDK.cell
@LEGACY.cell
async def prompts(c: Any, stage: Stage) -> Any:
    return await c.list_prompts(), await c.get_prompt("ask", {"city": "Tokyo"})


@SDK.cell
@LEGACY.cell
async def repeated_tools(c: Any, stage: Stage) -> Any:
    return [await c.call_tool("get_weather", {"city": "Tokyo"}) for _ in range(3)]


@SDK.cell
@LEGACY.cell
async def concurrent_tools(c: Any, stage: Stage) -> Any:
    await c.list_tools()  # else it asks for them at every result that comes before it has them, as chance will have it
    return await stage.together([c.call_tool("get_weather", {"city": f"city {number}"}) for number in range(8)])


@LEGACY.cell
async def staying_tools(c: Any, stage: Stage) -> Any:
    """Stay on beyond the second after which the client asks again for its stream, where that has ended."""
    streams = installed("mcp.client.streamable_http", "mcp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "DEFAULT_RECONNECTION_DELAY_MS", 1)  # it does not end live; nobody is to wait for it
        first = await c.call_tool("get_weather", {"city": "Tokyo"})
        await asyncio.sleep(0.1)
        return first, await c.call_tool("get_weather", {"city": "Tokyo"})


@LEGACY.cell
async def leaving_tools(_: Any, stage: Stage) -> Any:
    """Leave without a word: the stream is still open then."""
    streams = installed("mcp.client.streamable_http", "mcp")
    transport = streams.streamable_http_client(f"{stage.url}/mcp", terminate_on_close=False)
    async with mcp.Client(transport, mode="legacy") as c:
        return await c.call_tool("get_weather", {"city": "Tokyo"})


@SDK.cell
async def listening_tools(c: Any, stage: Stage) -> Any:
    """Subscribe, which is a stream that stays open; its id is counted over the whole process."""
    async with c.listen(tools_list_changed=True) as heard:
        answer = await c.call_tool("change_tools", {"city": "Tokyo"})
        return answer, await anext(heard)


@LEGACY.cell
async def told_tools(_: Any, stage: Stage) -> Any:
    """Be told something in the stream that stays open."""
    told, heard = [], asyncio.Event()

    async def listener(message: Any) -> None:
        told.append(message)
        heard.set()

    async with mcp.Client(f"{stage.url}/mcp", mode="legacy", message_handler=listener) as c:
        await asyncio.sleep(0.5)  # until it listens: nobody says when
        answer = await c.call_tool("change_tools", {"city": "Tokyo"})
        await asyncio.wait_for(heard.wait(), 20)
        return answer, told


@pytest.mark.full(quick=4)
@pytest.mark.parametrize("cell", [*SDK.cells, *LEGACY.cells], ids=str)
def test_a_replay_equals_what_was_recorded(
    cell: Cell, tmp_path: Path, record_property: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "Server", McpServer)
    check(cell, tmp_path, record_property)
