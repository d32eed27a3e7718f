"""Websockets through the local server: recorded, replayed, missed, and the same as those of this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

import nbreplay as nr
from nbreplay.core.config import Options
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.formats.registry import export_store
from nbreplay.serve import local
from tests.clients import KEY
from tests.serve.test_server import wait_for

Start = Callable[..., local.Server]


def answer(connection: ServerConnection) -> None:
    connection.send("welcome")
    with contextlib.suppress(ConnectionClosed):
        for message in connection:
            connection.send(message[::-1])
            if message == "bye":
                connection.close(4001, "as you like")


def refuse(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(401, "who are you?") if "refuse" in request.path else None


class Upstream:
    """A server of websockets, which may stop; its host stays."""

    def __init__(self) -> None:
        self._server = serve(answer, "127.0.0.1", 0, process_request=refuse)
        self.host = f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def start(store: Path) -> Iterator[Start]:
    servers: list[local.Server] = []

    def start(mode: str) -> local.Server:
        servers.append(local.start(Session(Store(store), Options.of(mode=mode))))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def through(server: local.Server, upstream: Upstream, path: str = "/chat") -> str:
    return f"{server.address.replace('http', 'ws', 1)}/{upstream.host}{path}"


def talk(url: str, *messages: str | bytes) -> list[str | bytes]:
    """Return what a session gives, and how it is closed by the server, if it is."""
    with connect(url) as connection:
        heard: list[str | bytes] = [connection.recv(10)]
        try:
            for message in messages:
                connection.send(message)
                heard.append(connection.recv(10))
            if messages[-1] == "bye":
                connection.recv(10)
        except ConnectionClosed as error:
            heard.append(f"{error.rcvd.code} {error.rcvd.reason}" if error.rcvd else "broken")
    return heard


MESSAGES = ("hello", b"\x00\x01" * 40_000, "bye")


def test_a_session_is_recorded_and_replayed_with_the_upstream_gone(
    start: Start, upstream: Upstream, store: Path
) -> None:
    recording = start("record")
    live = talk(through(recording, upstream), *MESSAGES)
    assert live == ["welcome", "olleh", MESSAGES[1][::-1], "eyb", "4001 as you like"]
    assert [call.outcome for call in recording.session.interactions] == ["recorded"]
    upstream.stop()
    replaying = start("replay")
    assert talk(through(replaying, upstream), *MESSAGES) == live
    assert [call.outcome for call in replaying.session.interactions] == ["replayed"]
    # The large message lies in a file of its own, which goes along.
    export_store(Store(store), store.with_suffix(".zip"), "zip")
    with nr.session(store.with_suffix(".zip")) as packed:
        assert talk(f"ws://{upstream.host}/chat", *MESSAGES) == live
    assert [call.outcome for call in packed.interactions] == ["replayed"]


def test_a_message_may_be_as_large_as_its_host_allows(start: Start, upstream: Upstream) -> None:
    message = b"x" * (17 << 20)
    with connect(through(start("record"), upstream), max_size=None) as connection:
        connection.recv()
        connection.send(message)
        with pytest.raises(ConnectionClosed, match="limit of 1048576 bytes"):  # of the host
            connection.recv(30)


def test_another_message_is_a_miss_that_closes_the_session(start: Start, upstream: Upstream) -> None:
    talk(through(start("record"), upstream), *MESSAGES)
    server = start("replay")
    heard = talk(through(server, upstream), "hullo")
    assert heard[0] == "welcome"
    assert str(heard[1]).startswith("1008 ")
    assert len(str(heard[1]).encode()) <= 123 + len("1008 ")
    miss = server.session.last_miss
    assert miss is not None
    assert "hello" in miss.text
    assert "hullo" in miss.text
    assert miss.text.startswith(str(heard[1]).removeprefix("1008 "))
    assert [call.outcome for call in server.session.interactions] == ["missing"]


def test_a_session_that_is_not_recorded_is_an_error_of_http(start: Start, upstream: Upstream) -> None:
    server = start("replay")
    with pytest.raises(InvalidStatus) as caught:
        talk(through(server, upstream), "hello")
    response = caught.value.response
    assert response.status_code == 404
    assert response.headers["x-should-retry"] == "false"
    miss = server.session.last_miss
    assert miss is not None
    assert miss.text.splitlines()[0] in (response.body or b"").decode()


def test_a_refused_handshake_is_recorded_and_replayed(start: Start, upstream: Upstream) -> None:
    for mode in ("record", "replay"):
        with pytest.raises(InvalidStatus) as caught:
            talk(through(start(mode), upstream, "/refuse"), "hello")
        assert (caught.value.response.status_code, caught.value.response.body) == (401, b"who are you?")


def test_a_client_that_leaves_closes_the_session(start: Start, upstream: Upstream) -> None:
    recording = start("record")
    assert talk(through(recording, upstream), "hello") == ["welcome", "olleh"]
    wait_for(lambda: bool(recording.session.interactions))  # the client does not wait for that
    (take,) = [call.take for call in recording.session.interactions]
    assert take is not None
    assert take.complete
    assert talk(through(start("replay"), upstream), "hello") == ["welcome", "olleh"]


def test_sessions_at_once_may_open_in_another_order(start: Start, upstream: Upstream) -> None:
    def talk_at_once(url: str, *own: str) -> dict[str, str | bytes]:
        with connect(url) as one, connect(url) as other:
            connections = dict(zip(own, (one, other), strict=True))
            for connection in connections.values():
                assert connection.recv(10) == "welcome"
            for message, connection in reversed(connections.items()):
                connection.send(message)
            return {message: connection.recv(10) for message, connection in connections.items()}

    assert talk_at_once(through(start("record"), upstream), "abc", "xyz") == {"abc": "cba", "xyz": "zyx"}
    server = start("replay")
    assert talk_at_once(through(server, upstream), "xyz", "abc") == {"xyz": "zyx", "abc": "cba"}
    wait_for(lambda: len(server.session.interactions) == 2)
    assert [call.outcome for call in server.session.interactions] == ["replayed", "replayed"]


@pytest.mark.filterwarnings("ignore:connect\\(\\) must be used as a context manager")
def test_openai_realtime(start: Start, upstream: Upstream) -> None:
    def talk_realtime(server: local.Server) -> list[bytes]:
        base_url = f"{server.address}/{upstream.host}/v1"
        inner = openai.DefaultHttpxClient(verify=False)
        with (
            openai.OpenAI(base_url=base_url, api_key=KEY, http_client=inner) as client,
            client.realtime.connect(model="gpt-realtime") as connection,
        ):
            heard = [connection.recv_bytes()]
            connection.send({"type": "response.create"})
            return [*heard, connection.recv_bytes()]

    recording = start("record")
    live = talk_realtime(recording)
    wait_for(lambda: bool(recording.session.interactions))
    (call,) = recording.session.interactions
    assert call.request is not None
    assert (call.request.model, call.outcome) == ("gpt-realtime", "recorded")
    upstream.stop()
    assert talk_realtime(start("replay")) == live


def test_a_token_is_needed(start: Start, upstream: Upstream) -> None:
    server = start("record")
    with pytest.raises(InvalidStatus) as caught:
        talk(through(server, upstream).replace(server.token, "0" * len(server.token)), "hello")
    assert caught.value.response.status_code == 403


def test_a_session_through_the_server_replays_in_this_process(start: Start, upstream: Upstream, store: Path) -> None:
    live = talk(through(start("record"), upstream), *MESSAGES)
    upstream.stop()
    with nr.session(store, mode="replay") as session:
        assert talk(f"ws://{upstream.host}/chat", *MESSAGES) == live
    assert [call.outcome for call in session.interactions] == ["replayed"]


def test_a_session_of_this_process_replays_through_the_server(start: Start, upstream: Upstream, store: Path) -> None:
    with nr.session(store, mode="record"):
        live = talk(f"ws://{upstream.host}/chat", *MESSAGES)
    upstream.stop()
    server = start("replay")
    assert talk(through(server, upstream), *MESSAGES) == live
    assert [call.outcome for call in server.session.interactions] == ["replayed"]
