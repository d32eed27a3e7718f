"""google-genai: its sync client over httpx2, its async one over aiohttp where that is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.clients import items, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

genai = installed("google.genai", "google-genai")
types: Any = genai.types
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")


class City(BaseModel):
    name: str


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = types.Tool(
    function_declarations=[types.FunctionDeclaration(name="get_weather", parameters_json_schema=PARAMETERS)]
)


def made(stage: Stage) -> Any:
    options = types.HttpOptions(base_url=f"{stage.url}/google")  # OpenAI has a list of models, too
    return genai.Client(api_key="a-key-of-the-tests", http_options=options)


@contextmanager
def sync_client(stage: Stage) -> Iterator[Any]:
    with made(stage) as client:
        yield client


@asynccontextmanager
async def async_client(stage: Stage) -> AsyncIterator[Any]:
    whole = made(stage)
    async with whole.aio as client:
        yield client
    whole.close()


SDK = Sdk("google-genai", "google-genai", {"sync": sync_client, "async": async_client})


@SDK.cell
async def generate(c: Any, stage: Stage) -> Any:
    config = types.GenerateContentConfig(temperature=0.1, system_instruction="be brief")
    return await wait(c.models.generate_content(model="test", contents="hello", config=config))


@SDK.cell
async def generate_tools(c: Any, stage: Stage) -> Any:
    config = types.GenerateContentConfig(tools=[TOOLS])
    asked = types.Content(role="user", parts=[types.Part.from_text(text="hello")])
    first = await wait(c.models.generate_content(model="test", contents=[asked], config=config))
    result = types.Part.from_function_response(name="get_weather", response={"result": "18 degrees"})
    turns = [asked, first.candidates[0].content, types.Content(role="user", parts=[result])]
    return first, await wait(c.models.generate_content(model="test", contents=turns, config=config))


@SDK.cell(streams=True)
async def generate_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.models.generate_content_stream(model="test", contents="hello")))


@SDK.cell(streams=True)
async def generate_stream_tools(c: Any, stage: Stage) -> Any:
    config = types.GenerateContentConfig(tools=[TOOLS])
    return await stage.all(await wait(c.models.generate_content_stream(model="test", contents="hello", config=config)))


@SDK.cell
async def generate_parse(c: Any, stage: Stage) -> Any:
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    answer = await wait(c.models.generate_content(model="test", contents="hello", config=config))
    assert isinstance(answer.parsed, City)
    return answer


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    talk = c.chats.create(model="test")
    return await wait(talk.send_message("hello")), await wait(talk.send_message("more")), talk.get_history()


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    talk = c.chats.create(model="test")
    return await stage.all(await wait(talk.send_message_stream("hello"))), talk.get_history()


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    return await wait(c.models.embed_content(model="test", contents=["one", "two"]))


@SDK.cell
async def count_tokens(c: Any, stage: Stage) -> Any:
    return await wait(c.models.count_tokens(model="test", contents="hello"))


@SDK.cell
async def models(c: Any, stage: Stage) -> Any:
    return [item async for item in items(await wait(c.models.list()))]


@SDK.cell
async def error_404(c: Any, stage: Stage) -> Any:
    from google.genai.errors import ClientError

    return await raised(ClientError, lambda: c.models.generate_content(model="missing", contents="hello"))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
