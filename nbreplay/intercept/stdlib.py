"""`http.client`, and so `urllib.request`, `xmlrpc` and `pandas.read_csv` of a URL.

A request is decided when its head is complete; where a program sends the body after it, when it asks for the answer.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nbreplay.core import active
from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request import Call
from nbreplay.intercept import guard, keys
from nbreplay.intercept.http11 import Socket, Tee, body_bytes, broken, failed, host_of, unframed

__all__ = ["install"]

_DECIDED = "_nbreplay_decided"
_HELD = "_nbreplay_held"
_LIBRARY = f"http.client {platform.python_version()}"


def install(module: ModuleType) -> Callable[[], None]:
    """Hook into `http.client`; return what undoes it.

    Raises
    ------
    AttributeError
        Where it no longer has the hooks.
    """
    connection = module.HTTPConnection
    before_output, before_send, before_answer = connection._send_output, connection.send, connection.getresponse

    def send_output(self: Any, message_body: Any = None, encode_chunked: bool = False) -> None:
        vars(self).pop(_DECIDED, None)
        session = None if guard.passing() else active.current()
        if session is None:
            return before_output(self, message_body, encode_chunked)  # type: ignore[no-any-return]
        if message_body is None and _announces_body(self._buffer):
            # The body comes later, by send(): until then it is not known what is asked.
            vars(self)[_HELD] = (list(self._buffer), [])
            del self._buffer[:]
            return None
        body = body_bytes(message_body)
        decision = _decide(self, self._buffer, body)
        if isinstance(decision, Replay):
            del self._buffer[:]
            return None
        with _sending(self, decision):
            return before_output(self, body if message_body is not None else None, encode_chunked)  # type: ignore[no-any-return]

    def send(self: Any, data: Any) -> None:
        held = vars(self).get(_HELD)
        if held is None:
            return before_send(self, data)  # type: ignore[no-any-return]
        held[1].append(body_bytes(data))
        return None

    def getresponse(self: Any) -> Any:
        held = vars(self).pop(_HELD, None)
        if held is not None:
            head, sent = held
            decision = _decide(self, head, _unchunked(head, b"".join(sent)))
            if not isinstance(decision, Replay):
                with _sending(self, decision):
                    before_send(self, b"\r\n".join([*head, b"", b""]) + b"".join(sent))
        decision = vars(self).pop(_DECIDED, None)
        if isinstance(decision, Replay):
            return _replayed(self, decision)
        if not isinstance(decision, Recorder):
            return before_answer(self)
        usual = self.response_class
        self.response_class = Tee(decision, usual, _decoding)
        try:
            return before_answer(self)
        except BaseException as error:
            failed(decision, error)
            raise
        finally:
            self.response_class = usual

    made = (
        ("_send_output", before_output, send_output),
        ("send", before_send, send),
        ("getresponse", before_answer, getresponse),
    )
    for name, _, ours in made:
        setattr(connection, name, ours)

    def undo() -> None:
        for name, before, ours in made:
            # Where somebody has hooked in after us, theirs stays, and ours under it does nothing.
            if getattr(connection, name) is ours:
                setattr(connection, name, before)

    return undo


class _sending:  # noqa: N801
    """Around what is sent: lets it pass the guard, and tells the recorder of what goes wrong."""

    def __init__(self, connection: Any, decision: Recorder | None) -> None:
        self._decision, self._permitted = decision, guard.permitted(connection.host)

    def __enter__(self) -> None:
        self._permitted.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._permitted.__exit__(kind, error, trace)
        if error is not None and self._decision is not None:
            failed(self._decision, error)


def _decide(connection: Any, head: list[bytes], body: bytes) -> Replay | Recorder | None:
    method, target = head[0].decode("latin-1").split(" ")[:2]
    scheme = "https" if connection.default_port == 443 else "http"
    host = host_of(scheme, connection._tunnel_host or connection.host, connection._tunnel_port or connection.port)
    if "://" in target:  # to a proxy
        _, _, rest = target.partition("://")
        host, slash, target = rest.partition("/")
        target = slash + target
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in head[1:])]
    session = keys.asked(active.current(), host, headers)
    decision = None if session is None else session.ask(Call(method, host, target, "", body, headers, _LIBRARY))
    vars(connection)[_DECIDED] = decision
    if isinstance(decision, Replay) and decision.take.status is None:
        decision.served()
        error = decision.take.error or {}
        raise broken(error.get("type", ""), error.get("message", ""))
    return decision


def _announces_body(head: list[bytes]) -> bool:
    names = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in head[1:])}
    return b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"


def _unchunked(head: list[bytes], sent: bytes) -> bytes:
    """Return the body that a program has sent in chunks of its own making."""
    if not any(line.lower().replace(b" ", b"") == b"transfer-encoding:chunked" for line in head):
        return sent
    return b"".join([data for _, data in unframed([(0.0, sent)])])


def _decoding(recorder: Recorder, response: Any) -> None:
    if response.chunked:
        recorder.decode = unframed
    # Who asked `http.client` for an encoded answer decodes it: what it gets again is encoded, too.
    recorder.keep("content-encoding")


def _replayed(connection: Any, replay: Replay) -> Any:
    method = connection._method
    connection.close()
    made = connection.response_class(Socket.of(replay, method), method=method)
    made.begin()
    return made
