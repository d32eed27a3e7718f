"""What is special to the library websockets: its other clients, its older versions, and the hook itself.

`test_websocket_contract` has what it has in common with other libraries.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets.asyncio.client
import websockets.sync.client

import nbreplay as nr
from nbreplay.core import websocket
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import patching
from nbreplay.intercept.http.websockets import install, install_sync
from nbreplay.intercept.processes.channel import FileClaims
from tests.clients import outcomes
from tests.websocket_server import WebSocketServer

# As a program has it that imported the function before anything was switched on.
EARLY = websockets.sync.client.connect

pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


@pytest.fixture
def server() -> Iterator[WebSocketServer]:
    server = WebSocketServer()
    yield server
    server.close()


def ask(url: str) -> Any:
    with EARLY(f"{url}/live?silent", proxy=None) as connection:
        connection.send("one")
        return connection.recv()


def test_a_function_that_was_imported_earlier_is_hooked(server: WebSocketServer, store: Path) -> None:
    with nr.session(store, mode="record"):
        assert ask(server.url) == "ONE"
    with nr.session(store, mode="replay"):
        assert ask(server.url) == "ONE"
    assert server.hits == 1


def test_a_secure_address_is_replayed_without_tls(server: WebSocketServer, store: Path) -> None:
    """With a context of the program's own, too."""
    with nr.session(store, mode="record"):
        ask(server.url)
    (file,) = store.glob("websocket-*.json")
    with nr.session(store, mode="replay") as session, pytest.raises(RecordingMissing):
        ask("wss://models.example")
    assert session.last_miss is not None
    assert session.last_miss.nearest == file.name


def legacy(url: str) -> Any:
    from websockets.legacy.client import connect

    async def receive() -> Any:
        async with connect(url) as connection:
            return await connection.recv()

    return asyncio.run(receive())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_legacy_client_is_refused_and_named(server: WebSocketServer, store: Path) -> None:
    url = f"{server.url}/live?key=secret"
    with nr.session(store, mode="replay") as refused, pytest.raises(RecordingMissing) as caught:
        legacy(url)
    assert f"websockets' legacy client ({server.host}/live) opens a websocket" in str(caught.value)
    assert outcomes(refused) == ["blocked"]
    with nr.session(store, mode="record") as session, pytest.warns(UserWarning, match="does not record"):
        assert "created" in legacy(url)
    assert outcomes(session) == ["live"]
    assert "secret" not in session.interactions[0].note
    with nr.session(store, mode="replay", allow=[server.host]):
        assert "created" in legacy(url)


