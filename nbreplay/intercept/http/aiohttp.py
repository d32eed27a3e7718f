"""aiohttp: its exchanges to `Session`, the session's answers to its responses.

The hook is where a connection is asked for, once for every exchange: redirects, retries, cookies and
middlewares stay the library's own, around it. Whatever client session asks, whenever it was built, passes it.
The readers are aiohttp's own, turned into one of ours while they record or replay, so that every way to read works.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.headers import is_bare, is_sized
from nbreplay.core.recording.take import HTTP11, Take
from nbreplay.core.recording.websocket import is_websocket
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import current_session
from nbreplay.core.turns import wait_async
from nbreplay.core.websocket import WebSocketRecorder, WebSocketReplay
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.http import aiohttp_websocket
from nbreplay.intercept.http.aiohttp_websocket import SessionRecorder, SessionReplay
from nbreplay.intercept.http.exchange import (
    CUT_OFF,
    Exchange,
    errno_and_text,
    head_of,
    host_and_target,
    record_error,
    record_errors,
)
from nbreplay.intercept.http.websocket_frames import opening_head
from nbreplay.intercept.network import guard

_LIBRARY = f"aiohttp {aiohttp.__version__}"
_PIECE = 1 << 16  # bytes; as much as comes at once through a socket

# Errors that a take may name, those of connecting apart. Nothing else from a file is looked up in the library.
_CONNECTING = frozenset(
    [
        *("ClientConnectorCertificateError", "ClientConnectorDNSError", "ClientConnectorError"),
        *("ClientConnectorSSLError", "ClientProxyConnectionError", "ConnectionTimeoutError"),
    ]
)
_ERRORS = _CONNECTING | {
    *("ClientConnectionError", "ClientConnectionResetError", "ClientHttpProxyError", "ClientOSError"),
    *("ClientPayloadError", "ClientResponseError", "ServerDisconnectedError", "ServerTimeoutError"),
    *("SocketTimeoutError", "TimeoutError"),
}
_OLDER = {
    "ClientConnectionResetError": "ClientOSError",
    "ClientConnectorDNSError": "ClientConnectorError",
    "ConnectionTimeoutError": "ServerTimeoutError",
    "SocketTimeoutError": "ServerTimeoutError",
}
"""Errors that an older aiohttp lacks, each with the one that it raises instead."""

_FOREIGN = {
    "ConnectError": "ClientConnectorError",
    "ConnectTimeout": "ConnectionTimeoutError",
    "ReadTimeout": "SocketTimeoutError",
}
"""Names of other libraries' errors, each with this one's."""

_TLS = {"ClientConnectorSSLError": ssl.SSLError, "ClientConnectorCertificateError": ssl.SSLCertVerificationError}


def install(library: ModuleType) -> patching.Undo:
    """Hook into aiohttp."""
    connector, response, handler = library.BaseConnector, library.ClientResponse, library.client_proto.ResponseHandler
    before_connect, before_start, before_params = connector.connect, response.start, handler.set_response_params
    for name in ("feed_data", "set_exception", "_wait"):
        getattr(library.StreamReader, name)

    async def connect(self: Any, req: Any, *args: Any, **options: Any) -> Any:
        if guard.is_permitted():
            return await before_connect(self, req, *args, **options)
        if req.headers.get("Upgrade", "").lower() == "websocket":
            return await connect_websocket(self, req, *args, **options)
        exchange = _exchange(req)
        replay = exchange.replay(await _body(req) if exchange.needs_body else b"")
        if replay is not None:
            return _replay_connection(self, req, replay)
        with exchange.sending((req.proxy or req.url).host, lambda error: _describe_connecting(req, error)):
            connection = await before_connect(self, req, *args, **options)
        if exchange.recorder is not None:
            _ResponseRecorder(exchange.recorder, connection)
        return connection

    async def connect_websocket(self: Any, req: Any, *args: Any, **options: Any) -> Any:
        decision = None
        if (session := current_session()) is None:
            placeholder_keys.refuse(req.url.raw_path_qs, _headers(req))
        else:
            decision = session.ask_websocket(_call(req))
        if isinstance(decision, WebSocketReplay):
            connection: Any = _replay_connection(self, req, decision.replay)
            connection.nbreplay_websocket = SessionReplay(decision)
            return connection
        with record_errors(decision, lambda error: _describe_connecting(req, error)):
            connection = await before_connect(self, req, *args, **options)
        if decision is not None:
            _ResponseRecorder(decision, connection)
        return connection

    async def start(self: Any, connection: Any) -> Any:
        recording = getattr(connection, "nbreplay_recording", None)
        if recording is None:
            return await before_start(self, connection)
        recording.is_awaited = True
        with record_errors(recording.recorder, _describe):
            await before_start(self, connection)
        recording.start(self)
        return self

    def set_response_params(self: Any, **params: Any) -> None:
        # It says here only whether the library decodes; a connection is used again for calls that differ in that.
        self.nbreplay_decodes = params.get("auto_decompress", True)
        before_params(self, **params)

    return patching.put(
        aiohttp_websocket.hook(library),
        (connector, "connect", connect),
        (response, "start", start),
        (handler, "set_response_params", set_response_params),
    )


def _exchange(req: Any) -> Exchange:
    return Exchange(current_session(), req.method, _host(req.url), req.url.raw_path_qs, _headers(req), _LIBRARY)


def _call(req: Any) -> Call:
    return Call(req.method, _host(req.url), req.url.raw_path_qs, "", b"", _headers(req), _LIBRARY)


def _headers(req: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in req.headers.items()]


def _host(url: Any) -> str:
    return host_and_target(url.scheme, str(url.raw_host), url.port, "")[0]


async def _body(req: Any) -> bytes:
    """Return the body that is going to be sent; a payload that can be read only once is replaced by its content."""
    payload, file = req.body, io.BytesIO()
    if not payload or isinstance(payload, bytes | bytearray):
        return bytes(payload or b"")

    async def write(chunk: Any) -> None:
        file.write(chunk)

    await payload.write(SimpleNamespace(write=write))
    data = file.getvalue()
    if not isinstance(payload, aiohttp.BytesPayload):
        # As a file, since the library warns of large bytes. The headers are there already, with framing and boundary.
        file.seek(0)
        if hasattr(req, "update_body"):
            await req.update_body(file)
        else:
            req.body = aiohttp.BytesIOPayload(file)
    return data


def _describe(error: BaseException) -> tuple[str, str] | None:
    if not isinstance(error, Exception):
        return None
    names = [kind.__name__ for kind in type(error).__mro__]
    name = next((name for name in names if name in _ERRORS), None)
    if name is None and isinstance(error, OSError):
        name = "ClientOSError"  # the library makes one of it on its way to the caller
    if name in ("ClientResponseError", "ClientHttpProxyError"):
        return name, f"{error.status}, {error.message}"  # type: ignore[attr-defined]
    if name is None:
        return "ClientConnectionError", f"{names[0]}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return name, f"[Errno {error.errno}] {error.strerror}"
    return name, str(error)


def _describe_connecting(req: Any, error: BaseException) -> tuple[str, str] | None:
    """Describe why no connection was made. The library has yet to make errors of its own of timeouts."""
    if isinstance(error, TimeoutError):
        return "ConnectionTimeoutError", f"Connection timeout to host {_host(req.url)}"
    try:
        # The timeout of the whole call reaches what waits as a cancellation.
        req._timer.assert_timeout()
    except TimeoutError as timeout:
        error = timeout
    return _describe(error)


def _error_name(take: Take) -> str:
    name = (take.error or {}).get("type", "")
    return _FOREIGN.get(name, name)


def _error(req: Any, take: Take) -> Any:
    """Return the library's own error for the one that a take names."""
    name, message = _error_name(take), (take.error or {}).get("message", "")
    if name not in _ERRORS:
        name = "ClientConnectionError" if take.status is None else "ClientPayloadError"
    if name == "TimeoutError":
        return TimeoutError(*filter(None, [message]))
    kind = getattr(aiohttp, name if hasattr(aiohttp, name) else _OLDER[name])
    numbered = errno_and_text(message)
    if issubclass(kind, aiohttp.ClientConnectorError):
        return kind(req.connection_key, _TLS.get(name, OSError)(*(numbered or (0, message))))
    if issubclass(kind, aiohttp.ClientResponseError):
        status, _, text = message.partition(", ")
        return kind(req.request_info, (), status=int(status) if status.isdecimal() else 400, message=text)
    if issubclass(kind, aiohttp.ClientOSError) and numbered:
        return kind(*numbered)
    return kind(message or CUT_OFF)


