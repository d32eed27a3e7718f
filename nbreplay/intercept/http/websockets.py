"""websockets, sync and asyncio: its connections to `Session`, the session's messages to its connections.

Whether a connection is replayed is decided before it is opened, since a replay opens none. Everything else happens in
the library's `ClientProtocol`, which knows no sockets and which both clients use: frames go out through its
`send_frame` and come in through its `recv_frame`. While recording, these are noted. While replaying, the frames that go
out are compared, the client takes its messages from the recording, and what is left for the protocol (the handshake,
pongs, closing) comes as bytes from a peer in memory.

The library's other clients, trio's and the legacy one, are neither recorded nor replayed: they are refused under
replay, and named while recording.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import types
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from nbreplay.core.config import Mode
from nbreplay.core.request.request import Call
from nbreplay.core.session import current_session
from nbreplay.core.websocket import WebSocketRecorder, WebSocketReplay
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.intercept.http.exchange import errno_and_text, host_and_target, record_errors
from nbreplay.intercept.http.websocket_frames import CLOSE, parse_close
from nbreplay.intercept.http.websockets_replay import (
    Fragments,
    NoTls,
    call_first,
    replay_asyncio,
    replay_socket,
    replay_sync,
)
from nbreplay.intercept.network import guard

_Decision = WebSocketReplay | WebSocketRecorder | None


def install(module: ModuleType) -> patching.Undo:
    """Hook into the asyncio client."""
    connect = module.connect
    name = "open_tcp_connection" if hasattr(connect, "open_tcp_connection") else "create_connection"  # before 17
    before = getattr(connect, name)

    async def open_connection(self: Any) -> Any:
        uri = module.parse_uri(self.uri)
        # The headers and the user agent; before 15 as the arguments of the handshake.
        headers = getattr(self, "handshake_args", ()) or (self.additional_headers, self.user_agent_header)
        decision = _ask(uri, *headers)
        if isinstance(decision, WebSocketReplay):
            _raise_recorded_error(decision)
            connection = (self.factory if hasattr(self, "factory") else self.protocol_factory)(uri)
            replay_asyncio(connection, uri, decision)
            return connection
        with record_errors(decision, _describe):
            connection = await before(self)
        _watch(connection.protocol, decision)
        return connection

    return patching.put((connect, name, open_connection))


def install_sync(module: ModuleType) -> patching.Undo:
    """Hook into the sync client."""
    if not hasattr(module, "reconnect"):
        return _install_function(module)
    connecter = module.reconnect
    before = connecter.open_connection

    def open_connection(self: Any, deadline: Any) -> Any:
        headers = self.additional_headers, self.user_agent_header
        with _opening(module, self.ws_uri, *headers, self.create_connection) as options:
            given = {name: getattr(self, name) for name in options}
            vars(self).update(options)
            try:
                return before(self, deadline)
            finally:
                vars(self).update(given)

    return patching.put((connecter, "open_connection", open_connection))


def _install_function(module: ModuleType) -> patching.Undo:
    """Hook into the sync client before 17.1, a function that does it all.

    Its code is replaced and not the function, since programs may have imported that by now.
    """
    connect = module.connect
    code = connect.__code__
    before = types.FunctionType(code, connect.__globals__, "connect", connect.__defaults__)
    before.__kwdefaults__ = connect.__kwdefaults__

    def open_connection(uri: str, **given: Any) -> Any:
        headers = given.get("additional_headers"), given.get("user_agent_header", module.USER_AGENT)
        with _opening(module, module.parse_uri(uri), *headers, given.get("create_connection")) as options:
            return before(uri, **{**given, **options})

    def trampoline(*args: Any, **given: Any) -> Any:
        return _nbreplay_connect(*args, **given)  # type: ignore[name-defined]  # noqa: F821

    module.__dict__["_nbreplay_connect"] = open_connection
    connect.__code__ = trampoline.__code__

    def undo() -> None:
        connect.__code__ = code

    return undo


def install_protocol(module: ModuleType) -> patching.Undo:
    """Hook into what all clients have in common: here those show up that are neither recorded nor replayed."""
    protocol = module.ClientProtocol
    before = protocol.send_request
    for name in ("process_response", "receive_eof", "recv_frame", "send_frame"):
        getattr(protocol, name)

    def send_request(self: Any, request: Any) -> None:
        if not hasattr(self, "nbreplay"):
            headers = [(name.encode(), value.encode()) for name, value in request.headers.raw_items()]
            _pass(self.uri if hasattr(self, "uri") else self.wsuri, headers)  # the latter before 15
        before(self, request)

    return patching.put((protocol, "send_request", send_request))


def install_legacy(module: ModuleType) -> patching.Undo:
    """Hook into the legacy client, which is not recorded."""
    before = module.parse_uri

    def parse_uri(uri: str) -> Any:
        parsed = before(uri)
        _pass(parsed, [], "websockets' legacy client")
        return parsed

    return patching.put((module, "parse_uri", parse_uri))


@contextlib.contextmanager
def _opening(
    module: ModuleType, uri: Any, headers: Any, user_agent: str | None, create: Any
) -> Iterator[dict[str, Any]]:
    """Yield what a sync connection is to be opened with: a factory that records it, or all that a replay needs."""
    decision = _ask(uri, headers, user_agent)
    create = create or module.ClientConnection
    if isinstance(decision, WebSocketReplay):
        _raise_recorded_error(decision)
        replay = decision
        sock, peer = replay_socket(uri)

        def create_replay(given: Any, protocol: Any, **options: Any) -> Any:
            connection = create(given, protocol, **options)
            replay_sync(connection, replay, peer)
            return connection

        tls = {"ssl": NoTls() if uri.secure else None, "proxy_ssl": None}
        yield {"sock": sock, **tls, "create_connection": create_replay}
        return

    def create_recorded(given: Any, protocol: Any, **options: Any) -> Any:
        _watch(protocol, decision)
        return create(given, protocol, **options)

    with record_errors(decision, _describe):
        yield {"create_connection": create_recorded}


def _call(uri: Any, headers: Any, user_agent: str | None) -> Call:
    from websockets.datastructures import Headers
    from websockets.version import version

    every = Headers({} if headers is None else headers)
    if user_agent is not None and "user-agent" not in every:
        every["User-Agent"] = user_agent
    pairs = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in every.raw_items()]
    host, target = host_and_target("https" if uri.secure else "http", uri.host, uri.port, uri.resource_name)
    return Call("GET", host, target, "", b"", pairs, f"websockets {version}")


def _ask(uri: Any, headers: Any, user_agent: str | None) -> _Decision:
    if guard.is_permitted():
        return None  # it is sent on behalf of a call that was asked for
    call = _call(uri, headers, user_agent)
    if (session := current_session()) is None:
        placeholder_keys.refuse(call.target, call.headers)
        return None
    return session.ask_websocket(call)


def _pass(uri: Any, headers: list[tuple[bytes, bytes]], client: str = "a client of websockets") -> None:
    """Let a client pass that is neither recorded nor replayed, as far as the session allows that."""
    session = current_session()
    try:
        placeholder_keys.refuse(uri.resource_name, headers)
    except RecordingMissing as error:
        if session is not None:
            session.log_blocked(uri.host, str(error))
        raise
    if session is not None and session.mode is not Mode.OFF:
        call = _call(uri, None, None)
        session.pass_websocket(f"{client} ({call.host}{call.target.partition('?')[0]})", call.host)


def _describe(error: BaseException) -> tuple[str, str] | None:
    return (type(error).__name__, str(error)) if isinstance(error, Exception) else None


def _raise_recorded_error(replay: WebSocketReplay) -> None:
    """Raise the error with which connecting failed when it was recorded, if it did."""
    take = replay.replay.take
    if take.status is None:
        replay.replay.finish()
        name, message = (take.error or {}).get("type", ""), (take.error or {}).get("message", "")
        if name == "TimeoutError":
            raise TimeoutError(message)
        raise OSError(*(errno_and_text(message) or (f"{name}: {message}",)))


# Recording


class _ProtocolRecorder:
    """Notes what goes through a protocol, as long as that lives."""

    def __init__(self, protocol: Any, recorder: WebSocketRecorder) -> None:
        self._protocol, self._recorder = protocol, recorder
        self._sent, self._received = Fragments(), Fragments()
        call_first(protocol, "process_response", self._note_response)
        call_first(protocol, "send_frame", self._note_sent)
        call_first(protocol, "recv_frame", self._note_received)
        call_first(protocol, "receive_eof", self._finish)

    def _note_response(self, response: Any) -> None:
        recorder = self._recorder
        recorder.begin(response.status_code, response.headers.raw_items(), response.reason_phrase, "HTTP/1.1")
        if response.status_code != 101:
            recorder.feed(bytes(response.body or b""))
            recorder.end()

    def _note_sent(self, frame: Any) -> None:
        if (content := self._sent.add(frame)) is not None:
            self._recorder.note_sent(content)
        elif frame.opcode == CLOSE and self._protocol.close_rcvd is None:  # else it answers the server's
            self._recorder.note_close("client", *parse_close(bytes(frame.data)))

    def _note_received(self, frame: Any) -> None:
        if (content := self._received.add(frame)) is not None:
            self._recorder.note_received(content)
        elif frame.opcode == CLOSE:
            self._recorder.note_close("server", *parse_close(bytes(frame.data)))

    def _finish(self) -> None:
        """Note that the connection is closed."""
        recorder, protocol = self._recorder, self._protocol
        if protocol.close_rcvd is not None or protocol.close_sent is not None:
            recorder.end()
        elif isinstance(sys.exception(), KeyboardInterrupt | asyncio.CancelledError):
            recorder.interrupt()
        else:
            recorder.fail("ConnectionClosedError", "no close frame received or sent")


def _watch(protocol: Any, decision: WebSocketRecorder | None) -> None:
    """Have a protocol recorded, if its session is."""
    protocol.nbreplay = decision  # `install_protocol` looks for it
    if decision is not None:
        _ProtocolRecorder(protocol, decision)
