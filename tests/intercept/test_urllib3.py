"""urllib3, and requests and botocore over it: what is recorded of them, live, and what they are given in a replay."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import botocore.endpoint
import brotli
import pytest
import requests
import urllib3
import zstandard

import nbreplay as nr
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from nbreplay.intercept import registry
from nbreplay.intercept.http import urllib3 as hook
from nbreplay.intercept.network import guard
from tests.clients import ctrl_c, in_threads, outcomes, recordings, takes
from tests.intercept.raw import (
    CREDENTIALS,
    HOLD,
    RESET,
    SECRET,
    WAIT,
    Server,
    chunked,
    described,
    head,
    serving,
    sized,
    twice,
)
from tests.sdks.sockets import counted

server = pytest.fixture(serving)

EVENTS = [b'data: {"n":%d}\n\n' % number for number in range(5)] + [b"data: [DONE]\n\n"]
LINES = [b'{"n":%d}\n' % number for number in range(5)]
JSON = json.dumps({"text": "compress me " * 50}).encode()
SSE = {"content_type": "text/event-stream"}
BINARY = bytes(range(256)) * 8192  # 2 MB


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zipped_events() -> list[bytes]:
    packer = zlib.compressobj(wbits=31)
    return [*[packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in EVENTS], packer.flush()]


ANSWERS: dict[str, list[bytes]] = {
    "/sized": [sized(JSON, content_type="application/json")],
    "/chunked": [chunked(JSON[:10], JSON[10:], content_type="application/json")],
    "/looks-over": [chunked(b"one\r\n0\r\n\r\n", b"0\r\n\r\n", b"two 0\r\n\r\n")],
    "/trailer": [chunked(b"with", b" a trailer", trailer=b"x-a: b\r\nx-c: d\r\n")],
    "/until-close": [head() + b"first line\nsecond line\nthird", b""],
    "/empty": [sized(b"")],
    "/nothing": [head("204 No Content")],
    "/same": [head("304 Not Modified", content_length="7")],
    "/missing": [sized(b"nowhere", "404 Not Found")],
    "/broken": [sized(b'{"error":"here"}', "500 Internal Server Error", content_type="application/json")],
    "/gzip": [sized(gzip.compress(JSON), content_type="application/json", content_encoding="gzip")],
    "/zlib": [sized(zlib.compress(JSON), content_type="application/json", content_encoding="deflate")],
    "/deflate": [sized(deflated(JSON), content_type="application/json", content_encoding="deflate")],
    "/br": [sized(brotli.compress(JSON), content_type="application/json", content_encoding="br")],
    "/zstd": [sized(zstandard.compress(JSON), content_type="application/json", content_encoding="zstd")],
    "/two": [chunked(brotli.compress(gzip.compress(JSON)), content_encoding="gzip, br")],
    "/odd": [sized(b"odd", content_encoding="of-our-own")],
    "/events": [chunked(*EVENTS, **SSE)],
    "/events-gzip": [chunked(*zipped_events(), content_encoding="gzip", **SSE)],
    "/events-sized": [sized(b"".join(EVENTS), **SSE)],
    "/ndjson": [chunked(*LINES, content_type="application/x-ndjson")],
    "/binary": [sized(BINARY, content_type="application/octet-stream")],
    "/binary-chunked": [chunked(BINARY[:1_000_000], BINARY[1_000_000:], content_type="application/octet-stream")],
}


def manager(**options: Any) -> urllib3.PoolManager:
    return urllib3.PoolManager(retries=False, **options)


def asked(pool: urllib3.PoolManager, url: str, **options: Any) -> Any:
    return pool.request("GET", url, preload_content=False, **options)


def until_empty(read: Callable[[], bytes]) -> list[bytes]:
    return list(iter(read, b""))


def preloaded(pool: Any, url: str) -> Any:
    answer = pool.request("GET", url)
    return answer.status, answer.reason, answer.headers["content-type"], answer.version_string, answer.data


def streamed(pool: Any, url: str) -> Any:
    return b"".join(asked(pool, url).stream(77, decode_content=True))


def streamed_whole(pool: Any, url: str) -> Any:
    return b"".join(asked(pool, url).stream(None, decode_content=True))


def read_whole(pool: Any, url: str) -> Any:
    answer = asked(pool, url)
    return answer.read(decode_content=True), answer.read(), answer.closed


def read_by_some(pool: Any, url: str) -> Any:
    answer = asked(pool, url)
    return until_empty(lambda: answer.read(1000))


def read1(pool: Any, url: str) -> Any:
    answer = asked(pool, url)
    return b"".join(until_empty(lambda: answer.read1(1000)))


def read_into(pool: Any, url: str) -> Any:
    answer, buffer = asked(pool, url), bytearray(999)
    found = b""
    while size := answer.readinto(buffer):
        found += buffer[:size]
    return found


def by_line(pool: Any, url: str) -> Any:
    answer = asked(pool, url)
    answer.auto_close = False  # else it is closed to a reader over it as soon as its connection is
    return list(io.BufferedReader(answer))


def drained(pool: Any, url: str) -> Any:
    answer = asked(pool, url)
    answer.drain_conn()
    answer.release_conn()
    return answer.status


READERS = [preloaded, streamed, streamed_whole, read_whole, read_by_some, read1, read_into, by_line, drained]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_replay_is_what_was_live(read: Callable[..., Any], server: Server, store: Path) -> None:
    urls = {name: server.say(name, *parts) for name, parts in ANSWERS.items()}

    def way() -> Any:
        with manager() as pool:
            return {name: read(pool, url) for name, url in urls.items()}

    live, replayed = twice(store, server, way)
    for name in ANSWERS:
        assert replayed[name] == live[name], name
    found = {take.url: take for recording in recordings(store) for take in recording.takes}
    assert [url for url, take in found.items() if not take.complete] == []
    for name in ("/sized", "/chunked", "/gzip", "/zlib", "/deflate", "/br", "/zstd"):
        assert isinstance(found[name].body, Json), name
        assert found[name].body.data() == JSON, name
    assert found["/two"].body.data() == JSON
    assert found["/looks-over"].body.data() == b"one\r\n0\r\n\r\n0\r\n\r\ntwo 0\r\n\r\n"
    assert found["/odd"].headers["content-encoding"] == "of-our-own"
    assert isinstance(found["/binary"].body, Blob)
    for name in ("/events", "/events-gzip", "/events-sized"):
        body = found[name].body
        assert isinstance(body, Events), name
        assert [chunk.data for chunk in body.chunks] == [*({"n": n} for n in range(5)), "[DONE]"]


def content(client: Any, url: str) -> Any:
    answer = client.get(url)
    return answer.status_code, answer.reason, answer.encoding, answer.content, answer.ok, answer.url


def iterated(client: Any, url: str) -> Any:
    with client.get(url, stream=True) as answer:
        return b"".join(answer.iter_content(1000))


def iterated_whole(client: Any, url: str) -> Any:
    """Event by event, as a caller may count on it."""
    with client.get(url, stream=True) as answer:
        return list(answer.iter_content(None)) if "events" in url or "ndjson" in url else None


def lines(client: Any, url: str) -> Any:
    with client.get(url, stream=True) as answer:
        return list(answer.iter_lines(7)) if "events" in url or "ndjson" in url else None


def raw(client: Any, url: str) -> Any:
    with client.get(url, stream=True) as answer:
        return answer.raw.read(3, decode_content=True), answer.raw.read(decode_content=True), answer.raw.status


@pytest.mark.parametrize("read", [content, iterated, iterated_whole, lines, raw], ids=lambda read: read.__name__)
def test_requests_gets_what_was_live(read: Callable[..., Any], server: Server, store: Path) -> None:
    urls = {
        name: server.say(name, *parts)
        for name, parts in ANSWERS.items()
        if read is not iterated_whole or "z" not in name
    }

    def way() -> Any:
        with requests.Session() as client:
            return {name: read(client, url) for name, url in urls.items()}

    live, replayed = twice(store, server, way)
    for name in urls:
        assert replayed[name] == live[name], name
    assert len(recordings(store)) == len(urls), "each once, though there is http.client under urllib3"


def test_who_wants_it_encoded_gets_the_same_bytes(server: Server, store: Path) -> None:
    url = server.say("/gzip", *ANSWERS["/gzip"])

    def way() -> Any:
        with manager() as pool:
            answer = pool.request("GET", url, decode_content=False)
            return answer.headers["content-encoding"], answer.data

    live, replayed = twice(store, server, way)
    assert live[0] == "gzip"
    assert replayed == live


def test_what_a_head_tells_is_kept(server: Server, store: Path) -> None:
    url = server.say("/file", head(content_length="12345", content_encoding="gzip"))

    def way() -> Any:
        answer = requests.head(url)
        return answer.status_code, answer.headers["content-length"], answer.content

    live, replayed = twice(store, server, way)
    assert live == (200, "12345", b"")
    assert replayed == live


def test_redirections_are_followed(server: Server, store: Path) -> None:
    server.say("/moved", sized(b"over there", "302 Found", location="/there?a=b"))
    server.say("/there?a=b", sized(b"here"))

    def way() -> Any:
        with requests.Session() as client, manager() as pool:
            answer = client.get(f"{server.url}/moved")
            plain = pool.request("GET", f"{server.url}/moved", redirect=True, retries=3)
            return [one.status_code for one in answer.history], answer.url, answer.text, plain.data, plain.geturl()

    live, replayed = twice(store, server, way)
    assert live[0] == [302]
    assert replayed == live


# Live


@pytest.mark.parametrize("chunk", [None, 1, 512])
def test_the_first_piece_is_there_before_the_rest_is_sent(chunk: int | None, server: Server, store: Path) -> None:
    whole = chunked(*EVENTS, **SSE)
    cut = whole.index(EVENTS[1]) - 7
    url = server.say("/events", whole[:cut], HOLD, whole[cut:])
    with nr.session(store, mode="record"), requests.get(url, stream=True) as answer:
        found = b""
        for piece in answer.iter_content(chunk):
            found += piece
            if found == EVENTS[0]:
                assert not server.go.is_set()
                server.go.set()
    assert server.go.is_set()
    assert found == b"".join(EVENTS)
    assert takes(store)[0].complete


def test_the_pace_is_kept_and_without_one_nobody_sleeps(
    server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = chunked(*EVENTS, **SSE)
    cut = whole.index(EVENTS[3]) - 7
    url = server.say("/events", whole[:cut], HOLD, whole[cut:])
    with nr.session(store, mode="record"):
        threading.Timer(0.05, server.go.set).start()
        assert requests.get(url).content == b"".join(EVENTS)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with nr.session(store, mode="replay"):
        assert requests.get(url).content == b"".join(EVENTS)
    assert not slept
    with nr.session(store, mode="replay", speed=0.1), requests.get(url, stream=True) as answer:
        assert list(answer.iter_content(None)) == EVENTS
    assert max(slept) > 0.1


# Failures


def cannot(error: Exception) -> Callable[..., Any]:
    def connect(*_: Any, **__: Any) -> Any:
        raise error

    return connect


FAILURES: dict[str, list[Any]] = {
    "/reset": [RESET],
    "/gone": [b""],
    "/nonsense": [b"this is not HTTP\r\n\r\n", b""],
    "/slow": [WAIT],
    "/reset-inside": [head(content_length="99") + b"some", HOLD, RESET],
    "/short": [head(content_length="99") + b"only this", b""],
    "/short-events": [chunked(*EVENTS, **SSE)[:-30], b""],
    "/short-between": [chunked(*EVENTS, **SSE)[:-28], b""],
    "/short-sized": [sized(b"".join(EVENTS), **SSE)[:-30], b""],
    "/short-chunk": [head(transfer_encoding="chunked") + b"ff\r\nonly this", b""],
    "/no-chunk": [head(transfer_encoding="chunked") + b"4\r\nsome\r\nzz\r\n", b""],
    "/slow-inside": [head(content_length="99") + b"some", WAIT],
    "/slow-events": [chunked(*EVENTS, **SSE)[:-28], WAIT],
}


def piece_by_piece(read: Callable[[], Any], server: Server) -> Any:
    """What came of an answer before it broke, and how."""
    found: list[bytes] = []

    def whole() -> None:
        for piece in read():
            found.append(piece)
            server.go.set()

    return described(whole), b"".join(found)


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("client", ["urllib3", "urllib3 streamed", "requests", "requests streamed"])
def test_what_breaks_breaks_again(name: str, client: str, server: Server, store: Path) -> None:
    url = server.say(name, *FAILURES[name])
    wait = 0.2 if "slow" in name else 20
    if "streamed" not in client:
        server.go.set()

    def way() -> Any:
        with requests.Session() as session, manager() as pool:
            if client == "urllib3":
                return described(lambda: pool.request("GET", url, timeout=wait).data)
            if client == "requests":
                return described(lambda: session.get(url, timeout=wait).content)
            if client == "requests streamed":
                return piece_by_piece(lambda: session.get(url, timeout=wait, stream=True).iter_content(4), server)
            return piece_by_piece(lambda: asked(pool, url, timeout=wait).stream(4), server)

    live, replayed = twice(store, server, way)
    assert "Error" in str(live)
    if name != "/no-chunk":
        assert replayed == live
    assert str(replayed).partition(",")[0] == str(live).partition(",")[0]
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "dropped")


CONNECTING = {
    "refused": ConnectionRefusedError(111, "Connection refused"),
    "no name": socket.gaierror(-2, "Name or service not known"),
    "timeout": TimeoutError("timed out"),
    "unreachable": OSError(101, "Network is unreachable"),
}


@pytest.mark.parametrize("retries", [0, 2, False])
@pytest.mark.parametrize("kind", CONNECTING)
@pytest.mark.parametrize("through", ["", "http", "https"])
def test_where_there_is_no_connection_there_is_none_again(
    through: str, kind: str, retries: Any, store: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very error of the library, once an attempt; through a proxy it is the proxy's."""
    scheme = through or "http"
    url, proxies = f"{scheme}://api.example.com/v1", {scheme: "http://127.0.0.1:9"} if through else {}
    attempts = retries or 0

    def way() -> Any:
        pool = urllib3.ProxyManager(proxies[scheme]) if through else urllib3.PoolManager()
        with pool, requests.Session() as session:
            session.mount(f"{scheme}://", requests.adapters.HTTPAdapter(max_retries=urllib3.Retry(attempts)))
            return (
                described(lambda: pool.request("GET", url, retries=retries)),
                described(lambda: session.get(url, proxies=proxies)),
            )

    with monkeypatch.context() as patch:
        patch.setattr(urllib3.util.connection, "create_connection", cannot(CONNECTING[kind]))
        with nr.session(store, mode="record") as session:
            live = way()
    with nr.session(store, mode="replay") as again, counted() as opened:
        assert way() == live
    assert not opened
    assert outcomes(session) == ["recorded"] * 2 * (attempts + 1)
    assert outcomes(again) == ["replayed"] * 2 * (attempts + 1)


