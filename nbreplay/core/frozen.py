"""Dataclasses that nothing changes once they are made, and telling equal ones apart."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform

__all__ = ["frozen", "identity"]

identity: Callable[[object], int] = object.__hash__
"""Tells objects apart whatever they hold, as `id` does. Python tells audit hooks of every `id`; the guard is one."""

_Kind = TypeVar("_Kind")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: type[_Kind]) -> type[_Kind]:
    """Make a dataclass, read-only to type checkers, and not made three times as slowly for it.

    What ``frozen=True`` does while a program runs costs more than making the object. What compares and shows them is
    shared by all: writing and compiling it for each class takes half of the time that defining one takes, and importing
    nbreplay is mostly that. What is made in every call is a `msgspec.Struct` instead: making one runs no Python.
    """
    made: Any = dataclass(slots=True, eq=False, repr=False)(kind)
    shared: dict[str, Any] = {"__eq__": _equal, "__hash__": _hash, "__repr__": _shown}
    for name, method in shared.items():
        if vars(kind).get(name) is None:
            setattr(made, name, method)
    return made  # type: ignore[no-any-return]


def _equal(self: Any, other: Any) -> Any:
    values = _compared(type(self))  # type: ignore[arg-type]
    if type(other) is not type(self):
        return NotImplemented
    return values(self) == values(other)


def _hash(self: Any) -> int:
    return hash(_hashed(self.__class__)(self))


@recursive_repr()
def _shown(self: Any) -> str:
    told = ", ".join(f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{self.__class__.__qualname__}({told})"


@functools.cache
def _compared(kind: Any) -> Callable[[object], Any]:
    return _values([item.name for item in fields(kind) if item.compare])


@functools.cache
def _hashed(kind: Any) -> Callable[[object], Any]:
    return _values([item.name for item in fields(kind) if (item.compare if item.hash is None else item.hash)])


def _values(names: list[str]) -> Callable[[object], Any]:
    return operator.attrgetter(*names) if names else lambda _: ()
