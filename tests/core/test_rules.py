"""What is left out of a request or replaced in it: ids, and what --ignore and --mask name."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from nbreplay.core.request.request import Call
from nbreplay.core.request.rules import Normaliser
from nbreplay.errors import OptionError
from tests.core.making import call, chat, form, request, shuffled

SECRET = "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
OTHER = "sk-" + "zZ3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"


def key(given: Call, **options: Any) -> str:
    return request(given, **options).key


# Ids.


def agent(first: str, second: str, item: str = "fc_1") -> dict[str, dict[str, Any]]:
    """One turn of an agent that called two tools, in the shapes of the providers."""
    function = {"name": "f", "arguments": "{}"}
    return {
        "chat": {
            "model": "m",
            "messages": [
                {"role": "user", "content": "go"},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": i, "type": "function", "function": function} for i in (first, second)],
                },
                {"role": "tool", "tool_call_id": first, "content": "1"},
                {"role": "tool", "tool_call_id": second, "content": "2"},
            ],
        },
        "message": {
            "model": "m",
            "messages": [
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": i, "name": "f", "input": {}} for i in (first, second)],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": i, "content": i == first} for i in (first, second)
                    ],
                },
            ],
        },
        "response": {
            "model": "m",
            "input": [
                {"role": "user", "content": "go"},
                {"type": "function_call", "id": item, "call_id": first, **function},
                {"type": "function_call", "call_id": second, **function},
                {"type": "function_call_output", "call_id": first, "output": "1"},
                {"type": "function_call_output", "call_id": second, "output": "2"},
            ],
        },
        "generate": {
            "contents": [
                {
                    "role": "model",
                    "parts": [{"functionCall": {"id": i, "name": "f", "args": {}}} for i in (first, second)],
                },
                {
                    "role": "user",
                    "parts": [{"functionResponse": {"id": i, "name": "f", "response": {}}} for i in (first, second)],
                },
            ],
        },
    }


PATHS = {
    "chat": "/v1/chat/completions",
    "message": "/v1/messages",
    "response": "/v1/responses",
    "generate": "/v1beta/models/g:generateContent",
}


@pytest.mark.parametrize("shape", PATHS)
def test_ids_of_tool_calls_are_numbered_so_that_recording_a_step_anew_orphans_none(shape: str) -> None:
    one = request(call(agent("call_a", "call_b")[shape], path=PATHS[shape]))
    two = request(call(agent("call_zz", "call_c", "fc_9")[shape], path=PATHS[shape]))
    assert one.kind == shape
    assert one.key == two.key
    assert {"call_a", "call_b"} <= set(one.ids)
    assert {"call_zz", "call_c"} <= set(two.ids)
    assert len(one.ids) == len(set(one.ids)) == len(two.ids)
    text = json.dumps(one.fields)
    assert "call_a" not in text
    assert '"@1"' in text
    assert '"@2"' in text
    # Each id is in the place that its number says.
    asked = request(call(shuffled(agent("call_a", "call_b")[shape]), path=PATHS[shape]))
    assert (asked.key, asked.ids) == (one.key, one.ids)


@pytest.mark.parametrize("shape", PATHS)
def test_which_result_belongs_to_which_call_matters(shape: str) -> None:
    straight = agent("call_a", "call_b")[shape]
    crossed = json.loads(json.dumps(straight))
    names = ("tool_call_id", "tool_use_id")
    results: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if any(name in node for name in names) or node.get("type") == "function_call_output" or "response" in node:
                results.append(node)
            for item in list(node.values()):
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(crossed)
    one, two = results[:2]
    name = next(name for name in (*names, "call_id", "id") if name in one)
    one[name], two[name] = two[name], one[name]
    assert key(call(straight, path=PATHS[shape])) != key(call(crossed, path=PATHS[shape]))


def test_an_id_that_stands_for_content_elsewhere_stays_unless_this_session_knows_who_issued_it() -> None:
    def asked(response: str, **issued: str) -> Any:
        return request(
            call({"model": "m", "input": "go on", "previous_response_id": response}, path="/v1/responses"), **issued
        )

    assert asked("resp_a").fields["body"]["previous_response_id"] == "resp_a"
    assert asked("resp_a").ids == ()
    assert asked("resp_a").key != asked("resp_b").key
    known = asked("resp_a", resp_a="k1:123", resp_b="k1:123", resp_c="k1:456")
    assert known.fields["body"]["previous_response_id"] == "@k1:123"
    assert known.ids == ("resp_a",)
    assert asked("resp_b", resp_b="k1:123").key == known.key
    assert asked("resp_c", resp_c="k1:456").key != known.key


@pytest.mark.parametrize(
    "body",
    [
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"tools": [{"type": "file_search", "vector_store_ids": ["conv_1"]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "conv_1"}}]}]},
        {"input": [{"type": "item_reference", "id": "conv_1"}]},
        {"container": "conv_1"},
        {"training_file_id": "conv_1"},
    ],
)
def test_every_place_of_an_issued_id_is_known(body: dict[str, Any]) -> None:
    made = request(call({"model": "m", **body}, path="/v1/responses"), conv_1="k1:9")
    assert "conv_1" not in json.dumps(made.fields)
    assert "@k1:9" in json.dumps(made.fields)
    assert made.ids == ("conv_1",)


def test_ids_in_a_path_are_known_too() -> None:
    for path in (
        "/v1/responses/resp_1",
        "/v1/vector_stores/resp_1/files",
        "/v1/files/resp_1/content",
        "/jobs/resp_1/log",
    ):
        made = request(call(path=path, method="GET"), resp_1="k1:9")
        assert "@k1:9" in made.fields.get("endpoint", made.fields.get("path"))
        assert made.ids == ("resp_1",)
        assert made.key == request(call(path=path.replace("resp_1", "resp_2"), method="GET"), resp_2="k1:9").key
        assert "resp_1" in json.dumps(request(call(path=path, method="GET")).fields)


def test_an_id_in_what_people_say_is_no_id() -> None:
    body = agent("call_a", "call_b")["chat"]
    body["messages"][0]["content"] = "call_a"
    made = request(call(body))
    assert made.fields["body"]["messages"][0]["content"] == "call_a"


def test_a_request_without_ids_has_none() -> None:
    assert request(chat()).ids == ()
    assert request(chat(user="u", metadata={"user_id": "42"})).fields["body"]["metadata"] == {"user_id": "42"}


# --ignore and --mask.


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("metadata", {"messages": [{"name": "a", "id": 1}, {"name": "b"}]}),
        ("metadata.run_id", {"metadata": {"user": "u"}, "messages": [{"name": "a", "id": 1}, {"name": "b"}]}),
        ("messages[0].name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"id": 1}, {"name": "b"}]}),
        ("messages[-1].name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"name": "a", "id": 1}, {}]}),
        ("messages.0.name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"id": 1}, {"name": "b"}]}),
        ("messages[*].name", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"id": 1}, {}]}),
        ("messages[1]", {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"name": "a", "id": 1}]}),
        ("messages[*]", {"metadata": {"run_id": 7, "user": "u"}, "messages": []}),
        ("*.run_id", {"metadata": {"user": "u"}, "messages": [{"name": "a", "id": 1}, {"name": "b"}]}),
    ],
)
def test_what_is_ignored_is_left_out(path: str, left: dict[str, Any]) -> None:
    body = {"metadata": {"run_id": 7, "user": "u"}, "messages": [{"name": "a", "id": 1}, {"name": "b"}]}
    before = copy.deepcopy(body)
    assert Normaliser([path]).apply(body) == left
    assert body == before


@pytest.mark.parametrize(
    "path",
    [
        "absent",
        "metadata.absent",
        "metadata.run_id.deeper",
        "messages[2]",
        "messages[7].name",
        "messages[-3].name",
        "messages.name",
        "messages[x]",
        "messages[--1]",
        "messages[²]",
        "model[0]",
    ],
)
def test_ignoring_what_is_not_there_changes_nothing(path: str) -> None:
    body = {"model": "m", "metadata": {"run_id": 7}, "messages": [{"name": "a"}, {"name": "b"}]}
    assert Normaliser([path]).apply(body) == body


def test_ignored_fields_are_neither_keyed_nor_stored() -> None:
    one, two = chat(metadata={"run_id": "r1"}), chat(metadata={"run_id": "r2"})
    assert key(one) != key(two)
    assert key(one, ignore=["metadata.run_id"]) == key(two, ignore=["metadata.run_id"])
    assert "r1" not in json.dumps(request(one, ignore=["metadata.run_id"]).fields)


def test_what_a_mask_matches_is_neither_keyed_nor_stored() -> None:
    date = r"\d{4}-\d\d-\d\d"
    one, two = request(chat("Today is 2026-01-01."), mask=[date]), request(chat("Today is 2026-02-02."), mask=[date])
    assert one.key == two.key != key(chat("Today is not said."), mask=[date])
    assert one.fields["body"]["messages"][0]["content"] == "Today is [masked]."


def test_several_masks_are_each_a_regular_expression_of_its_own() -> None:
    masks = Normaliser(mask=["(?i)RUN", r"(a)b\1", r"(x)y\1"])
    assert masks.apply({"t": ["run aba xyx"], "n": 5, "run": None}) == {
        "t": ["[masked] [masked] [masked]"],
        "n": 5,
        "run": None,
    }


def test_masks_reach_bodies_of_every_shape() -> None:
    def shapes(run: str) -> list[Call]:
        return [
            chat(run),
            call([run], path="/x"),
            call(raw=run.encode(), kind="text/plain", path="/x"),
            call(raw=f"q={run}".encode(), kind="application/x-www-form-urlencoded", path="/x"),
            form("a" * 8, model=run),
        ]

    for one, two in zip(shapes("run-1"), shapes("run-2"), strict=True):
        assert key(one) != key(two)
        assert key(one, mask=[r"run-\d"]) == key(two, mask=[r"run-\d"])


@pytest.mark.parametrize(
    "options",
    [
        {"mask": ["("]},
        {"mask": [""]},
        {"mask": [7]},
        {"ignore": ["..."]},
        {"ignore": [""]},
        {"ignore": [None]},
        {"ignore": ["[]"]},
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Normaliser(**options)


def test_one_text_is_one_option() -> None:
    assert Normaliser("metadata.run_id", "run").ignore == ("metadata.run_id",)
    assert Normaliser("metadata.run_id", "run").mask == ("run",)
    assert not Normaliser().rules
    assert Normaliser(mask="x").rules