@pytest.mark.parametrize("through_proxy", [False, True])
def test_where_no_tls_is_spoken_none_is_spoken_again(through_proxy: bool, server: Server, store: Path) -> None:
    server.say("api.example.com:443", head("200 Connected"))
    url = "https://api.example.com/" if through_proxy else f"https://{server.host}/"
    proxies = {"https": server.url} if through_proxy else {}

    def way() -> Any:
        plain = urllib3.ProxyManager(server.url) if through_proxy else urllib3.PoolManager()
        with plain as pool, requests.Session() as session:
            return (
                described(lambda: pool.request("GET", url, retries=False)),
                described(lambda: session.get(url, proxies=proxies)),
            )

    live, replayed = twice(store, server, way)
    assert [one[0] for one in live] == ["SSLError", "SSLError"]
    assert replayed == live


def test_what_cannot_be_sent_is_not_recorded(server: Server, store: Path) -> None:
    with nr.session(store, mode="record") as session, manager() as pool, pytest.raises(ValueError, match="header"):
        pool.request("GET", server.say("/a", sized(b"")), headers={"x-a": "one\ntwo"})
    assert outcomes(session) == ["live"]
    assert not list(store.glob("*.json"))


def retrying(**options: Any) -> urllib3.Retry:
    return urllib3.Retry(total=3, backoff_factor=5, status_forcelist=[429, 500, 503], **options)


