"""Watching the calls of a cell while it runs. A view that fails is logged once, and never stops a call."""

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
from nbreplay.core.session import active_sessions
from nbreplay.notebook.card import Card, Timeline, make_cards, prompt_of
from nbreplay.notebook.escape import plain
from nbreplay.notebook.render import MANY

PACE = 0.13
"""Seconds between two updates, so that a minute's stream takes 460 messages."""

# For so long, and so many characters, updates repeat what a front end may miss while it loads the widget.
_REPEAT_S, _REPEAT_SIZE = 2.0, 1_500
_logger = logging.getLogger("nbreplay")


class Screen(Protocol):
    """The place where a cell's calls are shown."""

    def open(self) -> None:
        """Take a place among the outputs of the cell."""

    def update(self, changes: dict[str, Any]) -> None:
        """Show what has changed.

        ``order``: the names of all calls. ``cards``: the states of calls that have started or ended. ``growth``: of
        each call under way, ``tracks``, kind, choice and name of each; ``texts``, pairs of a track's number and its new
        text, or its whole text where ``again`` is true; ``chunks``, their number; ``at``, the last arrival in ms.
        """

    def close(self, cards: Sequence[Card]) -> None:
        """Show the final cards."""


class _OpenCall:
    """A call whose answer is under way."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._timeline = Timeline()
        self._parser: StreamParser | None = None
        self._read = 0  # pieces
        self._counts: list[int] = []  # of the entries of each chunk
        self._shown = 0  # characters
        self._repeats = True
        title = plain(recorder.request.model or recorder.call.host)
        self.state = {"title": title, "asked": prompt_of(recorder.request), "busy": True}

    def growth(self, early: bool) -> dict[str, Any] | None:
        """Return what has come since the last call of this, as `Screen.update` takes it."""
        before = len(self._timeline.entries)
        at = self._feed()
        new = self._timeline.entries[before:]
        if not new and not self._repeats:
            return None
        self._repeats = early and self._shown < _REPEAT_SIZE
        self._shown += sum(len(entry.text) for entry in new)
        entries = self._timeline.entries if self._repeats else new
        texts = {
            place: "".join(entry.text for entry in entries if entry.track == place)
            for place in sorted({entry.track for entry in entries} - {-1})
        }
        return {
            "again": self._repeats,
            "tracks": [[track.kind, track.choice, track.name] for track in self._timeline.tracks],
            "texts": list(texts.items()),
            "chunks": len(self._counts),
            "at": at,
        }

    def _feed(self) -> int:
        """Add what has arrived to the timeline. Return the last arrival, in milliseconds from the request."""
        framing = framing_of(self.recorder.content_type)
        if framing is None:
            return 0
        self._parser = self._parser or StreamParser(framing)
        pieces = self.recorder.so_far()[self._read :]
        self._read += len(pieces)
        last = 0
        for at, data in pieces:
            last = round((at - self.recorder.started) * 1000)
            for event in self._parser.feed(data, at):
                self._counts.append(self._timeline.feed(last, parse_object(event.data), event.event))
        return last

    def timeline(self) -> Timeline | None:
        """Return the timeline with the times of the recorded take; None where it differs, and must be parsed again."""
        take = self.recorder.saved
        if take is None or take.redacted or not isinstance(take.body, Events):
            return None
        self._feed()
        if len(take.body.chunks) != len(self._counts):
            return None
        arrivals = itertools.accumulate(chunk.gap_ms for chunk in take.body.chunks)
        times = itertools.chain.from_iterable(map(itertools.repeat, arrivals, self._counts))
        timeline = self._timeline
        timeline.entries = [entry._replace(at_ms=at) for at, entry in zip(times, timeline.entries, strict=True)]
        timeline.answer.first_ms = next((entry.at_ms for entry in timeline.entries if entry.track >= 0), None)
        return timeline


class Live:
    """The calls of one cell, shown while it runs.

    `make_screen` is called when the first call starts; `speed` is the pace of a replay. `failed` is true once showing
    them has failed, which has been logged.
    """

    def __init__(self, make_screen: Callable[[], Screen], speed: float | None = None) -> None:
        self._make_screen, self._speed = make_screen, speed
        self._screen: Screen | None = None
        self._places: list[tuple[logs.Log, int]] = []
        self._calls: dict[str, _OpenCall] = {}
        self._ended = 0
        self._final: dict[str, dict[str, Any]] = {}
        self._sent: dict[str, dict[str, Any]] = {}
        self._opened_at = 0.0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self.failed = False
        self._unwatch = logs.watch_calls(self._on_start)

    def _on_start(self, log: logs.Log, place: int) -> None:
        """Note a call that starts, in the thread that makes it."""
        self._places.append((log, place))
        if self._screen is None:
            self._try(self._open)

    def _open(self) -> None:
        with self._lock:
            if self._screen is not None:
                return
            self._opened_at = time.monotonic()
            self._screen = self._make_screen()
            self._screen.open()
        with contextlib.suppress(RuntimeError):  # without threads, everything is shown at the end of the cell
            threading.Thread(target=self._run, name="nbreplay view", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(PACE) and not self.failed:
            self._try(self._update)

    def _update(self) -> None:
        with self._lock:
            if self._over.is_set() or self._screen is None:
                return
            early = time.monotonic() - self._opened_at < _REPEAT_S
            states = self._states()
            changed = {name: state for name, state in states.items() if early or self._sent.get(name) != state}
            self._sent.update(changed)
            busy = [name for name, state in states.items() if state.get("busy")]
            growth = {name: part for name in busy if (part := self._calls[name].growth(early)) is not None}
            if changed or growth:
                self._screen.update({"order": list(states), "cards": changed, "growth": growth})

    def _states(self) -> dict[str, dict[str, Any]]:
        """Return the states of all calls, in their order, without tools whose result another card shows."""
        rows = [(f"{log.number}.{at}", _recorder(log, at), log.at(at)) for log, at in self._places[: MANY + 1]]
        ended = {name: call for name, recorder, call in rows if recorder is None and call is not None}
        if len(ended) != self._ended:
            self._ended = len(ended)
            names = {id(call): name for name, call in ended.items()}
            pace = {"play": self._speed} if self._speed else {}
            self._final = {
                names[id(card.call)]: card.state() | {"now": card.outcome} | (pace if card.outcome == "REPLAY" else {})
                for card in make_cards(list(ended.values()))
            }
        for name, recorder, _ in rows:
            if recorder is not None and name not in self._calls:
                self._calls[name] = _OpenCall(recorder)
        states = {name: self._calls[name].state if recorder else self._final.get(name) for name, recorder, _ in rows}
        return {name: state for name, state in states.items() if state}

    def end(self, calls: Sequence[logs.Interaction]) -> bool:
        """Show the final cards at the end of the cell. Return whether they are shown."""
        self._unwatch()
        self._over.set()
        return self._screen is not None and self._try(lambda: self._close(calls))

    def _close(self, calls: Sequence[logs.Interaction]) -> None:
        with self._lock:
            assert self._screen is not None
            known = {id(call.recorder.saved): call.timeline() for call in self._calls.values()}
            self._screen.close(make_cards(calls, [known.get(id(call.take)) for call in calls]))

    def _try(self, do: Callable[[], None]) -> bool:
        self.failed = self.failed or not try_view(do)
        return not self.failed


def _recorder(log: logs.Log, place: int) -> Recorder | None:
    recorders = (session.keeper.recorder_at(place) for session in active_sessions() if session.log is log)
    return next(filter(None, recorders), None)


def try_view(do: Callable[[], None]) -> bool:
    """Do what shows calls. Where it fails, log that, and return False."""
    try:
        do()
    except Exception:
        _logger.warning("nbreplay: a view failed, and is not shown; the calls themselves went on", exc_info=True)
        return False
    return True
