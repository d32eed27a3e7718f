"""Watching a cell's calls in a terminal: what streams stands below what the cell prints, and stays as text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nbreplay.notebook.card import Film
from nbreplay.notebook.render import bundle

__all__ = ["TerminalScreen"]

_LINES = 12  # of an answer under way; all of it is there at the end


class TerminalScreen:
    """Shows a cell's calls in a terminal.

    Parameters
    ----------
    console : rich.console.Console, optional
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._order: list[str] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._said: dict[str, list[str]] = {}  # by track

    def open(self) -> None:
        """Take a place below what is printed."""
        if self._console.is_terminal:
            self._live.start()

    def tell(self, what: dict[str, Any]) -> None:
        """Show what has changed."""
        self._order = what["order"]
        self._states.update(what["films"])
        for own, come in what["come"].items():
            said = self._said.setdefault(own, [])
            if come["again"]:
                said.clear()
            for kind, _, name in come["tracks"][len(said) :]:
                said.append({"text": "", "tool_call": f"▸ {name} "}.get(kind, f"[{kind}] "))
            for place, text in come["texts"]:
                said[place] += text
        self._draw()

    def _draw(self) -> None:
        if not self._live.is_started:
            return
        shown = Text()
        for own in self._order:
            state = self._states.get(own)
            if state is None:
                continue
            shown.append(f"{state.get('now', '…')}  ", style="bold")
            shown.append(" · ".join([state["title"], *state.get("facts", [])]) + "\n", style="dim")
            lines = "\n".join(self._said.get(own, [])).splitlines()
            shown.append("\n".join(lines[-_LINES:]) + "\n" if lines else "")
        self._live.update(shown, refresh=True)

    def close(self, made: Sequence[Film], words: Sequence[str], costs: Sequence[str]) -> None:
        """Show how all of it ended, for good."""
        self._live.stop()
        told = [" · ".join(filter(None, (word, cost))) for word, cost in itertools.zip_longest(words, costs)]
        print(bundle(made, told)["text/plain"])
