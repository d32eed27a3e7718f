"""AzureOpenAI: openai's own client for Azure, whose paths name a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients import entered, said, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, raised

HELLO = said("hello")
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def client(kind: type) -> Any:
    key, version = "a-key-of-the-tests", "2026-01-01"
    return lambda stage: kind(azure_endpoint=stage.url, api_key=key, api_version=version, max_retries=0)


SDK = Sdk("azure-openai", "openai", {"sync": client(openai.AzureOpenAI), "async": client(openai.AsyncAzureOpenAI)})


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.create(model="gpt-of-mine", messages=HELLO))


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.create(model="gpt-of-mine", messages=HELLO, tools=[TOOL]))


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.chat.completions.create(model="gpt-of-mine", messages=HELLO, stream=True)))


@SDK.cell(streams=True)
async def chat_stream_tools(c: Any, stage: Stage) -> Any:
    made = c.chat.completions.create(model="gpt-of-mine", messages=HELLO, stream=True, tools=[TOOL])
    return await stage.all(await wait(made))


@SDK.cell(streams=True)
async def chat_stream_helper(c: Any, stage: Stage) -> Any:
    async with entered(c.chat.completions.stream(model="gpt-of-mine", messages=HELLO)) as stream:
        return await stage.all(stream), await wait(stream.get_final_completion())


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    return await wait(c.embeddings.create(model="vectors-of-mine", input=["one", "two"]))


@SDK.cell
async def response(c: Any, stage: Stage) -> Any:
    return await wait(c.responses.create(model="gpt-of-mine", input="hello"))


@SDK.cell(streams=True)
async def response_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.responses.create(model="gpt-of-mine", input="hello", stream=True)))


@SDK.cell
async def error_400(c: Any, stage: Stage) -> Any:
    made = {"model": "test/status=400", "messages": HELLO}
    return await raised(openai.BadRequestError, lambda: c.chat.completions.create(**made))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
