"""pydantic-ai: its agents over both models, which loop until the tools have told what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.clients import entered, items, wait
from tests.sdks.agent_client import asynchronous, client, with_loop
from tests.sdks.dump import dump
from tests.sdks.harness import Cell, Sdk, Stage, check, installed
from tests.sdks.openai_client import City

pydantic_ai = installed("pydantic_ai", "pydantic-ai-slim")
_openai = installed("pydantic_ai.models.openai", "pydantic-ai-slim")
_provider = installed("pydantic_ai.providers.openai", "pydantic-ai-slim")

MODELS = {"chat": _openai.OpenAIChatModel, "response": _openai.OpenAIResponsesModel}
# The client makes these itself, out of its clock: when a message was made, and a UUID of the run and of the
# conversation. The server's own time is there, too, under `provider_details`.
OWN = frozenset({"timestamp", "run_id", "conversation_id"})

SDK = Sdk("pydantic-ai", "pydantic-ai-slim", {"sync": with_loop, "async": client})


class Sight(BaseModel):
    """What may be answered in part: a model without defaults is there only when all of it is."""

    name: str = ""
    population: int = 0


def agent(c: Any, kind: str, *, tools: bool = False, **options: Any) -> Any:
    model = MODELS[kind]("test", provider=_provider.OpenAIProvider(openai_client=c))
    return pydantic_ai.Agent(model, instructions="Be brief.", tools=[get_weather] * tools, **options)


def get_weather(city: str, days: int) -> str:
    """Tell the weather."""
    return f"18 degrees in {city} for {days} days"


async def run(helper: Any, text: str = "hello", **options: Any) -> Any:
    """Run an agent to its end, as this flavour does it."""
    runner = helper.run if asynchronous() else helper.run_sync
    return lasting(told(await wait(runner(text, **options))))


async def streamed(stage: Stage, helper: Any, how: str, options: Mapping[str, Any] = {}, **more: Any) -> Any:
    """Run an agent whose answer is streamed, and return its pieces and its result."""
    runner = helper.run_stream if asynchronous() else helper.run_stream_sync
    async with entered(runner("hello", **options)) as result:
        # Otherwise it groups what comes within a tenth of a second.
        pieces = await stage.all(getattr(result, how)(debounce_by=None, **more))
        return lasting([pieces, await wait(result.get_output()), told(result)])


def told(result: Any) -> dict[str, Any]:
    """Return all that a result has to say."""
    return {
        "class": type(result),
        "output": getattr(result, "output", None),
        "messages": result.all_messages(),
        "new": result.new_messages(),
        "response": result.response,
        "usage": result.usage,
        "metadata": result.metadata,
    }


def lasting(value: Any) -> Any:
    """Return a dump without what the client makes up in each run."""
    return _without(dump(value))


def _without(node: Any) -> Any:
    if isinstance(node, list):
        return [_without(item) for item in node]
    if not isinstance(node, dict):
        return node
    own = OWN if "class" in node else ()
    return {name: _without(item) for name, item in node.items() if name not in own}


for _kind in MODELS:

    @SDK.cell(kind=_kind)
    async def _plain(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await run(agent(c, kind))

    @SDK.cell(kind=f"{_kind}-tools")
    async def _tools(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await run(agent(c, kind, tools=True))

    @SDK.cell(kind=f"{_kind}-structured-tools")
    async def _structured_tools(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await run(agent(c, kind, output_type=City))

    @SDK.cell(kind=f"{_kind}-structured")
    async def _structured(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await run(agent(c, kind, output_type=pydantic_ai.NativeOutput(City)))

    @SDK.cell(kind=f"{_kind}-history-tools")
    async def _history(c: Any, stage: Stage, kind: str = _kind) -> Any:
        helper = agent(c, kind, tools=True)
        runner = helper.run if asynchronous() else helper.run_sync
        first = await wait(runner("hello"))
        return lasting(told(first)), await run(helper, "more", message_history=first.all_messages())

    @SDK.cell(kind=f"{_kind}-stream", streams=True)
    async def _stream(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await streamed(stage, agent(c, kind), "stream_text", delta=True)

    @SDK.cell(kind=f"{_kind}-stream-tools", streams=True)
    async def _stream_tools(c: Any, stage: Stage, kind: str = _kind) -> Any:
        options = {"event_stream_handler": _seen(stage, found := [])}
        return found, await streamed(stage, agent(c, kind, tools=True), "stream_text", options, delta=True)

    @SDK.cell(kind=f"{_kind}-stream-structured", streams=True)
    async def _stream_structured(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await streamed(stage, agent(c, kind, output_type=pydantic_ai.NativeOutput(Sight)), "stream_output")

    @SDK.cell(kind=f"{_kind}-events-tools", streams=True, only="async")
    async def _events(c: Any, stage: Stage, kind: str = _kind) -> Any:
        found = []
        async with agent(c, kind, tools=True).run_stream_events("hello") as events:
            async for event in events:
                stage.arrived()
                last = isinstance(event, pydantic_ai.AgentRunResultEvent)
                found.append(lasting(told(event.result) if last else event))
        return found


def _seen(stage: Stage, found: list[Any]) -> Any:
    async def handler(_: Any, events: Any) -> None:
        async for event in items(events):
            stage.arrived()
            found.append(lasting(event))

    return handler


@SDK.cell(only="async")
async def chat_nodes_tools(c: Any, stage: Stage) -> Any:
    async with agent(c, "chat", tools=True).iter("hello") as running:
        return [type(node) async for node in running], lasting(told(running.result))


@SDK.cell(only="async")
async def chat_concurrent_tools(c: Any, stage: Stage) -> Any:
    questions = [f"question {number}" for number in range(8)]
    return await stage.together([run(agent(c, "chat", tools=True), question) for question in questions])


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    module = installed("pydantic_ai.embeddings.openai", "pydantic-ai-slim")
    model = module.OpenAIEmbeddingModel("test", provider=_provider.OpenAIProvider(openai_client=c))
    embedder = pydantic_ai.Embedder(model)
    embed = embedder.embed_documents if asynchronous() else embedder.embed_documents_sync
    return lasting(await wait(embed(["one", "two"])))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