def by_pool(url: str) -> Any:
    with urllib3.PoolManager() as pool:
        answer = pool.request("GET", url, retries=retrying())
        return answer.status, answer.data, [(one.status, str(one.error)) for one in answer.retries.history]


def by_session(url: str) -> Any:
    with requests.Session() as client:
        client.mount("http://", requests.adapters.HTTPAdapter(max_retries=retrying()))
        answer = client.get(url)
        return answer.status_code, answer.text


@pytest.mark.parametrize("way", [by_pool, by_session])
def test_failures_that_pass_replay_without_sleeping(
    way: Callable[[str], Any], server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.say("/busy", sized(b"wait", "429 Too Many Requests", retry_after="7"))
    server.say("/busy", b"")
    server.say("/busy", sized(b"oh", "500 Internal Server Error"))
    url = server.say("/busy", sized(b"at last"))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with nr.session(store, mode="record") as session:
        live = way(url)
    assert 7 in slept
    assert len(slept) == 3
    slept.clear()
    server.stop()
    with nr.session(store, mode="replay") as again, counted() as opened:
        assert way(url) == live
    with nr.session(store, mode="auto"):
        assert way(url)[:2] == live[:2]
    assert not opened
    assert not slept
    assert [take.status for take in takes(store)] == [429, None, 500, 200]
    assert outcomes(session) == ["recorded"] * 4
    assert outcomes(again) == ["replayed"] * 4


def test_nobody_sleeps_before_a_redirection(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.say("/moved", sized(b"", "301 Moved", location="/there", retry_after="9"))
    url = server.say("/there", sized(b"here")).replace("there", "moved")
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    def way() -> Any:
        with urllib3.HTTPConnectionPool("127.0.0.1", server.port) as pool:
            return pool.request("GET", "/moved").data

    assert url
    assert twice(store, server, way) == (b"here", b"here")
    assert slept == [9]


def test_what_is_not_replayed_waits_as_ever(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.say("/busy", sized(b"", "429 Too Many Requests", retry_after="7"))
    url = server.say("/busy", sized(b"at last"))
    with nr.session(store, mode="replay", allow=[server.host]):
        assert by_pool(url)[1] == b"at last"
    assert slept == [7]


CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "at last"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
    "metrics": {"latencyMs": 4},
}


@pytest.mark.parametrize("retries", ["legacy", "standard"])
def test_botocore_does_not_wait_either(
    retries: str, server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"content_type": "application/json"}
    throttled = {"x_amzn_errortype": "ThrottlingException", **told}
    server.say("/model/m/converse", sized(b'{"message":"wait"}', "429 Too Many Requests", **throttled))
    server.say("/model/m/converse", b"")
    server.say("/model/m/converse", sized(b"{}", "503 Busy", **told))
    server.say("/model/m/converse", sized(json.dumps(CONVERSED).encode(), **told))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)

    def way() -> Any:
        keys = {"aws_access_key_id": "a-key-of-the-tests", "aws_secret_access_key": SECRET, "aws_session_token": SECRET}
        config = botocore.config.Config(retries={"mode": retries, "total_max_attempts": 4})
        made = boto3.client("bedrock-runtime", "us-east-1", endpoint_url=server.url, config=config, **keys)
        with closing(made) as client:
            answer = client.converse(modelId="m", messages=[{"role": "user", "content": [{"text": "hi"}]}])
            return answer["output"], answer["ResponseMetadata"]["RetryAttempts"]

    with nr.session(store, mode="record"):
        live = way()
    assert live == (CONVERSED["output"], 3)
    assert len(slept) == 3
    with nr.session(store, mode="replay") as again:
        assert way() == live
    assert len(slept) == 3
    assert outcomes(again) == ["replayed"] * 4
    assert SECRET not in "".join(path.read_text() for path in store.glob("*.json"))
    registry.undo()
    assert botocore.endpoint.time is time


# Callers that stop


def test_who_stops_early_gets_as_much_again_and_no_more(server: Server, store: Path) -> None:
    whole = chunked(*EVENTS, **SSE)
    cut = whole.index(EVENTS[3]) - 7
    url = server.say("/events", whole[:cut], WAIT)

    def some() -> list[bytes]:
        with requests.get(url, stream=True) as answer:
            pieces = answer.iter_content(None)
            return [next(pieces) for _ in range(3)]

    live, replayed = twice(store, server, some)
    assert live == replayed == EVENTS[:3]
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "closed")
    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingIncomplete, match="closed it there"):
        requests.get(url)
    assert outcomes(session) == ["missing"]


