"""The displays of calls, while they run and after: a page of cards where there is a front end, text in a terminal.

The page is what a notebook stores. A widget stands in its place where the front end has widgets.

A display that fails is logged once, and never stops a call.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nbreplay.core.cell import Run, current_run
from nbreplay.core.log import Interaction, Log, watch_calls
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.json_text import parse_object
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import StreamParser, framing_of
from nbreplay.core.session import active_sessions
from nbreplay.core.strand import own_loop
from nbreplay.core.websocket import WebSocketRecorder
from nbreplay.notebook.card import Card, Timeline, make_cards, prompt_of
from nbreplay.notebook.escape import plain
from nbreplay.notebook.pairs import Rest, describe_left, lines_bundle, make_pair, pair_bundle, pair_head, rest_bundle
from nbreplay.notebook.render import MANY, bundle, render_calls

if TYPE_CHECKING:
    import asyncio

    from rich.console import Console
    from rich.text import Text

    from nbreplay.notebook.widget import WidgetScreen

_PACE = 0.13  # seconds between two updates, so that a minute's stream takes 460 messages
# For so long, and so many characters, updates repeat what a front end may miss while it loads the widget.
_REPEAT_S, _REPEAT_SIZE = 2.0, 1_500
_LINES = 12  # of an answer under way in a terminal; all of them are shown at the end
_logger = logging.getLogger("nbreplay")


def show(calls: Sequence[Interaction], *, widgets: bool = True) -> None:
    """Show calls that have ended: by a widget, or as text where no front end is there, or its widgets fail."""
    if not has_front_end():
        print(render_calls(calls, outcomes=True)["text/plain"])
    elif not (widgets and has_widgets() and try_view(lambda: _show_widget(make_cards(calls)))):
        _publish(render_calls(calls))


def show_pairs(
    lines: Sequence[str],
    names: Sequence[str],
    pairs: Iterable[Sequence[Interaction | None]],
    count: int,
    rest: Sequence[Rest],
) -> None:
    """Show a comparison: its first lines, pairs of calls side by side, of many only the first, and the rest folded."""
    is_text = not has_front_end()

    def put(data: dict[str, str]) -> None:
        if is_text:
            print(data["text/plain"], end="\n\n")
        else:
            _publish(data)

    put(lines_bundle(lines))
    for place, pair in enumerate(itertools.islice(pairs, MANY), 1):
        head, cards = pair_head(make_pair(pair, names), place, count)
        if is_text or not (has_widgets() and try_view(partial(_show_pair, cards, head))):
            put(pair_bundle(head, cards))
    if count > MANY:
        put(lines_bundle([describe_left(count - MANY)]))
    if rest:
        put(rest_bundle(rest))


def _show_pair(cards: Sequence[Card], head: str) -> None:
    from nbreplay.notebook.widget import WidgetScreen

    WidgetScreen(current_run(), together=True).show_pair(cards, head)


def _show_widget(cards: Sequence[Card]) -> None:
    from nbreplay.notebook.widget import WidgetScreen

    WidgetScreen(current_run()).show(cards)


def _publish(data: dict[str, str], **options: Any) -> None:
    from IPython.display import publish_display_data

    publish_display_data(data, **options)


def has_front_end() -> bool:
    """Return whether a front end shows what is displayed: not in a terminal, nor in a script."""
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


_is_stored_only = False


def show_pages_only() -> None:
    """Show no widgets from now on: nobody is there to see them, and the outputs are stored."""
    global _is_stored_only
    _is_stored_only = True


def has_widgets() -> bool:
    """Return whether the front end may show widgets. Colab refuses those of others until a user allows them."""
    return not _is_stored_only and "google.colab" not in sys.modules


def try_view(do: Callable[[], None]) -> bool:
    """Do what shows calls. Where it fails, log that, and return False."""
    try:
        do()
    except Exception:
        _logger.warning("nbreplay: a view failed, and is not shown; the calls themselves went on", exc_info=True)
        return False
    return True


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
        """Return what has come since the last call of this, as the `update` of a screen takes it."""
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
        last, recorder = 0, self.recorder
        if isinstance(recorder, WebSocketRecorder):
            frames = recorder.frames_so_far()[self._read :]
            self._read += len(frames)
            for at, frame in frames:
                last = round((at - recorder.started) * 1000)
                self._counts.append(self._timeline.feed(last, frame.data()))
            return last
        framing = framing_of(recorder.content_type)
        if framing is None:
            return 0
        self._parser = self._parser or StreamParser(framing)
        pieces = recorder.so_far()[self._read :]
        self._read += len(pieces)
        for at, data in pieces:
            last = round((at - recorder.started) * 1000)
            for event in self._parser.feed(data, at):
                self._counts.append(self._timeline.feed(last, parse_object(event.data), event.event))
        return last

    def timeline(self) -> Timeline | None:
        """Return the timeline with the times of the recorded take; None where it differs, and must be parsed again."""
        take = self.recorder.saved
        # What a websocket leaves for its end is only in the take.
        if take is None or take.redacted or take.status == 101 or not isinstance(take.body, Events):
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
    """The calls of a cell's run, shown while it runs.

    `speed` is the pace of a replay. `failed` is true once showing them has failed, which has been logged.
    """

    def __init__(self, run: Run, speed: float | None) -> None:
        with contextlib.suppress(Exception):  # now, so that no call waits for it; a failure is reported at the first
            if not has_front_end() or has_widgets():
                importlib.import_module("nbreplay.notebook.widget" if has_front_end() else "rich.live")
        self._run, self._speed = run, speed
        self._screen: WidgetScreen | PageScreen | TerminalScreen | None = None
        self._places: list[tuple[Log, int]] = []
        self._calls: dict[str, _OpenCall] = {}
        self._ended = 0
        self._final: dict[str, dict[str, Any]] = {}
        self._sent: dict[str, dict[str, Any]] = {}
        self._opened_at = 0.0
        self._lock = threading.RLock()
        self._over = threading.Event()
        self.failed = False
        self._unwatch = watch_calls(self._on_start)

    def _on_start(self, log: Log, place: int) -> None:
        """Note a call that starts, in the thread that makes it."""
        self._places.append((log, place))
        if self._screen is None:
            self._try(self._open)

    def _open(self) -> None:
        with self._lock:
            if self._screen is not None:
                return
            self._opened_at = time.monotonic()
            if not has_front_end():
                self._screen = TerminalScreen()
            elif not has_widgets():
                self._screen = PageScreen()
            else:
                from nbreplay.notebook.widget import WidgetScreen

                self._screen = WidgetScreen(self._run)
            self._screen.open()
        try:
            threading.Thread(target=self._follow, name="nbreplay view", daemon=True).start()
        except RuntimeError:  # Pyodide has no threads. A cell that does not await shows its calls when they have ended
            if (loop := own_loop()) is not None:
                self._follow_in(loop)

    def _follow(self) -> None:
        while not self._over.wait(_PACE) and not self.failed:
            self._try(self._update)

    def _follow_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._over.is_set() and self._try(self._update):
            loop.call_later(_PACE, self._follow_in, loop)

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

    def end(self, calls: Sequence[Interaction]) -> bool:
        """Show the final cards at the end of the cell. Return whether they are shown."""
        self._unwatch()
        self._over.set()
        return self._screen is not None and self._try(lambda: self._close(calls))

    def _close(self, calls: Sequence[Interaction]) -> None:
        with self._lock:
            assert self._screen is not None
            known = {id(call.recorder.saved): call.timeline() for call in self._calls.values()}
            self._screen.close(make_cards(calls, [known.get(id(call.take)) for call in calls]))

    def _try(self, do: Callable[[], None]) -> bool:
        with self._lock:  # else the end of the cell may fail, too, before the first failure is noted
            self.failed = self.failed or not try_view(do)
        return not self.failed


_MARKS = {"text": "", "audio": "", "tool_call": "▸ ", "user": "asked: ", "user_audio": "asked: "}
_MARKS |= {"sent": "→ ", "received": "← "}


def _recorder(log: Log, place: int) -> Recorder | None:
    recorders = (session.keeper.recorder_at(place) for session in active_sessions() if session.log is log)
    return next(filter(None, recorders), None)


class PageScreen:
    """Shows a cell's calls as a page of cards, once they have ended, in the place of the first call."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        self._id = f"nbreplay-page-{next(self._numbers)}"

    def open(self) -> None:
        """Take the place in the cell's outputs."""
        _publish(bundle(()), transient={"display_id": self._id})

    def update(self, changes: dict[str, Any]) -> None:
        """Show nothing of a call under way."""

    def close(self, cards: Sequence[Card]) -> None:
        """Show the final cards."""
        _publish(bundle(cards), transient={"display_id": self._id}, update=True)


