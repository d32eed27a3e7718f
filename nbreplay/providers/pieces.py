"""Pieces of an answer, the tray that they are laid on, and the objects that they come out of.

Which object brings which piece is known to `nbreplay.providers.deltas`.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from nbreplay.core.recording.body import Blob, Json, Text
from nbreplay.core.recording.stream import Events
from nbreplay.errors import RecordingFormatError

__all__ = ["Piece", "Tray", "arguments_text", "dicts", "text", "text_of", "values"]


class Piece(NamedTuple):
    """A piece of an answer.

    Attributes
    ----------
    kind : str
        ``text``, ``reasoning``, ``refusal`` or ``tool_call``.
    text : str
        Of a tool call, a piece of its arguments.
    choice : int
        Which of several answers (``n=2``) it is of.
    call : hashable
        Tells the tool calls of an answer apart.
    name, id : str
        The tool call's, where this piece brings them.
    """

    kind: str
    text: str
    choice: int = 0
    call: Hashable = None
    name: str = ""
    id: str = ""


# What never tells a chunk's kind: chunks that share only these need not be put together first.
_IDLE = frozenset({"id", "object", "created", "model", "system_fingerprint", "service_tier", "usage", "provider"})
_LARGEST = 256 << 20  # bytes; of a larger body nothing is told
_BLOCK_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use", "function_call")


def values(body: object) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    """Yield time (ms), JSON object and event name of every chunk of a stream, or the objects of a plain body.

    The object is None where a chunk holds none. Values that all chunks share and that tell nothing of what a chunk
    brings come with the first chunk only.
    """
    if isinstance(body, Events):
        at, idle, common = 0, (body.common or {}).keys() <= _IDLE, dict(body.common or {})
        for chunk in body.chunks:
            at += chunk.gap_ms
            data = chunk.data
            if idle and type(data) is dict:
                yield at, {**common, **data} if common else data, chunk.event
                common = {}
            else:
                yield at, body.value(chunk), chunk.event
    elif body is not None:
        whole = body.value if isinstance(body, Json) else _parsed(body)
        for value in whole if isinstance(whole, list) else (whole,):
            if isinstance(value, dict):
                yield 0, value, None


def _parsed(body: object) -> Any:
    """Return the JSON of a body that is kept as text, since it would not be written alike, or in a file of its own."""
    try:
        if isinstance(body, Text):
            return json.loads(body.text) if body.text.lstrip()[:1] in ("{", "[") else None
        if isinstance(body, Blob) and body.size <= _LARGEST and next(body.pieces(), b"").lstrip()[:1] in (b"{", b"["):
            return json.loads(body.data())
    except (ValueError, RecursionError, OSError, RecordingFormatError):
        pass
    return None


class Tray:
    """What the objects of one answer have brought.

    Attributes
    ----------
    model, finish, error, error_type : str
        What was said so far; `finish` is the first choice's.
    tokens : dict of str to int
        By the names in `TOKENS`.
    whole : bool
        Whether the pieces of the last object are the whole answer, in place of all before it.
    """

    def __init__(self) -> None:
        self.model = self.finish = self.error = self.error_type = ""
        self.tokens: dict[str, int] = {}
        self.whole = False
        self.pieces: list[Piece] = []  # of the object that is being read
        self.calls: dict[Hashable, tuple[Hashable, str]] = {}  # by place: the key and the id of the last one there
        self.serial = 0

    def say(self, kind: str, said: Any, choice: int = 0) -> None:
        """Lay down a piece of text, where there is any."""
        if said and isinstance(said, str):
            self.pieces.append(Piece(kind, said, choice))

    def call(self, key: Hashable, name: Any, arguments: Any, own: Any, choice: int = 0) -> None:
        """Lay down a tool call, or a piece of one."""
        self.pieces.append(Piece("tool_call", arguments_text(arguments), choice, key, text(name), text(own)))

    def next(self) -> Hashable:
        """Return a key that no tool call has had yet."""
        self.serial += 1
        return "serial", self.serial

    def parts(self, parts: Any, choice: int = 0) -> None:
        """Parts of OpenAI, Mistral and Cohere, blocks of Anthropic and of Bedrock, that come whole."""
        for index, part in enumerate(dicts(parts)):
            self.block(("block", str(index)), part, choice)

    def block(self, key: Hashable, part: dict[str, Any], choice: int = 0) -> None:
        """Lay down one of them."""
        kind = part.get("type")
        if kind in ("thinking", "thought"):
            thought = part.get("thinking", part.get("summary"))
            self.say("reasoning", thought if isinstance(thought, str) else text_of(thought), choice)
        elif kind == "refusal":
            self.say("refusal", part.get("refusal"), choice)
        elif kind in _BLOCK_CALLS:
            self.call(key, part.get("name"), part.get("input", part.get("arguments")), part.get("id"), choice)
        elif isinstance(part.get("toolUse"), dict):
            use = part["toolUse"]
            self.call(key, use.get("name"), use.get("input"), use.get("toolUseId"), choice)
        elif isinstance(part.get("reasoningContent"), dict):
            told = part["reasoningContent"]
            inner = told.get("reasoningText")
            self.say("reasoning", inner.get("text") if isinstance(inner, dict) else told.get("text"), choice)
        else:
            self.say("text", part.get("text"), choice)

    def failed(self, error: Any) -> None:
        """Note an error that the provider tells."""
        if not isinstance(error, dict):
            self.error = str(error)
            return
        self.error = text(error.get("message"))
        kind = next((error[name] for name in ("type", "status", "code") if isinstance(error.get(name), str)), "")
        self.error_type = kind or self.error_type


def text(value: Any) -> str:
    """Return a text, and of anything else ``""``."""
    return value if isinstance(value, str) else ""


def arguments_text(value: Any) -> str:
    """Return a tool call's arguments as text: some providers send them as data."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list, and of anything else none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(text(part.get("text")) for part in dicts(content))