def test_who_reads_some_of_a_body_gets_no_more_of_it(server: Server, store: Path) -> None:
    url = server.say("/long", sized(b"0123456789" * 10))

    def some(wanted: int) -> bytes:
        with manager() as pool:
            answer = asked(pool, url)
            try:
                return bytes(answer.read(wanted))
            finally:
                answer.close()

    live, replayed = twice(store, server, lambda: some(10))
    assert live == replayed == b"0123456789"
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingIncomplete):
        some(11)


def test_an_answer_that_is_let_go_of_is_closed(server: Server, store: Path) -> None:
    """Nothing of ours keeps it, and its connection, until the collector comes."""
    url = server.say("/events", chunked(*EVENTS, **SSE)[:-30], WAIT)
    with nr.session(store, mode="record") as session, manager() as pool:
        answer = asked(pool, url)
        next(answer.stream(None))
        del answer
        assert outcomes(session) == ["recorded"]
    assert takes(store)[0].reason == "closed"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends itself a signal")
def test_an_interrupt_is_kept_as_one(server: Server, store: Path) -> None:
    url = server.say("/events", chunked(*EVENTS, **SSE)[:-30], WAIT)
    with nr.session(store, mode="record"), requests.Session() as client:
        answer = client.get(url, stream=True)
        pieces = answer.iter_content(None)
        assert next(pieces) == EVENTS[0]
        with pytest.raises(KeyboardInterrupt), ctrl_c():
            list(pieces)
        answer.close()
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "interrupted")
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingIncomplete, match="interrupted"):
        requests.get(url)


