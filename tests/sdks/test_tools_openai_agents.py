"""openai-agents' function tools: their bodies are not entered in a replay, and what is around them is as live."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

import nbreplay as nr
from tests.clients import outcomes, recordings
from tests.sdks.harness import installed
from tests.sdks.tools import Entries, Loop, model

agents = installed("agents", "openai-agents")
context = installed("agents.tool_context", "openai-agents")
agents.set_tracing_disabled(True)


class Weather(BaseModel):
    city: str
    degrees: float


class OddError(Exception):
    pass


def agent(url: str, *tools: Any, **more: Any) -> Any:
    client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0)
    return agents.Agent(
        name="helper", model=agents.OpenAIChatCompletionsModel("test", client), tools=list(tools), **more
    )


def ran(helper: Any, **more: Any) -> list[Any]:
    """What a run comes to, and what its tools returned."""
    result = asyncio.run(agents.Runner.run(helper, "three steps", **more))
    told = [item.output for item in result.new_items if isinstance(item, agents.ToolCallOutputItem)]
    return [result.final_output, *told]


def invoke(tool: Any, call_id: str = "call_1", **arguments: Any) -> Any:
    given = json.dumps(arguments)
    made = context.ToolContext({"own": object()}, tool_name=tool.name, tool_call_id=call_id, tool_arguments=given)
    return asyncio.run(tool.on_invoke_tool(made, given))


def twice(store: Path, entries: Entries, run: Any) -> tuple[Any, Any]:
    """What comes of it when it is recorded, and when it is replayed with other ids and no tools."""
    with nr.session(store, mode="record") as session:
        recorded = run("call_1")
    assert outcomes(session) == ["recorded"]
    entries.close()
    with nr.session(store, mode="replay") as session:
        replayed = run("call_2")
    assert outcomes(session) == ["replayed"]
    assert (entries.number, entries.wrong) == (1, 0)
    return recorded, replayed


def test_it_is_known_by_name_and_arguments_and_not_by_its_context(store: Path) -> None:
    entries = Entries()

    @agents.function_tool
    async def get_weather(wrapper: agents.RunContextWrapper[Any], city: str, days: int = 3) -> Weather:
        """Tell the weather."""
        assert "own" in wrapper.context
        return Weather(city=city, degrees=float(entries.enter()[-1]))

    recorded, replayed = twice(store, entries, lambda number: invoke(get_weather, number, city="Tokyo"))
    assert (recorded, replayed) == (Weather(city="Tokyo", degrees=1),) * 2
    (recording,) = recordings(store)
    assert recording.request == {"tool": "get_weather", "arguments": {"city": "Tokyo"}}
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing, match="tool get_weather"):
        invoke(get_weather, city="Kyoto")


@pytest.mark.parametrize("error", [OddError("odd"), ValueError("bad", 7), agents.UserError("yours")])
@pytest.mark.parametrize("handled", ["default", "own"])
def test_failures_are_handled_as_live(handled: str, error: Exception, store: Path) -> None:
    entries, told = Entries(), []

    def own(wrapper: Any, failure: Exception) -> str:
        told.append(str(failure))
        return f"failed: {failure}"

    def failing(city: str) -> str:
        """Fail."""
        entries.enter()
        raise error

    more = {} if handled == "default" else {"failure_error_function": own}
    tool = agents.function_tool(failing, **more)
    recorded, replayed = twice(store, entries, lambda number: invoke(tool, number, city="Tokyo"))
    assert recorded == replayed
    assert handled == "default" or str(error) in recorded
    assert told == ([] if handled == "default" else [str(error)] * 2), "it is asked in a replay, too"


def test_a_failure_that_nothing_handles_is_raised(store: Path) -> None:
    entries = Entries()

    @agents.function_tool(failure_error_function=None)
    def failing(city: str) -> str:
        """Fail."""
        entries.enter()
        raise LookupError(city)

    def run(number: str) -> str:
        with pytest.raises(LookupError) as caught:
            invoke(failing, number, city="Tokyo")
        return repr(caught.value)

    recorded, replayed = twice(store, entries, run)
    assert recorded == replayed


@pytest.mark.parametrize(
    "result",
    [
        agents.ToolOutputText(text="x"),
        agents.ToolOutputImage(image_url="https://x.example/a.png"),
        [{"type": "text", "text": "x"}],
    ],
)
def test_results_of_its_own_classes(result: Any, store: Path) -> None:
    entries = Entries()

    @agents.function_tool
    def find(city: str):  # type: ignore[no-untyped-def]
        """Find it."""
        entries.enter()
        return result

    recorded, replayed = twice(store, entries, lambda number: invoke(find, number, city="Tokyo"))
    assert recorded is result
    assert type(replayed) is type(result)
    assert replayed == result


def test_what_cannot_be_kept_is_told_to_the_user_and_not_to_the_model(store: Path) -> None:
    @agents.function_tool
    def do_step(text: str) -> Any:
        """Return what nobody can keep."""
        return object()

    with nr.session(store, mode="record"):
        with pytest.raises(nr.ToolError, match=r"result of the tool do_step \(type object\)"):
            invoke(do_step, text="a")
        with model() as url, pytest.raises((nr.ToolError, agents.UserError), match="result of the tool do_step"):
            ran(agent(url, do_step))


def test_one_that_nbreplay_decorates_is_recorded_once_and_as_it_says(store: Path) -> None:
    entries = Entries()

    @nr.tool(returns=Weather)
    def find(city: str) -> Any:
        """Find it."""
        entries.enter()
        return Weather(city=city, degrees=1)

    recorded, replayed = twice(store, entries, lambda number: invoke(agents.function_tool(find), number, city="a"))
    assert recorded == replayed == Weather(city="a", degrees=1)


def test_each_of_two_of_one_name_gets_its_own_answers_again(store: Path) -> None:
    def define(number: int) -> Any:
        @agents.function_tool
        def find(city: str) -> int:
            """Find it."""
            return number

        return find

    @agents.function_tool(name_override="find")
    def other(city: str) -> int:
        """Find it."""
        return 0

    with nr.session(store, mode="record"):
        assert [invoke(define(number), city="a") for number in (1, 2)] == [1, 2]
        assert invoke(other, city="a") == 0
    with nr.session(store, mode="replay"):
        assert [invoke(tool, city="a") for tool in (define(3), other, define(3))] == [1, 0, 2]


@pytest.mark.parametrize("made", ["by function_tool", "bare"])
def test_an_agent_loop_runs_without_server_and_tools(made: str, store: Path) -> None:
    def wrapped(step: Any) -> Any:
        if made == "by function_tool":
            return agents.function_tool(step)

        async def on_invoke(given: context.ToolContext[Any], text: str) -> str:
            assert isinstance(given, context.ToolContext)
            return str(step(json.loads(text)["text"]))

        schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        schema["additionalProperties"] = False
        return agents.FunctionTool("do_step", "Do one step.", schema, on_invoke)

    Loop(lambda url, step: ran(agent(url, wrapped(step))), store).check()


def test_one_that_was_made_before_nbreplay_was_switched_on(store: Path) -> None:
    entries = Entries()

    @agents.function_tool
    def do_step(text: str) -> str:
        """Do one step."""
        return f"{entries.enter()}: {text}"

    with model() as url:
        before = agent(url, do_step)
        ran(before)
        with nr.session(store, mode="record"):
            recorded = ran(before)
    entries.close()
    with nr.session(store, mode="replay"):
        assert ran(before) == recorded
    assert (entries.number, entries.wrong) == (4, 0)


def test_an_agent_that_serves_as_a_tool_is_asked_for_itself(store: Path) -> None:
    entries = Entries()

    @agents.function_tool
    def do_step(text: str) -> str:
        """Do one step."""
        return f"{entries.enter()}: {text}"

    class Passing(BaseModel):
        text: str

    def run(url: str) -> list[Any]:
        inner = agent(url, do_step)
        return ran(agent(url, inner.as_tool("ask_other", "Ask another.", parameters=Passing)))

    with model() as url, nr.session(store, mode="record") as session:
        recorded = run(url)
    assert outcomes(session) == ["recorded"] * 13, "three questions, and in each of two steps three more and two calls"
    entries.close()
    with nr.session(store, mode="replay") as session:
        assert run(url) == recorded
    assert (outcomes(session), entries.wrong) == (["replayed"] * 13, 0)
