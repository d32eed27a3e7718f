"""Where calls are shown: by a widget where there is a front end for one, in a terminal, or as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbreplay.core import active
from nbreplay.core.log import Interaction
from nbreplay.notebook.film import WORDS
from nbreplay.notebook.live import Screen, careful
from nbreplay.notebook.loop import films_of
from nbreplay.notebook.render import cards

__all__ = ["prepared", "screen", "show"]


def prepared(shell: Any) -> None:
    """Import what a view needs, before a call waits for it."""
    careful(lambda: _imported(_has_front_end(shell)))


def _imported(front_end: bool) -> None:
    if front_end:
        import nbreplay.notebook.widget
    else:
        import nbreplay.notebook.terminal  # noqa: F401


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


def show(interactions: Sequence[Interaction], shell: Any) -> None:
    """Show calls that have ended: by a widget, or as text where there is no front end, or its widgets fail."""
    if shell is None or not _has_front_end(shell):
        print(cards(interactions, words=True)["text/plain"])
        return

    run = active.current_run()
    cell = run.cell.id if run is not None and run.cell is not None else None
    serial = 0 if run is None else run.view()

    def by_widget() -> None:
        from nbreplay.notebook.widget import WidgetScreen

        made = films_of(interactions)
        words = [WORDS[interactions[place].outcome] for place, _ in made]
        WidgetScreen(cell, serial).show([one for _, one in made], words)

    if not careful(by_widget):
        from IPython.display import publish_display_data

        publish_display_data(cards(interactions))
