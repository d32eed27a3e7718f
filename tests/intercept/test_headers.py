"""Headers of answers that are not ASCII come back as each library reads them live, whichever library recorded them."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import requests

import nbreplay as nr
from tests.clients import http, outcomes
from tests.intercept.raw import Server, serving, sized, twice

server = pytest.fixture(serving)

NAME = "content-disposition"


def over_httpx(url: str) -> str:
    return str(http.get(url).headers[NAME])


def over_requests(url: str) -> str:
    return requests.get(url, timeout=20).headers[NAME]


def over_urllib(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.headers[NAME])


def over_aiohttp(url: str) -> str:
    async def get() -> str:
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            return answer.headers[NAME]

    return asyncio.run(get())


CLIENTS = [over_httpx, over_requests, over_urllib, over_aiohttp]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("name", ["plain", "Überblick", "漢字", "🙂"])
def test_a_header_that_is_not_ascii_comes_back(
    server: Server, store: Path, name: str, client: Callable[[str], str]
) -> None:
    url = server.say("/file", sized(b"text", content_disposition=f'attachment; filename="{name}.txt"'))
    live, replayed = twice(store, server, lambda: client(url))
    assert name.encode() in live.encode("utf-8" if name in live else "latin-1")
    assert replayed == live


@pytest.mark.parametrize("client", CLIENTS)
def test_what_another_library_recorded_is_read_as_it_would_be_live(
    server: Server, store: Path, client: Callable[[str], str]
) -> None:
    url = server.say("/file", sized(b"text", content_disposition='attachment; filename="漢字.txt"'))
    live = client(url)
    with nr.session(store, mode="record"):
        over_httpx(url)
    server.stop()
    with nr.session(store, mode="replay") as session:
        assert client(url) == live
    assert outcomes(session) == ["replayed"]


def test_what_http_tells_of_its_encoding_is_as_live(server: Server, store: Path) -> None:
    for name in ("plain", "漢字"):
        server.say(f"/{name.isascii()}", sized(b"text", content_disposition=name))

    def encodings() -> list[str]:
        return [http.get(f"{server.url}/{known}").headers.encoding for known in (True, False)]

    live, replayed = twice(store, server, encodings)
    assert replayed == live == ["ascii", "utf-8"]