async def test_waiting_for_the_end_without_receiving(
    server: WebSocketServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes, and the messages before it are there for whoever receives them later."""
    monkeypatch.setattr(websocket, "_PATIENCE", 0.05)

    async def way(command: str) -> Any:
        async with websockets.asyncio.client.connect(f"{server.url}/live?silent", proxy=None) as connection:
            await connection.send("many 3")
            await connection.send(command)
            await connection.wait_closed()
            received = [message async for message in connection]
        return received, connection.close_code, connection.close_reason

    with nr.session(store, mode="record"):
        live = await asyncio.wait_for(way("close 1000 so long"), 60)
    assert len(live[0]) == 3
    assert live[1:] == (1000, "so long")
    with nr.session(store, mode="replay"):
        assert await asyncio.wait_for(way("close 1000 so long"), 60) == live
    # One whose end is the client's: nobody closes it, neither live nor now, and that is said.
    other = f"{server.url}/other?silent"
    with nr.session(store, mode="record"):
        async with websockets.asyncio.client.connect(other, proxy=None) as connection:
            await connection.send("one")
            await connection.recv()
    with nr.session(store, mode="replay"):
        async with websockets.asyncio.client.connect(other, proxy=None) as connection:
            await connection.send("one")
            with pytest.raises(RecordingMissing, match="closes the session"):
                await asyncio.wait_for(connection.wait_closed(), 60)


def test_a_take_that_another_process_has_is_not_changed_over_to(
    server: WebSocketServer, store: Path, tmp_path: Path
) -> None:
    url = f"{server.url}/live?silent"

    def way(text: str) -> str | bytes:
        with EARLY(url, proxy=None) as connection:
            connection.send(text)
            return connection.recv()

    with nr.session(store, mode="record") as session:
        assert [way("one"), way("two")] == ["ONE", "TWO"]
    with nr.session(store, mode="replay") as session:
        assert way("two") == "TWO"
    (two,) = session.interactions
    assert two.request is not None
    assert two.take is not None
    with nr.session(store, mode="replay") as session:
        claims, of_another = FileClaims(str(tmp_path)), FileClaims(str(tmp_path))
        session.run.share(claims)
        assert of_another.claim((session.store.identity, two.request.key), two.take, 1, replaying=True)
        with pytest.raises(RecordingMissing, match="sent      two"):
            way("two")


def test_httpx_without_httpx_ws_is_refused_and_named(server: WebSocketServer, store: Path) -> None:
    """Nobody knows who reads from the connection that it gives."""
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    url = f"{server.url.replace('ws', 'http', 1)}/live?key=secret"

    def way() -> int:
        with httpx2.stream("GET", url, headers={**headers, "sec-websocket-key": "a2V5MTIzNDU2Nzg5MDEyMw=="}) as answer:
            return answer.status_code

    with nr.session(store, mode="replay") as refused, pytest.raises(RecordingMissing) as caught:
        way()
    assert f"httpx2 ({server.host}/live) opens a websocket" in str(caught.value)
    assert outcomes(refused) == ["blocked"]
    with nr.session(store, mode="record") as session, pytest.warns(UserWarning, match="does not record"):
        assert way() == 101
    assert outcomes(session) == ["live"]
    assert not list(store.glob("*.json"))


def test_a_protocol_without_one_of_the_clients_is_named(store: Path) -> None:
    """As that of trio's client, or of a program that brings its own sockets."""
    from websockets.client import ClientProtocol
    from websockets.uri import parse_uri

    def start() -> None:
        protocol = ClientProtocol(parse_uri("ws://models.example/live"))
        protocol.send_request(protocol.connect())

    with nr.session(store, mode="replay"), pytest.raises(RecordingMissing, match=r"models\.example/live"):
        start()
    with nr.session(store, mode="record"), pytest.warns(UserWarning, match=r"models\.example/live"):
        start()
    start()


def test_a_library_without_the_hook_is_reported(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(websockets.asyncio.client, "connect")
    with nr.session(store, mode="replay"):
        assert any("websockets.asyncio.client" in problem for problem in patching.problems())


def test_the_hooks_are_taken_back() -> None:
    clients = websockets.asyncio.client, websockets.sync.client
    is_new = hasattr(clients[1], "reconnect")  # since 17.1
    owners = clients[0].connect, clients[1].reconnect if is_new else clients[1].connect
    names = (
        "open_tcp_connection" if hasattr(owners[0], "open_tcp_connection") else "create_connection",  # before 17
        "open_connection" if is_new else "__code__",
    )
    before = [getattr(owner, name) for owner, name in zip(owners, names, strict=True)]
    undos = [hook(module) for hook, module in zip((install, install_sync), clients, strict=True)]
    assert all(getattr(o, n) is not b for o, n, b in zip(owners, names, before, strict=True))
    for undo in undos:
        undo()
    assert all(getattr(o, n) is b for o, n, b in zip(owners, names, before, strict=True))


def test_a_client_that_is_imported_later_is_hooked_too(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websockets.sync, "client", websockets.sync.client)  # an import sets it, too
    monkeypatch.delitem(sys.modules, "websockets.sync.client")
    with nr.session(store, mode="replay"):
        late = importlib.import_module("websockets.sync.client")
        with pytest.raises(RecordingMissing):
            late.connect("ws://models.example/v1")


def test_before_17_1_the_code_of_the_function_is_replaced(store: Path, server: WebSocketServer) -> None:
    """There it is a function that does all by itself, which other modules may have imported."""
    module: Any = types.ModuleType("client")
    vars(module).update({name: item for name, item in vars(websockets.sync.client).items() if name != "reconnect"})
    source = """
def connect(uri, *, additional_headers=None, sock=None, ssl=None, proxy_ssl=None, create_connection=None):
    address = parse_uri(uri)
    sock = sock or socket.create_connection((address.host, address.port))
    connection = create_connection(sock, ClientProtocol(address))
    connection.handshake(additional_headers)
    return connection
"""
    exec(source, vars(module))
    connect = module.connect
    code = connect.__code__

    def way() -> Any:
        with connect(f"{server.url}/live?silent", additional_headers={"X-Test": "1"}) as connection:
            connection.send("one")
            return connection.recv()

    with nr.session(store, mode="record") as session:
        undo = install_sync(module)
        assert way() == "ONE"
    with nr.session(store, mode="replay") as again:
        assert way() == "ONE"
        undo()
    assert outcomes(session) == ["recorded"]
    assert outcomes(again) == ["replayed"]
    assert server.hits == 1
    assert connect.__code__ is code
