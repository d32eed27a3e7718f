"""A websocket session while it is recorded or replayed.

`Session.ask_websocket` decides, and an interceptor translates: it knows a library, and nothing of recordings.

A session is one call, keyed by ``GET``, host, path and query, as those of HTTP are: secrets in the query do not count.
Its kind is ``websocket``. Its take has status 101 and the body that `nbreplay.core.recording.websocket` describes.
A handshake that is refused (401, 404, …) is recorded as the HTTP answer that it is: the recorder's ``begin``, ``feed``
and ``end`` take it, and `WebSocketReplay.replay` gives it.

While recording, each message is noted when it is sent or has arrived: `WebSocketRecorder.note_sent`, ``note_received``,
``note_close``; then ``end``, or ``fail`` where the connection breaks, or ``close`` where the client just leaves. A
session that ends with a close frame is complete. One that the client left without is ``closed``, one that broke off
(code 1006) is ``dropped``, one that the end of the cell cut short is ``open`` or ``interrupted``; ``auto`` records the
latter three anew.

A replay keeps these rules.

1. **Order of receiving.** The client receives the messages in their recorded order. One waits until the client has
   sent as many messages as it had when that message arrived. So an answer never comes before its question, and what
   came unasked comes at once.
2. **No other waiting.** A message is sent when the client sends it, however much it has received by then. So a client
   that listens in one task and sends in another never waits for itself: whatever it may have read before it sent a
   message is there without that message.
3. **Patience.** While the client's turn is first, `receive` waits: another task or thread may send. If none does within
   twice the time that it took when recorded, and ten seconds more, `receive` raises `RecordingMissing`, which names the
   message that was not sent.
4. **Comparison.** Each message that is sent is compared with the recorded one: JSON by value, without ``event_id`` and
   ``--ignore`` paths (of the message), with ``--mask``; ids and secrets are replaced as in bodies of requests. At a
   difference `send` raises `RecordingMissing` with both texts. From then on everything of this session raises it, since
   a library may send in a task whose exception nobody sees. A session that sends less than recorded, and closes, is
   noted.
5. **Choice of the take.** A session gets a take when it opens, as every call does. If a message differs, and another
   take of the same key fits all that this session has sent and received (but for ids and times), it changes over to
   that: one that is not used, or that of another open session, which takes this one's in turn. So two sessions at once
   may open in either order.
6. **Pace.** At once; or with a speed, each message so long after the one before it as when it was recorded, be that one
   sent or received.
7. **End.** The server's close frame is given last. When the client closes first, it gets the recorded answer, else its
   own code back; its code is not compared. A dropped session ends with code 1006. Whoever reads past the end of
   another one that was cut short gets `RecordingIncomplete`, after the same patience.

``auto`` replays takes of the own cell only, since the first message comes after the decision. A take of which a message
differed is not used in ``auto`` again: run the cell once more to record it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import msgspec

from nbreplay.core.cell import Run, Slot
from nbreplay.core.recorder import Pieces, Recorder, find_secret
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_redactor import redact_stream
from nbreplay.core.recording.take import Body, Take
from nbreplay.core.recording.websocket import (
    ABNORMAL,
    LARGE_BINARY,
    Close,
    Frame,
    Message,
    Peer,
    frames_of,
    is_websocket,
    websocket_body,
)
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import without_numbers
from nbreplay.core.request.rules import Normaliser, replace_ids
from nbreplay.core.secrets.redact import Redactor
from nbreplay.errors import NbreplayError, RecordingMissing

_PATIENCE = 10.0  # seconds without a message, after which one that the client has to send first is missed
_OF_A_CONNECTION = frozenset(["sec-websocket-accept", "sec-websocket-extensions"])
_MADE_UP = "event_id"


class WebSocketRecorder(Recorder):
    """Records one session, after `begin` with status 101; any other answer as the HTTP answer that it is."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._frames: list[tuple[float, Frame]] = []

    def begin(
        self, status: int, headers: Iterable[tuple[str, str]], phrase: str | None = None, version: str = ""
    ) -> None:
        """Note that the handshake was answered."""
        kept = [(name, value) for name, value in headers if name.lower() not in _OF_A_CONNECTION]
        super().begin(status, kept, phrase, version)

    def note_sent(self, content: str | bytes) -> None:
        """Note a whole message that the client has sent."""
        self._note(Message("client", content))

    def note_received(self, content: str | bytes) -> None:
        """Note a whole message that has arrived."""
        self._note(Message("server", content))

    def note_close(self, by: Peer, code: int, reason: str = "") -> None:
        """Note a close frame, but not the client's answer to the server's; `end` follows."""
        self._note(Close(by, int(code), reason))  # libraries have enumerations of codes

    def frames_so_far(self) -> list[tuple[float, Frame]]:
        """Return what has been noted so far, each with its time in seconds of `time.perf_counter`."""
        return list(self._frames)

    def _note(self, frame: Frame) -> None:
        self._frames.append((time.perf_counter(), frame))
        self._size += 1  # what is new since the take was last written

    def _has_ended(self) -> bool:
        return (
            any(isinstance(frame, Close) for _, frame in self._frames) if self.status == 101 else super()._has_ended()
        )

    def _body(self, pieces: Pieces, data: bytes, redactor: Redactor) -> Body:
        if self.status != 101:
            return super()._body(pieces, data, redactor)
        self.uploads.clear()
        frames = [(at, self._store_binary(frame, redactor)) for at, frame in self.frames_so_far()]
        # First the secrets that are written over several messages, of which a part may look like a whole one.
        body = redact_stream(websocket_body(frames, self.started), redactor)
        clean = [_redact_sent(frame, redactor) for _, frame in frames_of(body)]
        return websocket_body([(at, frame) for (at, _), frame in zip(frames, clean, strict=True)], self.started)

    def _store_binary(self, frame: Frame, redactor: Redactor) -> Frame:
        """Return a binary message without its secrets; a large one goes into a file of its own."""
        if not isinstance(frame, Message) or not isinstance(frame.content, bytes) or frame.value is not None:
            return frame
        content = redactor.data(frame.content)
        if len(content) <= LARGE_BINARY:
            return Message(frame.by, content)
        blob = Blob.of(content)
        if secret := find_secret(blob, redactor):
            raise NbreplayError(f"a message is compressed and cannot be redacted: {secret}")
        self.uploads.append(blob)
        return Message(frame.by, blob)


