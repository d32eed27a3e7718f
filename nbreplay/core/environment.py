"""What is made of the environment's variables, and made anew only when one of them has changed.

Reading them takes longer than a replayed call may. Whoever can watch them says so, and tells of each change; until
then they are read every time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Known", "changing", "refresh", "watched"]

_T = TypeVar("_T")
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

    Attributes
    ----------
    made : tuple or None
        What calling it returns, alone in a tuple; None where it has to be made first.
    """

    def __init__(self, read: Callable[[], _T], concerns: Callable[[str], bool]) -> None:
        self._read, self._concerns = read, concerns
        self.made: tuple[_T] | None = None
        self._changes: dict[str, str | None] = {}
        self._count = 0
        _all.append(self)

    def __call__(self) -> _T:
        """Return it as it is now."""
        made = self.made
        if made is not None:
            return made[0]
        count = self._count
        # A change is told of before it is made, and another thread may come in between: then this is not kept.
        settled = _watched and all(os.environ.get(name) == value for name, value in list(self._changes.items()))
        value = self._read()
        if settled:
            self.made = (value,)
            if self._count != count:
                self.made = None
        return value

    def note(self, name: str, value: str | None) -> None:
        """Note that the variable `name` is about to be `value`."""
        if self._concerns(name):
            self._changes[name] = value
            self._count += 1
            self.made = None

    def forget(self) -> None:
        """Read the variables anew, next time."""
        self.made = None


def watched() -> None:
    """From now on `changing` is called before every change."""
    global _watched
    _watched = True


def changing(name: str | bytes, value: str | bytes | None = None) -> None:
    """Take note that a variable is about to be set, or taken away."""
    for known in _all:
        known.note(os.fsdecode(name), None if value is None else os.fsdecode(value))


def refresh() -> None:
    """Read all variables anew, next time: a session or a cell starts, whatever came by no change that is told of."""
    for known in _all:
        known.forget()
