"""The widget: cards that grow while an answer streams, and a player for what was recorded.

All it keeps is in its traits, so that a saved notebook plays without a kernel; messages only tell of what is under way.
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

from nbreplay.notebook.card import Film
from nbreplay.notebook.render import MANY, bundle, heading, overview

__all__ = ["StreamView", "WidgetScreen", "opened", "shown", "spoken"]

_STATIC = Path(__file__).parent / "static"
_VIEW = "application/vnd.jupyter.widget-view+json"
_open: dict[str, StreamView] = {}
_numbers = itertools.count()


def _lean(path: Path) -> str:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*")))


class StreamView(anywidget.AnyWidget):
    """The cards of a cell, or two side by side.

    Attributes
    ----------
    head : str
        What is said above several.
    cards : list of dict
        As `nbreplay.notebook.card.Film.state` returns them.
    rows : list
        Of too many calls, a row a model: its name, calls, tokens, errors.
    together : bool
        Whether they stand side by side, on one timeline.
    """

    # Every widget carries them: what only a reader of the code wants is left out.
    _esm = _lean(_STATIC / "stream.js")
    _css = _lean(_STATIC / "stream.css")
    head = traitlets.Unicode().tag(sync=True)
    cards: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    rows: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    together = traitlets.Bool().tag(sync=True)

    def put(self, made: Sequence[Film]) -> None:
        """Show what is final."""
        with self.hold_sync():
            self.head = heading(made) if len(made) > 1 and not self.together else ""
            self.rows = [list(row) for row in overview(made)] if len(made) > MANY else []
            self.cards = [one.state() for one in made] if len(made) <= MANY else []


def opened(cell: str | None, serial: int, *, together: bool = False) -> StreamView:
    """Return a new view, whose id is the same whenever the same notebook is run.

    Parameters
    ----------
    cell : str or None
        The id of the cell; where the front end tells none, views are counted.
    serial : int
        Which view of the cell's run it is.
    together : bool
    """
    named = f"{cell}/{serial}" if cell else f"#{next(_numbers)}"
    own = hashlib.sha256(f"nbreplay {named}".encode()).hexdigest()[:32]
    known = _open.pop(own, None)
    if known is not None:
        known.layout.close()
        known.close()  # the cell is run again
    layout = Layout(model_id=hashlib.sha256(own.encode()).hexdigest()[:32])
    view = _open[own] = StreamView(model_id=own, layout=layout, together=together)
    return view


def shown(view: StreamView, made: Sequence[Film]) -> dict[str, Any]:
    """Return the mime bundle of a view: the widget, and the same without widgets."""
    return {**bundle(made), _VIEW: {"version_major": 2, "version_minor": 0, "model_id": view.model_id}}


def _tell(view: StreamView, do: str, **what: Any) -> None:
    """Send a message to the views that are open; it is kept nowhere."""
    view.send({"do": do, **what})


class WidgetScreen:
    """Shows a cell's calls by a widget.

    Parameters
    ----------
    cell : str or None
        The cell's id.
    serial : int
        Which view of the cell's run it is.
    together : bool
        Whether they stand side by side.
    """

    def __init__(self, cell: str | None, serial: int = 0, *, together: bool = False) -> None:
        self._cell, self._serial, self._together = cell, serial, together
        self._view: StreamView | None = None

    def _made(self) -> StreamView:
        if self._view is None:
            self._view = opened(self._cell, self._serial, together=self._together)
        return self._view

    def open(self) -> None:
        """Take a place among the outputs of the cell."""
        view = self._made()
        publish_display_data(shown(view, ()), transient={"display_id": view.model_id})

    def tell(self, what: dict[str, Any]) -> None:
        """Show what has changed."""
        _tell(self._made(), "more", **what)

    def close(self, made: Sequence[Film], words: Sequence[str], costs: Sequence[str]) -> None:
        """Show how all of it ended, for good."""
        view = self._made()
        view.put(made)
        publish_display_data(shown(view, made), transient={"display_id": view.model_id}, update=True)
        _tell(view, "words", words=list(words), costs=list(costs), said=spoken(made))

    def show(self, made: Sequence[Film], words: Sequence[str], costs: Sequence[str]) -> None:
        """Show what has ended already."""
        view = self._made()
        view.put(made)
        publish_display_data(shown(view, made), transient={"display_id": view.model_id})
        _tell(view, "words", words=list(words), costs=list(costs), said="")


def spoken(made: Sequence[Film]) -> str:
    """Return what is read aloud when all has come."""
    if len(made) != 1:
        return heading(made) if made else ""
    return " · ".join((made[0].title, *made[0].facts[:2]))
