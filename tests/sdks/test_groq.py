"""groq: OpenAI's chat behind a path of its own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tests.clients import said, wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

groq = installed("groq")
HELLO = said("hello")
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


def client(kind: type) -> Any:
    return lambda stage: kind(base_url=stage.url, api_key="a-key-of-the-tests", max_retries=0)


SDK = Sdk("groq", "groq", {"sync": client(groq.Groq), "async": client(groq.AsyncGroq)})


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.create(model="test", messages=HELLO))


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.create(model="test", messages=HELLO, tools=[TOOL]))


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.chat.completions.create(model="test", messages=HELLO, stream=True)))


@SDK.cell(streams=True)
async def chat_stream_tools(c: Any, stage: Stage) -> Any:
    made = c.chat.completions.create(model="test", messages=HELLO, stream=True, tools=[TOOL])
    return await stage.all(await wait(made))


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    return await wait(c.embeddings.create(model="test", input=["one", "two"]))


@SDK.cell
async def models(c: Any, stage: Stage) -> Any:
    return await wait(c.models.list()), await wait(c.models.retrieve("test-a"))


@SDK.cell
async def audio_upload(c: Any, stage: Stage) -> Any:
    sound = io.BytesIO(bytes(range(256)) * 8)
    return await wait(c.audio.transcriptions.create(model="test", file=("speech.wav", sound)))


@SDK.cell
async def speech(c: Any, stage: Stage) -> Any:
    answer = await wait(c.audio.speech.create(model="test", voice="a", input="hello"))
    return type(answer), await wait(answer.read())


@SDK.cell
async def error_400(c: Any, stage: Stage) -> Any:
    asked = {"model": "test/status=400", "messages": HELLO}
    return await raised(groq.BadRequestError, lambda: c.chat.completions.create(**asked))


@SDK.cell
async def retried(c: Any, stage: Stage) -> Any:
    patient = c.with_options(max_retries=2)
    return await wait(patient.chat.completions.create(model="test/status=429,200", messages=HELLO))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
