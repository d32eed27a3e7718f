"""The answer to a request, out of a recording: its bytes, their pace, and the error of reading past their end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import NoReturn

import msgspec

from nbreplay.core.log import Log
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.errors import NbreplayError, RecordingIncomplete, RecordingMissing

_CUT_SHORT = {
    "closed": "the caller that was recorded closed it there",
    "interrupted": "the recording was interrupted there",
    "open": "the cell ended before the stream did",
}


class Replay(msgspec.Struct, frozen=True, gc=False):
    """The answer to a request, out of a recording.

    Attributes
    ----------
    take : Take
    speed : float or None
        None: at once.
    log : Log
    place : int
        The place of the call in `log`.
    started : float
        When the request started, in seconds of `time.perf_counter`.

    Its methods raise `RecordingMissing` where the recording cannot be given back.
    """

    take: Take
    speed: float | None
    log: Log
    place: int
    started: float

    def whole(self) -> bytes | None:
        """Return the body, where it is given at once and nothing follows.

        Returns
        -------
        bytes or None
            None where the caller is to read `parts`, and to call `finish` at their end.
        """
        if self.speed is None and self.take.complete and isinstance(self.take.body, Json | Text):
            data = self.data()
            self.finish()
            return data
        return None

    def data(self) -> bytes:
        """Return the bytes of the body."""
        try:
            return self.take.body.data()
        except NbreplayError as error:
            self._stop(error)

    def blocks(self) -> list[bytes]:
        """Return the bytes of a stream, event by event."""
        body = self.take.body
        assert isinstance(body, Events)
        try:
            return body.parts()
        except NbreplayError as error:
            self._stop(error)

    @property
    def size(self) -> int:
        """The length of the body in bytes."""
        body = self.take.body
        return body.size if isinstance(body, Blob) else len(self.data())

    def parts(self) -> Iterable[tuple[float, bytes]]:
        """Return the bytes of the body, each piece with the seconds to wait before it."""
        body, speed = self.take.body, self.speed
        delay = 0.0 if speed is None else (self.take.elapsed_ms or 0) / 1000 / speed
        if isinstance(body, Blob):
            return self._pieces(body, delay)
        if speed is not None and isinstance(body, Events):
            return [(chunk.gap_ms / 1000 / speed, part) for chunk, part in zip(body.chunks, self.blocks(), strict=True)]
        data = self.data()
        return [(delay, data)] if data or speed is not None else []

    def _pieces(self, body: Blob, delay: float) -> Iterator[tuple[float, bytes]]:
        try:
            for piece in body.pieces():
                yield delay, piece
                delay = 0.0
        except (NbreplayError, OSError) as error:
            self._stop(error)

    def _stop(self, error: Exception) -> NoReturn:
        self.refuse(str(error))
        raise RecordingMissing(f"the recorded answer cannot be read: {error}") from error

    @property
    def stays_open(self) -> bool:
        """Whether the stream stays open after its last event until its caller leaves, as when it was recorded."""
        return self.take.standing and not self.take.complete

    @property
    def incomplete(self) -> RecordingIncomplete | None:
        """The error of reading past the end; None where the take is whole, or the library raises its own error."""
        take = self.take
        if take.complete or take.standing or take.reason == "dropped":
            return None
        return RecordingIncomplete(
            f"the recorded stream ends here: {_CUT_SHORT[take.reason or 'open']} ({take.recorded_at}, {take.host}). "
            "To record it to its end, put %%replay record first in this cell and run it"
        )

    def fail(self, error: RecordingIncomplete) -> NoReturn:
        """Log that the caller read past the end, and raise `error`."""
        self.refuse(str(error))
        raise error

    def refuse(self, note: str) -> None:
        """Log that the recorded answer could not be given."""
        interaction = self.log.at(self.place)
        if interaction is not None:
            self.log.finish(self.place, msgspec.structs.replace(interaction, outcome="missing", note=note))

    def finish(self) -> None:
        """Note that the caller has got all of the answer; the first time counts."""
        self.log.served.setdefault(self.place, time.perf_counter() - self.started)
