"""One way out of a process: what it does, and what becomes of it under replay."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["HELD", "NAMED", "WAYS", "Way", "way"]

HELD = "refused, and the run fails"
NAMED = "named"


@dataclass(frozen=True)
class Way:
    """A way out.

    Attributes
    ----------
    group, name : str
    attempt : callable
        Takes the `Outside`; what it does before it yields is done before the session starts.
    expected : str
        `HELD` or `NAMED`.
    needs : str
        Modules and programs that it needs.
    reaches : bool
        Whether it reaches the outside where nothing replays.
    """

    group: str
    name: str
    attempt: Callable[[Any], Any]
    expected: str = HELD
    needs: str = ""
    reaches: bool = True

    @property
    def missing(self) -> list[str]:
        """What of its needs is not here."""
        return [need for need in self.needs.split() if not (_is_module(need) or shutil.which(need))]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


WAYS: list[Way] = []


def way(
    group: str, name: str, expected: str = HELD, *, needs: str = "", reaches: bool = True
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Add a function to the table."""

    def add(attempt: Callable[[Any], Any]) -> Callable[[Any], Any]:
        WAYS.append(Way(group, name, attempt, expected, needs, reaches))
        return attempt

    return add
