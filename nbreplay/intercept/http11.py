"""HTTP/1.1 as `http.client` reads it: a replay as the bytes of a socket, and a response that notes what it reads.

Shared by the interceptors of urllib3 and of `http.client` itself, so that framing stays the library's own code.
"""

from __future__ import annotations

import http
import http.client
import io
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

from nbreplay.core.blob import Blob
from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.stream import Events
from nbreplay.errors import RecordingMissing

__all__ = ["Socket", "Tee", "body_bytes", "broken", "failed", "host_of", "unframed"]

# Errors of a connection that a take may name. Nothing else from a file is looked up.
_ERRORS: dict[str, type[Exception]] = {
    "BrokenPipeError": BrokenPipeError,
    "ConnectionAbortedError": ConnectionAbortedError,
    "ConnectionRefusedError": ConnectionRefusedError,
    "ConnectionResetError": ConnectionResetError,
    "OSError": OSError,
    "RemoteDisconnected": http.client.RemoteDisconnected,
    "SSLError": ssl.SSLError,
    "TimeoutError": TimeoutError,
}
_PORTS = {"http": 80, "https": 443}


def host_of(scheme: str, host: str, port: int | None) -> str:
    """Return a host as a call names it: with its port where that is not the scheme's own."""
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return host if port in (None, _PORTS.get(scheme)) else f"{host}:{port}"


