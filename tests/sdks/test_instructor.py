"""instructor: answers as pydantic models, whole, in part and many, out of tool calls or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field, field_validator

from tests.clients import said, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised
from tests.sdks.openai_client import City

instructor = installed("instructor", extra="sdks-openai2")
HELLO = said("hello")


class Count(BaseModel):
    """What the tests' server fills in with the number of its answer."""

    name: str
    number: int


class LaterCount(Count):
    """What only each third answer fits."""

    number: int = Field(description="the third")

    @field_validator("number")
    @classmethod
    def _later(cls, number: int) -> int:
        if number % 3:
            raise ValueError("it is not the third")
        return number


class NeverCount(Count):
    """What no answer fits."""

    number: int = Field(lt=0)


def client(kind: type) -> Any:
    return lambda stage: kind(base_url=f"{stage.url}/v1", api_key="a-key-of-the-tests", max_retries=0)


SDK = Sdk("instructor", "instructor", {"sync": client(openai.OpenAI), "async": client(openai.AsyncOpenAI)})


def asking(c: Any, mode: str = "TOOLS") -> Any:
    return instructor.from_openai(c, mode=instructor.Mode[mode])


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    return await wait(asking(c).create_with_completion(model="test", messages=HELLO, response_model=Count))


@SDK.cell
async def chat_json(c: Any, stage: Stage) -> Any:
    made = asking(c, "JSON").create_with_completion(model="test", messages=HELLO, response_model=Count)
    return await wait(made)


@SDK.cell
async def chat_schema(c: Any, stage: Stage) -> Any:
    made = asking(c, "JSON_SCHEMA").create_with_completion(model="test", messages=HELLO, response_model=City)
    return await wait(made)


@SDK.cell
async def response_tools(c: Any, stage: Stage) -> Any:
    made = asking(c, "RESPONSES_TOOLS").create_with_completion(model="test", messages=HELLO, response_model=City)
    return await wait(made)


@SDK.cell
async def chat_asked_again_tools(c: Any, stage: Stage) -> Any:
    made = asking(c).create_with_completion(model="test", messages=HELLO, response_model=LaterCount, max_retries=3)
    return await wait(made)


@SDK.cell
async def chat_given_up_tools(c: Any, stage: Stage) -> Any:
    asked = {"model": "test", "messages": HELLO, "response_model": NeverCount, "max_retries": 1}
    kind = installed("instructor.core", extra="sdks-openai2").InstructorRetryException
    error = await raised(kind, lambda: asking(c).create(**asked))
    return error.n_attempts, error.last_completion, error.total_usage, error.messages


@SDK.cell(only="sync")  # its sync side shows nothing before the stream has ended
@SDK.cell(streams=True, only="async")
async def chat_stream_partial_tools(c: Any, stage: Stage) -> Any:
    return await stage.all(asking(c).create_partial(model="test", messages=HELLO, response_model=Count))


@SDK.cell(only="sync")  # its sync side shows nothing before the stream has ended
@SDK.cell(streams=True, only="async")
async def chat_stream_partial_json(c: Any, stage: Stage) -> Any:
    return await stage.all(asking(c, "JSON").create_partial(model="test", messages=HELLO, response_model=Count))


@SDK.cell(only="sync")  # its sync side shows nothing before the stream has ended
@SDK.cell(streams=True, only="async")
async def chat_stream_many_tools(c: Any, stage: Stage) -> Any:
    return await stage.all(asking(c).create_iterable(model="test", messages=HELLO, response_model=Count))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
