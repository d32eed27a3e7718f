"""ollama: chats and completions, streamed as lines of JSON, embeddings and what is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.clients import said, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

ollama = installed("ollama")
HELLO = said("hello")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def client(kind: Any) -> Any:
    return lambda stage: kind(host=stage.url)


SDK = Sdk("ollama", "ollama", {"sync": client(ollama.Client), "async": client(ollama.AsyncClient)})


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    return await wait(c.chat(model="test", messages=HELLO, options={"temperature": 0}))


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    first = await wait(c.chat(model="test", messages=HELLO, tools=[TOOL]))
    turns = [*HELLO, first.message, {"role": "tool", "tool_name": "get_weather", "content": "18 degrees"}]
    return first, await wait(c.chat(model="test", messages=turns, tools=[TOOL]))


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.chat(model="test", messages=HELLO, stream=True)))


@SDK.cell(streams=True)
async def chat_stream_tools(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.chat(model="test", messages=HELLO, stream=True, tools=[TOOL])))


@SDK.cell
async def chat_format(c: Any, stage: Stage) -> Any:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    return await wait(c.chat(model="test", messages=HELLO, format=schema))


@SDK.cell
async def completion(c: Any, stage: Stage) -> Any:
    return await wait(c.generate(model="test", prompt="once upon a time"))


@SDK.cell(streams=True)
async def completion_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.generate(model="test", prompt="once upon a time", stream=True)))


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    return await wait(c.embed(model="test", input=["one", "two"])), await wait(c.embeddings(model="test", prompt="one"))


@SDK.cell
async def models(c: Any, stage: Stage) -> Any:
    return await wait(c.list()), await wait(c.ps()), await wait(c.show("test"))


@SDK.cell
async def error_404(c: Any, stage: Stage) -> Any:
    return await raised(ollama.ResponseError, lambda: c.chat(model="missing", messages=HELLO))


@SDK.cell(answered=False)
async def refused(c: Any, stage: Stage) -> Any:
    nowhere = type(c)(host="http://127.0.0.1:1")
    try:
        return await raised(ConnectionError, lambda: nowhere.chat(model="test", messages=HELLO))
    finally:
        await wait(nowhere.close())


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
