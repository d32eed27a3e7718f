"""openai: chats and every other endpoint that people call from notebooks."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.clients import entered, items, said, wait
from tests.sdks.dump import dump, headers_of
from tests.sdks.harness import Cell, Stage, check
from tests.sdks.openai_client import HELLO, PARAMETERS, City, sdk

SDK = sdk()
TOOL = {"type": "function", "function": {"name": "get_weather", "strict": True, "parameters": PARAMETERS}}


def sound() -> Any:
    made = io.BytesIO(bytes(range(256)) * 40)
    made.name = "speech.wav"
    return made


@SDK.cell
async def chat(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.create(model="test", messages=HELLO, temperature=0.1))


@SDK.cell
async def chat_n2(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.create(model="test", messages=HELLO, n=2))


@SDK.cell
async def chat_logprobs(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.create(model="test", messages=HELLO, logprobs=True))


@SDK.cell
async def chat_tools(c: Any, stage: Stage) -> Any:
    """The whole loop: the model calls, the tool's result is sent, the model answers."""
    first = await wait(c.chat.completions.create(model="test", messages=HELLO, tools=[TOOL]))
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "18 degrees"}
    turns = [*HELLO, message, result]
    return first, await wait(c.chat.completions.create(model="test", messages=turns, tools=[TOOL]))


@SDK.cell(streams=True)
async def chat_stream(c: Any, stage: Stage) -> Any:
    usage = {"include_usage": True}
    made = c.chat.completions.create(model="test", messages=HELLO, stream=True, stream_options=usage)
    return await stage.all(await wait(made))


@SDK.cell(streams=True)
async def chat_stream_n2(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.chat.completions.create(model="test", messages=HELLO, stream=True, n=2)))


@SDK.cell(streams=True)
async def chat_stream_logprobs(c: Any, stage: Stage) -> Any:
    made = c.chat.completions.create(model="test", messages=HELLO, stream=True, logprobs=True)
    return await stage.all(await wait(made))


@SDK.cell(streams=True)
async def chat_stream_tools(c: Any, stage: Stage) -> Any:
    made = c.chat.completions.create(model="test", messages=HELLO, stream=True, tools=[TOOL])
    return await stage.all(await wait(made))


@SDK.cell(streams=True)
async def chat_stream_helper(c: Any, stage: Stage) -> Any:
    async with entered(c.chat.completions.stream(model="test", messages=HELLO)) as stream:
        return await stage.all(stream), await wait(stream.get_final_completion())


@SDK.cell(streams=True)
async def chat_stream_helper_tools(c: Any, stage: Stage) -> Any:
    async with entered(c.chat.completions.stream(model="test", messages=HELLO, tools=[TOOL])) as stream:
        return await stage.all(stream), await wait(stream.get_final_completion())


@SDK.cell(streams=True)
async def chat_stream_helper_parse(c: Any, stage: Stage) -> Any:
    async with entered(c.chat.completions.stream(model="test", messages=HELLO, response_format=City)) as stream:
        return await stage.all(stream), await wait(stream.get_final_completion())


@SDK.cell
async def chat_parse(c: Any, stage: Stage) -> Any:
    # What a schema has no place for, the counter is in: the id.
    return await wait(c.chat.completions.parse(model="test", messages=HELLO, response_format=City))


@SDK.cell
async def chat_parse_tools(c: Any, stage: Stage) -> Any:
    return await wait(c.chat.completions.parse(model="test", messages=HELLO, tools=[TOOL]))


@SDK.cell
async def chat_raw(c: Any, stage: Stage) -> Any:
    answer = await wait(c.chat.completions.with_raw_response.create(model="test", messages=HELLO))
    head = (answer.status_code, headers_of(answer.headers), answer.http_response)
    return *head, answer.request_id, answer.retries_taken, answer.http_request, await wait(answer.parse())


@SDK.cell(streams=True)
async def chat_stream_raw(c: Any, stage: Stage) -> Any:
    answer = await wait(c.chat.completions.with_raw_response.create(model="test", messages=HELLO, stream=True))
    return answer.status_code, headers_of(answer.headers), await stage.all(await wait(answer.parse()))


