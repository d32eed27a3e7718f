"""Bodies come back byte for byte."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import LARGE, Json, Text, is_textual, plain_body
from nbreplay.core.recording.json_text import STYLES, encode_json, parse_json
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError
from tests.core.making import JSON, body_of, json_bodies, json_values, through_file


@given(json_bodies, st.sampled_from(sorted(STYLES)), st.sampled_from(["", "\n", "\r\n", " \n\t"]))
def test_json_is_kept_as_data_in_whatever_style_it_came(value: Any, style: str, end: str) -> None:
    data = (encode_json(value, style) + end).encode()
    body = plain_body(data, JSON)
    assert isinstance(body, Json)
    assert body.value == value
    assert body.data() == data == through_file(body)


@given(
    json_values, st.sampled_from([{"indent": 3}, {"separators": (" ,", " : ")}, {"sort_keys": True}, {"indent": "\t"}])
)
def test_json_in_any_other_style_comes_back_too(value: Any, style: dict[str, Any]) -> None:
    data = json.dumps(value, **style).encode()
    assert plain_body(data, JSON).data() == data == through_file(plain_body(data, JSON))


NUMBERS = st.from_regex(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,3})?", fullmatch=True)


def own(text: str) -> Any:
    """Return what Python's own JSON gives, or the class of errors that says that it is none."""
    try:
        return json.loads(text, parse_constant=lambda name: int(name))
    except ValueError:
        return ValueError


@given(NUMBERS | st.text(alphabet='{}[],:"\\u0dDeE.-+ \n\taftrues1', max_size=12) | json_values.map(json.dumps))
@example("1e400")
@example("-0")
@example("9" * 5000)
@example("18446744073709551616")
@example('{"a": 1, "a": 2}')
@example('"\\ud800"')
@example("NaN")
def test_json_is_read_as_python_itself_reads_it(text: str) -> None:
    # A key is the hash of what was read: another value, or 1.0 for 1, would be another request.
    try:
        made = parse_json(text.encode())
    except ValueError:
        made = ValueError
    wanted = own(text)
    assert made == wanted
    assert repr(made) == repr(wanted)


@given(st.binary(), st.sampled_from(["", JSON, "text/plain", "text/plain; charset=latin-1", "audio/mpeg"]))
@example(b"", "audio/mpeg")
@example(b"{\xff}", JSON)
@example(b"[1]", "application/octet-stream")
@example(b"\xef\xbb\xbf{}", JSON)
def test_any_bytes_come_back(data: bytes, content_type: str) -> None:
    body = plain_body(data, content_type)
    assert body.data() == data == through_file(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1.0,"b":1,"c":1e5,"d":1E5,"e":-0.0,"f":-0}',
        '{"a":0.1000}',
        '{"a":0.1234567890123456789}',
        '{"a":12345678901234567890123.5}',
        '{"a":123456789012345678901234567890}',
        '{"a":1e999,"b":-1e999}',
        '{"a":NaN,"b":Infinity}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":1,"a":2}',
        '{"a":"\\u0041\\/"}',
        '{"a":"\\u00e9 é"}',
        '{"a":"\\u00E9"}',
        '{"a":"\\ud83d\\ude42"}',
        '{"a":"\\ud83d \\ud800 lone"}',
        '{"\\udfff":1}',
        '{"a":"\u2028\u2029\x85\x7f"}',
        '{"a":"\\u0000\\b\\f"}',
        '  {"a":1}',
        '{"a":1}\f',
        '{"a":1} {"b":2}',
        '"a text"',
        '"\\ud800"',
        "17",
        "null",
        '[{"a":1},\n{"b":2}]\n',
        "[]",
        "{",
    ],
)
def test_what_json_has_in_spellings_comes_back(text: str) -> None:
    body = plain_body(text.encode(), JSON)
    assert body.data() == text.encode() == through_file(body)


@pytest.mark.parametrize("opening", ["[", '{"a":', " [ "])
@pytest.mark.parametrize("depth", [90, 400, 950, 100_000])
def test_a_deeply_nested_body_comes_back_and_its_file_can_be_read_from_deep_in_a_program(
    opening: str, depth: int
) -> None:
    data = (opening * depth + "1" + ("]" if "[" in opening else "}") * depth).encode()
    body = plain_body(data, JSON)

    def deeper(levels: int) -> bytes:
        return deeper(levels - 1) if levels else through_file(body)

    assert body.data() == data == deeper(min(400, sys.getrecursionlimit() // 2))


def test_what_is_binary_or_large_is_a_file_named_by_its_digest() -> None:
    sound, large = bytes(range(256)), b'{"a":"' + b"x" * LARGE + b'"}'
    for data, content_type in ((sound, "audio/mpeg"), (large, JSON), (sound, "")):
        body = plain_body(data, content_type)
        assert isinstance(body, Blob)
        assert body.size == len(data)
        assert body_of(body.as_fields()) == Blob(body.name, body.size)
        assert "content" not in body.as_fields()
    assert plain_body(sound, "audio/mpeg") == plain_body(sound, "image/png")
    assert plain_body(sound, "audio/mpeg") != plain_body(sound[1:], "audio/mpeg")


@pytest.mark.parametrize(
    "body", [Json({"b": 1, "a": [1.0, "é"]}), Json([1], "indent-ascii", "\n"), Text("a\r\n\udcff"), Text("")]
)
def test_bodies_read_back_from_what_they_store(body: Json | Text) -> None:
    assert body_of(body.as_fields()) == body


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "/etc/passwd",
        "blob-../../x.bin",
        "chat-0000000000000000.json",
        "blob-" + "0" * 31 + ".bin",
        "blob-" + "0" * 32 + ".bin\n",
        "blob-" + "A" * 32 + ".bin",
        7,
        None,
    ],
)
def test_no_recording_names_a_file_that_is_not_a_blob_beside_it(name: object) -> None:
    with pytest.raises(UnsafeRecordingError):
        body_of({"blob": name, "size": 1})


@pytest.mark.parametrize(
    "fields",
    [
        {"json": 1, "style": "pretty"},
        {"json": 1, "style": ["compact"]},
        {"json": 1, "end": "x"},
        {"json": 1, "end": 1},
        {"blob": "blob-" + "0" * 32 + ".bin"},
        {"blob": "blob-" + "0" * 32 + ".bin", "size": -1},
        {"blob": "blob-" + "0" * 32 + ".bin", "size": True},
        {"text": 7},
        {"text": None},
    ],
)
def test_a_body_that_is_not_as_it_should_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecordingFormatError):
        body_of(fields)


def test_text_may_hold_what_is_no_text() -> None:
    assert Text("a\udcff").data() == b"a\xff" == through_file(Text("a\udcff"))


def test_which_content_types_are_text() -> None:
    for kind in (
        "text/plain",
        "TEXT/HTML; charset=utf-8",
        "application/json",
        "application/problem+json",
        "text/event-stream",
    ):
        assert is_textual(kind)
    for kind in ("audio/mpeg", "application/octet-stream", "image/png", "application/pdf"):
        assert not is_textual(kind)
