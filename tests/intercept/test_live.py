"""While it is recorded, the caller has each piece of a stream when the server sends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests.clients import call, entered, items, outcomes, plain, said, takes, wait
from tests.provider import Provider

MODEL = "test/hold+words=6"


async def chat(client: Any) -> tuple[Any, Any]:
    stream = await wait(client.chat.completions.create(model=MODEL, messages=said("hi"), stream=True))
    return stream, lambda chunk: chunk.choices[0].delta.content


async def response(client: Any) -> tuple[Any, Any]:
    stream = await wait(client.responses.create(model=MODEL, input="hi", stream=True))
    return stream, lambda event: event.delta if event.type == "response.output_text.delta" else None


@pytest.mark.parametrize("kind", [chat, response])
def test_the_first_chunk_is_there_before_the_last_is_sent(
    kind: Any, flavour: str, provider: Provider, store: Path
) -> None:
    """The server holds all but the first piece until it is told that the first has arrived."""
    seen: list[int] = []

    async def operation(client: Any) -> str:
        stream, text_of = await kind(client)
        text = ""
        async for item in items(stream):
            piece = text_of(item) or ""
            if piece and not text:
                provider.ack()
                seen.append(provider.acks)
            text += piece
        return text

    with nr.session(store, mode="record") as session:
        text = call(flavour, provider.url, operation)
    assert seen == [1]
    assert text == "answer 1 to: hi word4 word5", "the server did not give up waiting"
    assert outcomes(session) == ["recorded"]
    assert takes(store)[0].complete


def test_bytes_of_a_plain_client_arrive_as_they_are_sent(flavour: str, provider: Provider, store: Path) -> None:
    body = {"model": MODEL, "messages": said("hi"), "stream": True}

    async def operation(client: Any) -> bytes:
        data = b""
        async with entered(client.stream("POST", "/chat/completions", json=body)) as answer:
            async for piece in items(answer.iter_bytes() if flavour == "sync" else answer.aiter_bytes()):
                data += piece
                if not provider.acks and b"answer" in data:
                    provider.ack()
        return data

    with nr.session(store, mode="record"):
        data = call(flavour, provider.url, operation, plain)
    assert data.endswith(b"data: [DONE]\n\n")
    assert b"NOT ACKNOWLEDGED" not in data
    assert takes(store)[0].body.data() == data
