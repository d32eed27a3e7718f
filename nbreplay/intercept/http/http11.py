"""HTTP/1.1 as `http.client` sends and reads it: what a call is, how it fails, and a replay as the bytes of a socket.

Shared by the interceptors of urllib3 and of `http.client` itself, so that framing stays the library's own code.
`nbreplay.intercept.http.http11_tee` notes what is really answered.
"""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import client as http_client
from typing import Any
from urllib.parse import urlsplit

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.headers import is_bare
from nbreplay.core.recording.response_head import Pairs, framed_headers, is_sized, phrase_of
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay
from nbreplay.errors import RecordingMissing

try:
    import ssl
except ImportError:  # Pyodide has none
    _TLS: dict[str, type[Exception]] = {}
else:
    _TLS = {"SSLCertVerificationError": ssl.SSLCertVerificationError, "SSLError": ssl.SSLError}

__all__ = ["Socket", "addressed", "body_bytes", "broken", "failed", "was_sent"]

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
_ERRNO = re.compile(r"\[Errno (-?\d{1,6})\] (.*)", re.DOTALL)
_MISSING = re.compile(r"(\d{1,18}) more expected( in its chunk)?")
_PORTS = {"http": 80, "https": 443}
_PIECE = 1 << 16


def addressed(scheme: str, host: str, port: int | None, target: str) -> tuple[str, str]:
    """Return host and target as a call names them, where the target names the host to a proxy as well.

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
    """Tell whether a take is of a call that was sent, whatever then came of its answer."""
    return take.status is not None or (take.error or {}).get("type") in _ANSWERING


def broken(given: Mapping[str, str] | None) -> Exception:
    """Return the error that a take names, of those that a connection may end with."""
    given = given or {}
    kind = _ERRORS.get(given.get("type", ""), ConnectionResetError)
    message = given.get("message") or "the connection broke here when this was recorded"
    if kind in _TLS.values():
        return kind(1, message)
    numbered = _ERRNO.fullmatch(message) if issubclass(kind, OSError) else None
    return kind(int(numbered[1]), numbered[2]) if numbered else kind(message)


def failed(recorder: Recorder, error: BaseException, *, answering: bool = False) -> None:
    """Tell a recorder that its call ended in `error`; `answering` where it was sent already."""
    if isinstance(error, RecordingMissing):
        return
    if not isinstance(error, OSError | http_client.HTTPException):
        # The program was interrupted, or the call is one that cannot be sent: no answer to keep.
        recorder.interrupt()
        return
    names = [kind.__name__ for kind in type(error).__mro__]
    if answering and not isinstance(error, http_client.HTTPException):
        names = ["ReadTimeoutError" if isinstance(error, TimeoutError) else "ReadError"]
    recorder.fail(next(name for name in names if name in _ERRORS), str(error))


# Replaying


class Socket:
    """Stands for a socket of which the bytes are there already; what is sent into it is dropped."""

    def __init__(self, pieces: Iterator[bytes] = iter(()), closed: Callable[[], None] = lambda: None) -> None:  # noqa: B008
        self._file = _File(_Raw(pieces, closed))

    @classmethod
    def of(cls, replay: Replay, method: str) -> Socket:
        """Return the socket that a replayed answer comes from."""
        if not replay.stays_open:
            return cls(_answer(replay, method), replay.finish)
        left = threading.Event()

        def leave(*_: Any) -> None:
            left.set()
            replay.finish()

        made = cls(_answer(replay, method, left.wait), leave)
        made.shutdown = leave  # type: ignore[method-assign]
        return made

    def makefile(self, *_: Any, **__: Any) -> io.BufferedIOBase:
        return self._file

    def _nothing(self, *_: Any) -> None:
        pass

    # A file that was made of a socket outlives it: closing does nothing, either.
    close = sendall = settimeout = shutdown = _nothing


class _File(io.BufferedReader):
    """A file that may be flushed when it is closed: the collector lets go of it and of its response in any order."""

    def flush(self) -> None:
        if not self.closed:
            super().flush()


class _Raw(io.RawIOBase):
    """Bytes that come a piece at a time, as from a network."""

    def __init__(self, pieces: Iterator[bytes], closed: Callable[[], None]) -> None:
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


def _answer(replay: Replay, method: str, stay: Callable[[], object] = lambda: None) -> Iterator[bytes]:
    take, error = replay.take, replay.take.error or {}
    if take.status is None:
        replay.finish()
        raise broken(error)
    bare = is_bare(method, take.status)
    found = _MISSING.search(error.get("message", "")) if error.get("type") == "IncompleteRead" else None
    missing, in_chunk = (int(found[1]), bool(found[2])) if found else (0, False)
    chunked = not bare and (in_chunk or (found is None and not is_sized(take)))
    size = None if bare or chunked else replay.size + missing
    yield _head(take, framed_headers(take, method, size))
    if not bare:
        parts = _parts(replay)
        yield from _chunks(parts, missing if in_chunk else None) if chunked else map(b"".join, parts)
    incomplete = replay.incomplete
    if incomplete is not None:
        replay.fail(incomplete)
    replay.finish()
    stay()
    if take.complete:
        yield b"0\r\n\r\n" if chunked else b""
    elif error.get("type") != "IncompleteRead":  # which the reader says itself
        raise broken(error)


def _parts(replay: Replay) -> Iterator[list[bytes]]:
    """Yield what comes at once, when it comes; each event apart, as a caller may count on it."""
    body = replay.take.body
    if replay.speed is None and isinstance(body, Events):
        yield replay.blocks()
    else:
        for delay, data in replay.parts():
            if delay > 0:
                time.sleep(delay)
            yield [data]


def _chunks(parts: Iterator[list[bytes]], missing: int | None) -> Iterator[bytes]:
    """Yield parts as chunks; of the last one `missing` bytes, and its end, do not come."""
    last = b""
    for some in parts:
        frames = [b"%x\r\n%b\r\n" % (len(part), part) for part in [last, *some] if part]
        if missing is None:
            yield b"".join(frames)
        elif frames:
            last = [last, *some][-1]
            yield b"".join(frames[:-1])
    if missing is not None:
        yield b"%x\r\n%b" % (len(last) + missing, last)


def _head(take: Take, headers: Pairs) -> bytes:
    version = "HTTP/1.0" if take.http_version == "HTTP/1.0" else "HTTP/1.1"
    lines = [f"{version} {take.status} {phrase_of(take)}", *[f"{name}: {value}" for name, value in headers]]
    return b"\r\n".join([*map(_encoded, lines), b"", b""])


def _encoded(line: str) -> bytes:
    """Return a line as `http.client` decodes it, as Latin-1; what that cannot hold another client has read as UTF-8."""
    try:
        return line.encode("latin-1")
    except UnicodeEncodeError:
        return line.encode("utf-8", "surrogateescape")
