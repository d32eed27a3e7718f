"""The cards of several calls: a request of an agent's loop stands below the one that led to it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from nbreplay.core.log import Interaction
from nbreplay.notebook.card import MAX_RESULT, Card, make_card
from nbreplay.notebook.escape import clip, plain
from nbreplay.notebook.timeline import Timeline, ToolResult
from nbreplay.providers.messages import messages_in
from nbreplay.providers.tool_links import Link, fact_of, links

__all__ = ["make_cards"]


def make_cards(calls: Sequence[Interaction], timelines: Sequence[Timeline | None] = ()) -> list[Card]:
    """Return the cards of calls, in their order; their `timelines` need not be built where they are known.

    A tool that a model asked for is shown on the card of that answer, and has no card of its own.
    """
    readable = [call if call.take is None else replace(call, take=call.take.readable()) for call in calls]
    pairs = zip(readable, timelines or [None] * len(calls), strict=True)
    whole = [timeline or _timeline(call) for call, timeline in pairs]
    tool_calls = _tool_calls(readable, whole)
    ran = {int(link.ran) for group in tool_calls for link in group if link.ran is not None}
    # Where several answers led to a request, it stands below the last.
    above = {
        int(carrier): place for place, group in enumerate(tool_calls) for link in group for carrier in link.carriers
    }
    depths: list[int] = []
    for place in range(len(calls)):
        depths.append(depths[above[place]] + 1 if place in above else 0)
    return [
        replace(make_card(readable[place], whole[place], _results(tool_calls[place]), depths[place]), call=call)
        for place, call in enumerate(calls)
        if place not in ran
    ]


def _timeline(call: Interaction) -> Timeline:
    is_tool = call.request is not None and call.request.kind == "tool"
    return Timeline() if call.take is None or is_tool else Timeline.of(call.take)


def _tool_calls(calls: Sequence[Interaction], timelines: Sequence[Timeline]) -> list[list[Link]]:
    """Return the tool calls of each answer, linked to what came after it, by places."""
    facts = []
    for place, (call, timeline) in enumerate(zip(calls, timelines, strict=True)):
        body = None if call.request is None or call.request.kind == "tool" else call.request.body
        messages = messages_in(body, call.take.ids if call.take is not None else ())
        facts.append(fact_of(str(place), place, call.request, call.take, timeline.answer, messages))
    return [
        [
            link._replace(
                carriers=tuple(carrier for carrier in link.carriers if int(carrier) > place),
                ran=link.ran if link.ran is not None and int(link.ran) > place else None,
            )
            for link in group
        ]
        for place, group in enumerate(links(facts))
    ]


def _results(tool_calls: Sequence[Link]) -> dict[int, ToolResult]:
    return {
        number: ToolResult(clip(plain(link.result or ""), MAX_RESULT), plain(link.error or ""), link.duration_s)
        for number, link in enumerate(tool_calls)
        if link.carriers or link.ran is not None
    }
