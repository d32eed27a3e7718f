"""Imports lose nothing silently: every interaction of a foreign file is in the store, or a message says why not."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, StoreError, UnsafeRecordingError
from nbreplay.formats import registry, vcr
from nbreplay.formats.importer import Contents, ImportCounts
from tests.clients import http
from tests.formats.cassettes import FOLDER, measure
from tests.formats.making import chat, load, written

URL = "https://api.example.com/v1/things"
JSON = {"content-type": ["application/json"]}
TEXT = {"content-type": ["text/plain"]}


def item(
    response: Mapping[str, Any], request: Mapping[str, Any] | None = None, headers: Mapping[str, Any] = TEXT
) -> dict[str, Any]:
    """An interaction whose request and response have the fields that are given."""
    return {
        "request": {
            "method": "POST",
            "uri": URL,
            "headers": dict(headers),
            **({"body": ""} if request is None else request),
        },
        "response": {"status": {"code": 200, "message": "OK"}, "headers": dict(headers), **response},
    }


def cassette(folder: Path, *items: Any, name: str = "one.yaml", **more: Any) -> Path:
    """Write a cassette into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"version": 1, "interactions": list(items), **more}
    text = json.dumps(data) if name.endswith(".json") else yaml.safe_dump(data, allow_unicode=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def imported(source: Path, folder: Path) -> ImportCounts:
    """Import, and check that every interaction is accounted for."""
    counts = registry.import_files(source, Store(folder))
    stored = sum(len(one.takes) for _, one in Store(folder).recordings() if not isinstance(one, RecordingFormatError))
    assert counts.interactions == counts.written + counts.known + sum(counts.not_imported.values())
    assert stored == counts.written + counts.known
    return counts


def replayed(store: Path, content: bytes, headers: Mapping[str, Any] = TEXT) -> Any:
    with nr.session(store, mode="replay"), http.Client(trust_env=False) as client:
        return client.post(URL, content=content, headers={name: values[0] for name, values in headers.items()})


# --- real cassettes ---------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there are no cassettes of pydantic-ai at {FOLDER}")
def test_real_cassettes_replay_what_an_independent_reader_reads() -> None:
    figures = measure()
    print("\n" + figures.text())
    assert figures.differences == []
    sessions = sum(figures.counts.assumed.values())  # test_cassette_websockets.py replays them
    assert (figures.files, figures.interactions + sessions) == (figures.counts.files, figures.counts.interactions)
    assert (sessions, figures.messages > 2000) == (46, True)
    assert figures.equal == figures.http == figures.counts.written - sessions > 300
    assert figures.with_body > 300
    assert figures.empty == 0
    assert figures.counts.unreadable == figures.counts.known == 0
    assert sum(figures.counts.not_imported.values()) == figures.interactions - figures.http
    assert set(figures.counts.not_imported) == {"gRPC call"}


# --- forms of bodies --------------------------------------------------------------------------------------------------

DATA = {"model": "m", "é": [1, 1.5, 1e-07, True, None, {"a": "☃"}]}
COMPACT = json.dumps(DATA, ensure_ascii=False, separators=(",", ":")).encode()
SPACED = json.dumps(DATA)
PACKED = gzip.compress(b"a text that is long enough", mtime=0)
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(b"a text that is long enough") + RAW.flush()

ANSWERS: dict[str, tuple[dict[str, Any], bytes]] = {
    "text": ({"body": {"string": "å text"}}, "å text".encode()),
    "text with its encoding": ({"body": {"string": "å", "encoding": "ISO-8859-1"}}, b"\xe5"),
    "text with the encoding of no name": ({"body": {"string": "å", "encoding": None}}, "å".encode()),
    "bare text": ({"body": "a text"}, b"a text"),
    "bytes": ({"body": {"string": b"\x00\xff"}}, b"\x00\xff"),
    "bare bytes": ({"body": b"\x00\xff"}, b"\x00\xff"),
    "base64": ({"body": {"base64_string": base64.b64encode(b"\x00\xff").decode()}}, b"\x00\xff"),
    "pieces": ({"body": ["a ", b"text"]}, b"a text"),
    "null": ({"body": None}, b""),
    "a null text": ({"body": {"string": None}}, b""),
    "an empty mapping": ({"body": {}}, b""),
    "none": ({}, b""),
    "the content of old": ({"content": "a text"}, b"a text"),
    "an empty body beside the content": ({"body": None, "content": "a text"}, b"a text"),
    "cassetter's text": ({"body": {"type": "text", "content": "a text"}}, b"a text"),
    "cassetter's JSON": ({"body": {"type": "json", "content": DATA}}, COMPACT),
    "cassetter's binary": ({"body": {"type": "binary", "content": "00ff"}}, b"\x00\xff"),
    "cassetter's none": ({"body": {"type": "none"}}, b""),
    "cassetter's TOML": ({"body_type": "json", "body_content": SPACED}, COMPACT),
    "parsed": ({"parsed_body": DATA}, COMPACT),
    "a parsed list": ({"parsed_body": [1, "a"]}, b'[1,"a"]'),
    "a parsed text": ({"parsed_body": "a"}, b'"a"'),
    "a parsed number": ({"parsed_body": 0}, b"0"),
    "a parsed empty mapping": ({"parsed_body": {}}, b"{}"),
    "parsed beside an empty body": ({"parsed_body": DATA, "body": {"string": ""}}, COMPACT),
    "parsed beside the same body": ({"parsed_body": DATA, "body": {"string": SPACED}}, SPACED.encode()),
    "a parsed number without end": ({"parsed_body": {"a": float("inf"), "b": float("nan")}}, b'{"a":Infinity,"b":NaN}'),
    "a stream": ({"body": {"string": 'data: {"a": 1}\n\ndata: [DONE]\n\n'}}, b'data: {"a": 1}\n\ndata: [DONE]\n\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_every_form_of_an_answers_body_comes_back(tmp_path: Path, name: str) -> None:
    response, expected = ANSWERS[name]
    parsed = "parsed" in name or "JSON" in name
    headers = {"content-type": ["text/event-stream"]} if name == "a stream" else JSON if parsed else TEXT
    counts = imported(cassette(tmp_path / "in", item(response, headers=headers)), tmp_path / "store")
    assert (counts.written, counts.left_out) == (1, ())
    assert replayed(tmp_path / "store", b"", headers).content == expected


REQUESTS: dict[str, tuple[dict[str, Any], bytes]] = {
    "parsed": ({"parsed_body": DATA}, SPACED.encode()),
    "JSON text": ({"body": SPACED}, COMPACT),
    "JSON in a mapping": ({"body": {"string": SPACED}}, COMPACT),
    "bytes": ({"body": SPACED.encode()}, COMPACT),
    "cassetter's": ({"body": {"type": "json", "content": DATA}}, COMPACT),
    "what aiohttp was given": ({"body": DATA}, COMPACT),
    "a list that aiohttp was given": ({"body": [DATA]}, b"[" + COMPACT + b"]"),
    "an empty parsed mapping": ({"parsed_body": {}}, b"{}"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_every_form_of_a_requests_body_is_what_is_asked(tmp_path: Path, name: str) -> None:
    request, asked = REQUESTS[name]
    other = {"parsed_body": {"model": "other"}}
    source = cassette(
        tmp_path / "in",
        item({"body": {"string": "other"}}, other, JSON),
        item({"body": {"string": "mine"}}, request, JSON),
    )
    assert imported(source, tmp_path / "store").recordings == 2
    assert replayed(tmp_path / "store", asked, JSON).text == "mine"


@pytest.mark.parametrize(
    ("coding", "data", "expected"),
    [
        ("gzip", PACKED, b"a text that is long enough"),
        ("deflate", DEFLATED, b"a text that is long enough"),
        ("gzip", "a text", b"a text"),
        *[(coding, "kind words, [1], and more of them", None) for coding in ("deflate", "br")],
        *[(coding, "{}", None) for coding in ("deflate", "br", "gzip")],
    ],
)
def test_headers_about_the_wire_do_not_spoil_a_body(
    tmp_path: Path, coding: str, data: str | bytes, expected: bytes | None
) -> None:
    headers = {**TEXT, "content-encoding": [coding], "content-length": ["7"], "Transfer-Encoding": ["chunked"]}
    source = cassette(tmp_path / "in", {**item({"body": {"string": data}}), "request": item({})["request"]})
    for path in source.iterdir():
        content = yaml.safe_load(path.read_text())
        content["interactions"][0]["response"]["headers"] = headers
        path.write_text(yaml.safe_dump(content))
    imported(source, tmp_path / "store")
    answer = replayed(tmp_path / "store", b"")
    assert answer.content == (expected if expected is not None else str(data).encode())
    assert answer.headers.get("content-length") in (None, str(len(answer.content)))
    assert "content-encoding" not in answer.headers
    assert "transfer-encoding" not in answer.headers


# --- bodies of an unknown form ----------------------------------------------------------------------------------------

UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "a file": ({"body": {"file": "one.bin"}}, "body has an unknown form (a mapping with 'file')"),
    "a file beside": ({"body_file": "one.bin"}, "field 'body_file'"),
    "JSON under another name": ({"body": {"string": ""}, "json_body": {"a": 1}}, "field 'json_body'"),
    "a content of TOML without its type": ({"body_content": "a"}, "field 'body_content'"),
    "text and base64": ({"body": {"string": "a", "base64_string": "YQ=="}}, "'base64_string', 'string'"),
    "text and more": ({"body": {"string": "", "data": "a"}}, "'data', 'string'"),
    "a number": ({"body": 7}, "int '7'"),
    "a zero": ({"body": 0}, "int '0'"),
    "false": ({"body": {"string": False}}, "bool 'False'"),
    "a list of mappings": ({"body": [{"string": "a"}]}, "a list"),
    "a type of its own": ({"body": {"type": "pickle", "content": "a"}}, "'pickle'"),
    "a content of another type": ({"body": {"type": "text", "content": {"a": 1}}}, "'text'"),
    "an encoding of its own": ({"body": {"string": "a", "encoding": "idna"}}, "encoding 'idna'"),
    "base64 that is none": ({"body": {"base64_string": "?"}}, "cannot be decoded"),
    "two bodies": ({"body": {"string": "a"}, "content": "b"}, "more than one body"),
    "two that differ": ({"body": {"string": '{"a":1}'}, "parsed_body": {"a": 2}}, "body and parsed_body differ"),
    "text beside parsed": ({"body": {"string": "a"}, "parsed_body": {"a": 2}}, "body and parsed_body differ"),
    "a type beside a body": ({"body": "a", "body_type": "text", "body_content": "b"}, "more than one body"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_body_of_an_unknown_form_is_an_error_that_names_it(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    response, why = UNKNOWN[name]
    good = {"body": {"string": "good"}}
    source = cassette(tmp_path / "in", item(good), item(response))
    cassette(source, item(good, {"body": "another"}), name="two.yaml")
    counts = imported(source, tmp_path / "store")
    assert (counts.interactions, counts.written, counts.not_imported) == (3, 1, {"in a file with an error": 2})
    (message,) = counts.left_out
    for part in (f"{source / 'one.yaml'} cannot be imported", "interaction 2", "response", why, "Correct the file"):
        assert part in message
    assert main(["import", str(source), "--store", str(tmp_path / "again")]) == 1
    said = capsys.readouterr()
    assert said.err == f"nbreplay: {message}\n"
    assert said.out == (
        f"3 interactions in 2 files: 1 added to {tmp_path / 'again'}, 2 not imported (in a file with an error: 2)\n"
    )


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"body": 7}, "request: body has an unknown form"),
        ({"body_file": "one.bin"}, "request: unknown field 'body_file'"),
        ({"body": {b"a": 1}}, "request: body is not JSON"),
        ({"body": "a", "parsed_body": {"a": 1}}, "request: body and parsed_body differ"),
        ({"method": 7}, "'method'"),
        ({"headers": {"a": [{"b": 1}]}}, "header has an unknown form"),
        ({"headers": "a: b"}, "headers have an unknown form"),
        ({"uri": "http://["}, "interaction 1: Invalid"),
    ],
)
def test_a_request_of_an_unknown_form_is_an_error(tmp_path: Path, request_: dict[str, Any], why: str) -> None:
    counts = imported(cassette(tmp_path / "in", item({}, request_)), tmp_path / "store")
    assert (counts.written, counts.not_imported) == (0, {"in a file with an error": 1})
    assert why in counts.left_out[0]


@pytest.mark.parametrize(
    "text",
    ["2024-01-01", "!!binary AAE=", "!!set {a}", "{1: a}", "{a: {true: b}}", "[2024-01-01T00:00:00Z]"],
)
def test_what_json_cannot_hold_is_not_taken_for_it(tmp_path: Path, text: str) -> None:
    source = cassette(tmp_path / "in", item({"parsed_body": "@"}, headers=JSON))
    path = source / "one.yaml"
    path.write_text(path.read_text().replace("'@'", text))
    counts = imported(source, tmp_path / "store")
    assert counts.written == 0
    assert "interaction 1: response: parsed_body is not JSON" in counts.left_out[0]


def test_half_of_a_surrogate_pair_comes_back_as_json(tmp_path: Path) -> None:
    source = cassette(tmp_path / "in", item({"parsed_body": {"a": "\ud83d"}}, headers=JSON), name="one.json")
    assert imported(source, tmp_path / "store").written == 1
    assert replayed(tmp_path / "store", b"", JSON).content == b'{"a":"\\ud83d"}'


# --- what is neither HTTP nor a known websocket session --------------------------------------------------------------

MESSAGES = [
    {"kind": "message", "direction": "sent", "data": {"type": "session.update", "session": {"model": "gpt-realtime"}}},
    {"kind": "message", "direction": "received", "data": {"type": "session.updated"}},
    {"kind": "close", "code": 1000, "reason": "", "ok": True},
]
GRPC = {"request_sample": {"raw": b"a"}, "response_sample": {"raw": b"b"}}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of HTTP calls, websocket sessions of two recorders, of which one is known, and gRPC calls."""
    good = item({"parsed_body": {"a": 1}}, headers=JSON)
    source = cassette(tmp_path / "in", *MESSAGES[:2], good, MESSAGES[2], name="messages.yaml")
    cassette(source, GRPC, name="grpc.yaml")
    cassette(source, good, name="sessions.yaml", ws_interactions=[{"uri": "wss://a", "frames": []}])
    cassette(source, good, name="whole.yaml")
    return source


def test_calls_of_other_kinds_are_counted_and_named(
    tmp_path: Path, mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = imported(mixed, tmp_path / "store")
    assert (counts.files, counts.interactions, counts.written) == (4, 6, 4)
    assert counts.not_imported == {"gRPC call": 1, "websocket session of cassetter": 1}
    assert counts.assumed == {"api.openai.com": 1}
    assert main(["import", str(mixed), "--store", str(tmp_path / "store")]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(
        f"6 interactions in 4 files: 0 added to {tmp_path / 'store'}, 4 already there, "
        "2 not imported (gRPC call: 1, websocket session of cassetter: 1)\n"
    )
    assert f"{mixed / 'sessions.yaml'} is not imported in full: 1 of 2 interactions are of other kinds" in said.err
    assert len(said.err.splitlines()) == 2
    assert main(["import", str(mixed), "--store", str(tmp_path / "store"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["interactions"] == told["written"] + told["known"] + sum(told["not_imported"].values())
    names = ("grpc", "messages", "sessions", "whole")
    assert [name for name in names if name in str(told["left_out"])] == ["grpc", "sessions"]


def test_loading_names_calls_of_other_kinds(mixed: Path) -> None:
    with pytest.raises(RecordingFormatError, match=r"sessions\.yaml is not imported in full"):
        nr.load(mixed)
    lib = nr.load(mixed, strict=False)
    assert sorted(lib.interactions.kind) == ["http", "http", "http", "websocket"]
    assert sorted(Path(file).name for file in lib.unread.file) == ["grpc.yaml", "sessions.yaml"]
    assert "websocket session of cassetter: 1" in " ".join(lib.unread.reason)


@pytest.mark.parametrize("item_", [{}, {"kind": "frame"}, {"request": {}}])
def test_an_interaction_of_no_known_kind_is_an_error(tmp_path: Path, item_: dict[str, Any]) -> None:
    counts = imported(cassette(tmp_path / "in", item({}), item_), tmp_path / "store")
    assert (counts.written, counts.not_imported) == (0, {"in a file with an error": 2})
    assert "interaction 2: 'request' or 'response' is missing" in counts.left_out[0]


@pytest.mark.parametrize(("name", "value"), [("http_interactions", [{}]), ("ws_interactions", {"a": 1})])
def test_an_unknown_list_of_interactions_is_an_error(tmp_path: Path, name: str, value: Any) -> None:
    counts = imported(cassette(tmp_path / "in", item({}), **{name: value}), tmp_path / "store")
    assert (counts.written, counts.unreadable) == (0, 1)
    assert f"the field {name!r} is unknown" in counts.left_out[0]


def test_a_folder_without_recordings_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder := tmp_path / "in").mkdir()
    (folder / "test_one").write_text("version: 1\ninteractions: []\n")
    assert main(["import", str(folder), "--store", str(tmp_path / "store")]) == 1
    assert "has no file that ends in .json, .yaml, .yml, .toml" in capsys.readouterr().err
    assert main(["import", str(folder / "test_one"), "--store", str(tmp_path / "store")]) == 0


# --- the count --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [name for name, one in registry.FORMATS.items() if one.endings])
def test_an_importer_that_drops_an_interaction_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    if form == "vcr":
        source = cassette(tmp_path / "in", item({"body": "a"}), item({"body": "b"}))
    else:
        source = written(tmp_path / "in", chat())
    known = registry.FORMATS[form]
    assert imported(source, tmp_path / "whole").written > 0

    def careless(path: Path, root: Path, url: str) -> Contents:
        contents = known.read(path, root, url)
        return Contents(contents.interactions, contents.takes[1:])

    monkeypatch.setitem(registry.FORMATS, form, known._replace(read=careless))
    counts = imported(source, tmp_path / "store")
    assert counts.written == 0
    assert "bug in nbreplay" in counts.left_out[0]


def test_a_store_that_drops_a_take_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cassette(tmp_path / "in", item({"body": "a"}))
    monkeypatch.setattr(Store, "write", lambda *_: None)
    with pytest.raises(StoreError, match=r"0 of 1 interactions.*bug in nbreplay"):
        registry.import_files(source, Store(tmp_path / "store"))


def test_a_recording_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    source = cassette(tmp_path / "in", item({"body": "a"}), item({"body": "b"}))
    imported(source, tmp_path / "store")
    (path,) = (tmp_path / "store").glob("*.json")
    path.write_text("{")
    counts = registry.import_files(source, Store(tmp_path / "store"))
    assert (counts.written, counts.not_imported) == (0, {"for a recording that cannot be written": 2})
    assert path.name in counts.left_out[0]


def test_a_name_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    good = yaml.safe_dump([item({"body": "a"})])
    (folder / "a.yaml").write_text(f"version: 1\ninteractions:\n{good}interactions:\n{good}")
    (folder / "b.json").write_text('{"interactions": [{"request": {}}], "interactions": []}')
    (folder / "c.json").write_text('{"request": {}, "request": {}, "response": {}}')
    counts = imported(folder, tmp_path / "store")
    assert (counts.unreadable, counts.interactions) == (3, 0)
    assert all("twice" in message for message in counts.left_out)


def test_answers_to_the_same_request_are_all_kept_in_order(tmp_path: Path) -> None:
    request = {"parsed_body": {"model": "m"}}
    answers = [{"parsed_body": {"n": number}} for number in (3, 1, 2, 1)]
    source = cassette(tmp_path / "in", *[item(answer, request, JSON) for answer in answers])
    cassette(source, item({"parsed_body": {"n": 0}}, request, JSON), name="two.yaml")
    counts = imported(source, tmp_path / "store")
    assert (counts.written, counts.recordings) == (5, 1)
    assert (again := imported(source, tmp_path / "store")).known == 5
    assert again.written == 0
    with nr.session(tmp_path / "store", mode="replay"), http.Client(trust_env=False) as client:
        got = [client.post(URL, json={"model": "m"}).json()["n"] for _ in range(5)]
    assert got == [3, 1, 2, 1, 0]


# --- secrets ----------------------------------------------------------------------------------------------------------

KEY = "sk-" + "proj-4f9Qz7LmX2vB8nR1tYc6WdKe3HsJ5uPa"


@pytest.mark.parametrize("form", ["parsed_body", "body"])
def test_secrets_of_a_parsed_body_are_not_in_the_store(tmp_path: Path, form: str) -> None:
    asked, told = {"model": "m", "note": f"my key is {KEY}"}, {"echo": f"it was {KEY}"}
    if form == "parsed_body":
        exchange = item({form: told}, {form: asked}, JSON)
    else:
        exchange = item({form: {"string": json.dumps(told)}}, {form: json.dumps(asked)}, JSON)
    counts = imported(cassette(tmp_path / "in", exchange), tmp_path / "store")
    assert counts.written == 1
    for path in (tmp_path / "store").rglob("*.json"):
        assert KEY not in path.read_text()
        assert path.read_text().count("[secret:") == 2
    answer = replayed(tmp_path / "store", json.dumps(asked).encode(), JSON)
    assert answer.json() == {"echo": "it was [secret:1]"}


def test_a_key_of_the_headers_is_not_in_a_parsed_body(tmp_path: Path) -> None:
    token = "a-key-of-no-known-shape"
    exchange = item({"parsed_body": {"echo": token}}, {"parsed_body": {"a": token}}, JSON)
    exchange["request"]["headers"] = {**JSON, "authorization": [f"Bearer {token}"]}
    assert imported(cassette(tmp_path / "in", exchange), tmp_path / "store").written == 1
    assert not [path for path in (tmp_path / "store").rglob("*.json") if token in path.read_text()]


# --- files of strangers -----------------------------------------------------------------------------------------------

HEAD = "version: 1\ninteractions:\n- request: {method: GET, uri: 'https://a.example/'}\n"
BOMBS = {
    "long texts": HEAD
    + f"  response:\n    status: {{code: 200}}\n    first: &a {'x' * 100_000}\n"
    + f"    parsed_body: [{', '.join(['*a'] * 50)}]\n",
    "long names": HEAD
    + f"  response:\n    status: {{code: 200}}\n    first: &a {'x' * 100_000}\n"
    + f"    parsed_body: [{', '.join(['{*a : 1}'] * 50)}]\n",
    "long pieces": HEAD
    + f"  response:\n    status: {{code: 200}}\n    body: [&a {'x' * 100_000}, {', '.join(['*a'] * 50)}]\n",
    "laughs": HEAD
    + "  response:\n    status: {code: 200}\n    parsed_body:\n      a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"      {b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "itself": HEAD + "  response: {status: {code: 200}, parsed_body: &a {b: *a}}\n",
    "a call": HEAD + "  response: {status: {code: 200}, parsed_body: !!python/object/apply:os.system [touch up]}\n",
    "a name": HEAD + "  response: {status: {code: 200}, parsed_body: !!python/name:os.system }\n",
    "a tuple": HEAD + "  response: {status: {code: 200}, parsed_body: !!python/tuple [a]}\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_parsed_body_that_is_more_than_data_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vcr, "_MOST", 50_000)
    (folder := tmp_path / "in").mkdir()
    (folder / "one.yaml").write_text(BOMBS[name])
    (error,) = load(folder)
    assert isinstance(error, UnsafeRecordingError)
    assert "one.yaml" in str(error)
    assert imported(folder, tmp_path / "store").unreadable == 1
    assert not list(tmp_path.rglob("up"))


@pytest.mark.parametrize("ending", ["yaml", "json", "toml"])
def test_a_deep_parsed_body_is_refused(tmp_path: Path, ending: str) -> None:
    (folder := tmp_path / "in").mkdir()
    deep = "[" * 5000 + "]" * 5000
    text = {
        "yaml": f"{HEAD}  response: {{status: {{code: 200}}, parsed_body: {deep}}}\n",
        "json": f'{{"interactions": [{{"response": {{"parsed_body": {deep}}}}}]}}',
        "toml": f"version = 1\n[[interactions]]\n[interactions.response]\nparsed_body = {deep}\n",
    }[ending]
    (folder / f"one.{ending}").write_text(text)
    counts = imported(folder, tmp_path / "store")
    assert counts.written == 0
    assert "nested too deeply" in counts.left_out[0]


def test_a_number_of_a_hundred_thousand_digits_is_an_error(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    for name, digits in (("decimal", "9" * 100_000), ("hexadecimal", "0x" + "f" * 100_000)):
        (folder / f"{name}.yaml").write_text(f"{HEAD}  response: {{status: {{code: 200}}, parsed_body: [{digits}]}}\n")
    counts = imported(folder, tmp_path / "store")
    assert counts.written == 0
    assert len(counts.left_out) == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["string", "base64_string", "encoding", "type", "content", "a"]) | st.integers(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=9,
)
FIELDS = st.sampled_from(["body", "parsed_body", "content", "body_type", "body_content", "headers", "status", "x"])
SIDES = st.dictionaries(FIELDS, VALUES, max_size=3)


@settings(max_examples=150, deadline=None)
@given(items=st.lists(st.tuples(SIDES, SIDES), max_size=3))
def test_whatever_a_cassette_holds_is_imported_or_named(tmp_path_factory: pytest.TempPathFactory, items: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    source = cassette(folder / "in", *[item(response, request) for response, request in items])
    counts = imported(source, folder / "store")
    assert counts.interactions in (0, len(items))
    assert bool(counts.left_out) == bool(counts.not_imported or counts.unreadable)
    for message in counts.left_out:
        assert "one.yaml" in message
        assert "unexpected structure" not in message
