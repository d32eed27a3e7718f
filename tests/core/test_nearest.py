"""The nearest recording: the same but for what varies by itself, else the one that says the most of the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nbreplay.core.nearest import find_nearest
from nbreplay.core.request.request import Call
from nbreplay.core.store.store import Store
from tests.core.making import call, chat, record, request, session


def nearest(store: Path, asked: Call, *recorded: Call) -> int:
    """The place of the nearest recording among these."""
    for given in recorded:
        record(session(store), given, {})
    found = find_nearest(request(asked), Store(store))
    assert found
    return [request(given).fields for given in recorded].index(found[1])


@pytest.mark.parametrize(
    ("asked", "recorded"),
    [
        ("Today is 2026-02-01. Hello!", ["Today is a fine day. Hello!", "Today is 2026-01-31. Hello!"]),
        ("Run 17 of the test", ["Run of the test", "Run 3 of the test"]),
        ("Tell me of the history of Rome", ["Tell me of the future of France", "Tell me about the history of Rome"]),
        ("How warm is it in Tokyo today?", ["What is new?", "How warm is it in Kyoto today?", "Sing a song"]),
        ("東京の天気はどうですか", ["京都で何を食べますか", "大阪の天気はどうですか"]),
        ("x" * 9000 + " at 10:15 Rome", ["x" * 9000 + " at 10:20 Paris", "x" * 9000 + " at 10:25 Rome"]),
    ],
)
def test_the_text_decides(store: Path, asked: str, recorded: list[str]) -> None:
    best = 1
    assert nearest(store, chat(asked), *map(chat, recorded)) == best
    for name in Store(store).names():
        os.unlink(store / name)
    assert nearest(store, chat(asked), *map(chat, reversed(recorded))) == len(recorded) - 1 - best


@pytest.mark.parametrize(
    ("asked", "recorded"),
    [
        (chat("a b c"), [chat("x y z"), chat("a b c", model="other"), chat("a b d")]),
        (chat("a b c"), [chat("a b d"), chat("a b c", seed=1, top_p=0.5)]),
        (chat("a b c"), [chat("q r s"), chat("a b c", model="other")]),
        (
            chat(messages=[{"role": "user", "content": "hello"}, {"role": "user", "content": "and now?"}]),
            [chat("bye"), chat(messages=[{"role": "user", "content": "hello"}])],
        ),
        (
            call({"model": "e", "input": ["new", "a", "b", "c"]}, path="/v1/embeddings"),
            [
                call({"model": "e", "input": ["x", "a", "y"]}, path="/v1/embeddings"),
                call({"model": "e", "input": ["a", "b", "c"]}, path="/v1/embeddings"),
            ],
        ),
    ],
)
def test_settings_and_models_are_weighed(store: Path, asked: Call, recorded: list[Call]) -> None:
    assert nearest(store, asked, *recorded) == len(recorded) - 1


def test_old_recordings_are_found_among_many(store: Path) -> None:
    record(session(store), chat("Tell me of the history of Rome"), {})
    (name,) = Store(store).names()
    text = (store / name).read_text()
    for number in range(1200):
        other = text.replace("the history of Rome", f"the number {number}")
        (store / f"chat-{number:016x}.json").write_text(other)
    os.utime(store / name, (0, 0))
    found = find_nearest(request(chat("Tell me about the history of Rome")), Store(store))
    assert found
    assert found[0] == name


def test_requests_of_any_length_and_of_no_words(store: Path) -> None:
    long = call({"model": "m", "messages": [{"role": "user", "content": "word " * 40_000}], "seed": 1})
    assert nearest(store, call({"model": "m", "messages": []}), call({"messages": []}), long) == 0
    assert find_nearest(request(long), Store(store))
    damaged = store / "chat-0000000000000000.json"
    damaged.write_text(json.dumps({"nbreplay": 1}) + '\n  "takes": [')
    assert find_nearest(request(chat()), Store(store))
    damaged.write_bytes(b"\xff\xfe")
    assert find_nearest(request(chat()), Store(store))
