"""http.client, and urllib, xmlrpc and pandas over it: what is recorded of them, and what they are given in a replay."""

from __future__ import annotations

import array
import gzip
import http.client
import io
import socket
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import urllib3

import nbreplay as nr
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from tests.clients import outcomes, recordings, takes
from tests.intercept.raw import (
    ANSWERS,
    EVENTS,
    FAILURES,
    HOLD,
    JSON,
    RESET,
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


@contextmanager
def connected(server: Server, **options: Any) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(server.host, **options)) as connection:
        yield connection


def until_empty(read: Callable[[], bytes]) -> list[bytes]:
    return list(iter(read, b""))


def whole(answer: Any) -> Any:
    kept = answer.getheader("content-type"), answer.getheader("content-encoding"), answer.version
    return answer.status, answer.reason, kept, answer.read(), answer.read(), answer.isclosed()


def by_some(answer: Any) -> Any:
    return until_empty(lambda: answer.read(1000)), answer.isclosed()


def by_read1(answer: Any) -> Any:
    return b"".join(until_empty(lambda: answer.read1(1000)))


def by_read1_unbounded(answer: Any) -> Any:
    return b"".join(until_empty(answer.read1))


def into(answer: Any) -> Any:
    buffer, found = bytearray(999), []
    while size := answer.readinto(buffer):
        found.append(bytes(buffer[:size]))
    return found


def by_line(answer: Any) -> Any:
    return list(answer)


def by_short_line(answer: Any) -> Any:
    return b"".join(until_empty(lambda: answer.readline(80)))


def peeking(answer: Any) -> Any:
    found = b""
    while ahead := answer.peek():
        piece = answer.read1(len(ahead))
        assert ahead.startswith(piece)
        found += piece
    return found


def buffered(answer: Any) -> Any:
    return list(io.TextIOWrapper(answer, "latin-1", newline="\n"))


READERS = [whole, by_some, by_read1, by_read1_unbounded, into, by_line, by_short_line, peeking, buffered]


@pytest.mark.full(quick=4)
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_replay_is_what_was_live(read: Callable[..., Any], server: Server, store: Path) -> None:
    """All over one connection."""
    # Of an answer that tells its length `http.client` would peek behind its end, and wait for what is not to come.
    names = [name for name, said in ANSWERS.items() if read is not peeking or b"transfer-encoding" in said[0]]
    names = [name for name in names if name != "/zstd"]  # which nothing here can unpack, so that it is not kept
    for name in names:
        server.say(name, *ANSWERS[name])

    def way() -> Any:
        found = {}
        with connected(server) as connection:
            for name in names:
                connection.request("GET", name)
                with connection.getresponse() as answer:
                    found[name] = read(answer)
        return found

    live, replayed = twice(store, server, way)
    assert server.connections == 1
    for name in names:
        assert replayed[name] == live[name], name
    found = {take.url: take for recording in recordings(store) for take in recording.takes}
    assert [url for url, take in found.items() if not take.complete] == []
    assert isinstance(found["/chunked"].body, Json)
    assert found["/gzip-chunked"].body.data() == gzip.compress(JSON, mtime=0)
    assert found["/gzip-chunked"].headers["content-encoding"] == "gzip"
    body = found["/events"].body
    assert isinstance(body, Events)
    assert [chunk.data for chunk in body.chunks] == [*({"n": n} for n in range(5)), "[DONE]"]
    assert isinstance(found["/binary-chunked"].body, Blob)
    if read is not peeking:
        assert found["/until-close"].body.data() == b"first line\nsecond line\nthird"


@pytest.mark.parametrize(
    "make", [bytearray, lambda size: array.array("B", bytes(size)), lambda size: np.zeros(size, "u1")]
)
def test_an_answer_is_read_into_any_buffer(make: Callable[[int], Any], server: Server, store: Path) -> None:
    server.say("/", sized(b"0123456789"))

    def way() -> bytes:
        buffer = make(10)
        with connected(server) as connection:
            connection.request("GET", "/")
            size = connection.getresponse().readinto(buffer)
            return bytes(buffer)[:size]

    assert twice(store, server, way) == (b"0123456789", b"0123456789")


