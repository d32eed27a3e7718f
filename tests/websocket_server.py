"""A websocket server on this machine, whose sessions do what they are told; and the small clients that talk to it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import websockets.asyncio.client
import websockets.sync.client
import websockets.sync.server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

Content = str | bytes


class WebSocketServer:
    """The server of `serve`.

    Attributes
    ----------
    url : str
    hits : int
        How many sessions were opened.
    received : list
        What all clients have sent.
    handler : callable
        What it does with a session, other than `obey`.
    """

    def __init__(self, handler: Callable[[Any], None] | None = None) -> None:
        self.hits, self.received, self.handler = 0, list[Content](), handler or obey
        self._server = websockets.sync.server.serve(
            self._handle,
            "127.0.0.1",
            0,
            process_request=self._process_request,
            process_response=self._process_response,
            select_subprotocol=lambda _, offered: offered[-1] if offered else None,
            max_size=None,
            server_header="tests",
        )
        self.host = f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        self.url = f"ws://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop; further connections are refused."""
        self._server.shutdown()
        self._thread.join()

    def _process_request(self, _: Any, request: Any) -> Response | None:
        if request.path.startswith("/refuse/"):
            status = int(request.path.rpartition("/")[2])
            response = Response(status, "No", websockets.Headers({"Content-Type": "text/plain"}), b"not you")
            response.headers["Content-Length"] = str(len(response.body or b""))
            return response
        return None

    def _process_response(self, _: Any, __: Any, response: Any) -> None:
        response.headers["X-Request-Id"] = "req_1"

    def _handle(self, connection: Any) -> None:
        self.hits += 1
        with contextlib.suppress(ConnectionClosed):
            self.handler(_Noting(connection, self.received))


class _Noting:
    """A connection that notes what it receives."""

    def __init__(self, connection: Any, received: list[Content]) -> None:
        self._connection, self._received = connection, received

    def __iter__(self) -> Iterator[Content]:
        for message in self._connection:
            self._received.append(message)
            yield message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def obey(connection: Any) -> None:
    """Greet, then do what the messages say; send back, in capitals or reversed, what says nothing."""
    if "silent" not in connection.request.path:
        connection.send(json.dumps({"type": "session.created", "session": {"id": f"sess_{connection.id}"}}))
    for message in connection:
        command, _, rest = message.partition(" ") if isinstance(message, str) else ("", "", "")
        if command == "close":
            code, _, reason = rest.partition(" ")
            connection.close(int(code), reason)
        elif command == "drop":
            # To close it would end nothing while another thread reads from it.
            connection.socket.shutdown(socket.SHUT_RDWR)
        elif command == "many":
            for number in range(int(rest)):
                connection.send(json.dumps({"type": "delta", "n": number}))
        elif command == "fragments":
            connection.send(rest.split())
        elif command == "ping":
            connection.ping().wait(60)
            connection.send("pong")
        elif command == "pause":
            time.sleep(float(rest))
            connection.send("awake")
        elif command != "quiet":
            connection.send(message.upper() if isinstance(message, str) else message[::-1])


@contextlib.contextmanager
def serve(handler: Callable[[Any], None] | None = None) -> Iterator[WebSocketServer]:
    """A server that is closed at the end, unless it has been before."""
    server = WebSocketServer(handler)
    try:
        yield server
    finally:
        server.close()


# Clients, used alike


class Closed(Exception):
    """A session has ended, with this code and reason."""


class Refused(Exception):
    """A handshake was answered with this status and body."""


class Session:
    """An open session of one of the clients. Its methods raise `Closed` where it has ended."""

    connection: Any
    headers: dict[str, str]
    subprotocol: str | None
    is_blocking = False  # whether other tasks stand still while it receives

    async def send(self, content: Content) -> None:
        raise NotImplementedError

    async def receive(self) -> Content:
        raise NotImplementedError

    async def close(self, code: int = 1000, reason: str = "") -> None:
        raise NotImplementedError

    async def receive_all(self) -> list[Any]:
        """Receive to the end; last comes the close."""
        received: list[Any] = []
        try:
            while True:
                received.append(await self.receive())
        except Closed as end:
            return [*received, end.args]


def _names(headers: Any) -> dict[str, str]:
    gone = ("connection", "upgrade", "date", "server", "sec-websocket-accept", "sec-websocket-extensions")
    return {name.lower(): value for name, value in headers if name.lower() not in gone}


class _Async(Session):
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.headers, self.subprotocol = _names(connection.response.headers.raw_items()), connection.subprotocol

    async def send(self, content: Content) -> None:
        with _closing():
            await self.connection.send(content)

    async def receive(self) -> Content:
        with _closing():
            received: Content = await self.connection.recv()
        return received

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.connection.close(code, reason)


class _Sync(_Async):
    is_blocking = True

    async def send(self, content: Content) -> None:
        with _closing():
            self.connection.send(content)

    async def receive(self) -> Content:
        with _closing():
            received: Content = self.connection.recv()
        return received

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.connection.close(code, reason)


