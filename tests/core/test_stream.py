"""Streams: cut into chunks, written, read back, and the same bytes again."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbreplay.core.recording.recording import parse
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.stream_parser import encode_message
from nbreplay.core.recording.stream_redactor import remove_spread_secrets
from nbreplay.core.secrets.redact import Redactor
from nbreplay.errors import RecordingFormatError
from tests.core.making import body_of, json_values, objects, recording, take, through_file

FRAMINGS = ("sse", "ndjson", "eventstream")
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1763841350, "model": "gpt-4o-2024-08-06"}


def cut(data: bytes, framing: str = "sse") -> Events:
    return Events.parse([(0.0, data)], framing, 0.0)


def pieces_of(data: bytes, places: list[int]) -> list[tuple[float, bytes]]:
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [(n / 100, data[a:b]) for n, (a, b) in enumerate(itertools.pairwise(bounds))]


def sse(*values: Any, style: tuple[str, str] = (",", ":"), ascii_only: bool = False, **around: str) -> bytes:
    """The bytes that a server would send; the texts among `values` as they are."""
    start, end = around.get("start", "data: "), around.get("end", "\n\n")
    texts = [v if isinstance(v, str) else json.dumps(v, separators=style, ensure_ascii=ascii_only) for v in values]
    return "".join(f"{start}{text}{end}" for text in texts).encode("utf-8", "surrogatepass")


def chunks(*contents: str, **more: Any) -> list[dict[str, Any]]:
    return [{**HEAD, "choices": [{"index": 0, "delta": {"content": text}}], **more} for text in contents]


def stored_in_file(events: Events) -> dict[str, Any]:
    """The fields of a take as they stand in the file."""
    found: dict[str, Any] = json.loads(recording(take(events)).text())["takes"][0]
    return found


@pytest.mark.parametrize("style", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize(
    ("lead", "tail", "compact", "spaced"),
    [
        ({"id": 1}, {}, '[0,{"id":1}]', "[0,{}]"),
        ({}, {"t": 2}, '[0,{"t":2}]', "[0,{}]"),
        ({"id": 1}, {"t": 2}, '[0,"{\\"id\\":1,\\"t\\":2}"]', '[0,"{\\"id\\": 1, \\"t\\": 2}"]'),
    ],
)
def test_a_chunk_without_values_of_its_own_is_stored_as_in_earlier_files(
    lead: dict[str, int], tail: dict[str, int], compact: str, spaced: str, style: tuple[str, str]
) -> None:
    data = sse(*[{**lead, "n": number, **tail} for number in range(3)], {**lead, **tail}, style=style)
    events = cut(data)
    assert events.common == {**lead, **tail}
    assert events.stored_chunks()[-1] == (compact if style == (",", ":") else spaced)
    assert through_file(events) == events.data() == data


@pytest.mark.parametrize("style", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("odd", [{"id": 1, "o": 2}, {"id": 3, "o": 2, "n": 9}, {"id": 1, "n": 9}, {"n": 9}, {}])
@pytest.mark.parametrize("tail", [{}, {"t": 2}])
def test_a_stream_that_was_recorded_equals_the_one_that_is_read(
    odd: dict[str, int], tail: dict[str, int], style: tuple[str, str]
) -> None:
    events = cut(sse(*[{"id": 1, "o": 2, "n": number, **tail} for number in range(4)], {**odd, **tail}, style=style))
    assert parse(recording(take(events)).data()).takes[0].body == events


# What streams are made of, regular and not; any sequence of these must come back.
FRAGMENTS = [
    b'data: {"a":1,"b":"x"}\n\n', b'data: {"a":1,"b":"\\u00e9"}\n\n', b'data: {"a":1,"b":"\xc3\xa9"}\n\n',
    b'data: {"a": 1, "b": 2}\n\n', b'data: {"b":1,"a":1}\n\n', b'data: {"a":1}\n\n', b'data: {"a":1.0,"b":true}\n\n',
    b'data: {"a":true,"b":0}\n\n', b'data: {"a":1,"b":{"a":1}}\n\n', b'data: {"a":1,"a":1,"b":2}\n\n', b"data: {}\n\n",
    b"data: [DONE]\n\n", b"data: \n\n", b"data:\n\n", b"data\n\n", b": ping\n\n", b"id: 7\ndata: {}\n\n", b"\n",
    b"\r\n\r\n",
    b'event: x\ndata: {"a":1,"b":2}\n\n', b"event: \ndata: {}\n\n", b"event: ping\n\n", b'data: {"a":\ndata: 1}\n\n',
    b'data:{"a":1,"b":2}\n\n', b'data: {"a":1,"b":2}\r\n\r\n', b'data: {"a":1,"b":2}\r\r', b'data: {"a":\xff}\n\n',
    b'data: {"a":"\xff"}\n\n', b'data: {"a":NaN}\n\n', b'data: {"a":1},{"b":2}\n\n',
    b'data: {"a":[1\n\n', b'data: {"b":2}]}\n\n', b'data: {"a":"\\ud800","b":"\xe2\x80\xa8\xc2\x85"}\n\n',
    b"\xef\xbb\xbf",
    b'data: {"a":"\\u0000nbreplay\\u0000","b":["\\u0000nbreplay\\u0000",1]}\n\n', b'{"a":1,"b":2}\n',
    b'{"a":1,"b":2}\r\n', encode_message("a", '{"a":1,"b":2}'),
    encode_message("a", '{"a": 1}'), encode_message("b", "\udcff"), encode_message("", "{}"),
    encode_message("exception:e", '{"a":1,"b":2}'), encode_message("a", '{"a":1}')[:-1] + b"x",
]  # fmt: skip


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=6), max_size=14),
    st.lists(st.integers(0, 300)),
    st.sampled_from(FRAMINGS),
)
@example([FRAGMENTS[0]] * 5 + [FRAGMENTS[4]] * 5, [], "sse")
@example([b'data: {"a":[1\n\n', b'data: {"b":2}]}\n\n', b'data: {"a":1},{"b":2}\n\n'], [], "sse")
@example([b'data: {"a":[1\n\n', b'data: {"b":2}]}\n\n', b'data: {"a":1},{"b":2}\n\n'] + [FRAGMENTS[0]] * 9, [], "sse")
@example([FRAGMENTS[at] for at in (3, 0, 0, 2, 1)], [], "sse")
@example([b'data: {"a":1e999,"b":1}\n\n'] * 4, [], "sse")
@example([b'data: {"a":"\xff"}\n\n'] * 4, [], "sse")
@example([b'data: {"a":"\xe2\x80\xa8"}\n\n'] * 4, [], "sse")
@example([b'data: {"a":"\\ud800"}\n\n'] * 4, [], "sse")
def test_any_bytes_cut_anywhere_come_back(parts: list[bytes], places: list[int], framing: str) -> None:
    data = b"".join(parts)
    events = Events.parse(pieces_of(data, places), framing, 0.0)
    assert events.data() == data
    assert b"".join(events.parts()) == data
    assert through_file(events) == data


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), json_values, min_size=1, max_size=4), max_size=6),
    st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]),
    st.booleans(),
    st.sampled_from(FRAMINGS[:2]),
)
def test_any_json_events_come_back_as_bytes_and_as_data(
    values: list[dict[str, Any]], style: tuple[str, str], ascii_only: bool, framing: str
) -> None:
    around = {"start": "", "end": "\n"} if framing == "ndjson" else {}
    data = sse(*values, style=style, ascii_only=ascii_only, **around)
    events = cut(data, framing)
    assert events.data() == data == through_file(events)
    assert [value for _, value in objects(events)] == values


@given(st.lists(st.tuples(st.floats(0, 0.02), st.integers(0, 40)), max_size=40), st.integers(0, 1000))
def test_gaps_are_whole_milliseconds_whose_sums_do_not_drift(arrivals: list[tuple[float, int]], started: int) -> None:
    at, pieces, ends = float(started), [], []
    for gap, size in arrivals:
        at += gap
        pieces.append((at, b"data: " + b"x" * size + b"\n\n"))
        ends.append(round((at - started) * 1000))
    events = Events.parse(pieces, "sse", float(started))
    total, sums = 0, []
    for chunk in events.chunks:
        assert type(chunk.gap_ms) is int
        total += chunk.gap_ms
        sums.append(total)
    assert sums == ends
    assert events.duration_ms == (ends[-1] if ends else 0)


def test_an_event_arrives_with_the_piece_that_holds_its_end() -> None:
    pieces = [(10.1, b"data: a\n"), (10.2, b"\ndata: b\n\ndata: c"), (10.5, b"\n"), (10.9, b"\n: the rest")]
    events = Events.parse(pieces, "sse", 10.0)
    assert [(chunk.gap_ms, chunk.data, chunk.raw) for chunk in events.chunks] == [
        (200, "a", None),
        (0, "b", None),
        (700, "c", None),
        (0, None, ": the rest"),
    ]


@given(
    st.lists(st.binary(max_size=5).filter(lambda data: not set(data) & set(b"\r\n")) | st.just("é…".encode())),
    st.lists(st.integers(0, 200), max_size=30),
)
@example(["é".encode(), b"b"], [7, 8, 9, 10, 11])
@example([b"a", b"b"], [9, 9])
def test_events_of_one_line_arrive_with_the_piece_that_holds_their_end_however_they_are_cut(
    contents: list[bytes], places: list[int]
) -> None:
    parts = [b"data: " + content + b"\n\n" for content in contents]
    pieces = pieces_of(b"".join(parts), places)
    held = list(itertools.accumulate(len(piece) for _, piece in pieces))
    ends = itertools.accumulate(map(len, parts))
    wanted = [
        round(next(at for (at, _), so_far in zip(pieces, held, strict=True) if so_far >= end) * 1000) for end in ends
    ]
    assert list(itertools.accumulate(chunk.gap_ms for chunk in Events.parse(pieces, "sse", 0.0).chunks)) == wanted


def test_the_file_says_once_what_most_chunks_share() -> None:
    sent = chunks("", "Tok", "yo")
    events = cut(sse(*sent, "[DONE]"))
    found = stored_in_file(events)
    assert found["fields"] == [*HEAD, "choices"]
    assert found["common"] == HEAD
    assert found["chunks"] == [
        [0, {"choices": [{"index": 0, "delta": {"content": ""}}]}],
        [0, {"choices": [{"index": 0, "delta": {"content": "Tok"}}]}],
        [0, {"choices": [{"index": 0, "delta": {"content": "yo"}}]}],
        [0, "[DONE]"],
    ]
    assert [value for _, value in objects(events)] == sent


def test_a_chunk_overrides_what_is_shared_by_naming_it() -> None:
    sent = [*chunks("", "Tok", "yo"), {**HEAD, "model": "other", "choices": []}]
    events = cut(sse(*sent))
    found = stored_in_file(events)
    assert found["common"] == HEAD
    assert found["chunks"][-1][1]["model"] == "other"
    found["chunks"][-1] = [0, {"model": "other", "choices": []}]
    assert body_of(found).data() == events.data()
    # Written again, as an import does that sets the times to 0, it names nothing else.
    again = msgspec.structs.replace(events, lines=None)
    assert stored_in_file(again)["chunks"][-1] == [0, {"model": "other", "choices": []}]
    assert again.data() == events.data()


def test_a_chunk_that_lacks_what_is_shared_or_has_another_order_keeps_its_text() -> None:
    short = '{"choices":[]}'
    other = json.dumps({"choices": [], **HEAD}, separators=(",", ":"))
    events = cut(sse(*chunks("a", "b", "c", "d", "e"), short, other))
    assert [each[1] for each in stored_in_file(events)["chunks"]][-2:] == [short, other]
    assert [value for _, value in objects(events)][-2:] == [json.loads(short), json.loads(other)]


def test_each_shape_of_a_block_is_stored_as_the_format_says() -> None:
    blocks = [
        *('data: {"a":1}\n\n', "data: [DONE]\n\n", 'event: ping\ndata: {"a":1}\n\n', "event: end\ndata: x\n\n"),
        *(": comment\n\n", "id: 1\ndata: x\n\n", 'data: {"a":1}\r\n\r\n', "data: a\ndata: b\n\n", 'data:{"a":1}\n\n'),
    ]
    found = stored_in_file(cut("".join(blocks).encode()))
    assert found["chunks"] == [
        [0, {"a": 1}],
        [0, "[DONE]"],
        [0, {"a": 1}, "ping"],
        [0, "x", "end"],
        *([0, None, None, block] for block in blocks[4:]),
    ]


def test_an_event_of_two_lines_among_others_of_one_is_kept_as_it_came() -> None:
    events = cut(b'data: {"a":1}\n\ndata: {"a":\ndata: 1}\n\ndata: {"a":2}\n\n\n\ndata: [DONE]\n\n')
    assert [(chunk.data, chunk.raw) for chunk in events.chunks] == [
        ({"a": 1}, None),
        (None, 'data: {"a":\ndata: 1}\n\n'),
        ({"a": 2}, None),
        (None, "\n\n"),
        ("[DONE]", None),
    ]


def test_what_came_before_it_was_asked_for_came_at_once() -> None:
    events = Events.parse([(0.5, b"data: a\n\n"), (1.25, b"data: b\n\n")], "sse", 1.0)
    assert [chunk.gap_ms for chunk in events.chunks] == [0, 250]


def test_ndjson_is_cut_by_line() -> None:
    lines = [{"message": {"content": text}, "done": False} for text in "abc"]
    data = sse(*lines, start="", end="\n") + b'{"done":true}'
    events = cut(data, "ndjson")
    found = stored_in_file(events)
    assert found["framing"] == "ndjson"
    assert len(found["chunks"]) == 4
    assert found["chunks"][-1] == [0, None, None, '{"done":true}']
    assert [value for _, value in objects(events)][:3] == lines


def test_the_last_line_of_ndjson_counts_without_its_line_end() -> None:
    assert objects(cut(b'{"a":1}\n{"done":true}', "ndjson")) == [(0, {"a": 1}), (0, {"done": True})]


def test_a_stream_written_otherwise_is_still_kept_as_data() -> None:
    values = chunks("Tokyo", "é", "\u2028", "x")
    for style in ((",", ":"), (", ", ": ")):
        for ascii_only in (True, False):
            data = sse(*values, style=style, ascii_only=ascii_only)
            events = cut(data)
            assert through_file(events) == data
            assert all(isinstance(chunk.data, dict) for chunk in events.chunks)


def test_objects_tells_the_time_since_the_request_was_sent() -> None:
    pieces = [(5.25, sse({"a": 1})), (5.5, b": ping\n\n"), (6.0, sse({"a": 2}, end="\r\n\r\n"))]
    assert objects(Events.parse(pieces, "sse", 5.0)) == [(250, {"a": 1}), (1000, {"a": 2})]


@pytest.mark.parametrize("depth", [400, 950, 100_000])
def test_a_deeply_nested_event_comes_back(depth: int) -> None:
    data = sse('{"a":' * depth + "1" + "}" * depth, {"a": 1}, {"a": 2})

    def deeper(levels: int) -> bytes:
        return deeper(levels - 1) if levels else through_file(cut(data))

    assert deeper(300) == data


def test_a_number_beyond_what_a_float_holds_comes_back() -> None:
    data = sse(*['{"a":1e999}'] * 4, {"a": 1})
    assert cut(data).data() == data == through_file(cut(data))


def test_an_empty_stream_is_a_stream() -> None:
    assert cut(b"").chunks == Events(()).chunks == ()
    assert through_file(cut(b"")) == b""
    assert isinstance(body_of({"chunks": []}), Events)


@pytest.mark.parametrize(
    "fields",
    [
        {"chunks": {}},
        {"chunks": [[]]},
        {"chunks": [[1]]},
        {"chunks": [["1", {}]]},
        {"chunks": [[True, {}]]},
        {"chunks": [[1, 7]]},
        {"chunks": [[1, None]]},
        {"chunks": [[1, {}, 7]]},
        {"chunks": [[1, None, None, 7]]},
        {"chunks": [[1, {}, None, "text"]]},
        {"chunks": [[1, {}, None, None, None]]},
        {"chunks": ["ab"]},
        {"chunks": [7]},
        {"chunks": [], "framing": "websocket"},
        {"chunks": [], "style": "indent"},
        {"chunks": [], "style": ["compact"]},
        {"chunks": [], "fields": "id"},
        {"chunks": [], "fields": [1]},
        {"chunks": [], "common": []},
    ],
)
def test_a_stream_that_is_not_as_it_should_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecordingFormatError):
        body_of(fields)


def test_chunks_are_tuples_of_gap_data_event_and_text() -> None:
    assert Chunk(3, "x") == (3, "x", None, None)


# Secrets that a model writes piece by piece.


@pytest.mark.parametrize(
    "pieces",
    [
        ["My key: ", "sk-", "aB3d", "E5fG", "7hJ9", "kL1m", "N3pQ", ".", " Keep", " it."],
        # Most pieces are alike, and stored once for all chunks.
        ["My key: ", "sk-", *["a1B2"] * 16],
    ],
    ids=["different", "alike"],
)
@pytest.mark.parametrize("framing", ["sse", "ndjson"])
def test_a_secret_over_many_chunks_is_taken_out(framing: str, pieces: list[str]) -> None:
    head, tail = ("", "\n") if framing == "ndjson" else ("data: ", "\n\n")
    values = [{"model": "m", "response": piece, "at": at} for at, piece in enumerate(pieces)]
    events = cut(sse(*values, start=head, end=tail), framing)
    clean = remove_spread_secrets(events, Redactor())
    assert clean is not None
    found = [json.loads(part[len(head) :])["response"] for part in clean]
    assert len(found) == len(pieces)
    assert "".join(found).startswith("My key: [secret:1]")
    assert "a1B2" not in "".join(found)
    assert "aB3d" not in "".join(found)
    assert remove_spread_secrets(cut(b"".join(clean), framing), Redactor()) is None
