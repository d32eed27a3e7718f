"""What every websocket client is to do while it is recorded and replayed, whichever library it is of.

The server is stopped before a replay, and no connection is opened in one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import nbreplay as nr
from nbreplay.core import websocket
from nbreplay.core.recording.take import Take
from nbreplay.core.recording.websocket import Close, frames_of
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingMissing
from tests.clients import outcomes
from tests.websocket_server import CLIENTS, Closed, Refused, Session, WebSocketServer

HTTPX = [CLIENTS[name] for name in CLIENTS if name.startswith("httpx")]
Way = Callable[[Session], Awaitable[Any]]

pytestmark = [
    pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager"),
    pytest.mark.full(quick=1),
]


@pytest.fixture
def server() -> Iterator[WebSocketServer]:
    server = WebSocketServer()
    yield server
    server.close()


@pytest.fixture(params=CLIENTS)
def opened(request: pytest.FixtureRequest) -> Any:
    """The function that opens a session of a client."""
    return CLIENTS[request.param]


@pytest.fixture
def no_connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is connected from now on."""
    found: list[Any] = []
    before = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> Any:
        found.append(address)
        return before(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return found


def take_of(store: Path) -> Take:
    ((_, recording),) = Store(store).recordings()
    (take,) = recording.takes
    return take


def frames(store: Path) -> list[Any]:
    take = take_of(store)
    return [frame for _, frame in frames_of(take.body)]  # type: ignore[arg-type]


async def use(opened: Any, url: str, way: Way, **options: Any) -> Any:
    async with opened(url, **options) as session:
        return await way(session)


async def both(opened: Any, server: WebSocketServer, store: Path, way: Way, path: str = "", **options: Any) -> Any:
    """Record a way, stop the server, and replay the way: it must be the same. Return what it was."""
    url = f"{server.url}/live{path}"
    with nr.session(store, mode="record") as session:
        live = await use(opened, url, way, **options)
    assert outcomes(session) == ["recorded"]
    server.close()
    with nr.session(store, mode="replay") as again:
        assert await use(opened, url, way, **options) == live
    assert outcomes(again) == ["replayed"]
    return live


@pytest.mark.full(quick="each")
async def test_messages_of_every_kind(opened: Any, server: WebSocketServer, store: Path, no_connections: Any) -> None:
    """Text, binary, JSON, fragments, pings, headers, and the end."""

    async def way(session: Session) -> Any:
        received = [json.loads(await session.receive())["type"]]
        large = bytes(range(256)) * 500
        for content in ("héllo", b"\x00\x01\xff", large, '{"a": 1}', "", "fragments a b c", "ping"):
            await session.send(content)
            received.append(await session.receive())
        await session.send("close 4001 so long")
        return received, await session.receive_all(), session.headers, session.subprotocol

    received, end, headers, subprotocol = await both(opened, server, store, way, protocols=["two"])
    assert received[1:3] == ["HÉLLO", b"\xff\x01\x00"]
    assert received[-2:] == ["abc", "pong"]
    assert end == [(4001, "so long")]
    assert subprotocol == "two"
    assert headers == {"x-request-id": "req_1", "sec-websocket-protocol": "two"}
    assert no_connections == [(server.host.split(":")[0], int(server.host.split(":")[1]))]


@pytest.mark.full
async def test_a_thousand_messages(opened: Any, server: WebSocketServer, store: Path) -> None:
    async def way(session: Session) -> Any:
        await session.send("many 1000")
        await session.send("close 1000")
        return (await session.receive_all())[1:]

    assert len(await both(opened, server, store, way)) == 1001


async def test_a_client_that_closes(opened: Any, server: WebSocketServer, store: Path) -> None:
    async def way(session: Session) -> Any:
        await session.send("one")
        received = [await session.receive() for _ in range(1)]
        await session.close(4321, "enough")
        return received

    await both(opened, server, store, way, "?silent")
    closes = [Close("client", 4321, "enough"), Close("server", 4321, "enough")]
    ends = [closes, closes[:1]] if opened in HTTPX else [closes]  # httpx-ws does not wait for the answer
    assert frames(store)[2:] in ends
    assert take_of(store).complete


async def test_a_connection_that_breaks(opened: Any, server: WebSocketServer, store: Path) -> None:
    async def way(session: Session) -> Any:
        await session.send("drop")
        return await session.receive_all()

    ((code, _),) = await both(opened, server, store, way, "?silent")
    assert code in (1000, 1006)  # aiohttp says 1000
    assert (take_of(store).complete, take_of(store).reason) == (False, "dropped")


@pytest.mark.parametrize("status", [401, 404])
async def test_a_refused_handshake(opened: Any, server: WebSocketServer, store: Path, status: int) -> None:
    async def way(url: str) -> Any:
        try:
            async with opened(url):
                raise AssertionError
        except Refused as refusal:
            return refusal.args

    url = f"{server.url}/refuse/{status}"
    with nr.session(store, mode="record"):
        live = await way(url)
    assert live == (status, b"not you")
    server.close()
    with nr.session(store, mode="replay") as session:
        assert await way(url) == live
    assert outcomes(session) == ["replayed"]
    assert take_of(store).status == status


async def test_a_server_that_is_not_there(opened: Any, server: WebSocketServer, store: Path) -> None:
    server.close()
    errors = []
    for mode in ("record", "replay"):
        with nr.session(store, mode=mode) as session, pytest.raises(OSError, match="onnect") as caught:  # type: ignore[arg-type]
            await use(opened, server.url, lambda _: asyncio.sleep(0))
        errors.append((type(caught.value), str(caught.value)))
        assert outcomes(session) == [f"{mode}ed"]
    assert errors[0] == errors[1]


@pytest.mark.full(quick="each")
async def test_another_message_is_a_miss(opened: Any, server: WebSocketServer, store: Path) -> None:
    def way_of(text: str) -> Way:
        async def way(session: Session) -> Any:
            await session.send(text)
            return await session.receive()

        return way

    url = f"{server.url}/live?silent"
    with nr.session(store, mode="record"):
        assert await use(opened, url, way_of("one")) == "ONE"
    for mode in ("replay", "auto"):
        with nr.session(store, mode=mode) as session, pytest.raises(RecordingMissing) as caught:  # type: ignore[arg-type]
            await use(opened, url, way_of("two"))
        assert "recorded  one" in str(caught.value)
        assert "sent      two" in str(caught.value)
        assert outcomes(session) == ["missing"]
    assert server.hits == 1


async def test_a_message_is_missing_also_where_nobody_sees_the_task(
    opened: Any, server: WebSocketServer, store: Path
) -> None:
    async def way(session: Session, text: str) -> Any:
        async def send() -> None:
            await session.send(text)

        task = asyncio.create_task(send())
        await asyncio.sleep(0)
        try:
            return await session.receive()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    url = f"{server.url}/live?silent"
    with nr.session(store, mode="record"):
        await use(opened, url, lambda session: way(session, "one"))
    with nr.session(store, mode="replay") as session, pytest.raises(RecordingMissing):
        await use(opened, url, lambda session: way(session, "two"))
    assert outcomes(session) == ["missing"]


async def test_a_session_that_is_not_recorded_is_a_miss(
    opened: Any, server: WebSocketServer, store: Path, no_connections: Any
) -> None:
    with nr.session(store, mode="replay") as session, pytest.raises(RecordingMissing, match="websocket"):
        await use(opened, server.url, lambda _: asyncio.sleep(0))
    assert outcomes(session) == ["missing"]
    assert not no_connections


async def test_reading_past_a_recording_that_was_cut_short(
    opened: Any, server: WebSocketServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "_PATIENCE", 0.01)
    url = f"{server.url}/live"
    session = nr.session(store, mode="record")
    async with opened(url) as connection:
        pass
    with session:
        async with opened(url) as connection:
            await connection.receive()
            session.flush()
            assert take_of(store).reason == "open"
            text = (store / Store(store).names()[0]).read_text()
    assert take_of(store).complete, "what came later has been added"
    (store / Store(store).names()[0]).write_text(text)
    with nr.session(store, mode="replay") as again:
        async with opened(url) as connection:
            await connection.receive()
            with pytest.raises(RecordingMissing, match="the cell ended before the stream did"):
                await connection.receive()
    assert outcomes(again) == ["missing"]


@pytest.mark.full(quick=["websockets asyncio"])
async def test_a_client_that_is_cancelled(opened: Any, server: WebSocketServer, store: Path) -> None:
    """While it waits, it goes on waiting where it was, recorded and replayed."""
    if opened in (CLIENTS["websockets sync"], CLIENTS.get("httpx-ws sync")):
        pytest.skip("a thread cannot be cancelled")

    async def way(session: Session) -> Any:
        await session.send("quiet")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.receive(), 0.02)
        await session.send("one")
        return await session.receive()

    assert await both(opened, server, store, way, "?silent") == "ONE"


