"""Which of the asyncio tasks that were made together asks.

The order in which they ask is not the order in which they were made: several SDKs look their
platform up in a thread before a client's first request, and threads end as they like.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import asyncio

__all__ = ["task_rank"]

# The rank of a task must not change when its siblings have ended.
_ranks: WeakKeyDictionary[asyncio.Task[Any], int | None] = WeakKeyDictionary()


def task_rank() -> int | None:
    """Return the place of the running task among its siblings, from 0, or None where it has none or no number.

    Siblings run the same coroutine function and were there when the first of them asked, as the tasks of one
    ``asyncio.gather`` or ``asyncio.TaskGroup`` were. They are counted in the order of their making.
    """
    asyncio = sys.modules.get("asyncio")  # where nobody has imported it there is no task
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    task = asyncio.current_task()
    if task is None:
        return None
    if task not in _ranks:
        siblings = [other for other in asyncio.all_tasks() if _code(other) is _code(task) and other not in _ranks]
        numbers = {other: number for other in siblings if (number := _number(other)) is not None}
        alone = task not in numbers or len(numbers) == 1
        ranked = [task] if alone else sorted(numbers, key=numbers.__getitem__)
        _ranks.update((other, None if alone else at) for at, other in enumerate(ranked))
    return _ranks[task]


def _code(task: asyncio.Task[Any]) -> object:
    # Whatever has no code, such as a compiled coroutine, is nobody's sibling.
    return getattr(task.get_coro(), "cr_code", task)


def _number(task: asyncio.Task[Any]) -> int | None:
    """Return the number that asyncio gave a task; its name is the only place where it is told."""
    head, _, number = task.get_name().partition("-")
    return int(number) if head == "Task" and number.isdecimal() else None
