"""A miss says what differs from the nearest recording, and what to do."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.advice import Place
from nbreplay.core.cell import Cell
from nbreplay.core.config import Mode, Options
from nbreplay.core.explain import Miss, explain
from nbreplay.core.nearest import Difference, differences
from nbreplay.core.request.request import Call
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingMissing
from tests.core.making import call, chat, record, replayed, request, session


def miss(store: Path, given: Call, cell: Cell | None = None, why: str = "") -> Miss:
    place = Place.MAGIC if cell else Place.PYTHON
    return explain(request(given), given, Store(store), cell, Options(Mode.REPLAY), why, place=place)


def test_the_field_that_differs_is_named_with_both_values(store: Path) -> None:
    record(session(store), chat(temperature=0.7), {})
    found = miss(store, chat(temperature=0.0))
    assert found.differences == (Difference("temperature", "0.7", "0.0"),)
    assert found.nearest == Store(store).names()[0]
    for text in (
        "no recorded answer",
        "gpt-4o",
        "Weather in Tokyo?",
        found.nearest,
        "temperature",
        "0.7",
        "0.0",
        str(store),
        "replay",
    ):
        assert text in found.text
    assert request(chat(temperature=0.0)).key in found.text


def test_the_nearest_is_the_one_that_differs_least(store: Path) -> None:
    with_three = {"temperature": 0.5, "top_p": 0.5, "seed": 1}
    for given in (
        chat("Another question"),
        chat(model="gpt-4o-mini"),
        chat(**with_three),
        call({"model": "m", "input": "x"}, path="/v1/responses"),
    ):
        record(session(store), given, {})
    assert miss(store, chat()).nearest == file_of(chat(**with_three))
    assert miss(store, chat("Another question", seed=1)).nearest == file_of(chat("Another question"))
    assert miss(store, call({"model": "m", "input": "y"}, path="/v1/responses")).differences == (
        Difference("input", '"x"', '"y"'),
    )


def file_of(given: Call) -> str:
    made = request(given)
    return f"{made.kind}-{made.key[3:19]}.json"


def test_what_only_one_side_has_is_absent_on_the_other(store: Path) -> None:
    record(session(store), chat(seed=None), {})
    found = miss(store, chat(top_p=1))
    assert set(found.differences) == {Difference("seed", "null", None), Difference("top_p", None, "1")}
    assert found.text.count("(absent)") == 2


def test_where_there_is_nothing_this_is_said(store: Path) -> None:
    assert "does not exist" in miss(store, chat()).text
    store.mkdir()
    found = miss(store, chat())
    assert "no chat recording" in found.text
    assert "does not exist" not in found.text
    assert (found.nearest, found.differences) == (None, ())


def test_the_cell_is_named_and_what_to_write_into_it(store: Path) -> None:
    found = miss(store, chat(), Cell("9f2c", 3, "client.chat()"))
    assert "[3] client.chat()" in found.text
    assert "%%replay auto" in found.text
    assert "%%replay" not in miss(store, chat()).text
    assert "auto" in miss(store, chat()).text


def test_what_is_known_already_is_said_instead_of_a_search(store: Path) -> None:
    record(session(store), chat(), {})
    found = miss(store, chat(), why="recorded once, asked a 2nd time")
    assert "recorded once, asked a 2nd time" in found.text
    assert found.nearest is None


@pytest.mark.parametrize(
    ("one", "two", "option"),
    [
        (chat("Today is 2026-01-31."), chat("Today is 2026-02-01."), "--mask"),
        (chat("At 2026-01-31T10:00:00Z sharp"), chat("At 2026-02-01T11:30:00.5+01:00 sharp"), "--mask"),
        (chat("Today is 3 March 2026."), chat("Today is 14 April 2026."), "--mask"),
        (chat("It is 10:15 now"), chat("It is 11:30:05 now"), "--mask"),
        (chat("run 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"), chat("run 1f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f1"), "--mask"),
        (chat("a 0f1e2d3c4b5a6978"), chat("a 1f1e2d3c4b5a6979"), "--mask"),
        (chat("in /tmp/x at 1763841350"), chat("in /tmp/x at 1763841999"), "--mask"),
        (chat('A "quoted"\nline of 2026-01-31'), chat('A "quoted"\nline of 2026-02-01'), "--mask"),
        (chat("2026-01-31", user="since 2026-01-31"), chat("2026-02-01", user="since 2026-02-01"), "--mask"),
        (chat(user="ann"), chat(user="bob"), "--ignore user"),
        (chat(metadata={"run": 1, "x": 2}), chat(metadata={"run": 2, "x": 2}), "--ignore metadata.run"),
        (chat(seed=1), chat(), "--ignore seed"),
        (
            chat(messages=[{"role": "user", "content": "a", "name": "x"}]),
            chat(messages=[{"role": "user", "content": "a", "name": "y"}]),
            "--ignore messages[0].name",
        ),
    ],
)
def test_the_option_that_a_miss_suggests_makes_the_recording_answer(
    store: Path, one: Call, two: Call, option: str
) -> None:
    record(session(store), one, {"n": 1})
    magic = re.search(r"%replay replay (--\w+ .*) makes", miss(store, two, Cell(None, 1, "x")).text)
    assert magic
    assert magic.group(1).replace("'", "").startswith(option)
    name, value = shlex.split(magic.group(1))
    assert replayed(session(store, "replay", **{name[2:]: [value]}), two) == {"n": 1}
    with pytest.raises(RecordingMissing):
        session(store, "replay", **{name[2:]: [value]}).ask(chat("Something else altogether"))
    # Outside of a notebook there are no magics.
    plain = re.search(r"session\(\.\.\., (\w+)=(\[.*\])\) makes", miss(store, two).text)
    assert plain
    assert plain.group(1) == name[2:]
    assert ast.literal_eval(plain.group(2)) == [value]


def by(version: str, **fields: Any) -> Call:
    """A chat as this version of the SDK sends it."""
    made = chat(**fields)
    agent = [(b"User-Agent", f"OpenAI/Python {version}".encode())]
    return Call(made.method, made.host, made.target, made.content_type, made.body, agent)


def test_a_field_that_a_newer_sdk_adds_is_explained_as_exactly_that(store: Path) -> None:
    record(session(store), by("2.20.0"), {"n": 1})
    text = miss(store, by("3.54.0", store=True, service_tier="auto"), Cell(None, 1, "x")).text
    assert (
        "openai 3.54.0 sends store, service_tier; openai 2.20.0, which recorded it, did not. All else is equal" in text
    )
    assert "%replay replay --ignore store --ignore service_tier makes that recording answer" in text
    again = session(store, "replay", ignore=["store", "service_tier"])
    assert replayed(again, by("3.54.0", store=True, service_tier="auto")) == {"n": 1}


def test_a_field_that_a_newer_sdk_leaves_out_is_explained_too(store: Path) -> None:
    record(session(store), by("2.20.0", store=True), {"n": 1})
    text = miss(store, by("3.54.0")).text
    assert "openai 3.54.0 no longer sends store; openai 2.20.0, which recorded it, did so. All else is equal" in text


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (by("2.20.0"), by("2.20.0", store=True)),
        (by("2.20.0", seed=1), by("3.54.0", seed=2, store=True)),
        (chat(), by("3.54.0", store=True)),
    ],
)
def test_nothing_is_put_down_to_the_sdk_where_that_is_not_known(store: Path, one: Call, two: Call) -> None:
    record(session(store), one, {"n": 1})
    assert "which recorded it" not in miss(store, two).text


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (chat("What is 1 + 1?", seed=1), chat("What is 1 + 2?", seed=2)),
        (chat("2026-01-31 then 2026-01-31", seed=1), chat("2026-02-01", seed=2)),
        (call(path="/x?day=2026-01-31", method="GET"), call(path="/x?day=2026-02-01", method="GET")),
        (call(path="/x/1", method="GET"), call(path="/x/2", method="GET")),
        (call(path="/x", host="a.example.com"), call(path="/x", host="b.example.com")),
        (call(raw=b"a", kind="text/plain", path="/x"), call(raw=b"b", kind="text/plain", path="/x")),
    ],
)
def test_no_option_is_suggested_where_none_would_do(store: Path, one: Call, two: Call) -> None:
    record(session(store), one, {})
    found = miss(store, two)
    assert found.differences
    assert not re.search("mask|ignore", found.text)


def test_long_values_are_cut_around_what_differs_and_many_are_counted(store: Path) -> None:
    record(session(store), chat("a" * 5000 + "Tokyo" + "b" * 5000, **{f"x{n}": 1 for n in range(20)}), {})
    found = miss(store, chat("a" * 5000 + "Kyoto" + "b" * 5000, **{f"x{n}": 2 for n in range(20)}))
    assert "Tokyo" in found.text
    assert "Kyoto" in found.text
    assert "more" in found.text
    assert max(map(len, found.text.splitlines())) < 250
    assert len(found.text.splitlines()) < 40


def test_what_a_request_says_cannot_move_the_cursor_of_whoever_reads(store: Path) -> None:
    evil = "\x1b[2J\r\n\u202e\u2028\x9b"
    record(session(store), chat("b" + evil), {})
    for asked in (chat("a" + evil), chat("b" + evil, **{evil: 1})):
        text = miss(store, asked).text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text)


def test_a_recording_that_cannot_be_read_does_not_hide_the_miss(store: Path) -> None:
    record(session(store), chat(seed=1), {})
    (store / "chat-0000000000000000.json").write_text("{")
    assert miss(store, chat(seed=2)).differences == (Difference("seed", "1", "2"),)


def test_a_call_that_could_not_be_looked_at_is_still_named(store: Path) -> None:
    found = explain(None, chat(), Store(store), None, Options(Mode.REPLAY), "chat-1.json cannot be read")
    assert "api.openai.com" in found.text
    assert "cannot be read" in found.text


@pytest.mark.parametrize(
    ("one", "other", "paths"),
    [
        ({"body": {"a": 1}}, {"body": {"a": 1}}, []),
        ({"body": {"a": 1}}, {"body": {"a": 1.0}}, ["a"]),
        ({"body": {"a": 1}}, {"body": {"a": True}}, ["a"]),
        ({"body": {"a": None}}, {"body": {}}, ["a", ""]),
        ({"body": {"a": [1, 2]}}, {"body": {"a": [1, 3, 4]}}, ["a[1]", "a[2]"]),
        ({"body": {"a": {}}}, {"body": {"a": []}}, ["a"]),
        ({"method": "GET", "path": "/a"}, {"method": "POST", "path": "/a"}, ["method"]),
        ({"arguments": {"x": {"y": 1}}}, {"arguments": {"x": {"y": 2}}}, ["x.y"]),
    ],
)
def test_differences_of_two_requests(one: dict[str, Any], other: dict[str, Any], paths: list[str]) -> None:
    assert sorted(item.path for item in differences(one, other)) == sorted(paths)
    assert sorted(item.path for item in differences(other, one)) == sorted(paths)
