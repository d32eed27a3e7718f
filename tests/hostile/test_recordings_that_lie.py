"""Recordings that lie: whatever a file says, a replay, a load and a show of it end in an error that names the file."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import nbreplay as nr
from nbreplay.core.log import Interaction
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording import stream
from nbreplay.core.recording.body import Json, Text, plain_body
from nbreplay.core.recording.recording import Recording, parse
from nbreplay.core.recording.stream import LONGEST_MS, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request, key_of
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, RecordingFormatError, UnsafeRecordingError
from nbreplay.notebook import render
from tests.clients import http as httpx
from tests.core.making import call, json_bodies, record, replayed, request, session

HOST, PATH = "model.example", "/v1/chat/completions"
URL = f"http://{HOST}{PATH}"
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Weather?"}]}
MESSAGE = {"role": "assistant", "content": "Sunny"}
CHOICES = [{"index": 0, "finish_reason": "stop", "message": MESSAGE}]
SAID = {"id": "c1", "object": "chat.completion", "model": "m", "created": 1, "choices": CHOICES}
FIELDS = {"method": "POST", "endpoint": "chat/completions", "body": ASKED}
KEY = key_of("chat", FIELDS)
HALF, DIGITS = '"\\ud800"', "1" * 100_000
DEEP = "[" * 600 + "]" * 600


def stored(folder: Path, edit: Callable[[dict[str, Any]], Any] = lambda _: None, *swaps: tuple[str, str]) -> Path:
    """Write a recording of a chat, edited as data and then as text; return its path."""
    take = Take("2026-01-01T00:00:00Z", HOST, PATH, "tests 1.0", body=Json(SAID), headers={"content-type": "text/json"})
    data = json.loads(Recording(KEY, "chat", FIELDS, (take,)).text())
    edit(data)
    text = json.dumps(data)
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(exist_ok=True)
    path = folder / f"chat-{KEY[3:19]}.json"
    path.write_text(text, "utf-8")
    return path


def answered(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that puts other fields of a body in place of the take's."""

    def edit(data: dict[str, Any]) -> None:
        del data["takes"][0]["json"]
        data["takes"][0].update(fields)

    return edit


