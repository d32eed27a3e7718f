"""What an SDK makes of a replay equals what it made of the live answer, to the last field and byte."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import nbreplay as nr
from tests.clients import KEY, Operation, call, dumped, entered, items, outcomes, plain, recordings, said, takes, wait
from tests.provider import Provider

try:
    import anthropic
except ImportError:
    anthropic = None  # type: ignore[assignment]


class City(BaseModel):
    name: str
    country: str
    large: bool


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
STRICT = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
HELLO = said("hello")


async def gathered(stream: Any) -> list[Any]:
    return [item async for item in items(stream)]


async def chat(c: Any) -> Any:
    return await wait(c.chat.completions.create(model="test", messages=HELLO, temperature=0.1))


async def chat_n(c: Any) -> Any:
    return await wait(c.chat.completions.create(model="test", messages=HELLO, n=2))


async def chat_tools(c: Any) -> Any:
    made = c.chat.completions.create(model="test", messages=HELLO, tools=[WEATHER], tool_choice="required")
    return await wait(made)


async def chat_parse(c: Any) -> Any:
    return await wait(c.chat.completions.parse(model="test", messages=HELLO, response_format=City))


async def chat_stream(c: Any) -> Any:
    usage = {"include_usage": True}
    made = c.chat.completions.create(model="test/words=9", messages=HELLO, stream=True, stream_options=usage)
    return await gathered(await wait(made))


async def chat_stream_n(c: Any) -> Any:
    return await gathered(await wait(c.chat.completions.create(model="test", messages=HELLO, stream=True, n=2)))


async def chat_stream_tools(c: Any) -> Any:
    made = c.chat.completions.create(model="test", messages=HELLO, stream=True, tools=[WEATHER], tool_choice="required")
    return await gathered(await wait(made))


async def chat_stream_helper(c: Any) -> Any:
    async with entered(c.chat.completions.stream(model="test/words=5", messages=HELLO)) as stream:
        events = await gathered(stream)
        return events, await wait(stream.get_final_completion())


async def chat_stream_helper_parse(c: Any) -> Any:
    manager = c.chat.completions.stream(model="test", messages=HELLO, response_format=City)
    async with entered(manager) as stream:
        events = await gathered(stream)
        return events, await wait(stream.get_final_completion())


async def chat_stream_helper_tools(c: Any) -> Any:
    manager = c.chat.completions.stream(model="test", messages=HELLO, tools=[STRICT], tool_choice="required")
    async with entered(manager) as stream:
        events = await gathered(stream)
        return events, await wait(stream.get_final_completion())


async def completion(c: Any) -> Any:
    return await wait(c.completions.create(model="test", prompt="once upon a time"))


async def embedding(c: Any) -> Any:
    return await wait(c.embeddings.create(model="test", input=["one", "two"]))


async def embedding_float(c: Any) -> Any:
    return await wait(c.embeddings.create(model="test", input="one", encoding_format="float"))


async def response(c: Any) -> Any:
    return await wait(c.responses.create(model="test", input="hello"))


async def response_stream(c: Any) -> Any:
    return await gathered(await wait(c.responses.create(model="test/words=7", input="hello", stream=True)))


async def response_stream_helper(c: Any) -> Any:
    async with entered(c.responses.stream(model="test", input="hello")) as stream:
        events = await gathered(stream)
        return events, await wait(stream.get_final_response())


async def response_stream_helper_parse(c: Any) -> Any:
    async with entered(c.responses.stream(model="test", input="hello", text_format=City)) as stream:
        events = await gathered(stream)
        return events, await wait(stream.get_final_response())


async def response_parse(c: Any) -> Any:
    return await wait(c.responses.parse(model="test", input="hello", text_format=City))


async def models(c: Any) -> Any:
    listed = await wait(c.models.list())
    return listed.data, await gathered(c.models.list()), await wait(c.models.retrieve("gpt-of-the-tests"))


async def image(c: Any) -> Any:
    return await wait(c.images.generate(model="test", prompt="a cat"))


async def speech(c: Any) -> Any:
    return (await wait(c.audio.speech.create(model="test", voice="alloy", input="hello"))).content


async def speech_streamed(c: Any) -> Any:
    made = c.audio.speech.with_streaming_response.create(model="test", voice="alloy", input="hello")
    async with entered(made) as answer:
        return answer.status_code, b"".join([part async for part in items(answer.iter_bytes())])


async def file(c: Any) -> Any:
    made = await wait(c.files.create(file=("notes.txt", b"some notes\r\nof mine\r\n"), purpose="assistants"))
    return made, await wait(c.files.retrieve(made.id))


async def transcription(c: Any) -> Any:
    sound = io.BytesIO(bytes(range(256)) * 40)
    sound.name = "speech.wav"
    return await wait(c.audio.transcriptions.create(model="test", file=sound))


async def raw(c: Any) -> Any:
    answer = await wait(c.chat.completions.with_raw_response.create(model="test", messages=HELLO))
    kept = ("content-type", "x-request-id", "openai-processing-ms")
    return (
        answer.status_code,
        {name: answer.headers[name] for name in kept},
        answer.http_response.content,
        await wait(answer.parse()),
    )


async def raw_stream(c: Any) -> Any:
    answer = await wait(c.chat.completions.with_raw_response.create(model="test", messages=HELLO, stream=True))
    return answer.status_code, await gathered(await wait(answer.parse()))


async def streamed(c: Any) -> Any:
    made = c.chat.completions.with_streaming_response.create(model="test", messages=HELLO)
    async with entered(made) as answer:
        kind = answer.headers["content-type"]
        return answer.status_code, kind, b"".join([part async for part in items(answer.iter_bytes())])


async def streamed_lines(c: Any) -> Any:
    made = c.chat.completions.with_streaming_response.create(model="test", messages=HELLO, stream=True)
    async with entered(made) as answer:
        return [line async for line in items(answer.iter_lines())]


async def streamed_parse(c: Any) -> Any:
    made = c.chat.completions.with_streaming_response.create(model="test", messages=HELLO)
    async with entered(made) as answer:
        return await wait(answer.parse())


OPERATIONS: list[Operation] = [
    *(chat, chat_n, chat_tools, chat_parse, chat_stream, chat_stream_n, chat_stream_tools, chat_stream_helper),
    *(chat_stream_helper_parse, chat_stream_helper_tools, completion, embedding, embedding_float, response),
    *(response_stream, response_stream_helper, response_stream_helper_parse, response_parse, models, image, speech),
    *(speech_streamed, file, transcription, raw, raw_stream, streamed, streamed_lines, streamed_parse),
]


def recorded_and_replayed(flavour: str, operation: Operation, store: Path, **options: Any) -> tuple[Any, Any]:
    """Return what `operation` gives live and, with the server gone, replayed."""
    with Provider() as provider:
        with nr.session(store, mode="record") as session:
            live = call(flavour, provider.url, operation, **options)
        assert set(outcomes(session)) == {"recorded"}
        assert len(outcomes(session)) == provider.hits
    with nr.session(store, mode="replay") as again:
        replayed = call(flavour, provider.url, operation, **options)
    assert outcomes(again) == ["replayed"] * len(outcomes(session))
    return live, replayed


def _name(operation: Any) -> str:
    return str(operation.__name__)


@pytest.mark.parametrize("operation", OPERATIONS, ids=_name)
def test_openai(operation: Operation, flavour: str, store: Path) -> None:
    live, replayed = recorded_and_replayed(flavour, operation, store)
    assert live, "the operation gave something to compare"
    assert dumped(replayed) == dumped(live)
    assert all(take.complete for recording in recordings(store) for take in recording.takes)


@pytest.mark.parametrize("operation", [chat, chat_stream, response_stream, transcription], ids=_name)
def test_what_a_sync_client_recorded_an_async_one_replays(operation: Operation, store: Path) -> None:
    with Provider() as provider, nr.session(store, mode="record"):
        live = call("sync", provider.url, operation)
    with nr.session(store, mode="replay"):
        assert dumped(call("async", provider.url, operation)) == dumped(live)


def test_headers_that_are_not_kept_are_gone(flavour: str, store: Path) -> None:
    async def headers(c: Any) -> Any:
        answer = await wait(c.chat.completions.with_raw_response.create(model="test", messages=HELLO))
        return dict(answer.headers)

    live, replayed = recorded_and_replayed(flavour, headers, store)
    assert {"date", "server"} <= live.keys()
    assert live.keys() - replayed.keys() <= {"connection", "date", "server", "transfer-encoding"}
    assert replayed.pop("set-cookie") == "secret-cookie=[secret:1]"
    assert replayed.items() <= live.items()


def test_a_form_is_the_same_with_another_boundary(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record") as session:
        for _ in range(2):
            call(flavour, provider.url, transcription)
    bodies = [body for _, _, body in provider.requests]
    assert bodies[0] != bodies[1], "each form has a boundary of its own"
    assert len({item.key for item in session.interactions}) == 1
    assert len(takes(store)) == 2


def test_a_form_with_other_content_is_another(flavour: str, provider: Provider, store: Path) -> None:
    async def other(c: Any) -> Any:
        sound = io.BytesIO(bytes(range(256)) * 40 + b"!")
        sound.name = "speech.wav"
        return await wait(c.audio.transcriptions.create(model="test", file=sound))

    with nr.session(store, mode="record"):
        call(flavour, provider.url, transcription)
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing):
        call(flavour, provider.url, other)


ASKED = {"messages": HELLO}
GETS = ["/echo/some/where?b=2&a=1&a=", "/text", "/binary", "/pretty", "/gzip", "/gzip-sse", "/nothing-here", "/models"]
STYLES = ["unicode", "spaced", "ascii", "crlf", "unicode+spaced", "unicode+ascii", "crlf+spaced", "crlf+unicode", "n"]
POSTS = [
    *(("/chat/completions", {"model": f"test/{style}", **ASKED}) for style in STYLES),
    *(("/chat/completions", {"model": f"test/{style}", "stream": True, **ASKED}) for style in STYLES),
    *(("/responses", {"model": f"test/{style}", "stream": True, "input": "hello"}) for style in STYLES),
    *(("/messages", {"model": f"test/{style}", "stream": True, **ASKED}) for style in STYLES),
    *(("/api/chat", {"model": f"test/{style}", **ASKED}) for style in STYLES),
    ("/api/chat", {"model": "test/whole", "stream": False, **ASKED}),
    ("/embeddings", {"model": "test/spaced", "input": ["one", "two"]}),
    ("/echo", {"any": "thing"}),
    ("/audio/speech", {"model": "test", "input": "hello"}),
    ("/nothing-here", {"any": "thing"}),
]


@pytest.mark.parametrize("path", GETS)
def test_bytes_of_a_get(path: str, flavour: str, store: Path) -> None:
    async def operation(client: Any) -> Any:
        answer = await wait(client.get(path))
        return answer.status_code, answer.headers["content-type"], answer.content

    live, replayed = recorded_and_replayed(flavour, operation, store, made=plain)
    assert live[2]
    assert replayed == live


@pytest.mark.parametrize(("path", "body"), POSTS, ids=lambda value: value if isinstance(value, str) else None)
def test_bytes_of_a_post(path: str, body: dict[str, Any], flavour: str, store: Path) -> None:
    async def operation(client: Any) -> Any:
        answer = await wait(client.post(path, json=body))
        return answer.status_code, answer.headers["content-type"], answer.content

    live, replayed = recorded_and_replayed(flavour, operation, store, made=plain)
    assert live[2]
    assert replayed == live


@pytest.mark.parametrize("path", ["/gzip", "/gzip-sse", "/binary"])
def test_bytes_of_a_get_that_is_streamed(path: str, flavour: str, store: Path) -> None:
    async def operation(client: Any) -> Any:
        async with entered(client.stream("GET", path)) as answer:
            pieces = answer.iter_bytes() if flavour == "sync" else answer.aiter_bytes()
            return b"".join([piece async for piece in items(pieces)])

    live, replayed = recorded_and_replayed(flavour, operation, store, made=plain)
    assert live
    assert replayed == live


@pytest.mark.parametrize("kind", ["text", "binary", "form", "empty"])
def test_requests_of_every_kind_of_body(kind: str, flavour: str, store: Path) -> None:
    body = {
        "text": {"content": "plain text"},
        "binary": {"content": bytes(range(256))},
        "form": {"data": {"a": "1", "b": ["2", "3"]}},
        "empty": {},
    }[kind]

    async def operation(client: Any) -> Any:
        return (await wait(client.post("/echo", **body))).content

    live, replayed = recorded_and_replayed(flavour, operation, store, made=plain)
    assert replayed == live


def test_lines_of_ollama(flavour: str, store: Path) -> None:
    """Its streams are one JSON object a line."""
    body = {"model": "test/words=6", **ASKED}

    async def operation(client: Any) -> Any:
        async with entered(client.stream("POST", "/api/chat", json=body)) as answer:
            lines = answer.iter_lines() if flavour == "sync" else answer.aiter_lines()
            return [json.loads(line) async for line in items(lines)]

    live, replayed = recorded_and_replayed(flavour, operation, store, made=plain)
    assert live[-1]["done"] is True
    assert replayed == live
    assert len(takes(store)[0].body.chunks) == len(live)  # type: ignore[union-attr]


async def message(c: Any) -> Any:
    return await wait(c.messages.create(model="test", max_tokens=9, messages=HELLO))


async def message_stream(c: Any) -> Any:
    return await gathered(await wait(c.messages.create(model="test", max_tokens=9, messages=HELLO, stream=True)))


async def message_stream_helper(c: Any) -> Any:
    async with entered(c.messages.stream(model="test", max_tokens=9, messages=HELLO)) as stream:
        events = await gathered(stream)
        return events, await wait(stream.get_final_message())


async def message_text_stream(c: Any) -> Any:
    async with entered(c.messages.stream(model="test", max_tokens=9, messages=HELLO)) as stream:
        return await gathered(stream.text_stream)


async def message_raw(c: Any) -> Any:
    answer = await wait(c.messages.with_raw_response.create(model="test", max_tokens=9, messages=HELLO))
    return answer.status_code, answer.http_response.content, await wait(answer.parse())


ANTHROPIC: list[Operation] = [message, message_stream, message_stream_helper, message_text_stream, message_raw]


@pytest.mark.skipif(anthropic is None, reason="anthropic is not installed in this environment")
@pytest.mark.parametrize("operation", ANTHROPIC, ids=_name)
def test_anthropic(operation: Operation, flavour: str, store: Path) -> None:
    def made(flavour: str, url: str) -> Any:
        kind, inner = (
            (anthropic.Anthropic, anthropic.DefaultHttpxClient)
            if flavour == "sync"
            else (anthropic.AsyncAnthropic, anthropic.DefaultAsyncHttpxClient)
        )
        return kind(base_url=url.removesuffix("/v1"), api_key=KEY, max_retries=0, http_client=inner(verify=False))

    live, replayed = recorded_and_replayed(flavour, operation, store, made=made)
    assert live
    assert dumped(replayed) == dumped(live)
    assert takes(store)[0].complete
