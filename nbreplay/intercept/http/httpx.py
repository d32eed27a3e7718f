"""httpx and httpx2, sync and async. Both have the same shape here, so that one module serves them.

The hook is `_transport_for_url`, which every call passes, whenever its client was built.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, overload

from nbreplay.core.config import ModeName
from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.recording.headers import is_bare, phrase_of, recorded_length, response_headers
from nbreplay.core.recording.take import HTTP11, Take
from nbreplay.core.recording.websocket import is_websocket
from nbreplay.core.replay import Replay
from nbreplay.core.session import Session, current_session
from nbreplay.core.turns import Pause, wait, wait_async
from nbreplay.core.websocket import WebSocketRecorder, WebSocketReplay
from nbreplay.intercept import patching
from nbreplay.intercept.http.exchange import CUT_OFF, Exchange, encode_line, record_error
from nbreplay.intercept.http.websocket_frames import opening_headers
from nbreplay.intercept.network import guard

if TYPE_CHECKING:
    import httpx
    import httpx2

    _Request: TypeAlias = httpx.Request | httpx2.Request
    _Response: TypeAlias = httpx.Response | httpx2.Response
    _Inner: TypeAlias = (
        httpx.BaseTransport | httpx.AsyncBaseTransport | httpx2.BaseTransport | httpx2.AsyncBaseTransport
    )

    class _Base(  # type: ignore[misc]  # `_Hook` has one method for both libraries
        httpx.BaseTransport, httpx.AsyncBaseTransport, httpx2.BaseTransport, httpx2.AsyncBaseTransport
    ):
        """What type checkers want of a client's transport; the clients themselves do not look at its class."""

else:
    _Base = object

# Errors that a take may name. Nothing else from a file is looked up in a library.
_ERRORS = frozenset(
    [
        *("CloseError", "ConnectError", "ConnectTimeout", "DecodingError", "LocalProtocolError", "PoolTimeout"),
        *("ProxyError", "ReadError", "ReadTimeout", "RemoteProtocolError", "TooManyRedirects", "UnsupportedProtocol"),
        *("WriteError", "WriteTimeout"),
    ]
)


def install(library: ModuleType) -> patching.Undo:
    """Hook into httpx or httpx2."""
    in_process = (library.MockTransport, library.WSGITransport, library.ASGITransport, _Hook)

    def hook(client: Any) -> tuple[Any, str, Any]:
        before = client._transport_for_url

        def transport_for_url(self: Any, url: Any) -> Any:
            inner = before(self, url)
            if isinstance(inner, in_process) or guard.is_permitted():
                return inner
            return _Hook(current_session, inner)

        return client, "_transport_for_url", transport_for_url

    return patching.put(hook(library.Client), hook(library.AsyncClient))


def transport(
    store: str | os.PathLike[str] | None = None,
    mode: ModeName | None = None,
    *,
    speed: float | None = None,
    ignore: Iterable[str] = (),
    mask: Iterable[str] = (),
    only: Iterable[str] | None = None,
    inner: _Inner | None = None,
) -> Transport:
    """Return a transport for a client of httpx or httpx2, sync or async.

    The client's calls are recorded and replayed, and nothing else is patched.

    Parameters
    ----------
    store, mode, speed, ignore, mask, only
        As for `nbreplay.session`. They go before those of any session.
    inner : transport, optional
        Sends the calls that are not replayed; the library's own, if not given.

    Returns
    -------
    Transport
        Its attribute ``session`` has the interactions.

    Examples
    --------
    >>> import nbreplay as nr
    >>> from openai import DefaultHttpxClient, OpenAI
    >>> transport = nr.transport("recordings", mode="replay")
    >>> client = OpenAI(
    ...     api_key="none", http_client=DefaultHttpxClient(transport=transport)
    ... )
    >>> answer = client.chat.completions.create(
    ...     model="gpt-4o",
    ...     messages=[{"role": "user", "content": "Weather in Tokyo?"}],
    ... )
    >>> transport.session.interactions[0].outcome
    'replayed'
    """
    from nbreplay.intercept.registry import open_session

    session = open_session(store, mode=mode, speed=speed, ignore=ignore, mask=mask, only=only)
    return Transport(session, inner)


