"""Turns: the order in which the answers of concurrent calls came, written into takes and kept when they are replayed.

A turn is all that came of one answer before something came of another one. The turns of a run are numbered from 0, over
all calls that were under way at the same time as another one; a call that was alone has none. A replay holds each turn
back until the one before it has been given and the program has done what it does with that. A turn that never comes,
since the program has changed, holds the others up once, and not for long.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from types import FrameType
from typing import Any

import msgspec

from nbreplay.core.strand import (
    Branch,
    current_branch,
    is_detached,
    is_running,
    known_loops,
    own_loop,
    pending_work,
    running_branches,
)

_PATIENCE = 2.0  # seconds without any turn, after which a turn that has not come is given up
_HASTE = 0.02  # seconds, the same after a turn has not come
_LONGEST = 2.0  # seconds that a program may be busy with a turn, before the next one is given all the same
_PAUSE = 0.001  # seconds; another thread may run meanwhile
_SHORT_PAUSE = 0.0001  # seconds, the same after a run has looked at threads for long
_CARE = 3.0  # seconds of looks at threads, after which pauses are short: streams may have thousands of turns
_LOOP_TURNS = 20  # turns of a loop, after which it may be one that never rests
_QUIET = 3  # so many looks at the program must find it idle
_QUIET_WITH_ANSWER = 25  # the same, while the thread that has the last answer may still be busy with it

Turn = tuple[int, int]
"""The number of a turn, and how many chunks came in it."""


class Arrivals:
    """The turns of one answer while it is recorded."""

    def __init__(self) -> None:
        self.first_at: float | None = None
        self.is_concurrent = False
        self.turns: list[tuple[int, float]] = []  # each with the time at which it began

    def divide(self, times: Sequence[float]) -> tuple[Turn, ...]:
        """Return the turns, given the times at which the chunks came."""
        starts = [0, *(bisect_left(times, began) for _, began in self.turns[1:]), len(times)]
        spans = zip(self.turns, pairwise(starts), strict=False)  # no spans without turns
        return tuple((number, end - start) for (number, _), (start, end) in spans)


class TurnCounter:
    """Numbers the turns of a run while it is recorded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[Arrivals] = set()
        self._count = 0
        self._last: Arrivals | None = None

    def begin(self) -> Arrivals:
        """Return the arrivals of a call that starts."""
        arrivals = Arrivals()
        with self._lock:
            for other in self._open:
                if not other.is_concurrent:
                    other.is_concurrent = True
                    if other.first_at is not None:
                        self._add(other, other.first_at)
            arrivals.is_concurrent = bool(self._open)
            self._open.add(arrivals)
        return arrivals

    def note(self, arrivals: Arrivals, at: float) -> None:
        """Note that a part of an answer, or its end, has come."""
        with self._lock:
            if arrivals.is_concurrent:
                self._add(arrivals, at)
            elif arrivals.first_at is None:
                arrivals.first_at = at

    def _add(self, arrivals: Arrivals, at: float) -> None:
        if self._last is not arrivals:
            self._last = arrivals
            arrivals.turns.append((self._count, at))
            self._count += 1

    def end(self, arrivals: Arrivals, *, is_kept: bool = True) -> None:
        """Note that an answer is over. A number that none of the takes has would be waited for."""
        with self._lock:
            self._open.discard(arrivals)
            if not is_kept and self._last is arrivals and len(arrivals.turns) == 1:
                self._count, self._last = self._count - 1, None
                arrivals.turns.clear()

    def skip(self, number: int) -> None:
        """Count a turn that was replayed."""
        with self._lock:
            self._count, self._last = max(self._count, number + 1), None


_Ticket = tuple[int, int, Callable[[], object]]
"""The number of a turn that is waited for, a number that no other ticket has, and what wakes who waits."""


