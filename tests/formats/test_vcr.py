"""VCR cassettes: what vcrpy and cassetter have recorded replays the same."""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import sys
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vcr

import nbreplay as nr
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError
from nbreplay.formats import registry
from tests.clients import KEY, sdk
from tests.formats.making import load, loaded
from tests.provider import Provider

MESSAGES = [{"role": "user", "content": "Weather in Tokyo?"}]


def calls(url: str) -> list[Any]:
    """Calls of several kinds, and the same one twice, with all that they give."""
    made: list[Any] = []
    with sdk("sync", url) as client:
        for _ in range(2):
            made.append(client.chat.completions.create(model="test/a", messages=MESSAGES).model_dump())
        stream = client.chat.completions.create(model="test/words=5", messages=MESSAGES, stream=True)
        made += [chunk.model_dump() for chunk in stream]
        made.append(client.embeddings.create(model="test/a", input=["é"]).model_dump())
        made += [model.model_dump() for model in client.models.list()]
        first = client.responses.create(model="test/a", input="Hi")
        made.append(first.model_dump())
        made.append(client.responses.create(model="test/a", input="Go on", previous_response_id=first.id).model_dump())
        try:
            client.chat.completions.create(model="test/status=429", messages=MESSAGES)
        except Exception as error:
            made.append((type(error).__name__, str(error)))
    return made


def plain(url: str) -> bytes:
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps({"model": "test/a", "messages": []}).encode()
    )
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
    return data


@pytest.mark.parametrize("serializer", ["yaml", "json"])
@pytest.mark.parametrize("ask", [calls, plain])
def test_what_vcrpy_has_recorded_replays_the_same(tmp_path: Path, serializer: str, ask: Callable[[str], Any]) -> None:
    path = tmp_path / "in" / f"one.{serializer}"
    with Provider() as provider:
        with vcr.VCR(serializer=serializer).use_cassette(str(path), allow_playback_repeats=False) as cassette:
            before = ask(provider.url)
            assert len(cassette)
        url = provider.url
    store = Store(tmp_path / "store")
    counts = registry.import_files(path.parent, store)
    assert counts.written == len(cassette)
    assert not counts.left_out
    with nr.session(tmp_path / "store", mode="replay") as session:
        assert ask(url) == before
        assert {item.outcome for item in session.interactions} == {"replayed"}
    again = registry.import_files(path, Store(tmp_path / "store"))
    assert (again.written, again.known) == (0, counts.written)


def test_what_cassetter_has_recorded_replays_the_same(tmp_path: Path) -> None:
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    body = {"messages": MESSAGES, "model": "m"}
    core = pytest.importorskip("cassetter", reason="pip install -e '.[test-full]'")._core
    made = core.Cassette()
    made.add_interaction(
        core.HttpInteraction(
            core.HttpRequest("POST", "https://api.openai.com/v1/chat/completions", {}, core.Body("json", body)),
            core.HttpResponse(200, {"content-type": ["application/json"]}, core.Body("json", answer)),
            "2026-01-01T00:00:00Z",
        )
    )
    made.add_interaction(
        core.HttpInteraction(
            core.HttpRequest("GET", "https://a.example/x", {}, core.Body("none")),
            core.HttpResponse(200, {"content-type": ["audio/wav"]}, core.Body("binary", b"\x00\xff")),
            "2026-01-01T00:00:00Z",
        )
    )
    found = []
    for ending in ("yaml", "toml", "json"):
        (tmp_path / ending).mkdir()
        made.save(str(tmp_path / ending / f"one.{ending}"))
        found.append(loaded(tmp_path / ending))
    assert found[0] == found[1] == found[2]
    chat, audio = found[0]
    assert audio.takes[0].body.data() == b"\x00\xff"
    assert chat.takes[0].recorded_at == "2026-01-01T00:00:00Z"
    registry.import_files(tmp_path / "yaml", Store(tmp_path / "store"))
    with nr.session(tmp_path / "store", mode="replay"), sdk("sync", "https://api.openai.com/v1") as client:
        given = client.chat.completions.create(model="m", messages=MESSAGES)
    assert given.model_dump(exclude_unset=True) == answer