async def test_one_task_listens_while_another_sends(opened: Any, server: WebSocketServer, store: Path) -> None:
    """Sooner and later than it was recorded."""

    async def way(session: Session, delay: float) -> Any:
        async def send() -> None:
            for text in ("one", "two", "close 1000"):
                await asyncio.sleep(delay)
                await session.send(text)

        task = asyncio.create_task(send())
        await asyncio.sleep(0)
        if session.is_blocking:
            await task
        received = await session.receive_all()
        await task
        return received

    url = f"{server.url}/live?silent"
    with nr.session(store, mode="record"):
        live = await use(opened, url, lambda session: way(session, 0.01))
    assert live == ["ONE", "TWO", (1000, "")]
    server.close()
    for delay in (0, 0.03):
        with nr.session(store, mode="replay") as session:
            assert await use(opened, url, lambda each, delay=delay: way(each, delay)) == live
        assert outcomes(session) == ["replayed"]


async def test_the_recorded_pace_is_kept(
    opened: Any, server: WebSocketServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client waits for an answer as long as that took, here an hour, divided by the speed."""

    class Stop(BaseException):
        """What a client raises that would wait so many seconds."""

    async def way(session: Session) -> Any:
        await session.send("one")
        return await session.receive()

    url, before = f"{server.url}/live?silent", websocket.WebSocketReplay.poll
    with nr.session(store, mode="record"):
        await use(opened, url, way)
    (file,) = store.glob("*.json")
    file.write_text(re.sub(r'\[\d+, ?(\{"<text)', r"[3600000,\1", file.read_text()))

    def poll(self: websocket.WebSocketReplay) -> Any:
        if isinstance(step := before(self), float):
            raise Stop(round(step, -3))
        return step

    monkeypatch.setattr(websocket.WebSocketReplay, "poll", poll)
    with nr.session(store, mode="replay"):
        assert await use(opened, url, way) == "ONE"
    for speed, seconds in ((1.0, 4000), (4.0, 1000)):
        with nr.session(store, mode="replay", speed=speed), pytest.raises(Stop, match=str(seconds)):
            await use(opened, url, way)


async def test_two_sessions_at_once(opened: Any, server: WebSocketServer, store: Path) -> None:
    """Each gets its own answers, whichever opens first."""

    async def way(names: str) -> Any:
        url = f"{server.url}/live"
        async with opened(url) as one, opened(url) as two:
            sessions = dict(zip(names, (one, two), strict=True))
            for session in sessions.values():
                await session.receive()
            for name, session in sessions.items():
                await session.send(f"I am {name}")
            return {name: await session.receive() for name, session in sorted(sessions.items())}

    with nr.session(store, mode="record"):
        live = await way("ab")
    server.close()
    for names in ("ab", "ba"):
        with nr.session(store, mode="replay") as session:
            assert await way(names) == live
        assert outcomes(session) == ["replayed"] * 2


async def test_a_connection_that_outlives_its_session(opened: Any, server: WebSocketServer, store: Path) -> None:
    """It goes on as it began, also when the hooks are taken back."""

    async def way(mode: Any) -> Any:
        session = nr.session(store, mode=mode)
        session.start()
        async with opened(f"{server.url}/live?silent") as connection:
            await connection.send("one")
            received = [await connection.receive()]
            session.stop()
            await connection.send("two")
            received.append(await connection.receive())
        assert outcomes(session) == [f"{mode}ed"]
        return received

    assert await way("record") == ["ONE", "TWO"]
    assert take_of(store).complete
    server.close()
    assert await way("replay") == ["ONE", "TWO"]


async def test_secrets_stay_out(opened: Any, server: WebSocketServer, store: Path) -> None:
    token = "sk-proj-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7" * 2

    async def way(session: Session) -> Any:
        await session.send(json.dumps({"authorization": token}))
        await session.receive()

    url = f"{server.url}/live?silent&key={token}"
    headers = {"Authorization": f"Bearer {token}"}
    with nr.session(store, mode="record"):
        await use(opened, url, way, headers=headers)
    assert all(token not in path.read_text() for path in store.glob("*.json"))
    assert token in server.received[0], "it was sent"
    server.close()
    with nr.session(store, mode="replay") as session:
        await use(opened, f"{server.url}/live?silent&key=other-key-1234567890", way)
    assert outcomes(session) == ["replayed"]


async def test_off_and_allowed_hosts_are_live(opened: Any, server: WebSocketServer, store: Path) -> None:
    async def way(session: Session) -> Any:
        await session.send("one")
        return await session.receive()

    url = f"{server.url}/live?silent"
    assert await use(opened, url, way) == "ONE"
    with nr.session(store, mode="off"):
        assert await use(opened, url, way) == "ONE"
    with nr.session(store, mode="replay", allow=[server.host]) as session:
        assert await use(opened, url, way) == "ONE"
    assert outcomes(session) == ["live"]
    assert server.hits == 3


async def test_auto_records_and_then_replays(opened: Any, server: WebSocketServer, store: Path) -> None:
    async def way(session: Session) -> Any:
        await session.send("one")
        received = await session.receive()
        await session.send("close 1000 done")
        with pytest.raises(Closed):
            await session.receive()
        return received

    for outcome in ("recorded", "replayed"):
        with nr.session(store) as session:
            assert await use(opened, f"{server.url}/live?silent", way) == "ONE"
        assert outcomes(session) == [outcome]
    assert server.hits == 1


async def test_one_library_replays_what_another_recorded(opened: Any, server: WebSocketServer, store: Path) -> None:
    async def way(session: Session) -> Any:
        await session.send("one")
        await session.send(b"\x01\x02")
        received = [await session.receive(), await session.receive()]
        await session.send("close 1000 done")
        return [*received, *await session.receive_all()]

    url = f"{server.url}/live?silent"
    with nr.session(store, mode="record"):
        live = await use(opened, url, way)
    server.close()
    for client in CLIENTS.values():
        with nr.session(store, mode="replay"):
            assert await use(client, url, way) == live


async def test_a_placeholder_for_a_key_is_not_sent(
    opened: Any, server: WebSocketServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    import os

    with nr.session(store, mode="auto") as session:
        import openai  # noqa: F401

        headers = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
        with warnings.catch_warnings(), pytest.raises(RecordingMissing, match="placeholder"):
            await use(opened, server.url, lambda _: asyncio.sleep(0), headers=headers)
    assert outcomes(session) == ["missing"]
    assert server.hits == 0


async def test_pings_of_aiohttp_do_not_hold_up_messages(server: WebSocketServer, store: Path) -> None:
    """Those of a heartbeat, too. A pong takes the place of no message, and wakes who waits for one."""

    async def talk() -> list[Any]:
        async with aiohttp.ClientSession() as client:
            async with client.ws_connect(f"{server.url}/live?silent", heartbeat=0.02) as websocket:
                waiting = asyncio.create_task(websocket.receive())
                await asyncio.sleep(0.1)
                await websocket.send_str("one")
                received = [(await waiting).data]
                for text in ("two", "three"):
                    await websocket.ping()
                    await websocket.send_str(text)
                    received.append((await websocket.receive()).data)
            async with client.ws_connect(f"{server.url}/pongs?silent", autoping=False) as websocket:
                await websocket.ping(b"here")
                received.append((await websocket.receive()).data)
        return received

    with nr.session(store, mode="record"):
        live = await talk()
    assert live == ["ONE", "TWO", "THREE", b"here"]
    server.close()
    with nr.session(store, mode="replay"):
        assert await talk() == live


async def test_cancelling_a_receive_of_aiohttp_loses_no_message(server: WebSocketServer, store: Path) -> None:
    async def talk() -> list[int]:
        received = []
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{server.url}/?silent") as websocket:
            await websocket.send_str("many 10")
            for turns in range(100):
                task = asyncio.create_task(websocket.receive_json())
                for _ in range(turns % 6):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    received.append((await task)["n"])
                if len(received) == 10:
                    break
        return received

    with nr.session(store, mode="record"):
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{server.url}/?silent") as websocket:
            await websocket.send_str("many 10")
            for _ in range(10):
                await websocket.receive()
    with nr.session(store, mode="replay"):
        assert await talk() == list(range(10))
