"""The displays of calls: a widget where there is a front end, text in a terminal."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from nbreplay.core.cell import current_run
from nbreplay.core.log import Interaction
from nbreplay.notebook.card import Card, make_cards
from nbreplay.notebook.live import Screen, try_view
from nbreplay.notebook.render import MANY, bundle, render_calls

Pair = tuple[Interaction | None, Interaction | None]


def _shell() -> Any:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _has_front_end(shell: Any) -> bool:
    return getattr(shell, "kernel", None) is not None


def preload(shell: Any) -> None:
    """Import the modules of a view, so that no call waits for that."""
    with contextlib.suppress(Exception):  # reported when the view is opened
        importlib.import_module(f"nbreplay.notebook.{'widget' if _has_front_end(shell) else 'terminal'}")


def make_screen(shell: Any, cell: str | None, serial: int = 0) -> Screen:
    """Return the screen that shows the calls of a cell, by its id; `serial` numbers the views of its run."""
    if _has_front_end(shell):
        from nbreplay.notebook.widget import WidgetScreen

        return WidgetScreen(cell, serial)
    from nbreplay.notebook.terminal import TerminalScreen

    return TerminalScreen()


def show(calls: Sequence[Interaction], *, widgets: bool = True) -> None:
    """Show calls that have ended: by a widget, or as text where no front end is there, or its widgets fail."""
    if not _has_front_end(_shell()):
        print(render_calls(calls, outcomes=True)["text/plain"])
    elif not (widgets and try_view(lambda: _show_widget(make_cards(calls)))):
        _publish(render_calls(calls))


def show_pairs(pairs: Iterable[Pair], count: int, title: str) -> None:
    """Show pairs of calls side by side, each on one timeline, or as text below a title; only the first if many."""
    has_front_end = _has_front_end(_shell())
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

    run = current_run()
    cell = run.cell.id if run is not None and run.cell is not None else None
    WidgetScreen(cell, run.view() if run is not None else 0, together=together).show(cards)


def _publish(data: dict[str, str]) -> None:
    from IPython.display import publish_display_data

    publish_display_data(data)
