"""The displays of calls: a widget where there is a front end, text in a terminal."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nbreplay.core.cell import Run, current_run
from nbreplay.core.log import Interaction
from nbreplay.notebook.card import Card, make_cards
from nbreplay.notebook.live import Screen, try_view
from nbreplay.notebook.render import MANY, bundle, render_calls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_LINES = 12  # of an answer under way in a terminal; all of them are shown at the end

Pair = tuple[Interaction | None, Interaction | None]


def _has_front_end() -> bool:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def preload() -> None:
    """Import the modules of a view, so that no call waits for that."""
    with contextlib.suppress(Exception):  # reported when the view is opened
        importlib.import_module("nbreplay.notebook.widget" if _has_front_end() else "rich.live")


def make_screen(run: Run) -> Screen:
    """Return a screen that shows the calls of a cell's run."""
    if not _has_front_end():
        return TerminalScreen()
    from nbreplay.notebook.widget import WidgetScreen

    return WidgetScreen(run)


def show(calls: Sequence[Interaction], *, widgets: bool = True) -> None:
    """Show calls that have ended: by a widget, or as text where no front end is there, or its widgets fail."""
    if not _has_front_end():
        print(render_calls(calls, outcomes=True)["text/plain"])
    elif not (widgets and try_view(lambda: _show_widget(make_cards(calls)))):
        _publish(render_calls(calls))


def show_pairs(pairs: Iterable[Pair], count: int, title: str) -> None:
    """Show pairs of calls side by side, each on one timeline, or as text below a title; only the first if many."""
    has_front_end = _has_front_end()
    if not has_front_end:
        print(title, end="\n\n")
    for pair in itertools.islice(pairs, MANY):
        cards = [
            Card("nothing", note=f"{name} has no answer to this") if call is None else make_cards([call])[0]
            for name, call in zip("ab", pair, strict=True)
        ]
        if not has_front_end:
            print(bundle(cards)["text/plain"], end="\n\n")
        elif not try_view(partial(_show_widget, cards, together=True)):
            _publish(bundle(cards))
    if count > MANY:
        print(f"… and {count - MANY} more pairs")


def _show_widget(cards: Sequence[Card], *, together: bool = False) -> None:
    from nbreplay.notebook.widget import WidgetScreen

    WidgetScreen(current_run(), together=together).show(cards)


def _publish(data: dict[str, str]) -> None:
    from IPython.display import publish_display_data

    publish_display_data(data)


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
        """Show what has changed."""
        self._order = changes["order"]
        self._states.update(changes["cards"])
        for name, growth in changes["growth"].items():
            texts = self._texts.setdefault(name, [])
            if growth["again"]:
                texts.clear()
            for kind, _, tool in growth["tracks"][len(texts) :]:
                texts.append({"text": "", "tool_call": f"▸ {tool} "}.get(kind, f"[{kind}] "))
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
