"""What every HTTP interceptor does, run with each library: live untouched, recorded as it came, replayed as it was."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from nbreplay.intercept import patching
from tests.clients import ctrl_c, outcomes, recordings, takes
from tests.intercept.contract import CLIENTS, Answer, Client
from tests.intercept.raw import (
    ANSWERS,
    BINARY,
    CREDENTIALS,
    EVENTS,
    FAILURES,
    HOLD,
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

SYNC = [name for name, kind in CLIENTS.items() if not kind.asynchronous]
READABLE = ("/sized", "/chunked", "/gzip", "/gzip-chunked", "/zlib", "/deflate", "/br", "/zstd")


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client that is there before any session."""
    with closing(CLIENTS[request.param]()) as opened:
        yield opened


def urls_of(client: Client, server: Server) -> dict[str, str]:
    """Have every answer given that a client can be recorded with: what nothing can unpack may hide a secret."""
    return {name: server.say(name, *parts) for name, parts in ANSWERS.items() if client.decodes or name != "/zstd"}


def without_coding(answer: Answer) -> Answer:
    """An answer but for what changes in its headers where it is stored unpacked."""
    headers = {
        name: value for name, value in answer.headers.items() if name not in ("content-encoding", "content-length")
    }
    return answer._replace(headers=headers)


# Answers


def test_a_whole_answer_is_replayed_as_it_was_live(client: Client, server: Server, store: Path) -> None:
    urls = urls_of(client, server)
    before = {name: client.get(url) for name, url in urls.items()}
    live, replayed = twice(store, server, lambda: {name: client.get(url) for name, url in urls.items()})
    for name in urls:
        assert live[name] == before[name], f"{name}: recording changes nothing"
        # An SDK is not to wait before it tries again.
        hint = replayed[name].headers.pop("retry-after-ms", None)
        assert hint == ("1" if live[name].status == 500 else None), name
        if client.decodes and "content-encoding" in live[name].headers:
            assert without_coding(replayed[name]) == without_coding(live[name]), name
        else:
            assert replayed[name] == live[name], name
    found = {take.url: take for recording in recordings(store) for take in recording.takes}
    assert sorted(found) == sorted(urls)
    assert [url for url, take in found.items() if not take.complete] == []
    assert isinstance(found["/binary"].body, Blob)
    assert found["/looks-over"].body.data() == b"one\r\n0\r\n\r\n0\r\n\r\ntwo 0\r\n\r\n"
    for name in READABLE if client.decodes else READABLE[:2]:
        assert isinstance(found[name].body, Json), name
        assert found[name].body.data() == JSON, name
    for name in ("/events", "/events-sized", *(("/events-gzip", "/events-br", "/events-zstd") * client.decodes)):
        body = found[name].body
        assert isinstance(body, Events), name
        assert [chunk.data for chunk in body.chunks] == [*({"n": n} for n in range(5)), "[DONE]"]


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("size", [None, 7])
def test_pieces_of_an_answer_are_its_bytes(size: int | None, client: Client, server: Server, store: Path) -> None:
    urls = urls_of(client, server)
    if size:
        urls = {name: url for name, url in urls.items() if "binary" not in name}
    live, replayed = twice(
        store, server, lambda: {name: b"".join(client.pieces(url, size)) for name, url in urls.items()}
    )
    assert replayed == live
    assert live["/sized"] == JSON


def test_each_event_of_a_stream_comes_apart(client: Client, server: Server, store: Path) -> None:
    url = server.say("/events", chunked(*EVENTS, **SSE))
    live, replayed = twice(store, server, lambda: list(client.pieces(url)))
    assert b"".join(live) == b"".join(EVENTS)
    assert replayed == EVENTS if client.apart else b"".join(replayed) == b"".join(EVENTS)


def test_the_first_piece_is_there_before_the_rest_is_sent(client: Client, server: Server, store: Path) -> None:
    whole = chunked(*EVENTS, **SSE)
    cut = whole.index(EVENTS[1]) - 7
    url = server.say("/events", whole[:cut], HOLD, whole[cut:])
    with nr.session(store, mode="record"):
        pieces = client.pieces(url)
        found = next(pieces)
        assert not server.go.is_set()
        server.go.set()
        found += b"".join(pieces)
    assert found == b"".join(EVENTS)
    assert takes(store)[0].complete


