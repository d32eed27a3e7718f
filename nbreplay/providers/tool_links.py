"""Tool calls and what became of them: the recording of the tool that ran, the requests that carried the result.

Asked by frames and by cards; both tell the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.providers.answer import Folded
from nbreplay.providers.deltas import values
from nbreplay.providers.messages import Message, MessageCall, canonical

__all__ = ["Fact", "Link", "fact_of", "links", "tool_error", "tool_value"]


class Fact(NamedTuple):
    """What linking needs of an interaction; plain data, so that it can be kept.

    Attributes
    ----------
    interaction : str
    at : int or None
        When it was recorded, in milliseconds since 1970; or any number that grows with the time.
    timed : bool
        Whether the times of its stream were measured.
    calls : sequence
        The calls that its answer asks for: id, name, arguments, when the first and the last piece came (ms).
    results : sequence
        Those that its request carries: id, name, arguments, content, and whether it failed.
    tool : sequence or None
        Of the recording of a tool: name, arguments, result, what it raised, and how long it ran (s).
    """

    interaction: str
    at: int | None
    timed: bool
    calls: Sequence[Any] = ()
    results: Sequence[Any] = ()
    tool: Sequence[Any] | None = None


class Link(NamedTuple):
    """What became of a call.

    Attributes
    ----------
    valid : bool
        Whether its arguments are a JSON object.
    carriers : tuple of str
        The interactions that carried its result, the first one first.
    ran : str or None
        The recording of the tool that ran.
    result, error : str or None
    duration_s : float or None
        How long the tool ran.
    """

    valid: bool
    carriers: tuple[str, ...] = ()
    ran: str | None = None
    result: str | None = None
    error: str | None = None
    duration_s: float | None = None


def fact_of(
    interaction: str,
    at: int | None,
    request: Request | None,
    take: Take | None,
    answer: Folded,
    asked: Iterable[Message],
) -> Fact | None:
    """Return what linking needs of an interaction; None where that is nothing."""
    if request is not None and request.kind == "tool":
        if take is None:
            return None
        value = tool_value(take)
        result = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        error = tool_error(take) or (take.error or {}).get("type")
        return Fact(interaction, at, False, tool=(request.model, request.body, result, error, take.duration_s))
    timed = take is not None and take.timed and take.duration_s is not None
    calls = [
        (call.id, call.name, "".join(call.arguments), call.first_ms, call.last_ms) for call in answer.calls.values()
    ]
    results = [
        (*message.result_of, message.content, message.failed) for message in asked if message.result_of is not None
    ]
    return Fact(interaction, at, timed, calls, results) if calls or results else None


def links(facts: Sequence[Fact | None]) -> list[list[Link]]:
    """Return, for each interaction, what became of the calls that its answer asks for."""
    asking = any(item is not None and item.calls for item in facts)
    index = _Index([item for item in facts if item is not None] if asking else ())
    return [[] if item is None else index.links(item) for item in facts]


class _Index:
    """Results by the call that they are of, and recordings of tools by what they were called with."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.by_id: dict[str, list[tuple[Fact, Any]]] = defaultdict(list)
        self.by_call: dict[tuple[str, str], list[tuple[Fact, Any]]] = defaultdict(list)
        self.tools: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        self.by_argument: dict[tuple[str, str, str], list[Fact]] = defaultdict(list)
        for item in facts:
            if item.tool is not None:
                self._tool(item, *item.tool[:2])
            for result in item.results:
                own, name, arguments = result[:3]
                if own:
                    self.by_id[own].append((item, result))
                else:
                    self.by_call[name, arguments].append((item, result))

    def _tool(self, item: Fact, tool: str, given: Any) -> None:
        self.tools[tool, canonical(given)].append(item)
        if isinstance(given, dict):
            for name, value in given.items():
                self.by_argument[tool, name, canonical_value(value)].append(item)

    def links(self, item: Fact) -> list[Link]:
        """Return what became of the calls of an interaction."""
        used: set[str] = set()
        made = []
        for own, name, text, *_ in item.calls:
            # A tool without parameters is called with nothing at all by some models.
            written = _loaded(text) if text else {}
            call = MessageCall(own, name, canonical(written if isinstance(written, dict) else text))
            carried = self._carried(item, call)
            # Of calls that are alike each has a recording of its own, as long as there are any.
            found = self._ran(call, written)
            ran = _after(item, [other for other in found if other.interaction not in used] or found)[:1]
            used.update(other.interaction for other in ran)
            result = error = duration = None
            if carried:
                result, failed = carried[0][1][3:5]
                error = "error" if failed else None
            for other in ran:
                if other.tool is not None:
                    result = result if carried else other.tool[2]
                    error, duration = other.tool[3] or error, other.tool[4]
            carriers = tuple(other.interaction for other, _ in carried)
            made.append(
                Link(isinstance(written, dict), carriers, ran[0].interaction if ran else None, result, error, duration)
            )
        return made

    def _carried(self, item: Fact, call: MessageCall) -> list[tuple[Fact, Any]]:
        if call.id:
            found = [
                (other, result)
                for other, result in self.by_id.get(call.id, ())
                # An id may be used again, for another call: where the request repeats the call, it must be this one.
                if not result[2] or tuple(result[1:3]) == call[1:]
            ]
        else:
            found = self.by_call.get((call.name, call.arguments), [])
        by_own = {id(other): (other, result) for other, result in reversed(found)}
        return [by_own[id(other)] for other in _after(item, [other for other, _ in found])]

    def _ran(self, call: MessageCall, written: Any) -> list[Fact]:
        found = self.tools.get((call.name, call.arguments), [])
        if not found and isinstance(written, dict) and written:
            # A tool's recording has the defaults too, which a model leaves out.
            given = [(call.name, name, canonical_value(value)) for name, value in written.items()]
            few = min((self.by_argument.get(key, []) for key in given), key=len)
            found = [other for other in few if all(other in self.by_argument[key] for key in given[:8])]
        return found


def _after(item: Fact, others: Iterable[Fact]) -> list[Fact]:
    """Return those that came after `item`, in time; where the times do not tell, all but itself."""
    found = [other for other in others if other is not item]
    asked = item.at
    if asked is not None:
        later = [(other.at, place) for place, other in enumerate(found) if other.at is not None and other.at >= asked]
        if later:
            return [found[place] for _, place in sorted(later)]
    return found


def canonical_value(value: Any) -> str:
    """Return one argument so that equal ones are equal texts."""
    return json.dumps(value, sort_keys=True)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def tool_error(take: Take) -> str | None:
    """Return the class of the exception that a recorded tool raised, or None."""
    for _, value, _ in values(take.body):
        raised = None if value is None else value.get("exception")
        if isinstance(raised, dict):
            return str(raised.get("type", "Exception"))
    return None


def tool_value(take: Take) -> Any:
    """Return what a recorded tool returned as JSON data; of a generator, a list of what it yielded."""
    found = [value for _, value, _ in values(take.body) if value is not None]
    made = [next(iter(value.values())) if len(value) == 1 else value for value in found]
    return made[0] if isinstance(take.body, Json) and made else made
