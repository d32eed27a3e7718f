"""HTTP/1.1 as `http.client` sends and reads it, for the interceptors of urllib3 and of `http.client` itself.

A replay comes as the bytes of a socket, and a recording is what a response reads from its file, so that framing stays
the library's own code.
"""

from __future__ import annotations

import io
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http import client as http_client
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.headers import is_bare
from nbreplay.core.recording.response_head import framed_headers, is_sized
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay
from nbreplay.intercept.http.exchange import (
    CUT_OFF,
    encode_line,
    errno_and_text,
    event_parts,
    head_lines,
    record_error,
    wait_for,
)

try:
    import ssl
except ImportError:  # Pyodide has none
    _TLS: dict[str, type[Exception]] = {}
else:
    _TLS = {"SSLCertVerificationError": ssl.SSLCertVerificationError, "SSLError": ssl.SSLError}

# Errors that a take may name. Nothing else from a file is looked up. Those of a call that was sent:
_ANSWERING: dict[str, type[Exception]] = {
    "BadStatusLine": http_client.BadStatusLine,
    "HTTPException": http_client.HTTPException,
    "ReadError": ConnectionResetError,
    "ReadTimeout": TimeoutError,
    "ReadTimeoutError": TimeoutError,
    "RemoteDisconnected": http_client.RemoteDisconnected,
    "UnknownProtocol": http_client.UnknownProtocol,
}
_ERRORS: dict[str, type[Exception]] = {
    **_ANSWERING,
    **_TLS,
    "BrokenPipeError": BrokenPipeError,
    "ConnectError": ConnectionRefusedError,
    "ConnectTimeout": TimeoutError,
    "ConnectionAbortedError": ConnectionAbortedError,
    "ConnectionRefusedError": ConnectionRefusedError,
    "ConnectionResetError": ConnectionResetError,
    "OSError": OSError,
    "TimeoutError": TimeoutError,
    "gaierror": socket.gaierror,
}
_MISSING = re.compile(r"(\d{1,18}) more expected( in its chunk)?")
_PORTS = {"http": 80, "https": 443}
_PIECE = 1 << 16


def host_and_target(scheme: str, host: str, port: int | None, target: str) -> tuple[str, str]:
    """Return host and target as a call has them, where the target names the host to a proxy as well.

    The host has its port where that is not the scheme's own.
    """
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        scheme, host, port = parts.scheme, parts.hostname or host, parts.port
        target = parts._replace(scheme="", netloc="", fragment="").geturl()
        target = target if target.startswith("/") else f"/{target}"
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return (host if port in (None, _PORTS.get(scheme)) else f"{host}:{port}"), target or "/"


