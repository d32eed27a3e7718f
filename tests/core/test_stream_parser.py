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
from nbreplay.core.recording.stream_parser import (
    Framing,
    StreamEvent,
    StreamParser,
    framing_of,
    parse_block,
    parse_stream,
    write_block,
)
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


@pytest.mark.parametrize(
    ("content_type", "framing"),
    [
        ("text/event-stream", "sse"),
        (" Text/Event-Stream ; charset=utf-8", "sse"),
        ("application/x-ndjson", "ndjson"),
        ("application/ndjson", "ndjson"),
        ("application/jsonl", "ndjson"),
        ("application/x-jsonlines; charset=utf-8", "ndjson"),
        ("application/vnd.amazon.eventstream", "eventstream"),
        ("application/json", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_which_content_types_are_streams(content_type: str, framing: str | None) -> None:
    assert framing_of(content_type) == framing


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_an_event_ends_with_an_empty_line_wherever_its_bytes_are_cut(line_end: str) -> None:
    blocks = [f"data: {number}{line_end}{line_end}" for number in range(3)]
    data = "".join(blocks).encode()
    for cut in range(len(data) + 1):
        for size in (1, len(data)):
            pieces = [data[:cut], *(data[at : at + size] for at in range(cut, len(data), size))]
            stream = parse_stream(enumerate(pieces), "sse")
            assert [event.block for event in stream.events] == blocks
            assert stream.rest is None


def test_line_ends_of_all_kinds_may_be_mixed() -> None:
    blocks = ["data: 1\n\n", "data: 2\r\n\r\n", "data: 3\n\n", "data: 4\r\r", "data: 5\r\n\n\n"]
    for size in (1, 2, 3, 5, 100):
        data = "".join(blocks).encode()
        stream = parse_stream([(0.0, data[at : at + size]) for at in range(0, len(data), size)], "sse")
        assert [event.data for event in stream.events] == ["1", "2", "3", "4", "5"]


def test_each_event_has_the_time_of_its_last_byte() -> None:
    stream = parse_stream([(1.0, b"data: 1\n"), (2.0, b"\ndata: 2\n\nda"), (3.0, b"ta: 3\n\nx")], "sse")
    assert [event.at for event in stream.events] == [2.0, 2.0, 3.0]
    assert stream.rest is not None
    assert (stream.rest.at, stream.rest.block) == (3.0, "x")
    assert StreamParser("sse").rest is None


@pytest.mark.parametrize(
    ("framing", "block", "event", "data", "is_plain"),
    [
        ("sse", "data: x\n\n", None, "x", True),
        ("sse", "event: e\ndata: x\n\n", "e", "x", True),
        ("sse", "data:x\n\n", None, "x", False),
        ("sse", "data:  x\n\n", None, " x", True),
        ("sse", "data: x\ny\n\n", None, "x", False),
        ("sse", "data: x\ndata: y\n\n", None, "x\ny", False),
        ("sse", "data: x\r\n\r\n", None, "x", False),
        ("sse", "event: e\r\ndata: x\r\n\r\n", "e", "x", False),
        ("sse", "event:e\ndata: x\n\n", "e", "x", False),
        ("sse", "event: e\n\n", "e", None, False),
        ("sse", ": ping\n\n", None, None, False),
        ("sse", "id: 1\ndata: x\n\n", None, "x", False),
        ("sse", "data: x\n", None, "x", False),
        ("sse", "data\n\n", None, "", False),
        ("ndjson", "{}\n", None, "{}", True),
        ("ndjson", "{}\r\n", None, "{}", False),
        ("ndjson", "{}", None, "{}", False),
        ("eventstream", "too short", None, None, False),
    ],
)
def test_name_and_data_of_a_block(
    framing: str, block: str, event: str | None, data: str | None, is_plain: bool
) -> None:
    assert parse_block(block, framing) == (event, data, is_plain)
    if is_plain:
        assert data is not None
        assert write_block(event, data, framing) == block


def test_a_message_of_aws_is_written_as_it_was_read() -> None:
    block = write_block("chunk", '{"n":1}', "eventstream")
    assert parse_block(block, "eventstream") == ("chunk", '{"n":1}', True)
    assert parse_block(write_block(None, "{}", "eventstream"), "eventstream")[1] == "{}"
    data = block.encode("utf-8", "surrogateescape")
    for cut in range(len(data)):
        stream = parse_stream([(1.0, data + data[:cut]), (2.0, data[cut:])], "eventstream")
        assert [(event.at, event.block) for event in stream.events] == [(1.0, block), (2.0, block)]


def test_bytes_that_are_not_utf8_come_back() -> None:
    (event,) = parse(b"data: \xff\n\n", "sse").events
    assert event.block.encode("utf-8", "surrogateescape") == b"data: \xff\n\n"


def test_only_the_last_events_and_what_is_pending_can_end_a_stream() -> None:
    end, more = b"data: [DONE]\n\n", b": ping\n\n"
    assert parse(end + more * 5, "sse").ended
    assert not parse(end + more * 6, "sse").ended
    assert parse(more * 9 + b"data: [DONE]\n", "sse").ended
    assert not parse(b"", "sse").ended


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
        (b'data: {"candidates":[{"finishReason": "STOP"}]}\n\n', True),
        (b'data: {"candidates":[{"finishReason": ""}]}\n\n', False),
        (b'data: {"type": "message-end"}\n\n', True),
        (b'data: {"type":"message_stopped"}\n\n', False),
        (b"x data: [DONE]\n\n", False),
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


@pytest.mark.parametrize("size", [1, 2, 3, 99])
@pytest.mark.parametrize(
    ("framing", "blocks"),
    [
        ("sse", ["\n\n", "data: 1\n\n"]),
        ("ndjson", ['{"a":1}\n', "\n", '{"b":2}\r\n', '{"c":3}\n']),
    ],
)
def test_lines_and_empty_events_are_cut_wherever_they_stand(framing: Framing, blocks: list[str], size: int) -> None:
    data = "".join(blocks).encode()
    stream = parse_stream([(0.0, data[at : at + size]) for at in range(0, len(data), size)], framing)
    assert [event.block for event in stream.events] == blocks


def test_a_stream_that_breaks_inside_a_letter_has_not_ended() -> None:
    assert not parse(b"data: \xc3", "sse").ended
