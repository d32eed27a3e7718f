"""The order in which concurrent calls are answered: the one in which they were when they were recorded."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import queue
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

import nbreplay as nr
from nbreplay.core import turns
from nbreplay.core.strand import pending_work, running_branches
from nbreplay.core.turns import Turnstile
from tests.clients import chat, finish, outcomes, recordings, said, sdk
from tests.provider import Provider

DELAYS = (450, 150, 600, 300)  # ms; the questions are answered in the order 1, 3, 0, 2


def question(number: int) -> str:
    return f"test/delay={DELAYS[number]}"


async def ask_async(client: Any, number: int) -> int:
    await chat(model=question(number))(client)
    return number


def ask_sync(client: Any, number: int) -> int:
    finish("sync", chat(model=question(number))(client))
    return number


def as_completed(url: str) -> list[Any]:
    async def main() -> list[Any]:
        async with sdk("async", url) as client:
            asks = [ask_async(client, number) for number in range(4)]
            return [await first for first in asyncio.as_completed(asks)]

    return asyncio.run(main())


def gather_and_print(url: str) -> list[Any]:
    async def main() -> list[Any]:
        lines: list[Any] = []

        async def ask(number: int) -> None:
            async with sdk("async", url) as client:  # one for each
                lines.append(await ask_async(client, number))

        await asyncio.gather(*map(ask, range(4)))
        return lines

    return asyncio.run(main())


def rounds(url: str) -> list[Any]:
    """Tasks that ask again and again, and pass what comes through a queue."""

    async def main() -> list[Any]:
        lines: list[Any] = []
        answers: asyncio.Queue[Any] = asyncio.Queue()

        async def ask(client: Any, number: int) -> None:
            for turn in range(2):
                await chat(f"turn {turn}", model=f"test/delay={DELAYS[number] // 2}")(client)
                await answers.put((number, turn))

        async def collect() -> None:
            for _ in range(8):
                lines.append(await answers.get())
                await asyncio.sleep(0)

        async with sdk("async", url) as client:
            await asyncio.gather(collect(), *(ask(client, number) for number in range(4)))
        return lines

    return asyncio.run(main())


def pool(url: str) -> list[Any]:
    with sdk("sync", url) as client, concurrent.futures.ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(ask_sync, client, number) for number in range(4)]
        return [future.result() for future in concurrent.futures.as_completed(futures)]


def callbacks(url: str) -> list[Any]:
    lines: list[Any] = []
    with sdk("sync", url) as client, concurrent.futures.ThreadPoolExecutor(4) as threads:
        for number in range(4):
            future = threads.submit(ask_sync, client, number)
            future.add_done_callback(lambda done: lines.append(done.result()))
    return lines


def threads(url: str) -> list[Any]:
    answers: queue.Queue[int] = queue.Queue()
    with sdk("sync", url) as client:
        workers = [
            threading.Thread(target=lambda number: answers.put(ask_sync(client, number)), args=(number,))
            for number in range(4)
        ]
        for worker in workers:
            worker.start()
        return [answers.get() for _ in workers]


def to_thread(url: str) -> list[Any]:
    async def main() -> list[Any]:
        with sdk("sync", url) as client:
            asks = [asyncio.to_thread(ask_sync, client, number) for number in range(4)]
            return [await first for first in asyncio.as_completed(asks)]

    return asyncio.run(main())


def urllib_in_threads(url: str) -> list[Any]:
    def ask(number: int) -> int:
        body = json.dumps({"model": question(number), "messages": said("hello")}).encode()
        request = urllib.request.Request(f"{url}/chat/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            answer.read()
        return number

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(ask, number) for number in range(4)]
        return [future.result() for future in concurrent.futures.as_completed(futures)]


def aiohttp_tasks(url: str) -> list[Any]:
    aiohttp = pytest.importorskip("aiohttp", reason="pip install nbreplay[test]")

    async def main() -> list[Any]:
        async with aiohttp.ClientSession() as client:

            async def ask(number: int) -> int:
                body = {"model": question(number), "messages": said("hello")}
                async with client.post(f"{url}/chat/completions", json=body) as answer:
                    await answer.json()
                return number

            return [await first for first in asyncio.as_completed([ask(number) for number in range(4)])]

    return asyncio.run(main())


def tools(url: str) -> list[Any]:
    @nr.tool
    async def look_up(number: int) -> int:
        await asyncio.sleep(DELAYS[number] / 1000)
        return number

    async def main() -> list[Any]:
        return [await first for first in asyncio.as_completed([look_up(number) for number in range(4)])]

    return asyncio.run(main())


def streams(url: str) -> list[Any]:
    """The chunks of several streams come in turns."""

    async def main() -> list[Any]:
        lines: list[Any] = []

        async def ask(client: Any, name: str, gap: int) -> None:
            model = f"test/gap={gap}"
            async for chunk in await client.chat.completions.create(model=model, messages=said(name), stream=True):
                if chunk.choices and chunk.choices[0].delta.content:
                    lines.append((name, chunk.choices[0].delta.content))
            lines.append((name, "end"))

        async with sdk("async", url) as client:
            await asyncio.gather(*(ask(client, name, gap) for name, gap in (("a", 70), ("b", 45), ("c", 110))))
        return lines

    return asyncio.run(main())


def streams_in_threads(url: str) -> list[Any]:
    lines: list[Any] = []
    with sdk("sync", url) as client:

        def ask(name: str, gap: int) -> None:
            model = f"test/gap={gap}"
            for chunk in client.chat.completions.create(model=model, messages=said(name), stream=True):
                if chunk.choices and chunk.choices[0].delta.content:
                    lines.append((name, chunk.choices[0].delta.content))
            lines.append((name, "end"))

        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            list(threads.map(ask, "abc", (70, 45, 110)))
    return lines


def call_inside_a_stream(url: str) -> list[Any]:
    """What is asked for the first chunk of a stream is answered before its rest."""
    lines: list[Any] = []
    with sdk("sync", url) as client:
        for chunk in client.chat.completions.create(model="test/gap=60", messages=said("outer"), stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                lines.append(chunk.choices[0].delta.content)
                if len(lines) == 1:
                    lines.append(finish("sync", chat("inner")(client)))
    return lines


WAYS = [
    *(as_completed, gather_and_print, rounds, pool, callbacks, threads, to_thread, urllib_in_threads, aiohttp_tasks),
    *(tools, streams, streams_in_threads, call_inside_a_stream),
]


@pytest.mark.parametrize("way", WAYS)
def test_answers_come_in_the_recorded_order(
    way: Callable[[str], list[Any]], provider: Provider, store: Path, request: pytest.FixtureRequest
) -> None:
    with nr.session(store, mode="record"):
        recorded = way(provider.url)
    if way is streams_in_threads:  # on a busy machine threads print what has come in any order
        with nr.session(store, mode="replay"):
            recorded = way(provider.url)
        assert len({name for name, _ in recorded[:4]}) > 1
    for _ in range(20 if request.config.getoption("--full") else 2):
        with nr.session(store, mode="replay") as session:
            assert way(provider.url) == recorded
    assert set(outcomes(session)) == {"replayed"}


@pytest.fixture
def waits_in_vain(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The turns that were given up, since they did not come."""
    found: list[int] = []
    others = set(threading.enumerate())  # which other tests have left

    def own_branches() -> list[threading.Thread]:
        # Those of the provider, which is in this process, end a little after their connections.
        return [each for each in running_branches() if each not in others and "process_request" not in each.name]

    monkeypatch.setattr(turns, "running_branches", own_branches)
    pending_work.clear()
    give_up = Turnstile._give_up_missing

    def count(self: Turnstile) -> None:
        before = self._next
        give_up(self)
        if self._next != before:
            found.append(before)

    monkeypatch.setattr(Turnstile, "_give_up_missing", count)
    return found