class TerminalScreen:
    """Shows a cell's calls in a terminal: answers grow below the cell's output, and stay as text."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        console = console or Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._order: list[str] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, list[str]] = {}  # by track

    def open(self) -> None:
        """Take the place below the cell's output."""
        if self._live.console.is_terminal:
            self._live.start()

    def update(self, changes: dict[str, Any]) -> None:
        """Show what has changed.

        ``order``: the names of all calls. ``cards``: the states of calls that have started or ended. ``growth``: of
        each call under way, ``tracks``, kind, choice and name of each; ``texts``, pairs of a track's number and its new
        text, or its whole text where ``again`` is true; ``chunks``, their number; ``at``, the last arrival in ms.
        """
        self._order = changes["order"]
        self._states.update(changes["cards"])
        for name, growth in changes["growth"].items():
            texts = self._texts.setdefault(name, [])
            if growth["again"]:
                texts.clear()
            for kind, _, tool in growth["tracks"][len(texts) :]:
                texts.append(_MARKS.get(kind, f"[{kind}] ") + (f"{tool} " if kind == "tool_call" else ""))
            for place, text in growth["texts"]:
                texts[place] += text
        if self._live.is_started:
            self._live.update(self._text(), refresh=True)

    def _text(self) -> Text:
        from rich.text import Text

        page = Text()
        for name in self._order:
            if (state := self._states.get(name)) is None:
                continue
            page.append(f"{state.get('now', '…')}  ", style="bold")
            page.append(" · ".join([state["title"], *state.get("facts", [])]) + "\n", style="dim")
            lines = "\n".join(self._texts.get(name, [])).splitlines()
            page.append("\n".join(lines[-_LINES:]) + "\n" if lines else "")
        return page

    def close(self, cards: Sequence[Card]) -> None:
        """Show the final cards, as text that stays."""
        self._live.stop()
        labels = [" · ".join(filter(None, (card.outcome, card.cost))) for card in cards]
        print(bundle(cards, labels)["text/plain"])
