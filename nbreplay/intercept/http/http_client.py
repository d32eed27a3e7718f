"""`http.client`, and so `urllib.request`, `xmlrpc` and `pandas.read_csv` of a URL.

A request is decided when its head is complete; where a program sends the body after it, when it asks for the answer.
A replay comes as the bytes of a socket, and a recording is what a response reads from its file, so that framing stays
the library's own code. urllib3 is built on `http.client`, and its interceptor on this one.
"""

from __future__ import annotations

import io
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import BadStatusLine, HTTPException, HTTPResponse, RemoteDisconnected, UnknownProtocol
from types import ModuleType
from typing import Any

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.headers import is_bare, is_sized
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import HTTP11
from nbreplay.core.replay import Replay
from nbreplay.core.session import current_session
from nbreplay.intercept import patching
from nbreplay.intercept.http.exchange import (
    CUT_OFF,
    Exchange,
    encode_line,
    errno_and_text,
    head_of,
    host_and_target,
    record_errors,
)
from nbreplay.intercept.network import guard

_REQUEST = "_nbreplay_request"
_CHARSET = "iso-8859-1"  # of text that a program sends
_LIBRARY = f"http.client {platform.python_version()}"
_MISSING = re.compile(r"(\d{1,18}) more expected( in its chunk)?")
_PIECE = 1 << 16


def _by_name(*kinds: type[Exception]) -> dict[str, type[Exception]]:
    return {kind.__name__: kind for kind in kinds}


try:
    import ssl
except ImportError:  # Pyodide has none
    _TLS: dict[str, type[Exception]] = {}
else:
    _TLS = _by_name(ssl.SSLCertVerificationError, ssl.SSLError)

# Errors that a take may name, some of them by another library's name. Nothing else from a file is looked up.
_ANSWERING: dict[str, type[Exception]] = {  # of a call that was sent
    **_by_name(BadStatusLine, HTTPException, RemoteDisconnected, UnknownProtocol),
    "ReadError": ConnectionResetError,
    "ReadTimeout": TimeoutError,
    "ReadTimeoutError": TimeoutError,
}
_ERRORS: dict[str, type[Exception]] = {
    **_ANSWERING,
    **_TLS,
    **_by_name(BrokenPipeError, ConnectionAbortedError, ConnectionRefusedError, ConnectionResetError, OSError),
    **_by_name(TimeoutError, socket.gaierror),
    "ConnectError": ConnectionRefusedError,
    "ConnectTimeout": TimeoutError,
}


def install(module: ModuleType) -> patching.Undo:
    """Hook into `http.client`."""
    connection = module.HTTPConnection
    before_output, before_send, before_answer = connection._send_output, connection.send, connection.getresponse

    def send_output(self: Any, message_body: Any = None, encode_chunked: bool = False) -> None:
        vars(self).pop(_REQUEST, None)
        if guard.is_permitted():
            before_output(self, message_body, encode_chunked)
            return
        vars(self)[_REQUEST] = request = _Request(self)
        body, data = message_body, b""
        if request.exchange.needs_body:
            if body is None and request.announces_body:
                # The body comes later, by send(): until then it is not known what is asked.
                request.is_waiting = True
                del self._buffer[:]
                self.sock = self.sock or ReplaySocket()
                return
            if body is not None:
                body = data = body_bytes(body, _CHARSET)
        if request.is_replayed(self, data):
            del self._buffer[:]
            return
        with request.exchange.sending(self.host, describe_error):
            before_output(self, body, encode_chunked)

    def send(self: Any, data: Any) -> None:
        request = vars(self).get(_REQUEST)
        if request is not None and request.is_waiting:
            request.sent.append(body_bytes(data, _CHARSET))
        else:
            before_send(self, data)

    def getresponse(self: Any) -> Any:
        request = vars(self).pop(_REQUEST, None)
        if request is not None and request.is_waiting:
            _remove_socket(self)
            body = b"".join(request.sent)
            if not request.is_replayed(self, _ChunkDecoder().feed(body) if request.is_chunked else body):
                with request.exchange.sending(self.host, describe_error):
                    before_send(self, b"\r\n".join([*request.head, b"", body]))
        recorder = request and request.exchange.recorder
        if recorder is None:
            try:
                return before_answer(self)
            finally:
                _remove_socket(self)
        recorder.keep_encoding()
        with record_errors(recorder, _describe_read_error):
            return record_response(self, recorder, lambda: before_answer(self))

    return patching.put(
        (connection, "_send_output", send_output), (connection, "send", send), (connection, "getresponse", getresponse)
    )