# Connections


def test_many_requests_over_one_connection(server: Server, store: Path) -> None:
    urls = [server.say(name, *parts) for name, parts in ANSWERS.items() if name != "/until-close"]

    def way() -> Any:
        with urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1, block=True) as pool:
            return [pool.request("GET", url.removeprefix(server.url)).data for url in urls for _ in range(2)]

    live, replayed = twice(store, server, way)
    assert server.connections == 1
    assert replayed == live


def test_replayed_and_live_calls_share_a_connection(server: Server, store: Path) -> None:
    urls = [server.say(f"/{number}", sized(b"number %d" % number)) for number in range(6)]
    with urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=1, block=True) as pool:
        with nr.session(store, mode="record"):
            live = [pool.request("GET", url.removeprefix(server.url)).data for url in urls[::2]]
        with nr.session(store, mode="auto") as session:
            found = [pool.request("GET", url.removeprefix(server.url)).data for url in urls]
        assert pool.request("GET", "/0").data == live[0]
    assert found[::2] == live
    assert outcomes(session) == ["replayed", "recorded"] * 3
    assert server.connections == 1
    assert len(server.requests) == 7


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nothing_is_asked_of_a_proxy_in_a_replay(scheme: str, server: Server, store: Path) -> None:
    """A tunnel is opened when something is sent through it; here the proxy refuses to."""
    host = "api.example.com"
    server.say(f"http://{host}/v1?a=b", sized(b"through the proxy"))
    server.say(f"{host}:443", sized(b"", "403 Forbidden"))

    def way() -> Any:
        with urllib3.ProxyManager(
            server.url, retries=False, proxy_headers={"proxy-authorization": "Basic c2VjcmV0"}
        ) as pool:
            return [described(lambda: pool.request("GET", f"{scheme}://{host}/v1?a=b").data) for _ in range(2)]

    live, replayed = twice(store, server, way)
    assert replayed == live
    assert live[0] == b"through the proxy" if scheme == "http" else "Tunnel connection failed: 403" in str(live[0])
    (recording,) = recordings(store)
    assert (recording.request["host"], recording.request["path"]) == (host, "/v1")
    assert "c2VjcmV0" not in "".join(path.read_text() for path in store.glob("*.json"))


