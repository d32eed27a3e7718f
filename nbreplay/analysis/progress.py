"""Progress of what takes long, on standard error: nothing at all in the first two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["told"]

_Item = TypeVar("_Item")
AFTER_S, EVERY_S = 2.0, 0.5


def told(items: Sequence[_Item], what: str) -> Iterator[_Item]:
    """Yield items; where that takes longer, say how many of them there were so far."""
    begun = time.monotonic()
    due, shown = begun + AFTER_S, False
    for number, item in enumerate(items):
        if number % 64 == 0 and time.monotonic() >= due:
            print(f"\rnbreplay: {number:,} of {len(items):,} {what}", end="", file=sys.stderr, flush=True)
            due, shown = time.monotonic() + EVERY_S, True
        yield item
    if shown:
        took = time.monotonic() - begun
        print(f"\rnbreplay: {len(items):,} {what} in {took:.1f} s", file=sys.stderr, flush=True)
