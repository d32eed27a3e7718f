"""JSON-RPC over HTTP, as MCP speaks it, through every library: ids that differ, and a stream that stays open."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
import requests

import nbreplay as nr
from tests.clients import outcomes, takes
from tests.sdks.sockets import counted

LISTENING = {"Accept": "text/event-stream", "Mcp-Session-Id": "1"}
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\r\n\r\n'
PATIENCE = 60.0
"""Seconds after which what waits has failed."""


class Handler(BaseHTTPRequestHandler):
    """Answers ``/json`` and ``/sse`` with the id that is asked; holds what it streams on ``/mcp`` until it is told."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.number += 1
            text = f"answer {self.server.number} to {asked['params']['city']} \u6f22"
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": {"text": text}}
        if self.path == "/json":
            self.say(json.dumps(answer, indent=1).encode(), "application/json")
            return
        params = {"progressToken": asked["params"]["_meta"]["progressToken"], "progress": 1}
        self.begin()
        self.piece(self.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
        self.server.go.wait(PATIENCE)
        self.piece(self.event(answer))
        self.piece(b"")

    def do_GET(self) -> None:
        if self.path == "/refused":
            self.say(b"{}", "application/json", 405)
            return
        self.begin()
        self.piece(EVENT)
        self.server.over.wait(PATIENCE)
        self.piece(b"")

    def do_DELETE(self) -> None:
        self.say(b"", "", 200)

    def event(self, message: Any) -> bytes:
        return b"event: message\r\ndata: " + json.dumps(message).encode() + b"\r\n\r\n"

    def say(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        if kind:
            self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.number, self.lock = 0, threading.Lock()
        self.go, self.over = threading.Event(), threading.Event()
        self.go.set()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.go.set()
    made.over.set()
    made.shutdown()
    made.server_close()


LIBRARIES = [importlib.import_module(name) for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
httpx = LIBRARIES[-1]


def message(number: int | str, city: str) -> dict[str, Any]:
    params = {"city": city, "_meta": {"progressToken": number}}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def by_httpx(url: str, body: Any) -> bytes:
    return httpx.post(url, json=body).content


def by_httpx_async(url: str, body: Any) -> bytes:
    async def post() -> bytes:
        async with httpx.AsyncClient() as client:
            return (await client.post(url, json=body)).content

    return asyncio.run(post())


def by_requests(url: str, body: Any) -> bytes:
    return requests.post(url, json=body).content


def by_urllib(url: str, body: Any) -> bytes:
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:
        return bytes(answer.read())


def by_aiohttp(url: str, body: Any) -> bytes:
    async def post() -> bytes:
        async with aiohttp.ClientSession() as client, client.post(url, json=body) as answer:
            return await answer.read()

    return asyncio.run(post())


ASKING = pytest.mark.parametrize("ask", [by_httpx, by_httpx_async, by_requests, by_urllib, by_aiohttp])
FORM = pytest.mark.parametrize("path", ["/json", "/sse"])


@FORM
@ASKING
def test_calls_in_another_order_with_others_between_have_their_own_answers(
    ask: Callable[[str, Any], bytes], path: str, server: Server, store: Path
) -> None:
    """Byte for byte those that were recorded, with the ids that are asked."""
    cities = ["Tokyo", "Kyoto", "Osaka"]
    with nr.session(store, mode="record"):
        live = {city: ask(server.url + path, message(number, city)) for number, city in enumerate(cities, 1)}
    server.server_close()
    with counted() as opened, nr.session(store, mode="replay") as session:
        for number, city in enumerate(reversed(cities), 77):
            found = ask(server.url + path, message(number, city))
            recorded = cities.index(city) + 1
            expected = live[city].replace(b'"id": %d' % recorded, b'"id": %d' % number)
            assert found == expected.replace(b'Token": %d' % recorded, b'Token": %d' % number)
    assert not opened
    assert outcomes(session) == ["replayed"] * 3


@FORM
@ASKING
@pytest.mark.parametrize(("recorded", "asked"), [("one", "other"), (1, "1"), ("1", 1), ("a", 2**60)])
def test_ids_of_either_type(
    recorded: int | str, asked: int | str, ask: Callable[[str, Any], bytes], path: str, server: Server, store: Path
) -> None:
    with nr.session(store, mode="record"):
        live = ask(server.url + path, message(recorded, "Tokyo"))
    with nr.session(store, mode="replay"):
        found = ask(server.url + path, message(asked, "Tokyo"))
    before, after = json.dumps(recorded).encode(), json.dumps(asked).encode()
    assert b'"id": ' + before in live
    assert found == live.replace(b'"id": ' + before, b'"id": ' + after).replace(
        b'Token": ' + before, b'Token": ' + after
    )


@ASKING
def test_concurrent_calls(ask: Callable[[str, Any], bytes], server: Server, store: Path) -> None:
    def together(first: int, turn: int) -> list[Any]:
        calls = [message(first + number, f"city {number}") for number in range(8)][::turn]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda body: json.loads(ask(f"{server.url}/json", body)), calls))
        assert [one["id"] for one in found] == [body["id"] for body in calls]
        return [one["result"] for one in found][::turn]

    with nr.session(store, mode="record"):
        live = together(1, 1)
    with nr.session(store, mode="replay") as session:
        assert together(100, -1) == live
    assert outcomes(session) == ["replayed"] * 8


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_the_first_event_is_given_at_once(library: ModuleType, server: Server, store: Path) -> None:
    """While it is recorded, the server holds the answer until the progress has come; replayed at its pace, as well."""

    def first(number: int, *, held: bool) -> tuple[bytes, bytes, float]:
        if held:
            server.go.clear()
        with library.stream("POST", f"{server.url}/sse", json=message(number, "Tokyo")) as answer:
            pieces = answer.iter_raw()
            one, at = next(pieces), time.perf_counter()
            if held:
                time.sleep(0.2)
                server.go.set()
            return one, b"".join(pieces), time.perf_counter() - at

    with nr.session(store, mode="record"):
        progress, rest, _ = first(1, held=True)
    with nr.session(store, mode="replay", speed=1):
        one, other, took = first(5, held=False)
    assert one == progress.replace(b"1,", b"5,", 1) == progress.replace(b'Token": 1', b'Token": 5')
    assert other == rest.replace(b'"id": 1', b'"id": 5')
    assert took > 0.15


# The stream that stays open


async def heard(client: Any, url: str, headers: dict[str, str]) -> Any:
    """Return a response of which the first event has been read, and what reads on."""
    answer = await client.send(client.build_request("GET", url, headers=headers), stream=True)
    data, pieces = b"", answer.aiter_raw()
    while len(data) < len(EVENT):
        data += await anext(pieces)
    assert data == EVENT
    return answer, pieces


async def listened(library: ModuleType, url: str, end: str, headers: dict[str, str] = LISTENING) -> None:
    async with library.AsyncClient() as client:
        answer, pieces = await heard(client, url, headers)
        reading = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0.1)
        assert not reading.done(), "nothing more comes, and it has not ended"
        if end == "cancel":
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await answer.aclose()
        elif end == "close":
            await asyncio.wait_for(answer.aclose(), PATIENCE)
            with pytest.raises((library.TransportError, library.StreamError, RuntimeError)):
                await asyncio.wait_for(reading, PATIENCE)
        assert reading.done()


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
@pytest.mark.parametrize("end", ["cancel", "close"])
def test_it_stays_open_until_its_caller_leaves(library: ModuleType, end: str, server: Server, store: Path) -> None:
    with nr.session(store, mode="record"):
        asyncio.run(listened(library, f"{server.url}/mcp", "cancel"))
    (take,) = takes(store)
    assert not take.complete
    assert take.standing
    with nr.session(store, mode="replay") as session:
        asyncio.run(asyncio.wait_for(listened(library, f"{server.url}/mcp", end), PATIENCE))
    assert outcomes(session) == ["replayed"]
    assert session.interactions[0].served_s is not None


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_any_other_stream_ends_where_its_caller_left(library: ModuleType, server: Server, store: Path) -> None:
    with nr.session(store, mode="record"):
        asyncio.run(listened(library, f"{server.url}/mcp", "cancel", {}))

    async def on() -> None:
        async with library.AsyncClient() as client:
            _, pieces = await heard(client, f"{server.url}/mcp", {})
            await anext(pieces)

    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingIncomplete):
        asyncio.run(on())
    assert outcomes(session) == ["missing"]


