"""pydantic-ai's function tools: their bodies are not entered in a replay, and what is around them is as live."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel, TypeAdapter

import nbreplay as nr
from tests.clients import outcomes, recordings
from tests.sdks.harness import installed
from tests.sdks.tools import Entries, Loop, model

pydantic_ai = installed("pydantic_ai", "pydantic-ai-slim")
functions = installed("pydantic_ai.models.function", "pydantic-ai-slim")
messages = installed("pydantic_ai.messages", "pydantic-ai-slim")
toolsets = installed("pydantic_ai.toolsets", "pydantic-ai-slim")
_openai = installed("pydantic_ai.models.openai", "pydantic-ai-slim")
_provider = installed("pydantic_ai.providers.openai", "pydantic-ai-slim")


class Weather(BaseModel):
    city: str
    degrees: float


def calling(*calls: tuple[str, dict[str, Any]]) -> Any:
    """A model in this process that calls tools, one a turn, and then is done: nothing of it is recorded."""

    def answer(talk: list[Any], info: Any) -> Any:
        turn = sum(isinstance(message, messages.ModelResponse) for message in talk)
        if turn < len(calls):
            name, arguments = calls[turn]
            return messages.ModelResponse([messages.ToolCallPart(name, arguments)])
        return messages.ModelResponse([messages.TextPart("done")])

    return functions.FunctionModel(answer)


def ran(agent: Any, **more: Any) -> list[Any]:
    """What a run comes to, and what its tools returned or asked for."""
    result = asyncio.run(agent.run("three steps", **more))
    kinds = ("tool-return", "retry-prompt", "user-prompt", "retry-feedback")
    return [
        result.output,
        *[
            (part.part_kind, getattr(part, "content", None), getattr(part, "metadata", None))
            for message in result.all_messages()
            for part in message.parts
            if part.part_kind in kinds
        ],
    ]


def twice(store: Path, entries: Entries, run: Any, times: int = 1) -> tuple[Any, Any]:
    with nr.session(store, mode="record") as session:
        recorded = run()
    assert outcomes(session) == ["recorded"] * times
    entries.close()
    with nr.session(store, mode="replay") as session:
        replayed = run()
    assert outcomes(session) == ["replayed"] * times
    assert (entries.number, entries.wrong) == (times, 0)
    return recorded, replayed


def test_it_is_known_by_name_and_arguments_and_not_by_its_context(store: Path) -> None:
    entries = Entries()

    def run() -> Any:
        agent = pydantic_ai.Agent(calling(("get_weather", {"city": "Tokyo"})), deps_type=object)

        @agent.tool
        async def get_weather(ctx: pydantic_ai.RunContext[object], city: str, days: int = 3) -> Weather:
            """Tell the weather."""
            assert ctx.deps is not None
            return Weather(city=city, degrees=float(entries.enter()[-1]))

        return ran(agent, deps=object())

    recorded, replayed = twice(store, entries, run)
    assert recorded == replayed
    assert Weather(city="Tokyo", degrees=1) in [content for _, content, _ in replayed[1:]]
    (recording,) = recordings(store)
    assert recording.request["tool"] == "get_weather"
    assert recording.request["arguments"]["city"] == "Tokyo"
    assert "ctx" not in recording.request["arguments"]


@pytest.mark.parametrize("kind", ["ModelRetry", "ToolFailed"])
def test_what_it_asks_of_the_model_comes_back(kind: str, store: Path) -> None:
    entries = Entries()

    def find(city: str) -> str:
        """Find it."""
        if entries.enter() and city == "a":
            raise getattr(pydantic_ai.exceptions, kind)("not there")
        return "found"

    recorded, replayed = twice(
        store,
        entries,
        lambda: ran(pydantic_ai.Agent(calling(("find", {"city": "a"}), ("find", {"city": "b"})), tools=[find])),
        2,
    )
    assert recorded == replayed
    assert "not there" in str(replayed)
    assert replayed[-1][1] == "found"


def test_any_other_error_is_raised(store: Path) -> None:
    entries = Entries()

    def find(city: str) -> str:
        """Find it."""
        entries.enter()
        raise LookupError(city)

    def run() -> str:
        with pytest.raises(LookupError) as caught:
            ran(pydantic_ai.Agent(calling(("find", {"city": "a"})), tools=[find]))
        return repr(caught.value)

    recorded, replayed = twice(store, entries, run)
    assert recorded == replayed


@pytest.mark.parametrize("kind", ["ApprovalRequired", "CallDeferred"])
def test_a_call_that_is_put_off_is_put_off_again(kind: str, store: Path) -> None:
    entries = Entries()

    def find(city: str) -> str:
        """Find it."""
        entries.enter()
        raise getattr(pydantic_ai, kind)({"why": city})

    def run() -> Any:
        output = [str, pydantic_ai.DeferredToolRequests]
        agent = pydantic_ai.Agent(calling(("find", {"city": "a"})), tools=[find], output_type=output)
        found = ran(agent)[0]
        return len(found.calls), len(found.approvals), list(found.metadata.values())

    recorded, replayed = twice(store, entries, run)
    assert recorded == replayed
    assert replayed[2] == [{"why": "a"}]


def test_results_of_its_own_classes(store: Path) -> None:
    entries = Entries()

    def find(city: str) -> Any:
        """Find it."""
        entries.enter()
        return messages.ToolReturn(
            {"city": city},
            content=["look", messages.BinaryContent(b"\x00\xff", media_type="image/png")],
            metadata={"a": 1},
        )

    recorded, replayed = twice(
        store, entries, lambda: ran(pydantic_ai.Agent(calling(("find", {"city": "a"})), tools=[find]))
    )
    assert recorded == replayed
    assert "BinaryContent" in repr(replayed) or "BinaryImage" in repr(replayed)


def test_what_cannot_be_kept_is_told(store: Path) -> None:
    def find(city: str) -> Any:
        """Return what nobody can keep."""
        return object()

    agent = pydantic_ai.Agent(calling(("find", {"city": "a"})), tools=[find])
    with nr.session(store, mode="record"), pytest.raises(nr.ToolError, match="result of the tool find"):
        ran(agent)


def test_toolsets_of_one_name_are_told_apart_by_their_prefixes(store: Path) -> None:
    entries = Entries()

    def made(number: int) -> Any:
        made = toolsets.FunctionToolset()

        @made.tool_plain
        def find(city: str) -> str:
            """Find it."""
            return f"{entries.enter()} of {number}"

        return made.prefixed(f"p{number}")

    calls = [("p1_find", {"city": "a"}), ("p2_find", {"city": "a"})]
    recorded, replayed = twice(
        store, entries, lambda: ran(pydantic_ai.Agent(calling(*calls), toolsets=[made(1), made(2)])), 2
    )
    assert recorded == replayed


def test_each_of_two_agents_tools_of_one_name_gets_its_own_answers_again(store: Path) -> None:
    entries = Entries()

    def run() -> Any:
        first, second = (pydantic_ai.Agent(calling(("find", {"city": "a"}))) for _ in range(2))

        @first.tool_plain(name="find")
        def find_hotel(city: str) -> str:
            return f"hotel {entries.enter()}"

        @second.tool_plain(name="find")
        def find_train(city: str) -> str:
            return f"train {entries.enter()}"

        return [ran(agent) for agent in (first, second)]

    recorded, replayed = twice(store, entries, run, 2)
    assert recorded == replayed
    assert "train" in str(replayed[1])
    assert len(recordings(store)) == 1


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_class_of_toolsets_of_the_programs_own(wrapped: bool, store: Path) -> None:
    entries, logged = Entries(), []

    class Own(toolsets.AbstractToolset):  # type: ignore[misc, name-defined]
        id = None

        async def get_tools(self, ctx: Any) -> Any:
            schema = {"type": "object", "properties": {"city": {"type": "string"}}}
            definition = pydantic_ai.ToolDefinition(name="find", parameters_json_schema=schema)
            validator = TypeAdapter(dict[str, Any]).validator
            return {
                "find": toolsets.abstract.ToolsetTool(
                    toolset=self, tool_def=definition, max_retries=1, args_validator=validator
                )
            }

        async def call_tool(self, name: str, tool_args: Any, ctx: Any, tool: Any) -> Any:
            return {"entered": entries.enter(), **tool_args}

    class Logging(toolsets.WrapperToolset):  # type: ignore[misc, name-defined]
        async def call_tool(self, name: str, *args: Any) -> Any:
            logged.append(name)
            return await super().call_tool(name, *args)

    toolset = Logging(Own()) if wrapped else Own()
    calls = ("find", {"city": "a"})
    recorded, replayed = twice(store, entries, lambda: ran(pydantic_ai.Agent(calling(calls), toolsets=[toolset])))
    assert recorded == replayed
    assert logged == ["find"] * 2 * wrapped, "what is around a tool is as live"


def test_one_that_nbreplay_decorates_is_recorded_once_and_as_it_says(store: Path) -> None:
    entries = Entries()

    @nr.tool(returns=Weather)
    def find(city: str) -> Any:
        """Find it."""
        entries.enter()
        return Weather(city=city, degrees=1)

    recorded, replayed = twice(
        store, entries, lambda: ran(pydantic_ai.Agent(calling(("find", {"city": "a"})), tools=[find]))
    )
    assert recorded == replayed
    assert Weather(city="a", degrees=1) in [content for _, content, _ in replayed[1:]]


def test_one_over_a_tool_of_another_framework_is_recorded_once(store: Path) -> None:
    langchain = installed("langchain_core.tools", "langchain-openai")
    entries = Entries()

    @langchain.tool
    def inner(city: str) -> str:
        """Find it."""
        return entries.enter()

    def find(city: str) -> str:
        """Find it."""
        return str(inner.invoke({"city": city}))

    recorded, replayed = twice(
        store, entries, lambda: ran(pydantic_ai.Agent(calling(("find", {"city": "a"})), tools=[find]))
    )
    assert recorded == replayed


def test_an_agent_loop_runs_without_server_and_tools(store: Path) -> None:
    def agent(url: str, step: Any) -> Any:
        client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0)
        chat = _openai.OpenAIChatModel("test", provider=_provider.OpenAIProvider(openai_client=client))
        return ran(pydantic_ai.Agent(chat, tools=[step]))

    Loop(agent, store).check()


def test_one_that_was_made_before_nbreplay_was_switched_on(store: Path) -> None:
    entries = Entries()

    def do_step(text: str) -> str:
        """Do one step."""
        return f"{entries.enter()}: {text}"

    with model():
        before = pydantic_ai.Agent(calling(("do_step", {"text": "a"})), tools=[do_step])
        ran(before)
        with nr.session(store, mode="record"):
            recorded = ran(before)
    entries.close()
    with nr.session(store, mode="replay"):
        assert ran(before) == recorded
    assert (entries.number, entries.wrong) == (2, 0)
