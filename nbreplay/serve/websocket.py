"""One websocket through the server: replayed from the session, or relayed to its host and recorded on the way.

It translates between ASGI and `Session.ask_websocket`, as an interceptor does, and decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, MutableMapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from nbreplay.core.cell import Run
from nbreplay.core.recording.headers import HOP_BY_HOP
from nbreplay.core.recording.websocket import ABNORMAL, NO_CODE, Close, Message
from nbreplay.core.request.request import Call, Headers
from nbreplay.core.session import Session
from nbreplay.core.strand import detach_task
from nbreplay.core.websocket import WebSocketRecorder, WebSocketReplay
from nbreplay.errors import RecordingMissing
from nbreplay.intercept.network import guard
from nbreplay.serve.forward import Receive, Send

_POLICY_VIOLATION = 1008
_LONGEST_REASON = 123  # bytes, of a close frame
# Headers of a handshake that belong to one connection, or that the client of the upstream writes itself.
_OWN = frozenset(
    name.encode()
    for name in (*HOP_BY_HOP, "host", "origin", "proxy-authorization", "content-length", "sec-websocket-protocol")
)


async def answer(
    session: Session,
    call: Call,
    upstream: str,
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    run: Run | None,
) -> None:
    """Answer the handshake and the messages of a caller; `upstream` is where it is sent if it is not replayed.

    Raise `RecordingMissing` for a call without a recorded session, of which nothing has been sent then.
    """
    detach_task()
    await receive()  # the handshake
    decision = session.ask_websocket(call, run=run)
    if isinstance(decision, WebSocketReplay):
        await _replay(decision, scope, receive, send)
    else:
        await _relay(call, upstream, decision, scope, receive, send)


# Replaying


async def _replay(replay: WebSocketReplay, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    take = replay.replay.take
    if take.status != 101:
        replay.replay.finish()
        await _refuse(send, take.status or 502, take.headers.get("content-type", ""), take.body.data())
        return
    await send({"type": "websocket.accept", "subprotocol": take.headers.get("sec-websocket-protocol")})
    try:
        await _until_one_ends(_compare(replay, receive), _give(replay, send))
    except RecordingMissing as miss:
        await _close(send, _POLICY_VIOLATION, str(miss))
    except _Left as left:
        replay.abort() if left.code == ABNORMAL else replay.close(left.code, left.reason)
    except _Closed as closed:
        await _pass_close(closed.close, scope, send)


async def _compare(replay: WebSocketReplay, receive: Receive) -> None:
    """Compare what the caller sends."""
    while True:
        if (close := replay.send(await _next(receive))) is not None:
            raise _Closed(close)


async def _give(replay: WebSocketReplay, send: Send) -> None:
    """Give the caller what was recorded."""
    while True:
        frame = await replay.receive_async()
        if isinstance(frame, Close):
            raise _Closed(frame)
        await _pass(send, frame)


# Recording


async def _relay(
    call: Call,
    upstream: str,
    recorder: WebSocketRecorder | None,
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
) -> None:
    url = upstream.replace("http", "ws", 1) + call.target
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in _headers_for(call.headers)]
    try:
        with guard.permit(call.host):
            connection = await connect(
                url,
                additional_headers=headers,
                subprotocols=scope.get("subprotocols") or None,
                user_agent_header=None,
                max_size=None,
                ping_interval=None,  # the caller has its own patience
            )
    except InvalidStatus as error:
        response = error.response
        if recorder is not None:
            recorder.begin(response.status_code, response.headers.raw_items(), response.reason_phrase, "HTTP/1.1")
            recorder.feed(bytes(response.body or b""))
            recorder.end()
        kind = response.headers.get("content-type", "")
        await _refuse(send, response.status_code, kind, bytes(response.body or b""))
        return
    except (OSError, WebSocketException) as error:
        if recorder is not None:
            recorder.fail(type(error).__name__, str(error))
        await _refuse(send, 502, "text/plain", f"{call.host} cannot be reached: {error}".encode())
        return
    if recorder is not None and connection.response is not None:
        recorder.begin(101, connection.response.headers.raw_items(), connection.response.reason_phrase, "HTTP/1.1")
    await send({"type": "websocket.accept", "subprotocol": connection.subprotocol})
    try:
        await _until_one_ends(_send_on(connection, recorder, receive), _bring_back(connection, recorder, send))
    except _Left as left:
        _end(recorder, Close("client", left.code, left.reason))
        await connection.close(1000 if left.code in (NO_CODE, ABNORMAL) else left.code, left.reason)
    except _Closed as closed:
        _end(recorder, closed.close)  # before the caller knows: what it does next finds the recording
        await _pass_close(closed.close, scope, send)
    finally:
        await connection.close()


async def _send_on(connection: ClientConnection, recorder: WebSocketRecorder | None, receive: Receive) -> None:
    """Send on what the caller sends."""
    while True:
        content = await _next(receive)
        if recorder is not None:
            recorder.note_sent(content)  # before it is sent: an answer may come while that waits
        with contextlib.suppress(ConnectionClosed):  # the other direction tells how
            await connection.send(content)


async def _bring_back(connection: ClientConnection, recorder: WebSocketRecorder | None, send: Send) -> None:
    """Bring the caller what the host sends."""
    while True:
        try:
            content = await connection.recv()
        except ConnectionClosed as error:
            close = error.rcvd
            raise _Closed(Close("server", close.code, close.reason) if close else Close("server", ABNORMAL)) from None
        if recorder is not None:
            recorder.note_received(content)
        await _pass(send, Message("server", content))


def _end(recorder: WebSocketRecorder | None, close: Close) -> None:
    if recorder is None:
        return
    if close.code == ABNORMAL and close.by == "server":
        recorder.fail("ConnectionClosedError", "no close frame received or sent")
    elif close.code == ABNORMAL:
        recorder.close()
    else:
        recorder.note_close(close.by, close.code, close.reason)
        recorder.end()


def _headers_for(headers: Headers) -> Headers:
    """Return the headers of a handshake that are sent to the upstream."""
    return [(name, value) for name, value in headers if name not in _OWN and not name.startswith(b"sec-websocket-")]


# Both


class _Left(Exception):
    """The caller has closed the session, or its connection is gone."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class _Closed(Exception):
    """The server has closed the session."""

    def __init__(self, close: Close) -> None:
        super().__init__(close)
        self.close = close


