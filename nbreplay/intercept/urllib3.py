"""urllib3, and so requests and botocore. One attempt is one call, so that its retries are recorded as they were."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from nbreplay.core import active
from nbreplay.core.config import Mode
from nbreplay.core.recorder import Pieces, Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request import Call
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import guard, http11, keys
from nbreplay.intercept.http11 import Socket, Tee, body_bytes, host_of, unframed

__all__ = ["install"]

# Errors that a take may name. Nothing else from a file is looked up in the library.
_ERRORS = frozenset(
    [
        "ConnectTimeoutError",
        "NameResolutionError",
        "NewConnectionError",
        "ProtocolError",
        "ReadTimeoutError",
        "SSLError",
    ]
)


def install(library: ModuleType) -> Callable[[], None]:
    """Hook into urllib3; return what undoes it.

    Raises
    ------
    AttributeError
        Where the library no longer has the hooks, or is older than 2.
    """
    plain, secure = library.connectionpool.HTTPConnectionPool, library.connectionpool.HTTPSConnectionPool
    retry = library.util.retry.Retry
    library.response.HTTPResponse.read1  # noqa: B018  # urllib3 1 has another `_make_request`
    before, before_proxy, before_sleep = plain._make_request, secure._prepare_proxy, retry.sleep

    def make_request(
        self: Any, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, **options: Any
    ) -> Any:
        if guard.passing():
            return before(self, conn, method, url, body=body, headers=headers, **options)
        raw = [(_bytes(name), _bytes(value)) for name, value in (headers or {}).items()]
        host, target = _where(self, url)
        session = keys.asked(active.current(), host, raw)
        decision = None
        if session is not None:
            data = body_bytes(body)
            body = None if body is None else data
            decision = session.ask(Call(method, host, target, "", data, raw, f"urllib3 {library.__version__}"))
        if isinstance(decision, Replay):
            return _replayed(library, self, conn, method, url, decision, options)
        if decision is not None:
            vars(conn)["getresponse"] = lambda: _answered(library, conn, decision)
        try:
            with guard.permitted(conn.host):
                if vars(conn).pop(_TUNNEL, False):
                    before_proxy(self, conn)
                return before(self, conn, method, url, body=body, headers=headers, **options)
        except BaseException as error:
            if decision is not None:
                _failed(decision, conn, error)
            raise
        finally:
            vars(conn).pop("getresponse", None)

    def prepare_proxy(self: Any, conn: Any) -> None:
        # A tunnel through a proxy is opened only where the call is really sent.
        if active.current() is None or guard.passing():
            before_proxy(self, conn)
        else:
            vars(conn)[_TUNNEL] = True

    def sleep(self: Any, response: Any = None) -> None:
        session = active.current()
        if getattr(response, _TUNNEL, False) or (session is not None and session.mode is Mode.REPLAY):
            return  # nobody sleeps through the back-off of a failure that was recorded
        before_sleep(self, response)

    made = (
        (plain, "_make_request", before, make_request),
        (secure, "_prepare_proxy", before_proxy, prepare_proxy),
        (retry, "sleep", before_sleep, sleep),
    )
    for owner, name, _, ours in made:
        setattr(owner, name, ours)

    def undo() -> None:
        for owner, name, earlier, ours in made:
            # Where somebody has hooked in after us, theirs stays, and ours under it does nothing.
            if getattr(owner, name) is ours:
                setattr(owner, name, earlier)

    return undo


_TUNNEL = "_nbreplay"


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


def _where(pool: Any, url: str) -> tuple[str, str]:
    if "://" not in url.partition("?")[0]:
        return host_of(pool.scheme, pool.host, pool.port), url or "/"
    _, _, rest = url.partition("://")  # to a proxy
    host, slash, target = rest.partition("/")
    return host, slash + target or "/"


def _failed(recorder: Recorder, conn: Any, error: BaseException) -> None:
    """Tell a recorder that its call ended in an error before there was an answer."""
    if isinstance(error, RecordingMissing | KeyboardInterrupt):
        http11.failed(recorder, error)
        return
    name = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), "")
    if name:
        recorder.fail(name, str(error).removeprefix(f"{conn}: "))
    else:
        http11.failed(recorder, error)


def _error(library: ModuleType, pool: Any, conn: Any, url: str, given: Mapping[str, str]) -> Exception:
    name, text = given.get("type", ""), given.get("message", "")
    if name not in _ERRORS:
        return http11.broken(name, text)
    kind = getattr(library.exceptions, name, library.exceptions.ProtocolError)
    about: dict[str, tuple[Any, ...]] = {
        "ConnectTimeoutError": (conn, text),
        "NameResolutionError": (pool.host, conn, OSError(text)),
        "NewConnectionError": (conn, text),
        "ReadTimeoutError": (pool, url, text),
    }
    made: Exception = kind(*about.get(name, (text,)))
    return made


def _replayed(
    library: ModuleType, pool: Any, conn: Any, method: str, url: str, replay: Replay, options: dict[str, Any]
) -> Any:
    take = replay.take
    if take.status is None:
        replay.served()
        raise _error(library, pool, conn, url, take.error or {})
    inner = http.client.HTTPResponse(Socket.of(replay, method), method=method)  # type: ignore[arg-type]
    inner.begin()
    response = library.response.HTTPResponse(
        body=inner,
        headers=library.HTTPHeaderDict(inner.msg.items()),
        status=inner.status,
        version=inner.version,
        reason=inner.reason,
        preload_content=options.get("preload_content", True),
        decode_content=options.get("decode_content", True),
        original_response=inner,
        pool=pool,
        connection=options.get("response_conn"),
        retries=options.get("retries"),
        enforce_content_length=options.get("enforce_content_length", True),
        request_method=method,
        request_url=url,
    )
    setattr(response, _TUNNEL, True)
    return response


def _answered(library: ModuleType, conn: Any, recorder: Recorder) -> Any:
    """Return the answer of a connection, whose reading is noted."""
    # Not before: botocore's connection sets the class of its responses when it sends.
    usual = conn.response_class
    conn.response_class = Tee(recorder, usual, lambda _, made: _decoding(library, recorder, made))
    try:
        return type(conn).getresponse(conn)
    finally:
        conn.response_class = usual


def _decoding(library: ModuleType, recorder: Recorder, made: Any) -> None:
    """Have a recorder undo the framing and the encoding of an answer, by the library's own code."""
    encoding = (made.msg.get("content-encoding") or "").strip().lower()
    known = all(
        part.strip() in library.response.HTTPResponse.CONTENT_DECODERS for part in encoding.split(",") if part.strip()
    )
    if encoding and not known:
        recorder.keep("content-encoding")
    chunked = bool(made.chunked)
    if not chunked and (not encoding or not known):
        return

    def decode(pieces: Pieces) -> Pieces:
        plain = unframed(pieces) if chunked else pieces
        return _unencoded(library, encoding, plain) if encoding and known else plain

    recorder.decode = decode


def _unencoded(library: ModuleType, encoding: str, pieces: Pieces) -> Pieces:
    at = 0.0

    def raw() -> Any:
        nonlocal at
        yield f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n\r\n".encode()
        for at, data in pieces:  # noqa: B007
            yield data

    inner = http.client.HTTPResponse(Socket(raw()))  # type: ignore[arg-type]
    inner.begin()
    response = library.response.HTTPResponse(
        body=inner, headers={"content-encoding": encoding}, preload_content=False, original_response=inner
    )
    found: Pieces = []
    try:
        while data := response.read1(1 << 16, decode_content=True):
            found.append((at, data))
    except library.exceptions.HTTPError:  # cut short
        pass
    return found
