"""Answers in one form for every provider, displayed and counted but never replayed; and the providers who give them."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from nbreplay.core.request.route import bare_host
from nbreplay.providers.deltas import Piece, Reader, values
from nbreplay.providers.messages import Message
from nbreplay.providers.realtime import LINES, SENT, SessionReader, Turn, read_line


@dataclass(slots=True)
class ToolCall:
    """A tool call that a model asked for, as it comes together."""

    name: str = ""
    id: str = ""
    arguments: list[str] = field(default_factory=list)  # the text that the model wrote, in the pieces that came
    choice: int = 0
    first_ms: int = 0  # when its first piece came, from the sending of the request
    last_ms: int = 0


class Answer:
    """The content of an answer: of a whole body, or of the objects that are fed as they come."""

    __slots__ = ("_session", "calls", "first_ms", "reader", "results", "texts", "turns")

    def __init__(self, body: object = None) -> None:
        self.reader = Reader()  # with model, finish reason, tokens and error
        # From kind (``text``, ``reasoning``, ``refusal``) and choice to the pieces.
        self.texts: dict[tuple[str, int], list[str]] = defaultdict(list)
        self.calls: dict[Hashable, ToolCall] = {}  # in the order in which they began
        self.first_ms: int | None = None  # when the first piece came
        # Of a websocket: what each side said in its turns, and the results that the client sent, by the calls' ids.
        self.turns: dict[Hashable, Turn] = {}
        self.results: dict[str, str] = {}
        self._session: SessionReader | None = None
        at = 0
        for at, value, event in values(body):
            if value is not None:
                self.feed(at, value, event)
        self.end(at)

    def feed(self, at: int, value: dict[str, Any], event: str | None = None) -> list[Piece]:
        """Add the next object of the answer, which came at `at` milliseconds, and return its pieces.

        An object that repeats the whole answer after its pieces has none.
        """
        if next(iter(value), "") in LINES and (line := read_line(value)) is not None:
            self._session = self._session or SessionReader(self.reader)
            return self._add_turns(at, self._session.read_line(line))
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

    def end(self, at: int) -> list[Piece]:
        """Return the pieces that are only told once the last object has come."""
        return [] if self._session is None else self._add_turns(at, self._session.end())

    def messages(self) -> list[tuple[bool, Message]]:
        """Return the turns of a websocket as messages, each with whether the client sent it."""
        return [(turn.is_sent, turn.message(self.calls)) for turn in self.turns.values()]

    def text(self, kind: str = "text", choice: int = 0) -> str:
        """Return the whole text of a kind."""
        return "".join(self.texts.get((kind, choice), ()))

    def visible_text(self) -> str:
        """Return the text of the first choice, or its refusal."""
        return self.text() or self.text("refusal")

    def choices(self) -> list[int]:
        """Return the numbers of the choices."""
        return sorted({choice for _, choice in self.texts} | {call.choice for call in self.calls.values()})

    def _add_turns(self, at: int, pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            key = (piece.kind, piece.call)
            if key not in self.turns:
                call = piece.id if piece.kind == "tool_result" else piece.call
                self.turns[key] = Turn(piece.kind, call=call, began_ms=at)
                if piece.kind in ("text", "refusal") and (said := self.texts.get((piece.kind, 0))):
                    said.append("\n")
            self.turns[key].parts.append(piece.text)
            if piece.kind == "tool_result":
                self.results[piece.id] = piece.text
            elif piece.kind not in SENT and piece.kind not in ("audio", "received"):
                self._add(at, piece)
        return pieces

    def _add(self, at: int, piece: Piece) -> None:
        if self.first_ms is None:
            self.first_ms = at
        if piece.kind != "tool_call":
            self.texts[piece.kind, piece.choice].append(piece.text)
            return
        call = self.calls.setdefault(piece.call, ToolCall(choice=piece.choice, first_ms=at))
        call.last_ms = max(at, call.last_ms)
        call.id = call.id or piece.id
        if piece.name != call.name:  # some servers repeat the name with every piece
            call.name += piece.name
        call.arguments.append(piece.text)


# The end of a host and its provider, named as in OpenTelemetry's GenAI conventions; the first that fits wins.
_HOSTS = (
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("models.ai.azure.com", "azure.ai.inference"),
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    ("ml.cloud.ibm.com", "ibm.watsonx.ai"),
    ("openrouter.ai", "openrouter"),
    ("api.together.xyz", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("api.tavily.com", "tavily"),
)


@functools.lru_cache(maxsize=1024)
def provider_of(host: str) -> str | None:
    """Return who answers at a host, or None where it does not tell: a gateway, a model of one's own."""
    name = bare_host(host).lower()
    if name.startswith(("bedrock", "runtime.bedrock")) and (".amazonaws.com" in name or name.endswith(".api.aws")):
        return "aws.bedrock"
    if host.endswith(":11434"):
        return "ollama"  # its own port
    return next((provider for end, provider in _HOSTS if name == end or name.endswith((f".{end}", f"-{end}"))), None)