def also(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that adds fields to the take."""
    return lambda data: data["takes"][0].update(fields)


# Each way of asking, with the library's own code.


def by_httpx() -> bytes:
    return bytes(httpx.post(URL, json=ASKED).content)


def by_requests() -> bytes:
    return requests.post(URL, json=ASKED, timeout=10).content


def by_urllib3() -> bytes:
    return urllib3.request("POST", URL, json=ASKED).data


def by_http_client() -> bytes:
    connection = http.client.HTTPConnection(HOST)
    connection.request("POST", PATH, json.dumps(ASKED), {"content-type": "application/json"})
    return connection.getresponse().read()


def by_aiohttp() -> bytes:
    async def ask() -> bytes:
        async with aiohttp.ClientSession() as session, session.post(URL, json=ASKED) as response:
            return await response.read()

    return asyncio.run(ask())


def by_openai() -> bytes:
    with openai.OpenAI(base_url=f"http://{HOST}/v1", api_key="none", max_retries=0) as client:
        return repr(client.chat.completions.create(**ASKED)).encode()


CLIENTS = [by_httpx, by_requests, by_urllib3, by_http_client, by_aiohttp, by_openai]


def missed(store: Path, ask: Callable[[], bytes] = by_httpx, mode: str = "replay", **options: Any) -> str:
    """Ask, which must miss because of the file; return what the error says."""
    with nr.session(store, mode=mode, **options) as session, pytest.raises(nr.RecordingMissing) as caught:
        ask()
    assert isinstance(caught.value.__cause__, RecordingFormatError)
    assert [item.outcome for item in session.interactions] == ["missing"]
    text = str(caught.value)
    text.encode("utf-8")
    return text


# One body


BODIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "none": answered(),
    "json and text": also(text="Rainy"),
    "json and chunks": also(chunks=[]),
    "json and blob": also(blob="blob-" + "0" * 32 + ".bin", size=1),
    "text and chunks": answered(text="", chunks=[]),
    "chunks and blob": answered(chunks=[], blob="blob-" + "0" * 32 + ".bin", size=1),
}


@pytest.mark.parametrize("more", [{}, {"later": 1}], ids=["as it is", "with a field of a later version"])
@pytest.mark.parametrize("name", BODIES)
def test_a_take_has_exactly_one_body(tmp_path: Path, name: str, more: dict[str, Any]) -> None:
    path = stored(tmp_path / "store", lambda data: (BODIES[name](data), also(**more)(data)))
    text = missed(tmp_path / "store")
    assert str(path) in text
    assert "take 1: a take must have one of json, text, blob and chunks" in text
    assert all(part in text for part in name.split(" and "))


@pytest.mark.parametrize("body", [Text(""), Text("a"), Json(None), Json(""), Events(()), plain_body(b"\xff", "a/b")])
def test_what_is_recorded_has_one(body: Any) -> None:
    take = Take(body=body, status=None if body == Text("") else 200)
    parse(Recording(KEY, "chat", FIELDS, (take,)).data())


# The key and the request


def edit_request(data: dict[str, Any]) -> None:
    data["request"]["body"]["messages"][0]["content"] = "Stocks?"


def edit_kind(data: dict[str, Any]) -> None:
    data["kind"] = "message"


def edit_key(data: dict[str, Any]) -> None:
    data["key"] = KEY[:-1] + ("0" if KEY[-1] != "0" else "1")


@pytest.mark.parametrize("mode", ["replay", "auto", "record"])
@pytest.mark.parametrize("edit", [edit_request, edit_key, edit_kind])
def test_a_key_that_is_not_that_of_the_request_is_an_error(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], mode: str
) -> None:
    path = stored(tmp_path / "store", edit)
    before = path.read_bytes()
    text = missed(tmp_path / "store", mode=mode)
    assert f"{path} cannot be read: the key" in text
    assert "does not match its request" in text
    assert "One of the two was edited. Restore it from version control, or remove it and record anew" in text
    assert path.read_bytes() == before


def test_a_recording_that_an_option_heals_is_checked_too(tmp_path: Path) -> None:
    # The key of another day: what is asked is found by the request alone.
    def edit(data: dict[str, Any]) -> None:
        data["request"]["body"]["seed"] = 7

    path = stored(tmp_path / "store", edit)
    assert "does not match its request" in missed(tmp_path / "store", ignore=["seed"])
    data = json.loads(path.read_text())
    key = key_of("chat", data["request"])
    path.unlink()
    (tmp_path / "store" / f"chat-{key[3:19]}.json").write_text(json.dumps({**data, "key": key}))
    with nr.session(tmp_path / "store", mode="replay", ignore=["seed"]):
        assert json.loads(by_httpx()) == SAID


def test_a_key_of_another_algorithm_says_so(tmp_path: Path) -> None:
    stored(tmp_path / "store", lambda data: data.update(key="k2:" + KEY[3:]))
    text = missed(tmp_path / "store")
    assert "unknown key algorithm 'k2': this nbreplay knows 'k1'. Install a newer nbreplay" in text


def test_another_recording_under_the_name_that_is_asked_is_an_error(tmp_path: Path) -> None:
    other = {**FIELDS, "body": {**ASKED, "model": "n"}}
    key = key_of("chat", other)
    path = stored(tmp_path / "store", lambda data: data.update(key=key, request=other))
    text = missed(tmp_path / "store")
    assert f"{path} holds another request, with the key {key}" in text
    assert f"Rename it to chat-{key[3:19]}.json" in text


def test_a_recording_under_another_name_is_pointed_at(tmp_path: Path) -> None:
    path = stored(tmp_path / "store")
    path.rename(path.with_name("chat-0123456789abcdef.json"))
    with nr.session(tmp_path / "store", mode="replay"), pytest.raises(nr.RecordingMissing) as caught:
        by_httpx()
    assert "chat-0123456789abcdef.json holds this very request under another name or key" in str(caught.value)
    assert f"Rename it to {path.name}" in str(caught.value)


def test_a_file_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "store")
    seen: list[Recording] = []
    real = Recording.computed_key

    def counted(self: Recording) -> str:
        seen.append(self)
        return real(self)

    monkeypatch.setattr(Recording, "computed_key", counted)
    store = Store(tmp_path / "store")
    assert store.find("chat", KEY) is store.find("chat", KEY)
    assert len(seen) == 1
    nr.load(tmp_path / "store", cache=False)
    assert len(seen) == 1, "nbreplay check does that"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1e400, "b": [1.0, 1e22, -0.0, 1e-7, 12345678901234567890123]}',
        b'{"a": "\\ud83d \\u007f \\u2028 \xc3\xa9"}',
        b'{"b": 1, "a": 2, "b": 3}',
        b"[" * 199 + b"]" * 199,
        b"[" * 500 + b"]" * 500,
        b'{"a": NaN}',
        b"a=1&b=2",
        b"\xff\x00",
    ],
)
def test_whatever_is_recorded_passes_the_check(tmp_path: Path, body: bytes) -> None:
    with session(tmp_path) as live:
        record(live, call(raw=body), SAID)
    for _ in range(2):
        with session(tmp_path, mode="replay") as live:
            assert replayed(live, call(raw=body)) == SAID


@given(json_bodies, st.text())
def test_whatever_is_asked_has_the_key_that_its_file_has(body: Any, path: str) -> None:
    for made in (request(call(body)), request(call(body, path="/" + path, host="a.example"))):
        parse(Recording(made.key, made.kind, made.fields).data()).verify()


def test_whatever_a_tool_is_given_has_the_key_that_its_file_has(tmp_path: Path) -> None:
    @nr.tool
    def look(given: Any) -> str:
        return str(type(given))

    values = [
        {2: "a", 10: "b", 1: "c"},
        {1.5: 1, None: 2, True: 3},
        (1, 2.0),
        {"a"},
        b"\xff",
        float("nan"),
        1e16,
        "\ud800",
    ]
    for mode in ("record", "replay"):
        with nr.session(tmp_path, mode=mode):
            for value in values:
                look(value)


# Sizes, numbers, depth, characters


def test_a_short_file_is_not_blown_up(tmp_path: Path) -> None:
    common = {"a": "x" * 160_000, "b": 1, "c": 2}
    path = stored(
        tmp_path / "store",
        answered(fields=[*common, "d"], common=common, chunks=[[0, {"d": n}] for n in range(13_000)]),
    )
    assert path.stat().st_size < 512 << 10
    program = (
        f"import resource, sys, nbreplay, {httpx.__name__} as httpx\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        f"with nbreplay.session({str(tmp_path / 'store')!r}, mode='replay'):\n"
        "    try:\n"
        f"        httpx.post({URL!r}, json={ASKED!r})\n"
        "    except nbreplay.RecordingMissing as error:\n"
        "        print(type(error.__cause__).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "UnsafeRecordingError" in done.stdout, done.stderr
    assert "share values that make them larger than a stream may be" in done.stdout
    found = nr.load(tmp_path / "store", strict=False, cache=False)
    assert list(found.unread.file) == [str(path)]


def test_the_names_of_a_stream_are_bounded_too() -> None:
    names = [f"n{n}" for n in range(20_000)]
    chunks = [[0, {"n1": 1}] for _ in range(20_000)]
    take = {"chunks": chunks, "fields": [*names, "a"], "common": {"a": 1}}
    text = json.dumps({"nbreplay": 1, "key": KEY, "kind": "chat", "request": FIELDS, "takes": [take]})
    with pytest.raises(UnsafeRecordingError, match="take 1: the 20,000 chunks share values"):
        parse(text)


def test_a_long_stream_of_a_model_is_far_below_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_AMPLE", stream._AMPLE >> 8)
    line = 'data: {"id":"%s","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    data = (line % ("c" * 600)).encode() * 2000
    events = Events.parse([(1.0, data)], "sse", 0.0)
    assert events.common
    take = Take(body=events)
    assert parse(Recording(KEY, "chat", FIELDS, (take,)).data()).takes[0].body.data() == data


def test_what_is_recorded_is_never_refused_for_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_AMPLE", stream._AMPLE >> 8)
    line = 'data: {"prompt":"%s","a":"%d"}\n\n'
    data = "".join(line % ("p" * 20_000, n) for n in range(40)).encode()
    events = Events.parse([(1.0, data)], "sse", 0.0)
    assert not events.common
    assert parse(Recording(KEY, "chat", FIELDS, (Take(body=events),)).data()).takes[0].body.data() == data


def test_what_is_recorded_is_never_refused_for_its_times() -> None:
    pieces = [(0.0, b"data: 1\n\n"), (1e9, b"data: 2\n\n"), (5.0, b"data: 3\n\n")]
    events = Events.parse(pieces, "sse", 0.0)
    parse(Recording(KEY, "chat", FIELDS, (Take(body=events),)).data())
    assert [chunk.gap_ms for chunk in events.chunks] == [0, LONGEST_MS, 0]


NUMBERS = ["-1", str(10**12), "1" + "0" * 400, "NaN", "Infinity", "1e400", DIGITS, '"1"', "true", "null", "[]"]


@pytest.mark.full(quick="each")
@pytest.mark.parametrize(
    ("field", "number"),
    [
        (field, number)
        for field in ("gap", "status", "redacted", "elapsed_ms", "task", "size")
        for number in NUMBERS
        if number != "null" or field in ("gap", "redacted", "size")
    ],
)
def test_a_number_out_of_bounds_is_refused(tmp_path: Path, field: str, number: str) -> None:
    edit = also(**{field: "@"})
    if field == "gap":
        edit = answered(chunks=[["@", "a"]])
    elif field == "size":
        edit = answered(blob="blob-" + "0" * 32 + ".bin", size="@")
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / ("blob-" + "0" * 32 + ".bin")).write_bytes(b"a")
    path = stored(tmp_path / "store", edit, ('"@"', number))
    text = missed(tmp_path / "store")
    assert path.name in text
    assert len(text) < 3000
    with pytest.raises(RecordingFormatError, match=path.name):
        nr.load(tmp_path / "store", cache=False)


def test_a_wait_within_the_bound_is_kept(tmp_path: Path) -> None:
    stored(tmp_path / "store", answered(chunks=[[LONGEST_MS, "a"], [0, "b"]], elapsed_ms=LONGEST_MS / 2))
    with nr.session(tmp_path / "store", mode="replay"):
        assert by_httpx() == b"data: a\n\ndata: b\n\n"


WHAT = {
    "half of a surrogate pair": HALF,
    "an integer of 100,000 digits": f'{{"n": {DIGITS}}}',
    "absurdly deep": DEEP,
}
PLACES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "request": lambda data: data["request"]["body"].update(x="@"),
    "json": lambda data: data["takes"][0]["json"].update(x="@"),
    "json with a later field": lambda data: (data["takes"][0]["json"].update(x="@"), also(later=1)(data)),
    "spaced json": lambda data: (data["takes"][0]["json"].update(x="@"), also(style="spaced")(data)),
    "text": answered(text="@"),
    "data": answered(chunks=[[0, "@"]]),
    "object": answered(chunks=[[0, {"a": "@"}]]),
    "raw": answered(chunks=[[0, None, None, "@"]]),
    "event": answered(chunks=[[0, "a", "@"]]),
    "common": answered(chunks=[[0, {"b": 1}]], fields=["a", "b"], common={"a": "@"}),
    "fields": answered(chunks=[[0, {"b": 1}]], fields=["a", "@"], common={"a": 1}),
    "header": also(headers={"x-one": "@"}),
    "header name": also(headers={"@": "one"}),
    "host": also(host="@"),
    "url": also(url="@"),
    "sdk": also(sdk="@"),
    "time": also(recorded_at="@"),
    "cell": also(cell={"id": None, "source": "@"}),
    "ids": also(ids=["@"]),
    "error": also(status=None, error={"type": "@", "message": "@"}),
    "kind": lambda data: data.update(kind="@"),
    "later field": lambda data: data.update(later="@"),
    "later field of a take": also(later="@"),
}


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("place", PLACES)
def test_what_nobody_can_read_is_declared_by_each_client(tmp_path: Path, place: str, what: str) -> None:
    stored(tmp_path / "store", PLACES[place], ('"@"', WHAT[what]))
    for ask in CLIENTS:
        with nr.session(tmp_path / "store", mode="replay"):
            try:
                ask()
            except nr.RecordingMissing as error:
                assert isinstance(error.__cause__, NbreplayError)  # noqa: PT017
                str(error).encode("utf-8")
            except (openai.OpenAIError, json.JSONDecodeError):
                assert ask is by_openai


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("place", PLACES)
def test_what_nobody_can_read_is_declared_by_a_load_and_shown(
    tmp_path: Path, place: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stored(tmp_path / "store", PLACES[place], ('"@"', WHAT[what]))
    found = nr.load(tmp_path / "store", strict=False, cache=False)
    for frame in (found.interactions, found.messages, found.chunks, found.tool_calls):
        frame.to_csv().encode("utf-8")
    assert found.unread.empty or set(found.unread.file) == {str(path)}
    shown(tmp_path / "store")
    with nr.session(tmp_path / "store", mode="replay") as session:
        with contextlib.suppress(nr.RecordingMissing):
            by_httpx()
        session.show()
    capsys.readouterr().out.encode("utf-8")
    done = nr.load(session)
    for frame in (done.interactions, done.messages, done.chunks, done.tool_calls):
        frame.to_csv().encode("utf-8")


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("place", ["request", "kind", "host", "sdk", "later field"])
@pytest.mark.parametrize("options", [{}, {"ignore": ["seed"]}])
def test_a_miss_beside_what_nobody_can_read_is_a_miss(
    tmp_path: Path, place: str, what: str, options: dict[str, Any]
) -> None:
    path = stored(tmp_path / "store")
    data = path.read_text()
    deep = Recording(KEY, "chat", {**FIELDS, "body": {**ASKED, "x": "@"}}, parse(data).takes).text()
    text = deep if place == "request" else stored(tmp_path / "store", PLACES[place]).read_text()
    path.write_text(text.replace('"@"', WHAT[what]))
    with nr.session(tmp_path / "store", mode="replay", **options), pytest.raises(nr.RecordingMissing) as caught:
        httpx.post(URL, json={**ASKED, "temperature": 1})
    assert "no recorded answer for this chat m call" in str(caught.value)
    str(caught.value).encode("utf-8")


def shown(folder: Path) -> None:
    """Show all that a store holds."""
    for _, recording in Store(folder).recordings():
        if not isinstance(recording, Recording):
            continue
        for take in recording.takes:
            try:
                request = Request(recording.kind, recording.request, recording.key)
            except RecordingFormatError:
                continue
            for text in render.render_calls([Interaction(request, take, "replayed")]).values():
                text.encode("utf-8")
                assert "<script" not in text


# Streams that do not end


def test_an_answer_that_is_not_a_stream_does_not_stay_open(tmp_path: Path) -> None:
    stored(tmp_path / "store", also(standing=True, complete=False, reason="open"))
    assert "take 1 stays open, as only a stream of MCP may" in missed(tmp_path / "store")


@pytest.mark.parametrize("body", [None, {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}])
def test_a_stream_that_stays_open_does_so_for_a_client_of_mcp_alone(tmp_path: Path, body: Any) -> None:
    asked = call(body, host=HOST, path="/events", method="POST" if body else "GET")
    with session(tmp_path) as live:
        recorder = live.ask(asked)
        assert isinstance(recorder, Recorder)
        recorder.begin(200, [("content-type", "text/event-stream")])
        recorder.feed(b"data: 1\n\n")
        recorder.close()
    (path,) = tmp_path.glob("*.json")
    text = path.read_text()
    assert '"reason": "closed"' in text
    path.write_text(text.replace('"reason": "closed"', '"reason": "open", "standing": true'))
    with nr.session(tmp_path, mode="replay"), pytest.raises(nr.RecordingIncomplete):
        httpx.request(asked.method, f"http://{HOST}/events", json=body)


# Tools


class _Weather(BaseModel):
    degrees: float


def _frame(dtype: str = "int64", values: Any = (1,)) -> dict[str, Any]:
    columns = [{"name": "a", "dtype": dtype, "values": values}]
    return {"frame": {"rows": 1, "columns": columns, "index": None, "named": None}}


RESULTS: dict[str, Any] = {
    "a list": [1],
    "nothing": {},
    "two": {"value": 1, "text": 2},
    "an unknown kind": {"pickle": "gASVAAAAAAAAAAA="},
    "another class": {"value": {"celsius": 1}},
    "bytes that are none": {"bytes": "a"},
    "bytes of a number": {"bytes": 7},
    "a frame of text": {"frame": "a"},
    "a frame of numbers too large": _frame(values=[10**30]),
    "a frame of a large type": _frame(dtype="int8,(1000000000)int8"),
    "a frame of a file's time zone": _frame(dtype="datetime64[ns, dateutil//etc/passwd]"),
    "an exception of text": {"exception": "a"},
    "an exception without a type": {"exception": {}},
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_that_a_tool_cannot_have_returned_is_refused(tmp_path: Path, name: str) -> None:
    @nr.tool
    def weather(city: str) -> _Weather:
        return _Weather(degrees=len(city))

    with nr.session(tmp_path, mode="record"):
        weather("Tokyo")
    (path,) = tmp_path.glob("*.json")
    data = json.loads(path.read_text())
    data["takes"][0]["json"] = RESULTS[name]
    path.write_text(json.dumps(data))
    with nr.session(tmp_path, mode="replay") as session, pytest.raises(nr.RecordingMissing) as caught:
        weather("Tokyo")
    assert isinstance(caught.value.__cause__, RecordingFormatError)
    session.show()


@pytest.mark.parametrize(
    "raised",
    [
        {"type": "UnicodeEncodeError", "args": ["utf-8", "a", 10**30, 1, "b"], "text": "odd"},
        {"type": "ExceptionGroup", "args": ["a", "b"], "text": "odd"},
        {"type": "os.system", "args": ["true"], "text": "odd"},
    ],
)
def test_an_exception_that_cannot_be_made_is_told_of(tmp_path: Path, raised: dict[str, Any]) -> None:
    @nr.tool
    def weather(city: str) -> str:
        return city

    with nr.session(tmp_path, mode="record"):
        weather("Tokyo")
    (path,) = tmp_path.glob("*.json")
    data = json.loads(path.read_text())
    data["takes"][0]["json"] = {"exception": raised}
    path.write_text(json.dumps(data))
    with nr.session(tmp_path, mode="replay"), pytest.raises(nr.RecordedToolError, match="odd"):
        weather("Tokyo")
