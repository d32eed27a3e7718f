"""The items that the rows of the frames are made of, whichever provider's shape they have. Imports no pandas.

A `Row` is one of `interactions`; `messages`, `chunks` and `tool_calls` make the items of the other frames out of rows.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from nbreplay.analysis.plain_chat import summarise_plain_answer, summarise_plain_request
from nbreplay.analysis.summaries import AnswerSummary, RequestSummary, summarise_answer, summarise_request
from nbreplay.core.config import is_url
from nbreplay.core.log import Interaction
from nbreplay.core.recording.json_text import dicts
from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.words import Outcome
from nbreplay.providers.answer import Answer
from nbreplay.providers.deltas import Piece, Reader, values
from nbreplay.providers.messages import Message, MessageCall, messages_in, messages_of
from nbreplay.providers.tool_links import Fact, Link, fact_of, links


class Row(msgspec.Struct, frozen=True, dict=True):
    """A take of a store, or a call of a session."""

    interaction: str
    file: str | None  # the path of the recording, absolute
    source: Recording | Request | None  # None for a call of a session that has no request
    take: Take | None  # None for a call without an answer
    recorded_ms: int | None = None  # milliseconds since 1970, UTC
    cell: str | None = None
    origin: str | None = None
    host: str = ""
    # outcome, served_s: of a session's call
    outcome: Outcome | None = None
    served_s: float | None = None

    @property
    def kind(self) -> str | None:
        """The kind of the request."""
        return None if self.source is None else self.source.kind

    @property
    def key(self) -> str | None:
        """The key of the request."""
        return None if self.source is None else self.source.key

    @cached_property
    def request(self) -> Request | None:
        """The request."""
        source = self.source
        return Request(source.kind, source.request, source.key) if isinstance(source, Recording) else source

    @cached_property
    def request_summary(self) -> RequestSummary:
        """What the request asks."""
        plain = summarise_plain_request(self.source.source) if isinstance(self.source, Recording) else None
        return plain or summarise_request(
            self.request, self.stored_messages, self.answer.reader.model if self.is_session else ""
        )

    @cached_property
    def answer_summary(self) -> AnswerSummary:
        """What the answer says."""
        return summarise_plain_answer(self.take) or summarise_answer(self.kind, self.take, self.answer)

    @property
    def is_session(self) -> bool:
        """Whether it is a websocket, whose messages of both directions are those of its take."""
        return self.kind == "websocket"

    @property
    def shown(self) -> str | None:
        """The path of the file as seen from the working directory."""
        return None if self.file is None else relative_path(self.file)

    @cached_property
    def body(self) -> dict[str, Any]:
        """The body of the request as it is stored; empty for a tool, and for a body that is not an object."""
        body = self.request.body if self.request and self.request.kind != "tool" else None
        return body if isinstance(body, dict) else {}

    @property
    def call(self) -> Interaction:
        """The call as it was in its session; of a store's take, one that replays it."""
        outcome = self.outcome or ("replayed" if self.take else "missing")
        return Interaction(self.request, self.take, outcome, host=self.host)

    @cached_property
    def answer(self) -> Answer:
        """The folded answer; empty where there is none, and of a tool."""
        return Answer(None if self.take is None or self.kind == "tool" else self.take.body)

    @cached_property
    def stored_messages(self) -> list[Message]:
        """The messages of the request, with ids as they are stored; of a websocket, those that the client sent."""
        if self.is_session:
            return [message for is_sent, message in self.answer.messages() if is_sent]
        return messages_of(self.body)

    @cached_property
    def sent_messages(self) -> list[Message]:
        """The messages of the request, with the ids that were sent."""
        ids = self.take.ids if self.take else ()
        return messages_in(self.body, ids) if ids else self.stored_messages

    @property
    def stream(self) -> bool | None:
        """Whether the answer was streamed; without an answer, whether a stream was requested."""
        is_stream = self.answer_summary.stream
        return self.request_summary.stream if is_stream is None else is_stream

    @property
    def events(self) -> Events | None:
        """The stream of the answer."""
        return self.take.body if self.take and isinstance(self.take.body, Events) else None

    @property
    def fact(self) -> Fact | None:
        """The tool calls and results of the interaction, to be linked; None where it has none."""
        return fact_of(self.interaction, self.recorded_ms, self.request, self.take, self.answer, self.sent_messages)


def relative_path(path: str) -> str:
    """Return a path as seen from the working directory; an address as it is."""
    folder, separator, name = path.rpartition(os.sep)
    return _relative_folder(folder, os.getcwd()) + name if separator else path


@functools.lru_cache(maxsize=1024)
def _relative_folder(folder: str, directory: str) -> str:
    if is_url(folder):
        return folder + "/"
    try:
        relative = os.path.relpath(folder or os.sep, directory)
    except ValueError:  # another drive
        relative = folder
    return "" if relative == os.curdir else os.path.join(relative, "")


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
    """Yield the messages of the request and of the answer; of a websocket, those of both sides as they came."""
    if row.is_session:
        for number, (is_sent, message) in enumerate(row.answer.messages()):
            yield MessageItem(row.interaction, number, "input" if is_sent else "output", message)
        return
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
    answer, numbers, timed, begun, before = Answer(), dict[Any, int](), row.take.timed, False, 0
    reader = answer.reader
    for index, (chunk, (at, value, event)) in enumerate(zip(row.events.chunks, values(row.events), strict=True)):
        t_s, gap_s = (at / 1000, (at - before) / 1000) if timed else (None, None)
        before = at
        pieces: Sequence[Piece] = ()
        if value is not None:
            pieces = answer.feed(at, value, event) if row.is_session else reader.read(value, event)
        if not pieces or (reader.whole and begun):
            kind = _LINE_KINDS.get(next(iter(value or ()), "")[:1], "other") if row.is_session else ""
            kind = kind or _kind_of(chunk.data, chunk.raw, value, reader, begun)
            yield ChunkItem(row.interaction, index, t_s, gap_s, kind)
            continue
        begun = True
        called = [numbers.setdefault(piece.call, len(numbers)) for piece in pieces if piece.kind == "tool_call"]
        kind = "+".join(dict.fromkeys(piece.kind for piece in pieces))
        text = "".join(piece.text for piece in pieces)
        yield ChunkItem(row.interaction, index, t_s, gap_s, kind, text, called[0] if called else None)


_LINE_KINDS = {">": "sent", "<": "received", "c": "finish"}  # of a websocket's messages that bring nothing else


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