def record_pool(url: str, store: Path) -> None:
    with nr.session(store, mode="record"):
        assert sorted(pool(url)) == [0, 1, 2, 3]
    assert sorted(take.turns for recording in recordings(store) for take in recording.takes) == [
        ((number, 0),) for number in range(4)
    ]


def test_what_is_now_asked_one_after_the_other_does_not_wait(
    provider: Provider, store: Path, waits_in_vain: list[int]
) -> None:
    record_pool(provider.url, store)
    with nr.session(store, mode="replay"), sdk("sync", provider.url) as client:
        assert [ask_sync(client, number) for number in range(4)] == [0, 1, 2, 3]

    async def main() -> list[int]:
        async with sdk("async", provider.url) as client:
            return [await ask_async(client, number) for number in range(4)]

    with nr.session(store, mode="replay"):
        assert asyncio.run(main()) == [0, 1, 2, 3]
    assert not waits_in_vain


def test_a_call_that_no_longer_comes_is_waited_for_once(
    provider: Provider, store: Path, waits_in_vain: list[int]
) -> None:
    record_pool(provider.url, store)

    async def main() -> list[int]:
        async with sdk("async", provider.url) as client:
            return [await first for first in asyncio.as_completed([ask_async(client, number) for number in (0, 2, 3)])]

    with nr.session(store, mode="replay"):
        assert asyncio.run(main()) == [3, 0, 2], "the others keep their order"
    assert waits_in_vain == [0]