def body_bytes(body: Any, charset: str = "utf-8") -> bytes:
    """Return a request's body, read to its end where it is a file or an iterable."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode(charset)
    if hasattr(body, "read"):
        return b"".join([body_bytes(piece, charset) for piece in iter(lambda: body.read(_PIECE) or None, None)])
    try:
        return memoryview(body).tobytes()
    except TypeError:
        return b"".join([body_bytes(piece, charset) for piece in body])


def was_sent(take: Take) -> bool:
    """Return whether a take is of a call that was sent, whatever then came of its answer."""
    return take.status is not None or (take.error or {}).get("type") in _ANSWERING


def error_of(recorded: Mapping[str, str] | None) -> Exception:
    """Return the error that a take names, of those that a connection may end with."""
    recorded = recorded or {}
    kind = _ERRORS.get(recorded.get("type", ""), ConnectionResetError)
    message = recorded.get("message") or CUT_OFF
    if kind in _TLS.values():
        return kind(1, message)
    return kind(*((issubclass(kind, OSError) and errno_and_text(message)) or (message,)))


def describe_error(error: BaseException) -> tuple[str, str] | None:
    """Describe an error of a call before its answer is awaited; None where it cannot be sent."""
    if not isinstance(error, OSError | http_client.HTTPException):
        return None
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), str(error)


def describe_read_error(error: BaseException) -> tuple[str, str] | None:
    """Describe an error of a call whose answer is awaited."""
    if isinstance(error, OSError) and not isinstance(error, http_client.HTTPException):
        return ("ReadTimeoutError" if isinstance(error, TimeoutError) else "ReadError"), str(error)
    return describe_error(error)


# Replaying


class ReplaySocket:
    """Stands for a socket, and answers with a take. What is sent into it is dropped."""

    def __init__(self, pieces: Iterator[bytes] = iter(()), on_close: Callable[[], None] = lambda: None) -> None:  # noqa: B008
        self._file = _File(_Pieces(pieces, on_close))

    @classmethod
    def of(cls, replay: Replay, method: str) -> ReplaySocket:
        """Return the socket from which a replayed answer comes."""
        if not replay.stays_open:
            return cls(_answer(replay, method), replay.finish)
        left = threading.Event()

        def leave(*_: Any) -> None:
            left.set()
            replay.finish()

        sock = cls(_answer(replay, method, left.wait), leave)
        sock.shutdown = leave  # type: ignore[method-assign]
        return sock

    def makefile(self, *_: Any, **__: Any) -> io.BufferedIOBase:
        """Return the file from which the answer is read."""
        return self._file

    def _ignore(self, *_: Any) -> None:
        pass

    # A file that was made of a socket outlives it: closing does nothing, either.
    close = sendall = settimeout = shutdown = _ignore


class _File(io.BufferedReader):
    """A file that may be flushed when it is closed: the collector lets go of it and of its response in any order."""

    def flush(self) -> None:
        if not self.closed:
            super().flush()


class _Pieces(io.RawIOBase):
    """Bytes that come a piece at a time, as from a network."""

    def __init__(self, pieces: Iterator[bytes], on_close: Callable[[], None]) -> None:
        self._pieces, self._rest, self._on_close = pieces, memoryview(b""), on_close

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._on_close()
        super().close()


def _answer(replay: Replay, method: str, stay: Callable[[], object] = lambda: None) -> Iterator[bytes]:
    take, error = replay.take, replay.take.error or {}
    if take.status is None:
        replay.finish()
        raise error_of(error)
    bare = is_bare(method, take.status)
    match = _MISSING.search(error.get("message", "")) if error.get("type") == "IncompleteRead" else None
    missing, in_chunk = (int(match[1]), bool(match[2])) if match else (0, False)
    chunked = not bare and (in_chunk or (match is None and not is_sized(take)))
    headers = framed_headers(take, method, None if bare or chunked else replay.size + missing)
    yield b"\r\n".join([*map(encode_line, head_lines(take, headers)), b"", b""])
    if not bare:
        parts = wait_for(event_parts(replay))
        pieces = _chunks(parts, missing if in_chunk else None) if chunked else parts
        # One read instead of one per event, where all are there at once, makes a tenth of a replayed stream.
        yield from [b"".join(pieces)] if isinstance(take.body, Events) and replay.speed is None else pieces
    replay.end()
    stay()
    if take.complete:
        yield b"0\r\n\r\n" if chunked else b""
    elif error.get("type") != "IncompleteRead":  # which the reader raises by itself
        raise error_of(error)


def _chunks(parts: Iterator[bytes], missing: int | None) -> Iterator[bytes]:
    """Yield each part as a chunk. Where bytes are `missing`, the last chunk is cut off that much before its end."""
    last = b""
    for part in filter(None, parts):
        ready, last = (part, b"") if missing is None else (last, part)
        if ready:
            yield b"%x\r\n%b\r\n" % (len(ready), ready)
    if missing is not None:
        yield b"%x\r\n%b" % (len(last) + missing, last)


# Recording


def record_response(
    connection: Any, recorder: Recorder, getresponse: Callable[[], Any], on_head: Callable[[Any], None]
) -> object:
    """Return the response of a connection, recorded as it is read: its body out of its chunks, compressed as it comes.

    `getresponse` reads the head of the response, and `on_head` gets the response then.
    """
    response_class = connection.response_class

    def build(*args: Any, **options: Any) -> http_client.HTTPResponse:
        response: http_client.HTTPResponse = response_class(*args, **options)

        def begin() -> None:
            del response.begin  # the class has it: a response that refers to itself would not go when it is let go of
            response.begin()
            headers = [(name, str(value)) for name, value in response.msg.items()]
            recorder.begin(
                response.status, headers, response.reason, "HTTP/1.0" if response.version == 10 else "HTTP/1.1"
            )
            on_head(response)
            if response.fp is None or response.length == 0:
                recorder.end()
            else:
                response.fp = _RecordedFile(response, recorder)  # type: ignore[assignment]

        response.begin = begin  # type: ignore[method-assign]
        return response

    connection.response_class = build
    try:
        return getresponse()
    finally:
        connection.response_class = response_class


class _RecordedFile:
    """The file that a response reads its body from; records what is read, out of its chunks."""

    def __init__(self, response: http_client.HTTPResponse, recorder: Recorder) -> None:
        self._file, self._recorder = response.fp, recorder
        self._size, self._length = 0, response.length
        self._chunks = ChunkDecoder() if response.chunked else None

    def flush(self) -> None:
        if not self._file.closed:  # the collector lets go of it and of its response in any order
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int | None = -1) -> bytes:
        wanted = -1 if size is None else size
        return self._record(lambda: self._file.read(wanted), lambda data: wanted < 0 or len(data) < wanted)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        return len(self._record(lambda: bytes(view[: self._file.readinto(buffer)]), lambda data: len(data) < len(view)))

    def read1(self, size: int = -1) -> bytes:
        return self._record(lambda: self._file.read1(size), lambda data: not data and size != 0)

    def readline(self, size: int = -1) -> bytes:
        return self._record(lambda: self._file.readline(size), lambda data: not data and size != 0)

    def _record(self, read: Callable[[], bytes], is_end: Callable[[bytes], bool]) -> bytes:
        try:
            data = read()
        except BaseException as error:
            record_error(self._recorder, error, describe_error)
            raise
        body = data if self._chunks is None else self._chunks.feed(data)
        if body:
            self._recorder.feed(body)
            self._size += len(body)
        at_end = is_end(data)
        if self._chunks is not None:
            whole, at_end = self._chunks.over, at_end or self._chunks.broken
        else:
            whole = at_end if self._length is None else self._size >= self._length
        if whole:
            self._recorder.end()
        elif at_end:
            self._recorder.fail("IncompleteRead", f"IncompleteRead({self._size} bytes read{self._missing()})")
        return data

    def _missing(self) -> str:
        if self._chunks is not None:
            return f", {self._chunks.missing} more expected in its chunk" if self._chunks.missing is not None else ""
        return "" if self._length is None else f", {self._length - self._size} more expected"

    def close(self) -> None:
        self._recorder.close()
        self._file.close()


class ChunkDecoder:
    """Decodes ``transfer-encoding: chunked``, piece by piece."""

    def __init__(self) -> None:
        # over: whether the last chunk has come
        # broken: whether something else than chunks has come
        self.over = self.broken = False
        self.missing: int | None = None  # bytes to come of the chunk that has begun; None between two chunks
        self._line = b""

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that the next bytes hold."""
        body, at = [], 0
        while at < len(data) and not (self.over or self.broken):
            if self.missing:
                piece = data[at : at + self.missing]
                body.append(piece)
                at, self.missing = at + len(piece), self.missing - len(piece)
                continue
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or len(data)]
            at = end or len(data)
            if end:
                self._end_line(self._line.partition(b";")[0].strip())
                self._line = b""
        return b"".join(body)

    def _end_line(self, line: bytes) -> None:
        if self.missing == 0:  # the line that ends a chunk
            self.missing = None
            return
        try:
            size = int(line, 16)
        except ValueError:
            size = -1
        self.over, self.broken = size == 0, size < 0
        self.missing = size if size > 0 else None
