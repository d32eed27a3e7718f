"""Connections of websockets without a network: their messages come from a recording, all else from a peer in memory.

The sync client reads from a socket in a thread of its own. It gets one end of a pair, and what it writes is dropped.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from nbreplay.core.recording.websocket import ABNORMAL, Close, Message
from nbreplay.core.websocket import WebSocketReplay
from nbreplay.intercept.http.exchange import encode_line, head_of
from nbreplay.intercept.http.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_data,
    encode_frame,
    opening_head,
    parse_close,
)


class Fragments:
    """Puts the frames of messages together."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._is_text = False

    def add(self, frame: Any) -> str | bytes | None:
        """Return the message that ends with this frame, or None."""
        if frame.opcode not in (CONTINUATION, TEXT, BINARY):
            return None
        if frame.opcode != CONTINUATION:
            self._is_text = frame.opcode == TEXT
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        data, self._parts = b"".join(self._parts), []
        return data.decode("utf-8", "surrogateescape") if self._is_text else data


def call_first(protocol: Any, name: str, call: Callable[..., object]) -> None:
    """Have a method of one protocol call `call` first; other protocols keep theirs, and hooks may be taken back."""
    method = getattr(protocol, name)

    def call_both(*args: Any) -> object:
        call(*args)
        result: object = method(*args)
        return result

    setattr(protocol, name, call_both)


class ProtocolReplay:
    """Compares what goes out through a protocol, and answers the handshake, pings and the end."""

    def __init__(self, protocol: Any, replay: WebSocketReplay, peer: _Transport | _Peer) -> None:
        self._protocol, self.replay, self._peer = protocol, replay, peer
        self._sent = Fragments()
        self._has_closed = False
        protocol.nbreplay, protocol.send_frame = replay, self._send
        call_first(protocol, "send_request", self._answer_handshake)
        call_first(protocol, "receive_eof", self._finish)

    def _answer_handshake(self, request: Any) -> None:
        """Answer the request that opens the session as it was answered when recorded."""
        take = self.replay.replay.take
        if take.status == 101:
            self._peer.feed(opening_head(take, request.headers["Sec-WebSocket-Key"]))
        else:
            data = self.replay.replay.data()
            self.replay.replay.finish()
            self._peer.feed(head_of(take, "GET", len(data), encode_line) + data)

    def _send(self, frame: Any) -> None:
        """Take a frame from the client; raise `RecordingMissing` if another one was recorded."""
        if frame.opcode == PING:
            self._peer.feed(encode_frame(PONG, bytes(frame.data)))
        elif frame.opcode == CLOSE:
            answer = self.replay.close(*parse_close(bytes(frame.data)))
            if self._protocol.close_rcvd is None:
                self.deliver(answer)
            self._peer.feed_eof()
        elif (content := self._sent.add(frame)) is not None and (close := self.replay.send(content)) is not None:
            self.deliver(close)

    def deliver(self, close: Close) -> None:
        """Have the protocol receive the end of the session, once."""
        if self._has_closed:
            return
        self._has_closed = True
        if close.code == ABNORMAL:
            self._peer.feed_eof()
        else:
            self._peer.feed(encode_frame(CLOSE, close_data(close)))

    def _finish(self) -> None:
        """Note that the connection is closed."""
        self.replay.abort()
        self._peer.feed_eof()


def _decode(message: Message, decode: bool | None) -> str | bytes:
    """Return the content of a message as a client wants it."""
    if isinstance(message.content, str):
        return message.data_bytes() if decode is False else message.content
    data = message.data_bytes()
    return data.decode("utf-8") if decode else data


class _Messages:
    """Stands in for the queue of a connection: the messages in it come from the recording."""

    def __init__(self, original: Any, end: ProtocolReplay) -> None:
        self._original, self._end = original, end

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


