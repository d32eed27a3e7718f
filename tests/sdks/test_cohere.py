"""cohere: its second API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.clients import said, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

cohere = installed("cohere")
HELLO = said("hello")
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


def client(kind: type) -> Any:
    return lambda stage: kind(api_key="a-key", base_url=stage.url)


SDK = Sdk("cohere", "cohere", {"sync": client(cohere.ClientV2), "async": client(cohere.AsyncClientV2)})


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    return await wait(c.chat(model="test", messages=HELLO, temperature=0.3))


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    first = await wait(c.chat(model="test", messages=HELLO, tools=[TOOL]))
    call = first.message.tool_calls[0]
    turns = [*HELLO, first.message, {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}]
    return first, await wait(c.chat(model="test", messages=turns, tools=[TOOL]))


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(c.chat_stream(model="test", messages=HELLO))


@SDK.cell(streams=True)
async def chat_stream_tools(c: Any, stage: Stage) -> Any:
    return await stage.all(c.chat_stream(model="test", messages=HELLO, tools=[TOOL]))


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    asked = {"texts": ["one", "two"], "input_type": "search_query", "embedding_types": ["float"]}
    return await wait(c.embed(model="test", **asked))


@SDK.cell
async def rerank(c: Any, stage: Stage) -> Any:
    return await wait(c.rerank(model="test", query="hello", documents=["one", "two", "three"]))


@SDK.cell
async def error_404(c: Any, stage: Stage) -> Any:
    return await raised(cohere.NotFoundError, lambda: c.chat(model="missing", messages=HELLO))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
