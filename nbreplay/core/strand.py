"""The strand of a call: the asyncio task or the thread that makes it, and its rank among others like it."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import re
import sys
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

import msgspec

if TYPE_CHECKING:
    import asyncio

Place = tuple[Hashable, int]
"""What tells a family of siblings from others, and the rank of one of them, from 0."""


def strand_place() -> Place | None:
    """Return the place of the running task, else that of the thread; None if it has no siblings."""
    branch = current_branch()
    return task_place() or (branch.place if branch else None)


# The rank of a task must not change when its siblings have ended.
_places: WeakKeyDictionary[asyncio.Task[Any], Place | None] = WeakKeyDictionary()
_families = itertools.count()


def task_rank() -> int | None:
    """Return the rank of the running task among its siblings, from 0, or None if it has no siblings or no number."""
    place = task_place()
    return place and place[1]


def task_place() -> Place | None:
    """Return a number for the running task and its siblings, and its rank among them, from 0.

    Tasks do not ask in the order in which they were made: several SDKs look their platform up in a thread before a
    client's first request, and threads end as they like.

    Siblings run the same coroutine function and were there when the first of them asked, as the tasks of one
    ``asyncio.gather`` or ``asyncio.TaskGroup`` were. They are counted in the order of their making.
    """
    if own_loop() is None or is_detached():
        return None
    import asyncio

    if (task := asyncio.current_task()) is None:
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


_detached = contextvars.ContextVar("nbreplay_detached", default=False)


def detach_task() -> None:
    """Take the running task, and those that it starts, out of the program: it serves callers in other processes."""
    _detached.set(True)


is_detached: Callable[[], bool] = _detached.get
"""Return whether the running task serves a caller in another process, whose strands are not known."""


def _code(task: asyncio.Task[Any]) -> object:
    # A coroutine without code, such as a compiled one, has no siblings.
    return getattr(task.get_coro(), "cr_code", task)


# Threads, and the work items of their pools. A thread has no name of its own that stays the same.


class Branch(msgspec.Struct, frozen=True, eq=False):
    """A thread that a run has started, or a work item of a pool of threads."""

    path: str  # its rank among its siblings, after those of the strands that it comes from: ``0``, ``2.1``
    place: Place


class Branches:
    """Numbers the threads and work items of a run that begin with the same function, in the order of their making."""

    def __init__(self) -> None:
        self._counts: dict[Hashable, Iterator[int]] = {}

    def number(self, function: Any, args: tuple[Any, ...] = ()) -> Branch:
        """Return the next branch of the strand that runs now; it is going to call `function` with `args`."""
        if (loop := own_loop()) is not None:
            _note_loop(loop)
        parent, task = thread_path(), task_rank()
        parent = parent if task is None else _join(parent, task)
        family = parent, *_name(function, args)
        rank = next(self._counts.setdefault(family, itertools.count()))
        return Branch(_join(parent, rank), ((self, family), rank))


def current_branch() -> Branch | None:
    """Return the branch that runs in this thread, or None."""
    return vars(threading.current_thread()).get(_BRANCH)


def set_branch(thread: threading.Thread, branch: Branch | None) -> None:
    """Set the branch that runs in a thread."""
    vars(thread)[_BRANCH] = branch


pending_work: WeakSet[Any] = WeakSet()
"""The work items of pools that have not ended."""


# The event loops in which branches were made, such as those of `asyncio.to_thread`, with their threads.
_loops: tuple[tuple[ref[Any], int], ...] = ()


def known_loops() -> list[tuple[Any, int]]:
    """Return the event loops in which branches were made, each with the number of its thread."""
    return [(loop, ident) for reference, ident in _loops if (loop := reference()) is not None]


def _note_loop(loop: Any) -> None:
    global _loops  # rebound, since other threads iterate over it
    if all(loop is not other for other, _ in known_loops()):
        with contextlib.suppress(TypeError):  # it cannot be referred to weakly
            alive = [item for item in _loops if item[0]() is not None]
            _loops = (*alive, (ref(loop), threading.get_ident()))


def own_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, or None."""
    module = sys.modules.get("asyncio")  # a program that has not imported it has no loops
    loop: asyncio.AbstractEventLoop | None = module._get_running_loop() if module else None
    return loop


def running_branches() -> list[threading.Thread]:
    """Return the other threads that run a branch."""
    own = threading.current_thread()
    return [thread for thread in threading.enumerate() if thread is not own and vars(thread).get(_BRANCH)]


def is_running(ident: int, branch: Branch | None) -> bool:
    """Tell whether a thread is alive and still runs a branch, or none as before."""
    thread = next((thread for thread in threading.enumerate() if thread.ident == ident), None)
    return thread is not None and vars(thread).get(_BRANCH) is branch


def thread_path() -> str:
    """Return the path of the branch that runs in this thread, ``""`` outside any."""
    branch = current_branch()
    return branch.path if branch else ""


_BRANCH = "_nbreplay_branch"


def _join(path: str, rank: int) -> str:
    return f"{path}.{rank}" if path else str(rank)


def _name(function: Any, args: tuple[Any, ...]) -> tuple[str, str]:
    """Return module and name of a function, which asyncio and others call through its context."""
    while True:
        if isinstance(function, functools.partial):
            function, args = function.func, (*function.args, *args)
        elif args and isinstance(getattr(function, "__self__", None), contextvars.Context):
            function, *rest = args
            args = tuple(rest)
        else:
            named = function if hasattr(function, "__qualname__") else type(function)
            return str(named.__module__), named.__qualname__
