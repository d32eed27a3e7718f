"""Answers that stay compressed, and how headers are encoded; `test_contract` has what is common to all libraries."""

from __future__ import annotations

import gzip
import json
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard

import nbreplay as nr
from tests.clients import http, outcomes
from tests.intercept.raw import Server, serving, sized, twice

server = pytest.fixture(serving)

LEAK = json.dumps({"answer": "compressed \u6f22\u5b57 " * 50, "key": "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"})
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_secret_in_what_stays_compressed_is_not_kept(encoding: str, server: Server, store: Path) -> None:
    body = ENCODERS[encoding](LEAK.encode())
    url = server.say("/leak", sized(body, content_type="application/json", content_encoding=encoding))
    with (
        nr.session(store, mode="record") as session,
        pytest.warns(UserWarning, match="secret"),
        urllib.request.urlopen(url) as answer,
    ):
        assert answer.read() == body
    assert outcomes(session) == ["unsaved"]
    assert not [path for path in store.rglob("*") if path.suffix in (".json", ".bin")]


def test_what_httpx_tells_of_the_encoding_of_headers_is_as_live(server: Server, store: Path) -> None:
    for name in ("plain", "漢字"):
        server.say(f"/{name.isascii()}", sized(b"text", content_disposition=name))

    def encodings() -> list[str]:
        return [http.get(f"{server.url}/{known}").headers.encoding for known in (True, False)]

    live, replayed = twice(store, server, encodings)
    assert replayed == live == ["ascii", "utf-8"]