class _Hook(_Base):
    """Stands before a library's transport, and asks a session about each call."""

    def __init__(self, current: Callable[[], Session | None], inner: Any) -> None:
        self._current, self._inner = current, inner

    @overload
    def handle_request(self, request: httpx.Request) -> httpx.Response: ...
    @overload
    def handle_request(self, request: httpx2.Request) -> httpx2.Response: ...
    def handle_request(self, request: _Request) -> _Response:
        """Answer a request as the session decides; the client calls it."""
        exchange = self._exchange(request)
        replay = exchange.replay(request.read() if exchange.needs_body else b"")
        if replay is not None:
            return exchange.respond(request, replay, is_async=False)
        self._inner = self._inner or _library(request).HTTPTransport()
        with exchange.sending(request.url.host, describe_error):
            response: _Response = self._inner.handle_request(request)
        return exchange.record(request, response, is_async=False)

    @overload
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response: ...
    @overload
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response: ...
    async def handle_async_request(self, request: _Request) -> _Response:
        """Do as `handle_request` does, for a client that is async."""
        exchange = self._exchange(request)
        replay = exchange.replay(await request.aread() if exchange.needs_body else b"")
        if replay is not None:
            return exchange.respond(request, replay, is_async=True)
        self._inner = self._inner or _library(request).AsyncHTTPTransport()
        with exchange.sending(request.url.host, describe_error):
            response: _Response = await self._inner.handle_async_request(request)
        return exchange.record(request, response, is_async=True)

    def _exchange(self, request: _Request) -> _Exchange:
        library, url = _library(request), request.url
        host, target = url.netloc.decode("ascii"), url.raw_path.decode("ascii")
        name, session = f"{library.__name__} {library.__version__}", self._current()
        kind = _Exchange
        if session is not None and request.headers.get("upgrade", "").lower() == "websocket":
            if library.__name__ == "httpx" and _is_httpx_ws():
                kind = _WebSocketExchange
            else:
                session.pass_websocket(f"{library.__name__} ({host}{url.path})", host)
                session = None
        return kind(session, request.method, host, target, request.headers.raw, name)

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Exchange(Exchange):
    """A call of the library: a session's answers become its responses."""

    def respond(self, request: _Request, replay: Replay, *, is_async: bool) -> _Response:  # noqa: ARG002
        """Return the answer that the session gives."""
        return response_of(request, replay)

    def record(self, request: _Request, response: _Response, *, is_async: bool) -> _Response:  # noqa: ARG002
        """Return the answer that has come, which is recorded if the session wants it."""
        return record_response(request, response, self.recorder)


class _WebSocketExchange(_Exchange):
    """The call with which httpx-ws opens a websocket; it takes the connection from the answer."""

    _websocket: WebSocketReplay | None = None

    def replay(self, body: bytes) -> Replay | None:  # noqa: ARG002
        assert self._session is not None
        decision = self._session.ask_websocket(self._call, self._mode)
        if isinstance(decision, WebSocketReplay):
            self._websocket = decision
            return decision.replay
        self.recorder = decision
        return None

    def respond(self, request: _Request, replay: Replay, *, is_async: bool) -> _Response:
        if self._websocket is None or not is_websocket(replay.take):
            return super().respond(request, replay, is_async=is_async)  # the handshake was refused
        from nbreplay.intercept.http.httpx_websocket import replay_stream

        key = request.headers.get("sec-websocket-key", "")
        headers = [(name.encode(), value.encode()) for name, value in opening_headers(replay.take, key)]
        extensions = {"http_version": b"HTTP/1.1", "network_stream": replay_stream(self._websocket, is_async)}
        response: _Response = _library(request).Response(101, headers=headers, content=b"", extensions=extensions)
        return response

    def record(self, request: _Request, response: _Response, *, is_async: bool) -> _Response:
        recorder = self.recorder
        if response.status_code != 101 or not isinstance(recorder, WebSocketRecorder):
            return super().record(request, response, is_async=is_async)
        from nbreplay.intercept.http.httpx_websocket import record_stream

        recorder.begin(101, response.headers.multi_items(), None, HTTP11)
        stream = record_stream(response.extensions["network_stream"], recorder, describe_error, is_async)
        response.extensions["network_stream"] = stream
        return response


def _is_httpx_ws() -> bool:
    """Tell whether it may be httpx-ws that opens a websocket, under asyncio if it is async: all that is replayed."""
    if "httpx_ws" not in sys.modules:
        return False
    sniffio = sys.modules.get("sniffio")
    return sniffio is None or sniffio.thread_local.name != "trio"


class Transport(_Hook):
    """A transport with a session of its own; `nbreplay.transport` makes it.

    Attributes
    ----------
    session : Session
        Has the interactions.

    Examples
    --------
    >>> import nbreplay as nr
    >>> nr.transport("recordings", mode="replay").session.interactions
    []
    """

    def __init__(self, session: Session, inner: _Inner | None = None) -> None:
        super().__init__(lambda: session, inner)
        self.session = session

    def close(self) -> None:
        """Write the streams that are still open, and close the inner transport."""
        self.session.flush()
        super().close()

    async def aclose(self) -> None:
        """Do as `close` does, for a client that is async."""
        self.session.flush()
        await super().aclose()


def _library(request: Any) -> ModuleType:
    """Return the library, httpx or httpx2, of a request or of the class that its own is derived from."""
    roots = (base.__module__.partition(".")[0] for base in type(request).__mro__)
    return sys.modules[next(root for root in roots if root in ("httpx", "httpx2"))]


@functools.cache
def _stream_type(kind: type, library: ModuleType) -> Any:
    """Return `kind` as a subclass of the library's own streams, which its responses insist on."""
    return type(kind.__name__.strip("_"), (kind, library.SyncByteStream, library.AsyncByteStream), {})


def describe_error(error: BaseException) -> tuple[str, str] | None:
    """Return the name and message by which a take keeps an error of the library; None for an interrupt."""
    if not isinstance(error, Exception):
        return None
    name = type(error).__name__
    return (name, str(error)) if name in _ERRORS else ("ReadError", f"{name}: {error}")


