"""The items that the rows of the frames are made of, whichever provider's shape they have. Imports no pandas.

A `Row` is one of `interactions`; `messages`, `chunks` and `tool_calls` make the items of the other frames out of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
from pydantic_core import to_json

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Text
from nbreplay.core.recording.json_text import dicts
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.providers.answer import Answer
from nbreplay.providers.deltas import Reader, values
from nbreplay.providers.messages import Message, MessageCall, canonical, messages_in, messages_of
from nbreplay.providers.tool_links import Fact, Link, fact_of, links, tool_error

_MAX_TOKENS = (
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample"),
    *("maxOutputTokens", "maxTokens", "num_predict"),
)
_SETTINGS = ("generationConfig", "generation_config", "inferenceConfig", "options")
# Fields that differ between answers that say the same.
_PASSING = frozenset(("id", "created", "created_at", "completed_at", "system_fingerprint", "usage", "request_id"))


class Row(msgspec.Struct, frozen=True, dict=True):
    """A take of a store, or a call of a session."""

    interaction: str
    file: str | None
    request: Request | None  # None for a call of a session that has no request
    take: Take | None  # None for a call without an answer
    recorded_ms: int | None = None  # milliseconds since 1970, UTC
    cell: str | None = None
    origin: str | None = None
    host: str = ""
    # outcome, served_s: of a session's call
    outcome: str | None = None
    served_s: float | None = None

    @property
    def kind(self) -> str | None:
        """The kind of the request."""
        return None if self.request is None else self.request.kind

    @property
    def body(self) -> dict[str, Any]:
        """The body of the request as it is stored; empty for a tool, and for a body that is not an object."""
        request = self.request
        return request.body if request and request.kind != "tool" and isinstance(request.body, dict) else {}

    @cached_property
    def answer(self) -> Answer:
        """The folded answer; empty where there is none, and of a tool."""
        return Answer(None if self.take is None or self.kind == "tool" else self.take.body)

    @cached_property
    def stored_messages(self) -> list[Message]:
        """The messages of the request, with ids as they are stored."""
        return messages_of(self.body)

    @cached_property
    def sent_messages(self) -> list[Message]:
        """The messages of the request, with the ids that were sent."""
        ids = self.take.ids if self.take else ()
        return messages_in(self.body, ids) if ids else self.stored_messages

    @property
    def stream(self) -> bool | None:
        """Whether the answer was streamed; without an answer, whether a stream was requested."""
        if self.take is not None and self.take.status is not None:
            return isinstance(self.take.body, Events)
        requested = self.body.get("stream")
        return requested if isinstance(requested, bool) else None

    @property
    def max_tokens(self) -> int | None:
        """The limit of output tokens, where 64 bits hold it."""
        limit = self.setting(*_MAX_TOKENS)
        return int(limit) if limit is not None and abs(limit) < 2**63 else None

    def setting(self, *names: str) -> float | None:
        """Return the first of these settings that the body, or the object in it that holds settings, has."""
        holders = [self.body, *(self.body[name] for name in _SETTINGS if isinstance(self.body.get(name), dict))]
        numbers = (holder[name] for holder in holders for name in names if type(holder.get(name)) in (int, float))
        return next(numbers, None)

    @property
    def n_tools(self) -> int:
        """The number of tools that the request offers."""
        config = self.body.get("toolConfig")
        tools = dicts(self.body.get("tools")) + dicts(self.body.get("functions"))
        tools += dicts(config.get("tools")) if isinstance(config, dict) else []
        declared = [tool.get("functionDeclarations", tool.get("function_declarations")) for tool in tools]
        return sum(len(inner) if isinstance(inner, list) else 1 for inner in declared)

    @property
    def events(self) -> Events | None:
        """The stream of the answer."""
        return self.take.body if self.take and isinstance(self.take.body, Events) else None

    @property
    def output_chars(self) -> int:
        """Characters of the answer's text, without reasoning."""
        parts = self.answer.texts.items()
        return sum(len(piece) for (kind, _), pieces in parts if kind != "reasoning" for piece in pieces)

    @property
    def ttfc_s(self) -> float | None:
        """Seconds to the first chunk."""
        events = self.events
        return events.chunks[0].gap_ms / 1000 if self._is_timed and events and events.chunks else None

    @property
    def ttft_s(self) -> float | None:
        """Seconds to the first chunk that brings something."""
        first_ms = self.answer.first_ms
        return first_ms / 1000 if self._is_timed and first_ms is not None else None

    @property
    def _is_timed(self) -> bool:
        return self.take is not None and self.take.timed and self.events is not None

    @cached_property
    def error_type(self) -> str | None:
        """The provider's or the connection's error, else the status of a failure; of a tool, its exception."""
        take, reader = self.take, self.answer.reader
        if take is None:
            return None
        raised = tool_error(take) if self.kind == "tool" else None
        if raised is not None:
            return raised
        if take.error is not None:
            return take.error.get("type") or "error"
        failed = str(take.status) if (take.status or 0) >= 400 else None
        if reader.error_type or reader.error:
            return reader.error_type or failed or "error"
        return failed

    @property
    def answer_key(self) -> str | None:
        """The key of the answer: of its text, tool calls and error, else of its data."""
        if self.take is None:
            return None
        texts: Any = [[*at, "".join(pieces)] for at, pieces in self.answer.texts.items() if at[0] != "reasoning"]
        calls = [[call.choice, call.name, canonical("".join(call.arguments))] for call in self.answer.calls.values()]
        if not texts and not calls and self.error_type is None:
            texts = _data(self.take)
        try:
            data = to_json([texts, calls, self.error_type])
        except ValueError:
            data = repr((texts, calls, self.error_type)).encode()  # half of a surrogate pair, or not JSON
        return "a1:" + hashlib.sha256(data).hexdigest()[:32]

    @property
    def fact(self) -> Fact | None:
        """The tool calls and results of the interaction, to be linked; None where it has none."""
        return fact_of(self.interaction, self.recorded_ms, self.request, self.take, self.answer, self.sent_messages)


