"""Pieces of an answer, and the reader that takes them out of each JSON object, whichever provider wrote it.

The one place that knows how providers shape their answers, streamed or not. `nbreplay.providers.answer` puts the pieces
together.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.stream import Events
from nbreplay.core.request.request import dicts, text_of
from nbreplay.errors import RecordingFormatError

__all__ = ["TOKENS", "Piece", "Reader", "arguments_text", "count", "dicts", "text", "text_of", "values"]


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


def text(value: Any) -> str:
    """Return a text, and of anything else ``""``."""
    return value if isinstance(value, str) else ""


def arguments_text(value: Any) -> str:
    """Return a tool call's arguments as text: some providers send them as data."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


TOKENS = {
    "input": (
        *("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count", "inputTokens"),
        *("total_input_tokens", "billed_units.input_tokens", "tokens.input_tokens"),
    ),
    "output": (
        *("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count", "outputTokens"),
        *("total_output_tokens", "billed_units.output_tokens", "tokens.output_tokens"),
    ),
    "cached": (
        *("prompt_cache_hit_tokens", "cache_read_input_tokens", "cachedContentTokenCount", "cacheReadInputTokens"),
        *("total_cached_tokens", "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens"),
    ),
    "reasoning": (
        *("thoughtsTokenCount", "total_thought_tokens"),
        *("completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens"),
    ),
}
"""What is counted, and the names that it has; a dot leads into an object."""

_COUNTS = {path: kind for kind, paths in TOKENS.items() for path in paths}
_FLAT = {path: kind for path, kind in _COUNTS.items() if "." not in path}
_NESTED = {path.partition(".")[0] for path in _COUNTS if "." in path}
_LARGEST = 2**63  # what a column of integers cannot hold is no count


def count(usage: Any, tokens: dict[str, int]) -> None:
    """Put the counts that an object holds into `tokens`, by the names in `TOKENS`; leave it where there are none."""
    if not isinstance(usage, dict):
        return
    for name, number in usage.items():
        kind = _FLAT.get(name)
        if kind is not None:
            if type(number) is int and 0 <= number < _LARGEST:
                tokens[kind] = number
        elif name in _NESTED and isinstance(number, dict):
            for inner, counted in number.items():
                kind = _COUNTS.get(f"{name}.{inner}")
                if kind is not None and type(counted) is int and 0 <= counted < _LARGEST:
                    tokens[kind] = counted


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


_CALLS = ("function_call", "custom_tool_call", "mcp_call")


