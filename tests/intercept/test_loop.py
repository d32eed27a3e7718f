"""A loop of an agent: steps are known by what was called and what came of it, not by the ids that a model makes up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai

import nbreplay as nr
from tests.clients import outcomes
from tests.sdks.server import Server

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]


class Loop:
    """Asks, runs the tool, asks with its result, and goes on from there; counts how often the tool's body ran."""

    def __init__(self, url: str) -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="a-key-of-the-tests", max_retries=0)
        self.ran, self.ids = 0, list[str]()

        @nr.tool
        def get_weather(city: str, days: int) -> str:
            self.ran += 1
            return f"18 degrees in {city} for {days} days"

        self._tool: Any = get_weather

    def first(self) -> list[Any]:
        messages: list[Any] = [{"role": "user", "content": "hello"}]
        made = self.client.chat.completions.create(model="test", messages=messages, tools=TOOLS)  # type: ignore[call-overload]
        (call,) = made.choices[0].message.tool_calls
        self.ids.append(call.id)
        result = self._tool(**json.loads(call.function.arguments))
        answer = {"role": "tool", "tool_call_id": call.id, "content": result}
        return [*messages, made.choices[0].message.model_dump(exclude_none=True), answer]

    def whole(self) -> list[str | None]:
        """Go three steps; return what the last two say."""
        messages, said = self.first(), list[str | None]()
        for more in ("and then?", "in short?"):
            made = self.client.chat.completions.create(model="test", messages=messages)
            said.append(made.choices[0].message.content)
            messages += [{"role": "assistant", "content": said[-1]}, {"role": "user", "content": more}]
        return said


def test_the_first_step_recorded_anew_with_other_ids_leaves_the_others_as_they_are(store: Path) -> None:
    with Server() as server:
        loop = Loop(server.url)
        with nr.session(store, mode="record"):
            said = loop.whole()
        with nr.session(store, mode="record"):
            loop.first()
    assert loop.ran == 2
    assert len(set(loop.ids)) == 2, "the model has made up another id"
    with nr.session(store, mode="replay") as replayed, loop.client:
        assert loop.whole() == said
    assert outcomes(replayed) == ["replayed"] * 4
    assert loop.ids[2] == loop.ids[1], "the first step is the one that was recorded last"
    assert loop.ran == 2, "no tool runs in a replay"
