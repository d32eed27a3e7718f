"""The tags of a notebook's cells: what they ask of whoever runs it."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["may_raise", "skipped", "tags", "wanted"]

_SKIPPED = {"skip", "skip-execution"}
# In this order, where a cell has more than one.
_WANTED: dict[str, Literal["compare", "run", "ignore"]] = {
    "nbreplay-ignore": "ignore",
    "nbreplay-run": "run",
    "nbreplay-compare": "compare",
    "nbval-ignore-output": "run",
}


def tags(cell: Any) -> set[str]:
    """Return the tags of a cell."""
    found = cell.get("metadata", {}).get("tags")
    return {tag for tag in found if isinstance(tag, str)} if isinstance(found, list | tuple) else set()


def skipped(cell: Any) -> bool:
    """Whether a cell is not to be run: ``skip`` or ``skip-execution``."""
    return not tags(cell).isdisjoint(_SKIPPED)


def may_raise(cell: Any) -> bool:
    """Whether it is no failure that a cell raises: ``raises-exception``, as everywhere, or ``nbreplay-ignore``."""
    return wanted(cell) == "ignore" or "raises-exception" in tags(cell)


def wanted(cell: Any) -> Literal["compare", "run", "ignore"] | None:
    """Return what the tags of a cell ask for, or None where they do not say.

    ``nbreplay-compare``: its outputs are compared. ``nbreplay-run``: only that it runs counts. ``nbreplay-ignore``: nor
    does it matter whether it raises.
    """
    found = tags(cell)
    return next((choice for tag, choice in _WANTED.items() if tag in found), None)
