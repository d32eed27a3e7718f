"""Many calls at once: no byte of one comes into another's recording, and each has its own answer again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests.clients import in_threads, items, outcomes, recordings, said, sdk
from tests.provider import Provider

STREAMS, THREADS = 64, 32
MODEL = "test/words=30+gap=1"


async def all_streams(url: str, order: list[int]) -> dict[int, list[str]]:
    """Read the streams of these numbers at once; what came of each, piece by piece."""
    found: dict[int, list[str]] = {}

    async def one(client: Any, number: int) -> None:
        stream = await client.chat.completions.create(model=MODEL, messages=said(f"question {number}"), stream=True)
        found[number] = [chunk.model_dump_json() async for chunk in items(stream)]

    async with sdk("async", url) as client:
        await asyncio.gather(*[one(client, number) for number in order])
    return found


def all_threads(url: str, order: list[int]) -> dict[int, list[str]]:
    """Read the streams of these numbers, each in a thread of its own."""
    found: dict[int, list[str]] = {}
    start = threading.Barrier(len(order))

    def one(number: int) -> None:
        with sdk("sync", url) as client:
            start.wait(60)
            stream = client.chat.completions.create(model=MODEL, messages=said(f"question {number}"), stream=True)
            found[number] = [chunk.model_dump_json() for chunk in stream]

    in_threads(one, order)
    return found


@pytest.mark.parametrize(
    ("way", "number"),
    [(lambda url, order: asyncio.run(all_streams(url, order)), STREAMS), (all_threads, THREADS)],
    ids=["64 async streams", "32 threads"],
)
def test_each_has_its_own_answer_in_whatever_order_it_is_asked_again(
    way: Callable[[str, list[int]], dict[int, list[str]]], number: int, provider: Provider, store: Path
) -> None:
    order = list(range(number))
    with nr.session(store, mode="record") as session:
        recorded = way(provider.url, order)
    assert outcomes(session) == ["recorded"] * number
    assert len(recordings(store)) == number
    for asked, pieces in recorded.items():
        assert len(pieces) >= 30
        assert len({piece.split('"id":"')[1].split('"')[0] for piece in pieces}) == 1, "the pieces of one answer only"
        assert f"question {asked} " in "".join(_content(piece) for piece in pieces) + " "
    hits = len(provider.requests)
    with nr.session(store, mode="replay") as session:
        assert way(provider.url, order[::-1]) == recorded
    assert outcomes(session) == ["replayed"] * number
    assert len(provider.requests) == hits


def _content(piece: str) -> str:
    return piece.split('"content":"')[1].split('"')[0] if '"content":"' in piece else ""
