"""langchain's tools: their bodies are not entered in a replay, and what is around them is as live."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

import nbreplay as nr
from tests.clients import outcomes, recordings
from tests.sdks.harness import installed
from tests.sdks.tools import Entries, Loop

langchain = installed("langchain_openai", "langchain-openai")
tools = installed("langchain_core.tools", "langchain-openai")
callbacks = installed("langchain_core.callbacks", "langchain-openai")
messages = installed("langchain_core.messages", "langchain-openai")

FLAVOURS = ("sync", "async")


class Weather(BaseModel):
    city: str
    degrees: float


class Seen(callbacks.BaseCallbackHandler):  # type: ignore[misc, name-defined]
    """Notes what langchain tells about tools."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def on_tool_start(self, serialized: Any, text: str, **more: Any) -> None:
        self.told.append(("start", (serialized["name"], text, more.get("inputs"))))

    def on_tool_end(self, output: Any, **more: Any) -> None:
        self.told.append(("end", output))

    def on_tool_error(self, error: BaseException, **more: Any) -> None:
        self.told.append(("error", repr(error)))


def ask(flavour: str, made: Any, given: Any, **more: Any) -> Any:
    return made.invoke(given, **more) if flavour == "sync" else asyncio.run(made.ainvoke(given, **more))


def called(name: str, call_id: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "name": name, "args": arguments, "id": call_id}


def weather(entries: Entries) -> Any:
    @tools.tool
    def get_weather(city: str, days: int = 3) -> str:
        """Tell the weather."""
        return f"{entries.enter()}: 18 degrees in {city} for {days} days"

    return get_weather


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_plain_arguments_and_a_call_of_a_model_are_one_request(flavour: str, store: Path) -> None:
    entries = Entries()
    with nr.session(store, mode="record") as session:
        plain = ask(flavour, weather(entries), {"city": "Tokyo"})
    assert outcomes(session) == ["recorded"]
    (recording,) = recordings(store)
    assert recording.request == {"tool": "get_weather", "arguments": {"city": "Tokyo", "days": 3}}
    entries.close()
    for other in FLAVOURS:
        with nr.session(store, mode="replay") as session:
            assert ask(other, weather(entries), {"city": "Tokyo"}) == plain
        with nr.session(store, mode="replay") as session:
            message = ask(other, weather(entries), called("get_weather", "call_new", city="Tokyo", days=3))
        assert outcomes(session) == ["replayed"]
        assert message == messages.ToolMessage(plain, tool_call_id="call_new", name="get_weather")
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing, match="tool get_weather"):
        ask(flavour, weather(entries), {"city": "Kyoto"})


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_callbacks_and_validation_are_as_live(flavour: str, store: Path) -> None:
    entries, made = Entries(), []
    for mode in ("record", "replay"):
        seen = Seen()
        with nr.session(store, mode=mode) as session:
            tool = weather(entries)
            ask(flavour, tool, {"city": "Tokyo"}, config={"callbacks": [seen]})
            with pytest.raises(Exception, match="validation error"):
                ask(flavour, tool, {"city": []}, config={"callbacks": [seen]})
        assert len(outcomes(session)) == 1, "what is wrongly called is not run"
        made.append(seen.told)
        entries.close()
    assert made[0] == made[1]
    assert [what for what, _ in made[0]] == ["start", "end", "start", "error"]


def subclass(entries: Entries, **more: Any) -> Any:
    class Lookup(tools.BaseTool):  # type: ignore[misc, name-defined]
        name: str = "lookup"
        description: str = "Look up."

        def _run(self, query: str, run_manager: Any = None) -> Any:
            return f"{entries.enter()}: {query} {run_manager is not None}"

        async def _arun(self, query: str, run_manager: Any = None) -> Any:
            return self._run(query, run_manager)

    return Lookup(**more)


