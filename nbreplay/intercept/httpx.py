"""httpx and httpx2, sync and async: their calls to `Session`, its answers to their responses.

Both libraries have the same shape here, so that one code serves them. The hook is
`_transport_for_url`, which every call passes, whenever its client was built.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

from nbreplay.core import active
from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.recording import Take
from nbreplay.core.request import Call
from nbreplay.core.session import Replay, Session
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import guard

__all__ = ["install", "transport"]

Ask = Callable[[], Session | None]

# Errors that a take may name. Nothing else from a file is looked up in a library.
_ERRORS = frozenset(
    ["ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "WriteError", "WriteTimeout", "PoolTimeout", "CloseError", "RemoteProtocolError", "LocalProtocolError", "ProxyError", "UnsupportedProtocol", "DecodingError", "TooManyRedirects"]
)


def install(library: ModuleType) -> Callable[[], None]:
    """Hook into httpx or httpx2; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    sync, asynchronous = library.Client, library.AsyncClient
    before, before_async = sync._transport_for_url, asynchronous._transport_for_url
    plain = (library.MockTransport, library.WSGITransport, _Transport)
    plain_async = (library.MockTransport, library.ASGITransport, _Transport)

    def for_url(self: Any, url: Any) -> Any:
        inner = before(self, url)
        return inner if isinstance(inner, plain) else _Transport(active.current, inner)

    def for_url_async(self: Any, url: Any) -> Any:
        inner = before_async(self, url)
        return inner if isinstance(inner, plain_async) else _Transport(active.current, inner)

    sync._transport_for_url, asynchronous._transport_for_url = for_url, for_url_async

    def undo() -> None:
        # Where somebody has hooked in after us, theirs stays, and ours under it does nothing.
        if sync._transport_for_url is for_url:
            sync._transport_for_url = before
        if asynchronous._transport_for_url is for_url_async:
            asynchronous._transport_for_url = before_async

    return undo


def transport(
    store: str | os.PathLike[str] | None = None,
    mode: str | None = None,
    *,
    speed: float | None = None,
    ignore: Iterable[str] = (),
    mask: Iterable[str] = (),
    only: Iterable[str] | None = None,
    inner: Any = None,
) -> Any:
    """Return a transport for an httpx or httpx2 client, sync or async, that records and replays without patching.

    Parameters
    ----------
    store, mode, speed, ignore, mask, only
        As for `nbreplay.session`. What the transport says goes before any session.
    inner : transport, optional
        What sends the calls that are not replayed; the library's own, if not given.

    Returns
    -------
    transport
        Its ``session`` has the interactions.

    Examples
    --------
    ``OpenAI(http_client=httpx2.Client(transport=nbreplay.transport("recordings")))``
    """
    from nbreplay.intercept.switch import opened

    session = opened(store, mode=mode, speed=speed, ignore=ignore, mask=mask, only=only)
    made = _Transport(lambda: session, inner)
    made.session = session
    return made


class _Transport:
    """Stands before a library's transport and asks a session what becomes of each call."""

    session: Session | None = None

    def __init__(self, ask: Ask, inner: Any) -> None:
        self._ask, self._inner, self._own = ask, inner, inner is None

    def handle_request(self, request: Any) -> Any:
        session = self._ask()
        if session is None:
            return self._inner.handle_request(request)
        decision = session.ask(_call(request, request.read()))
        if isinstance(decision, Replay):
            return _response(request, decision)
        inner = self._sender(request, "HTTPTransport")
        if decision is None:
            with guard.permitted(request.url.host):
                return inner.handle_request(request)
        try:
            with guard.permitted(request.url.host):
                response = inner.handle_request(request)
        except BaseException as error:
            _failed(decision, error)
            raise
        return _tee(request, response, decision, _SyncTee)

    async def handle_async_request(self, request: Any) -> Any:
        session = self._ask()
        if session is None:
            return await self._inner.handle_async_request(request)
        decision = session.ask(_call(request, await request.aread()))
        if isinstance(decision, Replay):
            return _response(request, decision)
        inner = self._sender(request, "AsyncHTTPTransport")
        if decision is None:
            with guard.permitted(request.url.host):
                return await inner.handle_async_request(request)
        try:
            with guard.permitted(request.url.host):
                response = await inner.handle_async_request(request)
        except BaseException as error:
            _failed(decision, error)
            raise
        return _tee(request, response, decision, _AsyncTee)

    def _sender(self, request: Any, name: str) -> Any:
        if self._inner is None:
            self._inner = getattr(_library(request), name)()
        return self._inner

    def close(self) -> None:
        self._stop()
        if self._inner is not None:
            self._inner.close()

    async def aclose(self) -> None:
        self._stop()
        if self._inner is not None:
            await self._inner.aclose()

    def _stop(self) -> None:
        if self.session is not None:
            self.session.flush()

    def __enter__(self) -> _Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> _Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _library(request: Any) -> ModuleType:
    return sys.modules[type(request).__module__.partition(".")[0]]


