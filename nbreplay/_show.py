"""`show()` of sessions and comparisons: the one place that looks upward, and only when called."""

from __future__ import annotations

from collections.abc import Sequence

from nbreplay.core.log import Interaction

__all__ = ["show"]


def show(interactions: Sequence[Interaction]) -> None:
    """Display interactions: as cards in a notebook, as text elsewhere."""
    from nbreplay.notebook.showing import show as shown

    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        shell = None
    else:
        shell = get_ipython()
    shown(interactions, shell)
