"""Tool calls find the recording of the tool that ran, and the request that carried the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbreplay
from nbreplay.core.store.store import Store
from tests.analysis.making import named, put, rows
from tests.core.making import chat, record, session

COLUMNS = ("name", "result", "result_interaction", "tool_interaction", "answered", "error_type", "duration_s")


def asks(*calls: tuple[str, str, str]) -> dict[str, Any]:
    """An answer that asks for tools: (id, name, arguments)."""
    made = [{"id": own, "type": "function", "function": {"name": n, "arguments": a}} for own, n, a in calls]
    return {"choices": [{"index": 0, "message": {"content": None, "tool_calls": made}, "finish_reason": "tool_calls"}]}


def says(text: str = "Fine.") -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}


def history(answer: dict[str, Any], **results: str) -> dict[str, Any]:
    """A request that carries results, by id."""
    given = [{"role": "tool", "tool_call_id": own, "content": text} for own, text in results.items()]
    return {"messages": [{"role": "user", "content": "Weather?"}, answer["choices"][0]["message"], *given]}


def test_a_call_finds_its_tool_and_its_result(tmp_path: Path) -> None:
    store, asked = Store(tmp_path), asks(("a", "weather", '{"city":"Tokyo"}'), ("b", "news", '{"n": 3}'))
    first = put(store, {"messages": []}, asked, at=1)
    # What a tool's recording has besides are its defaults.
    given = {"tool": "weather", "arguments": {"city": "Tokyo", "unit": "C"}}
    weather = put(store, given, {"value": {"t": 18}}, kind="tool", at=2, elapsed_ms=120)
    put(store, {"tool": "weather", "arguments": {"city": "Oslo", "unit": "C"}}, {"value": {"t": 1}}, kind="tool", at=2)
    raised = {"exception": {"type": "OSError", "args": ["gone"], "text": "gone"}}
    news = put(store, {"tool": "news", "arguments": {"n": 3}}, raised, kind="tool", at=3, elapsed_ms=5)
    second = put(store, history(asked, a="18 degrees", b="gone"), says(), at=4)
    put(store, history(asked, a="18 degrees", b="gone") | {"temperature": 1}, says(), at=5)
    lib = nbreplay.load(store)
    asking, answering = named("chat", first), named("chat", second)
    assert rows(lib.tool_calls, "interaction", *COLUMNS) == [
        (asking, "weather", "18 degrees", answering, named("tool", weather), True, None, 0.12),
        (asking, "news", "gone", answering, named("tool", news), True, "OSError", 0.005),
    ]
    tools = lib.interactions[lib.interactions.kind == "tool"]
    assert sorted(rows(tools, "tool", "error_type"), key=str) == [
        ("news", "OSError"),
        ("weather", None),
        ("weather", None),
    ]


def test_a_call_without_an_answer_has_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, {"messages": []}, asks(("a", "weather", "{}")))
    put(store, {"tool": "weather", "arguments": {"city": "Oslo"}}, {"value": 1}, kind="tool")
    put(store, history(asks(("z", "weather", "{}")), z="18"), says())
    lib = nbreplay.load(store)
    assert rows(lib.tool_calls, *COLUMNS) == [("weather", None, None, None, False, None, None)]


def test_a_tool_that_ran_and_was_not_reported_has_a_result_all_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, {"messages": []}, asks(("a", "weather", '{ "city": "Oslo" }')))
    tool = put(store, {"tool": "weather", "arguments": {"city": "Oslo"}}, {"value": {"t": 1}}, kind="tool")
    lib = nbreplay.load(store)
    assert rows(lib.tool_calls, *COLUMNS) == [("weather", '{"t": 1}', None, named("tool", tool), True, None, None)]


def test_an_id_that_is_used_again_is_not_taken_for_the_other_call(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one, other = asks(("call_1", "weather", '{"city":"Oslo"}')), asks(("call_1", "weather", '{"city":"Rome"}'))
    put(store, {"messages": [], "n": 1}, one, at=1)
    put(store, {"messages": [], "n": 2}, other, at=1)
    first = put(store, history(other, call_1="25"), says(), at=2)
    second = put(store, history(one, call_1="3"), says(), at=3)
    lib = nbreplay.load(store)
    found = {row[0]: row[1:] for row in rows(lib.tool_calls, "arguments", "result", "result_interaction")}
    assert found == {'{"city":"Oslo"}': ("3", named("chat", second)), '{"city":"Rome"}': ("25", named("chat", first))}


def test_results_without_ids_are_found_by_name_and_arguments(tmp_path: Path) -> None:
    store = Store(tmp_path)
    parts = [{"functionCall": {"name": "weather", "args": {"city": city}}} for city in ("Oslo", "Rome")]
    put(
        store,
        {"contents": [{"role": "user", "parts": [{"text": "?"}]}]},
        {"candidates": [{"content": {"parts": parts}}]},
    )
    told = [{"functionResponse": {"name": "weather", "response": {"t": t}}} for t in (3, 25)]
    sent = [
        {"role": "user", "parts": [{"text": "?"}]},
        {"role": "model", "parts": parts},
        {"role": "user", "parts": told},
    ]
    key = put(store, {"contents": sent}, {"candidates": []})
    lib = nbreplay.load(store)
    name = named("chat", key)
    assert rows(lib.tool_calls, "result", "result_interaction") == [('{"t": 3}', name), ('{"t": 25}', name)]


def test_a_result_that_says_that_it_failed_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    use = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    put(store, {"messages": []}, {"type": "message", "content": [use]})
    result = {"type": "tool_result", "tool_use_id": "a", "content": "no such city", "is_error": True}
    sent = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    put(store, {"messages": sent}, {"type": "message", "content": []})
    assert rows(nbreplay.load(store).tool_calls, "result", "error_type") == [("no such city", "error")]


def test_ids_that_a_store_replaced_are_those_of_the_takes(tmp_path: Path) -> None:
    asked = asks(("call_abcdef1", "weather", "{}"))
    with session(tmp_path) as live:
        record(live, chat("Weather?"), asked)
        sent = history(asked, call_abcdef1="18")["messages"]
        record(live, chat(messages=sent), says())
    lib = nbreplay.load(tmp_path)
    assert rows(lib.tool_calls, "tool_call_id", "result", "answered") == [("call_abcdef1", "18", True)]
    assert set(lib.messages.tool_call_id.dropna()) == {"call_abcdef1"}
