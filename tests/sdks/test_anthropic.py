"""anthropic: messages, tools, its stream helpers, token counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.clients import entered, items, said, wait
from tests.sdks.dump import dump, headers_of
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

anthropic = installed("anthropic")
TOOL = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
ASKED: dict[str, Any] = {"model": "test", "max_tokens": 99, "messages": said("hello")}


def client(kind: type, **options: Any) -> Any:
    return lambda stage: kind(**{"base_url": stage.url, "api_key": "a-key", "max_retries": 0, **options})


SDK = Sdk("anthropic", "anthropic", {"sync": client(anthropic.Anthropic), "async": client(anthropic.AsyncAnthropic)})


@SDK.cell
async def message(c: Any, stage: Stage) -> Any:
    return await wait(c.messages.create(**ASKED, system="be brief"))


@SDK.cell
async def message_tools(c: Any, stage: Stage) -> Any:
    """The whole loop: the model calls, the tool's result is sent, the model answers."""
    first = await wait(c.messages.create(**ASKED, tools=[TOOL]))
    result = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "18 degrees"}
    turns = [*said("hello"), {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    return first, await wait(c.messages.create(**{**ASKED, "messages": turns}, tools=[TOOL]))


@SDK.cell(streams=True)
async def message_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.messages.create(**ASKED, stream=True)))


@SDK.cell(streams=True)
async def message_stream_tools(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.messages.create(**ASKED, stream=True, tools=[TOOL])))


@SDK.cell(streams=True)
async def message_stream_helper(c: Any, stage: Stage) -> Any:
    async with entered(c.messages.stream(**ASKED)) as stream:
        return await stage.all(stream), await wait(stream.get_final_message()), await wait(stream.get_final_text())


@SDK.cell(streams=True)
async def message_stream_helper_text(c: Any, stage: Stage) -> Any:
    async with entered(c.messages.stream(**ASKED)) as stream:
        return await stage.all(stream.text_stream), stream.request_id, stream.current_message_snapshot


@SDK.cell(streams=True)
async def message_stream_helper_tools(c: Any, stage: Stage) -> Any:
    async with entered(c.messages.stream(**ASKED, tools=[TOOL])) as stream:
        return await stage.all(stream), await wait(stream.get_final_message())


@SDK.cell
async def message_raw(c: Any, stage: Stage) -> Any:
    answer = await wait(c.messages.with_raw_response.create(**ASKED))
    head = (answer.status_code, headers_of(answer.headers), answer.http_response, answer.request_id)
    return *head, await wait(answer.parse())


@SDK.cell
async def message_streaming_response(c: Any, stage: Stage) -> Any:
    async with entered(c.messages.with_streaming_response.create(**ASKED)) as answer:
        pieces = [part async for part in items(answer.iter_bytes())]
        return answer.status_code, headers_of(answer.headers), b"".join(pieces)


@SDK.cell
async def count_tokens(c: Any, stage: Stage) -> Any:
    return await wait(c.messages.count_tokens(model="test", messages=said("hello")))


@SDK.cell(only="async")
async def message_stream_concurrent(c: Any, stage: Stage) -> Any:
    async def one(number: int) -> Any:
        asked = {**ASKED, "messages": said(f"question {number}")}
        return number, [dump(event) async for event in await c.messages.create(**asked, stream=True)]

    return await stage.together(one(number) for number in range(12))


def failing(status: int, kind: Any) -> None:
    @SDK.cell(kind=f"error-{status}")
    async def error(c: Any, stage: Stage) -> Any:
        asked = {**ASKED, "model": f"test/status={status}"}
        first = await raised(kind, lambda: c.messages.create(**asked))
        return first, await raised(kind, lambda: c.messages.create(**asked, stream=True))


failing(400, anthropic.BadRequestError)
failing(401, anthropic.AuthenticationError)
failing(404, anthropic.NotFoundError)
failing(429, anthropic.RateLimitError)
failing(500, anthropic.InternalServerError)


@SDK.cell(answered=False)
async def timeout(c: Any, stage: Stage) -> Any:
    hasty = c.with_options(timeout=0.3)
    return await raised(
        anthropic.APITimeoutError, lambda: hasty.messages.create(**{**ASKED, "model": "test/status=500+delay=2000"})
    )


@SDK.cell(answered=False)
async def refused(c: Any, stage: Stage) -> Any:
    nowhere = c.with_options(base_url="http://127.0.0.1:1")
    return await raised(anthropic.APIConnectionError, lambda: nowhere.messages.create(**ASKED))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
