"""urllib3, and so requests and botocore. One attempt is one call, so that its retries are recorded as they were."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from http.client import HTTPResponse
from types import ModuleType
from typing import Any

import urllib3

from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.session import current_session
from nbreplay.intercept import patching
from nbreplay.intercept.http.exchange import Exchange, host_and_target
from nbreplay.intercept.http.http_client import ReplaySocket, body_bytes, describe_error, error_of, record_response
from nbreplay.intercept.network import guard

# Errors that a take may name, those of connecting apart. Nothing else from a file is looked up in the library.
_CONNECTING = frozenset(["ConnectTimeoutError", "NameResolutionError", "NewConnectionError", "ProxyError"])
_ERRORS = _CONNECTING | {"ProtocolError", "ReadTimeoutError"}
_TLS = frozenset(["SSLCertVerificationError", "SSLError"])
_FOREIGN = {
    "ConnectError": "NewConnectionError",
    "ConnectTimeout": "ConnectTimeoutError",
    "ReadTimeout": "ReadTimeoutError",
    "gaierror": "NameResolutionError",
}
"""Names of other libraries' errors, each with this one's."""

_TUNNELS = "_nbreplay_tunnels"
_last = threading.local()


def install(library: ModuleType) -> patching.Undo:
    """Hook into urllib3."""
    plain, secure = library.connectionpool.HTTPConnectionPool, library.connectionpool.HTTPSConnectionPool
    library.response.BaseHTTPResponse._decode  # noqa: B018  # urllib3 1 has another `_make_request`
    library.response.BaseHTTPResponse._init_decoder  # noqa: B018
    before, before_proxy = plain._make_request, secure._prepare_proxy

    def make_request(
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, **options: Any
    ) -> Any:
        if guard.is_permitted():
            return before(self, conn, method, url, body=body, headers=headers, **options)
        opens_tunnel = vars(conn).pop(_TUNNELS, False)
        raw = [(_encode(name), _encode(value)) for name, value in (headers or {}).items()]
        host, target = host_and_target(self.scheme, self.host, self.port, url)
        exchange = Exchange(current_session(), method, host, target, raw, f"urllib3 {library.__version__}")
        data = b""
        if exchange.needs_body:
            data = body_bytes(body)
            if body is not None and not isinstance(body, str | bytes | bytearray | memoryview):
                body = io.BytesIO(data)  # it can be read once; what has no length is sent in chunks again
        replay = exchange.replay(data)
        _last.was_replayed = replay is not None
        if replay is not None:
            return _response(self, conn, method, url, replay, options)
        if exchange.recorder is not None:
            _record(conn, exchange.recorder, options)
        try:
            with exchange.sending(conn.host, lambda error: _describe(self, conn, error)):
                if opens_tunnel:
                    open_tunnel(self, conn)
                return before(self, conn, method, url, body=body, headers=headers, **options)
        finally:
            vars(conn).pop("getresponse", None)

    def open_tunnel(pool: Any, conn: Any) -> None:
        try:
            before_proxy(pool, conn)
        except OSError as error:
            pool._raise_timeout(err=error, url=pool.proxy.url, timeout_value=conn.timeout)
            raise

    def prepare_proxy(self: Any, conn: Any) -> None:
        # A tunnel through a proxy is opened only where the call is really sent.
        if guard.is_permitted():
            before_proxy(self, conn)
        else:
            vars(conn)[_TUNNELS] = True

    return patching.put(
        (plain, "_make_request", make_request),
        (secure, "_prepare_proxy", prepare_proxy),
        (library.util.retry, "time", _time_without_waits(library.util.retry.time)),
    )


def install_botocore(endpoint: Any) -> patching.Undo:
    """Hook into `botocore.endpoint`, which retries the calls that urllib3 makes."""
    return patching.put((endpoint, "time", _time_without_waits(endpoint.time)))


def _time_without_waits(time: Any) -> patching.StandIn:
    """Return the module `time`, by which nobody waits before retrying a call if this thread's last was replayed."""

    def sleep(seconds: float) -> None:
        # The length may be random: no header of a replayed answer could make it short.
        if not getattr(_last, "was_replayed", False):
            time.sleep(seconds)

    return patching.StandIn(time, sleep=sleep)


