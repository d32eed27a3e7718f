"""What is made of the environment's variables, and made anew only when one of them has changed.

Reading them takes longer than a replayed call may. Whoever can watch them says so, and tells of each change; until
then they are read every time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Known", "changed", "refresh", "watched"]

_T = TypeVar("_T")
_GRACE = 1.0  # seconds; a change is told of just before it is made, and another thread may read in between
_all: list[Known[Any]] = []
_watched = False


class Known(Generic[_T]):
    """Something made of the environment.

    Parameters
    ----------
    read : callable
        Makes it.
    concerns : callable
        Tells of a variable's name whether it matters here.
    """

    def __init__(self, read: Callable[[], _T], concerns: Callable[[str], bool]) -> None:
        self._read, self._concerns = read, concerns
        self._made: tuple[_T] | None = None
        self._changed = 0.0
        _all.append(self)

    def __call__(self) -> _T:
        """Return it as it is now."""
        made = self._made
        if made is not None:
            return made[0]
        now = time.monotonic()
        value = self._read()
        if _watched and now > self._changed + _GRACE:
            self._made = (value,)
            if self._changed >= now:  # meanwhile, by another thread
                self._made = None
        return value

    def note(self, name: str) -> None:
        """Note that the variable `name` is changing."""
        if self._concerns(name):
            self._changed = time.monotonic()
            self.forget()

    def forget(self) -> None:
        """Read the variables anew, next time."""
        self._made = None


def watched() -> None:
    """From now on `changed` is called for every change."""
    global _watched
    _watched = True


def changed(name: str | bytes) -> None:
    """Take note that a variable is being set or taken away."""
    text = name if isinstance(name, str) else name.decode("utf-8", "replace")
    for known in _all:
        known.note(text)


def refresh() -> None:
    """Read all variables anew, next time: a session or a cell starts, whatever came by no change that is told of."""
    for known in _all:
        known.forget()