# Recording


class _ResponseRecorder:
    """Records the response that comes through a connection, until the connection is released."""

    def __init__(self, recorder: Recorder, connection: Any) -> None:
        self.recorder, self._protocol, self._content = recorder, connection.protocol, None
        self.is_awaited = False  # whether the caller has begun to wait for the response
        self._has_upgraded = False  # to a websocket
        self.was_cancelled = False  # whether the caller was cancelled when it last waited for a piece
        connection.nbreplay_recording = self._protocol.nbreplay_recording = self
        connection.add_callback(self._on_release)

    def start(self, response: Any) -> None:
        """Record the head, and the body: the part that has come, and the rest as it comes."""
        recorder, content, version = self.recorder, response.content, response.version
        if not self._protocol.nbreplay_decodes:
            recorder.keep_encoding()  # the caller decodes, and is to get the same bytes
        http_version = HTTP11 if version is None else f"HTTP/{version.major}.{version.minor}"
        recorder.begin(response.status, response.headers.items(), response.reason, http_version)
        if response.status == 101 and isinstance(recorder, WebSocketRecorder):
            self._has_upgraded = True
            response.connection.nbreplay_websocket = SessionRecorder(recorder)
            return
        if type(content) is aiohttp.StreamReader and content._buffer:
            recorder.feed(b"".join(content._buffer))
        if content.is_eof():
            recorder.end()
        elif content.exception() is not None:
            record_error(recorder, content.exception(), _describe)
        else:
            self._content = content
            content.__class__ = _RecordedReader

    def _on_release(self) -> None:
        """The library has done with the connection: all has come, or its caller wants no more."""
        content: Any = self._content
        if self._has_upgraded:
            return
        if content is None:
            # Before the answer is awaited only a failure to send releases it, which is being handled just now; without
            # one the hooks were taken back meanwhile, and nothing is known of the answer.
            if not self.is_awaited:
                record_error(self.recorder, sys.exception() or asyncio.CancelledError(), _describe)
            return
        content.__class__ = aiohttp.StreamReader
        if content.is_eof():
            self.recorder.end()
        elif self.was_cancelled:
            self.recorder.interrupt()
        else:
            self.recorder.close()


