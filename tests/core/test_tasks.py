"""Which of several asyncio tasks asks."""

from __future__ import annotations

import asyncio
import threading

from nbreplay.core.cell import task_rank


async def ranks_of(waits: list[float]) -> list[int | None]:
    async def asks(wait: float) -> int | None:
        await asyncio.sleep(wait)
        return task_rank()

    return list(await asyncio.gather(*map(asks, waits)))


async def test_it_is_the_order_of_making() -> None:
    assert await ranks_of([0.02, 0.0, 0.01]) == [0, 1, 2]
    assert await ranks_of([0.0, 0.02]) == [0, 1], "those that follow are counted anew"


async def test_it_stays_when_the_siblings_have_ended() -> None:
    async def asks(wait: float) -> list[int | None]:
        first = task_rank()
        await asyncio.sleep(wait)
        return [first, task_rank()]

    assert await asyncio.gather(asks(0.02), asks(0.0), asks(0.01)) == [[0, 0], [1, 1], [2, 2]]


async def test_one_that_is_alone_has_none() -> None:
    assert task_rank() is None
    assert await ranks_of([0.0]) == [None]

    async def other() -> int | None:
        return task_rank()

    another = asyncio.create_task(other())
    assert await asyncio.gather(another, asyncio.sleep(0)) == [None, None], "other coroutines are no siblings"


async def test_one_with_a_name_of_its_own_has_none() -> None:
    async def asks() -> int | None:
        return task_rank()

    tasks = [asyncio.create_task(asks(), name=f"mine {n}") for n in range(2)]
    assert [await task for task in tasks] == [None, None]


async def test_every_loop_counts_for_itself() -> None:
    found: list[list[int | None]] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(ranks_of([0.01, 0.0]))))
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.005)
    assert found == [[0, 1]]


def test_outside_tasks_there_is_none() -> None:
    assert task_rank() is None
    loop = asyncio.new_event_loop()
    found: list[int | None] = []
    loop.call_soon(lambda: found.append(task_rank()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert found == [None]