def response_of(request: _Request, replay: Replay) -> _Response:
    """Return the answer as a response of the library's own type; raise its own error, where one was recorded."""
    take = replay.take
    if take.status is None:
        replay.finish()
        raise _error(request, take)
    library, whole = _library(request), replay.whole()
    stream = _stream_type(_ReplayStream, library)(request, replay) if whole is None else library.ByteStream(whole)
    length: int | str | None = None
    if "content-length" in take.headers:
        recorded = is_bare(request.method, take.status) or not take.complete
        length = recorded_length(take) if recorded else replay.size if whole is None else len(whole)
    # The library tries UTF-8 before Latin-1. aiohttp keeps bytes that are neither as surrogate escapes.
    headers = [
        (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in response_headers(take, length)
    ]
    extensions = {"http_version": take.http_version.encode("ascii")}
    if take.reason_phrase is not None or take.http_version.startswith("HTTP/1"):  # HTTP/2 has no phrases
        extensions["reason_phrase"] = encode_line(phrase_of(take))
    response: _Response = library.Response(take.status, headers=headers, stream=stream, extensions=extensions)
    return response


def _error(request: Any, take: Take) -> Any:
    recorded = take.error or {}
    name = recorded.get("type", "")
    kind = getattr(_library(request), name if name in _ERRORS else "ReadError")
    return kind(recorded.get("message", CUT_OFF), request=request)


class _ReplayStream:
    """The body of a replayed response, at once or at its recorded pace."""

    def __init__(self, request: Any, replay: Replay) -> None:
        self._request, self._replay = request, replay
        self._left, self._left_async = threading.Event(), asyncio.Event()
        self._parts: Iterator[tuple[Pause, bytes]] | None = None

    def _rest(self) -> Iterator[tuple[Pause, bytes]]:
        """Return the parts that have not been read: an SDK reads on in another iteration, as from a connection."""
        self._parts = self._parts or iter(self._replay.parts())
        return self._parts

    def __iter__(self) -> Iterator[bytes]:
        for pause, data in self._rest():
            wait(pause)
            yield data
        if self._replay.stays_open:
            self._replay.finish()
            self._left.wait()
        self._end()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for pause, data in self._rest():
            await wait_async(pause)
            yield data
        if self._replay.stays_open:
            self._replay.finish()
            await self._left_async.wait()
        self._end()

    def _end(self) -> None:
        self._replay.end()
        if not self._replay.take.complete:
            raise _error(self._request, self._replay.take)

    def close(self) -> None:
        self._left.set()
        self._left_async.set()
        self._replay.finish()

    async def aclose(self) -> None:
        self.close()


def record_response(request: _Request, response: _Response, recorder: Recorder | None) -> _Response:
    """Return the response, of which a recorder gets the body as it is passed on."""
    if recorder is None:
        return response
    library = _library(request)
    version, phrase = (response.extensions.get(name) for name in ("http_version", "reason_phrase"))
    recorder.begin(
        response.status_code,
        response.headers.multi_items(),
        phrase.decode("latin-1") if isinstance(phrase, bytes) else None,
        version.decode("latin-1") if isinstance(version, bytes) else HTTP11,
    )
    if hasattr(response, "_content"):
        # A transport that answers out of memory: nobody will iterate the stream.
        recorder.feed(response.content)
        recorder.end()
        return response
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        recorder.decode = lambda pieces: _decode(library, recorder, encoding, pieces)
    response.stream = _stream_type(_RecordedStream, library)(response.stream, recorder)
    return response


class _RecordedStream:
    """Passes a body on as it comes, and records it."""

    def __init__(self, inner: Any, recorder: Recorder) -> None:
        self._inner, self._recorder = inner, recorder

    def __iter__(self) -> Iterator[bytes]:
        with self._recording():
            for data in self._inner:
                self._recorder.feed(data)
                yield data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._recording():
            async for data in self._inner:
                self._recorder.feed(data)
                yield data

    @contextlib.contextmanager
    def _recording(self) -> Iterator[None]:
        try:
            yield
        except GeneratorExit:
            self._recorder.close()
            raise
        except BaseException as error:
            record_error(self._recorder, error, describe_error)
            raise
        self._recorder.end()

    def close(self) -> None:
        self._recorder.close()
        self._inner.close()

    async def aclose(self) -> None:
        self._recorder.close()
        await self._inner.aclose()


def _decode(library: ModuleType, recorder: Recorder, encoding: str, pieces: Pieces) -> Pieces:
    """Undo the content encoding by the library's own code, piece by piece so that times stay true."""
    at, at_end = 0.0, False

    def raw() -> Iterator[bytes]:
        nonlocal at, at_end
        for at, data in pieces:  # noqa: B007
            yield data
        at_end = True

    response = library.Response(200, headers={"content-encoding": encoding}, content=raw())
    decoded: Pieces = []
    try:
        for data in response.iter_bytes():
            decoded.append((at, data))
    except library.DecodingError:
        if not at_end:
            # The body is not what its header says: the caller is told so again.
            recorder.keep_encoding()
            return pieces
    return decoded
