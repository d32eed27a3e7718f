"""Rows of the frames, as plain tuples in the order of the declared columns. Imports no pandas.

What an answer says is folded once an interaction, and shared by the frames that are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pydantic_core import to_json

from nbreplay.analysis.settings import number, tools_of
from nbreplay.analysis.sources import Row
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Text
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.providers.answer import Folded
from nbreplay.providers.deltas import Reader, dicts, values
from nbreplay.providers.messages import Message, canonical, messages_in, messages_of, prompt_key
from nbreplay.providers.names import provider_of
from nbreplay.providers.tool_links import tool_error

__all__ = ["Told", "chunks", "interaction", "messages"]

_MAX_TOKENS = (
    *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample"),
    *("maxOutputTokens", "maxTokens", "num_predict"),
)


class Told:
    """An interaction, and what it says, worked out when first asked for.

    Attributes
    ----------
    row : Row
    """

    def __init__(self, row: Row) -> None:
        self.row = row

    @property
    def kind(self) -> str | None:
        """The kind of its request."""
        return None if self.row.request is None else self.row.request.kind

    @property
    def body(self) -> Any:
        """The body of its request as it is stored."""
        request = self.row.request
        return None if request is None or request.kind == "tool" else request.body

    @cached_property
    def answer(self) -> Folded:
        """What the answer says; nothing where there is none, and of a tool."""
        take = self.row.take
        return Folded(None if take is None or self.kind == "tool" else take.body)

    @cached_property
    def canonical(self) -> list[Message]:
        """The messages that went in, with ids as they are stored."""
        return messages_of(self.body)

    @cached_property
    def asked(self) -> list[Message]:
        """The messages that went in, with the ids that they carried."""
        take = self.row.take
        return self.canonical if take is None or not take.ids else messages_in(self.body, take.ids)


def interaction(told: Told) -> tuple[Any, ...]:
    """Return the row of `interactions`, without what only a session's have."""
    row, body, take, answer = told.row, told.body, told.row.take, told.answer
    request, reader = row.request, answer.reader
    tokens = reader.tokens.get
    events = take.body if take is not None and isinstance(take.body, Events) else None
    timed = take is not None and take.timed and events is not None
    limit = number(body, _MAX_TOKENS)
    return (
        row.interaction,
        row.file,
        None if request is None else request.key,
        prompt_key(told.canonical),
        told.kind,
        row.origin,
        provider_of(row.host) if row.host else None,
        row.host or None,
        None if take is None else take.sdk or None,
        None if request is None else request.model or None,
        reader.model or None,
        _streams(take, body),
        None if take is None else take.complete,
        None if take is None else take.status,
        reader.finish or None,
        _error_type(told),
        number(body, ("temperature",)),
        int(limit) if limit is not None and abs(limit) < 2**63 else None,
        tokens("input"),
        tokens("output"),
        tokens("cached"),
        tokens("reasoning"),
        len(told.asked),
        tools_of(body),
        None if take is None else 0 if events is None else len(events.chunks),
        len(answer.calls),
        sum(len(text) for (kind, _), texts in answer.said.items() if kind != "reasoning" for text in texts),
        None if take is None else take.duration_s,
        events.chunks[0].gap_ms / 1000 if timed and events is not None and events.chunks else None,
        answer.first_ms / 1000 if timed and answer.first_ms is not None else None,
        row.recorded_ms,
        row.cell,
        None if take is None else _answer_key(told, take),
    )


# What differs from answer to answer whatever is said.
_PASSING = frozenset(("id", "created", "created_at", "completed_at", "system_fingerprint", "usage", "request_id"))


def _answer_key(told: Told, take: Take) -> str:
    answer = told.answer
    error = _error_type(told)
    said: Any = [[*place, "".join(texts)] for place, texts in answer.said.items() if place[0] != "reasoning"]
    calls = [[call.choice, call.name, canonical("".join(call.arguments))] for call in answer.calls.values()]
    if not said and not calls and error is None:
        said = _data(take)
    try:
        made = to_json([said, calls, error])
    except ValueError:
        made = repr((said, calls, error)).encode()  # half of a surrogate pair, or not JSON
    return "a1:" + hashlib.sha256(made).hexdigest()[:32]


def _data(take: Take) -> Any:
    """What an answer brings that says nothing: vectors, what a tool returned, a page, a file."""
    if isinstance(take.body, Blob):
        return take.body.name
    if isinstance(take.body, Text):
        return take.body.stored()
    found = [value for _, value, _ in values(take.body) if value is not None]
    if not found:
        return take.body.stored()
    return [{name: one for name, one in value.items() if name not in _PASSING} for value in found]


def _streams(take: Take | None, body: Any) -> bool | None:
    if take is not None and take.status is not None:
        return isinstance(take.body, Events)
    asked = body.get("stream") if isinstance(body, dict) else None
    return asked if isinstance(asked, bool) else None


def _error_type(told: Told) -> str | None:
    take = told.row.take
    if take is None:
        return None
    if told.kind == "tool":
        raised = tool_error(take)
        if raised is not None:
            return raised
    if take.error is not None:
        return take.error.get("type") or "error"
    if told.answer.reader.error_type or told.answer.reader.error:
        return told.answer.reader.error_type or (str(take.status) if (take.status or 0) >= 400 else "error")
    return str(take.status) if take.status is not None and take.status >= 400 else None


def messages(told: Told) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of `messages`, without the interaction."""
    count = 0
    for message in told.asked:
        own = message.result_of.id if message.result_of is not None else ""
        has_text = bool(message.content) or message.content_type in ("text", "tool_result")
        content = message.content if has_text else None
        size = len(message.content)
        yield count, "input", message.role, content, message.content_type, own or None, len(message.calls), size
        count += 1
    answer = told.answer
    for choice in answer.choices():
        thought = answer.text("reasoning", choice)
        if thought:
            yield count, "output", "assistant", thought, "reasoning", None, 0, len(thought)
            count += 1
        said, refused = answer.text("text", choice), answer.text("refusal", choice)
        calls = sum(call.choice == choice for call in answer.calls.values())
        kinds = [name for name, there in (("text", said), ("refusal", refused), ("tool_call", calls)) if there]
        if kinds:
            text = said + refused
            yield count, "output", "assistant", text or None, "+".join(kinds), None, calls, len(text)
            count += 1


def chunks(take: Take) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of `chunks`, without the interaction."""
    body = take.body
    if not isinstance(body, Events):
        return
    reader, numbers, timed, begun, before = Reader(), dict[Any, int](), take.timed, False, 0
    read = reader.read
    t = gap = None
    for index, (chunk, (at, value, event)) in enumerate(zip(body.chunks, values(body), strict=True)):
        if timed:
            t, gap = at / 1000, (at - before) / 1000
        before = at
        pieces = () if value is None else read(value, event)
        if not pieces or (reader.whole and begun):
            kind = _kind_of(chunk.data, chunk.raw, value, reader, begun)
            yield index, t, gap, kind, None, None, 0
            continue
        begun = True
        if len(pieces) == 1 and pieces[0].kind != "tool_call":
            kind, text = pieces[0][:2]
            yield index, t, gap, kind, text, None, len(text)
            continue
        place = None
        for piece in pieces:
            if piece.kind == "tool_call":
                own = numbers.setdefault(piece.call, len(numbers))
                place = own if place is None else place
        kind = "+".join(dict.fromkeys(piece.kind for piece in pieces))
        text = "".join([piece.text for piece in pieces])
        yield index, t, gap, kind, text, place, len(text)


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