class _Request:
    """A request of which the head is complete."""

    def __init__(self, connection: Any) -> None:
        self.is_waiting = False  # whether the session is asked only when the program asks for the answer
        self.head = list(connection._buffer)
        self.sent: list[bytes] = []  # pieces that the program has sent after the head, perhaps as chunks of its own
        self._method, target = self.head[0].decode("latin-1").split(" ")[:2]
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in self.head[1:])]
        by_name = {name.lower(): value for name, value in headers}
        self.is_chunked = by_name.get(b"transfer-encoding") == b"chunked"
        self.announces_body = b"transfer-encoding" in by_name or by_name.get(b"content-length", b"0") != b"0"
        scheme = "https" if connection.default_port == 443 else "http"
        address = connection._tunnel_host or connection.host, connection._tunnel_port or connection.port
        host, target = host_and_target(scheme, *address, target)
        self.exchange = Exchange(current_session(), self._method, host, target, headers, _LIBRARY)

    def is_replayed(self, connection: Any, body: bytes) -> bool:
        """Ask the session. If the answer is replayed, the connection gets a socket from which it comes."""
        replay = self.exchange.replay(body)
        if replay is None:
            return False
        error = replay.take.error or {}
        if replay.take.status is None and error.get("type") not in _ANSWERING:
            replay.finish()
            raise error_of(error)
        if connection.sock is not None:
            connection.sock.close()
        connection.sock = ReplaySocket(replay, self._method)
        return True


def _remove_socket(connection: Any) -> None:
    """Take a socket of ours from a connection, so that it opens one of its own when something is really sent."""
    if isinstance(connection.sock, ReplaySocket):
        connection.sock = None


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


def error_of(recorded: Mapping[str, str]) -> Exception:
    """Return the error that a take names, of those that a connection may end with."""
    kind = _ERRORS.get(recorded.get("type", ""), ConnectionResetError)
    message = recorded.get("message") or CUT_OFF
    if kind in _TLS.values():
        return kind(1, message)
    return kind(*((issubclass(kind, OSError) and errno_and_text(message)) or (message,)))


def describe_error(error: BaseException) -> tuple[str, str] | None:
    """Describe an error of a call before its answer is awaited; None where it cannot be sent."""
    if not isinstance(error, OSError | HTTPException):
        return None
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), str(error)


def _describe_read_error(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, OSError) and not isinstance(error, HTTPException):
        return ("ReadTimeoutError" if isinstance(error, TimeoutError) else "ReadError"), str(error)
    return describe_error(error)


# Replaying


class ReplaySocket:
    """Stands for a socket, and answers with a take. What is sent into it is dropped."""

    def __init__(self, replay: Replay | None = None, method: str = "") -> None:
        left = threading.Event()

        def leave(*_: Any) -> None:
            left.set()
            if replay is not None:
                replay.finish()

        pieces = iter(()) if replay is None else _answer(replay, method, left)
        self._file, self.shutdown = _File(_Pieces(pieces, leave)), leave

    def makefile(self, *_: Any, **__: Any) -> io.BufferedIOBase:
        """Return the file from which the answer is read."""
        return self._file

    def _ignore(self, *_: Any) -> None:
        pass

    # A file that was made of a socket outlives it: closing does nothing, either.
    close = sendall = settimeout = _ignore


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
        while not self._rest and (piece := next(self._pieces, None)) is not None:
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._on_close()
        super().close()