def test_a_pace_is_kept_and_without_one_nobody_sleeps(
    client: Client, server: Server, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = chunked(*EVENTS, **SSE)
    cut = whole.index(EVENTS[3]) - 7
    url = server.say("/events", whole[:cut], HOLD, whole[cut:])
    with nr.session(store, mode="record"):
        received = []
        for piece in client.pieces(url):
            received.append(piece)
            if not server.go.is_set():
                time.sleep(0.05)  # so that the rest comes at least so much later
                server.go.set()
        assert b"".join(received) == b"".join(EVENTS)
    slept: list[float] = []
    sleep = asyncio.sleep

    async def counting(delay: float, result: Any = None) -> Any:
        slept.append(delay)
        return await sleep(0, result)

    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(asyncio, "sleep", counting)
    with nr.session(store, mode="replay"):
        assert b"".join(client.pieces(url)) == b"".join(EVENTS)
    assert not [delay for delay in slept if delay]
    with nr.session(store, mode="replay", speed=0.1):
        assert list(client.pieces(url)) == EVENTS
    assert max(slept) > 0.1


def test_a_head_has_no_body_but_its_length(client: Client, server: Server, store: Path) -> None:
    url = server.say("/file", head(content_length="12345"))
    live, replayed = twice(store, server, lambda: client.request("HEAD", url))
    assert (live.status, live.headers["content-length"], live.body) == (200, "12345", b"")
    assert replayed == live


def test_a_redirection_is_two_calls(client: Client, server: Server, store: Path) -> None:
    server.say("/moved", sized(b"over there", "302 Found", location="/there?a=b"))
    server.say("/there?a=b", sized(b"here"))

    def way() -> Any:
        return client.get(f"{server.url}/moved"), client.get(f"{server.url}/moved", follow=client.follows)

    live, replayed = twice(store, server, way)
    assert (live[0].status, live[0].headers["location"]) == (302, "/there?a=b")
    assert live[1].body == (b"here" if client.follows else b"over there")
    assert replayed == live
    assert len(recordings(store)) == 1 + client.follows


def test_a_redirection_that_keeps_the_body(client: Client, server: Server, store: Path) -> None:
    server.say("/moved", sized(b"over there", "307 Temporary Redirect", location="/there"))
    server.say("/there", sized(b"here"))

    def way() -> Answer:
        return client.request("POST", f"{server.url}/moved", body=b"a body", follow=client.follows)

    live, replayed = twice(store, server, way)
    assert replayed == live
    assert {body for _, body in server.requests} == {b"a body"}


def test_what_one_library_recorded_every_other_reads_as_it_would_live(
    client: Client, server: Server, store: Path
) -> None:
    url = server.say("/file", sized(b"text", content_disposition='attachment; filename="漢字.txt"', x_request_id="1"))
    live = client.get(url)
    with nr.session(store, mode="record"), closing(next(iter(CLIENTS.values()))()) as other:
        other.get(url)
    server.stop()
    with nr.session(store, mode="replay") as session:
        assert client.get(url) == live
    assert outcomes(session) == ["replayed"]


def test_a_path_that_holds_a_url_is_a_path(client: Client, server: Server, store: Path) -> None:
    url = server.say("/https://example.com/page?to=http://example.org/", sized(b"read"))
    live, replayed = twice(store, server, lambda: client.get(url).body)
    assert live == replayed == b"read"
    (recording,) = recordings(store)
    assert (recording.request["host"], recording.request["path"]) == (server.host, "/https://example.com/page")


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("name", ["plain", "Überblick", "漢字", "🙂"])
def test_a_header_that_is_not_ascii_comes_back(name: str, client: Client, server: Server, store: Path) -> None:
    told = f'attachment; filename="{name}.txt"'
    url = server.say("/file", sized(b"text", content_disposition=told))
    live, replayed = twice(store, server, lambda: client.get(url).headers["content-disposition"])
    assert name.encode() in live.encode("utf-8" if name in live else "latin-1", "surrogateescape")
    assert replayed == live


def test_headers_of_a_file_cannot_become_others(client: Client, server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"the body", x_request_id="req_1"))
    with nr.session(store, mode="record"):
        client.get(url)
    (path,) = store.glob("*.json")
    told = '"x-request-id": "req_1\\nset-cookie: a=b", "Content-Length": "3", "Transfer-Encoding": "chunked"'
    path.write_text(path.read_text().replace('"x-request-id": "req_1"', told))
    with nr.session(store, mode="replay"):
        answer = client.get(url)
    assert answer.body == b"the body"
    assert set(answer.headers) == {"content-length", "content-type", "x-request-id"}
    assert answer.headers["content-length"] == "8"


