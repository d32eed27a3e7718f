"""Reel: the parts of an answer that grow side by side, and the pieces that they grow by. Pure."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from nbreplay.notebook.escape import indented, plain
from nbreplay.providers.answer import AnswerBuilder
from nbreplay.providers.deltas import Piece

__all__ = ["Beat", "Reel", "Result", "Track"]

_INDENTED = 100_000  # characters; longer arguments stay as they came


class Beat(NamedTuple):
    """A piece of an answer: when it came (ms from the request), the number of its track (-1: none), its text."""

    at_ms: int
    track: int
    text: str


class Result(msgspec.Struct, frozen=True):
    """What became of a tool call: its result as text, the error, how long it took."""

    text: str = ""
    error: str = ""
    took_s: float | None = None


@dataclass(slots=True)
class Track:
    """A part of an answer that grows by itself.

    Attributes
    ----------
    kind : str
        ``text``, ``reasoning``, ``refusal`` or ``tool_call``.
    choice : int
    name : str
        The tool's, as far as it has come.
    parts : list of str
        Of a tool call, of its arguments.
    result : Result or None
        Of a tool call, where it is known.
    """

    kind: str
    choice: int = 0
    name: str = ""
    parts: list[str] = field(default_factory=list)
    result: Result | None = None

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)

    def formatted(self) -> str | None:
        """Return the arguments of a tool call, a line a value; None where they are no JSON."""
        text = self.text or "{}"
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return None
        return indented(text) if len(text) <= _INDENTED else text


class Reel:
    """Tracks and beats of an answer, as they come.

    Attributes
    ----------
    folded : AnswerBuilder
        All that the answer says so far.
    tracks : list of Track
        In the order in which they began.
    """

    def __init__(self) -> None:
        self.folded = AnswerBuilder()
        self.tracks: list[Track] = []
        self._places: dict[Hashable, int] = {}

    def feed(self, at_ms: int, value: dict[str, Any] | None, event: str | None = None) -> list[Beat]:
        """Take in the next object; return its beats, one without text where it brings none."""
        pieces = None if value is None else self.folded.feed(at_ms, value, event)
        if not pieces:
            return [Beat(at_ms, -1, "")]
        return [self._laid(at_ms, piece) for piece in pieces]

    def _laid(self, at_ms: int, piece: Piece) -> Beat:
        kind, text, choice, call, name, _ = piece
        key = (kind, choice if call is None else call)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self.tracks)
            self.tracks.append(Track(kind, choice))
        track = self.tracks[place]
        if name:
            track.name = plain(self.folded.calls[call].name)
        said = plain(text)
        track.parts.append(said)
        return Beat(at_ms, place, said)
