"""Which thread gets which of several answers to one question: the one that it got when they were recorded."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as thread_pool
from pathlib import Path

import pytest

import nbreplay as nr
from tests.clients import chat, finish, sdk, takes
from tests.provider import Provider

Ask = Callable[[int], str]
NUMBER = 4


def by_map(ask: Ask) -> list[str]:
    with ThreadPoolExecutor(NUMBER) as pool:
        return list(pool.map(ask, range(NUMBER)))


def by_submit(ask: Ask) -> list[str]:
    with ThreadPoolExecutor(NUMBER) as pool:
        inside = [functools.partial(contextvars.copy_context().run, ask, number) for number in range(NUMBER)]
        return [future.result() for future in [pool.submit(call) for call in inside]]


def by_thread(ask: Ask) -> list[str]:
    found: dict[int, str] = {}
    threads = [threading.Thread(target=lambda at: found.update({at: ask(at)}), args=(at,)) for at in range(NUMBER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[at] for at in range(NUMBER)]


def by_class(ask: Ask) -> list[str]:
    class Asker(threading.Thread):
        def __init__(self, at: int) -> None:
            super().__init__()
            self.at = at

        def run(self) -> None:
            self.answer = ask(self.at)

    threads = [Asker(at) for at in range(NUMBER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [thread.answer for thread in threads]


def by_to_thread(ask: Ask) -> list[str]:
    async def main() -> list[str]:
        other = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)
        return (await asyncio.gather(other, *(asyncio.to_thread(ask, number) for number in range(NUMBER))))[1:]

    return asyncio.run(main())


def by_pools_of_pools(ask: Ask) -> list[str]:
    def pair(first: int) -> list[str]:
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(ask, (first, first + 1)))

    with ThreadPoolExecutor(2) as pool:
        return [answer for answers in pool.map(pair, (0, 2)) for answer in answers]


def by_loops_in_threads(ask: Ask) -> list[str]:
    async def main(first: int) -> list[str]:
        return await asyncio.gather(*(asyncio.to_thread(ask, number) for number in (first, first + 1)))

    with ThreadPoolExecutor(2) as pool:
        return [answer for answers in pool.map(lambda first: asyncio.run(main(first)), (0, 2)) for answer in answers]


WAYS = [by_map, by_submit, by_thread, by_class, by_to_thread, by_pools_of_pools, by_loops_in_threads]


@pytest.mark.parametrize("way", WAYS)
def test_each_thread_gets_its_own_answer_again_whoever_asks_first(
    way: Callable[[Ask], list[str]], provider: Provider, store: Path
) -> None:
    def ask_in_order(numbers: list[int]) -> list[str]:
        turns = {number: threading.Event() for number in numbers}
        turns[numbers[0]].set()

        with sdk("sync", provider.url) as client:

            def ask(number: int) -> str:
                turns[number].wait(10)
                answer: str = finish("sync", chat()(client))
                for following in numbers[numbers.index(number) + 1 :][:1]:
                    turns[following].set()
                return answer

            return way(ask)

    with nr.session(store, mode="record"):
        live = ask_in_order([2, 0, 3, 1])
    assert sorted(live) == [f"answer {n} to: hello" for n in range(1, NUMBER + 1)]
    assert all(take.thread for take in takes(store))
    with nr.session(store, mode="replay"):
        assert ask_in_order([1, 0, 2, 3]) == live


def test_outside_a_session_threads_are_left_alone(store: Path) -> None:
    with nr.session(store, mode="off"):
        pass
    assert threading.Thread.start.__module__ == "threading"
    assert "nbreplay" not in repr(ThreadPoolExecutor.submit.__globals__["_WorkItem"].run.__code__)


def test_the_main_thread_has_no_path(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"), sdk("sync", provider.url) as client:
        client.chat.completions.create(model="test", messages=[{"role": "user", "content": "hello"}])
    assert '"thread"' not in next(store.glob("chat-*.json")).read_text()


def test_a_work_item_may_be_made_with_named_arguments(store: Path) -> None:
    """As executors do that are not those of the standard library."""
    called: list[int] = []
    named: dict[str, object] = {"fn": called.append, "args": (1,), "kwargs": {}}
    with nr.session(store):
        if sys.version_info >= (3, 14):
            named = {"task": tuple(named.values())}
        thread_pool._WorkItem(future=Future(), **named).run()  # type: ignore[arg-type]
    assert called == [1]
