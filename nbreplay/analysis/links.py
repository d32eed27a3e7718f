"""Tool calls and what became of them: the recording of the tool that ran, the request that carried the result.

Imports no pandas.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from nbreplay.analysis.rows import Told
from nbreplay.core.asked import Call, canonical
from nbreplay.core.tool_takes import tool_error, tool_value

__all__ = ["Fact", "fact", "tool_calls"]


class Fact(NamedTuple):
    """What linking needs of an interaction; plain data, so that it can be kept.

    Attributes
    ----------
    interaction : str
    at : int or None
        When it was recorded, in milliseconds since 1970.
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


def fact(told: Told) -> Fact | None:
    """Return what linking needs of an interaction; None where that is nothing."""
    take, request = told.row.take, told.row.request
    own, at = told.row.interaction, told.row.recorded_ms
    if told.kind == "tool":
        if request is None or take is None:
            return None
        value = tool_value(take)
        result = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        error = tool_error(take) or (take.error or {}).get("type")
        return Fact(own, at, False, tool=(request.model, request.body, result, error, take.duration_s))
    timed = take is not None and take.timed and take.duration_s is not None
    calls = [
        (call.id, call.name, "".join(call.arguments), call.first_ms, call.last_ms)
        for call in told.answer.calls.values()
    ]
    results = [
        (*message.result_of, message.content, message.failed) for message in told.asked if message.result_of is not None
    ]
    return Fact(own, at, timed, calls, results) if calls or results else None


def tool_calls(facts: Sequence[Fact | None]) -> list[list[tuple[Any, ...]]]:
    """Return, for each interaction, the rows of `tool_calls` without the interaction."""
    asking = any(item is not None and item.calls for item in facts)
    index = _Index([item for item in facts if item is not None] if asking else ())
    return [
        [] if item is None else [index.row(item, number, call) for number, call in enumerate(item.calls)]
        for item in facts
    ]


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

    def row(self, item: Fact, number: int, called: Sequence[Any]) -> tuple[Any, ...]:
        """Return the row of a call."""
        own, name, text, first_ms, last_ms = called
        # A tool without parameters is called with nothing at all by some models.
        written = _loaded(text) if text else {}
        call = Call(own, name, canonical(written if isinstance(written, dict) else text))
        carried = self._carried(item, call)
        ran = self._ran(item, call, written)
        result = error = duration = None
        if carried is not None:
            result = carried[1][3]
            error = "error" if carried[1][4] else None
        if ran is not None and ran.tool is not None:
            result = ran.tool[2] if carried is None else result
            error = ran.tool[3] or error
            duration = ran.tool[4]
        streamed = item.timed and (last_ms > 0 or first_ms > 0)
        return (
            number,
            name or None,
            text,
            isinstance(written, dict),
            own or None,
            result,
            None if carried is None else carried[0].interaction,
            None if ran is None else ran.interaction,
            carried is not None or ran is not None,
            error,
            first_ms / 1000 if streamed else None,
            last_ms / 1000 if streamed else None,
            duration,
        )

    def _carried(self, item: Fact, call: Call) -> tuple[Fact, Any] | None:
        if call.id:
            found = [
                (other, result)
                for other, result in self.by_id.get(call.id, ())
                # An id may be used again, for another call: where the request repeats the call, it must be this one.
                if not result[2] or tuple(result[1:3]) == call[1:]
            ]
        else:
            found = self.by_call.get((call.name, call.arguments), [])
        place = _first(item, [other for other, _ in found])
        return None if place is None else found[place]

    def _ran(self, item: Fact, call: Call, written: Any) -> Fact | None:
        found = self.tools.get((call.name, call.arguments), [])
        if not found and isinstance(written, dict) and written:
            # A tool's recording has the defaults too, which a model leaves out.
            given = [(call.name, name, canonical_value(value)) for name, value in written.items()]
            few = min((self.by_argument.get(key, []) for key in given), key=len)
            found = [other for other in few if all(other in self.by_argument[key] for key in given[:8])]
        place = _first(item, found)
        return None if place is None else found[place]


def _first(item: Fact, others: Sequence[Fact]) -> int | None:
    """Return the place of the first that came after `item`; where the times do not tell, of the first."""
    asked = item.at
    places = [place for place, other in enumerate(others) if other is not item]
    if asked is not None:
        later = [(at, place) for place in places if (at := others[place].at) is not None and at >= asked]
        if later:
            return min(later)[1]
    return places[0] if places else None


def canonical_value(value: Any) -> str:
    """Return one argument so that equal ones are equal texts."""
    return json.dumps(value, sort_keys=True)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