class _RecordedReader(aiohttp.StreamReader):  # type: ignore[misc]
    """A reader that records what it is fed, and how its caller was cut off."""

    __slots__ = ()

    def feed_data(self, data: bytes, *size: int) -> Any:
        self._protocol.nbreplay_recording.recorder.feed(bytes(data))
        return super().feed_data(data, *size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        # The library sets that one where the caller closes; the connection is released at once.
        if type(exc).__name__ != "ClientConnectionError":
            record_error(self._protocol.nbreplay_recording.recorder, exc, _describe)
        super().set_exception(exc, *cause)

    async def _wait(self, func_name: str) -> None:
        recording = self._protocol.nbreplay_recording
        recording.was_cancelled = False
        try:
            await super()._wait(func_name)
        except asyncio.CancelledError:
            # It may be read on: whether this was an interrupt is known when nobody has.
            recording.was_cancelled = True
            raise
        except TimeoutError as error:
            record_error(recording.recorder, error, _describe)
            raise


# Replaying


def _replay_connection(connector: Any, req: Any, replay: Replay) -> object:
    """Return a connection that answers with a take, whatever is sent into it.

    Where no connection was made when this was recorded, raise the library's own error.
    """
    if replay.take.status is None and _error_name(replay.take) in _CONNECTING:
        replay.finish()
        raise _error(req, replay.take)

    def release(_: Any, protocol: Any, **__: Any) -> None:
        protocol.close()
        replay.finish()

    loop = asyncio.get_running_loop()
    # The threshold is what a heartbeat of a websocket looks for.
    threshold = getattr(connector, "_timeout_ceil_threshold", 5)
    releaser = SimpleNamespace(force_close=connector.force_close, _release=release, _timeout_ceil_threshold=threshold)
    return aiohttp.connector.Connection(releaser, req.connection_key, _ReplayProtocol(loop, req, replay), loop)


class _ReplayProtocol(aiohttp.client_proto.ResponseHandler):  # type: ignore[misc]
    """A protocol that feeds the library's parser with a take, each piece when it is read."""

    def __init__(self, loop: Any, req: Any, replay: Replay) -> None:
        super().__init__(loop)
        self._req, self._replay, closed = req, replay, asyncio.Event()
        self.transport = patching.StandIn(
            asyncio.Transport(),
            write=lambda _: None,  # what is written is dropped
            writelines=lambda _: None,
            get_write_buffer_size=lambda: 0,
            is_closing=closed.is_set,
            close=closed.set,
            abort=closed.set,
        )
        self._expects_100 = req._continue is not None
        self._is_websocket = is_websocket(replay.take)
        self._pieces = (
            (0.0 if start else delay, data[start : start + _PIECE])
            for delay, data in (() if self._is_websocket else replay.parts(by_event=True))
            for start in range(0, len(data), _PIECE)
        )
        self._next = next(self._pieces, None)
        self._chunked = not is_bare(req.method, replay.take.status) and not is_sized(replay.take)

    def set_response_params(self, **params: Any) -> None:
        # No timeout fires: what took its time when it was recorded, takes as long as the replay wants it to.
        super().set_response_params(**{**params, "timer": None, "read_timeout": None})

    async def read(self) -> Any:
        """Return the next message of the answer, as the parser gives it."""
        if self._expects_100:
            self._expects_100 = False
            self.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            if self._req._writer is not None:
                # Nobody answers before he was asked: an answer stops what still writes, and what traces that.
                await asyncio.wait([self._req._writer])
            if (self._replay.take.status or 0) < 200 and not self._is_websocket:
                raise _error(self._req, self._replay.take)
            self.data_received(self._head())
        message, content = await super().read()
        if content.__class__ is aiohttp.StreamReader and not content.is_eof():
            content.__class__ = _ReplayReader
        return message, content

    def _head(self) -> bytes:
        take = self._replay.take
        if self._is_websocket:
            return opening_head(take, self._req.headers.get("Sec-WebSocket-Key", ""))
        size = None if self._chunked else self._replay.size
        head = head_of(take, self._req.method, size, lambda text: text.encode("utf-8", "surrogateescape"))
        return head + b"0\r\n\r\n" if self._chunked and self._next is None and take.complete else head

    async def receive(self, reader: Any) -> bool:
        """Receive the next piece of the take, or raise the error in which it ends; False where it stays open there."""
        replay = self._replay
        if self._next is None:
            if replay.stays_open:
                return False
            replay.end()
            error = _error(self._req, replay.take)
            reader.set_exception(error)
            raise error
        delay, data = self._next
        await wait_async(delay)
        if reader.exception() is not None:
            raise reader.exception()
        self._next = next(self._pieces, None)
        if self._chunked:
            end = b"0\r\n\r\n" if self._next is None and replay.take.complete else b""
            data = b"%x\r\n%b\r\n%b" % (len(data), data, end)
        self.data_received(data)
        return True


class _ReplayReader(aiohttp.StreamReader):  # type: ignore[misc]
    """A reader that receives the next piece of its take when it has to wait for more."""

    __slots__ = ()

    async def _wait(self, func_name: str) -> None:
        if not await self._protocol.receive(self):
            await super()._wait(func_name)

    async def wait_eof(self) -> None:
        while not self.is_eof():
            await self._wait("wait_eof")
