"""`nbreplay.tool`: what a function returned or raised comes back as it was, and its body is not entered again."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import math
import pickle
import re
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

import nbreplay as nr
from tests.clients import call, chat, outcomes, recordings, sdk, takes
from tests.provider import Provider


class Weather(BaseModel):
    city: str
    degrees: float
    seen: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


class Row(TypedDict):
    name: str


class OddError(Exception):
    pass


FRAME = pd.DataFrame(
    {"n": [1, 2], "x": [0.1, 1e-17], "s": ["a", None], "t": pd.to_datetime(["2026-01-31T00:00", "2026-02-01T10:00"])},
    index=["p", "q"],
)

# (a function's annotation, what it returns)
RESULTS: dict[str, tuple[Any, Any]] = {
    "json": (None, {"a": [1, 2.5, None, True, "\u6f22"], "b": {}}),
    "text": (str, "18 degrees"),
    "nothing": (None, None),
    "a model": (Weather, Weather(city="Tokyo", degrees=0.1 + 0.2, seen=datetime.datetime(2026, 1, 31, 10))),
    "models": (list[Weather], [Weather(city="a", degrees=1), Weather(city="b", degrees=2)]),
    "a dataclass": (Point, Point(1, 2)),
    "a tuple": (tuple[int, Point], (1, Point(3, 4))),
    "a set": (set[str], {"a", "b"}),
    "a typed dict": (Row, {"name": "x"}),
    "a union": (Point | None, None),
    "a date": (datetime.date, datetime.date(2026, 1, 31)),
    "bytes": (None, bytes(range(256))),
    "annotated bytes": (bytes, b"\xff\x00"),
    "a frame": (pd.DataFrame, FRAME),
    "an unannotated frame": (None, FRAME),
    "an empty frame": (pd.DataFrame, pd.DataFrame({"a": []})),
}


def made(annotation: Any, value: Any, kind: str, entered: list[int]) -> Callable[[], Any]:
    """A tool that returns `value`, sync or async."""

    def plain(city: str = "Tokyo") -> Any:
        entered.append(1)
        return value

    async def awaited(city: str = "Tokyo") -> Any:
        entered.append(1)
        return value

    function: Any = plain if kind == "sync" else awaited
    function.__annotations__["return"] = Any if annotation is None else annotation
    wrapped = nr.tool(function, name="lookup")
    return wrapped if kind == "sync" else (lambda *args, **kwargs: asyncio.run(wrapped(*args, **kwargs)))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
        return True
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("what", RESULTS)
def test_what_it_returned_comes_back_in_its_class(what: str, kind: str, store: Path) -> None:
    annotation, value = RESULTS[what]
    entered: list[int] = []
    lookup = made(annotation, value, kind, entered)
    with nr.session(store, mode="record") as session:
        assert lookup() is value
    assert outcomes(session) == ["recorded"]
    with nr.session(store, mode="replay") as session:
        assert same(lookup(), value)
    assert outcomes(session) == ["replayed"]
    assert len(entered) == 1


def test_it_is_stored_by_name_and_arguments_with_defaults(store: Path) -> None:
    class Desk:
        @nr.tool
        def find(self, city: str, *, days: int = 3, **more: Any) -> list[int]:
            return [days]

    with nr.session(store, mode="record"):
        assert Desk().find("Tokyo", extra={"a": 1}) == [3]
    (recording,) = recordings(store)
    assert recording.kind == "tool"
    assert recording.request == {
        "tool": "find",
        "arguments": {"city": "Tokyo", "days": 3, "more": {"extra": {"a": 1}}},
    }
    assert json.loads(recording.takes[0].body.data()) == {"value": [3]}
    with nr.session(store, mode="replay"):
        assert Desk().find(city="Tokyo", days=3, extra={"a": 1}) == [3], "another object, other spelling"
        with pytest.raises(nr.RecordingMissing, match="tool find"):
            Desk().find("Kyoto")


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("no such city", 7), KeyError("x"), ZeroDivisionError(), FileNotFoundError(2, "gone")),
        *(ValueError("a\udce9.txt"), ValueError(math.inf, "h\u00e9")),
    ],
)
def test_a_built_in_exception_comes_back_as_itself(error: Exception, store: Path) -> None:
    @nr.tool
    def failing() -> None:
        raise error

    with nr.session(store, mode="record"), pytest.raises(type(error)):
        failing()
    with nr.session(store, mode="replay"), pytest.raises(type(error)) as caught:
        failing()
    assert caught.value is not error
    assert caught.value.args == error.args


def test_another_exception_comes_back_if_it_was_named(store: Path) -> None:
    def failing() -> None:
        raise OddError("odd")

    with nr.session(store, mode="record"), pytest.raises(OddError):
        nr.tool(failing)()
    with nr.session(store, mode="replay"), pytest.raises(OddError, match="odd"):
        nr.tool(failing, raises=[OddError])()
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordedToolError) as caught:
        nr.tool(failing)()
    assert (caught.value.type, caught.value.message) == ("OddError", "odd")
    assert (str(caught.value), repr(caught.value)) == ("odd", "OddError('odd')"), "a model is told the same"
    assert "The tool raised OddError when it was recorded" in "".join(traceback.format_exception(caught.value))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), repr(again)) == ("odd", "OddError('odd')")


def test_a_tool_error_that_the_tool_raises_itself_comes_back(store: Path) -> None:
    @nr.tool(raises=[nr.ToolError])
    def failing() -> None:
        raise nr.ToolError("my own")

    with nr.session(store, mode="record"), pytest.raises(nr.ToolError):
        failing()
    (take,) = takes(store)
    assert take.complete
    with nr.session(store, mode="replay"), pytest.raises(nr.ToolError, match="my own"):
        failing()


def test_a_generator_yields_the_same_and_ends_the_same(store: Path) -> None:
    @nr.tool
    def counting(to: int) -> Iterator[Point]:
        for number in range(to):
            yield Point(number, 0)
        if to > 2:
            raise ValueError("too far")

    def read(to: int) -> tuple[list[Point], str]:
        found = []
        try:
            for point in counting(to):
                found.append(point)  # noqa: PERF402
        except ValueError as error:
            return found, str(error)
        return found, ""

    with nr.session(store, mode="record"):
        recorded = [read(2), read(3)]
        for point in counting(1):
            assert point == Point(0, 0)
    with nr.session(store, mode="replay") as session:
        assert (
            [read(2), read(3)]
            == recorded
            == [([Point(0, 0), Point(1, 0)], ""), ([Point(n, 0) for n in range(3)], "too far")]
        )
    assert outcomes(session) == ["replayed"] * 2


def test_an_async_generator_that_was_left_early_is_incomplete(store: Path) -> None:
    @nr.tool
    async def counting() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    async def read(most: int) -> list[int]:
        found: list[int] = []
        stream: Any = counting()
        async for number in stream:
            found.append(number)
            if len(found) == most:
                await stream.aclose()
                break
        return found

    with nr.session(store, mode="record"):
        assert asyncio.run(read(2)) == [0, 1]
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "closed")
    with nr.session(store, mode="replay"):
        assert asyncio.run(read(2)) == [0, 1]
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingIncomplete):
        asyncio.run(read(3))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(None, Point(1, 2)), (None, (1, 2)), (None, {1, 2}), (None, float("nan")), (None, {1: 2}), (int, "x")],
)
def test_what_would_not_come_back_is_refused_when_it_is_recorded(annotation: Any, value: Any, store: Path) -> None:
    lookup = made(annotation, value, "sync", [])
    with nr.session(store, mode="record"), pytest.raises(nr.ToolError, match=r"(?s)lookup.*returns="):
        lookup()
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing):
        lookup()


def test_a_generator_whose_item_was_refused_does_not_end_early_in_a_replay(store: Path) -> None:
    @nr.tool
    def counting() -> Iterator[int]:
        yield 1
        yield "x"  # type: ignore[misc]
        yield 2

    with nr.session(store, mode="record"), pytest.raises(nr.ToolError, match="the result of the tool counting"):
        list(counting())
    found: list[int] = []
    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingMissing, match=r"(?s)here: .*returns="):
        found.extend(counting())
    assert found == [1]
    assert outcomes(session) == ["missing"]


def test_an_argument_that_tells_nothing_is_refused_or_left_out(store: Path) -> None:
    def find(city: str, connection: Any) -> str:
        return city

    with nr.session(store, mode="record"):
        with pytest.raises(nr.ToolError, match=r"'connection' of the tool find.*ignore=\('connection',\)"):
            nr.tool(find)("Tokyo", object())
        assert nr.tool(find, ignore=["connection"])("Tokyo", object()) == "Tokyo"
    with nr.session(store, mode="replay"):
        assert nr.tool(find, ignore=["connection"])("Tokyo", object()) == "Tokyo"


class Town:
    @nr.tool
    def find(self, name: str) -> str:
        return f"the town {name}"


class Street:
    @nr.tool
    def find(self, name: str) -> str:
        return f"the street {name}"


@pytest.mark.parametrize("order", [(Town, Street), (Street, Town)])
def test_each_of_two_tools_of_one_name_gets_its_own_answers_again(order: Any, store: Path) -> None:
    with nr.session(store, mode="record") as session:
        recorded = {kind: kind().find("Paris") for kind in (Town, Street)}
    assert len({call.key for call in session.interactions}) == 1
    with nr.session(store, mode="replay") as session:
        assert {kind: kind().find("Paris") for kind in order} == recorded
        with pytest.raises(nr.RecordingMissing, match="recorded twice, asked a 3rd time"):
            order[0]().find("Paris")
    assert not any(call.note for call in session.interactions[:2])


def test_a_tool_never_gets_the_answer_of_another_one_of_its_name(store: Path) -> None:
    with nr.session(store, mode="record"):
        Town().find("Paris")
    with nr.session(store, mode="replay") as session:
        assert Street().find("Paris") == "the town Paris"
        assert "recorded from the tool" in session.interactions[0].note, "it may have been renamed"
        assert "Town.find, which is now" in session.interactions[0].note
    with nr.session(store, mode="auto") as session:
        assert Street().find("Paris") == "the street Paris"
    assert outcomes(session) == ["recorded"]
    with nr.session(store / "other", mode="record"):
        Town().find("Paris")
    with nr.session(store / "other", mode="replay"):
        assert Town().find("Paris") == "the town Paris"
        with pytest.raises(nr.RecordingMissing, match=r"recorded from another tool of that name only: .*Town\.find"):
            Street().find("Paris")


def test_takes_that_name_no_tool_are_those_of_the_first_one_of_the_name(store: Path) -> None:
    with nr.session(store, mode="record"):
        Town().find("Paris")
    file = next(store.glob("tool-*.json"))
    text = file.read_text()
    file.write_text(re.sub('"tool": "[^"]*Town.find", ?|, "tool": "[^"]*Town.find"', "", text))
    assert "Town.find" not in file.read_text()
    with nr.session(store, mode="auto") as session:
        assert (Town().find("Paris"), Street().find("Paris")) == ("the town Paris", "the street Paris")
    assert outcomes(session) == ["replayed", "recorded"]


def test_a_tool_that_was_defined_again_is_the_same(store: Path) -> None:
    def define(number: int) -> Any:
        def find() -> int:
            return number

        return find

    with nr.session(store, mode="record") as session:
        assert [nr.tool(define(number))() for number in (1, 2)] == [1, 2]
    with nr.session(store, mode="replay") as session:
        assert [nr.tool(define(0))() for _ in range(2)] == [1, 2]
    assert not any(call.note for call in session.interactions)


def test_what_it_calls_itself_is_not_recorded(provider: Provider, store: Path) -> None:
    @nr.tool
    def inner() -> str:
        return "inner"

    @nr.tool
    def asking(text: str) -> Any:
        return [call("sync", provider.url, chat(text)), inner()]

    with nr.session(store, mode="record") as session:
        recorded = asking("hello")
    assert outcomes(session) == ["recorded"]
    assert [recording.kind for recording in recordings(store)] == ["tool"]
    hits = len(provider.requests)
    with nr.session(store, mode="replay") as session:
        assert asking("hello") == recorded
    assert outcomes(session) == ["replayed"]
    assert len(provider.requests) == hits


@pytest.mark.parametrize("mode", ["off", None])
def test_off_and_outside_any_session_it_is_only_called(mode: str | None, store: Path) -> None:
    @nr.tool(name="other")
    def find(city: str) -> object:
        """Find it."""
        return ANYTHING

    if mode:
        with nr.session(store, mode=mode) as session:
            assert find("x") is ANYTHING
        assert outcomes(session) == ["live"]
    else:
        assert find("x") is ANYTHING
    assert (find.__name__, find.__doc__) == ("find", "Find it.")
    assert not store.exists()


ANYTHING = object()


def test_secrets_in_arguments_and_results_stay_off_the_disk(store: Path) -> None:
    secret = "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"

    @nr.tool
    def find(key: str) -> str:
        return f"the key is {key}"

    with nr.session(store, mode="record"):
        assert secret in find(secret)
    assert not any(secret.encode() in path.read_bytes() for path in store.rglob("*") if path.is_file())
    with nr.session(store, mode="replay"):
        assert find(secret) == "the key is [secret:1]"


@pytest.mark.parametrize(
    "result",
    [
        {"value": {"x": "no number"}},
        {"exception": {"type": "SystemExit", "args": [1], "text": ""}},
        {"exception": {"type": "os.system", "args": ["true"], "text": "x"}},
        {"exception": {"type": "ValueError", "args": [{"a": 1}], "text": "x"}},
        {"frame": {"rows": 1, "columns": [{"name": "a", "dtype": "os.system", "values": []}], "index": None}},
        {"pickle": "gASV"},
        {"bytes": "\u00e9"},
        [],
    ],
)
def test_a_hostile_result_does_nothing_but_be_refused(result: Any, store: Path) -> None:
    @nr.tool
    def find() -> Point:
        return Point(1, 2)

    with nr.session(store, mode="record"):
        find()
    (path,) = store.glob("tool-*.json")
    text = path.read_text("utf-8")
    path.write_text(text.replace('{"value": {"x": 1, "y": 2}}', json.dumps(result)), "utf-8")
    assert path.read_text("utf-8") != text
    with nr.session(store, mode="replay") as session, pytest.raises((nr.RecordingMissing, nr.RecordedToolError)):
        find()
    assert sdk is not None
    assert outcomes(session) in (["missing"], ["replayed"])