# Failures


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("name", FAILURES)
def test_what_breaks_breaks_again(name: str, client: Client, server: Server, store: Path) -> None:
    """By the same error and after the same bytes, read at once or in pieces."""
    urls = [server.say(f"{name}?{by}", *FAILURES[name]) for by in ("whole", "pieces")]
    wait = 0.1 if "slow" in name else 20

    def in_pieces() -> Any:
        found: list[bytes] = []

        def read() -> None:
            for piece in client.pieces(urls[1], 4, timeout=wait):
                found.append(piece)
                server.go.set()

        return described(read), b"".join(found)

    def way() -> Any:
        server.go.set()
        whole = described(lambda: client.get(urls[0], timeout=wait))
        server.go.clear()
        return whole, in_pieces()

    live, replayed = twice(store, server, way)
    assert isinstance(live[0], tuple), "it fails"
    (whole, (error, data)), (whole_again, (error_again, data_again)) = live, replayed
    if name == "/no-chunk":  # some libraries say what the broken size was
        assert (whole_again[0], error_again[0]) == (whole[0], error[0])
    else:
        assert (whole_again, error_again) == (whole, error)
    # aiohttp gives away what it has not been asked for yet as soon as it sees the end.
    assert data_again.startswith(data) if client.asynchronous else data_again == data
    found = [take for recording in recordings(store) for take in recording.takes]
    assert {(take.complete, take.reason) for take in found} == {(False, "dropped")}


def test_a_body_that_is_not_what_its_header_tells_fails_again(client: Client, server: Server, store: Path) -> None:
    url = server.say("/lie", sized(b"this is not compressed", content_encoding="gzip"))
    live, replayed = twice(store, server, lambda: described(lambda: client.get(url).body))
    assert isinstance(live, tuple) == client.decodes
    assert replayed == live


def test_a_connection_that_is_refused_is_refused_again(client: Client, server: Server, store: Path) -> None:
    server.stop()
    live, replayed = twice(store, server, lambda: described(lambda: client.get(f"{server.url}/v1")))
    assert isinstance(live, tuple)
    assert replayed == live
    (take,) = takes(store)
    assert (take.complete, take.status) == (False, None)


def test_where_no_tls_is_spoken_none_is_spoken_again(client: Client, server: Server, store: Path) -> None:
    live, replayed = twice(store, server, lambda: described(lambda: client.get(f"https://{server.host}/")))
    assert isinstance(live, tuple)
    assert replayed == live


def test_a_caller_that_stops_gets_as_much_again_and_no_more(client: Client, server: Server, store: Path) -> None:
    whole = chunked(*EVENTS, **SSE)
    url = server.say("/events", whole[: whole.index(EVENTS[3]) - 7], WAIT)

    def some(number: int) -> bytes:
        with closing(client.pieces(url)) as pieces:
            found = b""
            while found.count(b"data") < number:
                found += next(pieces)
            return found

    live, replayed = twice(store, server, lambda: some(3))
    assert live == replayed == b"".join(EVENTS[:3])
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "closed")
    with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingIncomplete, match="closed it there"):
        some(4)
    assert outcomes(session) == ["missing"]


