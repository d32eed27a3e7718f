"""Watching the calls of a cell while it runs. A view that fails is logged once, and never costs the cell anything."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nbreplay.core import log as logs
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.json_text import parse_object
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import StreamParser, framing_of
from nbreplay.core.recording.take import Take
from nbreplay.core.session import active_sessions
from nbreplay.notebook.agent_loop import films_of
from nbreplay.notebook.card import WORDS, Film, Reeled, asked_of
from nbreplay.notebook.costs import estimate
from nbreplay.notebook.escape import plain
from nbreplay.notebook.render import MANY
from nbreplay.notebook.timeline import Beat, Reel

__all__ = ["PACE", "Live", "Screen", "careful"]

PACE = 0.13
"""Seconds between two updates: text is on its way within that, and a minute's stream takes 460 messages."""

# For so long, and so many characters, updates repeat what a front end may not have heard while it loads the widget.
_AGAIN_S, _AGAIN_SIZE = 2.0, 1_500
_logger = logging.getLogger("nbreplay")


class Screen(Protocol):
    """Where a cell's calls are shown."""

    def open(self) -> None:
        """Take a place among the outputs of the cell."""

    def tell(self, what: dict[str, Any]) -> None:
        """Show what has changed.

        ``order``: which calls there are; ``films``: the states of those that are new or have ended; ``come``: of those
        that go on, ``tracks``, kind, choice and name of each so far; ``texts``, pairs of a track and what was added to
        it, of all so far where ``again`` is true; ``chunks`` and ``at``: how many, and when the last one came, in ms.
        """

    def close(self, made: Sequence[Film], words: Sequence[str], costs: Sequence[str]) -> None:
        """Show how all of it ended, for good; words and costs, one a film, are for now only."""


