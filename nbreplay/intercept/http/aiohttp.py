"""aiohttp: its exchanges to `Session`, the session's answers to its responses.

The hook is where a connection is asked for, once for every exchange: redirects, retries, cookies and
middlewares stay the library's own, around it. Whatever client session asks, whenever it was built, passes it.
"""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import current_session
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.http.aiohttp_errors import failed
from nbreplay.intercept.http.aiohttp_streams import Tee, connection_of
from nbreplay.intercept.http.websockets import refused
from nbreplay.intercept.network import guard

__all__ = ["install"]


def install(library: ModuleType) -> patching.Undo:
    """Hook into aiohttp; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has a hook, or what a recording or a replay builds on.
    """
    connector, response, handler = library.BaseConnector, library.ClientResponse, library.client_proto.ResponseHandler
    before_connect, before_start, before_params = connector.connect, response.start, handler.set_response_params
    for name in ("feed_data", "set_exception", "_wait"):
        getattr(library.StreamReader, name)

    async def connect(self: Any, req: Any, *args: Any, **options: Any) -> Any:
        if guard.is_permitted():
            return await before_connect(self, req, *args, **options)
        decision = None
        if req.headers.get("Upgrade", "").lower() == "websocket":
            placeholder_keys.refuse(_held(req))
            refused(str(req.url), "aiohttp's ws_connect")
        else:
            session, mode = placeholder_keys.asked(current_session(), _host(req.url), _held, req)
            if session is not None:
                decision = session.ask(_call(library, req, await _body(library, req)), mode)
        if isinstance(decision, Replay):
            return connection_of(library, self, req, decision)
        try:
            with guard.permit((req.proxy or req.url).host):
                connection = await before_connect(self, req, *args, **options)
        except BaseException as error:
            if decision is not None:
                _not_connected(decision, req, error)
            raise
        if decision is not None:
            Tee(library, decision, connection)
        return connection

    async def start(self: Any, connection: Any) -> Any:
        tee = getattr(connection, "nbreplay_tee", None)
        if tee is None:
            return await before_start(self, connection)
        tee.awaited = True
        try:
            await before_start(self, connection)
        except BaseException as error:
            failed(tee.recorder, error)
            raise
        tee.answered(self)
        return self

    def set_response_params(self: Any, **params: Any) -> None:
        # It says here only whether the library decodes; a connection is used again for calls that differ in that.
        self.nbreplay_decodes = params.get("auto_decompress", True)
        before_params(self, **params)

    return patching.put(
        (connector, "connect", connect),
        (response, "start", start),
        (handler, "set_response_params", set_response_params),
    )


def _headers(req: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in req.headers.items()]


def _held(req: Any) -> list[bytes]:
    return [req.url.raw_path_qs.encode(), *(value for _, value in _headers(req))]


def _host(url: Any) -> str:
    host = str(url.raw_host)
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() else f"{host}:{url.port}"


def _call(library: ModuleType, req: Any, body: bytes) -> Call:
    version = f"aiohttp {library.__version__}"
    return Call(req.method, _host(req.url), req.url.raw_path_qs, "", body, _headers(req), version)


def _not_connected(recorder: Recorder, req: Any, error: BaseException) -> None:
    """Tell a recorder that no connection was made; the library has yet to make errors of its own of timeouts."""
    if isinstance(error, TimeoutError):
        recorder.fail("ConnectionTimeoutError", f"Connection timeout to host {_host(req.url)}")
        return
    try:
        # The timeout of the whole call reaches what waits as a cancellation.
        req._timer.assert_timeout()
    except TimeoutError as timeout:
        error = timeout
    failed(recorder, error)


class _Collector:
    """Takes what a payload writes, in place of a connection."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    async def write(self, chunk: Any) -> None:
        self.file.write(chunk)


async def _body(library: ModuleType, req: Any) -> bytes:
    """Return the body that is going to be sent; what can be read only once is replaced by what was read."""
    payload = req.body
    if not payload or isinstance(payload, bytes | bytearray):
        return bytes(payload or b"")
    into = _Collector()
    await payload.write(into)
    data = into.file.getvalue()
    if isinstance(payload, library.BytesPayload):
        return data
    # As a file, since the library warns of large bytes. The headers are there already, framing and boundary included.
    into.file.seek(0)
    if hasattr(req, "update_body"):
        await req.update_body(into.file)
    else:
        req.body = library.BytesIOPayload(into.file)
    return data
