"""A cell and its runs. A run has the cursors of its takes; outside any cell a session counts as one."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import sys
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.selection import choose_take, remove_take

if TYPE_CHECKING:
    import asyncio


class Cell(msgspec.Struct, frozen=True):
    """A notebook's cell."""

    id: str | None  # the cell's id, where the front end tells it
    number: int | None  # its execution count
    source: str  # its text, without its ``%%replay`` line, stripped

    @property
    def ref(self) -> CellRef:
        """The reference that a take stores: the id and a digest, never the text."""
        return CellRef(self.id, hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:8])

    def __str__(self) -> str:
        first = next((line for line in self.source.splitlines() if line.strip()), "")
        number = "[ ]" if self.number is None else f"[{self.number}]"
        return f"{number} {first[:60]}" + (f"  (id {self.id})" if self.id else "")


def utc(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    whole, millis = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{millis:03}Z"


Slot = tuple[str, str]
"""A store's identity and a key."""


class Run:
    """One run of a cell, or of a session outside any cell: its cursors and the takes that it has recorded.

    It `started` so many seconds after the epoch, or now. A take that was recorded before is an older run's.
    """

    def __init__(self, cell: Cell | None = None, started: float | None = None) -> None:
        self.cell = cell
        self.ref = cell.ref if cell else None
        self.started = utc(time.time() if started is None else started)
        self.lock = threading.Lock()
        self.views = itertools.count()  # numbers the displays of calls
        self._order: dict[Slot, int] = defaultdict(int)
        self._used: dict[tuple[bool, Slot], tuple[Take, ...]] = defaultdict(tuple)
        # The takes that are in the store, and the failures that wait for a good take, each with its place.
        self.written: dict[Slot, list[tuple[int, Take]]] = defaultdict(list)
        self.waiting: dict[Slot, list[tuple[int, Take]]] = defaultdict(list)

    def place(self, slot: Slot) -> int:
        """Reserve the place of one more take of `slot`: takes are kept in the order in which their requests started."""
        self._order[slot] += 1
        return self._order[slot]

    def next(
        self, slot: Slot, recording: Recording, host: str, ids: tuple[str, ...], *, replaying: bool
    ) -> tuple[Take | None, bool]:
        """Use the take that answers next, and return it as `choose_take` does."""
        rank = task_rank()
        with self.lock:
            left = self.unused_takes(slot, recording, replaying)
            take, foreign = choose_take(recording.takes, left, host, ids, self.ref, rank, replaying=replaying)
            if take is not None:
                self.use(slot, take, replaying)
        return take, foreign

    def unused_takes(self, slot: Slot, recording: Recording, replaying: bool) -> tuple[Take, ...]:
        """Return the takes of a recording that this run has not been given yet.

        Takes that ``record`` and ``auto`` have given do not count for ``replay``, so that one cell can record and then
        show that it replays.
        """
        if not (used := self._used[replaying, slot]):
            return recording.takes
        used_ids = {id(take) for take in used}
        left = tuple(take for take in recording.takes if id(take) not in used_ids)
        if len(left) + len(used) > len(recording.takes):
            # Another process has written the file since, so that equal takes are other objects now.
            left = recording.takes
            for take in used:
                left = tuple(remove_take(left, take))
        return left

    def count_refusal(self, slot: Slot, recording: Recording) -> int:
        """Note that replay had no take to give, and return how many times it has been asked for one."""
        takes = len(recording.takes) - len(self.unused_takes(slot, recording, True))
        return takes + self.place(slot)  # only such calls take places under replay

    def use(self, slot: Slot, take: Take, replaying: bool, *, instead_of: Take | None = None) -> None:
        """Note that `take` has been given; `instead_of` is the same take, when it was recorded only in part."""
        used = self._used[replaying, slot]
        if instead_of is None:
            self._used[replaying, slot] = (*used, take)
        else:
            self._used[replaying, slot] = tuple(take if other is instead_of else other for other in used)


# Not a context variable: worker threads and callbacks do not inherit one.
_runs: list[Run] = []


def current_run() -> Run | None:
    """Return the run of the cell that is running, or None outside any."""
    try:
        return _runs[-1]  # in one step, since another thread may end a cell meanwhile
    except IndexError:
        return None


def enter_run(run: Run) -> None:
    """Make `run` the current one."""
    _runs.append(run)


def leave_run(run: Run) -> None:
    """End `run`; cells may end in any order."""
    with contextlib.suppress(ValueError):
        _runs.remove(run)


# The rank of a task must not change when its siblings have ended.
_places: WeakKeyDictionary[asyncio.Task[Any], tuple[int, int] | None] = WeakKeyDictionary()
_families = itertools.count()


def task_rank() -> int | None:
    """Return the rank of the running task among its siblings, from 0, or None where it has none or no number."""
    place = task_place()
    return place and place[1]


def task_place() -> tuple[int, int] | None:
    """Return a number for the running task and its siblings, and its rank among them, from 0.

    Tasks do not ask in the order in which they were made: several SDKs look their platform up in a thread before a
    client's first request, and threads end as they like.

    Siblings run the same coroutine function and were there when the first of them asked, as the tasks of one
    ``asyncio.gather`` or ``asyncio.TaskGroup`` were. They are counted in the order of their making.
    """
    asyncio = sys.modules.get("asyncio")  # a program that has not imported it has no tasks
    if asyncio is None or asyncio._get_running_loop() is None or (task := asyncio.current_task()) is None:
        return None
    if task not in _places:
        siblings = [other for other in asyncio.all_tasks() if _code(other) is _code(task) and other not in _places]
        # The name of a task is the only place where asyncio tells its number.
        names = {other: re.fullmatch(r"Task-(\d+)", other.get_name()) for other in siblings}
        numbers = {other: int(match[1]) for other, match in names.items() if match}
        if task not in numbers or len(numbers) == 1:
            _places[task] = None
        else:
            family = next(_families)
            _places.update((other, (family, at)) for at, other in enumerate(sorted(numbers, key=numbers.__getitem__)))
    return _places[task]


def _code(task: asyncio.Task[Any]) -> object:
    # A coroutine without code, such as a compiled one, has no siblings.
    return getattr(task.get_coro(), "cr_code", task)
