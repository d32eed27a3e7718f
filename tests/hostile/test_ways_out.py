"""Under replay no way out is silent: each is refused and fails the run, or is named."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.core.log import find_uncovered
from nbreplay.core.words import FAILURES
from nbreplay.intercept import registry
from tests.hostile import ways_out
from tests.hostile.outside import Outside
from tests.hostile.ways import HELD, WAYS, Way

DOCS = Path(__file__).resolve().parents[2] / "docs" / "ways-out.md"

# Libraries warn of sockets that were not closed where a connection is refused, and of forks where there are threads.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def outside() -> Iterator[Outside]:
    """The outside, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        made = Outside(Path(folder))
        try:
            yield made
        finally:
            made.stop()


def attempt(way: Way, outside: Outside, replaying: contextlib.AbstractContextManager[object]) -> int:
    """Try a way out; return what of it arrived outside."""
    steps = way.attempt(outside)
    if not inspect.isgenerator(steps):
        raise TypeError("a way that was not begun")
    next(steps)
    before = outside.count
    with replaying, contextlib.suppress(Exception, nr.RecordingMissing):
        next(steps, None)
    return outside.count - before


def steps_of(way: Way) -> Way:
    """Return a way that does nothing before it yields, where it does not yield itself."""
    if inspect.isgeneratorfunction(way.attempt):
        return way

    def attempt_(outside: Outside) -> Iterator[None]:
        yield
        way.attempt(outside)

    return Way(way.group, way.name, attempt_, way.expected, way.needs, way.reaches)


def is_possible(way: Way, outside: Outside) -> None:
    if way.missing:
        pytest.skip(f"needs {', '.join(way.missing)}")
    if "IPv6" in way.name and not outside.port6:
        pytest.skip("no IPv6 here")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.group}: {way.name}".replace("`", ""))
def test_no_way_out_is_silent(way: Way, outside: Outside, store: Path) -> None:
    is_possible(way, outside)
    session = nr.session(store, mode="replay")
    arrived = attempt(steps_of(way), outside, session)
    outcomes = [item.outcome for item in session.interactions]
    if way.expected == HELD:
        assert arrived == 0, (arrived, outcomes, find_uncovered([session.log]))
        assert set(outcomes) & set(FAILURES), "the run fails"
        assert not set(outcomes) - set(FAILURES)
    else:
        assert find_uncovered([session.log]), "it is named"
        assert not outcomes


@pytest.mark.full(quick=12)
@pytest.mark.parametrize("way", [way for way in WAYS if way.reaches], ids=lambda way: f"{way.group}: {way.name}")
def test_the_same_way_is_open_without_a_session(way: Way, outside: Outside) -> None:
    """So that what is refused would have worked."""
    is_possible(way, outside)
    registry.undo()
    arrived, until = attempt(steps_of(way), outside, contextlib.nullcontext()), time.monotonic() + 5
    before = outside.count
    while not arrived and time.monotonic() < until:  # a library may send in the background
        time.sleep(0.05)
        arrived = outside.count - before
    assert arrived > 0


def test_there_are_many_ways() -> None:
    assert len(WAYS) >= 80
    assert len({(way.group, way.name) for way in WAYS}) == len(WAYS)


def test_the_docs_have_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert ways_out.TABLE in text
    assert ways_out.counts() in text