def _redact_sent(frame: Frame, redactor: Redactor) -> Frame:
    """Return what a client has sent without its secrets, of which a name may tell, as in bodies of requests."""
    return frame.redact(redactor) if isinstance(frame, Message) and frame.by == "client" else frame


class _Script:
    """The messages of a take, as a replay goes through them."""

    def __init__(self, take: Take, folder: str) -> None:
        frames = frames_of(take.body, folder) if isinstance(take.body, Events) else []
        self.take, self.gaps = take, [gap / 1000 for gap, _ in frames]
        self.sent: list[tuple[int, Frame]] = []  # with its place among all
        self.received: list[tuple[int, int, Frame]] = []  # with its place, and the number of those sent before it
        for place, (_, frame) in enumerate(frames):
            if frame.by == "client":
                self.sent.append((place, frame))
            else:
                self.received.append((place, len(self.sent), frame))

    @property
    def server_close(self) -> Close | None:
        """The close with which the server ended the session; 1006 where the connection broke."""
        last = self.received[-1][2] if self.received else None
        if isinstance(last, Close):
            return last
        return Close("server", ABNORMAL) if self.take.reason == "dropped" else None

    def describe_sent(self, number: int) -> Frame | None:
        """Return what the client sent at this place, from 0."""
        return self.sent[number][1] if number < len(self.sent) else None