def test_a_key_never_comes_into_the_store(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    with Provider() as provider, vcr.VCR().use_cassette(str(path)), sdk("sync", provider.url) as client:
        client.chat.completions.create(model="test/echo-key", messages=MESSAGES)
        stream = client.chat.completions.create(model="test/echo-key+words=5", messages=MESSAGES, stream=True)
        assert list(stream)
    assert KEY in path.read_text()
    assert registry.import_files(path, Store(tmp_path / "store")).written == 2
    for file in (tmp_path / "store").glob("*.json"):
        assert KEY not in file.read_text()
        assert "[secret:1]" in file.read_text()


def cassette(folder: Path, *responses: dict[str, Any], **request: Any) -> Path:
    asked = {"method": "GET", "uri": "https://a.example:443/x?b=1", "body": None, "headers": {}, **request}
    data = {"version": 1, "interactions": [{"request": asked, "response": item} for item in responses]}
    folder.mkdir(exist_ok=True)
    (folder / "one.json").write_text(json.dumps(data))
    return folder


def coded(data: bytes, coding: str) -> dict[str, Any]:
    body = {"base64_string": base64.b64encode(data).decode()}
    headers = {"Content-Encoding": [coding], "Content-Type": ["text/plain"]}
    return {"status": {"code": 200, "message": "OK"}, "headers": headers, "body": body}


def test_bodies_are_stored_decoded(tmp_path: Path) -> None:
    text = b"a text that is long enough" * 9
    raw = zlib.compressobj(wbits=-15)
    bodies = [
        coded(gzip.compress(text), "gzip"),
        coded(gzip.compress(text[:10]) + gzip.compress(text[10:]), "gzip"),
        coded(zlib.compress(text), "deflate"),
        coded(raw.compress(text) + raw.flush(), "deflate"),
        coded(zlib.compress(gzip.compress(text)), "gzip, deflate"),
        coded(text, "gzip"),  # decoded by the recorder, which left the header
        coded(text, "identity"),
    ]
    for coding, module in (("br", "brotli"), ("zstd", "zstandard"), ("zstd", "backports.zstd")):
        try:
            library = importlib.import_module(module)
        except ImportError:
            continue
        pack = library.ZstdCompressor().compress if module == "zstandard" else library.compress
        bodies.append(coded(pack(text), coding))
    (recording,) = loaded(cassette(tmp_path / "in", *bodies))
    assert [take.body.data() for take in recording.takes] == [text] * len(bodies)
    assert all("content-encoding" not in take.headers for take in recording.takes)


@pytest.mark.parametrize(
    ("coding", "module", "rest"),
    [
        ("gzip", "gzip", b"text"),
        ("gzip", "gzip", b"\0\0text"),
        ("deflate", "zlib", b"text"),
        ("br", "brotli", b"text"),
        ("br", "brotli", None),
        ("zstd", "zstandard", b"text"),
        ("zstd", "zstandard", None),
        ("zstd", "backports.zstd", b"text"),
        ("zstd", "backports.zstd", None),
    ],
)
def test_no_byte_of_an_encoded_body_is_lost(tmp_path: Path, coding: str, module: str, rest: bytes | None) -> None:
    library = pytest.importorskip(module, reason="pip install brotli zstandard backports.zstd")
    pack = library.ZstdCompressor().compress if module == "zstandard" else library.compress
    packed = pack(b"a text that is long enough" * 9)
    (error,) = load(cassette(tmp_path / "in", coded(packed[:-3] if rest is None else packed + rest, coding)))
    assert isinstance(error, RecordingFormatError)
    assert f"response: body is not {coding}, as its headers say" in str(error)


def test_encoded_bodies_are_read_whole_as_clients_read_them(tmp_path: Path) -> None:
    text = b"a text that is long enough" * 9
    bodies = [
        coded(gzip.compress(text) + bytes(600), "gzip"),  # padding
        coded(gzip.compress(text)[:-8], "gzip"),  # a stream whose server does not end it
        coded(b"".join(gzip.compress(text[at : at + 1]) for at in range(len(text))), "gzip"),
    ]
    (recording,) = loaded(cassette(tmp_path / "in", *bodies))
    assert [take.body.data() for take in recording.takes] == [text] * len(bodies)


def test_the_oldest_shapes_are_read(tmp_path: Path) -> None:
    old = {"status_code": 200, "http_version": "HTTP/1.1", "headers": {"content-type": "text/plain"}, "content": "a"}
    bare = {"status": {"code": 204, "message": "No Content"}, "headers": {}, "body": {"string": ""}}
    (recording,) = loaded(cassette(tmp_path / "in", old, bare))
    assert [(take.status, take.body.data()) for take in recording.takes] == [(200, b"a"), (204, b"")]


def test_where_and_when_it_was_recorded_is_kept(tmp_path: Path) -> None:
    dated = {"status": {"code": 200}, "headers": {"Date": ["Thu, 01 Jan 2026 00:00:00 GMT"]}, "body": {"string": "a"}}
    undated = {"status": {"code": 200}, "headers": {"Date": ["soon"]}, "body": {"string": "b"}}
    (recording,) = loaded(cassette(tmp_path / "in", dated, undated))
    first, second = recording.takes
    assert (first.recorded_at, second.recorded_at) == ("2026-01-01T00:00:00.000Z", "")
    assert (first.host, first.url, first.extra) == ("a.example", "/x?b=1", {"timed": False, "scope": "one"})
    assert first.elapsed_ms is None


def test_equal_answers_to_equal_calls_are_all_kept(tmp_path: Path) -> None:
    same = {"status": {"code": 200}, "headers": {}, "body": {"string": "a"}}
    folder = cassette(tmp_path / "in", same, same, same)
    store = Store(tmp_path / "store")
    assert registry.import_files(folder, store).written == 3
    assert registry.import_files(folder, store).known == 3


def test_yaml_without_pyyaml_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.yaml").write_text("version: 1\ninteractions: []\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    (error,) = load(tmp_path / "one.yaml")
    assert isinstance(error, RecordingFormatError)
    assert "one.yaml" in str(error)
    assert "pip install 'nbreplay[vcr]'" in str(error)
