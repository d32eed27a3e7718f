"""The answer to a request, out of a recording: its bytes with their pace, and what reading past their end raises."""

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

__all__ = ["Replay"]


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
        When it was asked, in seconds of `time.perf_counter`.
    """

    take: Take
    speed: float | None
    log: Log
    place: int
    started: float

    def whole(self) -> bytes | None:
        """Give the body, where all of it is given at once and nothing comes after it.

        Returns
        -------
        bytes or None
            None where it is to be read by `parts`, after which `served` is to be told.
        """
        take, body = self.take, self.take.body
        if self.speed is None and take.complete and (type(body) is Json or type(body) is Text):
            data = self.data()
            self.log.served[self.place] = time.perf_counter() - self.started
            return data
        return None

    def data(self) -> bytes:
        """Return the bytes of the body.

        Raises
        ------
        RecordingMissing
            Where its recording cannot be given back.
        """
        try:
            return self.take.body.data()
        except NbreplayError as error:
            self._stop(error)

    def blocks(self) -> list[bytes]:
        """Return the bytes of a stream, event by event.

        Raises
        ------
        RecordingMissing
            Where its recording cannot be given back.
        """
        body = self.take.body
        assert isinstance(body, Events)
        try:
            return body.parts()
        except NbreplayError as error:
            self._stop(error)

    @property
    def size(self) -> int:
        """The length of the body that is given."""
        body = self.take.body
        return body.size if isinstance(body, Blob) else len(self.data())

    def parts(self) -> Iterable[tuple[float, bytes]]:
        """Return the bytes of the body, each piece with the seconds to wait before it.

        Raises
        ------
        RecordingMissing
            Where its recording cannot be given back.
        """
        body, speed = self.take.body, self.speed
        if isinstance(body, Blob):
            return self._pieces(body)
        if speed is None:
            data = self.data()
            return [(0.0, data)] if data else []
        if isinstance(body, Events):
            return [(chunk.gap_ms / 1000 / speed, part) for chunk, part in zip(body.chunks, self.blocks(), strict=True)]
        return [((self.take.elapsed_ms or 0) / 1000 / speed, self.data())]

    def _pieces(self, body: Blob) -> Iterator[tuple[float, bytes]]:
        """Yield the bytes of a body that may be large, as they are read from its file."""
        delay = 0.0 if self.speed is None else (self.take.elapsed_ms or 0) / 1000 / self.speed
        try:
            for piece in body.pieces():
                yield delay, piece
                delay = 0.0
        except (NbreplayError, OSError) as error:
            self._stop(error)

    def _stop(self, error: Exception) -> NoReturn:
        self.refuse(str(error))
        raise RecordingMissing(f"the file that holds this answer cannot be read: {error}") from error

    @property
    def stays(self) -> bool:
        """Whether it stays open after its last event until its caller leaves, as it did when it was recorded."""
        return self.take.standing and not self.take.complete

    @property
    def incomplete(self) -> RecordingIncomplete | None:
        """What reading past the end raises, unless that is the library's own error; None where the take is whole."""
        take = self.take
        if take.complete or take.standing or take.reason == "dropped":
            return None
        why = {
            "closed": "the caller that was recorded closed it there",
            "interrupted": "its recording was interrupted there",
            "open": "its cell ended before it did",
        }[take.reason or "open"]
        return RecordingIncomplete(
            f"the recorded stream ends here: {why} ({take.recorded_at}, {take.host}). "
            "To record it to its end, put %%replay record first in this cell and run it"
        )

    def fail(self, error: RecordingIncomplete) -> NoReturn:
        """Log that the caller wanted more than there is, and raise `error`."""
        self.refuse(str(error))
        raise error

    def refuse(self, note: str) -> None:
        """Log that what is recorded could not be given."""
        known = self.log.at(self.place)
        if known is not None:
            self.log.finish(self.place, msgspec.structs.replace(known, outcome="missing", note=note))

    def served(self) -> None:
        """Note that the caller has got it all; the first time counts."""
        self.log.served.setdefault(self.place, time.perf_counter() - self.started)
