"""mistralai: one client, whose methods have async twins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.clients import entered, said, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

mistralai = installed("mistralai.client", "mistralai")
HELLO = said("hello")
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


class City(BaseModel):
    name: str


@contextmanager
def sync_client(stage: Stage) -> Iterator[Any]:
    with mistralai.Mistral(api_key="a-key", server_url=stage.url) as client:
        yield lambda name: attrgetter(name)(client)


@asynccontextmanager
async def async_client(stage: Stage) -> AsyncIterator[Any]:
    async with mistralai.Mistral(api_key="a-key", server_url=stage.url) as client:
        yield lambda name: attrgetter(name + "_async")(client)


SDK = Sdk("mistralai", "mistralai", {"sync": sync_client, "async": async_client})


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    return await wait(c("chat.complete")(model="mistral", messages=HELLO))


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    first = await wait(c("chat.complete")(model="mistral", messages=HELLO, tools=[TOOL]))
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "18 degrees"}
    return first, await wait(c("chat.complete")(model="mistral", messages=[*HELLO, message, result], tools=[TOOL]))


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    async with entered(await wait(c("chat.stream")(model="mistral", messages=HELLO))) as stream:
        return await stage.all(stream)


@SDK.cell(streams=True)
async def chat_stream_tools(c: Any, stage: Stage) -> Any:
    async with entered(await wait(c("chat.stream")(model="mistral", messages=HELLO, tools=[TOOL]))) as stream:
        return await stage.all(stream)


@SDK.cell
async def chat_parse(c: Any, stage: Stage) -> Any:
    return await wait(c("chat.parse")(City, model="mistral", messages=HELLO))


@SDK.cell
async def fim(c: Any, stage: Stage) -> Any:
    return await wait(c("fim.complete")(model="mistral", prompt="def f(", suffix="return x"))


@SDK.cell(streams=True)
async def fim_stream(c: Any, stage: Stage) -> Any:
    async with entered(await wait(c("fim.stream")(model="mistral", prompt="def f("))) as stream:
        return await stage.all(stream)


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    return await wait(c("embeddings.create")(model="mistral-embed", inputs=["one", "two"]))


@SDK.cell
async def file_upload(c: Any, stage: Stage) -> Any:
    content = bytes(range(256))
    return await wait(c("files.upload")(file={"file_name": "a.pdf", "content": content}, purpose="ocr"))


@SDK.cell
async def error_400(c: Any, stage: Stage) -> Any:
    from mistralai.client import errors

    return await raised(errors.SDKError, lambda: c("chat.complete")(model="test/status=400", messages=HELLO))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
