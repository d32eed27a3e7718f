"""Responses of aiohttp: recorded as they arrive, or replayed through aiohttp's own parser; and its errors.

The readers are aiohttp's own, turned into one of ours for as long as that lasts, so that every way to read works.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, NoReturn

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.headers import HTTP11, is_bare
from nbreplay.core.recording.response_head import framed_headers, is_sized
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay
from nbreplay.intercept.http.exchange import CUT_OFF, errno_and_text, event_parts, head_lines, record_error

_PIECE = 1 << 16  # bytes; as much as comes at once through a socket


# Errors that a take may name, each with what stands in for it where the library is older. Nothing else from a file
# is looked up in the library.
_ERRORS = {
    "ClientConnectionError": "",
    "ClientConnectionResetError": "ClientOSError",
    "ClientConnectorCertificateError": "",
    "ClientConnectorDNSError": "ClientConnectorError",
    "ClientConnectorError": "",
    "ClientConnectorSSLError": "",
    "ClientHttpProxyError": "",
    "ClientOSError": "",
    "ClientPayloadError": "",
    "ClientProxyConnectionError": "",
    "ClientResponseError": "",
    "ConnectionTimeoutError": "ServerTimeoutError",
    "ServerDisconnectedError": "",
    "ServerTimeoutError": "",
    "SocketTimeoutError": "ServerTimeoutError",
    "TimeoutError": "",
}
_FOREIGN = {
    "ConnectError": "ClientConnectorError",
    "ConnectTimeout": "ConnectionTimeoutError",
    "ReadTimeout": "SocketTimeoutError",
}
"""Names of other libraries' errors, each with this one's."""

_CONNECTING = frozenset(
    [
        "ClientConnectorCertificateError",
        "ClientConnectorDNSError",
        "ClientConnectorError",
        "ClientConnectorSSLError",
        "ClientProxyConnectionError",
        "ConnectionTimeoutError",
    ]
)


# Errors


def describe_error(error: BaseException) -> tuple[str, str] | None:
    """Return the name and the message under which a take keeps an error; None for an interrupt."""
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


def _error_name(take: Take) -> str:
    name = (take.error or {}).get("type", "")
    return _FOREIGN.get(name, name)


def _error(library: ModuleType, request: Any, take: Take) -> Exception:
    """Return the library's own error for the one that a take names."""
    name, message = _error_name(take), (take.error or {}).get("message", "")
    if name not in _ERRORS:
        name = "ClientConnectionError" if take.status is None else "ClientPayloadError"
    if name == "TimeoutError":
        return TimeoutError(*filter(None, [message]))
    kind: Any = getattr(library, name if hasattr(library, name) else _ERRORS[name])
    numbered = errno_and_text(message)
    error: Exception
    if issubclass(kind, library.ClientConnectorError):
        causes: dict[str, Any] = {
            "ClientConnectorSSLError": ssl.SSLError,
            "ClientConnectorCertificateError": ssl.SSLCertVerificationError,
        }
        error = kind(request.connection_key, causes.get(name, OSError)(*(numbered or (0, message))))
    elif issubclass(kind, library.ClientResponseError):
        status, _, text = message.partition(", ")
        error = kind(request.request_info, (), status=int(status) if status.isdecimal() else 400, message=text)
    elif issubclass(kind, library.ClientOSError) and numbered:
        error = kind(*numbered)
    else:
        error = kind(message or CUT_OFF)
    return error


# Recording


