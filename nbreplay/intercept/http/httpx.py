"""httpx and httpx2, sync and async: their calls to `Session`, its answers to their responses.

Both libraries have the same shape here, so that one code serves them. The hook is
`_transport_for_url`, which every call passes, whenever its client was built.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import msgspec

from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session, current_session
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.http.httpx_bodies import failed, library_of, named, response_of, tee
from nbreplay.intercept.network import guard

__all__ = ["install", "transport"]

Ask = Callable[[], Session | None]


def install(library: ModuleType) -> patching.Undo:
    """Hook into httpx or httpx2; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hook.
    """
    sync, asynchronous, name = library.Client, library.AsyncClient, named(library)
    before, before_async = sync._transport_for_url, asynchronous._transport_for_url
    plain = (library.MockTransport, library.WSGITransport, _Transport)
    plain_async = (library.MockTransport, library.ASGITransport, _Transport)

    def for_url(self: Any, url: Any) -> Any:
        inner = before(self, url)
        if isinstance(inner, plain) or guard.is_permitted():
            return inner
        return _Transport(current_session, inner, name)

    def for_url_async(self: Any, url: Any) -> Any:
        inner = before_async(self, url)
        if isinstance(inner, plain_async) or guard.is_permitted():
            return inner
        return _Transport(current_session, inner, name)

    return patching.put((sync, "_transport_for_url", for_url), (asynchronous, "_transport_for_url", for_url_async))


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
    from nbreplay.intercept.registry import opened

    session = opened(store, mode=mode, speed=speed, ignore=ignore, mask=mask, only=only)
    return _Transport(lambda: session, inner, session=session)


class _Transport(msgspec.Struct, eq=False):
    """Stands before a library's transport and asks a session what becomes of each call."""

    _ask: Ask
    _inner: Any
    _name: str = ""
    session: Session | None = None

    def handle_request(self, request: Any) -> Any:
        host = request.url.netloc.decode("ascii")
        session, mode = placeholder_keys.asked(self._ask(), host, _held, request)
        recorder = None
        if session is not None:
            target, name = request.url.raw_path.decode("ascii"), self._name or named(library_of(request))
            call = Call(request.method, host, target, "", request.read(), request.headers, name)
            decision = session.ask(call, mode)
            if isinstance(decision, Replay):
                return response_of(request, decision)
            recorder = decision
        inner = self._inner or self._sender(request, "HTTPTransport")
        try:
            with guard.permit(host):
                response = inner.handle_request(request)
        except BaseException as error:
            if recorder is not None:
                failed(recorder, error)
            raise
        return response if recorder is None else tee(request, response, recorder, asynchronous=False)

    async def handle_async_request(self, request: Any) -> Any:
        host = request.url.netloc.decode("ascii")
        session, mode = placeholder_keys.asked(self._ask(), host, _held, request)
        recorder = None
        if session is not None:
            target, name = request.url.raw_path.decode("ascii"), self._name or named(library_of(request))
            call = Call(request.method, host, target, "", await request.aread(), request.headers, name)
            decision = session.ask(call, mode)
            if isinstance(decision, Replay):
                return response_of(request, decision)
            recorder = decision
        inner = self._inner or self._sender(request, "AsyncHTTPTransport")
        try:
            with guard.permit(host):
                response = await inner.handle_async_request(request)
        except BaseException as error:
            if recorder is not None:
                failed(recorder, error)
            raise
        return response if recorder is None else tee(request, response, recorder, asynchronous=True)

    def _sender(self, request: Any, name: str) -> Any:
        self._inner = getattr(library_of(request), name)()
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


def _held(request: Any) -> Iterable[bytes]:
    return itertools.chain((request.url.raw_path,), *request.headers.raw)  # the names, too: that is faster
