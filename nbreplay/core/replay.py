"""The answer to a request, out of a recording: its bytes, their pace, and the error of reading past their end.

An MCP client makes some calls by itself, above all the one that opens the standing stream in which its server speaks by
itself. Such a stream ends when its caller leaves, so that a recording of one is as whole as it can be, and a replay
stays open after its last event. Other streams that were cut short do not: whoever reads on there is told so, not left
waiting.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

import msgspec
from msgspec.structs import replace

from nbreplay.core.log import Log
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import SUBSCRIBES, Call, Request
from nbreplay.core.turns import Pause, TurnPause, Turnstile, wait, wait_async
from nbreplay.errors import NbreplayError, RecordingIncomplete, RecordingMissing

_T = TypeVar("_T")
_CUT_SHORT = {
    "closed": "the caller that was recorded closed it there",
    "interrupted": "the recording was interrupted there",
    "open": "the cell ended before the stream did",
}
_SESSION = "mcp-session-id"


class Replay(msgspec.Struct, frozen=True, gc=False):
    """The answer to a request. Its methods raise `RecordingMissing` where the recording cannot be given back."""

    take: Take
    speed: float | None  # None: at once
    log: Log
    place: int  # the place of the call in the log
    started: float  # when the request started, in seconds of `time.perf_counter`
    turnstile: Turnstile | None = None  # if the answer is given in the turns of its take

    def whole(self) -> bytes | None:
        """Return the body, where it is given at once and nothing follows; else the caller is to read `parts`."""
        at_once = self.speed is None and self.turnstile is None
        if at_once and self.take.complete and isinstance(self.take.body, Json | Text):
            data = self.data()
            self.finish()
            return data
        return None

    def data(self) -> bytes:
        """Return the bytes of the body."""
        return self._read(self.take.body.data)

    @property
    def size(self) -> int:
        """The length of the body in bytes."""
        body = self.take.body
        return body.size if isinstance(body, Blob) else len(self.data())

    def pieces(self, *, by_event: bool = False) -> Iterator[bytes]:
        """Yield the `parts`, each after its pause."""
        for pause, data in self.parts(by_event=by_event):
            wait(pause)
            yield data

    async def pieces_async(self) -> AsyncIterator[bytes]:
        """Yield the `parts`, each after its pause; other tasks go on meanwhile."""
        for pause, data in self.parts():
            await wait_async(pause)
            yield data

    def parts(self, *, by_event: bool = False) -> Iterable[tuple[Pause, bytes]]:
        """Return the pieces of the body, each with the pause before it; at their end, `end` is to be called.

        The events of a stream that is given at once are one piece, unless asked for `by_event`.
        """
        body, speed = self.take.body, self.speed
        delay: Pause = 0.0 if speed is None else (self.take.elapsed_ms or 0) / 1000 / speed
        if self.turnstile is not None:
            if isinstance(body, Events):
                return list(self._turns(self._read(body.parts)))
            delay = TurnPause(self.turnstile, self.take.turns[-1][0])
        if isinstance(body, Blob):
            return self._pieces(body, delay)
        if isinstance(body, Events) and (by_event or speed is not None):
            delays = [chunk.gap_ms / 1000 / speed if speed else 0.0 for chunk in body.chunks]
            return list(zip(delays, self._read(body.parts), strict=True))
        data = self.data()
        return [(delay, data)] if data or speed is not None or self.turnstile is not None else []

    def _turns(self, chunks: list[bytes]) -> Iterator[tuple[Pause, bytes]]:
        """Yield the chunks of each turn together. The last turn has what the others leave."""
        start, turnstile = 0, self.turnstile
        assert turnstile is not None
        *turns, (last, _) = self.take.turns
        # In some only a part of a chunk came: with nothing to give, nobody waits for them.
        turnstile.leave(number for number, count in turns if not count)
        for number, count in turns:
            if count:
                yield TurnPause(turnstile, number), b"".join(chunks[start : start + count])
                start += count
        yield TurnPause(turnstile, last), b"".join(chunks[start:])

    def _pieces(self, body: Blob, delay: Pause) -> Iterator[tuple[Pause, bytes]]:
        try:
            for piece in body.pieces():
                yield delay, piece
                delay = 0.0
        except (NbreplayError, OSError) as error:
            self._stop(error)

    def _read(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except NbreplayError as error:
            self._stop(error)

    def _stop(self, error: Exception) -> NoReturn:
        self.refuse(str(error))
        raise RecordingMissing(f"the recorded answer cannot be read: {error}") from error

    @property
    def stays_open(self) -> bool:
        """Whether the stream stays open after its last event until its caller leaves, as when it was recorded."""
        return self.take.standing and not self.take.complete

    def end(self) -> None:
        """Note that the caller has read to the end; raise `RecordingIncomplete` where the recorded stream goes on.

        A library raises its own error where the connection was dropped.
        """
        take = self.take
        if not (take.complete or take.standing or take.reason == "dropped"):
            why = _CUT_SHORT[take.reason or "open"]
            text = (
                f"the recorded stream ends here: {why} ({take.recorded_at}, {take.host}). "
                "To record it to its end, put %%replay record first in this cell and run it"
            )
            self.refuse(text)
            raise RecordingIncomplete(text)
        self.finish()

    def refuse(self, note: str) -> None:
        """Log that the recorded answer could not be given."""
        if (interaction := self.log.at(self.place)) is not None:
            self.log.finish(self.place, replace(interaction, outcome="missing", note=note))

    def finish(self) -> None:
        """Note that the caller wants no more of the answer; the first time counts."""
        if self.turnstile is not None:
            self.turnstile.leave(number for number, _ in self.take.turns)
        served_s = time.perf_counter() - self.started
        if (interaction := self.log.at(self.place)) is not None and interaction.served_s is None:
            self.log.finish(self.place, replace(interaction, served_s=served_s))


def adapt_take(call: Call, request: Request, take: Take, recording: Recording | None) -> Take:
    """Return a take as an MCP client that listens is to have it; any other call has it as it is.

    A server ends the stream when its session is deleted. In a replay that end would come at once, and the client would
    ask again: the stream stays open, unless the same session has listened again after it. Any other caller would wait
    for ever at the end of a stream that stays open.
    """
    if take.standing and not (call.listens or request.rpc_method == SUBSCRIBES):
        return replace(take, standing=False)
    if not take.complete or take.status != 200 or not isinstance(take.body, Events) or not call.listens:
        return take
    takes = recording.takes if recording else ()
    place = next((index for index, other in enumerate(takes) if other is take), len(takes))
    session = take.headers.get(_SESSION)
    if any(other.headers.get(_SESSION) == session for other in takes[place + 1 :]):
        return take
    return replace(take, complete=False, reason="open", standing=True)


def answer_again(call: Call, request: Request, recording: Recording | None) -> Take | None:
    """Return the answer to an MCP client that asks by itself once more than was recorded; None for any other call.

    How often it listens depends on how long it lives, and whether it had an answer before it left on chance: a server
    that refused does so again, else nothing more comes. It asks for the list of tools at every result that finds it
    without that, so that concurrent calls have it ask more often or less.
    """
    last = recording.takes[-1] if recording and recording.takes else None
    if recording is not None and call.tool is not None:
        own = [take for take in recording.takes if take.tool == call.origin]
        return own[-1] if own and call.tool[0] == "tools/list" else None
    if last is not None and request.rpc_method == "tools/list":
        return last
    if not call.listens:
        return None
    if last is not None and last.status not in (None, 200):
        return last
    return Take(
        recorded_at=last.recorded_at if last else "",
        host=call.host,
        url=call.target,
        sdk=call.sdk,
        body=Events(()),
        headers=last.headers if last and last.status else {"content-type": "text/event-stream"},
        complete=False,
        reason="open",
        standing=True,
    )