@SDK.cell
async def chat_streaming_response(c: Any, stage: Stage) -> Any:
    made = c.chat.completions.with_streaming_response.create(model="test", messages=HELLO)
    async with entered(made) as answer:
        pieces = [part async for part in items(answer.iter_bytes())]
        return answer.status_code, headers_of(answer.headers), b"".join(pieces)


@SDK.cell
async def chat_streaming_response_parse(c: Any, stage: Stage) -> Any:
    async with entered(c.chat.completions.with_streaming_response.create(model="test", messages=HELLO)) as answer:
        return await wait(answer.parse())


@SDK.cell(streams=True)
async def chat_stream_streaming_response(c: Any, stage: Stage) -> Any:
    made = c.chat.completions.with_streaming_response.create(model="test", messages=HELLO, stream=True)
    async with entered(made) as answer:
        return await stage.all(answer.iter_lines())


@SDK.cell
async def completion(c: Any, stage: Stage) -> Any:
    return await wait(c.completions.create(model="test", prompt="once upon a time"))


@SDK.cell
async def embeddings(c: Any, stage: Stage) -> Any:
    return await wait(c.embeddings.create(model="test", input=["one", "two"]))


@SDK.cell
async def embeddings_float(c: Any, stage: Stage) -> Any:
    return await wait(c.embeddings.create(model="test", input="one", encoding_format="float"))


@SDK.cell
async def moderation(c: Any, stage: Stage) -> Any:
    return await wait(c.moderations.create(model="test", input="hello"))


@SDK.cell
async def models(c: Any, stage: Stage) -> Any:
    listed = await wait(c.models.list())
    return listed, [item async for item in items(c.models.list())], await wait(c.models.retrieve("test-a"))


@SDK.cell
async def image(c: Any, stage: Stage) -> Any:
    return await wait(c.images.generate(model="test", prompt="a cat"))


@SDK.cell
async def speech(c: Any, stage: Stage) -> Any:
    answer = await wait(c.audio.speech.create(model="test", voice="alloy", input="hello"))
    return type(answer), answer.content


@SDK.cell
async def speech_to_file(c: Any, stage: Stage) -> Any:
    made = c.audio.speech.with_streaming_response.create(model="test", voice="alloy", input="hello")
    async with entered(made) as answer:
        await wait(answer.stream_to_file("speech.mp3"))
    return Path("speech.mp3").read_bytes()


@SDK.cell
async def file_upload(c: Any, stage: Stage) -> Any:
    made = await wait(c.files.create(file=("notes.txt", b"some notes\r\nof mine\r\n"), purpose="assistants"))
    binary = await wait(c.files.content(made.id))
    return made, await wait(c.files.retrieve(made.id)), binary.content


@SDK.cell
async def audio_upload(c: Any, stage: Stage) -> Any:
    first = await wait(c.audio.transcriptions.create(model="test", file=sound()))
    return first, await wait(c.audio.transcriptions.create(model="test", file=sound(), response_format="text"))


@SDK.cell(streams=True)
async def audio_upload_stream(c: Any, stage: Stage) -> Any:
    return await stage.all(await wait(c.audio.transcriptions.create(model="test", file=sound(), stream=True)))


@SDK.cell(only="sync")
async def chat_threads(c: Any, stage: Stage) -> Any:
    ask = c.chat.completions.create
    return stage.in_threads([partial(ask, model="test", messages=said(f"question {n}")) for n in range(12)])


@SDK.cell(only="async")
async def chat_concurrent(c: Any, stage: Stage) -> Any:
    return await concurrent(c, stage, stream=False)


@SDK.cell(only="async")
async def chat_stream_concurrent(c: Any, stage: Stage) -> Any:
    return await concurrent(c, stage, stream=True)


async def concurrent(c: Any, stage: Stage, stream: bool) -> Any:
    """Twelve different questions at once; in the replay they start the other way round."""

    async def one(number: int) -> Any:
        answer = await c.chat.completions.create(model="test", messages=said(f"question {number}"), stream=stream)
        return number, ([dump(item) async for item in answer] if stream else dump(answer))

    return await stage.together(one(number) for number in range(12))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
