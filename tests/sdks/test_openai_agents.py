"""openai-agents: its runner over both models, which loop until the tools have told what was asked."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from tests.clients import http, wait
from tests.sdks.agent_client import asynchronous, client, with_loop
from tests.sdks.dump import dump
from tests.sdks.harness import Cell, Sdk, Stage, check, installed
from tests.sdks.openai_client import City

agents = installed("agents", "openai-agents")
agents.set_tracing_disabled(True)  # its exporter asks on its own, every five seconds; see `traced`

MODELS = {"chat": agents.OpenAIChatCompletionsModel, "response": agents.OpenAIResponsesModel}


SDK = Sdk("openai-agents", "openai-agents", {"sync": with_loop, "async": client})


@agents.function_tool
def get_weather(city: str, days: int) -> str:
    """Tell the weather."""
    return f"18 degrees in {city} for {days} days"


def agent(c: Any, kind: str, **more: Any) -> Any:
    return agents.Agent(name="helper", instructions="Be brief.", model=MODELS[kind]("test", c), **more)


async def run(helper: Any, given: Any = "hello", **options: Any) -> Any:
    """Run an agent to its end, with the runner of the flavour that this is."""
    runner = agents.Runner.run if asynchronous() else agents.Runner.run_sync
    return told(await wait(runner(helper, given, **options)))


async def streamed(stage: Stage, kind: str, helper: Any) -> Any:
    """Run an agent, and return its events and its result."""
    result, events = agents.Runner.run_streamed(helper, "hello"), []
    async for event in result.stream_events():
        if event.type == "raw_response_event":  # the first event says which agent it is, before any request
            stage.arrived()
        events.append(dump(undated(plain(event)) if kind == "chat" else plain(event)))
    return events, told(result)


def plain(value: Any) -> Any:
    """Return an item or an event of a run, with the agents, which are the test's own objects, by their names."""
    if isinstance(value, agents.Agent):
        return value.name
    names = [field.name for field in dataclasses.fields(value) if not field.name.endswith("_ref")]
    fields = {name: getattr(value, name) for name in names}
    own = (agents.Agent, agents.items.RunItemBase)
    return {"class": type(value), **{n: plain(item) if isinstance(item, own) else item for n, item in fields.items()}}


def undated(event: dict[str, Any]) -> dict[str, Any]:
    """Leave out when a chat began: the chat model takes that from the client's clock, since chunks do not tell."""
    response = getattr(event.get("data"), "response", None)
    if response is not None:
        assert abs(time.time() - response.created_at) < 600
        event["data"] = event["data"].model_copy(update={"response": response.model_copy(update={"created_at": 0})})
    return event


def told(result: Any) -> dict[str, Any]:
    """Return all that a result has to say."""
    guardrails = ("input", "output", "tool_input", "tool_output")
    return {
        "class": type(result),
        "input": result.input,
        "items": [plain(item) for item in result.new_items],
        "responses": result.raw_responses,
        "output": result.final_output,
        "guardrails": [getattr(result, f"{name}_guardrail_results") for name in guardrails],
        "usage": result.context_wrapper.usage,
        "interruptions": result.interruptions,
        "turns": result._current_turn if isinstance(result, agents.RunResult) else result.current_turn,
        "agent": result.last_agent.name,
        "last": result.last_response_id,
        "next": result.to_input_list(),
    }


for _kind in MODELS:

    @SDK.cell(kind=_kind)
    async def _plain(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await run(agent(c, kind))

    @SDK.cell(kind=f"{_kind}-tools")
    async def _tools(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await run(agent(c, kind, tools=[get_weather]))

    @SDK.cell(kind=f"{_kind}-structured")
    async def _structured(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await run(agent(c, kind, output_type=City))

    @SDK.cell(kind=f"{_kind}-handoff")
    async def _handoff(c: Any, stage: Stage, kind: str = _kind) -> Any:
        other = agents.Agent(name="other", instructions="Answer.", model=MODELS[kind]("test", c))
        return await run(agent(c, kind, handoffs=[other]))

    @SDK.cell(kind=f"{_kind}-stream", streams=True, only="async")
    async def _stream(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await streamed(stage, kind, agent(c, kind))

    @SDK.cell(kind=f"{_kind}-stream-tools", streams=True, only="async")
    async def _stream_tools(c: Any, stage: Stage, kind: str = _kind) -> Any:
        return await streamed(stage, kind, agent(c, kind, tools=[get_weather]))


@SDK.cell(only="async")  # run_sync warns of its own asynchronous generators the second time
async def response_previous(c: Any, stage: Stage) -> Any:
    helper = agent(c, "response", tools=[get_weather])
    first = await run(helper, auto_previous_response_id=True)
    return first, await run(helper, "more", previous_response_id=first["last"])


@SDK.cell(only="async")
async def chat_session(c: Any, stage: Stage) -> Any:
    helper, memory = agent(c, "chat", tools=[get_weather]), agents.SQLiteSession("a-session")
    try:
        return await run(helper, session=memory), await run(helper, "more", session=memory), await memory.get_items()
    finally:
        memory.close()


@SDK.cell(only="async")
async def chat_concurrent(c: Any, stage: Stage) -> Any:
    questions = [f"question {number}" for number in range(8)]
    return await stage.together([run(agent(c, "chat", tools=[get_weather]), question) for question in questions])


class Elsewhere(http.AsyncHTTPTransport):  # type: ignore[misc]
    """Sends to the tests' server what is meant for another."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = http.URL(url)

    async def handle_async_request(self, request: Any) -> Any:
        request.url = request.url.copy_with(scheme="http", host=self._url.host, port=self._url.port)
        return await super().handle_async_request(request)


for _kind in MODELS:
    # What it asks OpenAI itself differs: there is a key for the cache of prompts, new in each run.
    @SDK.cell(kind=f"{_kind}-tools-official", only="async")
    async def _official(c: Any, stage: Stage, kind: str = _kind) -> Any:
        inner = http.AsyncClient(transport=Elsewhere(stage.url))
        async with client(stage, base_url="https://api.openai.com/v1", http_client=inner) as official:
            return await run(agent(official, kind, tools=[get_weather]))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