async def _next(receive: Receive) -> str | bytes:
    """Return the next message of the caller."""
    message = await receive()
    if message["type"] == "websocket.disconnect":
        raise _Left(message.get("code", NO_CODE), message.get("reason") or "")
    content: str | bytes | None = message.get("text")
    return message["bytes"] if content is None else content


async def _pass(send: Send, message: Message) -> None:
    content = message.content
    if isinstance(content, str):
        await send({"type": "websocket.send", "text": content})
    else:
        await send({"type": "websocket.send", "bytes": content if isinstance(content, bytes) else content.data()})


async def _pass_close(close: Close, scope: MutableMapping[str, Any], send: Send) -> None:
    """Close the session as the server did. A frame without a code cannot be sent: 1000 says as much."""
    if close.code == ABNORMAL:
        scope["state"]["transport"].abort()
    else:
        await _close(send, 1000 if close.code == NO_CODE else close.code, close.reason)


async def _close(send: Send, code: int, reason: str) -> None:
    short = reason.encode()[:_LONGEST_REASON].decode("utf-8", "ignore")
    with contextlib.suppress(RuntimeError):  # closed in the meantime
        await send({"type": "websocket.close", "code": code, "reason": short})


async def _refuse(send: Send, status: int, content_type: str, body: bytes) -> None:
    """Answer a handshake by an answer of HTTP."""
    headers = [(b"content-type", content_type.encode("latin-1", "replace"))] if content_type else []
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


async def _until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Do both at once; raise the exception with which the first one ends."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
