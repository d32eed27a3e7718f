"""Websockets of aiohttp: what its `ClientWebSocketResponse` reads and writes, recorded or out of a recording.

The handshake goes the way of any other exchange. What is received is noted when the client reads it; in a replay it is
fed to the library's own parser just then.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from nbreplay.core.recording.websocket import ABNORMAL, Close, Frame, Message
from nbreplay.core.websocket import WebSocketRecorder, WebSocketReplay
from nbreplay.intercept import patching
from nbreplay.intercept.http.websocket_frames import BINARY, CLOSE, PING, PONG, TEXT, close_data, encode_frame

_Hook = tuple[Any, str, Any]


def hook(library: Any) -> _Hook:
    """Return the hook into the class of open websockets; their connections have what to do as `nbreplay_websocket`."""
    response_class = library.ClientWebSocketResponse
    before = response_class.__init__

    def start(self: Any, reader: Any, writer: Any, protocol: Any, response: Any, *args: Any, **options: Any) -> None:
        if (end := getattr(response.connection, "nbreplay_websocket", None)) is not None:
            reader, writer = end.wrap(reader, writer, response.connection)
        before(self, reader, writer, protocol, response, *args, **options)

    return response_class, "__init__", start


class SessionRecorder:
    """Notes what a websocket sends, and what its client reads."""

    def __init__(self, recorder: WebSocketRecorder) -> None:
        self._recorder = recorder
        self._has_closed = False

    def wrap(self, reader: Any, writer: Any, connection: Any) -> tuple[Any, Any]:
        """Return a reader and a writer that note what goes through those that are given."""
        connection.add_callback(self._finish)

        async def read() -> Any:
            try:
                message = await reader.read()
            except (aiohttp.ClientError, aiohttp.EofStream) as error:
                self._recorder.fail(type(error).__name__, str(error))
                raise
            if message.type in (TEXT, BINARY):
                data = message.data
                is_text = message.type == TEXT and not isinstance(data, str)  # under decode_text=False
                self._recorder.note_received(bytes(data).decode("utf-8") if is_text else data)
            elif message.type == CLOSE:
                self._note_close("server", message.data, message.extra or "")
            return message

        async def send_frame(message: Any, opcode: int, *args: Any, **options: Any) -> None:
            self._note_sent(message, opcode)
            await writer.send_frame(message, opcode, *args, **options)

        async def send(message: Any, binary: bool = False, *args: Any, **options: Any) -> None:
            self._note_sent(message, BINARY if binary else TEXT)
            await writer.send(message, binary, *args, **options)

        async def close(code: int = 1000, message: Any = b"") -> None:
            if not self._has_closed:  # else it answers the server's
                reason = message if isinstance(message, str) else bytes(message).decode("utf-8", "replace")
                self._note_close("client", code, reason)
            await writer.close(code, message)

        return (
            patching.StandIn(reader, read=read),
            patching.StandIn(writer, send_frame=send_frame, send=send, close=close),
        )

    def _note_sent(self, message: Any, opcode: int) -> None:
        """Note a message before it is sent: an answer may come while that waits."""
        if opcode in (TEXT, BINARY):
            self._recorder.note_sent(_content(message, opcode))

    def _note_close(self, by: Any, code: int, reason: str) -> None:
        self._has_closed = True
        self._recorder.note_close(by, code, reason)

    def _finish(self) -> None:
        if self._has_closed:
            self._recorder.end()
        else:
            self._recorder.fail("ServerDisconnectedError", "no close frame received or sent")


class SessionReplay:
    """Gives a websocket its messages out of a recording, and compares those that it sends."""

    def __init__(self, replay: WebSocketReplay) -> None:
        self._replay = replay
        self._reader: Any = None
        self._protocol: Any = None
        self._reading: asyncio.Future[Frame] | None = None
        self._queued = 0  # messages in the library's queue, some of which it has put there by itself

    def wrap(self, reader: Any, writer: Any, connection: Any) -> tuple[Any, Any]:
        """Return a reader and a writer in place of those that are given."""
        self._reader, self._protocol = reader, connection.protocol
        connection.add_callback(self._replay.abort)

        async def read() -> Any:
            while not self._queued:
                self._reading = reading = asyncio.ensure_future(self._replay.receive_async())
                try:
                    await asyncio.wait([reading])
                except asyncio.CancelledError:
                    # What was taken from the recording by now is for who reads next.
                    if not reading.cancel() and not reading.cancelled() and reading.exception() is None:
                        self._deliver(reading.result())
                    raise
                if not reading.cancelled():
                    self._deliver(reading.result())
            self._queued -= 1
            return await reader.read()

        def feed_data(*args: Any) -> None:
            reader.feed_data(*args)
            self._count()

        return (
            patching.StandIn(reader, read=read, feed_data=feed_data),
            patching.StandIn(writer, send_frame=self._send_frame, send=self._send, ping=self._ping, close=self._close),
        )

    def _deliver(self, frame: Frame) -> None:
        """Have the library receive what comes next."""
        self._queued += 1
        if isinstance(frame, Message):
            opcode = TEXT if isinstance(frame.content, str) else BINARY
            self._protocol.data_received(encode_frame(opcode, frame.data_bytes()))
        elif frame.code == ABNORMAL and (self._replay.replay.take.error or {}).get("type") == "EofStream":
            self._reader.feed_eof()
        elif frame.code == ABNORMAL:
            self._reader.set_exception(aiohttp.ServerDisconnectedError())
        else:
            self._protocol.data_received(encode_frame(CLOSE, close_data(frame)))

    def _count(self) -> None:
        """Count a message that is not of the recording, and wake who reads."""
        self._queued += 1
        if self._reading is not None:
            self._reading.cancel()

    async def _send_frame(self, message: Any, opcode: int, *_: Any, **__: Any) -> None:
        close: Close | None = None
        if opcode == PING:
            self._protocol.data_received(encode_frame(PONG, bytes(message)))
            self._count()
        elif opcode in (TEXT, BINARY):
            close = self._replay.send(_content(message, opcode))
        if close is not None:
            raise _write_error()

    # Before aiohttp 3.11

    async def _send(self, message: Any, binary: bool = False, **_: Any) -> None:
        await self._send_frame(message, BINARY if binary else TEXT)

    async def _ping(self, message: Any = b"") -> None:
        await self._send_frame(message if isinstance(message, bytes) else message.encode(), PING)

    async def _close(self, code: int = 1000, message: Any = b"") -> None:
        reason = message if isinstance(message, str) else bytes(message).decode("utf-8", "replace")
        if self._replay.close(code, reason).code == ABNORMAL:
            raise _write_error()


def _content(message: Any, opcode: int) -> str | bytes:
    if isinstance(message, str):
        return message
    return bytes(message).decode("utf-8") if opcode == TEXT else bytes(message)


def _write_error() -> Exception:
    kind: type[Exception] = getattr(aiohttp, "ClientConnectionResetError", ConnectionResetError)
    return kind("Cannot write to closing transport")