PATHS = {"": 0.2, "gone": 20, "nonsense": 20}


def test_a_proxy_that_was_connected_is_not_blamed(server: Server, store: Path) -> None:
    server.say("http://api.example.com/", WAIT)
    server.say("http://api.example.com/gone", b"")
    server.say("http://api.example.com/nonsense", b"this is not HTTP\r\n\r\n")

    def way() -> Any:
        with urllib3.ProxyManager(server.url, retries=False) as pool:
            url = "http://api.example.com/"
            return [
                described(lambda path=path, wait=wait: pool.request("GET", url + path, timeout=wait))
                for path, wait in PATHS.items()
            ]

    live, replayed = twice(store, server, way)
    assert [one[0] for one in live] == ["ReadTimeoutError", "ProxyError", "ProtocolError"]
    assert replayed == live


def test_a_tunnel_is_opened_once_where_it_is_used_after_a_replay(server: Server, store: Path) -> None:
    server.say("api.example.com:443", sized(b"", "403 Forbidden"))
    with urllib3.ProxyManager(server.url, retries=False) as pool:

        def ask() -> Any:
            return described(lambda: pool.request("GET", "https://api.example.com/"))

        with nr.session(store, mode="record"):
            live = ask()
        with nr.session(store, mode="replay"):
            assert ask() == live
        assert ask() == live
    assert len(server.requests) == 2


def test_a_tunnel_serves_many_calls(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.say("api.example.com:443", head("200 Connected"))
    for number in range(4):
        server.say(f"/{number}", sized(b"number %d" % number))
    trusted = urllib3.connection._WrappedAndVerifiedSocket
    wrap = "_ssl_wrap_socket_and_match_hostname"
    monkeypatch.setattr(urllib3.connection, wrap, lambda sock, **_: trusted(socket=sock, is_verified=True))
    with urllib3.ProxyManager(server.url, retries=False) as pool:

        def get(number: int) -> bytes:
            return bytes(pool.request("GET", f"https://api.example.com/{number}").data)

        with nr.session(store, mode="record"):
            live = [get(0), get(1)]
        with nr.session(store, mode="auto") as session:
            assert [get(0), get(2), get(1), get(3)] == [live[0], b"number 2", live[1], b"number 3"]
        pool.clear()
        with nr.session(store, mode="replay"), counted() as opened:
            assert [get(0), get(1)] == live
        with nr.session(store, mode="off"):
            assert [get(0), get(1)] == live
    assert not opened
    assert outcomes(session) == ["replayed", "recorded"] * 2
    assert server.connections == 2
    assert [head[:7] for head, _ in server.requests].count(b"CONNECT") == 2


def test_a_path_that_holds_a_url_is_a_path(server: Server, store: Path) -> None:
    url = server.say("/https://example.com/page?to=http://example.org/", sized(b"read"))
    assert twice(store, server, lambda: requests.get(url).text) == ("read", "read")
    (recording,) = recordings(store)
    assert recording.request["host"] == server.host
    assert recording.request["path"] == "/https://example.com/page"


# What is sent


def text_file() -> Any:
    return io.StringIO("a file of t\u00e9xt")


BODIES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "bytes": lambda: b"\xff\x00bytes",
    "bytearray": lambda: bytearray(b"an array"),
    "str": lambda: "t\u00e9xt",
    "file": lambda: io.BytesIO(b"a file " * 9999),
    "text file": text_file,
    "generator": lambda: (piece for piece in (b"one ", b"two ", b"", b"three")),
    "list": lambda: [b"one ", b"two"],
}


