"""Tools of agent frameworks: their bodies run while recording, and never in a replay; nothing is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests.clients import outcomes

STOPPED = "the body of a tool is entered in a replay"


class Ran:
    """Counts how often bodies ran; once stopped, they raise."""

    def __init__(self) -> None:
        self.times, self.stopped = 0, False

    def __call__(self) -> int:
        assert not self.stopped, STOPPED
        self.times += 1
        return self.times


def both(store: Path, ran: Ran, ask: Callable[[], Any]) -> tuple[Any, Any]:
    """What is asked comes to while it is recorded, and when it is replayed."""
    with nr.session(store, mode="record") as recorded:
        first = ask()
    assert set(outcomes(recorded)) == {"recorded"}
    assert {item.request.kind for item in recorded.interactions if item.request} == {"tool"}
    ran.stopped = True
    with nr.session(store, mode="replay") as replayed:
        again = ask()
    assert outcomes(replayed) == ["replayed"] * len(outcomes(recorded))
    return first, again


@pytest.fixture
def ran() -> Ran:
    return Ran()


def weather_of(ran: Ran) -> Any:
    """A tool of langchain's."""
    core = pytest.importorskip("langchain_core.tools")

    @core.tool
    def get_weather(city: str) -> str:
        """Tell the weather."""
        if city == "Nowhere":
            raise core.ToolException(f"no weather there ({ran()})")
        return f"answer {ran()}: 18 degrees in {city}"

    return get_weather


CALL = {"type": "tool_call", "name": "get_weather", "args": {"city": "Tokyo"}}


def test_langchain_with_arguments_and_with_a_call(store: Path, ran: Ran) -> None:
    tool = weather_of(ran)
    ids = iter(["call_1", "call_2"])
    plain, again = both(store, ran, lambda: [tool.invoke({"city": "Tokyo"}), tool.invoke({**CALL, "id": next(ids)})])
    assert plain[0] == again[0] == "answer 1: 18 degrees in Tokyo"
    assert plain[1].content == again[1].content == "answer 2: 18 degrees in Tokyo"
    assert type(again[1]) is type(plain[1])
    assert [plain[1].tool_call_id, again[1].tool_call_id] == ["call_1", "call_2"], "the id is the one that is asked"
    assert ran.times == 2


def test_langchain_awaited(store: Path, ran: Ran) -> None:
    tool = weather_of(ran)
    first, again = both(store, ran, lambda: asyncio.run(tool.ainvoke({"city": "Tokyo"})))
    assert first == again == "answer 1: 18 degrees in Tokyo"


def test_langchain_makes_of_an_exception_what_it_makes_of_it_live(store: Path, ran: Ran) -> None:
    tool = weather_of(ran)
    tool.handle_tool_error = True
    first, again = both(store, ran, lambda: tool.invoke({"city": "Nowhere"}))
    assert first == again == "no weather there (1)"


def test_langchain_tells_its_callbacks(store: Path, ran: Ran) -> None:
    callbacks = pytest.importorskip("langchain_core.callbacks")
    tool, told = weather_of(ran), []

    class Heard(callbacks.BaseCallbackHandler):  # type: ignore[misc,name-defined]
        def on_tool_start(self, *_: Any, **__: Any) -> None:
            told.append("start")

        def on_tool_end(self, output: Any, **_: Any) -> None:
            told.append(output)

    first, _ = both(store, ran, lambda: tool.invoke({"city": "Tokyo"}, {"callbacks": [Heard()]}))
    assert told == ["start", first] * 2


def test_langchain_with_a_class_of_the_users_own(store: Path, ran: Ran) -> None:
    core = pytest.importorskip("langchain_core.tools")

    class Table(core.BaseTool):  # type: ignore[misc,name-defined]
        name: str = "get_table"
        description: str = "Tell it in figures."
        response_format: str = "content_and_artifact"

        def _run(self, city: str) -> tuple[str, dict[str, int]]:
            return city, {"number": ran()}

    tool = Table()
    first, again = both(store, ran, lambda: tool.invoke({**CALL, "name": "get_table", "id": "call_1"}))
    assert (again.content, again.artifact) == (first.content, first.artifact) == ("Tokyo", {"number": 1})


