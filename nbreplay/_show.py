"""`show()` of sessions and comparisons: the one place that looks upward, and only when called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nbreplay.core.log import Interaction

__all__ = ["show", "show_pairs"]


def show(interactions: Sequence[Interaction]) -> None:
    """Display interactions: as cards in a notebook, as text elsewhere."""
    from nbreplay.notebook.display import show as shown

    shown(interactions, _shell())


def show_pairs(pairs: Iterable[tuple[Interaction | None, Interaction | None]], count: int, title: str) -> None:
    """Display pairs of interactions side by side, and as text below a title; None where one side has none."""
    from nbreplay.notebook.display import show_pairs as shown

    shown(pairs, count, title, _shell())


def _shell() -> Any:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return None
    return get_ipython()
