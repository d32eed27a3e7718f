"""Bodies of httpx's and httpx2's responses: replayed out of a take, or passed on and taken down."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.recording.headers import HTTP11, is_bare
from nbreplay.core.recording.response_head import phrase_of, recorded_length, response_headers
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay
from nbreplay.errors import RecordingMissing

__all__ = ["failed", "library_of", "named", "response_of", "tee"]

# Errors that a take may name. Nothing else from a file is looked up in a library.
_ERRORS = frozenset(
    [
        "ConnectError",
        "ConnectTimeout",
        "ReadError",
        "ReadTimeout",
        "WriteError",
        "WriteTimeout",
        "PoolTimeout",
        "CloseError",
        "RemoteProtocolError",
        "LocalProtocolError",
        "ProxyError",
        "UnsupportedProtocol",
        "DecodingError",
        "TooManyRedirects",
    ]
)


@functools.cache
def _library(kind: Any) -> ModuleType:
    roots = [base.__module__.partition(".")[0] for base in kind.__mro__]
    return sys.modules[next(root for root in roots if root in ("httpx", "httpx2"))]


def library_of(request: Any) -> ModuleType:
    """Return the library, httpx or httpx2, that a request is one of."""
    return _library(request.__class__)


def named(library: ModuleType) -> str:
    """Return a library with its version, as a take names it."""
    return f"{library.__name__} {getattr(library, '__version__', '')}"


def failed(recorder: Recorder, error: BaseException) -> None:
    """Tell a recorder that its call ended in `error`."""
    if isinstance(error, RecordingMissing):
        return
    if type(error).__name__ in _ERRORS:
        recorder.fail(type(error).__name__, str(error))
    elif isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        recorder.interrupt()
    else:
        recorder.fail("ReadError", f"{type(error).__name__}: {error}")


def _error_of(request: Any, take: Take) -> Exception:
    given = take.error or {}
    name = given.get("type", "ReadError")
    kind = getattr(library_of(request), name if name in _ERRORS else "ReadError")
    made: Exception = kind(given.get("message", "the connection broke here when this was recorded"), request=request)
    return made


def response_of(request: Any, replay: Replay) -> Any:
    """Return a response of the library's own type; raise its own error, where that is what was recorded."""
    take = replay.take
    if take.status is None:
        replay.finish()
        raise _error_of(request, take)
    library, whole = _library(request.__class__), replay.whole()
    stream = _stream_class(library)(request, replay) if whole is None else library.ByteStream(whole)
    headers, encoding = response_headers(take, _length(request, replay, whole)), None
    try:
        raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers]
        encoding = "ascii"  # the library would find it out by decoding them all
    except UnicodeEncodeError:
        raw = [(_header(name), _header(value)) for name, value in headers]
    made = library.Response(take.status, headers=raw, stream=stream, extensions=_extensions(take))
    made.headers.encoding = encoding
    return made


def _length(request: Any, replay: Replay, whole: bytes | None) -> int | str | None:
    """Return what ``content-length`` says, where it was recorded."""
    take = replay.take
    if "content-length" not in take.headers:
        return None
    if is_bare(request.method, take.status) or not take.complete:
        return recorded_length(take)
    return replay.size if whole is None else len(whole)


def _extensions(take: Take) -> dict[str, Any]:
    """Return what the library's transport says of an answer besides its headers."""
    version = take.http_version.encode("ascii")
    if take.reason_phrase is None and not version.startswith(b"HTTP/1"):
        return {"http_version": version}  # where there are no phrases
    return {"http_version": version, "reason_phrase": _phrase(phrase_of(take))}