def left_early(url: str) -> None:
    """Listen, and leave after the first event, as a program of its own might."""
    with httpx.stream("GET", url, headers=LISTENING) as answer:
        next(answer.iter_raw())


def reading_in_a_thread(read: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(read())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(0.1)
    assert thread.is_alive(), f"nothing more comes, and it has not ended: {ended}"
    return thread, ended


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_a_sync_one_waits_until_it_is_closed(library: ModuleType, server: Server, store: Path) -> None:
    with nr.session(store, mode="record"):
        left_early(f"{server.url}/mcp")
    with nr.session(store, mode="replay") as session, library.Client() as client:
        request = client.build_request("GET", f"{server.url}/mcp", headers=LISTENING)
        answer = client.send(request, stream=True)
        pieces = answer.iter_raw()
        assert next(pieces) == EVENT
        thread, ended = reading_in_a_thread(lambda: next(pieces))
        assert session.interactions[0].served_s is not None, "all that was recorded has been given"
        answer.close()
        thread.join(PATIENCE)
        assert isinstance(ended[0], library.TransportError)
    assert outcomes(session) == ["replayed"]


def test_one_that_was_closed_before_it_is_read_to_its_end_does_not_wait(server: Server, store: Path) -> None:
    with nr.session(store, mode="record"):
        left_early(f"{server.url}/mcp")
    with nr.session(store, mode="replay"), httpx.Client() as client:
        answer = client.send(client.build_request("GET", f"{server.url}/mcp", headers=LISTENING), stream=True)
        inner = iter(answer.stream)  # type: ignore[arg-type]
        answer.close()
        assert next(inner) == EVENT
        with pytest.raises(httpx.TransportError):
            next(inner)


@pytest.mark.skipif(not hasattr(__import__("urllib3").HTTPResponse, "shutdown"), reason="urllib3 is older than 2.3")
def test_requests_waits_until_it_is_shut_down(server: Server, store: Path) -> None:
    with nr.session(store, mode="record"):
        left_early(f"{server.url}/mcp")
    with nr.session(store, mode="replay") as session:
        answer = requests.get(f"{server.url}/mcp", headers=LISTENING, stream=True)
        pieces = answer.iter_content(None)
        assert next(pieces) == EVENT
        thread, ended = reading_in_a_thread(lambda: next(pieces))
        answer.raw.shutdown()
        thread.join(PATIENCE)
        assert isinstance(ended[0], requests.ConnectionError | requests.exceptions.ChunkedEncodingError)
        assert session.interactions[0].served_s is not None
    with nr.session(store, mode="replay") as session:
        requests.get(f"{server.url}/mcp", headers=LISTENING, stream=True).close()
        assert session.interactions[0].served_s is not None


def test_urllib_waits(server: Server, store: Path) -> None:
    with nr.session(store, mode="record"):
        left_early(f"{server.url}/mcp")
    with nr.session(store, mode="replay"):
        answer = urllib.request.urlopen(urllib.request.Request(f"{server.url}/mcp", headers=LISTENING))
        assert answer.readline() + answer.readline() == EVENT
        reading_in_a_thread(answer.readline)


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_aiohttp_waits_until_its_caller_leaves(end: str, server: Server, store: Path) -> None:
    async def listen(end: str) -> None:
        async with aiohttp.ClientSession() as client:
            answer = await client.get(f"{server.url}/mcp", headers=LISTENING)
            assert await answer.content.readline() + await answer.content.readline() == EVENT
            reading = asyncio.ensure_future(answer.content.readline())
            await asyncio.sleep(0.1)
            assert not reading.done(), "nothing more comes, and it has not ended"
            if end == "cancel":
                reading.cancel()
            answer.close()
            with pytest.raises((asyncio.CancelledError, aiohttp.ClientConnectionError)):
                await asyncio.wait_for(reading, PATIENCE)

    with nr.session(store, mode="record"):
        asyncio.run(listen("cancel"))
    with nr.session(store, mode="replay") as session:
        asyncio.run(listen(end))
    assert outcomes(session) == ["replayed"]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_the_end_of_a_session_and_a_refusal_to_be_listened_to(library: ModuleType, server: Server, store: Path) -> None:
    def run() -> list[tuple[int, bytes]]:
        with library.Client(headers=LISTENING) as client:
            found = [client.get(f"{server.url}/refused"), client.delete(f"{server.url}/mcp")]
        return [(one.status_code, one.content) for one in found]

    with nr.session(store, mode="record"):
        live = run()
    assert live == [(405, b"{}"), (200, b"")]
    with nr.session(store, mode="replay") as session:
        assert run() == live
    assert outcomes(session) == ["replayed"] * 2
