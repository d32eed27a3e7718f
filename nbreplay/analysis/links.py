"""Rows of `tool_calls`: what `nbreplay.providers.tool_links` finds, in the order of the declared columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbreplay.analysis.rows import Told
from nbreplay.providers.tool_links import Fact, Link, fact_of, links

__all__ = ["fact", "tool_calls"]


def fact(told: Told) -> Fact | None:
    """Return what linking needs of an interaction; None where that is nothing."""
    row = told.row
    return fact_of(row.interaction, row.recorded_ms, row.request, row.take, told.answer, told.asked)


def tool_calls(facts: Sequence[Fact | None]) -> list[list[tuple[Any, ...]]]:
    """Return, for each interaction, the rows of `tool_calls` without the interaction."""
    return [
        [] if item is None else [_row(item, number, link) for number, link in enumerate(made)]
        for item, made in zip(facts, links(facts), strict=True)
    ]


def _row(item: Fact, number: int, link: Link) -> tuple[Any, ...]:
    own, name, text, first_ms, last_ms = item.calls[number]
    streamed = item.timed and (last_ms > 0 or first_ms > 0)
    return (
        number,
        name or None,
        text,
        link.valid,
        own or None,
        link.result,
        link.carriers[0] if link.carriers else None,
        link.ran,
        bool(link.carriers) or link.ran is not None,
        link.error,
        first_ms / 1000 if streamed else None,
        last_ms / 1000 if streamed else None,
        link.duration_s,
    )
