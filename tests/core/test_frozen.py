"""Values compare, hash and show themselves as dataclasses do."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from nbreplay.core.frozen import frozen


@frozen
class Ours:
    one: int
    two: Any = ()
    quiet: Any = field(default=None, repr=False, compare=False)
    unhashed: Any = field(default=None, hash=False)


@dataclass(slots=True, unsafe_hash=True)
class Theirs:
    one: int
    two: Any = ()
    quiet: Any = field(default=None, repr=False, compare=False)
    unhashed: Any = field(default=None, hash=False)


@frozen
class Single:
    only: Any


@frozen
class Own:
    only: int

    def __repr__(self) -> str:
        return "own"


@pytest.mark.parametrize("given", [(1,), (1, (2, 3)), (1, "é", [4]), (1, (), None, [5])], ids=str)
def test_as_a_dataclass_does(given: tuple[Any, ...]) -> None:
    ours, theirs = Ours(*given), Theirs(*given)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert hash(ours) == hash(theirs)
    assert ours == Ours(*given)
    assert ours != Ours(2)
    assert (ours == replace(ours, quiet="other")) is (theirs == replace(theirs, quiet="other")) is True
    assert (ours == replace(ours, unhashed=1)) is (theirs == replace(theirs, unhashed=1)) is False
    assert ours != theirs
    assert pickle.loads(pickle.dumps(ours)) == copy.deepcopy(ours) == ours
    assert not hasattr(ours, "__dict__")


def test_with_one_field_and_with_methods_of_its_own() -> None:
    assert Single(1) == Single(1) != Single(2)
    assert {Single((1,)): "a"}[Single((1,))] == "a"
    assert repr(Own(1)) == "own"
    within = Single(None)
    within.only = within  # type: ignore[misc]
    assert repr(within) == "Single(only=...)"
    with pytest.raises(TypeError, match="unhashable"):
        hash(Single([]))