def body_bytes(body: Any) -> bytes:
    """Return a request's body, read to its end where it is a file or an iterable."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    if hasattr(body, "read"):
        return body_bytes(body.read())
    return b"".join([body_bytes(piece) for piece in body])


def broken(name: str, message: str) -> Exception:
    """Return the error that a take names, of those that a connection may end with."""
    return _ERRORS.get(name, ConnectionResetError)(message or "the connection broke here when this was recorded")


def failed(recorder: Recorder, error: BaseException) -> None:
    """Tell a recorder that its call ended in `error`."""
    if isinstance(error, RecordingMissing):
        return
    if isinstance(error, KeyboardInterrupt):
        recorder.interrupt()
        return
    names = [kind.__name__ for kind in type(error).__mro__]
    recorder.fail(next((name for name in names if name in _ERRORS), "ConnectionResetError"), str(error))


class _Raw(io.RawIOBase):
    """Bytes that come a piece at a time, as from a network."""

    def __init__(self, pieces: Iterator[bytes], closed: Callable[[], None] = lambda: None) -> None:
        self._pieces, self._left, self._closed = pieces, memoryview(b""), closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._closed()
        super().close()


class Socket:
    """What `http.client.HTTPResponse` needs of a socket, with bytes that are there already."""

    def __init__(self, pieces: Iterator[bytes], closed: Callable[[], None] = lambda: None) -> None:
        self._file = io.BufferedReader(_Raw(pieces, closed))

    @classmethod
    def of(cls, replay: Replay, method: str) -> Socket:
        """Return the socket that a replayed answer comes from."""
        return cls(_answer(replay, method), replay.served)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedIOBase:
        return self._file


def _answer(replay: Replay, method: str) -> Iterator[bytes]:
    take = replay.take
    status = take.status or 200
    try:
        reason = http.HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    headers = dict(take.headers)
    bare = method == "HEAD" or status in (204, 304) or status < 200
    chunked = isinstance(take.body, Events)
    if chunked and not bare:
        headers["transfer-encoding"] = "chunked"
    elif not bare:
        size = take.body.size if isinstance(take.body, Blob) else len(take.body.data())
        # Where something is missing at the end, the reader is to find that out.
        headers["content-length"] = str(size + (not take.complete))
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {_line(value)}" for name, value in headers.items()), "", ""]
    yield "\r\n".join(lines).encode("latin-1", "replace")
    if not bare:
        for delay, data in replay.parts():
            if delay > 0:
                time.sleep(delay)
            if data:
                yield b"%x\r\n%b\r\n" % (len(data), data) if chunked else data
    incomplete = replay.incomplete
    if incomplete is not None:
        replay.fail(incomplete)
    replay.served()
    if take.complete:
        yield b"0\r\n\r\n" if chunked and not bare else b""
    elif take.error and take.error.get("type") != "IncompleteRead":
        raise broken(take.error.get("type", ""), take.error.get("message", ""))


def _line(value: str) -> str:
    # A line end in a header of a stranger's file would begin another header.
    return value.replace("\r", " ").replace("\n", " ")


class Tee:
    """Makes responses of `http.client` that note what they read of the answer."""

    def __init__(self, recorder: Recorder, kind: type[http.client.HTTPResponse], decode: Callable[..., Any]) -> None:
        self._recorder, self._kind, self._decode = recorder, kind, decode

    def __call__(self, *args: Any, **options: Any) -> http.client.HTTPResponse:
        made = self._kind(*args, **options)
        begin = made.begin

        def begun() -> None:
            begin()
            fields = [(name, str(value)) for name, value in made.msg.items()]
            self._recorder.answered(made.status, fields)
            self._decode(self._recorder, made)
            if made.fp is None or made.length == 0:
                self._recorder.end()
            else:
                made.fp = _Noting(made, self._recorder)  # type: ignore[assignment]

        made.begin = begun  # type: ignore[method-assign]
        return made


class _Noting:
    """The file that a response reads its body from, noting what is read."""

    def __init__(self, response: http.client.HTTPResponse, recorder: Recorder) -> None:
        self._file, self._response, self._recorder = response.fp, response, recorder
        self._length, self._chunked = response.length, bool(response.chunked)
        self._size, self._tail, self._over = 0, b"", False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int | None = -1) -> bytes:
        return self._noted(lambda: self._file.read(-1 if size is None else size), size)

    def read1(self, size: int = -1) -> bytes:
        return self._noted(lambda: self._file.read1(size), size)

    def readline(self, size: int = -1) -> bytes:
        return self._noted(lambda: self._file.readline(size), size)

    def readinto(self, buffer: Any) -> int:
        data = self._noted(lambda: self._file.read1(len(buffer)), len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _noted(self, read: Callable[[], bytes], size: int | None) -> bytes:
        try:
            data = read()
        except BaseException as error:
            failed(self._recorder, error)
            raise
        if data:
            self._recorder.feed(data)
            self._size += len(data)
            self._tail = (self._tail + data)[-5:]
        ended = (not data and size != 0) or size in (None, -1)
        if self._whole(ended):
            self._over = True
            self._recorder.end()
        elif ended:
            self._recorder.fail("IncompleteRead", "the connection was closed before the answer was whole")
        return data

    def _whole(self, ended: bool) -> bool:
        if self._chunked:
            return self._tail == _LAST and _terminated(self._recorder.received())
        return ended if self._length is None else self._size >= self._length

    def close(self) -> None:
        if not self._over and self._chunked and _terminated(self._recorder.received()):
            self._over = True
            self._recorder.end()
        self._recorder.close()
        self._file.close()


_LAST = b"0\r\n\r\n"


def _terminated(data: bytes) -> bool:
    """Tell whether a chunked body is there to its last chunk."""
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:end].partition(b";")[0], 16)
        except ValueError:
            return False
        if size == 0:
            return data.endswith(b"\r\n\r\n")
        at = end + 2 + size + 2
    return False


def unframed(pieces: Pieces) -> Pieces:
    """Return a chunked body out of its chunks, each piece with the time at which it came."""
    at = 0.0

    def raw() -> Iterator[bytes]:
        nonlocal at
        yield b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        for at, data in pieces:  # noqa: B007
            yield data

    again = http.client.HTTPResponse(Socket(raw()))  # type: ignore[arg-type]
    again.begin()
    found: Pieces = []
    try:
        while data := again.read1(1 << 16):
            found.append((at, data))
    except http.client.IncompleteRead as error:
        found.append((at, error.partial))
    return found
