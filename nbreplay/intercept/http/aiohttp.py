"""aiohttp: its exchanges to `Session`, the session's answers to its responses.

The hook is where a connection is asked for, once for every exchange: redirects, retries, cookies and
middlewares stay the library's own, around it. Whatever client session asks, whenever it was built, passes it.
"""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

from nbreplay.core.session import current_session
from nbreplay.intercept import patching
from nbreplay.intercept.http.aiohttp_streams import ResponseRecorder, connection_of, describe_error
from nbreplay.intercept.http.exchange import Exchange, record_error
from nbreplay.intercept.http.websockets import check_websocket
from nbreplay.intercept.network import guard


def install(library: ModuleType) -> patching.Undo:
    """Hook into aiohttp."""
    connector, response, handler = library.BaseConnector, library.ClientResponse, library.client_proto.ResponseHandler
    before_connect, before_start, before_params = connector.connect, response.start, handler.set_response_params
    for name in ("feed_data", "set_exception", "_wait"):
        getattr(library.StreamReader, name)

    async def connect(self: Any, req: Any, *args: Any, **options: Any) -> Any:
        if guard.is_permitted():
            return await before_connect(self, req, *args, **options)
        exchange = _exchange(library, req)
        replay = exchange.replay(await _body(library, req) if exchange.needs_body else b"")
        if replay is not None:
            return connection_of(library, self, req, replay)
        with exchange.sending((req.proxy or req.url).host, lambda error: _describe_connecting(req, error)):
            connection = await before_connect(self, req, *args, **options)
        if exchange.recorder is not None:
            ResponseRecorder(library, exchange.recorder, connection)
        return connection

    async def start(self: Any, connection: Any) -> Any:
        recording = getattr(connection, "nbreplay_recording", None)
        if recording is None:
            return await before_start(self, connection)
        recording.is_awaited = True
        try:
            await before_start(self, connection)
        except BaseException as error:
            record_error(recording.recorder, error, describe_error)
            raise
        recording.start(self)
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


def _exchange(library: ModuleType, req: Any) -> Exchange:
    headers = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in req.headers.items()]
    is_websocket = req.headers.get("Upgrade", "").lower() == "websocket"
    session = None if is_websocket else current_session()
    name = f"aiohttp {library.__version__}"
    exchange = Exchange(session, req.method, _host(req.url), req.url.raw_path_qs, headers, name)
    if is_websocket:
        check_websocket(str(req.url), "aiohttp's ws_connect")
    return exchange


def _host(url: Any) -> str:
    host = str(url.raw_host)
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() else f"{host}:{url.port}"


def _describe_connecting(req: Any, error: BaseException) -> tuple[str, str] | None:
    """Describe why no connection was made. The library has yet to make errors of its own of timeouts."""
    if isinstance(error, TimeoutError):
        return "ConnectionTimeoutError", f"Connection timeout to host {_host(req.url)}"
    try:
        # The timeout of the whole call reaches what waits as a cancellation.
        req._timer.assert_timeout()
    except TimeoutError as timeout:
        error = timeout
    return describe_error(error)


class _Collector:
    """Takes what a payload writes, in place of a connection."""

    def __init__(self) -> None:
        self.file = io.BytesIO()

    async def write(self, chunk: Any) -> None:
        self.file.write(chunk)


async def _body(library: ModuleType, req: Any) -> bytes:
    """Return the body that is going to be sent; a payload that can be read only once is replaced by its content."""
    payload = req.body
    if not payload or isinstance(payload, bytes | bytearray):
        return bytes(payload or b"")
    collector = _Collector()
    await payload.write(collector)
    data = collector.file.getvalue()
    if isinstance(payload, library.BytesPayload):
        return data
    # As a file, since the library warns of large bytes. The headers are there already, framing and boundary included.
    collector.file.seek(0)
    if hasattr(req, "update_body"):
        await req.update_body(collector.file)
    else:
        req.body = library.BytesIOPayload(collector.file)
    return data