def single(entries: Entries) -> Any:
    return tools.Tool("lookup", lambda query: f"{entries.enter()}: {query}", "Look up.")


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("make", [subclass, single])
def test_tools_of_other_making(make: Any, flavour: str, store: Path) -> None:
    entries = Entries()
    with nr.session(store, mode="record"):
        found = ask(flavour, make(entries), "text")
    (recording,) = recordings(store)
    assert recording.request == {"tool": "lookup", "arguments": {"query": "text"}}
    entries.close()
    for other in FLAVOURS:
        with nr.session(store, mode="replay"):
            assert ask(other, make(entries), "text") == found
        with nr.session(store, mode="replay"):
            assert ask(other, make(entries), called("lookup", "call_9", query="text")).content == found


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("handle", [False, True, "handled", lambda error: f"handled {error}"])
def test_errors_are_handled_as_live(handle: Any, flavour: str, store: Path) -> None:
    entries = Entries()

    class OddError(tools.ToolException):  # type: ignore[misc, name-defined]
        """One of the program's own."""

    def get_weather(city: str) -> str:
        """Tell the weather."""
        entries.enter()
        raise OddError(f"no weather in {city}")

    found = []
    for mode in ("record", "replay"):
        tool = tools.StructuredTool.from_function(get_weather, handle_tool_error=handle)
        with nr.session(store, mode=mode) as session:
            if handle:
                found.append(ask(flavour, tool, called("get_weather", "call_1", city="Tokyo")))
            else:
                with pytest.raises(tools.ToolException, match="no weather in Tokyo"):
                    ask(flavour, tool, called("get_weather", "call_1", city="Tokyo"))
        assert len(outcomes(session)) == 1
        entries.close()
    if handle:
        assert found[0] == found[1]
        assert found[1].status == "error"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_error_that_others_handle_says_the_same(flavour: str, store: Path) -> None:
    """langgraph's nodes tell a model the `repr` of whatever a tool raises."""
    entries = Entries()

    class OddError(Exception):
        def __init__(self, place: str, code: int) -> None:
            super().__init__(f"no weather in {place}")
            self.code = code

        def __repr__(self) -> str:
            return f"<odd {self.code}>"

    def get_weather(city: str) -> str:
        """Tell the weather."""
        entries.enter()
        raise OddError(city, 7)

    said = []
    for mode in ("record", "replay"):
        with nr.session(store, mode=mode), pytest.raises(Exception, match="no weather in Tokyo") as caught:
            ask(flavour, tools.tool(get_weather), called("get_weather", "call_1", city="Tokyo"))
        said.append((str(caught.value), repr(caught.value)))
        entries.close()
    assert said == [("no weather in Tokyo", "<odd 7>")] * 2


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_content_and_artifact(flavour: str, store: Path) -> None:
    entries = Entries()

    @tools.tool(response_format="content_and_artifact")
    def plain(city: str) -> Any:
        """Tell the weather."""
        return f"{entries.enter()}", {"degrees": [18.5]}

    @tools.tool(response_format="content_and_artifact")
    def typed(city: str) -> tuple[str, list[Weather]]:
        """Tell the weather."""
        return f"{entries.enter()}", [Weather(city=city, degrees=0.1 + 0.2)]

    for tool in (plain, typed):
        with nr.session(store, mode="record"):
            recorded = ask(flavour, tool, called(tool.name, "call_1", city="Tokyo"))
        entries.close()
        with nr.session(store, mode="replay"):
            replayed = ask(flavour, tool, called(tool.name, "call_2", city="Tokyo"))
        assert replayed == recorded.model_copy(update={"tool_call_id": "call_2"})
        assert type(replayed.artifact) is type(recorded.artifact)
        entries.open()


def test_a_message_of_its_own_and_injected_arguments(store: Path) -> None:
    entries = Entries()

    @tools.tool
    def get_weather(
        city: str, call_id: Annotated[str, tools.InjectedToolCallId], user: Annotated[Any, tools.InjectedToolArg] = None
    ) -> Any:
        """Tell the weather."""
        return messages.ToolMessage(f"{entries.enter()} in {city}", tool_call_id=call_id, artifact={"a": 1})

    with nr.session(store, mode="record"):
        recorded = ask("sync", get_weather, called("get_weather", "call_1", city="Tokyo", user=object()))
    (recording,) = recordings(store)
    assert recording.request["arguments"] == {"city": "Tokyo"}
    entries.close()
    with nr.session(store, mode="replay"):
        replayed = ask("async", get_weather, called("get_weather", "call_2", city="Tokyo", user=object()))
    assert replayed == recorded.model_copy(update={"tool_call_id": "call_2"})


