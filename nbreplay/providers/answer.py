"""An answer in one form for every provider: text, tool calls, tokens. It is displayed and counted, never replayed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nbreplay.core.recording.take import Take
from nbreplay.providers.deltas import Piece, Reader, values


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call that a model asked for; `arguments` is the text that it wrote."""

    name: str
    arguments: str
    id: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The content of an answer."""

    # text, reasoning: of the first choice
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    finish_reason: str = ""
    # input_tokens, output_tokens: none where the provider did not say
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""  # the provider's error message


@dataclass(slots=True)
class StreamedCall:
    """A tool call as it comes together."""

    name: str = ""
    id: str = ""
    arguments: list[str] = field(default_factory=list)  # in the pieces in which they came
    choice: int = 0
    # first_ms, last_ms: when its first and its last piece came, from the sending of the request
    first_ms: int = 0
    last_ms: int = 0


class AnswerBuilder:
    """Builds an answer from a whole body, or from None and the objects that are fed as they come."""

    __slots__ = ("calls", "first_ms", "reader", "texts")

    def __init__(self, body: object = None) -> None:
        self.reader = Reader()  # with model, finish reason, tokens and error
        # From kind (``text``, ``reasoning``, ``refusal``) and choice to the pieces.
        self.texts: dict[tuple[str, int], list[str]] = defaultdict(list)
        self.calls: dict[Hashable, StreamedCall] = {}  # in the order in which they began
        self.first_ms: int | None = None  # when the first piece came
        for at, value, event in values(body):
            if value is not None:
                self.feed(at, value, event)

    def feed(self, at: int, value: dict[str, Any], event: str | None = None) -> list[Piece]:
        """Add the next object of the answer, which came at `at` milliseconds, and return its pieces.

        An object that repeats the whole answer after its pieces has none.
        """
        pieces = self.reader.read(value, event)
        begun, before = self.first_ms is not None, self.calls
        if self.reader.whole:
            self.calls = {}
            self.texts.clear()
        for piece in pieces:
            self._add(at, piece)
        if not self.reader.whole:
            return pieces
        for key in self.calls.keys() & before.keys():  # the pieces came earlier
            self.calls[key].first_ms, self.calls[key].last_ms = before[key].first_ms, before[key].last_ms
        return [] if begun else pieces

    def text(self, kind: str = "text", choice: int = 0) -> str:
        """Return the whole text of a kind."""
        return "".join(self.texts.get((kind, choice), ()))

    def choices(self) -> list[int]:
        """Return the numbers of the choices."""
        return sorted({choice for _, choice in self.texts} | {call.choice for call in self.calls.values()})

    def _add(self, at: int, piece: Piece) -> None:
        if self.first_ms is None:
            self.first_ms = at
        if piece.kind != "tool_call":
            self.texts[piece.kind, piece.choice].append(piece.text)
            return
        call = self.calls.get(piece.call)
        if call is None:
            call = self.calls[piece.call] = StreamedCall(choice=piece.choice, first_ms=at)
        call.last_ms = max(at, call.last_ms)
        call.id = call.id or piece.id
        if piece.name != call.name:  # some servers repeat the name with every piece
            call.name += piece.name
        call.arguments.append(piece.text)


def fold(take: Take) -> Answer:
    """Return the answer of a take."""
    builder = AnswerBuilder(take.body)
    reader = builder.reader
    calls = [call for call in builder.calls.values() if call.choice == 0]
    return Answer(
        builder.text() or builder.text("refusal"),
        builder.text("reasoning"),
        tuple(ToolCall(call.name, "".join(call.arguments), call.id) for call in calls),
        reader.model,
        reader.finish,
        reader.tokens.get("input"),
        reader.tokens.get("output"),
        reader.error,
    )