@pytest.mark.full
def test_fewer_threads_than_when_it_was_recorded(provider: Provider, store: Path) -> None:
    record_pool(provider.url, store)
    client, pool = sdk("sync", provider.url), concurrent.futures.ThreadPoolExecutor(1)
    with nr.session(store, mode="replay") as session, client, pool:
        assert list(pool.map(lambda number: ask_sync(client, number), range(4))) == [0, 1, 2, 3]
    assert outcomes(session) == ["replayed"] * 4


@pytest.mark.full
def test_a_lock_around_a_call_does_not_hang(provider: Provider, store: Path) -> None:
    record_pool(provider.url, store)
    lock = threading.Lock()

    def ask(client: Any, number: int) -> int:
        with lock:
            return ask_sync(client, number)

    client, pool = sdk("sync", provider.url), concurrent.futures.ThreadPoolExecutor(4)
    with nr.session(store, mode="replay"), client, pool:
        assert list(pool.map(lambda number: ask(client, number), range(4))) == [0, 1, 2, 3]


def test_after_a_missing_call_the_others_do_not_wait_long(
    provider: Provider, store: Path, waits_in_vain: list[int]
) -> None:
    with nr.session(store, mode="record"):
        recorded = as_completed(provider.url)

    async def main() -> list[Any]:
        async with sdk("async", provider.url) as client:
            asks = [chat("another")(client), *(ask_async(client, number) for number in recorded[1:])]
            return await asyncio.gather(*asks, return_exceptions=True)

    with nr.session(store, mode="replay") as session:
        missing, *others = asyncio.run(main())
    assert isinstance(missing, nr.RecordingMissing)
    assert others == recorded[1:]
    assert sorted(outcomes(session)) == ["missing", *["replayed"] * 3]


def test_calls_one_after_the_other_have_no_turns(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"), sdk("sync", provider.url) as client:
        for number in range(2):
            finish("sync", chat(f"question {number}")(client))
    assert not any("turns" in file.read_text() for file in store.glob("*.json"))


def test_auto_keeps_the_order_of_what_it_replays_and_of_what_it_adds(provider: Provider, store: Path) -> None:
    async def main(*numbers: int) -> list[int]:
        async with sdk("async", provider.url) as client:
            return [await first for first in asyncio.as_completed([ask_async(client, number) for number in numbers])]

    with nr.session(store, mode="record"):
        assert asyncio.run(main(0, 1)) == [1, 0]
    with nr.session(store, mode="auto") as session:
        assert asyncio.run(main(0, 1, 2, 3)) == [1, 0, 3, 2]
    assert sorted(outcomes(session)) == ["recorded"] * 2 + ["replayed"] * 2
    with nr.session(store, mode="replay"):
        assert asyncio.run(main(0, 1, 2, 3)) == [1, 0, 3, 2]


def test_a_failure_that_is_not_kept_leaves_no_gap(provider: Provider, store: Path, waits_in_vain: list[int]) -> None:
    async def main(*statuses: int) -> list[Any]:
        async with sdk("async", provider.url) as client:
            failing = [chat(model=f"test/status={status}")(client) for status in statuses]
            asks = [*failing, *(ask_async(client, number) for number in range(2))]
            return [await first for first in asyncio.as_completed([_catch(ask) for ask in asks])]

    with nr.session(store, mode="auto"):
        assert asyncio.run(main(429)) == ["RateLimitError", 1, 0]
    with nr.session(store, mode="replay"):
        assert asyncio.run(main()) == [1, 0]
    assert not waits_in_vain


async def _catch(ask: Any) -> Any:
    try:
        return await ask
    except openai.APIStatusError as error:
        return type(error).__name__