class Turnstile:
    """Lets the turns of a run through while it is replayed, one after the other."""

    def __init__(self, counter: TurnCounter) -> None:
        self._counter = counter
        self._lock = threading.Lock()
        self._next = 0  # the lowest number of a turn that may still come
        self._past: set[int] = set()  # numbers of turns after that one that are over
        self._waiting: list[_Ticket] = []  # a heap
        self._ids = itertools.count()
        self._patience = _PATIENCE
        self._progress = time.monotonic()
        self._program = _Program()
        self._given: tuple[int, Branch | None] = (0, None)  # the thread that has the last answer, and its branch

    def wait(self, number: int) -> None:
        """Block until a turn may be given."""
        event, branch, own = threading.Event(), current_branch(), threading.get_ident()
        if self._given[0] == own:
            self._given = (0, None)  # it has done with its last answer
        with self._queue(number, event.set, self._program.is_alone()) as ticket:
            while ticket is not None and not event.wait(max(_PAUSE, self._time_left())):
                self._give_up_missing()
            if number:
                self._program.settle(lambda: is_running(*self._given))
        self._given = own, branch
        self.leave((number,))

    async def wait_async(self, number: int) -> None:
        """Wait until a turn may be given; other tasks go on. Under another library than asyncio, give it at once."""
        loop = own_loop()
        if loop is None:
            self.leave((number,))
            return
        import asyncio  # takes longer to import than all of this package; whoever awaits has imported it

        turn = loop.create_future()

        def let_through() -> None:
            if not turn.done():
                turn.set_result(None)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(let_through)

        with self._queue(number, wake, self._program.is_alone(tasks=True)) as ticket:
            while ticket is not None and not (await asyncio.wait([turn], timeout=max(_PAUSE, self._time_left())))[0]:
                self._give_up_missing()
            if number and not is_detached():
                self._program.settling += 1
                try:
                    await self._program.settle_async()
                finally:
                    self._program.settling -= 1
        self._given = (0, None)
        self.leave((number,))

    @contextlib.contextmanager
    def _queue(self, number: int, wake: Callable[[], object], is_alone: bool) -> Iterator[_Ticket | None]:
        """Stand in the queue; yield None if the turn has come already, or nothing else could come."""
        with self._lock:
            self._progress = time.monotonic()
            ticket = None if is_alone or number <= self._next else (number, next(self._ids), wake)
            if ticket is not None:
                heapq.heappush(self._waiting, ticket)
        try:
            yield ticket
        except BaseException:
            self.leave((number,))
            raise
        finally:
            with self._lock:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                    heapq.heapify(self._waiting)

    def leave(self, numbers: Iterable[int]) -> None:
        """Note that turns have been given, or are not going to be."""
        with self._lock:
            self._progress = time.monotonic()
            for number in numbers:
                self._counter.skip(number)
                if number >= self._next:
                    self._past.add(number)
            self._move_on()

    def give_up(self) -> None:
        """Wait no longer for turns that have not come: a call is missing."""
        self._patience = _HASTE

    def _time_left(self) -> float:
        return self._progress + self._patience - time.monotonic()

    def _give_up_missing(self) -> None:
        """If nothing has come for too long, go on with the first turn that waits."""
        with self._lock:
            if self._time_left() <= 0 and self._waiting:
                self._next, self._patience = max(self._next, self._waiting[0][0]), _HASTE
                self._move_on()

    def _move_on(self) -> None:
        while self._next in self._past:
            self._past.discard(self._next)
            self._next += 1
        for number, _, wake in self._waiting:
            if number <= self._next:
                wake()


