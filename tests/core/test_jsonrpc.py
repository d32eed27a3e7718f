"""JSON-RPC: keyed without its ids, and given back with the id that is asked now, every other byte as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.recording.body import LARGE, Text, plain_body
from nbreplay.core.recording.recording import parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import parse_stream
from nbreplay.core.recording.take import Body
from nbreplay.core.request.jsonrpc import TOKEN, answer_to, has_answered, without_id
from nbreplay.core.request.request import Call
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError
from tests.core.making import JSON, SSE, begin, call, json_values, record, recording, replayed, request, session, take
from tests.core.test_stream import cut

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def message(**fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", **fields}


def asked(number: Any = 1, city: str = "Tokyo", **params: Any) -> Call:
    return call(message(id=number, method="tools/call", params={"city": city, **params}), path="/mcp")


def event(value: Any, end: str = "\n\n") -> bytes:
    return f"event: message{end[: len(end) // 2]}data: {json.dumps(value, separators=(',', ':'))}{end}".encode()


def given_back(body: Body, recorded: Any, now: Any, kind: str = JSON) -> bytes:
    """The bytes of an answer as they come out of a file, for a request that has another id."""
    made = take(body, rpc_id=recorded, headers={"content-type": kind})
    read = parse(recording(made).text().encode()).takes[0] if not hasattr(body, "content") else made
    return answer_to(read, now).body.data()  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [0, 7, -1, 2**70, "", "7", "listen-1", '\u6f22 "x"'])
def test_the_id_is_no_part_of_a_request(number: int | str) -> None:
    made = request(asked(number))
    assert made.key == request(asked(1)).key
    assert made.fields["body"] == {"jsonrpc": "2.0", "method": "tools/call", "params": {"city": "Tokyo"}}
    assert (made.rpc_id, type(made.rpc_id)) == (number, type(number))
    assert made.ids == (), "an id that is counted chooses no take"
    assert made.key != request(asked(number, "Kyoto")).key


@pytest.mark.parametrize(
    "body",
    [
        {"id": 1, "method": "x"},
        {"jsonrpc": "1.0", "id": 1, "method": "x"},
        {"jsonrpc": ["2.0"], "id": 1},
        {"jsonrpc": "2.0", "id": None, "method": "x"},
        {"jsonrpc": "2.0", "id": True, "method": "x"},
        {"jsonrpc": "2.0", "id": 1.5, "method": "x"},
        {"jsonrpc": "2.0", "method": "x", "params": {"id": 1}},
        {"jsonrpc": "2.0", "method": "x", "params": [1]},
        [{"jsonrpc": "2.0", "id": 1, "method": "x"}, {"jsonrpc": "2.0", "id": 2, "method": "y"}],
    ],
    ids=json.dumps,
)
def test_what_has_no_such_id_stays_as_it_is(body: Any) -> None:
    made = request(call(body, path="/mcp"))
    assert made.fields["body"] == body
    assert made.rpc_id is None


def test_a_progress_token_that_is_the_id_goes_with_it() -> None:
    one, other = (request(asked(number, _meta={"progressToken": number, "a": 1})) for number in (1, "b"))
    assert one.key == other.key
    assert one.fields["body"]["params"] == {"city": "Tokyo", "_meta": {"progressToken": TOKEN, "a": 1}}
    assert one.key != request(asked(1, _meta={"a": 1})).key, "without one the server tells of no progress"


@pytest.mark.parametrize("token", ["mine", 2, "1", True])
def test_a_progress_token_of_the_callers_own_stays(token: Any) -> None:
    made = request(asked(1, _meta={"progressToken": token}))
    found = made.fields["body"]["params"]["_meta"]["progressToken"]
    assert (found, type(found)) == (token, type(token))


def test_a_notification_that_cancels_a_call_is_keyed_without_its_id() -> None:
    def cancelled(number: Any, reason: str = "late") -> Any:
        params = {"requestId": number, "reason": reason}
        return request(call(message(method="notifications/cancelled", params=params), path="/mcp"))

    assert cancelled(3).key == cancelled("x").key
    assert cancelled(3).fields["body"]["params"] == {"reason": "late"}
    assert cancelled(3).key != cancelled(3, "other").key


def test_what_is_given_is_left_alone() -> None:
    body = message(id=1, params={"_meta": {"progressToken": 1}})
    before = json.dumps(body)
    without_id(body)
    assert json.dumps(body) == before


RESULTS = [
    (message(id=1, result={"a": 1}), message(id="#", result={"a": 1})),
    ({"result": {"id": 1}, "id": 1, "jsonrpc": "2.0"}, {"result": {"id": 1}, "id": "#", "jsonrpc": "2.0"}),
    (message(id=1, error={"code": 1}), message(id="#", error={"code": 1})),
    (message(id=None, error={"code": 1}), None),
    (message(id=2, result={}), None),
    (message(id="1", result={}), None),
    (message(id=True, result={}), None),
    ({"id": 1, "result": {}}, None),
    (message(id=1, method="sampling/createMessage", params={"progressToken": 1}), None),
    (
        message(method="notifications/progress", params={"progressToken": 1, "progress": 1}),
        message(method="notifications/progress", params={"progressToken": "#", "progress": 1}),
    ),
    (message(method="notifications/progress", params={"progressToken": "mine"}), None),
    (message(method="notifications/message", params={"data": 1}), None),
    (message(method="notifications/message"), None),
    (
        message(method="notifications/tools/list_changed", params={"_meta": {SUBSCRIPTION: 1}}),
        message(method="notifications/tools/list_changed", params={"_meta": {SUBSCRIPTION: "#"}}),
    ),
    (
        message(id=1, result={"_meta": {"x": 1, SUBSCRIPTION: 1}}),
        message(id="#", result={"_meta": {"x": 1, SUBSCRIPTION: "#"}}),
    ),
]


def with_id(value: Any, now: Any) -> Any:
    return json.loads(json.dumps(value), object_hook=lambda node: {k: now if v == "#" else v for k, v in node.items()})


@pytest.mark.parametrize("now", [5, "5", 'a "\\\n'], ids=ascii)
@pytest.mark.parametrize(("recorded", "expected"), RESULTS)
def test_an_answer_has_the_id_that_is_asked(recorded: Any, expected: Any, now: Any) -> None:
    """In every form in which it may be stored, and otherwise byte for byte."""
    wanted = with_id(recorded if expected is None else expected, now)
    for style in ({"separators": (",", ":")}, {"indent": 2}, {"separators": (" , ", " :  ")}):
        before, after = (json.dumps(value, **style) for value in (recorded, wanted))  # type: ignore[call-overload]
        end = " \n"
        assert given_back(plain_body((before + end).encode(), JSON), 1, now) == (after + end).encode()
    before, after = (json.dumps(value, separators=(",", ":")) for value in (recorded, wanted))
    for around in ("data: {}\n\n", "event: message\r\ndata: {}\r\n\r\n", "id: 1\ndata:{}\n\n", ": a\n\ndata: {}\n\n"):
        sent, due = (around.replace("{}", text).encode() for text in (before, after))
        assert given_back(cut(sent), 1, now, SSE) == due
    for sent, due in ((before, after), (before.replace(":", ": ") + " ", after.replace(":", ": ") + " ")):
        assert given_back(cut(sent.encode() + b"\n", "ndjson"), 1, now) == due.encode() + b"\n"


_ids = st.integers() | st.text(st.characters(min_codepoint=32, max_codepoint=126))  # no two ways to write them


@given(json_values, _ids, _ids)
def test_nothing_but_the_id_changes(result: Any, recorded: int | str, now: int | str) -> None:
    for separators in ((",", ":"), (" ,", ": ")):
        before, after = (
            json.dumps({"result": result, "id": number, "jsonrpc": "2.0"}, separators=separators)
            for number in (recorded, now)
        )
        assert given_back(plain_body(before.encode(), JSON), recorded, now) == after.encode()
        assert json.loads(given_back(cut(f"data: {before}\n\n".encode()), recorded, now)[6:]) == json.loads(after)


def test_a_stream_whose_events_share_the_id() -> None:
    events = cut(b"".join(event(message(id=1, result={"n": n})) for n in range(5)))
    assert events.common
    assert "id" in events.common
    assert given_back(events, 1, "x", SSE) == b"".join(event(message(id="x", result={"n": n})) for n in range(5))


def test_an_id_that_is_not_ascii() -> None:
    for text in ('{"jsonrpc":"2.0","id":1}', '{"jsonrpc" : "2.0","id":1}'):
        assert json.loads(given_back(plain_body(text.encode(), JSON), 1, "\u6f22")) == message(id="\u6f22")


def test_times_stay_and_a_stream_of_progress_is_changed_event_by_event() -> None:
    def told(number: Any) -> list[bytes]:
        params: dict[str, Any] = {"progressToken": number}
        progress = [event(message(method="notifications/progress", params={**params, "n": n})) for n in range(4)]
        return [*progress, event(message(id=number, result={}))]

    events = Events.parse([(n / 10, part) for n, part in enumerate(told(1))], "sse", 0.0)
    made = answer_to(take(events, rpc_id=1), 2).body
    assert made.parts() == told(2)  # type: ignore[union-attr]
    assert [chunk.gap_ms for chunk in made.chunks] == [0, 100, 100, 100, 100]  # type: ignore[union-attr]


def test_of_two_members_with_one_name_the_last_counts() -> None:
    text = '{"id":9,"jsonrpc":"2.0", "result":"\\u007d","id" : 1 }'
    assert given_back(Text(text), 1, 2) == text.replace(": 1 ", ": 2 ").encode()


@pytest.mark.parametrize("text", ["", "{", '{"id":1', "[1]", "no", '{"jsonrpc":"2.0","id":1}x', "[" * 9999])
def test_what_is_no_message_stays_as_it_is(text: str) -> None:
    assert given_back(Text(text), 1, 2) == text.encode()
    assert given_back(cut(f"data: {text}\n\n".encode()), 1, 2, SSE) == f"data: {text}\n\n".encode()


def test_an_answer_in_a_file_of_its_own(store: Path) -> None:
    data = b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * LARGE + b'"}'
    record(session(store, "record"), asked(1), data)
    assert list(store.glob("blob-*"))
    again = session(store, "replay")
    assert replayed(again, asked("a"))["id"] == "a"
    assert not hasattr(again.interactions[0].take.body, "text"), "the log has what is recorded"  # type: ignore[union-attr]
    image = take(plain_body(data, JSON), rpc_id=1, headers={"content-type": "image/png"})
    assert answer_to(image, 2).body is image.body


def test_bytes_that_stay_compressed_stay_as_they_are() -> None:
    made = take(Text('{"jsonrpc":"2.0","id":1}'), rpc_id=1, headers={"content-encoding": "gzip"})
    assert answer_to(made, 2).body is made.body


def test_the_same_id_costs_nothing() -> None:
    made = take(Text('{"jsonrpc":"2.0","id":1}'), rpc_id=1)
    assert answer_to(made, 1) is made
    assert answer_to(made, 2).rpc_id == 2
    assert answer_to(take(), 1).rpc_id is None


# Through a session


def answered(number: Any, text: str) -> dict[str, Any]:
    return message(id=number, result={"text": text})


def test_calls_that_come_in_another_order_and_with_others_between(store: Path) -> None:
    live = session(store, "record")
    cities = ["Tokyo", "Kyoto", "Osaka"]
    for number, city in enumerate(cities):
        record(live, asked(number, city), answered(number, city))
    again = session(store, "replay")
    for number, city in enumerate(reversed(cities), 10):
        assert replayed(again, asked(number, city)) == answered(number, city)
    assert {item.outcome for item in again.interactions} == {"replayed"}


def test_equal_calls_are_answered_in_their_order_whatever_their_ids(store: Path) -> None:
    live = session(store, "record")
    for number in (1, 2, 3):
        record(live, asked(number), answered(number, f"answer {number}"))
    again = session(store, "replay")
    found = [replayed(again, asked(number)) for number in (2, 3, "x")]
    assert found == [answered(number, f"answer {n}") for n, number in enumerate((2, 3, "x"), 1)]


def test_the_recorded_id_is_kept_with_the_take_and_checked(store: Path) -> None:
    record(session(store, "record"), asked("7"), answered("7", "a"))
    (name,) = Store(store).names()
    data = json.loads((store / name).read_text())
    (stored,) = data["takes"]
    assert stored["rpc_id"] == "7"
    assert stored["ids"] == []
    for wrong in (True, 1.5, [], {}):
        with pytest.raises(RecordingFormatError, match="rpc_id"):
            parse(json.dumps({**data, "takes": [{**stored, "rpc_id": wrong}]}))


def test_ignoring_the_id_does_not_lose_it(store: Path) -> None:
    record(session(store, "record"), asked(1), answered(1, "a"))
    assert replayed(session(store, "replay", ignore=["id", "params.city"]), asked(5)) == answered(5, "a")


def test_an_id_that_an_answer_repeats_issues_nothing(store: Path) -> None:
    live = session(store, "record")
    record(live, asked("request-one"), answered("request-one", "a"))
    assert not live.log.issued
    again = session(store, "replay")
    replayed(again, asked("request-two"))
    assert not again.log.issued


def test_a_stream_that_its_caller_leaves_after_the_answer_is_whole(store: Path) -> None:
    """The mcp package reads no further, and nothing further comes."""
    live = session(store, "record")
    for number, ends in ((1, True), (2, False)):
        progress = event(message(method="notifications/progress", params={"progressToken": number}))
        recorder = begin(live, asked(number, str(ends)), progress, kind=SSE)
        if ends:
            recorder.feed(event(answered(number, "a")))
        recorder.close()
        assert recorder.saved is not None
        assert recorder.saved.complete is ends


def test_what_ends_a_stream() -> None:
    assert has_answered(parse_stream([(0.0, event(answered(1, "a")))], "sse"), 1)
    assert has_answered(parse_stream([(0.0, event(answered("a", "a"), "\r\n\r\n"))], "sse"), "a")
    assert not has_answered(parse_stream([(0.0, event(answered(1, "a")))], "sse"), 2)
    assert not has_answered(parse_stream([(0.0, event(answered(1, "a")))], "sse"), None)
    assert not has_answered(parse_stream([(0.0, event(answered(1, "a"))[:-9])], "sse"), 1)
    assert not has_answered(parse_stream([(0.0, event(message(id=1, method="roots/list")))], "sse"), 1)
    assert not has_answered(parse_stream([(0.0, b"data: [1]\n\n")], "sse"), 1)
    assert not has_answered(parse_stream([(0.0, b"")], "sse"), 1)