def _data(take: Take) -> Any:
    """Return the data of an answer without text: vectors, the value of a tool, a page, a file."""
    if isinstance(take.body, Blob):
        return take.body.name
    objects = [] if isinstance(take.body, Text) else [value for _, value, _ in values(take.body) if value is not None]
    if not objects:
        return take.body.as_fields()
    return [{name: one for name, one in value.items() if name not in _PASSING} for value in objects]


class MessageItem(NamedTuple):
    """A message of an interaction; `direction` is ``input`` or ``output``."""

    interaction: str
    number: int
    direction: str
    message: Message

    @property
    def content(self) -> str | None:
        """The text, None for a message of other parts alone."""
        has_text = bool(self.message.content) or self.message.content_type in ("text", "tool_result")
        return self.message.content if has_text else None


def messages(row: Row) -> Iterator[MessageItem]:
    """Yield the messages of the request and of the answer."""
    sent = row.sent_messages
    for number, message in enumerate(sent):
        yield MessageItem(row.interaction, number, "input", message)
    for number, message in enumerate(_output_messages(row.answer), len(sent)):
        yield MessageItem(row.interaction, number, "output", message)


def _output_messages(answer: Answer) -> Iterator[Message]:
    for choice in answer.choices():
        thought = answer.text("reasoning", choice)
        if thought:
            yield Message("assistant", thought, "reasoning")
        text, refusal = answer.text("text", choice), answer.text("refusal", choice)
        calls = [call for call in answer.calls.values() if call.choice == choice]
        kinds = [name for name, part in (("text", text), ("refusal", refusal), ("tool_call", calls)) if part]
        if kinds:
            message_calls = tuple(MessageCall(call.id, call.name, "".join(call.arguments)) for call in calls)
            yield Message("assistant", text + refusal, "+".join(kinds), message_calls)


class ChunkItem(NamedTuple):
    """A chunk of a stream."""

    interaction: str
    number: int
    t_s: float | None
    gap_s: float | None
    kind: str
    text: str | None = None
    tool_index: int | None = None


def chunks(row: Row) -> Iterator[ChunkItem]:
    """Yield the chunks of an answer that is a stream."""
    if row.take is None or row.events is None:
        return
    reader, numbers, timed, begun, before = Reader(), dict[Any, int](), row.take.timed, False, 0
    for index, (chunk, (at, value, event)) in enumerate(zip(row.events.chunks, values(row.events), strict=True)):
        t_s, gap_s = (at / 1000, (at - before) / 1000) if timed else (None, None)
        before = at
        pieces = () if value is None else reader.read(value, event)
        if not pieces or (reader.whole and begun):
            kind = _kind_of(chunk.data, chunk.raw, value, reader, begun)
            yield ChunkItem(row.interaction, index, t_s, gap_s, kind)
            continue
        begun = True
        called = [numbers.setdefault(piece.call, len(numbers)) for piece in pieces if piece.kind == "tool_call"]
        kind = "+".join(dict.fromkeys(piece.kind for piece in pieces))
        text = "".join(piece.text for piece in pieces)
        yield ChunkItem(row.interaction, index, t_s, gap_s, kind, text, called[0] if called else None)


def _kind_of(data: Any, raw: Any, value: dict[str, Any] | None, reader: Reader, begun: bool) -> str:
    if value is None:
        return "done" if data == "[DONE]" or (isinstance(raw, str) and "data: [DONE]" in raw) else "other"
    if value.get("error"):
        return "error"
    if reader.whole or any(choice.get("finish_reason") for choice in dicts(value.get("choices"))):
        return "finish"
    if value.get("usage") or value.get("usageMetadata"):
        return "usage"
    delta = value.get("delta")
    ends = isinstance(delta, dict) and (delta.get("stop_reason") or delta.get("finish_reason"))
    if ends or value.get("done") is True or value.get("stopReason"):
        return "finish"
    return "other" if begun else "start"


class ToolCallItem(NamedTuple):
    """A tool call of an answer, and its link to a result."""

    interaction: str
    number: int
    id: str
    name: str
    arguments: str
    first_s: float | None
    last_s: float | None
    link: Link


def tool_calls(facts: Sequence[Fact | None]) -> Iterator[ToolCallItem]:
    """Yield the tool calls of all interactions, each linked to its result in any of them."""
    present = [fact for fact in facts if fact is not None]
    for fact, fact_links in zip(present, links(present), strict=True):
        for number, (call, link) in enumerate(zip(fact.calls, fact_links, strict=True)):
            own, name, arguments, first_ms, last_ms = call
            streamed = fact.timed and (last_ms > 0 or first_ms > 0)
            first_s, last_s = (first_ms / 1000, last_ms / 1000) if streamed else (None, None)
            yield ToolCallItem(fact.interaction, number, own, name, arguments, first_s, last_s, link)