def _encode(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


def _describe(pool: Any, conn: Any, error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, urllib3.exceptions.SSLError) and isinstance(error.args[0], OSError):
        error = error.args[0]
    name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), "")
    if not name or not isinstance(error, urllib3.exceptions.HTTPError):
        return describe_error(error)
    if name == "NameResolutionError":
        return name, str(error.__cause__)
    if name in ("ConnectTimeoutError", "ProxyError"):
        return name, str(error.args[-1])
    # The library puts the connection before the message, and will do so again.
    return name, str(error).removeprefix(f"{conn}: ").removeprefix(f"{pool}: ")


def _error(pool: Any, conn: Any, url: str, recorded: Mapping[str, str]) -> Exception:
    """Return the library's own error for the one that a take names."""
    name, text = recorded.get("type", ""), recorded.get("message", "")
    name = _FOREIGN.get(name, name)
    error = error_of({**recorded, "type": name})
    if name in _TLS:
        error = urllib3.exceptions.SSLError(error)
    elif name in _ERRORS:
        arguments: dict[str, tuple[Any, ...]] = {
            "ConnectTimeoutError": (conn, text),
            "NameResolutionError": (conn.host, conn, error_of({"type": "gaierror", "message": text})),
            "NewConnectionError": (conn, text),
            "ProxyError": ("Unable to connect to proxy", OSError(text)),
            "ReadTimeoutError": (pool, url, text),
        }
        error = getattr(urllib3.exceptions, name)(*arguments.get(name, (text,)))
    if getattr(conn, "proxy", None) is not None:
        # Else the proxy is blamed, as it is for what went wrong before it was connected, or closed the connection.
        conn._has_connected_to_proxy = name not in _CONNECTING and not isinstance(error, OSError)
    return error


def _response(pool: Any, conn: Any, method: str, url: str, replay: Replay, options: dict[str, Any]) -> Any:
    if replay.take.status is None:
        replay.finish()
        raise _error(pool, conn, url, replay.take.error or {})
    sock = ReplaySocket(replay, method)
    inner = HTTPResponse(sock, method=method)  # type: ignore[arg-type]
    inner.begin()
    response = urllib3.HTTPResponse(
        body=inner,
        headers=urllib3.HTTPHeaderDict(inner.headers.items()),
        status=inner.status,
        version=inner.version,
        reason=inner.reason,
        **{name: options.get(name, True) for name in ("preload_content", "decode_content", "enforce_content_length")},
        original_response=inner,
        request_method=method,
        request_url=url,
    )
    # Not before the body is read where that is done at once, as in the library.
    response.version_string, response.retries = "HTTP/1.1", options.get("retries")
    response._pool, response._connection = pool, options.get("response_conn")
    response._sock_shutdown = sock.shutdown  # by which another thread ends a read that waits
    return response


def _record(conn: Any, recorder: Recorder, options: dict[str, Any]) -> None:
    """Have a connection record its next response."""
    # requests asks for an answer that is not decoded, and has it decoded later. botocore leaves it encoded.
    decodes = options.get("decode_content", True) or not options.get("preload_content", True)
    decodes = decodes and type(conn).__module__.partition(".")[0] != "botocore"

    def on_head(response: HTTPResponse) -> None:
        encodings = [name.strip().lower() for name in response.headers.get("content-encoding", "").split(",")]
        if decodes and set(encodings) <= set(urllib3.HTTPResponse.CONTENT_DECODERS):
            recorder.decode = lambda pieces: _decode(recorder, ", ".join(encodings), pieces)
        else:
            recorder.keep_encoding()  # the caller is to get the same bytes

    # Only when the response is read: botocore's connection sets the class of its responses when it sends.
    vars(conn)["getresponse"] = lambda: record_response(conn, recorder, lambda: type(conn).getresponse(conn), on_head)


def _decode(recorder: Recorder, encoding: str, pieces: Pieces) -> Pieces:
    """Undo the content encoding by the library's own code, piece by piece so that times stay true."""
    decoder: Any = urllib3.HTTPResponse(headers={"content-encoding": encoding}, preload_content=False)
    decoder._init_decoder()
    try:
        return [(at, decoder._decode(data, decode_content=True, flush_decoder=False)) for at, data in pieces]
    except urllib3.exceptions.DecodeError:
        # The body is not what its header says: the caller is told so again.
        recorder.keep_encoding()
        return pieces
