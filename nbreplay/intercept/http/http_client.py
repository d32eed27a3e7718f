"""`http.client`, and so `urllib.request`, `xmlrpc` and `pandas.read_csv` of a URL.

A request is decided when its head is complete; where a program sends the body after it, when it asks for the answer.
"""

from __future__ import annotations

import platform
from types import ModuleType
from typing import Any

from nbreplay.core.session import current_session
from nbreplay.intercept import patching
from nbreplay.intercept.http import http11
from nbreplay.intercept.http.exchange import Exchange, record_error
from nbreplay.intercept.http.http11 import ReplaySocket
from nbreplay.intercept.network import guard

_WAITING = "_nbreplay_waiting"
_RECORDER = "_nbreplay_recorder"
_CHARSET = "iso-8859-1"  # of text that a program sends
_LIBRARY = f"http.client {platform.python_version()}"


def install(module: ModuleType) -> patching.Undo:
    """Hook into `http.client`."""
    connection = module.HTTPConnection
    before_output, before_send, before_answer = connection._send_output, connection.send, connection.getresponse

    def send_output(self: Any, message_body: Any = None, encode_chunked: bool = False) -> None:
        vars(self).pop(_WAITING, None)
        vars(self).pop(_RECORDER, None)
        if guard.is_permitted():
            before_output(self, message_body, encode_chunked)
            return
        request = _Request(self)
        body, data = message_body, b""
        if request.exchange.needs_body:
            if body is None and request.announces_body:
                # The body comes later, by send(): until then it is not known what is asked.
                vars(self)[_WAITING] = request
                del self._buffer[:]
                self.sock = self.sock or ReplaySocket()
                return
            if body is not None:
                body = data = http11.body_bytes(body, _CHARSET)
        if request.is_replayed(data):
            del self._buffer[:]
            return
        with request.exchange.sending(self.host, http11.describe_error):
            before_output(self, body, encode_chunked)

    def send(self: Any, data: Any) -> None:
        request = vars(self).get(_WAITING)
        if request is None:
            before_send(self, data)
        else:
            request.sent.append(http11.body_bytes(data, _CHARSET))

    def getresponse(self: Any) -> Any:
        request = vars(self).pop(_WAITING, None)
        if request is not None:
            _remove_socket(self)
            if not request.is_replayed(request.body):
                with request.exchange.sending(self.host, http11.describe_error):
                    before_send(self, request.data)
        recorder = vars(self).pop(_RECORDER, None)
        if recorder is None:
            try:
                return before_answer(self)
            finally:
                _remove_socket(self)
        try:
            return http11.record_response(
                self, recorder, lambda: before_answer(self), lambda _: recorder.keep("content-encoding")
            )
        except BaseException as error:
            record_error(recorder, error, http11.describe_read_error)
            raise

    return patching.put(
        (connection, "_send_output", send_output), (connection, "send", send), (connection, "getresponse", getresponse)
    )


def _remove_socket(connection: Any) -> None:
    """Take a socket of ours from a connection, so that it opens one of its own when something is really sent."""
    if isinstance(connection.sock, ReplaySocket):
        connection.sock = None


class _Request:
    """A request of which the head is complete."""

    def __init__(self, connection: Any) -> None:
        # sent: pieces that the program has sent after the head
        self._connection, self._head, self.sent = connection, list(connection._buffer), list[bytes]()
        self._method, target = self._head[0].decode("latin-1").split(" ")[:2]
        self._headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in self._head[1:])]
        scheme = "https" if connection.default_port == 443 else "http"
        address = connection._tunnel_host or connection.host, connection._tunnel_port or connection.port
        host, target = http11.host_and_target(scheme, *address, target)
        self.exchange = Exchange(current_session(), self._method, host, target, self._headers, _LIBRARY)

    @property
    def announces_body(self) -> bool:
        """Whether a body is to follow the head."""
        headers = {name.lower(): value for name, value in self._headers}
        return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

    @property
    def data(self) -> bytes:
        """The head, and all that the program has sent after it."""
        return b"\r\n".join([*self._head, b"", b"".join(self.sent)])

    @property
    def body(self) -> bytes:
        """The body, which the program may have sent in chunks of its own."""
        body = b"".join(self.sent)
        chunked = any(name.lower() == b"transfer-encoding" and value == b"chunked" for name, value in self._headers)
        return http11.ChunkDecoder().feed(body) if chunked else body

    def is_replayed(self, body: bytes) -> bool:
        """Ask the session. The connection gets what answers: the socket of a replay, or a recorder."""
        replay = self.exchange.replay(body)
        if replay is None:
            vars(self._connection)[_RECORDER] = self.exchange.recorder
            return False
        if not http11.was_sent(replay.take):
            replay.finish()
            raise http11.error_of(replay.take.error)
        if self._connection.sock is not None:
            self._connection.sock.close()
        self._connection.sock = ReplaySocket.of(replay, self._method)
        return True
