"""httpx-ws: its connections to `Session`, the session's messages to its connections.

The handshake is a request of httpx, whose hook asks the session. The library takes the network stream from the answer:
here it is one of `record_stream` or `replay_stream`. While recording, it notes the frames that go through it. While
replaying, it compares what is written, and gives only pongs and the end. The messages come from the recording just when
the client takes them.

An exception that leaves the block of an async connection comes in an exception group, as the library does it; a
`RecordingMissing`, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

from wsproto import events
from wsproto.frame_protocol import FrameProtocol
from wsproto.utilities import ProtocolError

from nbreplay.core.recording.websocket import ABNORMAL, Close, Frame
from nbreplay.core.websocket import WebSocketRecorder, WebSocketReplay
from nbreplay.intercept import patching
from nbreplay.intercept.http.exchange import record_error
from nbreplay.intercept.http.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_data,
    encode_frame,
    parse_close,
)

_Describe = Callable[[BaseException], tuple[str, str] | None]


def install(module: ModuleType) -> patching.Undo:
    """Hook into the connections: those that are replayed get their messages from the recording."""
    sync_session, async_session = module.WebSocketSession, module.AsyncWebSocketSession
    before_sync, before_async = sync_session.__init__, async_session.__init__
    getattr(async_session, "__asynccontextmanager__")  # noqa: B009 - an older version lacks it, and is reported

    def start_sync(self: Any, stream: Any, *args: Any, **options: Any) -> None:
        before_sync(self, stream, *args, **options)
        if isinstance(stream, _SyncReplay):
            _replay_sync(self, stream)

    def start_async(self: Any, stream: Any, *args: Any, **options: Any) -> None:
        before_async(self, stream, *args, **options)
        if isinstance(stream, _AsyncReplay):
            _replay_async(self, stream)

    return patching.put((sync_session, "__init__", start_sync), (async_session, "__init__", start_async))


def record_stream(stream: Any, recorder: WebSocketRecorder, describe: _Describe, is_async: bool) -> object:
    """Return a network stream that records what goes through it."""
    return (_record_async if is_async else _record_sync)(stream, _StreamRecorder(recorder, describe))


def replay_stream(replay: WebSocketReplay, is_async: bool) -> object:
    """Return a network stream without a network."""
    return (_AsyncReplay if is_async else _SyncReplay)(replay)


class _Parser:
    """Puts together the messages, and the close, of one direction; frames that none can read end it."""

    def __init__(self, from_client: bool) -> None:
        self._protocol = FrameProtocol(client=not from_client, extensions=[])
        self._parts: list[str | bytes] = []

    def feed(self, data: bytes) -> Iterator[tuple[int, Any]]:
        """Yield what these bytes complete: the opcode of each message or control frame, and its content."""
        self._protocol.receive_bytes(bytes(data))
        for frame in self._protocol.received_frames():
            opcode, payload = int(frame.opcode), frame.payload
            if opcode == CLOSE:
                yield CLOSE, (int(payload[0]), payload[1] or "")
            elif opcode in (PING, PONG):
                yield opcode, bytes(payload)
            elif opcode in (TEXT, BINARY, CONTINUATION):
                self._parts.append(payload if isinstance(payload, str) else bytes(payload))
                if frame.message_finished:
                    parts, self._parts = self._parts, []
                    yield TEXT if isinstance(parts[0], str) else BINARY, type(parts[0])().join(parts)  # type: ignore[arg-type]


# Recording


class _StreamRecorder:
    """Notes what goes through a stream, until one of its sides ends it."""

    def __init__(self, recorder: WebSocketRecorder, describe: _Describe) -> None:
        self._recorder, self._describe = recorder, describe
        self._sent, self._received = _Parser(from_client=True), _Parser(from_client=False)
        self._has_closed = self._is_over = False

    def note_sent(self, data: bytes) -> None:
        """Note what is written, before it is: an answer may come while that waits."""
        self._note(self._sent, data, "client", self._recorder.note_sent)

    def note_received(self, data: bytes) -> None:
        """Note what has been read; nothing is the end."""
        if data:
            self._note(self._received, data, "server", self._recorder.note_received)
        else:
            self._end("the server closed the connection")

    def _note(self, parser: _Parser, data: bytes, by: Any, note: Callable[[str | bytes], None]) -> None:
        if self._is_over:
            return
        try:
            for opcode, content in parser.feed(data):
                if opcode in (TEXT, BINARY):
                    note(content)
                elif opcode == CLOSE and (by == "server" or not self._has_closed):  # else it answers the server's
                    self._has_closed = True
                    self._recorder.note_close(by, *content)
        except ProtocolError as error:
            self._is_over = True
            self._recorder.fail("RemoteProtocolError", str(error))

    def _end(self, text: str) -> None:
        if not self._is_over:
            self._is_over = True
            if self._has_closed:
                self._recorder.end()
            else:
                self._recorder.fail("ReadError", text)

    @contextlib.contextmanager
    def noting_errors(self) -> Iterator[None]:
        """Note that the connection breaks, where it does."""
        try:
            yield
        except Exception as error:
            if (
                not self._is_over
                and not self._has_closed
                and type(error).__name__ not in ("ReadTimeout", "WriteTimeout")
            ):
                self._is_over = True
                record_error(self._recorder, error, self._describe)
            raise

    def finish(self) -> None:
        """Note that the client has left."""
        if not self._is_over and not self._has_closed:
            self._is_over = True
            self._recorder.close()
        self._end("")


def _record_sync(stream: Any, recorder: _StreamRecorder) -> Any:
    def read(*args: Any, **options: Any) -> Any:
        with recorder.noting_errors():
            data = stream.read(*args, **options)
        recorder.note_received(data)
        return data

    def write(data: bytes, *args: Any, **options: Any) -> None:
        recorder.note_sent(data)
        with recorder.noting_errors():
            stream.write(data, *args, **options)

    def close() -> None:
        recorder.finish()
        stream.close()

    return patching.StandIn(stream, read=read, write=write, close=close)


def _record_async(stream: Any, recorder: _StreamRecorder) -> Any:
    async def read(*args: Any, **options: Any) -> Any:
        with recorder.noting_errors():
            data = await stream.read(*args, **options)
        recorder.note_received(data)
        return data

    async def write(data: bytes, *args: Any, **options: Any) -> None:
        recorder.note_sent(data)
        with recorder.noting_errors():
            await stream.write(data, *args, **options)

    async def aclose() -> None:
        recorder.finish()
        await stream.aclose()

    return patching.StandIn(stream, read=read, write=write, aclose=aclose)


# Replaying


class _Replay:
    """A network stream out of a recording."""

    def __init__(self, replay: WebSocketReplay, feed: Callable[[bytes], None]) -> None:
        self.replay, self._sent = replay, _Parser(from_client=True)
        self._feed = feed  # has the client read these bytes; none are the end
        self._has_ended = False

    def deliver(self, close: Close) -> None:
        """Have the client read the end of the session, once."""
        if not self._has_ended:
            self._has_ended = True
            self._feed(b"" if close.code == ABNORMAL else encode_frame(CLOSE, close_data(close)))

    def _take(self, data: bytes) -> None:
        """Take what the client writes; raise `RecordingMissing` if something else was recorded."""
        for opcode, content in self._sent.feed(data):
            if opcode == PING:
                self._feed(encode_frame(PONG, content))
            elif opcode == CLOSE:
                self.deliver(self.replay.close(*content))
            elif opcode in (TEXT, BINARY) and (close := self.replay.send(content)) is not None:
                self.deliver(close)

    def _leave(self) -> None:
        self.replay.abort()
        self._feed(b"")

    def get_extra_info(self, _: str) -> None:
        """Return nothing, since nothing lies under it."""


class _SyncReplay(_Replay):
    def __init__(self, replay: WebSocketReplay) -> None:
        self._to_read: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        super().__init__(replay, self._to_read.put)

    def read(self, *_: Any, **__: Any) -> bytes:
        """Return a frame, which is never a message."""
        return self._to_read.get()

    def write(self, buffer: bytes, *_: Any, **__: Any) -> None:
        self._take(buffer)

    def close(self) -> None:
        self._leave()


class _AsyncReplay(_Replay):
    def __init__(self, replay: WebSocketReplay) -> None:
        self._to_read: asyncio.Queue[bytes] = asyncio.Queue()
        super().__init__(replay, self._to_read.put_nowait)

    async def read(self, *_: Any, **__: Any) -> bytes:
        """Return a frame, which is never a message."""
        return await self._to_read.get()

    async def write(self, buffer: bytes, *_: Any, **__: Any) -> None:
        self._take(buffer)

    async def aclose(self) -> None:
        self._leave()


def _event(frame: Frame) -> Any:
    """Return what comes next as the library's queue has it."""
    if isinstance(frame, Close):
        return events.CloseConnection(*parse_close(close_data(frame)))
    if isinstance(frame.content, str):
        return events.TextMessage(frame.content)
    return events.BytesMessage(frame.data_bytes())


def _replay_sync(session: Any, stream: _SyncReplay) -> None:
    """Have a session take its messages from a recording."""
    before = session._events.get

    def get(block: bool = True, timeout: float | None = None) -> Any:
        try:
            frame = stream.replay.receive(timeout)
        except TimeoutError:
            raise queue.Empty from None
        if isinstance(frame, Close) and not session._should_close.is_set():
            stream.deliver(frame)
            return before(block, timeout)  # what the library makes of the end
        return _event(frame)

    session._events.get = get


def _replay_async(session: Any, stream: _AsyncReplay) -> None:
    """Have a session take its messages from a recording."""
    enter = session.__asynccontextmanager__

    @contextlib.asynccontextmanager
    async def enter_replay() -> AsyncIterator[Any]:
        async with enter() as entered:
            before = session._receive_event.receive

            async def receive() -> Any:
                frame = await stream.replay.receive_async()
                if isinstance(frame, Close) and not session._should_close.is_set():
                    stream.deliver(frame)
                    return await before()
                return _event(frame)

            session._receive_event = patching.StandIn(session._receive_event, receive=receive)
            yield entered

    session.__asynccontextmanager__ = enter_replay