class _Program:
    """The program that runs: whether it is done with the answers that it was given."""

    def __init__(self) -> None:
        self._tasks_before = _other_tasks()
        self._noisy: set[int] = set()  # threads that never rest
        self._has_noisy_loop = False
        self.settling = 0  # tasks that wait until the loop has nothing to do, each of which has a turn of the loop
        self._seconds = 0.0  # that were spent on looks at threads

    def is_alone(self, *, tasks: bool = False) -> bool:
        """Tell whether only the caller could ask for another answer now; other `tasks` can, unless it blocks."""
        is_child = threading.current_thread() is not threading.main_thread()
        return not (is_child or running_branches() or pending_work or (tasks and _other_tasks() - self._tasks_before))

    def settle(self, is_answer_in_use: Callable[[], bool]) -> None:
        """Block until the other threads wait, if they do soon."""
        for _ in self._looks(lambda: _QUIET_WITH_ANSWER if is_answer_in_use() else _QUIET):
            pass

    async def settle_async(self) -> None:
        """Wait until the loop has nothing to do and other threads wait, if they do soon."""
        import asyncio

        ready = getattr(asyncio.get_running_loop(), "_ready", None)  # uvloop has none
        deadline, quiet = time.monotonic() + _LONGEST, 0
        for turn in itertools.count():
            await asyncio.sleep(0)
            quiet = 0 if ready and len(ready) >= self.settling else quiet + 1
            if quiet >= _QUIET if ready is not None else turn > _LOOP_TURNS:
                break
            if turn > _LOOP_TURNS and (self._has_noisy_loop or time.monotonic() > deadline):
                self._has_noisy_loop = True
                break
        for _ in self._looks(lambda: _QUIET):
            await asyncio.sleep(0)

    def _looks(self, needed: Callable[[], int]) -> Iterator[None]:
        """Look at the other threads until so many looks as are needed have found them idle; yield before each look."""
        if not (threads := self._threads()):
            return
        start, before, quiet = time.monotonic(), _look(threads), 0
        while quiet < needed():
            time.sleep(self._pause())  # a timer of an event loop may take ten times as long
            yield
            quiet, before = self._compare(threads, before, quiet, start + _LONGEST)
        self._seconds += time.monotonic() - start

    def _pause(self) -> float:
        return _PAUSE if self._seconds < _CARE else _SHORT_PAUSE

    def _threads(self) -> set[int]:
        others = {thread.ident for thread in running_branches()} | {threading.main_thread().ident}
        return {ident for ident in others if ident is not None} - {threading.get_ident()} - self._noisy

    def _compare(
        self, threads: set[int], before: dict[int, object], quiet: int, deadline: float
    ) -> tuple[int, dict[int, object]]:
        """Look at the threads again; return how many looks in a row have found them idle, and what was seen."""
        now = _look(threads)
        busy = {ident for ident, seen in now.items() if seen != before.get(ident, [])} - self._noisy
        if not busy:
            return quiet + 1, now
        if time.monotonic() > deadline:
            self._noisy |= busy
            return _QUIET_WITH_ANSWER, now
        return 0, now


def _other_tasks() -> set[Any]:
    """Return the tasks of the running loop, but for the current one."""
    if own_loop() is None:
        return set()
    import asyncio

    tasks: set[Any] = asyncio.all_tasks() - {asyncio.current_task()}
    return tasks


def _look(threads: set[int]) -> dict[int, object]:
    """Return where each of some threads is; for one that is about to go on, a value that equals no other."""
    frames = sys._current_frames()
    seen: dict[int, object] = {ident: _position(frames[ident]) for ident in threads if ident in frames}
    # A loop that has been woken has something to do, and is still where it waits.
    seen[0] = [object() for loop, ident in known_loops() if ident in frames and _is_woken(loop, frames[ident])]
    return seen


def _is_woken(loop: Any, frame: FrameType) -> bool:
    return bool(frame.f_globals.get("__name__") == "selectors" and loop.is_running() and getattr(loop, "_ready", None))


def _position(frame: FrameType) -> object:
    # Python 3.11 may crash if the outer frames of a running thread are read.
    if frame.f_code is _WAIT:
        # The lock of a waiting thread is released to wake it, which may take a while on a busy machine.
        waiter = frame.f_locals.get("waiter")
        if waiter is not None and not waiter.locked():
            return object()
    return id(frame), frame.f_lasti


_WAIT = threading.Condition.wait.__code__


class TurnPause(msgspec.Struct, frozen=True):
    """The time to wait before a part of an answer is given: until its turn comes."""

    turnstile: Turnstile
    number: int


Pause = float | TurnPause
"""Seconds, or a turn."""


def wait(pause: Pause) -> None:
    """Block for the time of a pause."""
    if isinstance(pause, TurnPause):
        pause.turnstile.wait(pause.number)
    elif pause > 0:
        time.sleep(pause)


async def wait_async(pause: Pause) -> None:
    """Wait for the time of a pause; other tasks go on."""
    if isinstance(pause, TurnPause):
        await pause.turnstile.wait_async(pause.number)
    elif pause > 0:
        import asyncio

        await asyncio.sleep(pause)