def test_a_caller_that_stops_after_the_last_event_has_it_all(client: Client, server: Server, store: Path) -> None:
    whole = chunked(*EVENTS, **SSE)
    url = server.say("/events", whole[:-5], WAIT)

    def way() -> bytes:
        with closing(client.pieces(url)) as pieces:
            found = b""
            while b"[DONE]" not in found:
                found += next(pieces)
            return found

    assert twice(store, server, way) == (b"".join(EVENTS),) * 2
    assert takes(store)[0].complete


@pytest.mark.parametrize("client", SYNC, indirect=True)
def test_an_interrupt_is_kept_as_one(client: Client, server: Server, store: Path) -> None:
    url = server.say("/events", chunked(*EVENTS, **SSE)[:-30], WAIT)
    with nr.session(store, mode="record"):
        pieces = client.pieces(url)
        assert next(pieces) == EVENTS[0]
        with pytest.raises(KeyboardInterrupt), ctrl_c():
            list(pieces)
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "interrupted")
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingIncomplete, match="interrupted"):
        client.get(url)


# Which answer


def test_repeats_are_answered_in_their_order_and_no_more_often(client: Client, server: Server, store: Path) -> None:
    server.say("/a", sized(b"one"))
    url = server.say("/a", sized(b"two"))
    live, replayed = twice(store, server, lambda: [client.get(url).body for _ in range(2)])
    assert live == replayed == [b"one", b"two"]
    with nr.session(store, mode="replay") as session:
        for _ in range(2):
            client.get(url)
        with pytest.raises(nr.RecordingMissing, match=r"recorded twice, asked a 3rd time"):
            client.get(url)
    assert outcomes(session) == ["replayed", "replayed", "missing"]


def test_what_is_missing_is_told_with_its_key_and_not_sent(client: Client, server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"here"))
    with nr.session(store, mode="replay") as session, counted() as opened:
        with pytest.raises(nr.RecordingMissing) as caught:
            client.get(url)
        with pytest.raises(nr.RecordingMissing):
            next(client.pieces(url))
    assert not opened
    assert session.interactions[0].key.startswith("k1:")
    assert session.interactions[0].key in str(caught.value)
    assert outcomes(session) == ["missing", "missing"]
    assert not server.requests


def test_modes(client: Client, server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"here"))

    def way() -> bytes:
        return client.get(url).body

    with nr.session(store, mode="off") as off:
        way()
    assert not store.exists()
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
        assert [way(), way()] == [b"here", b"here"]
    assert outcomes(auto) == ["replayed", "replayed"]
    assert way() == b"here"
    assert len(server.requests) == 5


def test_hosts_that_are_not_meant_pass_by_and_are_refused_in_a_replay(
    client: Client, server: Server, store: Path
) -> None:
    url = server.say("/a", sized(b"here"))
    with nr.session(store, mode="record", only=["api.example.com"]) as session:
        assert client.get(url).body == b"here"
    assert outcomes(session) == ["live"]
    assert not recordings(store)
    refused = pytest.raises(nr.RecordingMissing, match=f"{server.host} is not among the hosts")
    with nr.session(store, mode="replay", only=["api.example.com"]) as session, counted() as opened, refused:
        client.get(url)
    assert not opened
    assert outcomes(session) == ["blocked"]
    assert len(server.requests) == 1


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("speed", [None, 100])
def test_many_at_once_keep_apart(speed: float | None, client: Client, server: Server, store: Path) -> None:
    """Threads of sync clients, tasks of async ones; replayed in another order."""
    for number in range(24):
        pieces = [b"data: %d.%d\n\n" % (number, piece) for piece in range(20)]
        server.say(f"/{number}", chunked(*pieces, **SSE))
    urls = [f"{server.url}/{number}" for number in range(24)]
    with nr.session(store, mode="record"):
        live = client.together(urls)
    assert live[3] == b"".join([b"data: 3.%d\n\n" % piece for piece in range(20)])
    assert len(set(live)) == 24
    server.stop()
    with nr.session(store, mode="replay", speed=speed), counted() as opened:
        assert client.together(urls[::-1]) == live[::-1]
    assert not opened


# What is sent

BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "nothing": dict,
    "bytes": lambda: {"body": b"\xff\x00bytes"},
    "large": lambda: {"body": BINARY, "headers": {"content-type": "application/octet-stream"}},
    "file": lambda: {"body": io.BytesIO(b"a file " * 9999)},
    "generator": lambda: {"body": (piece for piece in (b"one ", b"two ", b"three"))},
    "form": lambda: {"file": ("a.bin", b"\x00 a small file", "application/x-tests")},
    "form with a large file": lambda: {"file": ("a.bin", BINARY, "application/octet-stream")},
}


@pytest.mark.full(quick="each")
@pytest.mark.parametrize(
    ("client", "kind"),
    [(name, kind) for name in CLIENTS for kind in BODIES if CLIENTS[name].forms or "form" not in kind],
    indirect=["client"],
)
def test_a_body_is_sent_as_ever_and_tells_requests_apart(
    kind: str, client: Client, server: Server, store: Path
) -> None:
    url = server.say("/echo", sized(b"got it"))
    client.request("POST", url, **BODIES[kind]())
    with nr.session(store, mode="record"):
        client.request("POST", url, **BODIES[kind]())
    if "form" not in kind:  # each has a boundary of its own
        plain, recorded = [(sorted(head.split(b"\r\n")), body) for head, body in server.requests]
        assert recorded == plain
    server.stop()
    with nr.session(store, mode="replay"):
        assert client.request("POST", url, **BODIES[kind]()).body == b"got it"
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingMissing):
        client.request("POST", url, body=b"something else")
    blobs = [path.read_bytes() for path in store.glob("blob-*.bin")]
    assert (BINARY in blobs) == ("large" in kind)


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("headers", CREDENTIALS)
def test_secrets_stay_out_of_the_store(headers: dict[str, str], client: Client, server: Server, store: Path) -> None:
    """Also where the answer says them, whatever chunks they are cut into."""
    body = f'{{"you": "said {SECRET}"}}'.encode()
    told = {"content_type": "application/json", "set_cookie": f"a={SECRET}", "x_request_id": SECRET}
    url = server.say(f"/me?api_key={SECRET}", chunked(body[:20], body[20:], **told))
    live, replayed = twice(store, server, lambda: client.get(url, headers=headers).body)
    assert live == body
    assert replayed == b'{"you": "said [secret:1]"}'
    assert SECRET not in "".join(path.read_text() for path in store.glob("*.json"))


def test_a_placeholder_is_never_sent(client: Client, server: Server, store: Path) -> None:
    url = server.say("/a", sized(b"here"))
    with nr.session(store, mode="auto"):
        headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    with pytest.raises(nr.RecordingMissing, match="placeholder"):
        client.get(url, headers=headers)
    for mode in ("off", "record", "auto"):
        with nr.session(store, mode=mode), pytest.raises(nr.RecordingMissing, match="placeholder"):
            client.get(url, headers=headers)
    assert not server.requests


# The hooks themselves

HOOKS = [
    pytest.param(owner, name, id=f"{library}: {name}")
    for library, kind in CLIENTS.items()
    for owner, name in kind.hooks
]


@pytest.mark.parametrize("mode", ["off", "record"])
def test_a_session_leaves_every_library_as_it_was(mode: str, store: Path) -> None:
    def state() -> dict[str, list[dict[str, Any]]]:
        owners = {name: sorted({owner for owner, _ in kind.hooks}, key=repr) for name, kind in CLIENTS.items()}
        return {name: [dict(vars(owner)) for owner in found] for name, found in owners.items() if found}

    before = state()
    with nr.session(store, mode=mode):
        hooked = state()
    assert [name for name in before if hooked[name] == before[name]] == []
    assert state() == before


@pytest.mark.parametrize(("owner", "name"), HOOKS)
def test_a_library_without_the_hook_is_told_of(
    owner: Any, name: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for base in getattr(owner, "__mro__", [owner]):
        if name in vars(base):
            monkeypatch.delattr(base, name)
    with nr.session(store, mode="record"):
        (problem,) = patching.problems()
    assert name in problem
    assert "neither recorded nor replayed" in problem
    assert patching.problems() == []
