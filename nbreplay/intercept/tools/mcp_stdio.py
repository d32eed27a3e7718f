"""Servers of MCP over stdio: the lines between a client and its server, and what stands in for a server in a replay.

A server sends notifications (progress, logging, changed lists) and requests of its own (sampling, elicitation, roots)
while it answers a call. They are lines of the call's take, before its result: ``{"<": message}`` came from the server,
``{">": reply}`` is what the client answered. In a replay the client's library gets the same messages at the same call,
runs its callbacks, and its replies are compared. A server whose handshake is recorded is not started in a replay.

It knows the process as `anyio` has it, and JSON-RPC; it does not know sessions of the ``mcp`` package.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, Self

import anyio
import anyio.lowlevel

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.json_text import encode_json, parse_object
from nbreplay.core.replay import Replay
from nbreplay.core.request.jsonrpc import TOKEN
from nbreplay.core.words import shorten_line
from nbreplay.errors import RecordingMissing

Message = dict[str, Any]
ProgressCallback = Callable[[Any, Any, Any], Awaitable[Any]]
"""Takes the progress, the total and a text."""

_PYTHON = re.compile(r"python[\d.]*w?(\.exe)?")
_NO_PROCESS = 1 << 30  # above the highest process id of every system, so that no signal to it reaches a process
_NOT_STARTED = "nbreplay did not start this server, since its answers were replayed when it was to be"
# The client's library takes it without a word: when the next message is asked for, those before it were handled.
_NOTHING = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "nbreplay"}}


def name_command(words: Iterable[str]) -> str:
    """Return a command line without the folders of this machine, to tell servers apart before they say their names."""
    names = [re.split(r"[/\\]", word.rstrip("/\\"))[-1] if os.path.isabs(word) else word for word in words]
    return " ".join(_PYTHON.sub("python", name) if place == 0 else name for place, name in enumerate(names))


class NoProcess:
    """Stands for the process of a server that is not started, and for its standard input and output."""

    pid, stderr = _NO_PROCESS, None

    def __init__(self) -> None:
        self._closed = anyio.Event()
        self.stdin = self.stdout = self
        self.answer: Callable[[Message], None]

    @property
    def returncode(self) -> int | None:
        """0 once it is closed."""
        return 0 if self._closed.is_set() else None

    async def send(self, data: bytes) -> None:
        """Refuse the requests of a client that is used outside of the replay; take everything else."""
        for line in data.splitlines():
            message = parse_object(line.decode("utf-8", "replace")) or {}
            if "method" in message and "id" in message:
                error = {"code": -32000, "message": _NOT_STARTED}
                self.answer({"jsonrpc": "2.0", "id": message["id"], "error": error})

    async def receive(self, _: int = 0) -> bytes:
        """Wait for the end."""
        await self._closed.wait()
        raise anyio.EndOfStream

    async def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        await self._closed.wait()
        return 0

    async def aclose(self) -> None:
        """End it."""
        self._closed.set()

    def terminate(self, *_: Any) -> None:
        """End it."""
        self._closed.set()

    kill = send_signal = terminate


class _Stream:
    """Standard input or output of a `ServerProcess`."""

    def __init__(self, stream: Any, **methods: Callable[..., Awaitable[Any]]) -> None:
        self._stream = stream
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            data: bytes = await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        return data


class _Listener:
    """A call that is being recorded, and the messages that belong to it."""

    def __init__(self, recorder: Recorder, method: str) -> None:
        self.recorder, self.method = recorder, method
        self.id: Any = None  # of the client's request, once it was sent
        self.asked: list[Any] = []  # the ids of the server's requests

    def write(self, direction: str, message: Any) -> None:
        """Add a message to the take, which has a line a message from then on."""
        if not self.recorder.content_type.endswith("ndjson"):
            self.recorder.begin(200, [("content-type", "application/x-ndjson")])
        self.recorder.feed(encode_json({direction: message}).encode() + b"\n")


class ServerProcess:
    """The process of a server over stdio, as the client's library handles it; a `NoProcess` where none was started.

    `origin` tells servers apart.
    """

    def __init__(self, origin: str, process: Any) -> None:
        self.origin, self._process, self.is_started = origin, process, not isinstance(process, NoProcess)
        self.stdin = _Stream(process.stdin, send=self._send, aclose=self._close)
        self.stdout = _Stream(process.stdout, receive=self._receive)
        self._listeners: list[_Listener] = []
        self._early: list[Message] = []  # that came while no call was recorded: they belong to the next one
        self._rest = {"<": b"", ">": b""}  # of a line that is not whole
        self._injected: deque[tuple[bytes, anyio.Event | None]] = deque()
        self._wake = anyio.Event()
        self._arrived: deque[Any] = deque()  # from the process, data or an exception; or what was injected
        self._taken: anyio.Event | None = None  # set once the library asks for more
        self._waiting: set[anyio.Event] = set()
        self._replies: dict[str, tuple[anyio.Event, list[Message]]] = {}
        self._number = 0
        if not self.is_started:
            process.answer = self._inject

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._process)  # the library looks at it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.aclose()

    # Recording

    @contextlib.contextmanager
    def listen(self, recorder: Recorder, method: str) -> Iterator[None]:
        """Record the messages of the server, until the call has its result."""
        listener = _Listener(recorder, method)
        while self._early:
            listener.write("<", self._early.pop(0))
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def _send(self, data: bytes) -> None:
        rest = b""
        for message, line in self._cut(">", data):
            if "method" in message and "id" in message:
                unbound = (each for each in self._listeners if each.id is None and each.method == message["method"])
                if (listener := next(unbound, None)) is not None:
                    listener.id = message["id"]
            elif "method" not in message and (waiting := self._replies.pop(str(message.get("id")), None)):
                waiting[1].append(message)
                waiting[0].set()
                continue
            elif "method" not in message:
                for listener in self._listeners:
                    if message.get("id") in listener.asked:
                        listener.write(">", _outcome(message))
            rest += line
        if rest:
            await self._process.stdin.send(rest)

    def _note_received(self, data: bytes) -> None:
        for message, _ in self._cut("<", data):
            if "method" not in message:
                continue
            token = (message.get("params") or {}).get("progressToken")
            own = [each for each in self._listeners if each.id is not None and each.id == token]
            listener = next(iter(own or self._listeners), None)
            if own:
                message = {**message, "params": {**message["params"], "progressToken": TOKEN}}
            if listener is None:
                if "id" not in message:
                    self._early.append(message)
                continue
            if "id" in message:
                listener.asked.append(message.pop("id"))
            listener.write("<", message)

    def _cut(self, direction: str, data: bytes) -> Iterator[tuple[Message, bytes]]:
        """Yield the messages of the lines that have ended, each with its line."""
        *lines, self._rest[direction] = (self._rest[direction] + data).split(b"\n")
        for line in lines:
            yield parse_object(line.decode("utf-8", "replace")) or {}, line + b"\n"

    # Replaying

    async def _receive(self, max_bytes: int = 65536) -> bytes:
        """Return what comes next: from the process, or from a recording."""
        if self._taken is not None:
            self._taken.set()
            self._taken = None
        if not self._arrived:

            async def wait(source: Callable[[], Awaitable[Any]], group: anyio.abc.TaskGroup) -> None:
                try:
                    self._arrived.append(await source())
                except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError) as error:
                    self._arrived.append(error)
                group.cancel_scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(wait, lambda: self._process.stdout.receive(max_bytes), group)
                group.start_soon(wait, self._next_injected, group)
        item = self._arrived.popleft()
        if isinstance(item, Exception):
            self._release()
            raise item
        if isinstance(item, bytes):
            self._note_received(item)
            return item
        data, self._taken = item
        return bytes(data)

    async def _next_injected(self) -> tuple[bytes, anyio.Event | None]:
        while not self._injected:
            self._wake = anyio.Event()
            await self._wake.wait()
        return self._injected.popleft()

    def _inject(self, message: Message, taken: anyio.Event | None = None) -> None:
        self._injected.append((json.dumps(message).encode() + b"\n", taken))
        self._wake.set()

    async def _close(self) -> None:
        self._release()
        await self._process.stdin.aclose()

    def _release(self) -> None:
        """Let go of calls that wait for the client's library, which does not read on."""
        while self._waiting:
            self._waiting.pop().set()

    async def _wait(self, event: anyio.Event) -> None:
        self._waiting.add(event)
        try:
            await event.wait()
        finally:
            self._waiting.discard(event)

    async def replay(self, replay: Replay, progress: ProgressCallback | None) -> bytes:
        """Give the client the messages of a recorded call, and return the line of its result."""
        rest, method, reply = b"", "", Message()
        async for piece in replay.pieces_async():
            *lines, rest = (rest + piece).split(b"\n")
            for line in filter(None, lines):
                message = parse_object(line.decode("utf-8", "replace")) or {}
                if isinstance(sent := message.get("<"), dict):
                    method, reply = str(sent.get("method")), await self._deliver(sent, progress)
                elif ">" in message:
                    _compare(replay, method, reply, message[">"])
                else:
                    rest = line
        return rest

    async def _deliver(self, message: Message, progress: ProgressCallback | None) -> Message:
        """Have the client's library handle a message of the server; return its reply to a request."""
        if message.get("method") in _REQUESTS:
            self._number += 1
            number = f"nbreplay-{self._number}"
            answered, replies = self._replies[number] = anyio.Event(), []
            self._inject({**message, "id": number})
            await self._wait(answered)
            if not replies:
                raise anyio.ClosedResourceError
            return _outcome(replies[0])
        params = message.get("params") or {}
        if progress is not None and message.get("method") == "notifications/progress":
            with contextlib.suppress(Exception):  # as the library does
                await progress(params.get("progress"), params.get("total"), params.get("message"))
        handled = anyio.Event()
        self._inject(message)
        self._inject(_NOTHING, handled)
        await self._wait(handled)
        for _ in range(5):  # mcp 2 handles each in a task of its own
            await anyio.lowlevel.checkpoint()
        return {}


_REQUESTS = frozenset({"sampling/createMessage", "elicitation/create", "roots/list", "ping"})


def _outcome(message: Mapping[str, Any]) -> Message:
    return {name: message[name] for name in ("result", "error") if name in message}


def _compare(replay: Replay, method: str, reply: Message, recorded: Any) -> None:
    if reply == recorded or "[secret:" in json.dumps(recorded):
        return
    now, before = (shorten_line(encode_json(value), 300) for value in (reply, recorded))
    _refuse(replay, f"the client answered the server's {method} with {now}. Recorded was {before}")


def _refuse(replay: Replay, text: str) -> NoReturn:
    replay.refuse(text)
    raise RecordingMissing(f"{text}. Run the cell with %%replay record to record the call again")
