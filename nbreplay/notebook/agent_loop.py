"""The loop of an agent: which request carries the results of which calls, and what the tools gave. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from msgspec.structs import replace

from nbreplay.core.log import Interaction
from nbreplay.notebook.card import RESULT, Film, Reeled, film, reeled
from nbreplay.notebook.escape import clip, plain
from nbreplay.notebook.timeline import Result
from nbreplay.providers.messages import messages_in
from nbreplay.providers.tool_links import Link, fact_of, links

__all__ = ["films", "films_of"]


def films(items: Sequence[Interaction]) -> list[Film]:
    """Return a film for each call, in their order: those of a loop below the one that led to them.

    A tool that a model asked for is told in the row of its call, and has no film of its own.
    """
    return [made for _, made in films_of(items)]


def films_of(items: Sequence[Interaction], known: Sequence[Reeled | None] = ()) -> list[tuple[int, Film]]:
    """Return films as `films` does, each with the place of its call among `items`.

    What the answers say need not be found out where it is `known`.
    """
    items = [item if item.take is None else replace(item, take=item.take.readable()) for item in items]
    made = [reeled(item) if already is None else already for item, already in itertools.zip_longest(items, known)]
    found = _linked(items, made)
    told = {int(link.ran) for calls in found for link in calls if link.ran is not None}
    above: dict[int, int] = {}
    for place, calls in enumerate(found):
        # The last of several is the one that led to it.
        above.update({int(carrier): place for link in calls for carrier in link.carriers})
    depths: list[int] = []
    for place in range(len(items)):
        depths.append(depths[above[place]] + 1 if place in above else 0)
    return [
        (place, film(item, reel=reel, beats=beats, results=_results(found[place]), depth=depths[place]))
        for place, (item, (reel, beats)) in enumerate(zip(items, made, strict=True))
        if place not in told
    ]


def _linked(items: Sequence[Interaction], made: Sequence[Reeled]) -> list[list[Link]]:
    """Return what became of the calls of each, as far as it came after them; by their places."""
    facts = []
    for place, (item, (reel, _)) in enumerate(zip(items, made, strict=True)):
        body = None if item.request is None or item.request.kind == "tool" else item.request.body
        asked = messages_in(body, item.take.ids if item.take is not None else ())
        facts.append(fact_of(str(place), place, item.request, item.take, reel.folded, asked))
    return [
        [
            link._replace(
                carriers=tuple(carrier for carrier in link.carriers if int(carrier) > place),
                ran=link.ran if link.ran is not None and int(link.ran) > place else None,
            )
            for link in calls
        ]
        for place, calls in enumerate(links(facts))
    ]


def _results(calls: Sequence[Link]) -> dict[int, Result]:
    """Return the results of the calls of an answer that have one."""
    return {
        number: Result(clip(plain(link.result or ""), RESULT), plain(link.error or ""), link.duration_s)
        for number, link in enumerate(calls)
        if link.carriers or link.ran is not None
    }