class _UnderWay:
    """A call whose answer comes."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.reel = Reel()
        self._stream: StreamParser | None = None
        self._fed = 0  # pieces
        # Side by side, since a list for each of thousands of chunks has the collector walk through all of them.
        self._beats: list[Beat] = []
        self._sizes: list[int] = []  # of each chunk, how many beats it brought
        self._size = 0  # characters so far
        self._asked = asked_of(recorder.request)
        self._heard = False  # whether all that came before has been heard, as far as one can tell

    def state(self) -> dict[str, Any]:
        """Return what is known before the answer is there."""
        request = self.recorder.request
        return {"title": plain(request.model or self.recorder.call.host), "asked": self._asked, "busy": True}

    def come(self, early: bool) -> dict[str, Any] | None:
        """Return what has come since this was asked last, as a `Screen` is told it."""
        at, fresh = self._read()
        if not fresh and self._heard:
            return None
        again = early and self._size < _AGAIN_SIZE
        texts = [(place, track.text) for place, track in enumerate(self.reel.tracks)] if again else _runs(fresh)
        self._size += sum(len(beat.text) for beat in fresh)
        self._heard = not again
        tracks = [[track.kind, track.choice, track.name] for track in self.reel.tracks]
        return {"again": again, "tracks": tracks, "texts": texts, "chunks": len(self._sizes), "at": at}

    def _read(self) -> tuple[int, list[Beat]]:
        """Return when the last bytes came, in milliseconds from the request, and what they brought."""
        framing = framing_of(self.recorder.content_type)
        if framing is None:
            return 0, []
        self._stream = self._stream or StreamParser(framing)
        pieces = self.recorder.so_far()[self._fed :]
        self._fed += len(pieces)
        last, before = 0, len(self._beats)
        for at, data in pieces:
            last = round((at - self.recorder.started) * 1000)
            for event in self._stream.feed(data, at):
                made = self.reel.feed(last, parse_object(event.data), event.event)
                self._sizes.append(len(made))
                self._beats += made
        return last, self._beats[before:]

    def of(self, take: Take | None) -> Reeled | None:
        """Return what was read here as what a take says, with its times; None where it may say another thing."""
        if take is None or self.recorder.saved is not take or take.redacted or not isinstance(take.body, Events):
            return None
        self._read()
        chunks = take.body.chunks
        if len(chunks) != len(self._sizes):
            return None
        times = itertools.accumulate(chunk.gap_ms for chunk in chunks)
        each = itertools.chain.from_iterable(map(itertools.repeat, times, self._sizes))
        beats = [Beat(at, track, text) for at, (_, track, text) in zip(each, self._beats, strict=True)]
        if self.reel.folded.first_ms is not None:
            self.reel.folded.first_ms = next((beat.at_ms for beat in beats if beat.track >= 0), None)
        return self.reel, beats


def _runs(beats: Sequence[Beat]) -> list[tuple[int, str]]:
    """Return the texts of beats, those of a track that follow each other as one."""
    by_track = itertools.groupby((beat for beat in beats if beat.track >= 0), key=lambda beat: beat.track)
    return [(place, "".join(beat.text for beat in run)) for place, run in by_track]


class Live:
    """The calls of one cell, shown while it runs.

    Parameters
    ----------
    screen : callable
        Makes the screen when the first call starts.
    speed : float or None
        At which pace calls are replayed.

    Attributes
    ----------
    failed : bool
        Whether showing them has failed; that has been logged then.
    """

    def __init__(self, screen: Callable[[], Screen], speed: float | None = None) -> None:
        self._make, self._speed = screen, speed
        self._screen: Screen | None = None
        self._places: list[tuple[logs.Log, int]] = []
        self._open: dict[str, _UnderWay] = {}
        self._followed: list[_UnderWay] = []
        self._sent: dict[str, dict[str, Any]] = {}
        self._ended = 0
        self._began = 0.0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self.failed = False
        self._unwatch = logs.watch_calls(self._started)

    def _started(self, log: logs.Log, place: int) -> None:
        """A call starts; in the thread that makes it."""
        self._places.append((log, place))
        if self._screen is None and not self.failed:
            self._carefully(self._begin)

    def _begin(self) -> None:
        with self._lock:
            if self._screen is not None:
                return
            self._began = time.monotonic()
            self._screen = self._make()
            self._screen.open()
        with contextlib.suppress(RuntimeError):  # without threads all is shown at the end of the cell
            threading.Thread(target=self._run, name="nbreplay view", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(PACE) and not self.failed:
            self._carefully(self._tick)

    def _tick(self) -> None:
        with self._lock:
            if self._over.is_set() or self._screen is None:
                return
            # At first all is said again and again: the front end may still be loading what is to hear it.
            early = time.monotonic() - self._began < _AGAIN_S
            order, states = self._cards(early)
            come = {own: told for own, one in self._open.items() if (told := one.come(early)) is not None}
            if states or come:
                self._screen.tell({"order": order, "films": states, "come": come})

    def _cards(self, early: bool) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """Return what has started and what has ended: the order, and the states that are to be told."""
        ended: list[tuple[str, logs.Interaction]] = []
        states: dict[str, dict[str, Any]] = {}
        for log, place in self._places[: MANY + 1]:
            own, recorder, item = f"{log.number}.{place}", _recorder(log, place), log.at(place)
            if recorder is not None:
                if own not in self._open:
                    self._open[own] = _UnderWay(recorder)
                states[own] = self._open[own].state()
            elif item is not None:
                one = self._open.pop(own, None)
                if one is not None:
                    self._followed.append(one)
                ended.append((own, item))
                states[own] = self._sent.get(own, {})
        if len(ended) != self._ended:
            self._ended = len(ended)
            told = {ended[place][0]: one.state() for place, one in films_of([item for _, item in ended])}
            for own, item in ended:
                if own not in told:
                    del states[own]  # a tool whose call tells of it
                    continue
                states[own] = {**told[own], "now": WORDS[item.outcome]}
                if self._speed and item.outcome == "replayed":
                    states[own]["play"] = self._speed
        changed = {own: state for own, state in states.items() if state and (early or self._sent.get(own) != state)}
        self._sent.update(changed)
        return [own for own in states if states[own]], changed

    def end(self, items: Sequence[logs.Interaction]) -> bool:
        """The cell has ended: show its calls as they will stay. Return whether there was something to show."""
        self._unwatch()
        self._over.set()
        if self._screen is None:
            return False
        return self._carefully(lambda: self._close(items))

    def _close(self, items: Sequence[logs.Interaction]) -> None:
        with self._lock:
            assert self._screen is not None
            # What was read while it came need not be read again.
            followed = {id(one.recorder.saved): one for one in [*self._followed, *self._open.values()]}
            known = [one.of(item.take) if (one := followed.get(id(item.take))) else None for item in items]
            made = films_of(items, known)
            words = [WORDS[items[place].outcome] for place, _ in made]
            costs = [estimate(items[place], film) for place, film in made[:MANY]]
            self._screen.close([one for _, one in made], words, costs)

    def _carefully(self, do: Callable[[], None]) -> bool:
        if self.failed:
            return False
        done = careful(do)
        self.failed = not done
        return done


def _recorder(log: logs.Log, place: int) -> Recorder | None:
    for session in active_sessions():
        if session.log is log:
            found = session.keeper.recorder_at(place)
            if found is not None:
                return found
    return None


def careful(do: Callable[[], None]) -> bool:
    """Do what shows something; where it fails, log that, and return False."""
    try:
        do()
    except Exception:
        _logger.warning("nbreplay: a view failed, and is not shown; the calls themselves went on", exc_info=True)
        return False
    return True