@pytest.mark.parametrize("by", ["line", "piece"])
def test_an_answer_without_a_length_is_over_when_it_is_closed(by: str, server: Server, store: Path) -> None:
    url = server.say("/until-close", head() + b"one\n", HOLD, b"two\n", b"")

    def way() -> Any:
        with urllib.request.urlopen(url) as answer:
            read = answer.readline if by == "line" else answer.read1
            first = read()
            server.go.set()
            return [first, *until_empty(read)]

    live, replayed = twice(store, server, way)
    assert live == [b"one\n", b"two\n"]
    assert b"".join(replayed) == b"".join(live)


# urllib and others over it


def test_urllib_follows_and_raises_as_it_did(server: Server, store: Path) -> None:
    server.say("/moved", sized(b"over there", "302 Found", location="/there?a=b"))
    server.say("/there?a=b", sized(b"here"))
    server.say("/busy", sized(b"wait", "429 Too Many Requests", retry_after="7"))
    server.say("/missing", *ANSWERS["/missing"])

    def get(path: str) -> Any:
        try:
            with urllib.request.urlopen(server.url + path) as answer:
                return answer.status, answer.url, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return str(error), error.code, error.headers["retry-after"], error.url, error.read()

    live, replayed = twice(store, server, lambda: [get(path) for path in ("/moved", "/busy", "/missing")])
    assert live[0] == (200, f"{server.url}/there?a=b", b"here")
    assert live[1][1:3] == (429, "7")
    assert replayed == live


def test_pandas_reads_a_url(server: Server, store: Path) -> None:
    url = server.say("/table.csv", sized(b"a,b\n1,x\n2,y\n", content_type="text/csv"))
    server.say("/table.csv.gz", sized(gzip.compress(b"a,b\n3,z\n"), content_type="application/gzip"))
    server.say("/encoded.csv", sized(gzip.compress(b"a,b\n4,w\n"), content_type="text/csv", content_encoding="gzip"))

    def way() -> Any:
        return [pd.read_csv(one).to_dict("list") for one in (url, f"{url}.gz", url.replace("table", "encoded"))]

    live, replayed = twice(store, server, way)
    assert live == [{"a": [1, 2], "b": ["x", "y"]}, {"a": [3], "b": ["z"]}, {"a": [4], "b": ["w"]}]
    assert replayed == live


def test_xmlrpc(server: Server, store: Path) -> None:
    """One call, and one whose connection was dropped at first, which it makes anew."""
    said = xmlrpc.client.dumps((42,), methodresponse=True).encode()
    packed = xmlrpc.client.gzip_encode(said)
    server.say("/RPC2", sized(said, content_type="text/xml"))
    server.say("/RPC2", RESET)
    server.say("/RPC2", b"")
    server.say("/RPC2", sized(packed, content_type="text/xml", content_encoding="gzip"))

    def way() -> Any:
        with xmlrpc.client.ServerProxy(server.url) as proxy:
            return [
                proxy.answer("one"),
                described(lambda: proxy.answer("two")),
                described(lambda: proxy.answer("three")),
            ]

    live, replayed = twice(store, server, way)
    assert live[0] == 42
    assert live[2] == 42
    assert replayed == live


# Failures

BREAKING: dict[str, list[Any]] = {
    "/other": [b"HTTP/9.9 200 OK\r\n\r\n", b""],
    "/short": FAILURES["/short"],
    "/short-chunk": FAILURES["/short-chunk"],
    "/reset-inside": FAILURES["/reset-inside"],
}


@pytest.mark.parametrize("name", BREAKING)
@pytest.mark.parametrize("size", [None, 4])
def test_what_breaks_breaks_again(name: str, size: int | None, server: Server, store: Path) -> None:
    """By the same error, in the same place: `urllib` wraps what goes wrong before the answer is awaited."""
    url = server.say(name, *BREAKING[name])
    if size is None:
        server.go.set()

    def way() -> Any:
        found: list[bytes] = []

        def pieces() -> None:
            with urllib.request.urlopen(url, timeout=20) as answer:
                while piece := answer.read(size):
                    found.append(piece)
                    server.go.set()

        try:
            pieces()
        except http.client.IncompleteRead as error:
            return type(error), error.partial, error.expected, str(error), found
        except Exception as other:
            caught = other
            return described(lambda: raised(caught)), found
        return found

    live, replayed = twice(store, server, way)
    assert replayed == live
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "dropped")


def raised(error: Exception) -> None:
    raise error


CONNECTING = {
    "refused": ConnectionRefusedError(111, "Connection refused"),
    "reset": ConnectionResetError(104, "Connection reset by peer"),
    "no name": socket.gaierror(-2, "Name or service not known"),
    "timeout": TimeoutError("timed out"),
    "unreachable": OSError(101, "Network is unreachable"),
}