class ResponseRecorder:
    """Records the response that comes through a connection, until the connection is released."""

    def __init__(self, library: ModuleType, recorder: Recorder, connection: Any) -> None:
        # is_awaited: whether the caller has begun to wait for the response
        # was_cancelled: whether the caller was cancelled when it last waited for a piece
        self.recorder, self.was_cancelled, self.is_awaited = recorder, False, False
        self._library, self._protocol, self._content = library, connection.protocol, None
        connection.nbreplay_recording = self._protocol.nbreplay_recording = self
        connection.add_callback(self._on_release)

    def start(self, response: Any) -> None:
        """Record the head, and the body: the part that has come, and the rest as it comes."""
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
            record_error(recorder, content.exception(), describe_error)
        else:
            self._content = content
            content.__class__ = _recorded_reader(self._library.StreamReader)

    def _on_release(self) -> None:
        """The library has done with the connection: all has come, or its caller wants no more."""
        content: Any = self._content
        if content is None:
            # Before the answer is awaited only a failure to send releases it, which is being handled just now; without
            # one the hooks were taken back meanwhile, and nothing is known of the answer.
            if not self.is_awaited:
                record_error(self.recorder, sys.exception() or asyncio.CancelledError(), describe_error)
            return
        content.__class__ = self._library.StreamReader
        if content.is_eof():
            self.recorder.end()
        elif self.was_cancelled:
            self.recorder.interrupt()
        else:
            self.recorder.close()


@functools.cache
def _recorded_reader(base: Any) -> Any:
    """Return the class of readers that record what they are fed, and how their caller was cut off."""

    class RecordedReader(base):  # type: ignore[misc]
        __slots__ = ()

        def feed_data(self, data: bytes, *size: int) -> Any:
            self._protocol.nbreplay_recording.recorder.feed(bytes(data))
            return super().feed_data(data, *size)

        def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
            # The library sets that one where the caller closes; the connection is released at once.
            if type(exc).__name__ != "ClientConnectionError":
                record_error(self._protocol.nbreplay_recording.recorder, exc, describe_error)
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
                record_error(recording.recorder, error, describe_error)
                raise

    return RecordedReader


# Replaying


def connection_of(library: ModuleType, connector: Any, request: Any, replay: Replay) -> object:
    """Return a connection that answers with a take, whatever is sent into it.

    Where no connection was made when this was recorded, raise the library's own error.
    """
    if replay.take.status is None and _error_name(replay.take) in _CONNECTING:
        replay.finish()
        raise _error(library, request, replay.take)
    loop = asyncio.get_running_loop()
    protocol = _replay_protocol(library.client_proto.ResponseHandler)(loop, library, request, replay)
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
def _replay_protocol(base: Any) -> Any:
    """Return the class of protocols that feed their parser with a take, each piece when it is read."""

    class ReplayProtocol(base):  # type: ignore[misc]
        def __init__(self, loop: Any, library: ModuleType, request: Any, replay: Replay) -> None:
            super().__init__(loop)
            self._library, self._request, self._replay = library, request, replay
            self.transport = _Transport()
            self._begun, self._expected = False, request._continue is not None
            body, parts = replay.take.body, event_parts(replay)
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
                    raise _error(self._library, self._request, self._replay.take)
                self.data_received(self._head())
            message, content = await super().read()
            reader: Any = self._library.StreamReader
            if content.__class__ is reader and not content.is_eof():
                content.__class__ = _replay_reader(reader)
            return message, content

        def _head(self) -> bytes:
            take = self._replay.take
            headers = framed_headers(take, self._request.method, None if self._chunked else self._length)
            head = "\r\n".join([*head_lines(take, headers), "", ""]).encode("utf-8", "surrogateescape")
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
            error = _error(self._library, self._request, self._replay.take)
            content.set_exception(error)
            raise error

    return ReplayProtocol


@functools.cache
def _replay_reader(base: Any) -> Any:
    """Return the class of readers that, when they have to wait for more, have the next piece of their take."""

    class ReplayReader(base):  # type: ignore[misc]
        __slots__ = ()

        async def _wait(self, func_name: str) -> None:
            if self._protocol.stays:
                await super()._wait(func_name)
            else:
                await self._protocol.more(self)

        async def wait_eof(self) -> None:
            while not self.is_eof():
                await self._wait("wait_eof")

    return ReplayReader


def _pieces(parts: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    for delay, data in parts:
        for start in range(0, len(data), _PIECE):
            yield (0.0 if start else delay), data[start : start + _PIECE]
