"""AWS event streams: readable in a recording, and the same bytes again."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import decode_message, encode_message, parse_stream
from nbreplay.core.recording.stream_redactor import remove_spread_secrets
from nbreplay.core.secrets.redact import Redactor
from nbreplay.errors import RecordingFormatError
from tests.core.making import body_of, objects

SAID = [
    ("messageStart", {"role": "assistant"}),
    *[("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in ("To", "ky", "o")],
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 3}}),
]


def stream(*said: tuple[str, Any]) -> bytes:
    return b"".join(encode_message(event, json.dumps(value, separators=(",", ":"))) for event, value in said)


def test_a_message_is_as_the_service_sends_it() -> None:
    message = encode_message("contentBlockDelta", "{}")
    length, headers = int.from_bytes(message[:4], "big"), int.from_bytes(message[4:8], "big")
    assert length == len(message)
    assert int.from_bytes(message[8:12], "big") == zlib.crc32(message[:8])
    assert int.from_bytes(message[-4:], "big") == zlib.crc32(message[:-4])
    assert message[12 : 12 + headers] == (
        b"\x0b:event-type\x07\x00\x11contentBlockDelta"
        b"\x0d:content-type\x07\x00\x10application/json"
        b"\x0d:message-type\x07\x00\x05event"
    )
    assert message[12 + headers : -4] == b"{}"


@given(st.sampled_from(["a", "exception:throttlingException"]), st.text())
def test_what_is_sealed_opens(event: str, payload: str) -> None:
    payload = payload.encode("utf-8", "replace").decode()
    assert decode_message(encode_message(event, payload)) == (event, payload)


@given(st.binary())
def test_anything_else_is_left_as_it_is(data: bytes) -> None:
    stream = parse_stream([(0.0, data)], "eventstream")
    parts = [*stream.events, *([stream.rest] if stream.rest else [])]
    assert "".join(part.block for part in parts).encode("utf-8", "surrogateescape") == data
    assert all(part.data is None for part in parts)


def test_a_stream_is_kept_as_readable_data_with_its_times() -> None:
    data = stream(*SAID)
    events = Events.parse([(0.1, data[:70]), (0.2, data[70:300]), (0.3, data[300:])], "eventstream", 0.0)
    assert [(chunk.data, chunk.event) for chunk in events.chunks] == [(value, event) for event, value in SAID]
    assert events.duration_ms == 300
    assert events.data() == data
    assert [value for _, value in objects(events)] == [value for _, value in SAID]


def test_a_stream_has_ended_with_its_metadata() -> None:
    assert parse_stream([(0.0, stream(*SAID))], "eventstream").ended
    assert not parse_stream([(0.0, stream(*SAID[:-1]))], "eventstream").ended


def test_a_secret_over_many_messages_is_taken_out_and_they_are_sealed_anew() -> None:
    secret = "sk-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
    words = [secret[start : start + 4] for start in range(0, len(secret), 4)]
    data = stream(*[("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in words])
    events = Events.parse([(0.1, data)], "eventstream", 0.0)
    parts = remove_spread_secrets(events, Redactor())
    assert parts is not None
    texts = [json.loads(found[1])["delta"]["text"] for part in parts if (found := decode_message(part))]
    assert len(texts) == len(words)
    assert "".join(texts) == "[secret:1]"


def test_a_secret_in_a_message_that_is_not_understood_is_not_kept() -> None:
    events = Events.parse([(0.1, b"\0\0\0\x10 odd message, cut")], "eventstream", 0.0)
    with pytest.raises(RecordingFormatError, match="not understood"):
        events.encode_parts(["another text"])


@pytest.mark.parametrize("event", [[], ["x" * 400], ["\ud800"]])
def test_a_name_that_cannot_be_sent_is_refused(event: list[str]) -> None:
    with pytest.raises(RecordingFormatError, match="name"):
        body_of({"framing": "eventstream", "chunks": [[0, {"a": 1}, *event]]})