@pytest.mark.parametrize("kind", CONNECTING)
def test_where_there_is_no_connection_there_is_none_again(
    kind: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any, **__: Any) -> Any:
        raise CONNECTING[kind]

    def way() -> Any:
        def plain() -> None:
            with closing(http.client.HTTPConnection("api.example.com")) as connection:
                connection.request("GET", "/plain")

        return described(plain), described(lambda: urllib.request.urlopen("http://api.example.com/v1"))

    with monkeypatch.context() as patch:
        patch.setattr(socket, "create_connection", connect)
        with nr.session(store, mode="record") as session:
            live = way()
    assert live[1][0] == "URLError"
    with nr.session(store, mode="replay") as again, counted() as opened:
        assert way() == live
    assert not opened
    assert outcomes(session) == ["recorded"] * 2
    assert outcomes(again) == ["replayed"] * 2


# Callers that stop


def test_who_reads_some_of_a_body_gets_no_more_of_it(server: Server, store: Path) -> None:
    url = server.say("/long", sized(b"0123456789" * 10))

    def some(wanted: int) -> bytes:
        with urllib.request.urlopen(url) as answer:
            return bytes(answer.read(wanted))

    assert twice(store, server, lambda: some(10)) == (b"0123456789",) * 2
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingIncomplete):
        some(11)


def test_an_answer_that_is_let_go_of_is_closed(server: Server, store: Path) -> None:
    """Nothing of ours keeps it, and its connection, until the collector comes."""
    server.say("/events", chunked(*EVENTS, **SSE)[:-30], WAIT)
    with nr.session(store, mode="record") as session:
        connection = http.client.HTTPConnection(server.host)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        answer.read1()
        connection.sock.close()
        del connection, answer
        assert outcomes(session) == ["recorded"]
    assert takes(store)[0].reason == "closed"


# Connections


def test_replayed_and_live_calls_share_a_connection(server: Server, store: Path) -> None:
    for number in range(6):
        server.say(f"/{number}", sized(b"number %d" % number))

    def get(connection: http.client.HTTPConnection, number: int) -> bytes:
        connection.request("GET", f"/{number}")
        return connection.getresponse().read()

    with connected(server) as connection:
        with nr.session(store, mode="record"):
            live = [get(connection, number) for number in (0, 2, 4)]
        with nr.session(store, mode="auto") as session:
            assert [get(connection, number) for number in range(6)][::2] == live
        with nr.session(store, mode="replay"):
            assert get(connection, 2) == live[1]
        assert get(connection, 0) == live[0]
    assert outcomes(session) == ["replayed", "recorded"] * 3
    assert len(server.requests) == 7


def test_a_connection_keeps_its_manners_in_a_replay(server: Server, store: Path) -> None:
    """What a program must not do with it live, it must not do then, either."""
    server.say("/a", sized(b"unread"))

    def way() -> Any:
        with connected(server) as connection:
            found = [described(connection.getresponse)]
            connection.request("GET", "/a")
            connection.sock.settimeout(3)
            found.append(described(lambda: connection.request("GET", "/a")))
            answer = connection.getresponse()
            found.append(described(connection.getresponse))
            return [*found, answer.read()]

    live, replayed = twice(store, server, way)
    assert [one[0] for one in live[:3]] == ["ResponseNotReady", "CannotSendRequest", "ResponseNotReady"]
    assert replayed == live


@pytest.mark.parametrize("tunnel", [False, True])
def test_nothing_is_asked_of_a_proxy_in_a_replay(tunnel: bool, server: Server, store: Path) -> None:
    server.say("api.example.com:8000", head("200 Connection established"))
    server.say("/v1?a=b", sized(b"through the tunnel"))
    server.say("http://api.example.com:8000/v1?a=b", sized(b"through the proxy"))

    def way() -> Any:
        if not tunnel:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": server.url}))
            with opener.open("http://api.example.com:8000/v1?a=b") as answer:
                return answer.read()
        with connected(server) as connection:
            connection.set_tunnel("api.example.com", 8000, {"proxy-authorization": "Basic c2VjcmV0"})
            connection.request("GET", "/v1?a=b")
            return connection.getresponse().read()

    live, replayed = twice(store, server, way)
    assert live == (b"through the tunnel" if tunnel else b"through the proxy")
    assert replayed == live
    (recording,) = recordings(store)
    assert recording.request["host"] == "api.example.com:8000"
    assert recording.request["path"] == "/v1"


