"""An answer folded to what every provider's has: text, tool calls, tokens. To be shown and counted, never replayed."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nbreplay.core.recording.take import Take
from nbreplay.providers.deltas import Piece, Reader, text_of, values

__all__ = ["Answer", "Called", "Folded", "ToolCall", "fold", "text_of"]


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call that a model asked for; `arguments` is the text that it wrote."""

    name: str
    arguments: str
    id: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What an answer says.

    Attributes
    ----------
    text, reasoning : str
        Of the first choice.
    tool_calls : tuple of ToolCall
    model, finish_reason : str
    input_tokens, output_tokens : int or None
        None where the provider did not say.
    error : str
        The provider's error message.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    finish_reason: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""


@dataclass(slots=True)
class Called:
    """A tool call as it comes together.

    Attributes
    ----------
    name, id : str
    arguments : list of str
        In the pieces in which they came.
    choice : int
    first_ms, last_ms : int
        When its first and its last piece came, from the sending of the request.
    """

    name: str = ""
    id: str = ""
    arguments: list[str] = field(default_factory=list)
    choice: int = 0
    first_ms: int = 0
    last_ms: int = 0


class Folded:
    """All that an answer says.

    Attributes
    ----------
    reader : Reader
        With model, finish reason, tokens and error.
    said : dict
        From kind (``text``, ``reasoning``, ``refusal``) and choice to the pieces.
    calls : dict of hashable to Called
        In the order in which they began.
    first_ms : int or None
        When the first piece came.

    Made of a whole body; of None, to be fed as the answer comes.
    """

    __slots__ = ("calls", "first_ms", "reader", "said")

    def __init__(self, body: object = None) -> None:
        self.reader = Reader()
        self.said: dict[tuple[str, int], list[str]] = {}
        self.calls: dict[Hashable, Called] = {}
        self.first_ms: int | None = None
        for at, value, event in values(body):
            if value is not None:
                self.feed(at, value, event)

    def feed(self, at: int, value: dict[str, Any], event: str | None = None) -> list[Piece]:
        """Take in the next object of the answer, which came at a time in milliseconds; return what it brought.

        Nothing, where it says again as a whole what came in pieces.
        """
        pieces = self.reader.read(value, event)
        if self.reader.whole:
            begun = self.first_ms is not None
            self._replace(at, pieces)
            return [] if begun else pieces
        for piece in pieces:
            self._add(at, piece)
        return pieces

    def text(self, kind: str = "text", choice: int = 0) -> str:
        """Return all that was said of a kind."""
        return "".join(self.said.get((kind, choice), ()))

    def choices(self) -> list[int]:
        """Return the numbers of the answers that there are."""
        return sorted({choice for _, choice in self.said} | {call.choice for call in self.calls.values()})

    def _add(self, at: int, piece: Piece) -> None:
        if self.first_ms is None:
            self.first_ms = at
        if piece.kind != "tool_call":
            place = piece.kind, piece.choice
            if place in self.said:
                self.said[place].append(piece.text)
            else:
                self.said[place] = [piece.text]
            return
        call = self.calls.get(piece.call)
        if call is None:
            call = self.calls[piece.call] = Called(choice=piece.choice, first_ms=at)
        call.last_ms = max(at, call.last_ms)
        call.id = call.id or piece.id
        if piece.name != call.name:  # some servers say it with every piece
            call.name += piece.name
        call.arguments.append(piece.text)

    def _replace(self, at: int, pieces: list[Piece]) -> None:
        """Put a whole answer in place of what was said; not in place of when it was said."""
        before, self.calls, self.said = self.calls, {}, {}
        for piece in pieces:
            self._add(at, piece)
        for key, call in self.calls.items():
            if key in before:
                call.first_ms, call.last_ms = before[key].first_ms, before[key].last_ms


def fold(take: Take) -> Answer:
    """Return what a take says."""
    folded = Folded(take.body)
    reader = folded.reader
    calls = tuple(
        ToolCall(call.name, "".join(call.arguments), call.id) for call in folded.calls.values() if call.choice == 0
    )
    return Answer(
        folded.text() or folded.text("refusal"),
        folded.text("reasoning"),
        calls,
        reader.model,
        reader.finish,
        reader.tokens.get("input"),
        reader.tokens.get("output"),
        reader.error,
    )