def _answer(replay: Replay, method: str, left: threading.Event) -> Iterator[bytes]:
    take, error = replay.take, replay.take.error or {}
    if take.status is None:
        replay.finish()
        raise error_of(error)
    bare = is_bare(method, take.status)
    match = _MISSING.search(error.get("message", "")) if error.get("type") == "IncompleteRead" else None
    missing, in_chunk = (int(match[1]), bool(match[2])) if match else (0, False)
    chunked = not bare and (in_chunk or (match is None and not is_sized(take)))
    yield head_of(take, method, None if bare or chunked else replay.size + missing, encode_line)
    if not bare:
        parts = replay.pieces(by_event=True)
        pieces = _chunks(parts, missing if in_chunk else None) if chunked else parts
        # One read instead of one per event, where all are there at once, makes a tenth of a replayed stream.
        at_once = isinstance(take.body, Events) and replay.speed is None and replay.turnstile is None
        yield from [b"".join(pieces)] if at_once else pieces
    replay.end()
    if replay.stays_open:
        left.wait()
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
    connection: Any, recorder: Recorder, getresponse: Callable[[], Any], on_head: Callable[[Any], None] = lambda _: None
) -> object:
    """Return the response of a connection, recorded as it is read: its body out of its chunks, compressed as it comes.

    `getresponse` reads the head of the response, and `on_head` gets the response then.
    """
    response_class = connection.response_class

    def build(*args: Any, **options: Any) -> HTTPResponse:
        response: HTTPResponse = response_class(*args, **options)

        def begin() -> None:
            del response.begin  # the class has it: a response that refers to itself would not go when it is let go of
            response.begin()
            headers = [(name, str(value)) for name, value in response.msg.items()]
            version = "HTTP/1.0" if response.version == 10 else HTTP11
            recorder.begin(response.status, headers, response.reason, version)
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

    def __init__(self, response: HTTPResponse, recorder: Recorder) -> None:
        self._file, self._recorder = response.fp, recorder
        self._size, self._length = 0, response.length
        self._chunks = _ChunkDecoder() if response.chunked else None

    def flush(self) -> None:
        if not self._file.closed:  # the collector lets go of it and of its response in any order
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int | None = -1) -> bytes:
        return self._record(self._file.read, -1 if size is None else size, fills=True)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        return len(self._record(lambda _: bytes(view[: self._file.readinto(buffer)]), len(view), fills=True))

    def read1(self, size: int = -1) -> bytes:
        return self._record(self._file.read1, size)

    def readline(self, size: int = -1) -> bytes:
        return self._record(self._file.readline, size)

    def _record(self, read: Callable[[int], bytes], size: int, *, fills: bool = False) -> bytes:
        """Read and record; `fills` says that only the end makes the data shorter than `size`."""
        with record_errors(self._recorder, describe_error):
            data = read(size)
        chunks, length = self._chunks, self._length
        body = data if chunks is None else chunks.feed(data)
        if body:
            self._recorder.feed(body)
            self._size += len(body)
        at_end = (size < 0 or len(data) < size) if fills else (not data and size != 0)
        if chunks is not None:
            whole, at_end, missing = chunks.over, at_end or chunks.broken, chunks.missing
        elif length is None:
            whole, missing = at_end, None
        else:
            missing = length - self._size
            whole = missing <= 0
        if whole:
            self._recorder.end()
        elif at_end:
            rest = "" if missing is None else f", {missing} more expected{' in its chunk' if chunks else ''}"
            self._recorder.fail("IncompleteRead", f"IncompleteRead({self._size} bytes read{rest})")
        return data

    def close(self) -> None:
        self._recorder.close()
        self._file.close()


class _ChunkDecoder:
    """Decodes ``transfer-encoding: chunked``, piece by piece."""

    def __init__(self) -> None:
        self.over = False  # whether the last chunk has come
        self.broken = False  # whether something else than chunks has come
        self.missing: int | None = None  # bytes to come of the chunk that has begun; None between two chunks
        self._line = b""

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that the next bytes hold."""
        body, file = [], io.BytesIO(self._line + data)
        self._line = b""
        while not (self.over or self.broken):
            if self.missing:
                piece = file.read(self.missing)
                body.append(piece)
                self.missing -= len(piece)
                if not piece:
                    break
            elif not (line := file.readline()).endswith(b"\n"):
                self._line = line
                break
            elif self.missing == 0:  # the line that ends a chunk
                self.missing = None
            else:
                try:
                    size = int(line.partition(b";")[0], 16)
                except ValueError:
                    size = -1
                self.over, self.broken, self.missing = size == 0, size < 0, size if size > 0 else None
        return b"".join(body)