@pytest.mark.parametrize(
    ("client", "kind"),
    # requests takes a list for a form, and miscounts text.
    [
        *(("urllib3", kind) for kind in BODIES),
        *(("requests", kind) for kind in BODIES if kind not in ("list", "text file")),
    ],
)
def test_every_body_is_sent_as_ever_and_tells_requests_apart(
    kind: str, client: str, server: Server, store: Path
) -> None:
    url = server.say("/echo", sized(b"got it"))

    def send(body: Any) -> Any:
        if client == "urllib3":
            with manager() as pool:
                return pool.request("POST", url, body=body).data
        return requests.post(url, data=body).content

    send(BODIES[kind]())
    with nr.session(store, mode="record"):
        send(BODIES[kind]())
    plain, recorded = server.requests
    assert recorded == plain
    server.stop()
    with nr.session(store, mode="replay"):
        assert send(BODIES[kind]()) == b"got it"
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing):
        send(b"something else")


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server, store: Path) -> None:
    server.say("/a", sized(b"all of it")[:-3], b"")
    url = server.say("/a", sized(b"all of it"))

    def way() -> Any:
        with urllib3.PoolManager() as pool:
            answer = pool.request("GET", url, retries=2)
            return answer.data, [str(one.error) for one in answer.retries.history]

    live, replayed = twice(store, server, way)
    assert live[0] == b"all of it"
    assert "3 more expected" in live[1][0]
    assert replayed == live


def test_a_body_is_sent_anew_at_each_attempt(server: Server, store: Path) -> None:
    server.say("/busy", sized(b"", "503 Busy"))
    url = server.say("/busy", sized(b"done"))

    def way() -> Any:
        with urllib3.PoolManager() as pool:
            retries = urllib3.Retry(total=2, status_forcelist=[503], allowed_methods=None)
            return pool.request("POST", url, body=io.BytesIO(b"a file"), retries=retries).data

    assert twice(store, server, way) == (b"done", b"done")
    assert [body for _, body in server.requests] == [b"a file"] * 2


def test_a_form_with_a_large_file(server: Server, store: Path) -> None:
    """Keyed by its parts: the boundary is another one each time."""
    url = server.say("/files", sized(b"stored"))

    def way() -> Any:
        fields = {"file": ("a.bin", BINARY, "application/octet-stream"), "purpose": "tests"}
        with manager() as pool:
            one = pool.request("POST", url, fields=fields).data
        return one, requests.post(url, files={"file": ("a.bin", io.BytesIO(BINARY))}, data={"purpose": "tests"}).text

    live, replayed = twice(store, server, way)
    assert replayed == live
    blobs = list(store.glob("blob-*.bin"))
    assert [path.read_bytes() == BINARY for path in blobs] == [True]


@pytest.mark.parametrize("headers", CREDENTIALS)
def test_secrets_stay_out_of_the_store(headers: dict[str, str], server: Server, store: Path) -> None:
    """Also where the answer, compressed and in chunks, says them."""
    body = gzip.compress(f'{{"you": "said {SECRET}"}}'.encode())
    told = {"content_type": "application/json", "set_cookie": f"a={SECRET}", "x_request_id": SECRET}
    url = server.say("/me", chunked(body[:9], body[9:], content_encoding="gzip", **told))
    live, replayed = twice(store, server, lambda: requests.get(url, headers=headers).text)
    assert SECRET in live
    assert replayed == '{"you": "said [secret:1]"}'
    assert SECRET not in "".join(path.read_text() for path in store.glob("*.json"))


def test_an_answer_that_is_not_what_its_header_tells_is_refused_again(server: Server, store: Path) -> None:
    url = server.say("/lie", sized(b"this is not compressed", content_encoding="gzip"))
    live, replayed = twice(store, server, lambda: described(lambda: requests.get(url).content))
    assert "failed to decode" in str(live)
    assert replayed == live


