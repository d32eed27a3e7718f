"""openai: the responses API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.clients import entered, wait
from tests.sdks.dump import headers_of
from tests.sdks.harness import Cell, Stage, check
from tests.sdks.openai_client import HELLO, PARAMETERS, City, sdk

SDK = sdk()
FUNCTION = {"type": "function", "name": "get_weather", "strict": True, "parameters": PARAMETERS}


@SDK.cell
async def response(c: Any, stage: Stage) -> Any:
    return await wait(c.responses.create(model="test", input="hello"))


@SDK.cell
async def response_previous(c: Any, stage: Stage) -> Any:
    first = await wait(c.responses.create(model="test", input="hello"))
    return first, await wait(c.responses.create(model="test", input="more", previous_response_id=first.id))


@SDK.cell
async def response_tools(c: Any, stage: Stage) -> Any:
    first = await wait(c.responses.create(model="test", input="hello", tools=[FUNCTION]))
    result = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "18 degrees"}
    turns = [*HELLO, *first.output, result]
    return first, await wait(c.responses.create(model="test", input=turns, tools=[FUNCTION]))


@SDK.cell(streams=True)
async def response_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.responses.create(model="test", input="hello", stream=True)))


@SDK.cell(streams=True)
async def response_stream_tools(c: Any, stage: Stage) -> Any:
    made = c.responses.create(model="test", input="hello", stream=True, tools=[FUNCTION])
    return await stage.all(await wait(made))


@SDK.cell(streams=True)
async def response_stream_helper(c: Any, stage: Stage) -> Any:
    async with entered(c.responses.stream(model="test", input="hello")) as stream:
        return await stage.all(stream), await wait(stream.get_final_response())


@SDK.cell(streams=True)
async def response_stream_helper_tools(c: Any, stage: Stage) -> Any:
    async with entered(c.responses.stream(model="test", input="hello", tools=[FUNCTION])) as stream:
        return await stage.all(stream), await wait(stream.get_final_response())


@SDK.cell(streams=True)
async def response_stream_helper_parse(c: Any, stage: Stage) -> Any:
    async with entered(c.responses.stream(model="test", input="hello", text_format=City)) as stream:
        return await stage.all(stream), await wait(stream.get_final_response())


@SDK.cell
async def response_parse(c: Any, stage: Stage) -> Any:
    return await wait(c.responses.parse(model="test", input="hello", text_format=City))


@SDK.cell
async def response_raw(c: Any, stage: Stage) -> Any:
    answer = await wait(c.responses.with_raw_response.create(model="test", input="hello"))
    return answer.status_code, headers_of(answer.headers), answer.http_response, await wait(answer.parse())


@pytest.mark.full(quick=6)
@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
