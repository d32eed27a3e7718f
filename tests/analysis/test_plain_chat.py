"""The summaries of plain chats: those that the general way makes, of real recordings and of odd ones."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbreplay.analysis import plain_chat, summaries
from nbreplay.analysis.rows import Row
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.recording import Recording, parse
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import PROMPTS, key_of
from nbreplay.core.store.store import Store
from nbreplay.formats import registry
from nbreplay.providers.deltas import COUNTS, PARTS
from nbreplay.providers.messages import SYSTEM
from tests.formats.making import REAL

ROOT = Path(__file__).parents[2]
BODY = {
    "model": "gpt-4o", "temperature": 0.5, "max_tokens": 9, "stream": False, "tools": [{"type": "function"}],
    "messages": [{"role": "system", "content": "Be nice."}, {"role": "user", "content": "Weather in São Paulo?"}],
}  # fmt: skip
ANSWER = {
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Warm \U0001f324"}, "finish_reason": "stop"},
    ],
    "usage": {
        "prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
}  # fmt: skip
ODD = [
    *(None, "", "x", 0, 1, -1, 1.5, 2**63, 2**64, 10**40, True, [], ["a"], [1], [{}], {}, {"parts": []}),
    *([{"role": "user", "content": "b"}], {"text": "c"}, [{"functionDeclarations": [{}, {}]}]),
    *({"max_tokens": 8, "cached_tokens": 4}, {"prompt_tokens": 5}),
]


COMMON = {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-4o-2024-08-06"}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": None}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": "War"}, "finish_reason": None}], "usage": None},
    {"choices": [{"index": 0, "delta": {"content": "m"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": ANSWER["usage"]},
]


def streamed(chunks: Sequence[Any], common: Any) -> Events:
    """A stream with such chunks."""
    names = dict.fromkeys(name for data in (common, *chunks) if isinstance(data, dict) for name in data)
    whole = [Chunk(number, data) for number, data in enumerate(chunks)]
    return Events((*whole, Chunk(1, "[DONE]")), "sse", tuple(names), common)


def row_of(body: Any, answer: Any, **more: Any) -> Row:
    """A recording, as it is read from a file."""
    fields = {"method": "POST", "endpoint": "chat/completions", "body": body}
    answer = answer if isinstance(answer, Events) else Json(answer)
    taken = Take("2026-11-22T20:15:50Z", "api.openai.com", body=answer, **more)
    recording = parse(Recording(key_of("chat", fields), "chat", fields, (taken,)).data())
    return Row("chat-0#1", None, recording, recording.takes[0])


def check(row: Row) -> tuple[bool, bool]:
    """Compare both ways; tell whether request and answer are plain."""
    assert isinstance(row.source, Recording)
    asked = plain_chat.summarise_plain_request(row.source.source)
    said = plain_chat.summarise_plain_answer(row.take)
    if asked:
        assert asked == summaries.summarise_request(row.request, row.stored_messages)
    if said:
        assert said == summaries.summarise_answer(row.kind, row.take, row.answer)
    return asked is not None, said is not None


def own() -> Iterator[Row]:
    for _, recording in Store(ROOT / "recordings").recordings():
        assert isinstance(recording, Recording)
        fresh = parse(recording.data())
        yield from (Row("", None, fresh, take) for take in fresh.takes)


def real() -> Iterator[Row]:
    for _, contents in registry.read_files(REAL):
        for request, take in contents.takes:
            take = msgspec.structs.replace(take, extra={})  # as nbreplay itself records
            fresh = parse(Recording(request.key, request.kind, request.fields, (take,)).data())
            yield Row("", None, fresh, fresh.takes[0])


def test_own_recordings() -> None:
    assert any(all(check(row)) for row in own())


@pytest.mark.full
@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings of other tools are not here")
def test_real_recordings() -> None:
    plain = [check(row) for row in real()]
    asked, said = map(sum, zip(*plain, strict=True))
    assert asked > len(plain) / 3
    assert said > len(plain) / 8


def test_a_plain_chat() -> None:
    assert check(row_of(BODY, ANSWER)) == (True, True)
    assert check(row_of(BODY, streamed(CHUNKS[:4], COMMON | {"usage": {"prompt_tokens": 5}}))) == (True, False)
    users = [{"role": "user", "content": text} for text in ("a", "b", "")]
    assert check(row_of({"model": "m", "messages": users}, ANSWER)) == (True, True)
    assert check(row_of({"model": "m", "messages": []}, ANSWER, status=500)) == (True, True)
    assert check(row_of(BODY, ANSWER, error={"type": "ReadError", "message": "x"})) == (True, True)
    assert check(row_of(BODY, streamed(CHUNKS, COMMON), complete=False, reason="dropped")) == (True, True)


REQUEST = ("model", "stream", "temperature", "messages", *summaries.MAX_TOKENS, *summaries.SETTINGS, *summaries.TOOLS)
PLACES = {
    "body": ((), (*REQUEST, *SYSTEM, *PROMPTS, "user")),
    "message": (("messages", 1), ("role", "content", "name", "tool_calls")),
    "answer": ((), ("model", "modelVersion", "choices", "usage", "error", "usageMetadata", "type", "object")),
    "choice": (("choices", 0), ("index", "message", "delta", "finish_reason", "text")),
    "reply": (("choices", 0, "message"), ("role", "content", *PARTS)),
    "usage": (("usage",), tuple(dict.fromkeys(path.partition(".")[0] for path in COUNTS))),
}


@pytest.mark.parametrize("place", PLACES)
def test_odd_values(place: str) -> None:
    path, names = PLACES[place]
    is_request, plain = place in ("body", "message"), 0
    for name, value in itertools.product(names, ODD):
        body, answer = copy.deepcopy((BODY, ANSWER))
        holder: Any = body if is_request else answer
        for step in path:
            holder = holder[step]
        holder[name] = value
        plain += check(row_of(body, answer))[not is_request]
    assert 0 < plain < len(names) * len(ODD)


DELTA = ("choices", 0, "delta")
STREAM = {
    "common": ((), (*COMMON, "choices", "usage", "modelVersion", "error", "type", "message")),
    "chunk": ((), ("choices", "usage", "model", "error", "object", "type", "delta", "message", "response")),
    "choice": (("choices", 0), ("index", "message", "delta", "finish_reason", "text")),
    "delta": (DELTA, ("role", "content", *PARTS)),
}


@pytest.mark.parametrize("place", STREAM)
def test_odd_chunks(place: str) -> None:
    path, names = STREAM[place]
    plain = 0
    for name, value, number in itertools.product(names, [*ODD, "[DONE]"], range(4)):
        chunks, common = copy.deepcopy((CHUNKS, COMMON))
        holder: Any = common if place == "common" else chunks[number]
        for step in path:
            holder = holder[step]
        holder[name] = value
        plain += check(row_of(BODY, streamed(chunks, common)))[1]
    assert 0 < plain < len(names) * (len(ODD) + 1) * 4


@pytest.mark.parametrize("chunk", [Chunk(1, None, None, ": ping\n\n"), Chunk(1, "x"), Chunk(1, CHUNKS[1], "error")])
def test_a_chunk_that_is_not_an_object_alone(chunk: Chunk) -> None:
    stream = streamed(CHUNKS, COMMON)
    odd = msgspec.structs.replace(stream, chunks=(*stream.chunks[:2], chunk, *stream.chunks[2:]))
    assert check(row_of(BODY, odd)) == (True, False)
