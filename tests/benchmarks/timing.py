"""Two clocks, sides that take turns under them, and the figures that come of it."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nbreplay.intercept import registry

__all__ = ["Figure", "Side", "Spent", "added", "alone", "bare", "interleaved", "ratio"]

Body = Callable[[], None]
Side = Callable[[], contextlib.AbstractContextManager[Body]]
"""One side of a comparison: entering it sets up, what it gives is timed, leaving it cleans up."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the wall and of this process's CPU, or what was made of them."""

    wall: float
    cpu: float


@contextlib.contextmanager
def bare(body: Body) -> Iterator[Body]:
    """Be the side without nbreplay: all hooks are taken back first."""
    registry.undo()
    yield body


def interleaved(rounds: int, **sides: Side) -> dict[str, list[Spent]]:
    """Time every side in every round, the order turning from round to round; one round before them does not count."""
    spent: dict[str, list[Spent]] = {name: [] for name in sides}
    for number in range(-1, rounds):
        names = list(sides)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            with sides[name]() as body:
                gc.collect()
                wall, cpu = time.perf_counter(), time.process_time()
                body()
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if number >= 0:
                spent[name].append(Spent(wall, cpu))
    return spent


@dataclass(frozen=True, slots=True)
class Figure:
    """One row.

    Attributes
    ----------
    name : str
    measured : float
        The median over the rounds, by `clock`.
    target : float or None
        At most this much; None where the figure is there to compare others with.
    unit, clock : str
    low, high : float or None
        The quartiles.
    best : float or None
        The same of the fastest round of each side, which other work on the machine disturbed least.
    other : float or None
        The median by the other clock.
    """

    name: str
    measured: float
    target: float | None
    unit: str = "x"
    clock: str = ""
    low: float | None = None
    high: float | None = None
    best: float | None = None
    other: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.measured <= self.target

    def row(self) -> dict[str, Any]:
        """Return the figure as JSON."""
        return {**asdict(self), "met": self.met}


def ratio(name: str, over: Sequence[Spent], under: Sequence[Spent], target: float | None, clock: str = "cpu") -> Figure:
    """Return how many times as long `over` takes as `under`, by the CPU's clock or by the one on the wall."""
    values = [Spent(a.wall / b.wall, a.cpu / b.cpu) for a, b in zip(over, under, strict=True)]
    a, b = _fastest(over), _fastest(under)
    best = Spent(a.wall / b.wall, a.cpu / b.cpu)
    return _figure(name, values, best, target, "x", clock)


def added(name: str, over: Sequence[Spent], under: Sequence[Spent], factor: float, target: float, unit: str) -> Figure:
    """Return how much longer `over` takes than `under`, by the clock on the wall."""
    values = [Spent((a.wall - b.wall) * factor, (a.cpu - b.cpu) * factor) for a, b in zip(over, under, strict=True)]
    a, b = _fastest(over), _fastest(under)
    best = Spent((a.wall - b.wall) * factor, (a.cpu - b.cpu) * factor)
    return _figure(name, values, best, target, unit, "wall")


def alone(
    name: str, spent: Sequence[Spent], factor: float, target: float | None, unit: str, clock: str = "wall"
) -> Figure:
    """Return how long something takes, compared with nothing."""
    values = [Spent(item.wall * factor, item.cpu * factor) for item in spent]
    return _figure(name, values, _fastest(values), target, unit, clock)


def _fastest(spent: Sequence[Spent]) -> Spent:
    return Spent(min(item.wall for item in spent), min(item.cpu for item in spent))


def _figure(name: str, values: Sequence[Spent], best: Spent, target: float | None, unit: str, clock: str) -> Figure:
    by = {which: [getattr(value, which) for value in values] for which in ("cpu", "wall")}
    low, middle, high = statistics.quantiles(by[clock], n=4, method="inclusive") if len(values) > 1 else by[clock] * 3
    other = statistics.median(by["wall" if clock == "cpu" else "cpu"])
    return Figure(name, middle, target, unit, clock, low, high, getattr(best, clock), other)
