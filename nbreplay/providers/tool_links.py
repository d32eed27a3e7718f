"""The links of tool calls: the recording of the tool that ran, and the requests that carried its result.

Frames and cards both ask here, so that they agree.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.json_text import JsonValue, parse_object
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.providers.answer import Answer
from nbreplay.providers.deltas import values
from nbreplay.providers.messages import Message, MessageCall, canonical


class Fact(NamedTuple):
    """The data of an interaction that linking needs; plain data, so that it can be cached."""

    interaction: str
    at: int | None  # when it was recorded, in milliseconds since 1970; or any number that grows with the time
    timed: bool  # whether the times of its stream were measured
    # The calls that its answer asks for: id, name, arguments, when the first and the last piece came (ms).
    calls: Sequence[Any] = ()
    # The results that its request carries: id, name, arguments, content, and whether the tool failed.
    results: Sequence[Any] = ()
    # Of the recording of a tool: name, arguments, result, exception, and how long it ran (s).
    tool: Sequence[Any] | None = None
    is_session: bool = False  # whether it is a websocket, which carries the results of its own calls


class Link(NamedTuple):
    """The result of a call, and where it came from."""

    valid: bool  # whether the arguments are a JSON object
    carriers: tuple[str, ...] = ()  # the interactions that carried the result, the first one first
    ran: str | None = None  # the recording of the tool that ran
    result: str | None = None
    error: str | None = None
    duration_s: float | None = None  # how long the tool ran


def fact_of(
    interaction: str,
    at: int | None,
    request: Request | None,
    take: Take | None,
    answer: Answer,
    messages: Iterable[Message],
) -> Fact | None:
    """Return the data that linking needs of an interaction; None where it has neither calls nor results."""
    if request is not None and request.kind == "tool":
        if take is None:
            return None
        error, result = tool_error(take) or (take.error or {}).get("type"), tool_result(take)
        return Fact(interaction, at, False, tool=(request.model, request.body, result, error, take.duration_s))
    timed = take is not None and take.timed and take.duration_s is not None
    calls = [
        (call.id, call.name, "".join(call.arguments), call.first_ms, call.last_ms) for call in answer.calls.values()
    ]
    results = [
        (*message.result_of, message.content, message.failed) for message in messages if message.result_of is not None
    ]
    return Fact(interaction, at, timed, calls, results, None, bool(answer.turns)) if calls or results else None


def links(facts: Sequence[Fact | None]) -> list[list[Link]]:
    """Return, for each interaction, the links of the calls that its answer asks for."""
    index = _Index(item for item in facts if item is not None)
    return [[] if item is None else index.links(item) for item in facts]


class _Index:
    """Results by the call that they are of, and recordings of tools by their arguments."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.by_id: dict[str, list[tuple[Fact, Any]]] = defaultdict(list)
        self.by_call: dict[tuple[str, str], list[tuple[Fact, Any]]] = defaultdict(list)
        self.tools: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        self.by_argument: dict[tuple[str, str, str], list[Fact]] = defaultdict(list)
        for item in facts:
            if item.tool is not None:
                tool, arguments = item.tool[:2]
                self.tools[tool, canonical(arguments)].append(item)
                for name, value in arguments.items() if isinstance(arguments, dict) else ():
                    self.by_argument[tool, name, json.dumps(value, sort_keys=True)].append(item)
            for result in item.results:
                own, name, arguments = result[:3]
                (self.by_id[own] if own else self.by_call[name, arguments]).append((item, result))

    def links(self, item: Fact) -> list[Link]:
        """Return the links of the calls of an interaction."""
        used: set[str] = set()
        return [self._link(item, own, name, text, used) for own, name, text, *_ in item.calls]

    def _link(self, item: Fact, own: str, name: str, text: str, used: set[str]) -> Link:
        # A tool without parameters is called with nothing at all by some models.
        written = parse_object(text.strip()) if text else {}
        call = MessageCall(own, name, canonical(text if written is None else written))
        carriers = self._carriers(item, call)
        result = error = duration_s = ran = None
        if carriers:
            result, failed = carriers[0][1][3:5]
            error = "error" if failed else None
        tools = self._tools(call, written)
        # Of calls that are alike each has a recording of its own, as long as there are any.
        tools = _after(item, [tool for tool in tools if tool.interaction not in used] or tools)
        if tools and tools[0].tool is not None:
            ran = tools[0].interaction
            used.add(ran)
            _, _, returned, exception, duration_s = tools[0].tool
            result, error = result if carriers else returned, exception or error
        return Link(
            written is not None, tuple(carrier.interaction for carrier, _ in carriers), ran, result, error, duration_s
        )

    def _carriers(self, item: Fact, call: MessageCall) -> list[tuple[Fact, Any]]:
        """Return the interactions whose requests carry the result of a call, each with the result."""
        if call.id:
            # An id may be used again, for another call. A request that repeats the call tells which one it is.
            results = self.by_id.get(call.id, ())
            pairs = [pair for pair in results if not pair[1][2] or tuple(pair[1][1:3]) == call[1:]]
        else:
            pairs = self.by_call.get((call.name, call.arguments), [])
        first = {id(carrier): (carrier, result) for carrier, result in reversed(pairs)}
        return [first[id(carrier)] for carrier in _after(item, [carrier for carrier, _ in pairs])]

    def _tools(self, call: MessageCall, written: dict[str, Any] | None) -> list[Fact]:
        """Return the recordings of the tool that a call names, with its arguments."""
        tools = self.tools.get((call.name, call.arguments), [])
        if not tools and written:
            # A tool's recording has the defaults too, which a model leaves out.
            keys = [(call.name, name, json.dumps(value, sort_keys=True)) for name, value in written.items()]
            fewest = min((self.by_argument.get(key, []) for key in keys), key=len)
            tools = [tool for tool in fewest if all(tool in self.by_argument[key] for key in keys[:8])]
        return tools


def _after(item: Fact, others: Iterable[Fact]) -> list[Fact]:
    """Return the interactions after `item` in the order of time; all but itself where the times are not known."""
    rest = [other for other in others if other is not item or item.is_session]
    if item.at is None:
        return rest
    later = [other for other in rest if other.at is not None and other.at >= item.at]
    return sorted(later, key=lambda other: other.at or 0) or rest


def tool_error(take: Take) -> str | None:
    """Return the class of the exception that a recorded tool raised, or None."""
    exceptions = (value.get("exception") for _, value, _ in values(take.body) if value)
    return next((str(item.get("type", "Exception")) for item in exceptions if isinstance(item, dict)), None)


def tool_value(take: Take) -> JsonValue:
    """Return the value of a recorded tool as JSON data; of a generator, a list of the values that it yielded.

    The messages that a server of MCP sent before its result are left out.
    """
    every = [value for _, value, _ in values(take.body) if value is not None]
    objects = [value for value in every if value.keys() not in ({"<"}, {">"})]
    results = [next(iter(value.values())) if len(value) == 1 else value for value in objects]
    is_one = isinstance(take.body, Json) or len(objects) < len(every)
    return results[0] if is_one and results else results


def tool_result(take: Take) -> str:
    """Return the value of a recorded tool as a text: itself, where it is one, else as JSON."""
    value = tool_value(take)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