def test_pydantic_ai(store: Path, ran: Ran) -> None:
    ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.test import TestModel

    def agent() -> Any:
        made = ai.Agent(TestModel(), deps_type=object)

        def get_weather(ctx: Any, city: str) -> dict[str, int]:
            """Tell the weather."""
            if ran() == 1:
                raise ai.ModelRetry("once more")
            return {"answer": ran.times}

        get_weather.__annotations__["ctx"] = ai.RunContext[object]
        made.tool(get_weather)
        return made

    def ask() -> Any:
        done = agent().run_sync("hello", deps=object())  # another one each time: it is not in the key
        return [type(part).__name__ for message in done.all_messages() for part in message.parts], done.output

    first, again = both(store, ran, ask)
    assert first == again
    assert again[0].count("ToolCallPart") == 2, "the model is asked once more"
    assert ran.times == 2


def test_openai_agents(store: Path, ran: Ran) -> None:
    agents = pytest.importorskip("agents")
    from agents.run_internal import tool_execution
    from agents.tool_context import ToolContext

    @agents.function_tool
    def get_weather(city: str) -> str:
        """Tell the weather."""
        if city == "Nowhere":
            raise ValueError(f"no weather there ({ran()})")
        return f"answer {ran()}: 18 degrees in {city}"

    def ask() -> Any:
        async def whole() -> list[Any]:
            made = []
            for number, city in enumerate(("Tokyo", "Nowhere")):
                given = f'{{"city": "{city}"}}'
                context = ToolContext(
                    None, tool_name="get_weather", tool_call_id=f"call_{number}", tool_arguments=given
                )
                done = await tool_execution._invoke_function_tool_with_metadata(
                    function_tool=get_weather, context=context, arguments=given
                )
                made.append(done.output)
            return made

        return asyncio.run(whole())

    first, again = both(store, ran, ask)
    assert first == again
    assert first[0] == "answer 1: 18 degrees in Tokyo"
    assert "error" in first[1].lower(), "what the library makes of an exception"
    assert ran.times == 2


def test_a_tool_of_mcp_within_the_process(store: Path, ran: Ran) -> None:
    mcp = pytest.importorskip("mcp")
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("tests", log_level="ERROR")

    @server.tool()
    def get_table(city: str) -> dict[str, int]:
        """Tell it in figures."""
        return {"number": ran()}

    def ask() -> Any:
        async def whole() -> Any:
            async with mcp.Client(server) as client:
                return await client.call_tool("get_table", {"city": "Tokyo"})

        return asyncio.run(whole())

    first, again = both(store, ran, ask)
    assert first == again
    assert type(first) is type(again)
    assert again.structured_content == {"number": 1}
    assert ran.times == 1


def test_a_session_that_is_off_is_not_asked(store: Path, ran: Ran) -> None:
    tool = weather_of(ran)
    with nr.session(store, mode="off") as session:
        assert tool.invoke({"city": "Tokyo"}) == "answer 1: 18 degrees in Tokyo"
    assert session.interactions == []
    assert tool.invoke({"city": "Tokyo"}) == "answer 2: 18 degrees in Tokyo"


def test_a_tool_within_a_tool_is_the_outer_ones_business(store: Path, ran: Ran) -> None:
    inner = weather_of(ran)

    @nr.tool
    def plan(city: str) -> str:
        return f"Take a coat: {inner.invoke({'city': city})}"

    with nr.session(store, mode="record") as recorded:
        first = plan("Tokyo")
    assert [item.request.fields["tool"] for item in recorded.interactions if item.request] == ["plan"]
    ran.stopped = True
    with nr.session(store, mode="replay"):
        assert plan("Tokyo") == first