class _Aiohttp(Session):
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.headers, self.subprotocol = _names(connection._response.headers.items()), connection.protocol

    async def send(self, content: Content) -> None:
        try:
            await (self.connection.send_str if isinstance(content, str) else self.connection.send_bytes)(content)
        except ConnectionError:
            raise Closed(self.connection.close_code, "") from None

    async def receive(self) -> Content:
        message = await self.connection.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            content: Content = message.data
            return content
        raise Closed(self.connection.close_code, message.extra or "")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.connection.close(code=code, message=reason.encode())


@contextlib.contextmanager
def _closing() -> Iterator[None]:
    try:
        yield
    except ConnectionClosed as error:
        received = error.rcvd
        raise Closed(received.code if received else 1006, received.reason if received else "") from error


@contextlib.asynccontextmanager
async def open_sync(url: str, headers: dict[str, str] | None = None, protocols: Any = None) -> AsyncIterator[Session]:
    """Open a session of websockets' sync client."""
    options = {"additional_headers": headers, "subprotocols": protocols, "proxy": None, "max_size": None}
    try:
        connection = websockets.sync.client.connect(url, **options)
    except InvalidStatus as error:
        raise Refused(error.response.status_code, bytes(error.response.body or b"")) from None
    with connection:
        yield _Sync(connection)


@contextlib.asynccontextmanager
async def open_async(url: str, headers: dict[str, str] | None = None, protocols: Any = None) -> AsyncIterator[Session]:
    """Open a session of websockets' asyncio client."""
    options = {"additional_headers": headers, "subprotocols": protocols, "proxy": None, "max_size": None}
    try:
        connection = await websockets.asyncio.client.connect(url, **options)
    except InvalidStatus as error:
        raise Refused(error.response.status_code, bytes(error.response.body or b"")) from None
    async with connection:
        yield _Async(connection)


@contextlib.asynccontextmanager
async def open_aiohttp(url: str, headers: dict[str, str] | None = None, protocols: Any = ()) -> AsyncIterator[Session]:
    """Open a session of aiohttp."""
    async with aiohttp.ClientSession() as client:
        try:
            connection = await client.ws_connect(
                url, headers=headers, protocols=protocols or (), compress=15, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as error:
            raise Refused(error.status, b"not you") from None
        async with connection:
            yield _Aiohttp(connection)


class _Httpx(Session):
    """That of httpx-ws, sync or async."""

    def __init__(self, connection: Any, is_blocking: bool) -> None:
        self.connection, self.is_blocking = connection, is_blocking
        self.headers, self.subprotocol = _names(connection.response.headers.multi_items()), connection.subprotocol

    async def _do(self, name: str, *args: Any) -> Any:
        import httpx_ws
        import wsproto

        try:
            result = getattr(self.connection, name)(*args)
            return result if self.is_blocking else await result
        except httpx_ws.WebSocketDisconnect as error:
            raise Closed(error.code, error.reason) from None
        except (httpx_ws.WebSocketNetworkError, wsproto.utilities.LocalProtocolError):
            raise Closed(1006, "") from None

    async def send(self, content: Content) -> None:
        await self._do("send_text" if isinstance(content, str) else "send_bytes", content)

    async def receive(self) -> Content:
        content: Content = (await self._do("receive")).data
        return content if isinstance(content, str) else bytes(content)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self._do("close", code, reason)


@contextlib.contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise the errors of httpx-ws as the other clients do."""
    import httpx
    import httpx_ws

    try:
        yield
    except httpx_ws.WebSocketUpgradeError as error:
        raise Refused(error.response.status_code, b"not you") from None
    except httpx.ConnectError as error:
        raise OSError(str(error)) from None
    except BaseExceptionGroup as group:  # all that leaves the block of an async connection
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


@contextlib.asynccontextmanager
async def open_httpx_sync(
    url: str, headers: dict[str, str] | None = None, protocols: Any = None
) -> AsyncIterator[Session]:
    """Open a session of httpx-ws."""
    import httpx_ws

    with _httpx_errors():
        address = url.replace("ws", "http", 1)
        with httpx_ws.connect_ws(address, headers=dict(headers or {}), subprotocols=protocols) as connection:
            yield _Httpx(connection, is_blocking=True)


@contextlib.asynccontextmanager
async def open_httpx_async(
    url: str, headers: dict[str, str] | None = None, protocols: Any = None
) -> AsyncIterator[Session]:
    """Open a session of httpx-ws that is async."""
    import httpx_ws

    with _httpx_errors():
        address = url.replace("ws", "http", 1)
        async with httpx_ws.aconnect_ws(address, headers=dict(headers or {}), subprotocols=protocols) as connection:
            yield _Httpx(connection, is_blocking=False)


CLIENTS = {"websockets sync": open_sync, "websockets asyncio": open_async, "aiohttp": open_aiohttp}
"""The clients, each opened alike."""

if importlib.util.find_spec("httpx_ws"):  # pip install httpx-ws
    CLIENTS |= {"httpx-ws sync": open_httpx_sync, "httpx-ws async": open_httpx_async}
