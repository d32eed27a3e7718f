"""llama-index: its models and embeddings of OpenAI, and an agent that loops until its tool has told what was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.clients import wait
from tests.sdks.dump import dump
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

_llms = installed("llama_index.llms.openai", "llama-index-llms-openai", "sdks-openai2")
_core = installed("llama_index.core.llms", "llama-index-core", "sdks-openai2")
_tools = installed("llama_index.core.tools", "llama-index-core", "sdks-openai2")
_workflow = installed("llama_index.core.agent.workflow", "llama-index-core", "sdks-openai2")


class Count(BaseModel):
    """What the tests' server fills in with the number of its answer."""

    name: str
    number: int


HELLO = [_core.ChatMessage(role="user", content="hello")]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the models over one HTTP client, and calls their methods of one flavour."""

    a: str
    options: dict[str, Any]

    def model(self, kind: str = "OpenAI", **more: Any) -> Any:
        return getattr(_llms, kind)(model="gpt-4o", **{**self.options, **more})  # it refuses names it does not know

    def call(self, name: str, *given: Any, model: Any = None, **options: Any) -> Any:
        return wait(getattr(model or self.model(), self.a + name)(*given, **options))


def _options(stage: Stage, name: str, inner: Any) -> dict[str, Any]:
    return {"api_base": f"{stage.url}/v1", "api_key": "a-key-of-the-tests", "max_retries": 0, name: inner}


@contextmanager
def sync(stage: Stage) -> Iterator[Maker]:
    with openai.DefaultHttpxClient() as inner:
        yield Maker("", _options(stage, "http_client", inner))


@asynccontextmanager
async def asynchronous(stage: Stage) -> AsyncIterator[Maker]:
    async with openai.DefaultAsyncHttpxClient() as inner:
        yield Maker("a", _options(stage, "async_http_client", inner))


SDK = Sdk("llama-index", "llama-index-llms-openai", {"sync": sync, "async": asynchronous})


def get_weather(city: str, days: int) -> str:
    """Tell the weather."""
    return f"18 degrees in {city} for {days} days"


@SDK.cell
async def complete(c: Maker, stage: Stage) -> Any:
    return await c.call("complete", "hello")


@SDK.cell(streams=True)
async def complete_stream(c: Maker, stage: Stage) -> Any:
    return await stage.all(await c.call("stream_complete", "hello"))


@SDK.cell
async def chat(c: Maker, stage: Stage) -> Any:
    return await c.call("chat", HELLO)


@SDK.cell(streams=True)
async def chat_stream(c: Maker, stage: Stage) -> Any:
    return await stage.all(await c.call("stream_chat", HELLO))


@SDK.cell
async def chat_tools(c: Maker, stage: Stage) -> Any:
    model, tool = c.model(), _tools.FunctionTool.from_defaults(get_weather)
    first = await c.call("chat_with_tools", [tool], "hello", model=model)
    (asked,) = model.get_tool_calls_from_response(first)
    told = _core.ChatMessage(role="tool", content="18", additional_kwargs={"tool_call_id": asked.tool_id})
    turns = [*HELLO, first.message, told]
    return dump(first), asked, await c.call("chat_with_tools", [tool], chat_history=turns, model=model)


@SDK.cell
async def chat_called_tools(c: Maker, stage: Stage) -> Any:
    def count(name: str, number: int) -> str:
        """Count something: the server's number is all that tells its answers apart here."""
        return f"{number} times {name}"

    return await c.call("predict_and_call", [_tools.FunctionTool.from_defaults(count, name="Count")], "hello")


@SDK.cell(streams=True)
async def chat_stream_tools(c: Maker, stage: Stage) -> Any:
    tool = _tools.FunctionTool.from_defaults(get_weather)
    return await stage.all(await c.call("stream_chat_with_tools", [tool], "hello"))


@SDK.cell
async def chat_structured(c: Maker, stage: Stage) -> Any:
    return await c.call("chat", HELLO, model=c.model().as_structured_llm(Count))


@SDK.cell
async def response(c: Maker, stage: Stage) -> Any:
    return await c.call("chat", HELLO, model=c.model("OpenAIResponses"))


@SDK.cell(streams=True)
async def response_stream(c: Maker, stage: Stage) -> Any:
    return await stage.all(await c.call("stream_chat", HELLO, model=c.model("OpenAIResponses")))


@SDK.cell(streams=True, only="async")
async def agent_tools(c: Maker, stage: Stage) -> Any:
    helper = _workflow.FunctionAgent(tools=[get_weather], llm=c.model(), system_prompt="Be brief.")
    running, found = helper.run("hello"), []
    async for event in running.stream_events():
        if isinstance(event, _workflow.AgentStream):  # what stands before the first was not asked for yet
            stage.arrived()
        found.append(dump(event))
    return found, await running


@SDK.cell
async def embeddings(c: Maker, stage: Stage) -> Any:
    module = installed("llama_index.embeddings.openai", "llama-index-embeddings-openai", "sdks-openai2")
    name = "get_text_embedding_batch"
    return await wait(getattr(module.OpenAIEmbedding(**c.options), f"a{name}" if c.a else name)(["one", "two"]))


@SDK.cell
async def error_400(c: Maker, stage: Stage) -> Any:
    # Only what stands in the body's own name of the model is looked at: the server knows no other switch.
    more = {"additional_kwargs": {"extra_body": {"model": "test/status=400"}}}
    return await raised(openai.BadRequestError, lambda: c.call("chat", HELLO, model=c.model(**more)))


@SDK.cell(only="async")
async def chat_concurrent(c: Maker, stage: Stage) -> Any:
    model = c.model()
    return await stage.together([model.acomplete(f"question {number}") for number in range(8)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its workflows use what pydantic has renamed
@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
