"""Bodies of aiohttp's responses: taken down as they arrive, or played out of a take through aiohttp's own parser.

The readers are aiohttp's own, made one of ours for as long as that lasts: whatever way a caller reads is its way.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, NoReturn

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.headers import HTTP11, is_bare
from nbreplay.core.recording.response_head import framed_headers, is_sized, phrase_of
from nbreplay.core.recording.stream import Events
from nbreplay.core.replay import Replay
from nbreplay.intercept.http.aiohttp_errors import error_of, failed, while_connecting

__all__ = ["Tee", "connection_of"]

_PIECE = 1 << 16  # bytes; as much as comes at once through a socket


# Recording


class Tee:
    """Has what comes through a connection noted by a recorder, until the connection is released."""

    def __init__(self, library: ModuleType, recorder: Recorder, connection: Any) -> None:
        self.recorder, self.cancelled, self.awaited = recorder, False, False
        self._library, self._protocol, self._content = library, connection.protocol, None
        connection.nbreplay_tee = self
        connection.add_callback(self._released)

    def answered(self, response: Any) -> None:
        """The answer has begun: note what has come of its body, and have the rest noted as it comes."""
        recorder, content = self.recorder, response.content
        if not self._protocol.nbreplay_decodes:
            recorder.keep("content-encoding")  # the caller decodes, and is to get the same bytes
        version = response.version
        version = HTTP11 if version is None else f"HTTP/{version.major}.{version.minor}"
        recorder.begin(response.status, response.headers.items(), response.reason, version)
        if type(content) is self._library.StreamReader and content._buffer:
            recorder.feed(b"".join(content._buffer))
        if content.is_eof():
            recorder.end()
        elif content.exception() is not None:
            failed(recorder, content.exception())
        else:
            self._content = content
            _tees[id(content)] = self
            content.__class__ = _teed(self._library.StreamReader)

    def _released(self) -> None:
        """The library has done with the connection: all has come, or its caller wants no more."""
        content: Any = self._content
        if content is None:
            # Before the answer is awaited only a failure to send releases it, which is being handled just now; without
            # one the hooks were taken back meanwhile, and nothing is known of the answer.
            if not self.awaited:
                failed(self.recorder, sys.exception() or asyncio.CancelledError())
            return
        _tees.pop(id(content), None)
        content.__class__ = self._library.StreamReader
        if content.is_eof():
            self.recorder.end()
        elif self.cancelled:
            self.recorder.interrupt()
        else:
            self.recorder.close()


_tees: dict[int, Tee] = {}
"""By the id of the reader, which has no room for what is not its own."""


@functools.cache
def _teed(base: Any) -> Any:
    """Return the class of readers of which is noted what they are fed, and how their caller was cut off."""

    class Teed(base):  # type: ignore[misc]
        __slots__ = ()

        def feed_data(self, data: bytes, *size: int) -> Any:
            _tees[id(self)].recorder.feed(bytes(data))
            return super().feed_data(data, *size)

        def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
            # Just that is set where the caller closes; the connection is released at once.
            if type(exc).__name__ != "ClientConnectionError":
                failed(_tees[id(self)].recorder, exc)
            super().set_exception(exc, *cause)

        async def _wait(self, func_name: str) -> None:
            tee = _tees[id(self)]
            tee.cancelled = False
            try:
                await super()._wait(func_name)
            except asyncio.CancelledError:
                # It may be read on: whether this was an interrupt is known when nobody has.
                tee.cancelled = True
                raise
            except TimeoutError as error:
                failed(tee.recorder, error)
                raise

    return Teed


# Replaying


def connection_of(library: ModuleType, connector: Any, request: Any, replay: Replay) -> Any:
    """Return a connection that leads nowhere and answers with a take, whatever is sent into it.

    Where it was not even made when this was recorded, raise the library's own error.
    """
    if while_connecting(replay.take):
        replay.finish()
        raise error_of(library, request, replay.take)
    loop = asyncio.get_running_loop()
    protocol = _player(library.client_proto.ResponseHandler)(loop, library, request, replay)
    return library.connector.Connection(_Connector(connector, replay), request.connection_key, protocol, loop)


class _Connector:
    """What a connection wants of its connector."""

    def __init__(self, real: Any, replay: Replay) -> None:
        self.force_close, self._replay = real.force_close, replay

    def _release(self, key: Any, protocol: Any, *, should_close: bool = True) -> None:  # noqa: ARG002
        protocol.close()
        self._replay.finish()


class _Transport(asyncio.Transport):
    """A transport that drops what is written."""

    _closing = False

    def write(self, data: Any) -> None:
        pass

    def writelines(self, list_of_data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close


@functools.cache
def _player(base: Any) -> Any:
    """Return the class of protocols that feed their parser with a take, each piece when it is read."""

    class Player(base):  # type: ignore[misc]
        def __init__(self, loop: Any, library: ModuleType, request: Any, replay: Replay) -> None:
            super().__init__(loop)
            self._library, self._request, self._replay = library, request, replay
            self.transport = _Transport()
            self._begun, self._expected = False, request._continue is not None
            body, parts = replay.take.body, _parts(replay)
            self._length = body.size if isinstance(body, Blob) else sum([len(data) for _, data in parts])
            self._pieces = _pieces(parts)
            self._next = next(self._pieces, None)
            self._chunked = not is_bare(request.method, replay.take.status) and not is_sized(replay.take)

        def set_response_params(self, **params: Any) -> None:
            # No timeout fires: what took its time when it was recorded, takes as long as the replay wants it to.
            super().set_response_params(**{**params, "timer": None, "read_timeout": None})

        async def read(self) -> Any:
            """Return the next message of the answer, as the parser gives it."""
            if self._expected:
                self._expected = False
                self.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
            elif not self._begun:
                self._begun = True
                if self._request._writer is not None:
                    # Nobody answers before he was asked: an answer stops what still writes, and what traces that.
                    await asyncio.wait([self._request._writer])
                if (self._replay.take.status or 0) < 200:
                    raise error_of(self._library, self._request, self._replay.take)
                self.data_received(self._head())
            message, content = await super().read()
            reader: Any = self._library.StreamReader
            if content.__class__ is reader and not content.is_eof():
                content.__class__ = _played(reader)
            return message, content

        def _head(self) -> bytes:
            take = self._replay.take
            headers = framed_headers(take, self._request.method, None if self._chunked else self._length)
            version = "HTTP/1.0" if take.http_version == "HTTP/1.0" else "HTTP/1.1"
            lines = [f"{version} {take.status} {phrase_of(take)}", *[f"{name}: {value}" for name, value in headers]]
            head = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
            return head + b"0\r\n\r\n" if self._chunked and self._next is None and take.complete else head

        @property
        def stays(self) -> bool:
            """Whether nothing more comes, and the answer stays open until its caller leaves."""
            return self._next is None and self._replay.stays_open

        async def more(self, content: Any) -> None:
            """Have the next piece come; where there is none, the take was cut short here."""
            if self._next is None:
                self._cut(content)
            delay, data = self._next
            if delay > 0:
                await asyncio.sleep(delay)
            if content.exception() is not None:
                raise content.exception()
            self._next = next(self._pieces, None)
            if self._chunked:
                data = b"%x\r\n%b\r\n" % (len(data), data)
                if self._next is None and self._replay.take.complete:
                    data += b"0\r\n\r\n"
            self.data_received(data)

        def _cut(self, content: Any) -> NoReturn:
            incomplete = self._replay.incomplete
            if incomplete is not None:
                self._replay.fail(incomplete)
            error = error_of(self._library, self._request, self._replay.take)
            content.set_exception(error)
            raise error

    return Player


@functools.cache
def _played(base: Any) -> Any:
    """Return the class of readers that, when they have to wait for more, have the next piece of their take."""

    class Played(base):  # type: ignore[misc]
        __slots__ = ()

        async def _wait(self, func_name: str) -> None:
            if self._protocol.stays:
                await super()._wait(func_name)
            else:
                await self._protocol.more(self)

        async def wait_eof(self) -> None:
            while not self.is_eof():
                await self._wait("wait_eof")

    return Played


def _parts(replay: Replay) -> Iterable[tuple[float, bytes]]:
    """Return what is to come; each event apart, as a caller may count on it."""
    body = replay.take.body
    if replay.speed is None and isinstance(body, Events):
        return [(0.0, part) for part in replay.blocks()]
    return replay.parts()


def _pieces(parts: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    for delay, data in parts:
        for start in range(0, len(data), _PIECE):
            yield (0.0 if start else delay), data[start : start + _PIECE]
