"""The benchmark of installations knows which dependency brings which packages, and times every start."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.install import STARTS, Package, brought_alone, measure_starts


def test_a_package_that_two_dependencies_require_is_brought_by_neither_alone() -> None:
    packages = [
        Package("nbreplay", 1, ("a", "b", "c")),
        Package("a", 10, ("shared", "own")),
        Package("b", 20, ("shared", "absent")),
        Package("c", 30, ("b",)),
        Package("own", 40, ()),
        Package("shared", 50, ()),
    ]
    alone = {name: {one.name for one in every} for name, every in brought_alone(packages).items()}
    assert alone == {"a": {"a", "own"}, "b": set(), "c": {"c"}}


@pytest.mark.full
def test_every_start_is_timed() -> None:
    (times,) = measure_starts({"nbreplay": sys.executable}, 1).values()
    assert list(times) == list(STARTS)
    assert all(seconds > 0 for seconds in times.values())