class OpenSessions:
    """The sessions of one key that are open in a run; a lock for all of them, since they may change their takes."""

    def __init__(self) -> None:
        self.sessions: list[WebSocketReplay] = []
        self.changed = threading.Condition()


class Binding(msgspec.Struct, frozen=True, eq=False):
    """Where the take of a session comes from, and how its messages are compared and explained."""

    run: Run
    slot: Slot
    recording: Recording
    replaying: bool
    folder: str  # of the recordings
    normaliser: Normaliser
    tokens: tuple[str, ...]
    # Returns the text of a miss, and notes it, given what was recorded and what was sent, each as text or JSON or None,
    # and the number of the message, from 1, among so many.
    miss: Callable[[Any, Any, int, int, Take], str]

    @property
    def open(self) -> OpenSessions:
        """The sessions of this key that are open."""
        sessions: OpenSessions = self.run.websockets.setdefault(self.slot, OpenSessions())
        return sessions


class WebSocketReplay:
    """One session out of a recording. It knows no clock but `time.perf_counter`, and no library.

    Attributes
    ----------
    replay : Replay
        The answer to the handshake: its take, and what the log has of it.
    """

    def __init__(self, replay: Replay, binding: Binding) -> None:
        self.replay, self._binding = replay, binding
        try:
            self._script = _Script(replay.take, binding.folder)
        except (NbreplayError, OSError) as error:
            replay.refuse(str(error))
            raise RecordingMissing(f"the recorded session cannot be read: {error}") from error
        self._sent: list[Frame] = []
        self._sent_at: list[float] = []
        self._received: list[Frame] = []
        self._received_at = [replay.started]
        self._last = time.perf_counter()  # when something was last sent or received
        self._close: Close | None = None  # how the session has ended
        self._missing: str = ""
        self._open = binding.open
        self._changed = self._open.changed
        self._wakers: set[Callable[[], object]] = set()
        if is_websocket(replay.take):
            self._open.sessions.append(self)

    def send(self, content: str | bytes) -> Close | None:
        """Send a whole message.

        Return the server's close if that had come before another message was sent: the message goes nowhere. Raise
        `RecordingMissing` if another message was recorded.
        """
        message = Message("client", content)
        with self._changed:
            self._check()
            if self._close is not None:
                return self._close
            number = len(self._sent)
            recorded = self._script.describe_sent(number)
            if not (self._is_equal(recorded, message) or self._change_over(message)):
                if recorded is None and (close := self._script.server_close) is not None:
                    return close
                self._refuse(recorded, message)
            self._add_sent(message)
        self._wake()
        return None

    def close(self, code: int = 1000, reason: str = "") -> Close:
        """Close the session as the client does; return the answer of the server. Closing again changes nothing."""
        with self._changed:
            if self._close is None:
                left = len(self._script.sent) - len(self._sent)
                if left and not isinstance(self._script.sent[-left][1], Close) and not self._missing:
                    self._amend(note=f"closed after {len(self._sent)} of {self._messages_to_send} messages")
                self._add_sent(Close("client", int(code), reason))
                answer = self._script.server_close
                self._end(answer or Close("server", int(code), reason))
            answer = self._close
        self._wake()
        assert answer is not None
        return answer

    def abort(self) -> None:
        """Note that the client has left without a close frame."""
        with self._changed:
            if self._close is None:
                self._end(Close("client", ABNORMAL))
        self._wake()

    def receive(self, timeout: float | None = None) -> Frame:
        """Return what comes next; after a `Close` only that comes again. Raise TimeoutError after so many seconds."""
        deadline = None if timeout is None else time.perf_counter() + timeout
        with self._changed:
            while not isinstance(step := self.poll(), Message | Close):
                left = step if deadline is None else min(step, deadline - time.perf_counter())
                if left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
        return step

    async def receive_async(self) -> Frame:
        """Return what comes next, as `receive` does; other tasks go on."""
        import asyncio  # takes longer to import than all of this package; whoever awaits has imported it

        loop = asyncio.get_running_loop()
        while True:
            turn = loop.create_future()

            def wake(turn: asyncio.Future[None] = turn) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(lambda: None if turn.done() else turn.set_result(None))

            self._wakers.add(wake)
            try:
                with self._changed:
                    step = self.poll()
                if isinstance(step, Message | Close):
                    return step
                await asyncio.wait([turn], timeout=step)
            finally:
                self._wakers.discard(wake)

    def poll(self) -> Frame | float:
        """Return what comes next, or the seconds after which to ask again, unless the client sends something.

        Raise `RecordingMissing` if the client's turn is first for too long.
        """
        if self._close is not None:
            return self._close
        self._check()
        now, number, script = time.perf_counter(), len(self._received), self._script
        if number < len(script.received):
            place, before, frame = script.received[number]
            if before <= len(self._sent):
                due = self._due(place, before)
                if due > now:
                    return due - now
                self._received.append(frame)
                self._received_at.append(max(due, self._received_at[-1]))
                self._last = now
                if isinstance(frame, Close):
                    self._end(frame)
                return frame
        elif (close := script.server_close) is not None:
            self._end(close)
            return close
        return self._wait_for_client(now)

    def _wait_for_client(self, now: float) -> float:
        """Return how long to wait for what the client has to send next; raise an error if that was too long."""
        number, script = len(self._sent), self._script
        recorded = script.describe_sent(number)
        patience = _PATIENCE + (2 * script.gaps[script.sent[number][0]] if recorded is not None else 0.0)
        left = self._last + patience - now
        if left <= 0:
            if recorded is None:
                self.replay.end()  # raises an error if the session was cut short here
            self._refuse(recorded, None)
        return left

    def _due(self, place: int, before: int) -> float:
        """Return when the message at this place, before which so many are sent, is to be given, in seconds."""
        speed, script, last = self.replay.speed, self._script, self._received_at[-1]
        if speed is None:
            return 0.0
        follows_sent = before and script.sent[before - 1][0] == place - 1
        base = self._sent_at[before - 1] if follows_sent else last
        return max(base + script.gaps[place] / speed, last)

    @property
    def _messages_to_send(self) -> int:
        return sum(isinstance(frame, Message) for _, frame in self._script.sent)

    def _add_sent(self, frame: Frame) -> None:
        self._sent.append(frame)
        self._last = time.perf_counter()
        self._sent_at.append(self._last)

    def _end(self, close: Close) -> None:
        self._close = close
        if self in self._open.sessions:
            self._open.sessions.remove(self)
        self.replay.finish()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for wake in list(self._wakers):
            wake()

    # Differences

    def _check(self) -> None:
        if self._missing:
            raise RecordingMissing(self._missing)

    def _refuse(self, recorded: Frame | None, sent: Message | None) -> NoReturn:
        number = len(self._sent) + 1
        total = max(number, self._messages_to_send)
        shown = None if sent is None else _show(self._redact(sent))
        self._missing = text = self._binding.miss(_show(recorded), shown, number, total, self._script.take)
        self.replay.refuse(text)
        self._wake()
        raise RecordingMissing(text)

    def _is_equal(self, recorded: Frame | None, sent: Frame) -> bool:
        if not isinstance(recorded, Message) or not isinstance(sent, Message):
            return isinstance(recorded, Close) and isinstance(sent, Close)
        normaliser = self._binding.normaliser
        if isinstance(recorded.content, str) is not isinstance(sent.content, str):
            return False
        if recorded.content == sent.content:
            return True
        if _canonical(recorded, normaliser) == _canonical(sent, normaliser):
            return True
        return _canonical(recorded, normaliser) == _canonical(self._redact(sent), normaliser)

    def _redact(self, message: Message) -> Message:
        """Return a message that is sent now as a recording has it."""
        redactor = Redactor(self._binding.tokens, again=True)
        body = redact_stream(websocket_body([(0.0, message.redact(redactor))], 0.0), redactor)
        ((_, clean),) = frames_of(body)
        return clean if redactor.count and isinstance(clean, Message) else message

    def _change_over(self, message: Message) -> bool:
        """Change over to a take that fits all that was sent and received, if there is one."""
        binding, own = self._binding, self._script
        history = [*self._sent, message]
        with binding.run.lock:
            for other in self._open.sessions:
                if other is not self and self._fits(other._script, history) and other._fits(own, other._sent):
                    self._bind(other._script)
                    other._bind(own)
                    return True
            for take in binding.run.unused_takes(binding.slot, binding.recording, binding.replaying):
                if is_websocket(take) and take.host == own.take.host:
                    script = _Script(take, binding.folder)
                    if self._fits(script, history) and binding.run.change(
                        binding.slot, take, binding.replaying, instead_of=own.take, recording=binding.recording
                    ):
                        self._bind(script)
                        return True
        return False

    def _fits(self, script: _Script, sent: Sequence[Frame]) -> bool:
        """Tell whether a take may have been this session's so far, which has `sent` these."""
        if len(script.sent) < len(sent) or len(script.received) < len(self._received):
            return False
        sides = zip(script.received, self._received, strict=False)
        return all(_without_ids(recorded) == _without_ids(frame) for (_, _, recorded), frame in sides) and all(
            self._is_equal(recorded, frame) for (_, recorded), frame in zip(script.sent, sent, strict=False)
        )

    def _bind(self, script: _Script) -> None:
        self._script = script
        self.replay = msgspec.structs.replace(self.replay, take=script.take)
        self._amend(take=script.take)

    def _amend(self, **changes: Any) -> None:
        """Change what the log has of this session."""
        log, place = self.replay.log, self.replay.place
        if (interaction := log.at(place)) is not None:
            log.finish(place, msgspec.structs.replace(interaction, **changes))


