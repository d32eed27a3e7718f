"""Short sleeps in a kernel: a thread that has replayed a call in a cell need not wait as long as for the service.

So a cell that polls a batch job ends at once. Clocks are not changed. A thread that replays nothing sleeps as it would,
since it may wait for real work, such as a server that starts; and so does a cell before its first replayed call.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from nbreplay.core.cell import Run, current_run
from nbreplay.core.log import Log, watch_calls

_SHORTEST = 0.1  # seconds; shorter ones are left as they are
_DIVISOR = 1000  # not zero seconds: who sleeps longer than another still wakes after it

_replaying: dict[int, Run | None] = {}  # threads, each with the cell in which it has replayed a call


def install() -> None:
    """Replace `time.sleep` and `asyncio.sleep` for the rest of this process."""
    sleep, sleep_in_loop = time.sleep, asyncio.sleep

    def our_sleep(seconds: float, /) -> None:
        sleep(_shorten(seconds))

    async def our_sleep_in_loop(delay: float, result: Any = None) -> Any:
        return await sleep_in_loop(_shorten(delay), result)

    time.sleep = our_sleep  # type: ignore[assignment]
    asyncio.sleep = asyncio.tasks.sleep = our_sleep_in_loop
    watch_calls(_note_call)


def _note_call(log: Log, place: int) -> None:
    call = log.at(place)
    if call is not None and call.outcome == "replayed":
        _replaying[threading.get_ident()] = current_run()
    else:
        _replaying.pop(threading.get_ident(), None)


def _shorten(seconds: float) -> float:
    run = current_run()
    replays = run is not None and _replaying.get(threading.get_ident()) is run
    return seconds / _DIVISOR if replays and seconds >= _SHORTEST else seconds
