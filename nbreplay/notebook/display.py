"""Where calls are shown: by a widget where there is a front end for one, in a terminal, or as text."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from nbreplay.core.cell import current_run
from nbreplay.core.log import Interaction
from nbreplay.notebook.agent_loop import films, films_of
from nbreplay.notebook.card import WORDS, Film
from nbreplay.notebook.costs import estimate
from nbreplay.notebook.live import Screen, careful
from nbreplay.notebook.render import MANY, bundle, cards

__all__ = ["prepared", "screen", "show", "show_pairs"]

Pair = tuple[Interaction | None, Interaction | None]


def prepared(shell: Any) -> None:
    """Import what a view needs, before a call waits for it."""
    with contextlib.suppress(Exception):  # what cannot be imported is told when it is wanted
        importlib.import_module(f"nbreplay.notebook.{'widget' if _has_front_end(shell) else 'terminal'}")


def _shell() -> Any:
    """Return the shell of this process, or None where there is none."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _has_front_end(shell: Any) -> bool:
    return getattr(shell, "kernel", None) is not None


def screen(shell: Any, cell: str | None, serial: int = 0) -> Screen:
    """Return what shows the calls of a cell in this shell.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    cell : str or None
        The cell's id.
    serial : int
        Which view of the cell's run it is.
    """
    if _has_front_end(shell):
        from nbreplay.notebook.widget import WidgetScreen

        return WidgetScreen(cell, serial)
    from nbreplay.notebook.terminal import TerminalScreen

    return TerminalScreen()


def show(interactions: Sequence[Interaction], *, widgets: bool = True) -> None:
    """Show calls that have ended: by a widget, or as text where there is no front end, or its widgets fail."""
    if not _has_front_end(_shell()):
        print(cards(interactions, words=True)["text/plain"])
        return

    def by_widget() -> None:
        from nbreplay.notebook.widget import WidgetScreen

        made = films_of(interactions)
        words = [WORDS[interactions[place].outcome] for place, _ in made]
        costs = [estimate(interactions[place], film) for place, film in made[:MANY]]
        WidgetScreen(*_place()).show([one for _, one in made], words, costs)

    if not (widgets and careful(by_widget)):
        from IPython.display import publish_display_data

        publish_display_data(cards(interactions))


def show_pairs(pairs: Iterable[Pair], count: int, title: str) -> None:
    """Show pairs of calls side by side, each on one timeline, or as text below a title; of many, the first."""
    front_end = _has_front_end(_shell())
    if not front_end:
        print(title, end="\n\n")
    for pair in itertools.islice(pairs, MANY):
        made = [_side(item, "a" if place == 0 else "b") for place, item in enumerate(pair)]
        text = bundle(made)
        if not front_end:
            print(text["text/plain"], end="\n\n")
            continue

        def by_widget(made: Sequence[Film] = made) -> None:
            from nbreplay.notebook.widget import WidgetScreen

            WidgetScreen(*_place(), together=True).show(made, (), ())

        if not careful(by_widget):
            from IPython.display import publish_display_data

            publish_display_data(text)
    if count > MANY:
        print(f"… and {count - MANY} more pairs")


def _side(item: Interaction | None, name: str) -> Film:
    return Film("nothing", note=f"{name} has no answer to this") if item is None else films([item])[0]


def _place() -> tuple[str | None, int]:
    """The cell's id, and which view of its run comes next."""
    run = current_run()
    return (None, 0) if run is None else (run.cell.id if run.cell is not None else None, run.view())