def _call(request: Any, body: bytes) -> Call:
    url, raw = request.url, request.headers.raw
    content_type = ""
    for name, value in raw:
        if name.lower() == b"content-type":
            content_type = value.decode("latin-1")
            break
    library = _library(request)
    return Call(
        request.method,
        url.netloc.decode("ascii"),
        url.raw_path.decode("ascii"),
        content_type,
        body,
        raw,
        f"{library.__name__} {getattr(library, '__version__', '')}",
    )


def _failed(recorder: Recorder, error: BaseException) -> None:
    if isinstance(error, RecordingMissing):
        return
    if type(error).__name__ in _ERRORS:
        recorder.fail(type(error).__name__, str(error))
    elif isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        recorder.interrupt()
    else:
        recorder.fail("ReadError", f"{type(error).__name__}: {error}")


def _error(request: Any, take: Take) -> Exception:
    given = take.error or {}
    name = given.get("type", "ReadError")
    kind = getattr(_library(request), name if name in _ERRORS else "ReadError")
    made: Exception = kind(given.get("message") or "the connection broke here when this was recorded", request=request)
    return made


def _response(request: Any, replay: Replay) -> Any:
    take = replay.take
    if take.status is None:
        replay.served()
        raise _error(request, take)
    headers = [(name, value) for name, value in take.headers.items()]
    if take.transient and "retry-after-ms" not in take.headers:
        # Nobody sleeps through the back-off of a failure that was recorded.
        headers.append(("retry-after-ms", "1"))
    library = _library(request)
    return library.Response(take.status, headers=headers, stream=_stream_of(library)(request, replay))


_streams: dict[str, Any] = {}


def _stream_of(library: ModuleType) -> Any:
    """Return the class of replayed streams, which the library wants to be one of its own."""
    made = _streams.get(library.__name__)
    if made is None:
        made = _streams[library.__name__] = type(
            "ReplayStream", (_Replayed, library.SyncByteStream, library.AsyncByteStream), {}
        )
    return made


class _Replayed:
    """The body of a replayed response, at once or at its recorded pace."""

    def __init__(self, request: Any, replay: Replay) -> None:
        self._request, self._replay = request, replay

    def __iter__(self) -> Iterator[bytes]:
        for delay, data in self._replay.parts():
            if delay > 0:
                time.sleep(delay)
            yield data
        self._over()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for delay, data in self._replay.parts():
            if delay > 0:
                await asyncio.sleep(delay)
            yield data
        self._over()

    def _over(self) -> None:
        take = self._replay.take
        incomplete = self._replay.incomplete
        if incomplete is not None:
            self._replay.fail(incomplete)
        self._replay.served()
        if not take.complete:
            raise _error(self._request, take)

    def close(self) -> None:
        self._replay.served()

    async def aclose(self) -> None:
        self._replay.served()


def _tee(request: Any, response: Any, recorder: Recorder, kind: type) -> Any:
    library = _library(request)
    recorder.answered(response.status_code, response.headers.multi_items())
    if response.headers.get("content-encoding", "identity") != "identity":
        recorder.decode = _decoder(library, response.status_code, response.headers)
    if hasattr(response, "_content"):
        # A transport that answers out of memory: nobody will iterate the stream.
        recorder.decode = None
        recorder.feed(response.content)
        recorder.end()
        return response
    base = library.SyncByteStream if kind is _SyncTee else library.AsyncByteStream
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
        feed = self._recorder.feed
        try:
            for data in self._inner:
                feed(data)
                yield data
        except GeneratorExit:
            self._recorder.close()
            raise
        except BaseException as error:
            _failed(self._recorder, error)
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
        feed = self._recorder.feed
        try:
            async for data in self._inner:
                feed(data)
                yield data
        except GeneratorExit:
            self._recorder.close()
            raise
        except BaseException as error:
            _failed(self._recorder, error)
            raise
        self._recorder.end()

    async def aclose(self) -> None:
        self._recorder.close()
        await self._inner.aclose()


def _decoder(library: ModuleType, status: int, headers: Any) -> Callable[[Pieces], Pieces]:
    """Return what undoes the content encoding, by the library's own code and piece by piece, so that times stay true."""

    def decode(pieces: Pieces) -> Pieces:
        at = 0.0

        def raw() -> Iterator[bytes]:
            nonlocal at
            for at, data in pieces:  # noqa: B007
                yield data

        body = type("Body", (library.SyncByteStream,), {"__iter__": lambda self: raw()})()
        encoding = {"content-encoding": headers["content-encoding"]}
        response = library.Response(
            status, headers=encoding, stream=body, request=library.Request("GET", "http://localhost")
        )
        decoded: Pieces = []
        try:
            for data in response.iter_bytes():
                decoded.append((at, data))
        except library.DecodingError:  # cut short
            pass
        return decoded

    return decode
