"""urllib3, and so requests and botocore. One attempt is one call, so that its retries are recorded as they were."""

from __future__ import annotations

import http.client
import io
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import current_session
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.http import http11
from nbreplay.intercept.http.http11 import Socket, addressed, body_bytes
from nbreplay.intercept.http.http11_tee import Tee
from nbreplay.intercept.network import guard

__all__ = ["install", "replayed"]

# Errors that a take may name, those of connecting apart. Nothing else from a file is looked up in the library.
_CONNECTING = frozenset(["ConnectTimeoutError", "NameResolutionError", "NewConnectionError", "ProxyError"])
_ERRORS = _CONNECTING | {"ProtocolError", "ReadTimeoutError"}
_TLS = frozenset(["SSLCertVerificationError", "SSLError"])
# What other libraries call them.
_FOREIGN = {
    "ConnectError": "NewConnectionError",
    "ConnectTimeout": "ConnectTimeoutError",
    "ReadTimeout": "ReadTimeoutError",
    "gaierror": "NameResolutionError",
}
_TUNNELS = "_nbreplay_tunnels"
_last = threading.local()


def replayed() -> bool:
    """Tell whether this thread's last call was replayed: nobody waits before trying that again."""
    return getattr(_last, "replayed", False)


def install(library: ModuleType) -> patching.Undo:
    """Hook into urllib3; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hooks, or is older than 2.
    """
    plain, secure = library.connectionpool.HTTPConnectionPool, library.connectionpool.HTTPSConnectionPool
    retry = library.util.retry.Retry
    library.response.BaseHTTPResponse._decode  # noqa: B018  # urllib3 1 has another `_make_request`
    library.response.BaseHTTPResponse._init_decoder  # noqa: B018
    before, before_proxy = plain._make_request, secure._prepare_proxy
    before_sleep, before_sleep_for = retry.sleep, retry.sleep_for_retry

    def make_request(
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, **options: Any
    ) -> Any:
        if guard.is_permitted():
            return before(self, conn, method, url, body=body, headers=headers, **options)
        tunnels = vars(conn).pop(_TUNNELS, False)
        raw = [(_bytes(name), _bytes(value)) for name, value in (headers or {}).items()]
        host, target = addressed(self.scheme, self.host, self.port, url)
        session, mode = placeholder_keys.asked(
            current_session(), host, lambda: [target.encode(), *(value for _, value in raw)]
        )
        decision = None
        if session is not None:
            data = body_bytes(body)
            if body is not None and not isinstance(body, str | bytes | bytearray | memoryview):
                body = io.BytesIO(data)  # it can be read once; what has no length is sent in chunks again
            decision = session.ask(Call(method, host, target, "", data, raw, f"urllib3 {library.__version__}"), mode)
        _last.replayed = isinstance(decision, Replay)
        if isinstance(decision, Replay):
            return _replayed(library, self, conn, method, url, decision, options)
        if decision is not None:
            vars(conn)["getresponse"] = lambda: _answered(library, conn, decision, decoded=_decodes(conn, options))
        try:
            with guard.permit(conn.host):
                if tunnels:
                    tunnel(self, conn)
                return before(self, conn, method, url, body=body, headers=headers, **options)
        except BaseException as error:
            if decision is not None:
                _failed(library, decision, self, conn, error)
            raise
        finally:
            vars(conn).pop("getresponse", None)

    def tunnel(pool: Any, conn: Any) -> None:
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

    def sleep(self: Any, response: Any = None) -> None:
        if not replayed():
            before_sleep(self, response)

    def sleep_for_retry(self: Any, response: Any) -> bool:
        return not replayed() and bool(before_sleep_for(self, response))

    return patching.put(
        (plain, "_make_request", make_request),
        (secure, "_prepare_proxy", prepare_proxy),
        (retry, "sleep", sleep),
        (retry, "sleep_for_retry", sleep_for_retry),
    )


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


# Errors


def _failed(library: ModuleType, recorder: Recorder, pool: Any, conn: Any, error: BaseException) -> None:
    """Tell a recorder that its call ended in an error before there was an answer."""
    if isinstance(error, library.exceptions.SSLError) and isinstance(error.args[0], OSError):
        error = error.args[0]
    name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), "")
    if not name or not isinstance(error, library.exceptions.HTTPError):
        http11.failed(recorder, error)
        return
    # What the library puts around it, it will put around it again.
    text = str(error).removeprefix(f"{conn}: ").removeprefix(f"{pool}: ")
    if name == "NameResolutionError":
        text = str(error.__cause__)
    elif name in ("ConnectTimeoutError", "ProxyError"):
        text = str(error.args[-1])
    recorder.fail(name, text)