def test_headers_of_a_file_cannot_become_others(server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"the body", x_request_id="req_1"))
    with nr.session(store, mode="record"):
        requests.get(url)
    (path,) = store.glob("*.json")
    told = '"x-request-id": "req_1\\nset-cookie: a=b", "Content-Length": "3", "Transfer-Encoding": "chunked"'
    path.write_text(path.read_text().replace('"x-request-id": "req_1"', told))
    with nr.session(store, mode="replay"):
        answer = requests.get(url)
    assert answer.text == "the body"
    assert answer.headers["content-length"] == "8"
    assert not answer.cookies
    assert set(answer.headers) == {"content-length", "content-type", "x-request-id"}
    assert answer.headers["x-request-id"] == "req_1, set-cookie: a=b"


# Many at once


def test_threads_keep_apart_in_any_order(server: Server, store: Path) -> None:
    for number in range(32):
        pieces = [b"data: %d.%d\n\n" % (number, piece) for piece in range(50)]
        server.say(f"/{number}", chunked(*pieces, **SSE))

    def ask(pool: Any, number: int, into: dict[int, Any]) -> None:
        answer = asked(pool, f"{server.url}/{number}")
        into[number] = list(answer.stream(None))
        answer.release_conn()

    def all_of_them(numbers: Any) -> Any:
        found: dict[int, Any] = {}
        with manager(maxsize=8, block=True) as pool:
            in_threads(lambda number: ask(pool, number, found), numbers)
        return found

    with nr.session(store, mode="record"):
        live = all_of_them(range(32))
    server.stop()
    assert [len(pieces) for pieces in live.values()] == [50] * 32
    with nr.session(store, mode="replay"), counted() as opened:
        assert all_of_them(reversed(range(32))) == live
    assert not opened
    assert all(live[number][3] == b"data: %d.3\n\n" % number for number in range(32))


# Modes, and the hook itself


def test_modes(server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"here"))

    def way() -> str:
        return requests.get(url).text

    with nr.session(store, mode="off") as off:
        way()
    with nr.session(store, mode="replay") as missing, pytest.raises(nr.RecordingMissing):
        way()
    with nr.session(store, mode="auto") as auto:
        way()
        way()
    with nr.session(store, mode="replay", allow=[server.host]) as allowed:
        way()
    found = [*map(outcomes, (off, missing, auto, allowed))]
    assert found == [["live"], ["missing"], ["recorded", "recorded"], ["live"]]
    assert len(server.requests) == 4
    with nr.session(store, mode="auto") as auto:
        assert [way(), way()] == ["here", "here"]
    assert outcomes(auto) == ["replayed", "replayed"]
    way()
    assert len(server.requests) == 5


def test_what_another_library_has_decided_is_not_asked_again(server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"here"))
    with nr.session(store, mode="record") as session, guard.permit(server.host):
        assert requests.get(url).text == "here"
    assert outcomes(session) == []


def test_a_placeholder_is_never_sent(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.say("/a", sized(b"here"))
    with nr.session(store, mode="auto"):
        key = os.environ["OPENAI_API_KEY"]
    headers = {"Authorization": f"Bearer {key}"}
    with pytest.raises(nr.RecordingMissing, match="placeholder"):
        requests.get(url, headers=headers)
    for mode in ("off", "record", "auto"):
        with nr.session(store, mode=mode), pytest.raises(nr.RecordingMissing, match="placeholder"):
            requests.get(url, headers=headers)
    assert not server.requests


OWNERS = (urllib3.connectionpool.HTTPConnectionPool, urllib3.connectionpool.HTTPSConnectionPool, urllib3.Retry)


def test_undoing_leaves_the_library_as_it_was() -> None:
    before = [dict(vars(owner)) for owner in OWNERS]
    undo = hook.install(urllib3)
    assert [dict(vars(owner)) for owner in OWNERS] != before
    undo()
    assert [dict(vars(owner)) for owner in OWNERS] == before


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (urllib3.connectionpool.HTTPConnectionPool, "_make_request"),
        (urllib3.connectionpool.HTTPSConnectionPool, "_prepare_proxy"),
        (urllib3.Retry, "sleep"),
        (urllib3.Retry, "sleep_for_retry"),
        (urllib3.HTTPResponse, "_decode"),
        (urllib3.HTTPResponse, "_init_decoder"),
    ],
)
def test_a_library_without_the_hook_is_told_of(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for base in owner.__mro__:
        if name in vars(base):
            monkeypatch.delattr(base, name)
    with pytest.raises(AttributeError, match=name):
        hook.install(urllib3)
