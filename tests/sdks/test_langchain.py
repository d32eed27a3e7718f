"""langchain-openai: chats, tools, structured answers and embeddings, over openai's client."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.clients import http, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed

langchain = installed("langchain_openai", "langchain-openai")


class City(BaseModel):
    """A city."""

    name: str
    population: int


def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    raise AssertionError("nobody runs it here")


class Both:
    """A chat model and one of embeddings; which method is awaited depends on the flavour."""

    def __init__(self, stage: Stage, flavour: str, client: Any) -> None:
        over = {"http_client" if flavour == "sync" else "http_async_client": client}
        given: dict[str, Any] = {
            "base_url": f"{stage.url}/v1",
            "api_key": "a-key-of-the-tests",
            "max_retries": 0,
            **over,
        }
        self.chat = langchain.ChatOpenAI(model="test", temperature=0.0, **given)
        self.response = langchain.ChatOpenAI(model="test", use_responses_api=True, **given)
        self.embedder = langchain.OpenAIEmbeddings(model="test", check_embedding_ctx_length=False, **given)
        self.prefix = "" if flavour == "sync" else "a"

    def call(self, model: Any, name: str, *args: Any) -> Any:
        return getattr(model, self.prefix + name)(*args)


@contextmanager
def sync(stage: Stage) -> Any:
    with http.Client(verify=False) as client:
        yield Both(stage, "sync", client)


@asynccontextmanager
async def asynchronous(stage: Stage) -> Any:
    async with http.AsyncClient(verify=False) as client:
        yield Both(stage, "async", client)


SDK = Sdk("langchain", "langchain-openai", {"sync": sync, "async": asynchronous})


def told(message: Any) -> Any:
    """A message without the id of the run, which langchain makes up each time."""
    if str(message.id or "").startswith(("lc_run-", "run-")):
        message.id = None
    return message


async def streamed(stage: Stage, stream: Any) -> list[Any]:
    class Told:
        """The stream's messages, as they are told."""

        def __iter__(self) -> Any:
            return (told(item) for item in stream)

        async def __aiter__(self) -> Any:
            async for item in stream:
                yield told(item)

    if hasattr(stream, "__aiter__"):
        return await stage.all(Told().__aiter__())
    return await stage.all(iter(Told()))


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    return told(await wait(c.call(c.chat, "invoke", "hello")))


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    model = c.chat.bind_tools([get_weather])
    first = told(await wait(c.call(model, "invoke", "hello")))
    turns = [("user", "hello"), first, {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "18"}]
    return first, told(await wait(c.call(model, "invoke", turns)))


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    return await streamed(stage, c.call(c.chat, "stream", "hello"))


@SDK.cell(streams=True)
async def chat_stream_tools(c: Any, stage: Stage) -> Any:
    return await streamed(stage, c.call(c.chat.bind_tools([get_weather]), "stream", "hello"))


@SDK.cell
async def chat_structured(c: Any, stage: Stage) -> Any:
    found = await wait(c.call(c.chat.with_structured_output(City, include_raw=True), "invoke", "hello"))
    return told(found["raw"]), found["parsed"], found["parsing_error"]


@SDK.cell
async def response(c: Any, stage: Stage) -> Any:
    return told(await wait(c.call(c.response, "invoke", "hello")))


@SDK.cell(streams=True)
async def response_stream(c: Any, stage: Stage) -> Any:
    return await streamed(stage, c.call(c.response, "stream", "hello"))


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    return await wait(c.call(c.embedder, "embed_documents", ["one", "two"]))


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is made, langchain's model tries out a socket's options, on one that goes nowhere: not here."""
    monkeypatch.setenv("LANGCHAIN_OPENAI_TCP_KEEPALIVE", "0")


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
