"""The widget: cards that grow while an answer streams, and a player for what was recorded.

It is shown while the kernel that made it runs, in the place of the HTML that the output stores: see `page_of` in
`nbreplay.notebook.render`. JupyterLab stores no widgets, and shows an error for one that is not there. Messages tell
what is not to be stored.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

import anywidget
import traitlets
from IPython.display import publish_display_data
from ipywidgets import Layout

from nbreplay.core.cell import Run
from nbreplay.notebook.card import Card
from nbreplay.notebook.pairs import pair_bundle
from nbreplay.notebook.render import MANY, bundle, heading, model_rows, place_in, read_static

VIEW = "application/vnd.jupyter.widget-view+json"
_open_views: dict[str, anywidget.AnyWidget] = {}
_numbers = itertools.count()
_Widget = TypeVar("_Widget", bound=anywidget.AnyWidget)


def make_view(kind: type[_Widget], run: Run | None, **settings: Any) -> _Widget:
    """Return a new widget, whose id is the same in every run of a notebook; the one of the run before is closed."""
    cell_id = run.cell.id if run and run.cell else None
    name = f"{cell_id}/{next(run.views)}" if run and cell_id else f"#{next(_numbers)}"
    model_id = _digest(f"nbreplay {name}")
    if (previous := _open_views.pop(model_id, None)) is not None:  # the cell runs again
        previous.layout.close()
        previous.close()
    view = _open_views[model_id] = kind(model_id=model_id, layout=Layout(model_id=_digest(model_id)), **settings)
    return view


class StreamView(anywidget.AnyWidget):
    """The cards of a cell, or two side by side."""

    _esm = read_static("stream.js")
    _css = read_static("stream.css")
    head = traitlets.Unicode().tag(sync=True)
    # As `Card.state` returns them. Instead of too many, `rows` has one per model: its name, calls, tokens, errors.
    cards: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    rows: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    together = traitlets.Bool().tag(sync=True)  # side by side, on one timeline
    place = traitlets.Unicode().tag(sync=True)  # where it is shown

    def __init__(self, **settings: Any) -> None:
        self._words: dict[str, Any] | None = None
        super().__init__(**settings)
        # A busy browser may draw only now, and has missed the message.
        self.on_msg(lambda _, message, __: self._words and message == {"do": "ready"} and self.send(self._words))

    def put(self, cards: Sequence[Card], head: str = "") -> None:
        """Store and show cards, below a heading; several that are not side by side have one of their own."""
        with self.hold_sync():
            self.head = heading(cards) if len(cards) > 1 and not self.together else head
            self.rows = [list(row) for row in model_rows(cards)] if len(cards) > MANY else []
            self.cards = [card.state() for card in cards] if len(cards) <= MANY else []

    def tell(self, words: Sequence[str], costs: Sequence[str], said: str = "") -> None:
        """Show the word of each card and its cost, which are not stored, and have a text read aloud."""
        self._words = {"do": "words", "words": words, "costs": costs, "said": said}
        self.send(self._words)


class WidgetScreen:
    """Shows the calls of a cell's run by a widget, whose id is the same in every run of a notebook."""

    def __init__(self, run: Run | None, *, together: bool = False) -> None:
        self._view = make_view(StreamView, run, together=together)

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
        self._view.tell(outcomes, costs, said)

    def show_pair(self, cards: Sequence[Card], head: str) -> None:
        """Show two calls side by side, below a heading."""
        self._view.put(cards, head)
        self._publish_bundle(pair_bundle(head, cards, self._view.model_id))
        self._view.tell(["", ""], [card.cost for card in cards])

    def _publish(self, cards: Sequence[Card], *, update: bool = False) -> None:
        self._publish_bundle(bundle(cards, owner=self._view.model_id), update=update)

    def _publish_bundle(self, data: dict[str, str], *, update: bool = False) -> None:
        self._view.place = place_in(data["text/html"])
        publish_display_data(data, transient={"display_id": self._view.model_id}, update=update)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
