"""The widget: cards that grow while an answer streams, and a player for what was recorded.

Its traits hold everything that is stored, so a saved notebook plays without a kernel. Messages are sent while a cell
runs, and are not stored.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import publish_display_data
from ipywidgets import Layout

from nbreplay.core.cell import Run
from nbreplay.notebook.card import Card
from nbreplay.notebook.render import MANY, bundle, heading, model_rows

_STATIC = Path(__file__).parent / "static"
_VIEW = "application/vnd.jupyter.widget-view+json"
_open_views: dict[str, StreamView] = {}
_numbers = itertools.count()


def _read_static(name: str) -> str:
    """Return a script or style without comments and indents, since every widget carries it."""
    lines = (line.strip() for line in (_STATIC / name).read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*")))


class StreamView(anywidget.AnyWidget):
    """The cards of a cell, or two side by side."""

    _esm = _read_static("stream.js")
    _css = _read_static("stream.css")
    head = traitlets.Unicode().tag(sync=True)
    # As `Card.state` returns them. Instead of too many, `rows` has one per model: its name, calls, tokens, errors.
    cards: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    rows: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    together = traitlets.Bool().tag(sync=True)  # side by side, on one timeline

    def put(self, cards: Sequence[Card]) -> None:
        """Store and show cards."""
        with self.hold_sync():
            self.head = heading(cards) if len(cards) > 1 and not self.together else ""
            self.rows = [list(row) for row in model_rows(cards)] if len(cards) > MANY else []
            self.cards = [card.state() for card in cards] if len(cards) <= MANY else []


class WidgetScreen:
    """Shows the calls of a cell's run by a widget, whose id is the same in every run of a notebook."""

    def __init__(self, run: Run | None, *, together: bool = False) -> None:
        cell_id = run.cell.id if run and run.cell else None
        name = f"{cell_id}/{next(run.views)}" if run and cell_id else f"#{next(_numbers)}"
        model_id = _digest(f"nbreplay {name}")
        if (previous := _open_views.pop(model_id, None)) is not None:  # the cell runs again
            previous.layout.close()
            previous.close()
        layout = Layout(model_id=_digest(model_id))
        self._view = _open_views[model_id] = StreamView(model_id=model_id, layout=layout, together=together)

    def open(self) -> None:
        """Add an empty view to the cell's outputs."""
        self._publish(())

    def update(self, changes: dict[str, Any]) -> None:
        """Show what has changed, as `TerminalScreen.update` says."""
        self._view.send({"do": "more", **changes})

    def close(self, cards: Sequence[Card]) -> None:
        """Show the final cards in the open view, and tell screen readers."""
        self.show(cards, update=True)

    def show(self, cards: Sequence[Card], *, update: bool = False) -> None:
        """Show calls that have ended, in a new view or in the open one."""
        self._view.put(cards)
        self._publish(cards, update=update)
        outcomes, costs = [card.outcome for card in cards], [card.cost for card in cards[:MANY]]
        # A screen reader says when all answers have come.
        single = " · ".join((cards[0].title, *cards[0].facts[:2])) if len(cards) == 1 else ""
        said = single or heading(cards) if update and cards else ""
        self._view.send({"do": "words", "words": outcomes, "costs": costs, "said": said})

    def _publish(self, cards: Sequence[Card], *, update: bool = False) -> None:
        model_id = self._view.model_id
        data = {**bundle(cards), _VIEW: {"version_major": 2, "version_minor": 0, "model_id": model_id}}
        publish_display_data(data, transient={"display_id": model_id}, update=update)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
