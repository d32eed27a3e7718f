"""Tools: a decorated function has the signature that it had, to type checkers and to `inspect`.

`PAIRS` has each with the function that was decorated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, assert_type, overload

import nbreplay as nr

_T = TypeVar("_T")


@dataclass
class Weather:
    city: str
    celsius: float


def plain(city: str, /, unit: str = "C", *, days: int = 1) -> Weather:
    """Return the weather."""
    return Weather(city + unit, days)


async def coroutine(city: str, *others: str, **options: float) -> list[Weather]:
    """Return the weather of several places."""
    return [Weather(place, options.get(place, 0.0)) for place in (city, *others)]


def generator(city: str, *, hours: int) -> Iterator[float]:
    """Yield temperatures."""
    yield from range(len(city) * hours)


async def async_generator(city: str) -> AsyncIterator[str]:
    """Yield words."""
    yield city


def generic(value: _T, times: int = 1) -> list[_T]:
    """Repeat a value."""
    return [value] * times


class Station:
    """Methods are tools as well."""

    @nr.tool
    def read(self, sensor: int) -> float:
        """Return what a sensor says."""
        return float(sensor)

    @nr.tool(name="read_later", ignore=["timeout"])
    async def read_later(self, sensor: int, timeout: float = 1.0) -> float:
        """Return what a sensor says, later."""
        return float(sensor + timeout)

    @nr.tool
    @staticmethod
    def names(prefix: str) -> list[str]:
        """Return the names of the sensors."""
        return [prefix]


PAIRS: list[tuple[object, object]] = [
    (plain, nr.tool(plain)),
    (plain, nr.tool()(plain)),
    (coroutine, nr.tool(coroutine)),
    (coroutine, nr.tool(name="places", raises=[KeyError])(coroutine)),
    (generator, nr.tool(generator)),
    (generator, nr.tool(returns=float)(generator)),
    (async_generator, nr.tool(async_generator)),
    (async_generator, nr.tool(name="words")(async_generator)),
    (generic, nr.tool(generic, returns=list[int])),
]


@nr.tool(raises=(ValueError,))
def divide(a: float, b: float = 2) -> float:
    """Divide."""
    return a / b


@overload
def half(value: int) -> int: ...
@overload
def half(value: str) -> str: ...
@nr.tool
def half(value: int | str) -> int | str:
    """Return half of a number or of a text."""
    return value // 2 if isinstance(value, int) else value[: len(value) // 2]


async def use() -> None:
    """The types of results."""
    assert_type(nr.tool(plain)("Tokyo", days=3), Weather)
    assert_type(nr.tool(plain)("Tokyo").celsius, float)
    assert_type(await nr.tool(coroutine)("Tokyo", "Oslo", wind=2.0), list[Weather])
    assert_type(nr.tool(generator)("Tokyo", hours=2), Iterator[float])
    assert_type(nr.tool(name="x")(async_generator)("Tokyo"), AsyncIterator[str])
    assert_type([word async for word in nr.tool(async_generator)("Tokyo")], list[str])
    assert_type(nr.tool(generic)(1), list[int])
    assert_type(nr.tool()(generic)("a", times=2), list[str])
    assert_type(divide(1, b=3), float)
    assert_type(half(3), int)
    assert_type(half("ab"), str)
    assert_type(Station().read(1), float)
    assert_type(await Station().read_later(1, timeout=2), float)
    assert_type(Station.names("a"), list[str])
    later: Callable[[str], Awaitable[list[Weather]]] = nr.tool(coroutine)
    await later("Tokyo")