def test_what_a_result_is_comes_from_the_program(store: Path) -> None:
    @tools.tool
    def find(city: str) -> Weather:
        """Find it."""
        return Weather(city=city, degrees=1)

    @tools.tool
    def lying(city: str) -> str:
        """Say that it is a text."""
        return {"city": [city]}  # type: ignore[return-value]

    @tools.tool
    def odd(city: str) -> Any:
        """Return what nobody can keep."""
        return object()

    with nr.session(store, mode="record"):
        assert find.invoke({"city": "a"}) == Weather(city="a", degrees=1)
        assert lying.invoke({"city": "a"}) == {"city": ["a"]}
        with pytest.raises(nr.ToolError, match=r"result of the tool odd .*@nbreplay.tool\(returns=\.\.\.\)"):
            odd.invoke({"city": "a"})
    with nr.session(store, mode="replay"):
        assert find.invoke({"city": "a"}) == Weather(city="a", degrees=1)
        assert lying.invoke({"city": "a"}) == {"city": ["a"]}
        with pytest.raises(nr.RecordingMissing):
            odd.invoke({"city": "a"})


def test_one_that_nbreplay_decorates_is_recorded_once_and_as_it_says(store: Path) -> None:
    entries = Entries()

    @nr.tool(returns=Weather, ignore=["connection"])
    def find(city: str, connection: str = "") -> Any:
        """Find it."""
        entries.enter()
        return Weather(city=city, degrees=1)

    made = tools.tool(find)
    with nr.session(store, mode="record") as session:
        made.invoke({"city": "a", "connection": "one"})
    assert outcomes(session) == ["recorded"]
    entries.close()
    with nr.session(store, mode="replay") as session:
        assert made.invoke({"city": "a", "connection": "two"}) == Weather(city="a", degrees=1)
    with nr.session(store, mode="replay") as session:
        assert find("a") == Weather(city="a", degrees=1), "it is the same tool"


def test_each_of_two_of_one_name_gets_its_own_answers_again(store: Path) -> None:
    def first(city: str) -> str:
        return f"first {city}"

    def second(city: str) -> str:
        return f"second {city}"

    def call_each(*functions: Any) -> list[str]:
        both = [tools.StructuredTool.from_function(each, name="find", description="x") for each in functions]
        return [tool.invoke({"city": "a"}) for tool in both]

    with nr.session(store, mode="record"):
        assert call_each(first, second) == ["first a", "second a"]
    with nr.session(store, mode="replay"):
        assert call_each(second, first) == ["second a", "first a"]


def test_tools_within_tools_and_outside_any_session(store: Path) -> None:
    entries = Entries()
    inner = weather(entries)

    @tools.tool
    def outer(city: str) -> str:
        """Ask the other."""
        return str(inner.invoke({"city": city}))

    with nr.session(store, mode="record") as session:
        said = outer.invoke({"city": "a"})
    assert outcomes(session) == ["recorded"]
    entries.close()
    with nr.session(store, mode="replay") as session:
        assert outer.invoke({"city": "a"}) == said
    entries.open()
    with nr.session(store, mode="off") as session:
        outer.invoke({"city": "a"})
    assert outcomes(session) == [], "nothing is asked of a session that is off"
    outer.invoke({"city": "a"})
    assert entries.number == 3


def test_one_within_a_function_that_is_recorded_is_that_ones_business(store: Path) -> None:
    entries = Entries()
    inner = weather(entries)

    @nr.tool
    def plan(city: str) -> str:
        return f"Take a coat: {inner.invoke({'city': city})}"

    with nr.session(store, mode="record") as session:
        said = plan("Tokyo")
    assert [item.request.fields["tool"] for item in session.interactions if item.request] == ["plan"]
    entries.close()
    with nr.session(store, mode="replay"):
        assert plan("Tokyo") == said
    assert entries.wrong == 0


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_agent_loop_runs_without_server_and_tools(flavour: str, store: Path) -> None:
    def agent(url: str, step: Any) -> list[Any]:
        model = langchain.ChatOpenAI(model="test", base_url=url, api_key="x", max_retries=0)
        bound = model.bind_tools([tool := tools.tool(step)])
        talk: list[Any] = [("user", "three steps")]
        while True:
            answer = ask(flavour, bound, talk)
            talk.append(answer)
            if not answer.tool_calls:
                return [answer.content, *[item.content for item in talk if getattr(item, "type", "") == "tool"]]
            talk += [ask(flavour, tool, one) for one in answer.tool_calls]

    Loop(agent, store).check()


@pytest.fixture(autouse=True)
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is made, langchain's model tries out a socket's options, on one that goes nowhere: not here."""
    monkeypatch.setenv("LANGCHAIN_OPENAI_TCP_KEEPALIVE", "0")
