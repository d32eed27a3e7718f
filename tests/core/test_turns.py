"""The turns in which the answers of concurrent calls come."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from nbreplay.core import turns
from nbreplay.core.log import Log
from nbreplay.core.recording.stream import Events
from nbreplay.core.replay import Replay
from nbreplay.core.turns import TurnCounter, TurnPause, Turnstile
from tests.core.making import take


def test_calls_one_after_the_other_have_no_turns() -> None:
    counter = TurnCounter()
    for at in (1.0, 2.0):
        arrivals = counter.begin()
        counter.note(arrivals, at)
        counter.end(arrivals)
        assert arrivals.divide([at]) == ()


def test_the_turns_are_the_order_in_which_concurrent_answers_end() -> None:
    counter = TurnCounter()
    first, second, third = (counter.begin() for _ in range(3))
    for at, arrivals in enumerate((second, third, first)):
        counter.note(arrivals, at)
        counter.end(arrivals)
    assert [arrivals.divide([]) for arrivals in (first, second, third)] == [((2, 0),), ((0, 0),), ((1, 0),)]


def test_what_came_before_another_call_began_is_one_turn() -> None:
    counter = TurnCounter()
    stream = counter.begin()
    for at in (1.0, 2.0):
        counter.note(stream, at)
    other = counter.begin()
    counter.note(other, 3.0)
    counter.end(other)
    counter.note(stream, 4.0)
    assert stream.divide([1.0, 2.0, 4.0, 4.0]) == ((0, 2), (2, 2))
    assert other.divide([]) == ((1, 0),)


def test_an_answer_that_is_not_kept_leaves_no_gap() -> None:
    counter = TurnCounter()
    failure, answer = counter.begin(), counter.begin()
    counter.note(failure, 1.0)
    counter.end(failure, is_kept=False)
    counter.note(answer, 2.0)
    assert answer.divide([]) == ((0, 0),)


def test_what_is_recorded_after_a_replay_comes_after_it() -> None:
    counter = TurnCounter()
    Turnstile(counter).leave([3])
    first, second = counter.begin(), counter.begin()
    counter.note(second, 1.0)
    counter.note(first, 2.0)
    assert (second.divide([]), first.divide([])) == (((4, 0),), ((5, 0),))


async def test_tasks_are_let_through_in_turns() -> None:
    turnstile, passed = Turnstile(TurnCounter()), list[int]()

    async def task(number: int) -> None:
        await turnstile.wait_async(number)
        await asyncio.sleep(0)
        passed.append(number)

    await asyncio.gather(*map(task, (2, 0, 3, 1)))
    assert passed == [0, 1, 2, 3]


async def test_a_task_that_is_cancelled_holds_nobody_up() -> None:
    turnstile = Turnstile(TurnCounter())
    tasks = [asyncio.create_task(turnstile.wait_async(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await turnstile.wait_async(0)
    await tasks[1]
    assert tasks[0].cancelled()
    assert not turnstile._waiting


def test_threads_are_let_through_in_turns() -> None:
    turnstile, passed = Turnstile(TurnCounter()), list[int]()

    def wait(number: int) -> None:
        turnstile.wait(number)
        passed.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in (2, 0, 3, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == [0, 1, 2, 3]


def test_one_that_is_alone_does_not_wait() -> None:
    turnstile = Turnstile(TurnCounter())
    for number in (5, 2, 7):
        turnstile.wait(number)
    assert turnstile._patience > 1, "nothing was waited for in vain"


def test_under_another_library_than_asyncio_nothing_waits() -> None:
    """As under trio, which some HTTP libraries run on."""
    turn = Turnstile(TurnCounter()).wait_async(1)
    with pytest.raises(StopIteration):
        turn.send(None)


def test_a_run_of_many_turns_looks_at_threads_in_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_CARE", 1e-9)
    program = turns._Program()
    assert program._pause() == turns._PAUSE
    thread = threading.Thread(target=program.settle, args=(lambda: False,))
    thread.start()
    thread.join()
    assert program._pause() == turns._SHORT_PAUSE


def test_nobody_waits_for_a_turn_in_which_no_chunk_is_whole() -> None:
    """aiohttp is given no empty pieces, so that such a turn would not be over before the stream is."""
    stream = take(Events.parse([(0.1, b"data: 1\n\n"), (0.2, b"data: 2\n\n")], "sse", 0.0))
    stream = msgspec.structs.replace(stream, turns=((0, 1), (2, 0), (4, 1), (6, 0)))
    turnstile = Turnstile(TurnCounter())
    replay = Replay(stream, None, Log(), 0, 0.0, turnstile)
    parts = [(pause.number, data) for pause, data in replay.parts() if isinstance(pause, TurnPause)]
    assert parts == [(0, b"data: 1\n\n"), (4, b"data: 2\n\n"), (6, b"")]
    turnstile.leave([0, 1])
    assert turnstile._next == 3


async def test_tasks_of_one_turn_do_not_keep_each_other_waiting() -> None:
    """What ``auto`` adds to a recording may have numbers that others have."""
    turnstile = Turnstile(TurnCounter())
    await asyncio.gather(*map(turnstile.wait_async, (0, 1, 1, 1, 2)))
    assert not turnstile._program._has_noisy_loop
