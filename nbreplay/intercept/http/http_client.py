"""`http.client`, and so `urllib.request`, `xmlrpc` and `pandas.read_csv` of a URL.

A request is decided when its head is complete; where a program sends the body after it, when it asks for the answer.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import field
from types import ModuleType
from typing import Any

from nbreplay.core.config import Mode
from nbreplay.core.frozen import frozen
from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session, current_session
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.http.http11 import Socket, addressed, body_bytes, broken, failed, was_sent
from nbreplay.intercept.http.http11_tee import Chunks, Tee
from nbreplay.intercept.network import guard

__all__ = ["install"]

_HELD = "_nbreplay_held"
_RECORDER = "_nbreplay_recorder"
_CHARSET = "iso-8859-1"  # of text that a program sends
_LIBRARY = f"http.client {platform.python_version()}"


def install(module: ModuleType) -> patching.Undo:
    """Hook into `http.client`; return what undoes it.

    Raises
    ------
    AttributeError
        Where it no longer has the hooks.
    """
    connection = module.HTTPConnection
    before_output, before_send, before_answer = connection._send_output, connection.send, connection.getresponse

    def send_output(self: Any, message_body: Any = None, encode_chunked: bool = False) -> None:
        vars(self).pop(_HELD, None)
        vars(self).pop(_RECORDER, None)
        if guard.is_permitted():
            return before_output(self, message_body, encode_chunked)  # type: ignore[no-any-return]
        request = _Request.of(self)
        if request.session is None:
            return _sent(self, None, lambda: before_output(self, message_body, encode_chunked))
        if message_body is None and request.announces_body:
            # The body comes later, by send(): until then it is not known what is asked.
            vars(self)[_HELD] = request
            del self._buffer[:]
            self.sock = self.sock or Socket()
            return None
        body = None if message_body is None else body_bytes(message_body, _CHARSET)
        decision = request.ask(self, body or b"")
        if isinstance(decision, Replay):
            del self._buffer[:]
            return None
        return _sent(self, decision, lambda: before_output(self, body, encode_chunked))

    def send(self: Any, data: Any) -> None:
        held = vars(self).get(_HELD)
        if held is None:
            return before_send(self, data)  # type: ignore[no-any-return]
        held.sent.append(body_bytes(data, _CHARSET))
        return None

    def getresponse(self: Any) -> Any:
        held = vars(self).pop(_HELD, None)
        if held is not None:
            _unplug(self)
            decision = held.ask(self, held.body)
            if not isinstance(decision, Replay):
                _sent(self, decision, lambda: before_send(self, held.data))
        recorder = vars(self).pop(_RECORDER, None)
        if recorder is None:
            try:
                return before_answer(self)
            finally:
                _unplug(self)
        usual = self.response_class
        self.response_class = Tee(recorder, usual, lambda _: recorder.keep("content-encoding"))
        try:
            return before_answer(self)
        except BaseException as error:
            failed(recorder, error, answering=True)
            raise
        finally:
            self.response_class = usual

    return patching.put(
        (connection, "_send_output", send_output), (connection, "send", send), (connection, "getresponse", getresponse)
    )


def _unplug(connection: Any) -> None:
    """Take a socket of ours from a connection, so that it opens one of its own when something is really sent."""
    if isinstance(connection.sock, Socket):
        connection.sock = None


def _sent(connection: Any, decision: Recorder | None, send: Callable[[], None]) -> None:
    """Send past the guard, and tell the recorder of what goes wrong."""
    try:
        with guard.permit(connection.host):
            send()
    except BaseException as error:
        if decision is not None:
            failed(decision, error)
        raise


@frozen
class _Request:
    """A request of which the head is complete.

    Attributes
    ----------
    session : Session or None
        Whom to ask about it.
    mode : Mode
        The one in which it has started.
    head : list of bytes
        Its lines.
    method, host, target : str
    headers : list of (bytes, bytes)
    sent : list of bytes
        What the program has sent after the head.
    """

    session: Session | None
    mode: Mode
    head: list[bytes]
    method: str
    host: str
    target: str
    headers: list[tuple[bytes, bytes]]
    sent: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, connection: Any) -> _Request:
        """Return the request of which a connection is about to send the head."""
        head: list[bytes] = list(connection._buffer)
        method, target = head[0].decode("latin-1").split(" ")[:2]
        scheme = "https" if connection.default_port == 443 else "http"
        place = connection._tunnel_host or connection.host, connection._tunnel_port or connection.port
        host, target = addressed(scheme, *place, target)
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in head[1:])]
        return cls(
            *placeholder_keys.asked(
                current_session(), host, lambda: [target.encode(), *(value for _, value in headers)]
            ),
            head,
            method,
            host,
            target,
            headers,
        )

    @property
    def announces_body(self) -> bool:
        """Whether a body is to follow the head."""
        names = {name.lower(): value for name, value in self.headers}
        return b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"

    @property
    def data(self) -> bytes:
        """All that the program has sent."""
        return b"\r\n".join([*self.head, b"", b"".join(self.sent)])

    @property
    def body(self) -> bytes:
        """What was sent after the head, out of chunks of the program's own making."""
        body = b"".join(self.sent)
        chunked = any(name.lower() == b"transfer-encoding" and value == b"chunked" for name, value in self.headers)
        return Chunks().opened(body) if chunked else body

    def ask(self, connection: Any, body: bytes) -> Replay | Recorder | None:
        """Decide what becomes of it; where it is replayed, the connection is given a socket that answers."""
        assert self.session is not None
        call = Call(self.method, self.host, self.target, "", body, self.headers, _LIBRARY)
        decision = self.session.ask(call, self.mode)
        if isinstance(decision, Replay):
            if not was_sent(decision.take):
                decision.finish()
                raise broken(decision.take.error)
            if connection.sock is not None:
                connection.sock.close()
            connection.sock = Socket.of(decision, self.method)
        elif decision is not None:
            vars(connection)[_RECORDER] = decision
        return decision
