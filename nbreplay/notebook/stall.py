"""A cell that waits for ever after a miss: it is interrupted some seconds later.

A framework may lose the exception of a miss, such as one that passes on nothing but `Exception` from its tasks, and
then wait for a result that never comes. A cell that goes on working after a miss, sleeps or waits for a child process
is left alone.
"""

from __future__ import annotations

import _thread
import contextlib
import linecache
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from msgspec.structs import replace

from nbreplay.core import log as logs
from nbreplay.core.strand import known_loops, own_loop, running_branches
from nbreplay.intercept.processes.parent import parent

_SECONDS = 5.0  # for which a cell must have been idle
_PAUSE = 0.5
_BUSY = 0.03  # the share of a processor that is more than waiting takes
_SOON = 60.0  # seconds; a timer that is due later does not keep a cell waiting
_THREAD_MODULES = ("concurrent.futures.thread", "threading")
# The functions in which `subprocess` waits for output; an event loop has another one.
_SELECTS = ("PollSelector.select", "_PollLikeSelector.select")

NOTE = "After this the cell waited for ever, so it was interrupted"
"""The sentence that is added to a miss."""


class StallWatch:
    """Watches the cell that runs, once a call of it is missing."""

    def __init__(self) -> None:
        self._over: threading.Event | None = None  # of the cell that runs; set when it has ended
        self._is_watching = False
        self._loop: Any = None  # in which the cell runs
        self._calls = 0
        self._miss: tuple[logs.Log, int] | None = None
        self._is_polling = False
        self._ends = logs.watch_calls(self._note), parent.on_start(self._poll_children)

    def stop(self) -> None:
        """Watch no cell from now on."""
        for end in self._ends:
            end()

    def begin(self) -> None:
        """Note that a cell starts."""
        self.end()
        self._over, self._loop = threading.Event(), own_loop()

    def end(self) -> None:
        """Note that the cell has ended."""
        if self._over is not None:
            self._over.set()
        self._over, self._is_watching, self._is_polling = None, False, False

    def _poll_children(self) -> None:
        """Look for misses of child processes, for which the cell may wait. They cannot call `_note` here."""
        over = self._over
        if over is not None and not self._is_polling:
            self._is_polling = True
            _start(self._poll, over, "nbreplay child watch")

    @staticmethod
    def _poll(over: threading.Event) -> None:
        while not over.wait(_PAUSE):
            parent.receive()

    def _note(self, log: logs.Log, place: int) -> None:
        self._calls += 1
        call = log.at(place)
        over = self._over
        if over is None or call is None or call.outcome != "missing":
            return
        self._miss = log, place
        if not self._is_watching:
            self._is_watching = True
            _start(self._watch, over, "nbreplay stall watch")

    def _watch(self, over: threading.Event) -> None:
        idle_since, before = time.monotonic(), self._state()
        while not over.wait(_PAUSE):
            now = self._state()
            spent = now[0] - before[0]
            if now[1:] != before[1:] or spent > _BUSY * _PAUSE or _is_waiting_for_something(self._loop):
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _SECONDS:
                self._interrupt(over)
                idle_since = time.monotonic()
            before = now

    def _state(self) -> tuple[float, int, object]:
        return time.process_time(), self._calls, {ident: (frame.f_code, frame.f_lasti) for ident, frame in _frames()}

    def _interrupt(self, over: threading.Event) -> None:
        if self._miss is not None and not over.is_set():
            log, place = self._miss
            call = log.at(place)
            if call is not None and NOTE not in call.note:
                log.finish(place, replace(call, note=f"{call.note}\n{NOTE}"))
            main = threading.main_thread().ident or 0
            if hasattr(signal, "pthread_kill"):  # wakes the main thread, whatever it waits for
                signal.pthread_kill(main, signal.SIGINT)
            else:
                _thread.interrupt_main()
            over.wait(_PAUSE)
            # ipykernel's handler leaves a callback in the loop, which does not wake for it.
            with contextlib.suppress(AttributeError, RuntimeError):  # there is none, or it is closed
                self._loop.call_soon_threadsafe(int)


def _start(watch: Callable[[threading.Event], None], over: threading.Event, name: str) -> None:
    with contextlib.suppress(RuntimeError):  # without threads, no cell is watched
        threading.Thread(target=watch, args=(over,), name=name, daemon=True).start()


def _frames() -> list[tuple[int, FrameType]]:
    """Return the innermost frames of the threads that run a program's code."""
    frames = sys._current_frames()
    idents = [threading.main_thread().ident, *(thread.ident for thread in running_branches())]
    return [(ident, frames[ident]) for ident in idents if ident in frames]


def _is_waiting_for_something(loop: Any) -> bool:
    """Tell whether a thread sleeps or waits for a child process, or a loop has a timer that is due soon."""
    # Only the innermost frames: Python 3.11 may crash if the outer frames of a running thread are read.
    for _, frame in _frames():
        waits = frame.f_globals.get("__name__") == "subprocess" or frame.f_code.co_qualname in _SELECTS
        # A thread or a pool that runs a function without frames, such as `time.sleep`.
        waits |= frame.f_code.co_name == "run" and frame.f_globals.get("__name__") in _THREAD_MODULES
        if waits or "sleep(" in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            return True
    return any(_has_timer(each) for each in [*(each for each, _ in known_loops()), loop] if each is not None)


def _has_timer(loop: Any) -> bool:
    now: float = loop.time()
    return any(not timer.cancelled() and timer.when() < now + _SOON for timer in list(getattr(loop, "_scheduled", ())))
