"""aiohttp: what is recorded of it, live, and what it is given in a replay, by its own parser and without a socket."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import openai
import pytest

import nbreplay as nr
from tests.clients import KEY, in_threads, outcomes, said, takes
from tests.intercept.raw import Server, serving, sized
from tests.provider import Provider
from tests.sdks.sockets import counted

Operation = Callable[[aiohttp.ClientSession, str], Awaitable[Any]]

HELD = "test/hold+words=20"
"""The server sends the opening and the first piece, and the others when it is told to."""

server = pytest.fixture(serving)


async def run(operation: Operation, url: str, **options: Any) -> Any:
    """Run `operation` with a client session of its own; an exception is returned."""
    async with aiohttp.ClientSession(**options) as client:
        try:
            return await operation(client, url)
        except Exception as error:
            return error


def twice(store: Path, url: str, stop: Callable[[], None], operation: Operation, **options: Any) -> tuple[Any, Any]:
    """Return what `operation` gives while it is recorded, and what in a replay after `stop` ended the server."""
    with nr.session(store, mode="record") as session:
        live = asyncio.run(run(operation, url, **options))
    assert set(outcomes(session)) == {"recorded"}
    stop()
    with nr.session(store, mode="replay") as again, counted() as opened:
        replayed = asyncio.run(run(operation, url, **options))
    assert not opened
    assert outcomes(again) == ["replayed"] * len(session.interactions)
    assert all(item.served_s is not None for item in again.interactions)
    return live, replayed


def about(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return what a response tells of itself, as far as it is recorded."""
    kept = ("content-type", "x-request-id", "openai-processing-ms", "retry-after", "location")
    return {
        "status": (answer.status, answer.reason, answer.ok, answer.version),
        "headers": {name: answer.headers[name] for name in kept if name in answer.headers},
        "url": (answer.url, answer.real_url, answer.method, answer.host),
        "request": (answer.request_info.url, answer.request_info.method, dict(answer.request_info.headers)),
        "history": [(past.status, str(past.url)) for past in answer.history],
        "kind": (type(answer), answer.content_type, answer.charset),
    }


