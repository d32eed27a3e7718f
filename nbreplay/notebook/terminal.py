"""Watching a cell's calls in a terminal: what streams stands below what the cell prints, and stays as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from nbreplay.notebook.film import Film
from nbreplay.notebook.reel import Beat
from nbreplay.notebook.render import bundle

__all__ = ["TerminalScreen"]

_LINES = 12  # of an answer under way; all of it is there at the end


class TerminalScreen:
    """Shows a cell's calls in a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._order: list[str] = []
        self._states: dict[str, dict[str, Any]] = {}
        self._said: dict[str, list[Beat]] = {}
        self._tracks: dict[str, list[list[Any]]] = {}

    def open(self) -> None:
        """Take a place below what is printed."""
        if self._console.is_terminal:
            self._live.start()

    def cards(self, order: list[str], states: dict[str, dict[str, Any]]) -> None:
        """Show these, each as given now or before."""
        self._order = order
        self._states.update(states)
        self._draw()

    def more(self, own: str, start: int, tracks: list[list[Any]], beats: list[Beat]) -> None:
        """Show what has come of one; `start` counts the beats before."""
        said = self._said.setdefault(own, [])
        said[start:] = beats
        self._tracks[own] = tracks
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
            lines = self._lines(own)
            shown.append("\n".join(lines[-_LINES:]) + "\n" if lines else "")
        self._live.update(shown, refresh=True)

    def _lines(self, own: str) -> list[str]:
        """Return what has come of one: text as it is, reasoning and the arguments of tools with their names."""
        lines = []
        for place, (kind, _, name) in enumerate(self._tracks.get(own, [])):
            said = "".join(beat.text for beat in self._said[own] if beat.track == place)
            label = {"text": "", "tool_call": f"▸ {name} "}.get(kind, f"[{kind}] ")
            lines += f"{label}{said}".splitlines()
        return lines

    def close(self, made: Sequence[Film], words: Sequence[str]) -> None:
        """Show how all of it ended, for good."""
        self._live.stop()
        print(bundle(made, words)["text/plain"])
