"""`show()` of sessions and comparisons: the one place that looks upward, and only when called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["show"]


def show(thing: Any) -> None:
    """Display interactions, or a comparison: as cards or a table in a notebook, as text elsewhere."""
    if isinstance(thing, Sequence):
        from nbreplay.notebook.render import cards

        made = cards(thing)
    else:
        made = thing._repr_mimebundle_()
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