@functools.lru_cache(maxsize=256)
def _phrase(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return _header(text)


def _header(text: str) -> bytes:
    # As they were sent, or else what is decoded to the same text. aiohttp keeps odd bytes as surrogate escapes.
    return text.encode("utf-8", "surrogateescape")


_streams: dict[str, Any] = {}


def _stream_class(library: ModuleType) -> Any:
    """Return the class of replayed streams, which the library wants to be one of its own."""
    made = _streams.get(library.__name__)
    if made is None:
        made = _streams[library.__name__] = type(
            "ReplayStream", (_Replayed, library.SyncByteStream, library.AsyncByteStream), {}
        )
    return made


class _Replayed:
    """The body of a replayed response, at once or at its recorded pace."""

    _closed = False
    _left: Any = None

    def __init__(self, request: Any, replay: Replay) -> None:
        self._request, self._replay = request, replay

    def __iter__(self) -> Iterator[bytes]:
        for delay, data in self._replay.parts():
            if delay > 0:
                time.sleep(delay)
            yield data
        if self._replay.stays_open:
            self._stay(left := threading.Event())
            left.wait()
        self._over()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for delay, data in self._replay.parts():
            if delay > 0:
                await asyncio.sleep(delay)
            yield data
        if self._replay.stays_open:
            self._stay(left := asyncio.Event())
            await left.wait()
        self._over()

    def _stay(self, left: Any) -> None:
        """Have an event set when the caller leaves, who has all that was recorded."""
        self._replay.finish()
        self._left = left
        if self._closed:
            left.set()

    def _over(self) -> None:
        replay = self._replay
        if not replay.take.complete and (incomplete := replay.incomplete):
            replay.fail(incomplete)
        replay.finish()
        if not replay.take.complete:
            raise _error_of(self._request, replay.take)

    def close(self) -> None:
        self._closed = True
        if self._left is not None:
            self._left.set()
        self._replay.finish()

    async def aclose(self) -> None:
        self.close()


def tee(request: Any, response: Any, recorder: Recorder, *, asynchronous: bool) -> Any:
    """Have what comes of a response noted by a recorder, as it is passed on; return the response."""
    library = library_of(request)
    version, phrase = (response.extensions.get(name) for name in ("http_version", "reason_phrase"))
    recorder.begin(
        response.status_code,
        response.headers.multi_items(),
        phrase.decode("latin-1") if isinstance(phrase, bytes) else None,
        version.decode("latin-1") if isinstance(version, bytes) else HTTP11,
    )
    if response.headers.get("content-encoding", "identity") != "identity":
        recorder.decode = _decoder(library, recorder, response.headers)
    if hasattr(response, "_content"):
        # A transport that answers out of memory: nobody will iterate the stream.
        recorder.decode = None
        recorder.feed(response.content)
        recorder.end()
        return response
    kind, base = (_AsyncTee, library.AsyncByteStream) if asynchronous else (_SyncTee, library.SyncByteStream)
    name = f"{library.__name__}.{kind.__name__}"
    made = _streams.get(name)
    if made is None:
        made = _streams[name] = type(kind.__name__.strip("_"), (kind, base), {})
    response.stream = made(response.stream, recorder)
    return response


class _SyncTee:
    """Passes a body on as it comes, and notes it."""

    def __init__(self, inner: Any, recorder: Recorder) -> None:
        self._inner, self._recorder = inner, recorder

    def __iter__(self) -> Iterator[bytes]:
        note, clock = self._recorder.note, time.perf_counter
        try:
            for data in self._inner:
                note((clock(), data))
                yield data
        except GeneratorExit:
            self._recorder.close()
            raise
        except BaseException as error:
            failed(self._recorder, error)
            raise
        self._recorder.end()

    def close(self) -> None:
        self._recorder.close()
        self._inner.close()


class _AsyncTee:
    """Passes a body on as it comes, and notes it."""

    def __init__(self, inner: Any, recorder: Recorder) -> None:
        self._inner, self._recorder = inner, recorder

    async def __aiter__(self) -> AsyncIterator[bytes]:
        note, clock = self._recorder.note, time.perf_counter
        try:
            async for data in self._inner:
                note((clock(), data))
                yield data
        except GeneratorExit:
            self._recorder.close()
            raise
        except BaseException as error:
            failed(self._recorder, error)
            raise
        self._recorder.end()

    async def aclose(self) -> None:
        self._recorder.close()
        await self._inner.aclose()


def _decoder(library: ModuleType, recorder: Recorder, headers: Any) -> Callable[[Pieces], Pieces]:
    """Return what undoes the content encoding, by the library's own code, piece by piece so that times stay true."""

    def decode(pieces: Pieces) -> Pieces:
        at, whole = 0.0, False

        def raw() -> Iterator[bytes]:
            nonlocal at, whole
            for at, data in pieces:  # noqa: B007
                yield data
            whole = True

        body = type("Body", (library.SyncByteStream,), {"__iter__": lambda _: raw()})()
        encoding = {"content-encoding": headers["content-encoding"]}
        response = library.Response(
            200, headers=encoding, stream=body, request=library.Request("GET", "http://localhost")
        )
        decoded: Pieces = []
        try:
            for data in response.iter_bytes():
                decoded.append((at, data))
        except library.DecodingError:
            if not whole:
                # It is not what its header tells: the caller is told so again.
                recorder.keep("content-encoding")
                return pieces
        return decoded

    return decode
