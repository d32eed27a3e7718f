"""openai-agents with the tools of an MCP server: the model is asked and the tools are called over HTTP, in turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sdks import harness, test_openai_agents
from tests.sdks.agent_client import client
from tests.sdks.harness import Cell, Sdk, Stage, check, installed
from tests.sdks.mcp_server import BothServers

agents_mcp = installed("agents.mcp", "openai-agents")

SDK = Sdk("openai-agents-mcp", "openai-agents", {"async": client})


def server() -> Any:
    return agents_mcp.MCPServerStreamableHttp({"url": BothServers.mcp}, cache_tools_list=True)


for _kind in test_openai_agents.MODELS:

    @SDK.cell(kind=f"{_kind}-tools", inside=1)
    async def _tools(c: Any, stage: Stage, kind: str = _kind) -> Any:
        async with server() as beside:
            return await test_openai_agents.run(test_openai_agents.agent(c, kind, mcp_servers=[beside]))

    @SDK.cell(kind=f"{_kind}-stream-tools", streams=True, inside=1)
    async def _stream_tools(c: Any, stage: Stage, kind: str = _kind) -> Any:
        async with server() as beside:
            helper = test_openai_agents.agent(c, kind, mcp_servers=[beside])
            return await test_openai_agents.streamed(stage, kind, helper)


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(
    cell: Cell, tmp_path: Path, record_property: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "Server", BothServers)
    check(cell, tmp_path, record_property)
