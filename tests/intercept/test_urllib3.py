"""urllib3, and requests and botocore over it: what is recorded of them, live, and what they are given in a replay."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

import nbreplay as nr
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from nbreplay.intercept import registry
from nbreplay.intercept.network import guard
from tests.clients import outcomes, recordings, takes
from tests.intercept.raw import (
    ANSWERS,
    BINARY,
    EVENTS,
    JSON,
    SECRET,
    SSE,
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


@pytest.mark.full(quick=4)
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


@pytest.mark.full(quick=2)
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


# Failures


def cannot(error: Exception) -> Callable[..., Any]:
    def connect(*_: Any, **__: Any) -> Any:
        raise error

    return connect


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


def test_a_sleep_that_a_test_patches_is_put_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    with nr.session(store, mode="replay"):
        with monkeypatch.context() as patch:
            patch.setattr("urllib3.util.retry.time.sleep", slept.append)
            retrying().increment(error=OSError()).increment(error=OSError()).sleep()
        time.sleep(0)
    time.sleep(0)
    assert slept


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
    boto3, endpoint = (
        pytest.importorskip(name, reason="pip install -e '.[test-full]'") for name in ("boto3", "botocore.endpoint")
    )
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
        config = boto3.session.Config(retries={"mode": retries, "total_max_attempts": 4})
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
    assert endpoint.time is time


# Callers that stop


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


# Many at once


# Modes, and the hook itself


def test_what_another_library_has_decided_is_not_asked_again(server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"here"))
    with nr.session(store, mode="record") as session, guard.permit(server.host):
        assert requests.get(url).text == "here"
    assert outcomes(session) == []
