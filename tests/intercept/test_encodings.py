"""Answers that are compressed are stored as what they say, and given back so, whichever library asked."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import brotli
import pytest
import requests
import zstandard

import nbreplay as nr
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from tests.clients import http, outcomes, takes

JSON = {"answer": "compressed \u6f22\u5b57 " * 50}
EVENTS = [{"delta": f"piece {number}"} for number in range(40)]
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


class Handler(BaseHTTPRequestHandler):
    """Answers ``/ENCODING/KIND``, and counts."""

    protocol_version = "HTTP/1.1"
    hits = 0

    def do_GET(self) -> None:
        Handler.hits += 1
        _, encoding, kind = self.path.split("/")
        events = "".join(f"data: {json.dumps(value, separators=(',', ':'))}\n\n" for value in EVENTS)
        text = events if kind == "events" else json.dumps(JSON, separators=(",", ":"), ensure_ascii=False)
        body = ENCODERS[encoding](text.encode())
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if kind == "events" else "application/json")
        self.send_header("content-encoding", encoding)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.daemon_threads = True
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def by_httpx(url: str) -> bytes:
    with http.Client(verify=False) as client:
        return bytes(client.get(url).content)


def by_httpx_streamed(url: str) -> bytes:
    with http.Client(verify=False) as client, client.stream("GET", url) as answer:
        return b"".join(answer.iter_bytes())


def by_requests(url: str) -> bytes:
    with requests.Session() as session:
        return session.get(url).content


def by_requests_streamed(url: str) -> bytes:
    with requests.Session() as session, session.get(url, stream=True) as answer:
        return b"".join(answer.iter_content(100))


def by_aiohttp(url: str) -> bytes:
    async def whole() -> bytes:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.read()

    return asyncio.run(whole())


@pytest.mark.parametrize("get", [by_httpx, by_httpx_streamed, by_requests, by_requests_streamed, by_aiohttp])
@pytest.mark.parametrize("kind", ["json", "events"])
@pytest.mark.parametrize("encoding", ENCODERS)
def test_it_is_stored_readable_and_comes_back(
    encoding: str, kind: str, get: Callable[[str], bytes], server: str, store: Path
) -> None:
    url = f"{server}/{encoding}/{kind}"
    with nr.session(store, mode="record"):
        recorded = get(url)
    (take,) = takes(store)
    if kind == "json":
        assert isinstance(take.body, Json)
        assert take.body.value == JSON == json.loads(recorded)
    else:
        assert isinstance(take.body, Events)
        assert [value for _, value in take.body.objects()] == EVENTS
    assert take.body.data() == recorded
    hits = Handler.hits
    with nr.session(store, mode="replay") as session:
        assert get(url) == recorded
    assert outcomes(session) == ["replayed"]
    assert Handler.hits == hits


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_secret_in_what_stays_compressed_is_not_kept(
    encoding: str, server: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(JSON, "key", "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY")
    with (
        nr.session(store, mode="record") as session,
        pytest.warns(UserWarning, match="secret"),
        urllib.request.urlopen(f"{server}/{encoding}/json") as answer,
    ):
        assert answer.read()
    assert outcomes(session) == ["unsaved"]
    assert not [path for path in store.rglob("*") if path.suffix in (".json", ".bin")]


def by_httpx_telling(url: str) -> str:
    with http.Client(verify=False) as client:
        try:
            return client.get(url).text
        except http.DecodingError as error:
            return f"DecodingError: {error}"


def test_a_body_that_is_not_what_its_header_tells_is_told_of_again(
    server: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, "gzip", lambda data: data)
    with nr.session(store, mode="record"):
        recorded = by_httpx_telling(f"{server}/gzip/json")
    assert recorded.startswith("DecodingError")
    with nr.session(store, mode="replay"):
        assert by_httpx_telling(f"{server}/gzip/json") == recorded
