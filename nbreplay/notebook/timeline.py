"""Timeline: the parts of an answer that grow side by side, and when each piece of them came. Pure."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from nbreplay.core.recording.take import Take
from nbreplay.notebook.escape import indent_json, plain
from nbreplay.providers.answer import AnswerBuilder
from nbreplay.providers.deltas import values

_MAX_INDENTED = 100_000  # characters; longer arguments are shown as they came


class Entry(NamedTuple):
    """A piece of an answer: its arrival in ms from the request, the number of its track or -1, and its text."""

    at_ms: int
    track: int
    text: str


class ToolResult(msgspec.Struct, frozen=True):
    """The result of a tool call as text, or its error, and its duration in seconds."""

    text: str = ""
    error: str = ""
    took_s: float | None = None


@dataclass(slots=True)
class Track:
    """A part of an answer that grows by itself."""

    kind: str  # "text", "reasoning", "refusal" or "tool_call"
    choice: int = 0
    name: str = ""  # the tool's, as far as it has come
    parts: list[str] = field(default_factory=list)  # of the text; of a tool call, of its arguments
    result: ToolResult | None = None

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.parts)

    def format_arguments(self) -> str | None:
        """Return the arguments of a tool call, with one line per value; None where they are not JSON."""
        text = self.text or "{}"
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return None
        return indent_json(text) if len(text) <= _MAX_INDENTED else text


class Timeline:
    """Tracks and entries of an answer, as they come."""

    def __init__(self) -> None:
        self.answer = AnswerBuilder()  # the whole answer so far
        self.tracks: list[Track] = []  # in the order in which they began
        self.entries: list[Entry] = []
        self._places: dict[Hashable, int] = {}

    @classmethod
    def of(cls, take: Take) -> Timeline:
        """Return the timeline of a recorded answer."""
        timeline = cls()
        for at_ms, value, event in values(take.body):
            timeline.feed(at_ms, value, event)
        return timeline

    def feed(self, at_ms: int, value: dict[str, Any] | None, event: str | None = None) -> int:
        """Add the next object of the answer. Return the number of its entries: one without text, if it has none."""
        pieces = None if value is None else self.answer.feed(at_ms, value, event)
        if not pieces:
            self.entries.append(Entry(at_ms, -1, ""))
            return 1
        for kind, text, choice, call, name, _ in pieces:
            key = (kind, choice if call is None else call)
            place = self._places.setdefault(key, len(self.tracks))
            if place == len(self.tracks):
                self.tracks.append(Track(kind, choice))
            track, text = self.tracks[place], plain(text)
            if name:
                track.name = plain(self.answer.calls[call].name)
            track.parts.append(text)
            self.entries.append(Entry(at_ms, place, text))
        return len(pieces)
