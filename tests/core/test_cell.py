"""What a run of a cell remembers, and which of several asyncio tasks asks."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from nbreplay.core.cell import Cell, Run, utc
from nbreplay.core.log import Interaction, Log
from nbreplay.core.recording.body import Text
from nbreplay.core.recording.recording import parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import CellRef
from nbreplay.core.strand import task_rank
from nbreplay.intercept.processes.channel import FileClaims, take_id
from tests.core.making import recording, take


async def ranks_of(waits: list[float]) -> list[int | None]:
    async def asks(wait: float) -> int | None:
        await asyncio.sleep(wait)
        return task_rank()

    return list(await asyncio.gather(*map(asks, waits)))


async def test_it_is_the_order_of_making() -> None:
    assert await ranks_of([0.02, 0.0, 0.01]) == [0, 1, 2]
    assert await ranks_of([0.0, 0.02]) == [0, 1], "those that follow are counted anew"


async def test_the_log_has_the_calls_of_sibling_tasks_in_the_order_of_the_tasks() -> None:
    log = Log()

    def call(name: str) -> None:
        log.start(Interaction(None, None, "live", host=name))

    async def calls(name: str, wait: float) -> None:
        await asyncio.sleep(wait)
        call(f"{name}1")
        await asyncio.sleep(0.02)
        call(f"{name}2")

    call("before")
    await asyncio.gather(calls("a", 0.01), calls("b", 0.0))
    call("between")
    await asyncio.gather(*(calls(name, wait) for name, wait in (("c", 0.01), ("d", 0.0))), asyncio.sleep(0))
    assert [item.host for item in log.interactions] == [
        "before",
        "a1",
        "a2",
        "b1",
        "b2",
        "between",
        "c1",
        "c2",
        "d1",
        "d2",
    ]
    assert [item.host for item in log.since(5)] == ["between", "c1", "c2", "d1", "d2"]


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


def test_a_run_gives_each_take_once_and_another_run_starts_anew() -> None:
    whole = recording(take(at=1), take(at=1), take(at=2))
    run, slot = Run(), ("store", whole.key)
    assert run.unused_takes(slot, whole, True) == whole.takes
    run.use(slot, whole.takes[1], True)
    left = run.unused_takes(slot, whole, True)
    assert left[0] is whole.takes[0]
    assert len(left) == 2
    # Another process has written the file meanwhile: equal takes, not the same objects.
    again = recording(take(at=1), take(at=1), take(at=2), take(at=3))
    assert [each.recorded_at[-6:-5] for each in run.unused_takes(slot, again, True)] == ["1", "2", "3"]
    assert run.unused_takes(("other", whole.key), whole, True) == whole.takes
    assert Run().unused_takes(slot, whole, True) == whole.takes


def test_processes_share_the_takes_of_a_run_and_a_take_that_is_changed_for_another_is_free_again(
    tmp_path: Path,
) -> None:
    # All of the same time and place: only a header or a body tells them apart.
    whole = recording(take(Text("a")), take(Text("a"), headers={"x-request-id": "2"}), take(Text("b")))
    run, slot = Run(), ("store", whole.key)
    first, second, third = whole.takes
    assert len({take_id(each) for each in whole.takes}) == 3
    other = Run()
    for each in (run, other):
        each.share(FileClaims(str(tmp_path / "claims")))
    assert run.use(slot, first, True, recording=whole)
    assert not other.use(slot, first, True, recording=whole)
    assert other.use(slot, second, True, recording=whole)
    assert run.use(slot, third, True, recording=whole, instead_of=first)
    assert other.use(slot, first, True, recording=whole)


def test_what_auto_gave_does_not_count_for_replay() -> None:
    whole = recording(take(at=1))
    run, slot = Run(), ("store", whole.key)
    run.use(slot, whole.takes[0], False)
    assert run.unused_takes(slot, whole, False) == ()
    assert run.unused_takes(slot, whole, True) == whole.takes


def test_places_are_reserved_in_order_and_by_request() -> None:
    run = Run()
    assert [run.place(("s", "a")), run.place(("s", "a")), run.place(("s", "b")), run.place(("t", "a"))] == [1, 2, 1, 1]


def test_a_take_keeps_no_text_of_its_cell() -> None:
    one, two = Cell("id-1", 3, "secret_plan()"), Cell(None, None, "secret_plan()")
    assert one.ref == CellRef("id-1", two.ref.source)
    assert "secret" not in one.ref.source
    assert len(one.ref.source) == 8
    assert Cell(None, 1, "other()").ref != two.ref
    assert Cell(None, 1, "lone \ud800").ref.source


def test_a_cell_is_named_by_number_first_line_and_id() -> None:
    assert str(Cell("9f2c", 3, "\n\nclient = OpenAI()\nmore")) == "[3] client = OpenAI()  (id 9f2c)"
    assert str(Cell(None, None, "x = 1")) == "[ ] x = 1"
    assert str(Cell(None, None, "")).strip() == "[ ]"


def test_times_are_utc_to_the_millisecond() -> None:
    assert utc(0) == "1970-01-01T00:00:00.000Z"
    assert utc(1767225600.0625) == "2026-01-01T00:00:00.062Z"
    assert Run(None, 1767225600.0).started == "2026-01-01T00:00:00.000Z"


def test_a_stream_is_not_given_again_after_another_process_has_written_its_file() -> None:
    data = b"".join(b'data: {"id":1,"n":%d}\n\n' % number for number in range(4)) + b'data: {"id":1}\n\n'
    whole = recording(take(Events.parse([(0.0, data)], "sse", 0.0)))
    run, slot = Run(), ("store", whole.key)
    run.use(slot, whole.takes[0], True)
    assert run.unused_takes(slot, parse(whole.data()), True) == ()
