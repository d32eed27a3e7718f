"""A stream is cut into the same events however its bytes arrive, and says when it is whole."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from nbreplay.core.recording.json_text import parse_object
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import Framing, StreamEvent, StreamParser, framing_of, parse_stream
from nbreplay.providers.deltas import values
from tests.core.making import json_values

STREAMS = {
    "sse": b'data: {"a":1}\n\ndata: {"b":"\xc3\xa9 data: x"}\n\nevent: e\ndata: {"c":2}\n\n: ping\n\ndata: [DONE]\n\n',
    "crlf": b'data: {"a":1}\r\n\r\nevent: e\r\ndata: {"b":2}\r\n\r\n: ping\r\n\r\n',
    "broken": b'data: {"a":\n\ndata: {}, {}\n\ndata: {"a":1}\n\n',
    "ndjson": b'{"a":1}\n{"b":2}\n',
}
framings: dict[str, Framing] = {kind: "ndjson" if kind == "ndjson" else "sse" for kind in STREAMS}


def parse(data: bytes, framing: Framing, cuts: Sequence[int] = ()) -> StreamParser:
    """The parser after it was fed with `data`, cut at these places."""
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return parse_stream([(end / 1000, data[start:end]) for start, end in itertools.pairwise(places)], framing)


@pytest.mark.parametrize("kind", STREAMS)
@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_events_are_the_same_however_they_are_cut(kind: str, cuts: list[int]) -> None:
    data, framing = STREAMS[kind] + b"the rest", framings[kind]
    whole, stream = parse(data, framing), parse(data, framing, cuts)
    assert [replace(event, at=0) for event in stream.events] == [replace(event, at=0) for event in whole.events]
    assert stream.rest is not None
    assert "".join([event.block for event in [*stream.events, stream.rest]]).encode() == data
    body = Events.of(whole, 0.0)
    assert [parse_object(event.data) for event in stream.events] == [value for _, value, _ in values(body)][:-1]


@given(
    st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=3), max_size=5), st.lists(st.integers(0, 999))
)
def test_any_objects(objects: list[Any], cuts: list[int]) -> None:
    data = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in objects)
    assert [parse_object(event.data) for event in parse(data, "sse", cuts).events] == objects


def test_feeding_gives_the_events_that_end_in_what_was_fed() -> None:
    parser = StreamParser("sse")
    assert parser.feed(b"event: a\ndata: {", 1.0) == []
    assert [(event.at, event.event, event.data) for event in parser.feed(b"}\n\ndata: 2\n", 2.0)] == [(2.0, "a", "{}")]
    assert parser.feed(b"", 3.0) == []
    assert parser.rest == StreamEvent(2.0, "data: 2\n", None, "2", False)
    assert [event.data for event in parser.feed(b"\n", 4.0)] == ["2"]
    assert (parser.rest, len(parser.events)) == (None, 2)


def test_an_event_of_several_lines_has_them_all_for_data() -> None:
    (event,) = parse(b"id: 1\r\ndata: a\r\ndata:b\r\nevent:x\r\n\r\n", "sse").events
    assert (event.event, event.data, event.is_plain) == ("x", "a\nb", False)


def test_which_content_types_are_streams() -> None:
    assert framing_of("text/event-stream") == framing_of("Text/Event-Stream; charset=utf-8") == "sse"
    assert framing_of("application/x-ndjson") == framing_of("application/jsonl") == "ndjson"
    assert framing_of("application/json") is framing_of("") is framing_of("text/plain") is None


@pytest.mark.parametrize(
    ("tail", "ended"),
    [
        (b'data: {"a":1}\n\ndata: [DONE]\n\n', True),
        (b"data:[DONE]\n\n", True),
        (b'event: message_stop\ndata: {"type":"message_stop"}\n\n', True),
        (b'event: response.completed\ndata: {"type":"response.completed"}\n\n', True),
        (b'data: {"type":"response.failed"}\n\n', True),
        (b'data: {"type":"response.incomplete"}\n\n', True),
        (b'{"message":{},"done": true}\n', True),
        (b'data: {"type":"response.in_progress"}\n\n', False),
        (b'{"message":{},"done":false}\n', False),
        (b'data: {"choices":[{"delta":{"content":"DONE"}}]}\n\n', False),
        (b"", False),
    ],
)
def test_streams_say_that_they_are_whole(tail: bytes, ended: bool) -> None:
    assert parse(tail, "ndjson" if tail[:1] == b"{" else "sse").ended is ended


@pytest.mark.parametrize(
    "text",
    [
        "data: [DONE]",
        "\n\ndata: [DONE]\n\n",
        "message_stop",
        "response.completed",
        '"done": true',
        '"finishReason": "STOP"',
    ],
)
def test_a_model_that_writes_about_end_marks_has_not_ended(text: str) -> None:
    data = json.dumps({"choices": [{"delta": {"content": f"The mark is {text}"}}]}).encode()
    assert not parse(b"data: " + data + b"\n\n", "sse").ended
