"""The file: written, read, written again, and the same. And every recording that can be found."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text, plain_body
from nbreplay.core.recording.json_text import parse_stored
from nbreplay.core.recording.recording import FORMAT, Recording, file_name, parse, parse_head
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.request.request import key_of
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError
from tests.core.making import JSON, json_bodies, json_values, objects, recording, take, through_file

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ROOT.parent / "shared" / "recordings-llama-stack"
OWN = ROOT / "recordings"

EXAMPLE = """{
  "nbreplay": 1,
  "key": "k1:3f2a9c81d04be77a",
  "kind": "chat",
  "request": {"method": "POST", "endpoint": "chat/completions",
    "body": {"model": "gpt-4o", "stream": true,
      "messages": [
        {"role": "user", "content": "Weather in Tokyo?"}
      ]}},
  "takes": [
    {"recorded_at": "2026-11-22T20:15:50Z", "host": "api.openai.com", "url": "/v1/chat/completions", "sdk": "openai 3.54.0",
     "cell": {"id": "9f2c41d0", "source": "b41c77e2"}, "ids": [],
     "status": 200, "headers": {"content-type": "text/event-stream", "x-request-id": "req_1"}, "complete": true,
     "fields": ["id", "object", "created", "model", "choices"],
     "common": {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1763841350, "model": "gpt-4o-2024-08-06"},
     "chunks": [
      [312, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}],
      [19, {"choices": [{"index": 0, "delta": {"content": "Tokyo"}}]}],
      [1, "[DONE]"]
     ]}
  ]
}
"""  # noqa: E501
HEAD = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1763841350,"model":"gpt-4o-2024-08-06","choices":'


def test_a_file_as_the_format_is_described_is_read() -> None:
    found = parse(EXAMPLE)
    assert (found.key, found.kind) == ("k1:3f2a9c81d04be77a", "chat")
    assert found.request["body"]["messages"] == [{"role": "user", "content": "Weather in Tokyo?"}]
    (only,) = found.takes
    assert only.cell == CellRef("9f2c41d0", "b41c77e2")
    assert (only.host, only.url, only.sdk) == ("api.openai.com", "/v1/chat/completions", "openai 3.54.0")
    assert (only.status, only.complete, only.reason, only.ids, only.redacted) == (200, True, None, (), 0)
    assert only.headers == {"content-type": "text/event-stream", "x-request-id": "req_1"}
    assert only.body.data().decode() == (
        f'data: {HEAD}[{{"index":0,"delta":{{"role":"assistant","content":""}}}}]}}\n\n'
        f'data: {HEAD}[{{"index":0,"delta":{{"content":"Tokyo"}}}}]}}\n\n'
        "data: [DONE]\n\n"
    )
    assert isinstance(only.body, Events)
    assert only.body.duration_ms == 332
    assert parse(found.text()) == found


def test_a_file_has_a_line_for_each_message_and_each_chunk() -> None:
    messages = [{"role": "user", "content": f"line\nbreaks\r\u2028\u2029\x85 {n}"} for n in range(3)]
    body = {"model": "m", "messages": messages, "tools": [{"type": "function"}] * 2}
    events = Events(
        (Chunk(5, {"a": "x\ny\u2028"}), Chunk(1, {"b": 2}, "ev"), Chunk(0, None, None, ": p\n\n"), Chunk(2, "z"))
    )
    text = recording(take(events), take(Json({"n": 1})), body=body).text()
    data = text.encode("utf-8")
    assert text.endswith("}\n")
    assert b"\r" not in data
    assert "\t" not in text
    lines = text.splitlines()  # splits at what editors split at, too
    assert text.count("\n") == len(lines)
    for each in messages:
        assert (
            sum(
                json.dumps(each["content"][-1]) in line or line.rstrip(",").endswith(f'{each["content"][-1]}"}}')
                for line in lines
            )
            == 1
        )
    assert [line.strip().rstrip(",") for line in lines if line.strip().startswith("[")] == [
        '[5,{"a":"x\\ny\\u2028"}]',
        '[1,{"b":2},"ev"]',
        '[0,null,null,": p\\n\\n"]',
        '[2,"z"]',
    ]
    assert parse(data).request["body"] == body


@given(
    json_bodies,
    st.lists(st.text(), max_size=3),
    st.dictionaries(
        st.text(string.ascii_letters + "-_", min_size=1),
        st.text(st.characters(codec="utf-8", exclude_characters="\r\0")),
    ),
    st.text(),
    json_values,
)
def test_whatever_a_take_holds_comes_back(
    body: Any, ids: list[str], headers: dict[str, str], text: str, more: Any
) -> None:
    one = Take(
        text,
        text,
        text,
        text,
        CellRef(text, text),
        tuple(ids),
        status=404,
        headers=headers,
        complete=False,
        reason="closed",
        redacted=3,
        elapsed_ms=17,
        reason_phrase="Not Here",
        http_version="HTTP/1.0",
        sized=False,
        error={"type": text, "message": text},
        body=Json(body),
        extra={"later": more},
    )
    two = take(Text(text), at=1)
    whole = Recording(
        "k1:ab", "http", {"method": text, "body": body, "query": [[text, text]]}, (one, two), (), {"later": more}
    )
    again = parse(whole.text())
    assert again == whole
    assert again.text() == whole.text()


@pytest.mark.parametrize(
    "body", [None, {}, [], "", "text", 1.5, [1, {}], [{}], {"a": []}, {"a": [{}, 1]}, {"a": [{}], "b": 1}]
)
def test_requests_of_every_shape_come_back(body: Any) -> None:
    for name in ("body", "arguments", "parts"):
        fields = {"method": "POST", name: body}
        assert parse(Recording("k1:0", "http", fields).text()).request == fields
    assert parse(Recording("k1:0", "tool", {"body": body}).text()).request == {"body": body}
    assert parse(Recording("k1:0", "http", {}).text()).request == {}


def test_numbers_keep_their_type_and_every_digit() -> None:
    body = {
        "temperature": 1.0,
        "top_p": 1,
        "seed": 12345678901234567890,
        "x": 0.1 + 0.2,
        "y": 1e-7,
        "z": -0.0,
        "t": True,
    }
    assert repr(parse(recording(take(), body=body).text()).request["body"]) == repr(body)


def test_a_failure_without_an_answer_comes_back() -> None:
    one = take(
        Text(""), status=None, complete=False, reason="dropped", error={"type": "ConnectError", "message": "no route"}
    )
    again = parse(recording(one).text()).takes[0]
    assert again == one
    assert again.transient
    assert not again.good


@pytest.mark.parametrize(
    ("more", "transient", "good"),
    [
        ({}, False, True),
        ({"status": 400}, False, True),
        ({"status": 404}, False, True),
        *(({"status": status}, True, False) for status in (401, 403, 408, 409, 429, 500, 502, 503, 529)),
        ({"complete": False, "reason": "closed"}, False, True),
        ({"complete": False, "reason": "interrupted"}, False, False),
        ({"complete": False, "reason": "dropped"}, False, False),
        ({"complete": False, "reason": "open"}, False, False),
        ({"status": 500, "complete": False, "reason": "closed"}, True, False),
    ],
)
def test_which_takes_are_failures_that_may_pass(more: dict[str, Any], transient: bool, good: bool) -> None:
    assert (take(**more).transient, take(**more).good) == (transient, good)


def test_what_later_versions_add_is_kept() -> None:
    data = json.loads(EXAMPLE)
    data["tags"], data["takes"][0]["cost"] = ["a"], {"usd": 0.1}
    found = parse(json.dumps(data))
    again = json.loads(found.with_takes([*found.takes, take()]).text())
    assert again["tags"] == ["a"]
    assert again["takes"][0]["cost"] == {"usd": 0.1}
    assert "cost" not in again["takes"][1]


def test_adding_a_take_leaves_the_lines_of_the_others_as_they_are() -> None:
    one = recording(take(at=1), take(at=2)).with_takes([take(at=1), take(at=2)])
    more = one.with_takes([*one.takes, take(at=3)])
    assert more.text() == recording(take(at=1), take(at=2), take(at=3)).text()
    assert more.with_takes(more.takes[1:]).text() == recording(take(at=2), take(at=3)).text()


def test_the_name_of_a_file_is_its_kind_and_the_head_of_its_key() -> None:
    assert file_name("chat", "k1:3f2a9c81d04be77a0123456789") == "chat-3f2a9c81d04be77a.json"


def test_the_head_is_read_without_the_takes() -> None:
    text = recording(take(), body={"model": "m", "x": '\n  "takes": [', "messages": []}).text()
    whole = parse(text)
    assert parse_head(text) == (whole.kind, whole.key, whole.request)
    cut = text[: text.index('\n  "takes": [') + 14]
    assert parse_head(cut) == (whole.kind, whole.key, whole.request)
    assert parse_head(json.dumps(json.loads(text))) == (whole.kind, whole.key, whole.request)
    with pytest.raises(RecordingFormatError):
        parse_head("{}")


def changed(**fields: Any) -> str:
    data = json.loads(EXAMPLE)
    for name, value in fields.items():
        where = data if name in data else data["takes"][0]
        where[name] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "invalid JSON"),
        ("{", "invalid JSON"),
        (EXAMPLE[:700], "invalid JSON"),
        ("<<<<<<< HEAD\n" + EXAMPLE, "invalid JSON"),
        ("[]", "nbreplay"),
        ("null", "nbreplay"),
        ('{"version": 1, "interactions": []}', "nbreplay"),
        ("[" * 100_000, "deep"),
        (changed(nbreplay=FORMAT + 1), "newer"),
        (changed(nbreplay=0), "format"),
        (changed(nbreplay="1"), "format"),
        (changed(nbreplay=True), "format"),
        (changed(key=7), "key"),
        (changed(kind=None), "kind"),
        (changed(request=[]), "request"),
        (changed(takes={}), "takes"),
        (changed(takes=[7]), "take 1"),
        (changed(status="200"), "status"),
        (changed(status=7), "status"),
        (changed(status=True), "status"),
        (changed(host=7), "host"),
        (changed(headers={"a": 1}), "header"),
        (changed(headers="a"), "take 1"),
        (changed(reason="bored"), "reason"),
        (changed(elapsed_ms="1"), "elapsed_ms"),
        (changed(task="1"), "task"),
        (changed(task=True), "task"),
        (changed(thread="a"), "thread"),
        (changed(thread="1."), "thread"),
        (changed(turns=[[1]]), "turns"),
        (changed(turns=[[-1, 0]]), "turns"),
        (changed(tool=1), "tool"),
        (changed(ids="call_1"), "ids"),
        (changed(ids=[1]), "ids"),
        (changed(error="ReadError"), "take 1"),
        (changed(error={"type": 1}), "error"),
        (changed(cell="x"), "take 1"),
        (changed(chunks=[[1, {}, 2]]), "take 1"),
        (changed(chunks=7), "take 1"),
        (changed(common=[]), "take 1"),
        (changed(style="odd"), "take 1"),
    ],
)
def test_what_is_no_recording_says_why(text: str, says: str) -> None:
    with pytest.raises(RecordingFormatError, match=says):
        parse(text)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "chat-0000000000000000.json"])
def test_no_recording_points_outside(name: str) -> None:
    data = json.loads(EXAMPLE)
    data["takes"] = [{"status": 200, "blob": name, "size": 1}]
    with pytest.raises(UnsafeRecordingError):
        parse(json.dumps(data))


# Recordings of a real model and of another recorder.


def test_every_recording_of_the_documentation_is_keyed_right_and_comes_back() -> None:
    paths = sorted(OWN.glob("*.json"))
    assert paths
    for path in paths:
        data = path.read_bytes()
        found = parse(data)
        assert key_of(found.kind, found.request) == found.key, path.name
        assert file_name(found.kind, found.key) == path.name
        assert found.text().encode() == data, path.name
        assert parse_head(data.decode()) == (found.kind, found.key, found.request)
        for one in found.takes:
            body = one.body
            if isinstance(body, Events):
                again: Any = Events.parse([(0.0, part) for part in body.parts()], body.framing, 0.0)
                assert again.data() == body.data()
            elif not isinstance(body, Blob):
                assert plain_body(body.data(), one.headers.get("content-type", "")) == body, path.name


def bare(node: Any) -> Any:
    """What a server sent, out of what the other recorder made of it."""
    return node["__data__"] if isinstance(node, dict) and "__data__" in node else node


def foreign_answers() -> Iterator[tuple[str, Any]]:
    for path in sorted(FOREIGN.rglob("*.json")):
        body = json.loads(path.read_bytes()).get("response", {}).get("body")
        if isinstance(body, dict | list):
            yield path.name, [bare(item) for item in body] if isinstance(body, list) else bare(body)


@pytest.mark.skipif(
    not FOREIGN.is_dir(), reason="the folder with llama-stack's recordings is not beside the repository"
)
def test_every_answer_that_another_recorder_has_comes_back() -> None:
    # As OpenAI and most servers write JSON, as Python does by default, and as ASCII without spaces.
    styles = itertools.cycle(((",", ":", False), (", ", ": ", True), (",", ":", True), (", ", ": ", False)))
    streams = plain = 0
    for (name, body), (comma, colon, ascii_only) in zip(foreign_answers(), styles, strict=False):
        encode = json.JSONEncoder(separators=(comma, colon), ensure_ascii=ascii_only).encode
        if isinstance(body, list):
            lines = [item if isinstance(item, str) else encode(item) for item in body]
            framing = "ndjson" if len(lines) % 5 == 0 else "sse"
            parts = [f"{line}\n" if framing == "ndjson" else f"data: {line}\n\n" for line in lines] + [
                "data: [DONE]\n\n"
            ]
            data = "".join(parts).encode()
            events = Events.parse([(n / 100, part.encode()) for n, part in enumerate(parts)], framing, 0.0)
            assert events.data() == data, name
            assert through_file(events) == data, name
            if framing == "sse":
                assert [value for _, value in objects(events)] == [item for item in body if isinstance(item, dict)], (
                    name
                )
            assert all(isinstance(chunk.data, dict) for chunk in events.chunks if str(chunk.data)[:1] == "{"), name
            streams += 1
        else:
            data = (encode(body) + "\n" * (len(name) % 2)).encode()
            kept = plain_body(data, JSON)
            assert isinstance(kept, Json | Blob), name
            assert kept.data() == data, name
            assert through_file(kept) == data, name
            plain += 1
    assert streams > 50
    assert plain > 50


# What is read of a file only when somebody wants it.


@pytest.mark.parametrize("where", ["question", "answer"])
def test_what_is_no_utf8_is_refused_though_nobody_has_read_it(where: str) -> None:
    text = recording(take(Json({"text": "answer"})), body={"model": "m", "messages": ["question"]}).text()
    with pytest.raises(UnicodeDecodeError):
        parse(text.encode().replace(where.encode(), b"\xff"))


@pytest.mark.parametrize("broken", ["{,}", '{"a": 01}', '{"a": "\\q"}', '{"a": "\n"}', '{"a": 1,}', "{"])
def test_what_is_no_json_is_refused_though_nobody_has_read_it(broken: str) -> None:
    whole = '{"nbreplay": 1, "key": "k1:0", "kind": "http", "request": %s, "takes": [{"json": %s}]}'
    assert parse(whole % ("{}", "{}")).takes[0].body.data() == b"{}"
    for text in (whole % (broken, "{}"), whole % ("{}", broken)):
        with pytest.raises(RecordingFormatError, match="invalid JSON"):
            parse(text)


def test_what_is_nested_too_deeply_says_so_when_it_is_read() -> None:
    with pytest.raises(RecordingFormatError, match="deep"):
        parse_stored(msgspec.Raw(b"[" * 100_000 + b"]" * 100_000))


@given(json_values, st.sampled_from(["", "\n"]))
def test_an_answers_json_is_given_back_the_same_before_and_after_somebody_reads_it(value: Any, end: str) -> None:
    text = recording(take(Json([value], end=end))).text()
    one, two = (parse(text).takes[0].body for _ in range(2))
    assert isinstance(two, Json)
    assert two.value == [value]
    assert one.data() == two.data() == Json([value], end=end).data()
    assert one == two


@pytest.mark.parametrize(
    "odd", ["\u2028", "\x85", "\u2029", "\\u2028", "\ud83d", "\x00\x1f\x7f", "\\", '"', "/", "é😀"]
)
def test_an_answers_characters_are_given_back_as_the_server_wrote_them(odd: str) -> None:
    value = {"text": f"a{odd}b"}
    body = Json(value)
    if odd == "\ud83d":
        with pytest.raises(RecordingFormatError, match="cannot be written"):
            body.data()
        return
    assert parse(recording(take(body)).text().encode()).takes[0].body.data() == body.data()