class Reader(Tray):
    """Reads the objects of one answer in their order."""

    def read(self, value: dict[str, Any], event: str | None = None) -> list[Piece]:
        """Return the pieces that an object brings, and note what else it tells."""
        self.whole = False
        self.pieces = []
        get = value.get
        choices = get("choices")
        if type(choices) is list and len(choices) == 1 and type(choices[0]) is dict and not get("usage"):
            # Nearly every chunk there is brings a piece of text and nothing else.
            (choice,) = choices
            delta = choice.get("delta")
            if type(delta) is dict and len(delta) == 1 and not choice.get("finish_reason") and not get("error"):
                said, index = delta.get("content"), choice.get("index", 0)
                if type(said) is str and said and type(index) is int and self.model:
                    return [Piece("text", said, index)]
        model = get("model") or get("modelVersion")
        if type(model) is str:
            self.model = model
        usage = get("usage")
        if usage:
            count(usage, self.tokens)
        error = get("error")
        if error:
            self.failed(error)
        if type(choices) is list:
            for choice in choices:
                if type(choice) is dict:
                    self._choice(choice)
            if choices:
                return self.pieces
        if event is not None and event.startswith("exception:"):
            self.failed({"type": event.removeprefix("exception:"), **value})
        count(get("usageMetadata"), self.tokens)
        count(value, self.tokens)
        self._others(value)
        return self.pieces

    def _choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index", 0)
        index = index if type(index) is int else 0
        message = choice.get("delta") or choice.get("message")
        if message:
            self._message(message, index)
        else:
            self.say("text", choice.get("text"), index)
        finish = choice.get("finish_reason")
        if index == 0 and finish and isinstance(finish, str):
            self.finish = finish

    def _message(self, message: Any, choice: int) -> None:
        if not isinstance(message, dict):
            return
        get = message.get
        thought = get("reasoning_content") or get("reasoning") or get("thinking") or get("tool_plan")
        if thought:
            self.say("reasoning", thought, choice)
        content = get("content")
        if content:
            if isinstance(content, str):
                self.pieces.append(Piece("text", content, choice))
            else:
                self.parts(content, choice)
        if "refusal" in message:
            self.say("refusal", get("refusal"), choice)
        audio = get("audio")
        if isinstance(audio, dict):
            self.say("text", audio.get("transcript"), choice)
        called = get("tool_calls")
        if called:
            # Cohere streams the one that goes on, not a list of it.
            for number, call in enumerate(dicts(called if isinstance(called, list) else [called])):
                self._openai_call(call, number, choice)
        legacy = get("function_call")
        if isinstance(legacy, dict):
            self.call((choice, "function"), legacy.get("name"), legacy.get("arguments"), "", choice)

    def _openai_call(self, call: dict[str, Any], number: int, choice: int) -> None:
        function = call.get("function")
        if not isinstance(function, dict):
            return
        arguments, own = function.get("arguments"), text(call.get("id"))
        key: Hashable
        if "index" not in call and isinstance(arguments, dict):
            key = self.next()  # arguments that are data come whole
        else:
            place = (choice, str(call.get("index", number)))
            key, known = self.calls.get(place, (place, ""))
            if own and known and own != known:
                key = self.next()  # some servers give several calls one index
            self.calls[place] = key, own or known
        self.call(key, function.get("name"), arguments, own, choice)

    def _others(self, value: dict[str, Any]) -> None:
        get, kind = value.get, value.get("type")
        message = get("message")
        if isinstance(message, dict) and kind != "message_start":
            self._message(message, 0)
        for name in ("done_reason", "finish_reason", "stop_reason", "stopReason"):
            finish = get(name)
            if finish and isinstance(finish, str):
                self.finish = finish
        response = get("response")
        if isinstance(response, str):
            self.say("reasoning", get("thinking"))
            self.say("text", response)
        elif isinstance(response, dict) or get("object") == "response":
            self._response(value, response)
        elif isinstance(kind, str) and kind.startswith("response."):
            self._response_event(kind, value)
        elif kind == "message" and "content" in value:
            self.parts(value["content"])
        elif kind == "message_start" and isinstance(message, dict):
            self.model = text(message.get("model")) or self.model
            count(message.get("usage"), self.tokens)
        elif isinstance(get("content_block"), dict):
            block = value["content_block"]
            self.block(("block", str(get("index"))), {**block, "input": None} if "input" in block else block)
        elif isinstance(get("delta"), dict):
            self._delta(value, value["delta"])
        elif isinstance(get("start"), dict):
            self.block(("block", str(get("contentBlockIndex"))), value["start"])
        elif isinstance(get("output"), dict):  # Bedrock's converse
            self._message(value["output"].get("message"), 0)
        elif isinstance(get("outputs"), list):  # Gemini's interactions
            self.parts(value["outputs"])
            self.finish = text(get("status")) or self.finish
        elif isinstance(get("interaction"), dict):
            self.model = text(value["interaction"].get("model")) or self.model
            self.finish = text(value["interaction"].get("status")) or self.finish
            count(value["interaction"].get("usage"), self.tokens)
        elif "bytes" in value and len(value) <= 2:
            self._invoked(value["bytes"])
        for number, candidate in enumerate(dicts(get("candidates"))):
            self._candidate(candidate, candidate.get("index", number))

    def _delta(self, value: dict[str, Any], delta: dict[str, Any]) -> None:
        """A delta of Anthropic's, Bedrock's, Cohere's or Gemini's interactions."""
        get, index = delta.get, value.get("index", value.get("contentBlockIndex"))
        if isinstance(get("message"), dict):  # Cohere's
            message = dict(delta["message"])
            if isinstance(message.get("tool_calls"), dict):
                message["tool_calls"] = {"index": index, **message["tool_calls"]}
            if isinstance(message.get("content"), dict):
                message["content"] = [message["content"]]
            self._message(message, 0)
        elif "partial_json" in delta:
            self.call(("block", str(index)), "", delta["partial_json"], "")
        elif isinstance(get("toolUse"), dict) or get("type") == "function_call" or "reasoningContent" in delta:
            self.block(("block", str(index)), delta)
        else:
            self.say("reasoning", get("thinking"))
            self.say("text", get("text"))
        self.finish = text(get("stop_reason")) or text(get("finish_reason")) or self.finish
        count(get("usage"), self.tokens)

    def _candidate(self, candidate: dict[str, Any], choice: Any) -> None:
        choice = choice if type(choice) is int else 0
        content = candidate.get("content")
        for part in dicts(content.get("parts")) if isinstance(content, dict) else []:
            self.say("reasoning" if part.get("thought") else "text", part.get("text"), choice)
            call = part.get("functionCall")
            if isinstance(call, dict):
                self.call(self.next(), call.get("name"), call.get("args"), call.get("id"), choice)
        if choice == 0:
            self.finish = text(candidate.get("finishReason")) or self.finish

    def _response(self, value: dict[str, Any], response: Any) -> None:
        if not isinstance(response, dict):
            self.finish = text(value.get("status")) or self.finish
            self._output(value.get("output"))
            return
        self.model = text(response.get("model")) or self.model
        self.finish = text(response.get("status")) or self.finish
        count(response.get("usage"), self.tokens)
        if response.get("error"):
            self.failed(response["error"])
        if value.get("type") in ("response.completed", "response.incomplete", "response.failed"):
            self._output(response.get("output"))
            # A failure may come without what had been said before it.
            self.whole = bool(self.pieces) or value["type"] == "response.completed"

    def _response_event(self, kind: str, value: dict[str, Any]) -> None:
        delta = value.get("delta")
        place = ("item", str(value.get("item_id", value.get("output_index"))))
        if kind == "response.output_text.delta":
            self.say("text", delta)
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            self.say("reasoning", delta)
        elif kind == "response.refusal.delta":
            self.say("refusal", delta)
        elif kind.endswith((".function_call_arguments.delta", ".custom_tool_call_input.delta", ".arguments.delta")):
            self.call(place, "", delta, "")
        elif kind == "response.output_item.added":
            item = value.get("item")
            if isinstance(item, dict) and item.get("type") in _CALLS:
                own = item.get("call_id", item.get("id"))
                self.call(("item", str(item.get("id", value.get("output_index")))), item.get("name"), "", own)

    def _output(self, items: Any) -> None:
        for number, item in enumerate(dicts(items)):
            kind = item.get("type")
            if kind == "message":
                self.parts(item.get("content"))
            elif kind in _CALLS:
                given = item.get("arguments", item.get("input"))
                self.call(
                    ("item", str(item.get("id", number))), item.get("name"), given, item.get("call_id", item.get("id"))
                )
            elif kind == "reasoning":
                self.say("reasoning", text_of(item.get("summary")) or text_of(item.get("content")))

    def _invoked(self, data: Any) -> None:
        """An event of a model's own form, which Bedrock wraps."""
        try:
            value = json.loads(base64.b64decode(data, validate=True))
        except (ValueError, TypeError, RecursionError):
            return
        if isinstance(value, dict) and "bytes" not in value:
            self.read(value)
            self.say("text", value.get("completion"))
