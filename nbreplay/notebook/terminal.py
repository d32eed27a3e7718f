"""Watching a cell's calls in a terminal: answers grow below the cell's output, and stay as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nbreplay.notebook.card import Card
from nbreplay.notebook.render import bundle

_LINES = 12  # of an answer under way; all of them are shown at the end


class TerminalScreen:
    """Shows a cell's calls in a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._order: list[str] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, list[str]] = {}  # by track

    def open(self) -> None:
        """Take the place below the cell's output."""
        if self._console.is_terminal:
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