def asking(model: str = "test", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": said("hi"), **more}


async def plain(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/chat/completions", json=asking()) as answer:
        return about(answer), answer.content_length, await answer.json(), await answer.text(), await answer.read()


async def by_chunks(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/chat/completions", json=asking(stream=True)) as answer:
        chunks = [b""]
        async for data, whole in answer.content.iter_chunks():
            chunks[-1] += data
            chunks += [b""] * whole  # one chunk may have come in two reads
        return about(answer), [chunk for chunk in chunks if chunk], answer.content.at_eof()


async def by_line(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/chat/completions", json=asking(stream=True)) as answer:
        first = await answer.content.readline()
        return first, [line async for line in answer.content]


async def by_size(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/chat/completions", json=asking(stream=True)) as answer:
        start = await answer.content.readexactly(10), await answer.content.read(7)
        return start, b"".join([data async for data in answer.content.iter_chunked(100)]), answer.content.is_eof()


async def by_any(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/chat/completions", json=asking(stream=True)) as answer:
        data = b""
        while not answer.content.at_eof():
            data += await answer.content.readany()
        return data


async def as_text(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/chat/completions", json=asking(stream=True)) as answer:
        return await answer.text()


async def ndjson(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/api/chat", json=asking()) as answer:
        return about(answer), [line async for line in answer.content]


async def zipped_events(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(f"{url}/gzip-sse") as answer:
        return about(answer), [line async for line in answer.content]


async def pieces_of_sound(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.post(f"{url}/audio/speech", json={"model": "test"}) as answer:
        return about(answer), await answer.read()


async def form(client: aiohttp.ClientSession, url: str) -> Any:
    data = aiohttp.FormData({"purpose": "assistants"})
    data.add_field("file", io.BytesIO(bytes(range(256)) * 40), filename="a.bin", content_type="application/x-tests")
    async with client.post(f"{url}/files", data=data) as answer:
        return await answer.json()


WAYS: list[Operation] = [
    *(plain, by_chunks, by_line, by_size, by_any, as_text, ndjson, zipped_events, pieces_of_sound, form),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_replay_is_what_was_live(way: Operation, provider: Provider, store: Path) -> None:
    live, replayed = twice(store, provider.url, provider.close, way)
    assert not isinstance(live, Exception), live
    assert replayed == live
    assert all(take.complete for take in takes(store))


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_failures_replay_as_failures(status: int, provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with client.post(f"{url}/chat/completions", json=asking(f"test/status={status}")) as answer:
            found = about(answer), await answer.json()
            hints.append(answer.headers.get("retry-after-ms"))
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                answer.raise_for_status()
            return found, caught.value.status, caught.value.message, str(caught.value)

    hints: list[str | None] = []
    live, replayed = twice(store, provider.url, provider.close, way)
    assert live[1] == status
    assert replayed == live
    assert hints == [None, "1" if status in (429, 500) else None], "nobody sleeps before he tries again"


def test_a_session_that_raises_for_a_status(provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        return await client.post(f"{url}/chat/completions", json=asking("test/status=404"))

    live, replayed = twice(store, provider.url, provider.close, way, raise_for_status=True)
    assert isinstance(live, aiohttp.ClientResponseError)
    assert (type(replayed), str(replayed)) == (type(live), str(live))


async def _got(client: aiohttp.ClientSession, url: str, **options: Any) -> Any:
    async with client.get(url, **options) as answer:
        return about(answer), await answer.read()


def test_without_decompression_the_caller_has_the_very_bytes(server: Server, store: Path) -> None:
    server.say("/zipped", sized(gzip.compress(b"zipped " * 99, mtime=0), content_encoding="gzip"))

    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with client.get(f"{url}/zipped", auto_decompress=False) as answer:
            return answer.headers["content-encoding"], await answer.read()

    live, replayed = twice(store, server.url, server.stop, way)
    assert gzip.decompress(live[1]) == b"zipped " * 99
    assert replayed == live


# Bodies of requests


def _bodies() -> dict[str, Callable[[], dict[str, Any]]]:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    def mixed() -> aiohttp.MultipartWriter:
        with aiohttp.MultipartWriter("mixed") as writer:
            writer.append("text")
            writer.append_json({"a": 1})
        return writer

    return {
        "nothing": dict,
        "bytes": lambda: {"data": b"bytes"},
        "text": lambda: {"data": "text \u00e9"},
        "json": lambda: {"json": {"a": [1, 2.5, None]}},
        "fields": lambda: {"data": {"a": "1", "b": "2 3"}},
        "file": lambda: {"data": io.BytesIO(b"a file")},
        "open file": lambda: {"data": Path("file.txt").open("rb")},
        "pieces": lambda: {"data": pieces()},
        "compressed": lambda: {"data": b"again " * 50, "compress": "deflate"},
        "multipart": lambda: {"data": mixed()},
        "large": lambda: {"data": io.BytesIO(bytes(range(256)) * 8192)},
        "waiting": lambda: {"data": b"may I", "expect100": True},
    }


@pytest.mark.parametrize("kind", _bodies())
async def test_what_is_sent_is_what_is_keyed(kind: str, store: Path) -> None:
    """Recorded or not, the server gets the same, framed alike; a replay with the same body finds it."""
    Path("file.txt").write_bytes(b"from a disk")
    seen: list[tuple[bytes, str]] = []

    async def take_in(request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = await request.read()
        boundary = re.search(r"boundary=\"?([^\";]+)", request.headers.get("content-type", ""))
        headers = [(name, value) for name, value in request.headers.items() if name != "Host"]
        told = str(sorted(headers)).replace(boundary[1] if boundary else "-", "-")
        seen.append((body.replace(boundary[1].encode() if boundary else b"-", b"-"), told))
        return aiohttp.web.Response(body=b"%d" % len(seen))

    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with client.post(url, **_bodies()[kind]()) as answer:
            return await answer.text()

    application = aiohttp.web.Application(client_max_size=1 << 26)
    application.router.add_post("/", take_in)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await run(way, url)
    with nr.session(store, mode="record") as session:
        assert await run(way, url) == "2"
    await runner.cleanup()
    assert outcomes(session) == ["recorded"]
    assert seen[0] == seen[1], "recording changes nothing of what is sent"
    with nr.session(store, mode="replay"):
        assert await run(way, url) == "2"
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing):
        async with aiohttp.ClientSession() as client:
            await client.post(url, data=b"another body")


# Failures of the connection


def _same_error(live: Any, replayed: Any) -> None:
    assert isinstance(live, Exception)
    assert (type(replayed), str(replayed), repr(replayed)) == (type(live), str(live), repr(live))


def test_a_connection_that_is_refused(store: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        live, replayed = twice(store, f"http://127.0.0.1:{port}/", lambda: None, _got)
    assert isinstance(live, aiohttp.ClientConnectorError)
    _same_error(live, replayed)
    assert type(replayed.os_error) is type(live.os_error)
    assert (replayed.errno, replayed.host, replayed.port) == (live.errno, live.host, live.port)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_is_gone(method: str, server: Server, store: Path) -> None:
    """What is lost on the way aiohttp sends once more itself, where it is a GET."""
    server.say("/gone", b"")

    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with client.request(method, f"{url}/gone") as answer:
            return await answer.read()

    live, replayed = twice(store, server.url, server.stop, way)
    assert isinstance(live, aiohttp.ClientError)
    assert (type(replayed), str(replayed)) == (type(live), str(live))
    assert len(takes(store)) == (2 if method == "GET" else 1)


@pytest.mark.parametrize("kind", ["sock_read", "total"])
@pytest.mark.parametrize("where", ["before", "within"])
def test_a_timeout(kind: str, where: str, provider: Provider, store: Path) -> None:
    """Replaying, none is waited for."""
    model = "test/delay=3000" if where == "before" else HELD
    timeout = aiohttp.ClientTimeout(**{kind: 1})

    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        data = b""
        try:
            async with client.post(f"{url}/chat/completions", json=asking(model, stream=True)) as answer:
                async for piece in answer.content.iter_any():
                    data += piece
        except TimeoutError as error:
            return data, type(error), str(error)

    live, replayed = twice(store, provider.url, provider.close, way, timeout=timeout)
    assert bool(live[0]) == (where == "within")
    assert live[1] is (TimeoutError if kind == "total" else aiohttp.SocketTimeoutError)
    assert replayed == live


@pytest.mark.parametrize("kind", ["connect", "total"])
def test_a_timeout_while_connecting(kind: str, store: Path) -> None:
    class Slow(aiohttp.TCPConnector):
        async def _create_connection(self, *_: Any) -> Any:
            await asyncio.sleep(20)

    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with aiohttp.ClientSession(connector=Slow(), timeout=aiohttp.ClientTimeout(**{kind: 0.1})) as slow:
            await slow.get(url)

    live, replayed = twice(store, "http://127.0.0.1:1/x?key=a-secret-of-the-tests", lambda: None, way)
    assert type(live) is (aiohttp.ConnectionTimeoutError if kind == "connect" else TimeoutError)
    assert (type(replayed), str(replayed)) == (type(live), str(live))
    assert "a-secret" not in "".join(path.read_text() for path in store.glob("*.json"))


def test_a_request_that_cannot_be_sent(provider: Provider, store: Path) -> None:
    class Failing(aiohttp.ClientRequest):
        async def send(self, conn: Any) -> Any:
            raise aiohttp.ClientOSError(32, "Broken pipe")

    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        return await client.post(f"{url}/chat/completions", json=asking())

    with nr.session(store, mode="record") as session:
        live = asyncio.run(run(way, provider.url, request_class=Failing))
    assert outcomes(session) == ["recorded"]
    with nr.session(store, mode="replay"):
        _same_error(live, asyncio.run(run(way, provider.url)))
    assert provider.hits == 0


def test_an_error_that_is_not_aiohttps_is_not_looked_up(store: Path, provider: Provider) -> None:
    with nr.session(store, mode="record"):
        asyncio.run(run(lambda client, url: _got(client, url), "http://127.0.0.1:1/"))
    (path,) = store.glob("*.json")
    path.write_text(path.read_text().replace("ClientConnectorError", "ClientSession"))
    with nr.session(store, mode="replay"):
        error = asyncio.run(run(lambda client, url: _got(client, url), "http://127.0.0.1:1/"))
    assert type(error) is aiohttp.ClientConnectionError


# Callers who stop


async def _start(client: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
    return await client.post(f"{url}/chat/completions", json=asking(HELD, stream=True))


async def _two(answer: aiohttp.ClientResponse) -> list[bytes]:
    return [(await answer.content.readchunk())[0] for _ in range(2)]


async def leaving(client: aiohttp.ClientSession, url: str) -> Any:
    async with await _start(client, url) as answer:
        return await _two(answer)


async def closing(client: aiohttp.ClientSession, url: str) -> Any:
    answer = await _start(client, url)
    found = await _two(answer)
    answer.close()
    with pytest.raises(aiohttp.ClientConnectionError, match="Connection closed"):
        await answer.content.read()
    return found


async def _acked(client: aiohttp.ClientSession, url: str, provider: Provider) -> bytes:
    async with await _start(client, url) as answer:
        first = await _two(answer)
        await asyncio.sleep(0.02)
        provider.ack()
        return b"".join(first) + await answer.content.read()


async def to_the_end(client: aiohttp.ClientSession, url: str) -> Any:
    async with await _start(client, url) as answer:
        return [await answer.content.read()]


@pytest.mark.parametrize("way", [leaving, closing], ids=lambda way: way.__name__)
def test_a_caller_who_stops(way: Operation, provider: Provider, store: Path) -> None:
    live, replayed = twice(store, provider.url, provider.close, way)
    assert len(live) == 2
    assert replayed == live
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "closed")
    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingIncomplete, match="closed"):
        asyncio.run(run(to_the_end, provider.url))
    assert outcomes(session) == ["missing"]


async def cancelled(client: aiohttp.ClientSession, url: str, ready: asyncio.Event) -> None:
    async def reading() -> None:
        async with await _start(client, url) as answer:
            await _two(answer)
            ready.set()
            await answer.content.readchunk()

    task = asyncio.create_task(reading())
    await asyncio.wait_for(ready.wait(), 20)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_task_that_is_cancelled(provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record") as session:
        asyncio.run(run(lambda client, url: cancelled(client, url, asyncio.Event()), provider.url))
    assert outcomes(session) == ["recorded"]
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "interrupted")
    with nr.session(store, mode="replay"):
        assert len(asyncio.run(run(leaving, provider.url))) == 2
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingIncomplete, match="interrupted"):
        asyncio.run(run(to_the_end, provider.url))


def test_a_task_that_is_cancelled_before_there_is_an_answer(provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        asking_ = client.post(f"{url}/chat/completions", json=asking("test/delay=3000"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asking_, 0.2)

    with nr.session(store, mode="record") as session:
        asyncio.run(run(way, provider.url))
    assert outcomes(session) == ["live"]
    assert not list(store.glob("*.json"))


def test_who_reads_on_after_waiting_in_vain_was_not_interrupted(provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with await _start(client, url) as answer:
            await _two(answer)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(answer.content.readchunk(), 0.05)
            provider.ack()
            return (await answer.content.readchunk())[0]

    with nr.session(store, mode="record"):
        assert asyncio.run(run(way, provider.url)).startswith(b"data: ")
    assert takes(store)[0].reason != "interrupted"


def test_waiting_for_the_end_without_reading(provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with client.post(f"{url}/chat/completions", json=asking(stream=True)) as answer:
            await answer.content.wait_eof()
            return answer.content.is_eof(), answer.content.at_eof(), answer.content.read_nowait()

    live, replayed = twice(store, provider.url, provider.close, way)
    assert live[:2] == (True, False)
    assert replayed == live


def test_an_answer_that_another_task_closes(provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with await _start(client, url) as answer:
            await _two(answer)
            reading = asyncio.create_task(answer.content.readany())
            await asyncio.sleep(0.01)
            answer.close()
            return await reading

    with nr.session(store, mode="record"):
        asyncio.run(run(lambda client, url: _acked(client, url, provider), provider.url))
    with nr.session(store, mode="replay", speed=0.001):
        error = asyncio.run(run(way, provider.url))
    assert type(error) is aiohttp.ClientConnectionError
    assert str(error) == "Connection closed"


def test_a_session_that_is_closed_over_an_open_answer(provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        answer = await _start(client, url)
        found = await _two(answer)
        await client.close()
        answer.release()
        return found

    live, replayed = twice(store, provider.url, provider.close, way)
    assert replayed == live
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "closed")


# Live, at a pace, and many at once


def test_a_pace_is_kept_by_sleeping_in_the_loop(
    provider: Provider, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Event by event, and however long it takes no timeout fires; at no pace nobody sleeps."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def counted(delay: float, result: Any = None) -> Any:
        slept.append(delay)
        return await sleep(min(delay, 0.03))

    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        body = asking("test/words=6+gap=5", stream=True)
        async with client.post(f"{url}/chat/completions", json=body) as answer:
            return [data async for data in answer.content.iter_any()]

    with nr.session(store, mode="record"):
        live = asyncio.run(run(way, provider.url))
    provider.close()
    monkeypatch.setattr(asyncio, "sleep", counted)
    with nr.session(store, mode="replay"):
        assert b"".join(asyncio.run(run(way, provider.url))) == b"".join(live)
    assert not [delay for delay in slept if delay > 0]
    slept.clear()
    with nr.session(store, mode="replay", speed=0.01):
        timeout = aiohttp.ClientTimeout(total=0.05, sock_read=0.01)
        paced = asyncio.run(run(way, provider.url, timeout=timeout))
    assert b"".join(paced) == b"".join(live)
    assert len(paced) == len(takes(store)[0].body.chunks)  # type: ignore[union-attr]
    assert max(slept) > 0.1


def test_threads_with_loops_of_their_own(provider: Provider, store: Path) -> None:
    def ask(into: dict[int, Any], number: int) -> None:
        async def way(client: aiohttp.ClientSession, url: str) -> Any:
            body = {"model": "test", "messages": said(f"number {number}"), "stream": True}
            async with client.post(f"{url}/chat/completions", json=body) as answer:
                return await answer.read()

        into[number] = asyncio.run(run(way, provider.url))

    def all_of_them() -> dict[int, Any]:
        found: dict[int, Any] = {}
        in_threads(lambda number: ask(found, number), range(32))
        return found

    with nr.session(store, mode="record"):
        live = all_of_them()
    provider.close()
    assert len(set(live.values())) == 32
    with nr.session(store, mode="replay"):
        assert all_of_them() == live


# One over the other, and the hook itself


async def test_another_library_over_it_is_recorded_once(provider: Provider, store: Path) -> None:
    async def ask() -> tuple[Any, list[Any]]:
        async with openai.AsyncOpenAI(
            base_url=provider.url, api_key=KEY, max_retries=0, http_client=openai.DefaultAioHttpClient()
        ) as client:
            answer = await client.chat.completions.create(model="test", messages=said("hi"))
            stream = await client.chat.completions.create(model="test", messages=said("hi"), stream=True)
            return answer.model_dump(), [chunk.model_dump() async for chunk in stream]

    with nr.session(store, mode="record") as session:
        live = await ask()
    assert outcomes(session) == ["recorded", "recorded"]
    assert provider.hits == 2
    provider.close()
    with nr.session(store, mode="replay") as again, counted() as opened:
        assert await ask() == live
    assert not opened
    assert outcomes(again) == ["replayed", "replayed"]


async def test_tracing_and_middlewares_go_on(provider: Provider, store: Path) -> None:
    async def way(client: aiohttp.ClientSession, url: str) -> Any:
        async with client.post(f"{url}/chat/completions", json=asking()) as answer:
            return await answer.json()

    def traced(into: list[str]) -> aiohttp.TraceConfig:
        config = aiohttp.TraceConfig()
        for name in ("request_start", "request_headers_sent", "request_chunk_sent", "response_chunk_received"):

            async def note(*_: Any, name: str = name) -> None:
                into.append(name)

            getattr(config, f"on_{name}").append(note)
        return config

    live: list[str] = []
    replayed: list[str] = []
    with nr.session(store, mode="record"):
        expected = await run(way, provider.url, trace_configs=[traced(live)])
    with nr.session(store, mode="replay"):
        assert await run(way, provider.url, trace_configs=[traced(replayed)]) == expected
    assert replayed == live
    assert len(set(live)) == 4
