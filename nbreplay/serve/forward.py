"""One call through the server: replayed from the session, or sent on to its host and recorded on the way back.

It translates between ASGI and `Session.ask`, as an interceptor does, and decides nothing.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from types import ModuleType
from typing import Any

from nbreplay.core.cell import Run
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.headers import HOP_BY_HOP, framed_headers, is_bare, is_sized
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call, Headers
from nbreplay.core.session import Session
from nbreplay.core.strand import detach_task
from nbreplay.errors import RecordingMissing
from nbreplay.intercept.http.exchange import record_errors
from nbreplay.intercept.http.httpx import describe_error, record_response
from nbreplay.intercept.network import guard
from nbreplay.serve.addresses import Upstreams

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Headers of a request that are about its connection, or that the client of the upstream sets itself.
_OWN = frozenset(
    name.encode()
    for name in (*HOP_BY_HOP, "accept-encoding", "content-length", "expect", "host", "proxy-authorization")
)


class Left(Exception):
    """The caller has closed its connection."""


class Forwarder:
    """Answers the calls of programs, one after the other or at once."""

    def __init__(self, session: Session, upstreams: Upstreams) -> None:
        self.session, self.upstreams = session, upstreams
        self._client: Any = None

    async def answer(self, call: Call, scheme: str, receive: Receive, send: Send, run: Run | None = None) -> bool:
        """Answer a call, which is sent on unless it is replayed; return whether the answer is whole.

        `scheme` is ``http`` or ``https``, or ``""`` where the host decides.

        Raise `RecordingMissing` for a call without an answer, of which nothing has been sent then.
        """
        detach_task()
        decision = self.session.ask(call, run=run)
        if isinstance(decision, Replay):
            return await _replay(decision, call.method, receive, send)
        return await _until_left(self._send(call, scheme, decision, send), receive, decision)

    async def _send(self, call: Call, scheme: str, recorder: Recorder | None, send: Send) -> bool:
        library, client = self._library_and_client()
        url = self.upstreams.url_of(call.host, scheme) + call.target
        headers = _headers_for(call.headers, client)
        try:
            with record_errors(recorder, describe_error):
                request = library.Request(call.method, url, headers=headers, content=call.body)
                if (target := call.target.encode("latin-1")) != request.url.raw_path:
                    request.extensions["target"] = target  # which the library would normalise
                with guard.permit(request.url.netloc.decode("ascii")):
                    response = await client.send(request, stream=True)
            record_response(request, response, recorder)
            try:
                await send(_start(response.status_code, _passed_on(response.headers.raw)))
                # The caller has the last byte only when the take is written, so that whatever it does next finds it.
                left, last = int(response.headers.get("content-length", 0)), b""
                async for data in response.aiter_raw():
                    left -= len(data)
                    if left == 0:
                        last = data
                    else:
                        await send(_body(data, more=True))
            finally:
                await response.aclose()
        except (library.TransportError, library.InvalidURL):
            return False
        await send(_body(last))
        return True

    def _library_and_client(self) -> tuple[ModuleType, Any]:
        try:
            library = importlib.import_module("httpx2")
        except ImportError:
            library = importlib.import_module("httpx")
        if self._client is None:
            limits = library.Limits(max_connections=None, max_keepalive_connections=20)
            # With the proxies of the environment; the caller has its own patience.
            self._client = library.AsyncClient(timeout=None, limits=limits, follow_redirects=False)
        return library, self._client

    async def close(self) -> None:
        """Close the connections to upstreams."""
        if self._client is not None:
            await self._client.aclose()


def _headers_for(headers: Headers, client: Any) -> list[tuple[bytes, bytes]]:
    """Return the headers that are sent to the upstream; the answer's encoding must be one that can be undone."""
    connection = b",".join(value for name, value in headers if name == b"connection")
    dropped = _OWN.union(name.strip().lower() for name in connection.split(b","))
    wanted = b",".join(value for name, value in headers if name == b"accept-encoding").decode("latin-1").lower()
    can_undo = [name.strip() for name in client.headers["accept-encoding"].split(",")]
    encodings = ", ".join(name for name in can_undo if name in wanted) or "identity"
    return [*(pair for pair in headers if pair[0] not in dropped), (b"accept-encoding", encodings.encode())]


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer that are passed on to the caller."""
    lower = [(name.lower(), value) for name, value in headers]
    connection = b",".join(value for name, value in lower if name == b"connection")
    dropped = {name.encode() for name in HOP_BY_HOP}.union(name.strip().lower() for name in connection.split(b","))
    return [pair for pair in lower if pair[0] not in dropped]


async def _replay(replay: Replay, method: str, receive: Receive, send: Send) -> bool:
    take = replay.take
    if take.status is None:
        replay.finish()
        return False
    bare = is_bare(method, take.status)
    whole = b"" if bare else replay.whole()
    size = None
    if is_sized(take):
        size = replay.size if whole is None else len(whole)
    headers = [
        (name.encode("latin-1", "replace"), value.encode("utf-8", "surrogateescape"))
        for name, value in framed_headers(take, method, size)
    ]
    await send(_start(take.status, headers))
    if whole is None:
        stream = _replay_stream(replay, send)
        waits = replay.speed is not None or replay.turnstile is not None or replay.stays_open
        return await (_until_left(stream, receive, replay) if waits else stream)
    if bare:
        replay.finish()
    await send(_body(whole))
    return True


async def _replay_stream(replay: Replay, send: Send) -> bool:
    try:
        async for data in replay.pieces_async():
            await send(_body(data, more=True))
        replay.end()
    except RecordingMissing:
        return False  # it is logged
    if replay.stays_open:
        replay.finish()
        await asyncio.Event().wait()
    if replay.take.complete:
        await send(_body(b""))
    return replay.take.complete


async def _until_left(work: Coroutine[Any, Any, bool], receive: Receive, answer: Recorder | Replay | None) -> bool:
    """Do the work of an answer, and end it where its caller leaves."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            # Before the work is cancelled, which would look like an interrupt.
            if isinstance(answer, Recorder):
                answer.close()
            elif answer is not None:
                answer.finish()
            raise Left
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
