"""Tool calls and what became of them: the recording of the tool that ran, the request that carried the result.

Imports no pandas.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from nbreplay.analysis.rows import Told
from nbreplay.core.asked import Call, Message, canonical
from nbreplay.core.fold import Called
from nbreplay.core.tool_takes import tool_error, tool_value

__all__ = ["tool_calls"]


def tool_calls(told: Sequence[Told]) -> list[list[tuple[Any, ...]]]:
    """Return, for each interaction, the rows of `tool_calls` without the interaction."""
    asking = [item for item in told if item.answer.calls]
    index = _Index(told if asking else ())
    return [[index.row(item, number, call) for number, call in enumerate(item.answer.calls.values())] for item in told]


class _Index:
    """Results by the call that they are of, and recordings of tools by what they were called with."""

    def __init__(self, told: Iterable[Told]) -> None:
        self.by_id: dict[str, list[tuple[Told, Message]]] = defaultdict(list)
        self.by_call: dict[tuple[str, str], list[tuple[Told, Message]]] = defaultdict(list)
        self.tools: dict[tuple[str, str], list[Told]] = defaultdict(list)
        self.by_argument: dict[tuple[str, str, str], list[Told]] = defaultdict(list)
        for item in told:
            if item.kind == "tool":
                self._tool(item)
                continue
            for message in item.asked:
                call = message.result_of
                if call is not None and call.id:
                    self.by_id[call.id].append((item, message))
                elif call is not None:
                    self.by_call[call.name, call.arguments].append((item, message))

    def _tool(self, item: Told) -> None:
        request = item.row.request
        if request is None or item.row.take is None:
            return
        given = request.body
        self.tools[request.model, canonical(given)].append(item)
        if isinstance(given, dict):
            for name, value in given.items():
                self.by_argument[request.model, name, canonical_value(value)].append(item)

    def row(self, item: Told, number: int, called: Called) -> tuple[Any, ...]:
        """Return the row of a call."""
        text = "".join(called.arguments)
        # A tool without parameters is called with nothing at all by some models.
        written = _loaded(text) if text else {}
        call = Call(called.id, called.name, canonical(written if isinstance(written, dict) else text))
        carried = self._carried(item, call)
        tool = self._ran(item, call, written)
        take = None if tool is None else tool.row.take
        result = error = None
        if carried is not None:
            result = carried[1].content
            error = "error" if carried[1].failed else None
        elif take is not None:
            value = tool_value(take)
            result = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if take is not None:
            error = tool_error(take) or (take.error or {}).get("type") or error
        timed = item.row.take is not None and item.row.take.timed and item.row.take.duration_s is not None
        streamed = timed and (called.last_ms > 0 or called.first_ms > 0)
        return (
            number,
            called.name or None,
            text,
            isinstance(written, dict),
            called.id or None,
            result,
            None if carried is None else carried[0].row.interaction,
            None if tool is None else tool.row.interaction,
            carried is not None or tool is not None,
            error,
            called.first_ms / 1000 if streamed else None,
            called.last_ms / 1000 if streamed else None,
            None if take is None else take.duration_s,
        )

    def _carried(self, item: Told, call: Call) -> tuple[Told, Message] | None:
        if call.id:
            found = [
                (other, message)
                for other, message in self.by_id.get(call.id, ())
                # An id may be used again, for another call: where the request repeats the call, it must be this one.
                if message.result_of is not None
                and (not message.result_of.arguments or message.result_of[1:] == call[1:])
            ]
        else:
            found = self.by_call.get((call.name, call.arguments), [])
        place = _first(item, [other for other, _ in found])
        return None if place is None else found[place]

    def _ran(self, item: Told, call: Call, written: Any) -> Told | None:
        found = self.tools.get((call.name, call.arguments), [])
        if not found and isinstance(written, dict) and written:
            # A tool's recording has the defaults too, which a model leaves out.
            given = [(call.name, name, canonical_value(value)) for name, value in written.items()]
            few = min((self.by_argument.get(key, []) for key in given), key=len)
            found = [other for other in few if all(other in self.by_argument[key] for key in given[:8])]
        place = _first(item, found)
        return None if place is None else found[place]


def _first(item: Told, others: Sequence[Told]) -> int | None:
    """Return the place of the first that came after `item`; where the times do not tell, of the first."""
    asked = item.row.recorded_ms
    places = [place for place, other in enumerate(others) if other is not item]
    if asked is not None:
        later = [(at, place) for place in places if (at := others[place].row.recorded_ms) is not None and at >= asked]
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
