"""What is switched on in this process: the sessions, innermost last, and the runs of cells.

Not a context variable: worker threads and callbacks do not inherit one, and would go live unnoticed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from nbreplay.core.cell import Run

if TYPE_CHECKING:
    from nbreplay.core.session import Session

__all__ = ["current", "current_run", "enter", "enter_run", "leave", "leave_run", "on_change", "sessions"]

# Replaced as a whole, so that a call in another thread sees the one or the other.
_sessions: tuple[Session, ...] = ()
_runs: tuple[Run, ...] = ()
_listeners: list[Callable[[], None]] = []
_lock = threading.RLock()


def current() -> Session | None:
    """Return the innermost session, or None."""
    known = _sessions
    return known[-1] if known else None


def sessions() -> tuple[Session, ...]:
    """Return all sessions that are switched on, outermost first."""
    return _sessions


def enter(session: Session) -> None:
    """Make `session` the innermost."""
    global _sessions
    with _lock:
        _sessions = (*_sessions, session)
        try:
            _tell()
        except BaseException:
            leave(session)
            raise


def leave(session: Session) -> None:
    """Switch `session` off; sessions may end in any order."""
    global _sessions
    with _lock:
        for index in range(len(_sessions) - 1, -1, -1):
            if _sessions[index] is session:
                _sessions = _sessions[:index] + _sessions[index + 1 :]
                break
        _tell()


def current_run() -> Run | None:
    """Return the run of the cell that is running, or None outside any."""
    known = _runs
    return known[-1] if known else None


def enter_run(run: Run) -> None:
    """A cell has started."""
    global _runs
    with _lock:
        _runs = (*_runs, run)


def leave_run(run: Run) -> None:
    """A cell has ended."""
    global _runs
    with _lock:
        _runs = tuple(known for known in _runs if known is not run)


def on_change(listener: Callable[[], None]) -> None:
    """Have `listener` called whenever a session starts or ends."""
    if listener not in _listeners:
        _listeners.append(listener)


def _tell() -> None:
    for listener in _listeners:
        listener()