def test_what_is_printed_for_debugging_goes_on(server: Server, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.say("/a", sized(b"here"))

    def way() -> str:
        with connected(server) as connection:
            connection.set_debuglevel(1)
            connection.request("GET", "/a")
            connection.getresponse().read()
        return next(line for line in capsys.readouterr().out.split("\n") if line.startswith("reply"))

    live, replayed = twice(store, server, way)
    assert replayed == live


# What is sent

BODIES: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(b"an array"),
    "str": lambda: "t\u00e9xt",
    "text file": lambda: io.StringIO("a file of t\u00e9xt"),
    "generator with an empty piece": lambda: (piece for piece in (b"one ", b"two ", b"", b"three")),
}


@pytest.mark.parametrize("kind", BODIES)
def test_every_body_is_sent_as_ever_and_tells_requests_apart(kind: str, server: Server, store: Path) -> None:
    server.say("/echo", sized(b"got it"))

    def send(body: Any) -> Any:
        with connected(server) as connection:
            connection.request("POST", "/echo", body, {"content-type": "application/x-tests"})
            return connection.getresponse().read()

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


def lengthwise(connection: Any, pieces: list[bytes]) -> None:
    connection.putheader("content-length", str(sum(map(len, pieces))))
    connection.endheaders()
    for piece in pieces:
        connection.send(piece)


def in_chunks(connection: Any, pieces: list[bytes]) -> None:
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for piece in pieces:
        connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    connection.send(b"0\r\n\r\n")


def as_file(connection: Any, pieces: list[bytes]) -> None:
    connection.putheader("content-length", str(sum(map(len, pieces))))
    connection.endheaders()
    connection.send(io.BytesIO(b"".join(pieces)))


def at_once(connection: Any, pieces: list[bytes]) -> None:
    connection.putheader("content-length", str(sum(map(len, pieces))))
    connection.endheaders(b"".join(pieces))


@pytest.mark.parametrize("kind", [http.client.HTTPConnection, urllib3.connection.HTTPConnection])
@pytest.mark.parametrize("send", [lengthwise, in_chunks, as_file, at_once], ids=lambda send: send.__name__)
def test_a_request_put_together_by_hand(send: Any, kind: Any, server: Server, store: Path) -> None:
    """It is known what is asked when all of it is there; however the body was sent, it is the same request."""
    server.say("/echo", sized(b"got it"))

    def way(pieces: list[bytes]) -> Any:
        with closing(kind("127.0.0.1", server.port)) as connection:
            if kind is not http.client.HTTPConnection:
                # urllib3's own `request` is what prepares its `getresponse`.
                connection.request("POST", "/echo", iter(pieces), {"content-type": "application/x-tests"})
                return connection.getresponse().data
            connection.putrequest("POST", "/echo")
            connection.putheader("content-type", "application/x-tests")
            send(connection, pieces)
            return connection.getresponse().read()

    pieces = [b"one ", b"0\r\n\r\n", b"two"]
    live, replayed = twice(store, server, lambda: way(pieces))
    assert live == replayed == b"got it"
    (recording,) = recordings(store)
    assert recording.request["text"] == "one 0\r\n\r\ntwo"
    assert server.requests[0][1] == b"".join(pieces)
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing):
        way([b"other"])


def test_what_is_sent_after_a_request_without_a_body_goes_nowhere_in_a_replay(server: Server, store: Path) -> None:
    server.say("/a", sized(b"here"))

    def way(more: bytes) -> bytes:
        with connected(server) as connection:
            connection.request("GET", "/a")
            if more:
                connection.send(more)
            return connection.getresponse().read()

    with nr.session(store, mode="record"):
        way(b"")
    with nr.session(store, mode="replay"), counted() as opened:
        assert way(b"more") == b"here"
    assert not opened


def test_a_session_that_is_off_holds_nothing_back(server: Server, store: Path) -> None:
    server.say("/echo", sized(b"got it"))
    with nr.session(store, mode="off") as session, connected(server) as connection:
        connection.putrequest("POST", "/echo")
        connection.putheader("content-length", "4")
        connection.endheaders()
        assert server.connections or connection.sock.fileno() > 0
        connection.send(b"body")
        assert connection.getresponse().read() == b"got it"
    assert outcomes(session) == ["live"]


# Many at once


# Modes, and the hook itself