class _AsyncMessages(_Messages):
    def __init__(self, original: Any, end: ProtocolReplay) -> None:
        super().__init__(original, end)
        self._ahead: collections.deque[Message] = collections.deque()  # messages that `receive_all` has taken
        self._order = asyncio.Lock()

    async def get(self, decode: bool | None = None) -> Any:
        async with self._order:
            frame = self._ahead.popleft() if self._ahead else await self._end.replay.receive_async()
        if isinstance(frame, Message):
            return _decode(frame, decode)
        self._end.deliver(frame)
        return await self._original.get()  # raises an error, once the connection is closed

    async def receive_all(self) -> None:
        """Receive to the end, as the library does in the background; what comes is for who calls `get` later."""
        while True:
            async with self._order:
                frame = await self._end.replay.receive_async()
                if isinstance(frame, Message):
                    self._ahead.append(frame)
                    continue
            self._end.deliver(frame)
            return

    async def get_iter(self, decode: bool | None = None) -> AsyncIterator[Any]:
        yield await self.get(decode)


class _SyncMessages(_Messages):
    def get(self, timeout: float | None = None, decode: bool | None = None) -> Any:
        frame = self._end.replay.receive(timeout)
        if isinstance(frame, Message):
            return _decode(frame, decode)
        self._end.deliver(frame)
        return self._original.get()

    def get_iter(self, decode: bool | None = None) -> Iterator[Any]:
        yield self.get(None, decode)


# asyncio


def replay_asyncio(connection: Any, uri: Any, replay: WebSocketReplay) -> None:
    """Connect an asyncio connection with a recording."""
    transport = _Transport(connection, uri)
    connection.connection_made(transport)
    messages = _AsyncMessages(connection.recv_messages, ProtocolReplay(connection.protocol, replay, transport))
    before = connection.wait_closed

    async def wait_closed() -> None:
        await messages.receive_all()
        await before()

    connection.recv_messages, connection.wait_closed = messages, wait_closed


class _Transport(asyncio.Transport):
    """Drops what is written, and gives a connection what it is fed."""

    def __init__(self, connection: Any, uri: Any) -> None:
        super().__init__({"peername": (uri.host, uri.port), "sockname": ("127.0.0.1", 0)})
        self._connection, self._loop = connection, asyncio.get_running_loop()
        self._is_lost = False

    def feed(self, data: bytes) -> None:
        """Have the connection receive these bytes soon."""
        self._loop.call_soon(self._receive, data)

    def feed_eof(self) -> None:
        """Have the connection end soon."""
        self._loop.call_soon(self._lose)

    def _receive(self, data: bytes) -> None:
        if not self._is_lost:
            self._connection.data_received(data)

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._connection.eof_received()
            self._connection.connection_lost(None)

    def close(self) -> None:
        self.feed_eof()

    abort = close

    def is_closing(self) -> bool:
        return self._is_lost

    def write(self, data: Any) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


# sync


class NoTls:
    """An SSL context that wraps nothing, since nothing is sent."""

    def wrap_socket(self, sock: object, **_: object) -> object:
        """Return the socket as it is."""
        return sock


class _Socket(socket.socket):
    """One end of a pair, whose other end is the peer in memory."""

    address: tuple[str, int] = ("", 0)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Drop the data."""

    def setsockopt(self, *_: Any) -> None:
        """Change nothing: options of TCP are of no use here."""

    def getpeername(self) -> Any:
        return self.address

    def getsockname(self) -> Any:
        return "127.0.0.1", 0


class _Peer:
    """The other end of a pair of sockets."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def feed(self, data: bytes) -> None:
        """Have the connection receive these bytes."""
        with contextlib.suppress(OSError):  # it has been closed
            self._sock.sendall(data)

    def feed_eof(self) -> None:
        """Have the connection end."""
        self._sock.close()


def replay_socket(uri: Any) -> tuple[socket.socket, _Peer]:
    """Return a socket that goes nowhere, and the peer that feeds it."""
    one, other = socket.socketpair()
    sock = _Socket(one.family, one.type, one.proto, one.detach())
    sock.address = uri.host, uri.port
    return sock, _Peer(other)


def replay_sync(connection: Any, replay: WebSocketReplay, peer: _Peer) -> None:
    """Connect a sync connection with a recording."""
    connection.recv_messages = _SyncMessages(
        connection.recv_messages, ProtocolReplay(connection.protocol, replay, peer)
    )
