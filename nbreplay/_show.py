"""`show()` of sessions and comparisons: the one place that looks upward, and only when called."""

from __future__ import annotations

from collections.abc import Sequence

from nbreplay.core.log import Interaction

__all__ = ["show"]


def show(interactions: Sequence[Interaction]) -> None:
    """Display interactions: as cards in a notebook, as text elsewhere."""
    from nbreplay.notebook.render import cards

    made = cards(interactions)
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        print(made["text/plain"])
        return
    if get_ipython() is None:
        print(made["text/plain"])
    else:
        display(made, raw=True)
