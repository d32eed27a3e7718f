"""Following an answer while it comes gives what reading it afterwards gives, however it is cut into pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.recording.stream_parser import events_of
from nbreplay.notebook.following import Following
from nbreplay.providers.deltas import values
from tests.core.making import json_values

STREAMS = {
    "sse": b'data: {"a":1}\n\ndata: {"b":"\xc3\xa9 data: x"}\n\nevent: e\ndata: {"c":2}\n\n: ping\n\ndata: [DONE]\n\n',
    "crlf": b'data: {"a":1}\r\n\r\nevent: e\r\ndata: {"b":2}\r\n\r\n: ping\r\n\r\n',
    "broken": b'data: {"a":\n\ndata: {}, {}\n\ndata: {"a":1}\n\n',
    "ndjson": b'{"a":1}\n{"b":2}\n',
}


class Told:
    """As much of a recorder as is followed."""

    def __init__(self, kind: str) -> None:
        self.content_type = "application/x-ndjson" if kind == "ndjson" else "text/event-stream"
        self.started = 0.0
        self.pieces: Pieces = []

    def so_far(self) -> Pieces:
        return self.pieces


def followed(data: bytes, cuts: list[int], kind: str) -> list[Any]:
    """What following brings, asked after every piece."""
    recorder = Told(kind)
    following = Following(cast(Recorder, recorder))
    found: list[Any] = []
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    for number, (start, end) in enumerate(itertools.pairwise(places)):
        recorder.pieces.append((number / 1000, data[start:end]))
        found += following.more()[1]
    return found


@pytest.mark.parametrize("kind", STREAMS)
@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_it_is_the_same_however_it_is_cut(kind: str, cuts: list[int]) -> None:
    data = STREAMS[kind]
    framing = "ndjson" if kind == "ndjson" else "sse"
    body = events_of([(0.0, data)], framing, 0.0)
    wanted = [value for _, value, _ in values(body) if value is not None]
    if kind != "broken":
        assert [value for value, _ in followed(data, cuts, kind) if value is not None] == wanted
    assert followed(data, cuts, kind)[-1][0] in (wanted[-1], None)


@given(
    st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=3), max_size=5), st.lists(st.integers(0, 999))
)
def test_any_objects(made: list[Any], cuts: list[int]) -> None:
    data = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in made)
    assert [value for value, _ in followed(data, cuts, "sse")] == made


def test_what_is_no_stream_brings_nothing() -> None:
    recorder = Told("sse")
    recorder.content_type = "application/json"
    recorder.pieces.append((0.0, b"{}\n\n"))
    assert Following(cast(Recorder, recorder)).more() == (0, [])
