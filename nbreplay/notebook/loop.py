"""The loop of an agent: which request carries the results of which calls, and what the tools gave. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from nbreplay.core.asked import canonical, messages_of
from nbreplay.core.fold import Called
from nbreplay.core.log import Interaction
from nbreplay.core.normalise import verbatim
from nbreplay.core.take import Take
from nbreplay.core.tool_takes import tool_error, tool_value
from nbreplay.errors import RecordingFormatError
from nbreplay.notebook.film import RESULT, Film, Reeled, film, reeled
from nbreplay.notebook.reel import Result
from nbreplay.notebook.texts import clip, plain

__all__ = ["films", "films_of"]


class _Asked:
    """A call that a model asked for: by which of the interactions, its number there, what became of it."""

    def __init__(self, place: int, number: int, called: Called) -> None:
        text = "".join(called.arguments) or "{}"
        self.place, self.number, self.id, self.name = place, number, called.id, called.name
        self.arguments = canonical(text)
        self.given = _loaded(text)
        self.text = self.error = ""
        self.took: float | None = None
        self.answered = self.ran = False


def films(items: Sequence[Interaction]) -> list[Film]:
    """Return a film for each call, in their order: those of a loop below the one that led to them.

    A tool that a model asked for is told in the row of its call, and has no film of its own.
    """
    return [made for _, made in films_of(items)]


def films_of(items: Sequence[Interaction], known: Sequence[Reeled | None] = ()) -> list[tuple[int, Film]]:
    """Return films as `films` does, each with the place of its call among `items`.

    What the answers say need not be found out where it is `known`.
    """
    calls: list[_Asked] = []
    depths: list[int | None] = []
    read = itertools.zip_longest(items, known)
    made = [reeled(item) if already is None else already for item, already in read]
    for place, item in enumerate(items):
        depth: int | None = 0
        if item.request is not None and item.request.kind == "tool":
            depth = None if item.take is not None and _ran(calls, item, item.take) else 0
        else:
            above = _carried(calls, item)
            depth = 0 if above is None else (depths[above] or 0) + 1
            found = made[place][0].folded.calls.values()
            calls += [_Asked(place, number, called) for number, called in enumerate(found)]
        depths.append(depth)
    results: list[dict[int, Result]] = [{} for _ in items]
    for call in calls:
        if call.answered:
            text = clip(plain(call.text), RESULT)
            results[call.place][call.number] = Result(text, plain(call.error), call.took)
    return [
        (place, film(item, reel=made[place][0], beats=made[place][1], results=results[place], depth=depth))
        for place, (item, depth) in enumerate(zip(items, depths, strict=True))
        if depth is not None
    ]


def _carried(calls: list[_Asked], item: Interaction) -> int | None:
    """Note the results that a request carries; return the place of the last request whose calls they answer."""
    above = None
    if not calls or item.request is None:
        return None
    body = item.request.body
    if item.take is not None and item.take.ids:
        try:
            body = verbatim(body, item.take.ids)
        except (RecordingFormatError, RecursionError):
            body = item.request.body
    for message in messages_of(body):
        known = message.result_of
        if known is None:
            continue
        for call in reversed(calls):
            same = call.id == known.id if known.id else (call.name, call.arguments) == known[1:]
            if same:
                if not call.answered or call.ran:
                    call.text = message.content
                    call.error = call.error or ("error" if message.failed else "")
                call.answered, call.ran = True, False
                above = call.place if above is None else max(above, call.place)
                break
    return above


def _ran(calls: list[_Asked], item: Interaction, take: Take) -> bool:
    """Note what a tool gave in the call that it ran for; return whether there is one."""
    given = item.request.body if item.request is not None else None
    name = item.request.model if item.request is not None else ""
    for call in calls:
        if call.name == name and call.took is None and not call.ran and _fits(call.given, given):
            value = tool_value(take)
            call.error = tool_error(take) or ""
            if not call.answered and not call.error:
                call.text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            call.took = take.duration_s
            call.ran = call.answered = True
            return True
    return False


def _fits(asked: Any, given: Any) -> bool:
    """Whether a tool was called with what a model asked for; defaults, which models leave out, may come to it."""
    if not isinstance(asked, dict) or not isinstance(given, dict):
        return bool(asked == given)
    return all(name in given and given[name] == value for name, value in asked.items())


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
