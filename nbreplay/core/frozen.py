"""Dataclasses that nothing changes once they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["frozen"]

_Kind = TypeVar("_Kind")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: type[_Kind]) -> type[_Kind]:
    """Make a dataclass, read-only to type checkers, and not made three times as slowly for it.

    What ``frozen=True`` does while a program runs costs more than making the object, and half a dozen are made in a
    replayed call, and one for each chunk.
    """
    return dataclass(slots=True, unsafe_hash=True)(kind)