def _show(frame: Frame | None) -> Any:
    """Return a message as an explanation shows it: JSON as a value, anything else as text."""
    if isinstance(frame, Close):
        return f"(closes the session with code {frame.code})"
    if frame is None:
        return None
    if (value := frame.value) is not None:
        return value
    content = frame.content
    return content if isinstance(content, str) else f"({_size(content):,} bytes, {_digest(frame)[:12]})"


def _size(content: bytes | Blob) -> int:
    return content.size if isinstance(content, Blob) else len(content)


def _digest(message: Message) -> str:
    """Return the digest of a binary message; of a text, the text."""
    content = message.content
    if isinstance(content, str):
        return content
    return (content if isinstance(content, Blob) else Blob.of(content)).name.removeprefix("blob-")


def _canonical(message: Message, normaliser: Normaliser) -> str:
    """Return the text by which messages are compared."""
    value: Any = message.value
    if value is None:
        content = message.content
        value = normaliser.apply(content) if isinstance(content, str) else {"digest": _digest(message)}
    if isinstance(value, dict):
        value = {name: item for name, item in value.items() if name != _MADE_UP}
    value = normaliser.apply(value) if normaliser.rules else value
    value = replace_ids(value, json.dumps(value).encode(), {}, [])
    return json.dumps(without_numbers({"body": value}), sort_keys=True)


def _without_ids(frame: Frame) -> Any:
    """Return what two messages from a server have in common if they say the same."""
    value = frame.value if isinstance(frame, Message) else None
    if value is None:
        return frame
    return json.dumps(_strip(value), sort_keys=True)


def _strip(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: _strip(item)
            for name, item in node.items()
            if name != "id" and not name.endswith(("_id", "_at")) and not name.endswith(("Id", "Time"))
        }
    return [_strip(item) for item in node] if isinstance(node, list) else node