def _error(library: ModuleType, pool: Any, conn: Any, url: str, given: Mapping[str, str]) -> Exception:
    """Return the library's own error for the one that a take names."""
    name, text = given.get("type", ""), given.get("message", "")
    name = _FOREIGN.get(name, name)
    made: Exception = http11.broken({**given, "type": name})
    if name in _TLS:
        made = library.exceptions.SSLError(made)
    elif name in _ERRORS:
        about: dict[str, tuple[Any, ...]] = {
            "ConnectTimeoutError": (conn, text),
            "NameResolutionError": (conn.host, conn, http11.broken({"type": "gaierror", "message": text})),
            "NewConnectionError": (conn, text),
            "ProxyError": ("Unable to connect to proxy", OSError(text)),
            "ReadTimeoutError": (pool, url, text),
        }
        made = getattr(library.exceptions, name)(*about.get(name, (text,)))
    if getattr(conn, "proxy", None) is not None:
        # Else the proxy is blamed, as it is for what went wrong before it was connected, or closed the connection.
        conn._has_connected_to_proxy = name not in _CONNECTING and not isinstance(made, OSError)
    return made


# Answers


def _replayed(
    library: ModuleType, pool: Any, conn: Any, method: str, url: str, replay: Replay, options: dict[str, Any]
) -> Any:
    if replay.take.status is None:
        replay.finish()
        raise _error(library, pool, conn, url, replay.take.error or {})
    sock = Socket.of(replay, method)
    inner = _begun(sock, method)
    response = library.response.HTTPResponse(
        body=inner,
        headers=library.HTTPHeaderDict(inner.headers.items()),
        status=inner.status,
        version=inner.version,
        reason=inner.reason,
        preload_content=options.get("preload_content", True),
        decode_content=options.get("decode_content", True),
        original_response=inner,
        enforce_content_length=options.get("enforce_content_length", True),
        request_method=method,
        request_url=url,
    )
    # As the library does, not before what is to be read at once is read.
    response.version_string, response.retries = "HTTP/1.1", options.get("retries")
    response._pool, response._connection = pool, options.get("response_conn")
    response._sock_shutdown = sock.shutdown  # how another thread ends a read that waits
    return response


def _begun(sock: Socket, method: str | None = None) -> http.client.HTTPResponse:
    made = http.client.HTTPResponse(sock, method=method)  # type: ignore[arg-type]
    made.begin()
    return made


def _decodes(conn: Any, options: dict[str, Any]) -> bool:
    """Tell whether an answer that is encoded is decoded for its caller."""
    if type(conn).__module__.partition(".")[0] == "botocore":
        return False
    # requests asks for what is not decoded, and has it decoded later.
    return bool(options.get("decode_content", True)) or not options.get("preload_content", True)


def _answered(library: ModuleType, conn: Any, recorder: Recorder, *, decoded: bool) -> Any:
    """Return the answer of a connection, whose reading is noted."""
    # Not before: botocore's connection sets the class of its responses when it sends.
    usual = conn.response_class
    conn.response_class = Tee(recorder, usual, lambda made: _decoding(library, recorder, made, decoded=decoded))
    try:
        return type(conn).getresponse(conn)
    finally:
        conn.response_class = usual


def _decoding(library: ModuleType, recorder: Recorder, made: http.client.HTTPResponse, *, decoded: bool) -> None:
    """Have a recorder undo the encoding of an answer, by the library's own code."""
    names = [name.strip().lower() for name in made.headers.get("content-encoding", "").split(",")]
    if decoded and set(names) <= set(library.response.HTTPResponse.CONTENT_DECODERS):
        recorder.decode = lambda pieces: _decoded(library, recorder, ", ".join(names), pieces)
    else:
        recorder.keep("content-encoding")  # the caller is to get the same bytes


def _decoded(library: ModuleType, recorder: Recorder, encoding: str, pieces: Pieces) -> Pieces:
    response = library.response.HTTPResponse(headers={"content-encoding": encoding}, preload_content=False)
    response._init_decoder()
    found: Pieces = []
    try:
        for at, data in pieces:
            found.append((at, response._decode(data, decode_content=True, flush_decoder=False)))
    except library.exceptions.DecodeError:
        # It is not what its header tells: the caller is told so again.
        recorder.keep("content-encoding")
        return pieces
    return found
