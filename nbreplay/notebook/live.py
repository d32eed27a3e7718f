"""Watching the calls of a cell while it runs. A view that fails is logged once, and never costs the cell anything."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nbreplay.core import active
from nbreplay.core import log as logs
from nbreplay.core.fold import last_user_text
from nbreplay.core.following import Following
from nbreplay.core.recorder import Recorder
from nbreplay.notebook.film import WORDS, Film
from nbreplay.notebook.loop import films_of
from nbreplay.notebook.reel import Beat, Reel
from nbreplay.notebook.render import MANY
from nbreplay.notebook.texts import clip, plain

__all__ = ["PACE", "Live", "Screen", "careful"]

PACE = 0.15
"""Seconds between two updates: text is on its way within that, and a minute's stream takes 400 messages."""

_AGAIN_S = 2.0  # for so long a front end may load the widget; updates repeat what it may not have heard
_logger = logging.getLogger("nbreplay")


class Screen(Protocol):
    """Where a cell's calls are shown."""

    def open(self) -> None:
        """Take a place among the outputs of the cell."""

    def cards(self, order: list[str], states: dict[str, dict[str, Any]]) -> None:
        """Show these, each as given now or before."""

    def more(self, own: str, start: int, tracks: list[list[Any]], beats: list[Beat]) -> None:
        """Show what has come of one; `start` counts the beats before."""

    def close(self, made: Sequence[Film], words: Sequence[str]) -> None:
        """Show how all of it ended, for good."""


class _Following:
    """A call whose answer comes."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.following, self.reel = Following(recorder), Reel()
        self.beats: list[Beat] = []
        self.sent = 0

    def state(self) -> dict[str, Any]:
        request = self.recorder.request
        asked = clip(plain(last_user_text(request)), 2_000)
        return {"title": plain(request.model or self.recorder.call.host), "asked": asked, "busy": True}


class Live:
    """The calls of one cell, shown while it runs.

    Parameters
    ----------
    screen : callable
        Makes the screen when the first call starts.
    speed : float or None
        At which pace calls are replayed.
    """

    def __init__(self, screen: Callable[[], Screen], speed: float | None = None) -> None:
        self._make, self._speed = screen, speed
        self._screen: Screen | None = None
        self._places: list[tuple[logs.Log, int]] = []
        self._open: dict[str, _Following] = {}
        self._sent: dict[str, dict[str, Any]] = {}
        self._ended = 0
        self._began = 0.0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._broken = False
        self._unwatch = logs.watch(self._started)

    def _started(self, log: logs.Log, place: int) -> None:
        """A call starts; in the thread that makes it."""
        self._places.append((log, place))
        if self._screen is None and not self._broken:
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
        while not self._over.wait(PACE) and not self._broken:
            self._carefully(self._tick)

    def _tick(self) -> None:
        with self._lock:
            if self._over.is_set() or self._screen is None:
                return
            self._cards(self._screen)
            for own, one in self._open.items():
                self._more(self._screen, own, one)

    def _cards(self, screen: Screen) -> None:
        """Show what has started and what has ended since."""
        ended: list[tuple[str, logs.Interaction]] = []
        states: dict[str, dict[str, Any]] = {}
        for log, place in self._places[: MANY + 1]:
            own, recorder, item = f"{log.number}.{place}", _recorder(log, place), log.at(place)
            if recorder is not None:
                if own not in self._open:
                    self._open[own] = _Following(recorder)
                states[own] = self._open[own].state()
            elif item is not None:
                self._open.pop(own, None)
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
        early = time.monotonic() - self._began < _AGAIN_S
        changed = {own: state for own, state in states.items() if state and (early or self._sent.get(own) != state)}
        if changed:
            self._sent.update(changed)
            screen.cards([own for own in states if states[own]], changed)

    def _more(self, screen: Screen, own: str, one: _Following) -> None:
        before = len(one.beats)
        for at, value, event in one.following.more():
            one.beats += one.reel.feed(at, value, event)
        if len(one.beats) == before and one.sent == before:
            return
        late = bool(one.beats) and one.beats[-1].at_ms - one.beats[0].at_ms > _AGAIN_S * 1000
        start = one.sent if late else 0
        tracks = [[track.kind, track.choice, track.name] for track in one.reel.tracks]
        screen.more(own, start, tracks, one.beats[start:])
        one.sent = len(one.beats)

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
            made = films_of(items)
            self._screen.close([one for _, one in made], [WORDS[items[place].outcome] for place, _ in made])

    def _carefully(self, do: Callable[[], None]) -> bool:
        if self._broken:
            return False
        done = careful(do)
        self._broken = not done
        return done


def _recorder(log: logs.Log, place: int) -> Recorder | None:
    for session in active.sessions():
        if session.log is log:
            found = session.keeper.recording(place)
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
