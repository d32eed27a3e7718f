"""Pieces of an answer, and the reader that takes them out of each JSON object, whichever provider wrote it.

The one place that knows how providers shape their answers, streamed or not. `nbreplay.providers.answer` puts the pieces
together.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.json_text import dicts
from nbreplay.core.recording.stream import Events
from nbreplay.core.request.request import text_of
from nbreplay.errors import RecordingFormatError


class Piece(NamedTuple):
    """A piece of an answer."""

    kind: str  # ``text``, ``reasoning``, ``refusal`` or ``tool_call``
    text: str  # the text; of a tool call, a piece of its arguments
    choice: int = 0  # the number of the answer (``n=2``)
    call: Hashable = None  # tells the tool calls of an answer apart
    name: str = ""  # the tool's, where this piece brings it
    id: str = ""  # the tool call's, likewise


_LARGEST = 256 << 20  # bytes; a larger body is not read
BLOCK_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use", "function_call")
ITEM_CALLS = ("function_call", "custom_tool_call", "mcp_call")


def values(body: object) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    """Yield time (ms), JSON object and event name of every chunk of a stream, or the objects of a plain body.

    The object is None where a chunk holds none.
    """
    if isinstance(body, Events):
        at = 0
        for chunk in body.chunks:
            at += chunk.gap_ms
            data = {**body.common, **chunk.data} if isinstance(chunk.data, dict) else body.value(chunk)
            yield at, data, chunk.event
    elif body is not None:
        value = body.value if isinstance(body, Json) else _load(body)
        for item in dicts(value if isinstance(value, list) else [value]):
            yield 0, item, None


def _load(body: object) -> Any:
    """Return the JSON of a body that is stored as text, to keep its bytes, or in a file of its own."""
    with contextlib.suppress(ValueError, RecursionError, OSError, RecordingFormatError):
        if isinstance(body, Text) and body.text.lstrip()[:1] in ("{", "["):
            return json.loads(body.text)
        if isinstance(body, Blob) and body.size <= _LARGEST and next(body.pieces(), b"").lstrip()[:1] in (b"{", b"["):
            return json.loads(body.data())
    return None


def text(value: Any) -> str:
    """Return a string, and ``""`` for anything else."""
    return value if isinstance(value, str) else ""


def arguments_text(value: Any) -> str:
    """Return a tool call's arguments as text; some providers send them as data."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def reasoning_text(part: dict[str, Any]) -> str:
    """Return the text of a part that holds reasoning."""
    names = ("thinking", "summary", "text", "reasoningContent")
    thought = next((part[name] for name in names if name in part), None)
    if isinstance(thought, dict):
        thought = thought.get("reasoningText", thought)
        thought = thought.get("text") if isinstance(thought, dict) else thought
    return text_of(thought)


def _first_text(value: dict[str, Any], *names: str) -> str:
    return next((string for name in names if (string := text(value.get(name)))), "")


def _dict(value: dict[str, Any], name: str) -> dict[str, Any] | None:
    item = value.get(name)
    return item if isinstance(item, dict) else None


# The names of each count; a dot leads into an object.
_TOKENS = {
    "input": "prompt_tokens input_tokens promptTokenCount prompt_eval_count inputTokens "
    "total_input_tokens billed_units.input_tokens tokens.input_tokens",
    "output": "completion_tokens output_tokens candidatesTokenCount responseTokenCount eval_count outputTokens "
    "total_output_tokens billed_units.output_tokens tokens.output_tokens",
    "cached": "prompt_cache_hit_tokens cache_read_input_tokens cachedContentTokenCount cacheReadInputTokens "
    "total_cached_tokens prompt_tokens_details.cached_tokens input_tokens_details.cached_tokens "
    "input_token_details.cached_tokens",
    "reasoning": "thoughtsTokenCount total_thought_tokens "
    "completion_tokens_details.reasoning_tokens output_tokens_details.reasoning_tokens",
}
COUNTS = {path: kind for kind, paths in _TOKENS.items() for path in paths.split()}
_NESTED = {path.partition(".")[0] for path in COUNTS if "." in path}
LARGEST_COUNT = 2**63  # a column of integers cannot hold more


def count_tokens(usage: Any, tokens: dict[str, int]) -> None:
    """Put the counts of an object into `tokens`, by the names in `_TOKENS`."""
    for name, value in usage.items() if isinstance(usage, dict) else ():
        if name in COUNTS:
            _put(tokens, name, value)
        elif name in _NESTED and isinstance(value, dict):
            for key, number in value.items():
                _put(tokens, f"{name}.{key}", number)


def _put(tokens: dict[str, int], path: str, number: Any) -> None:
    kind = COUNTS.get(path)
    if kind is not None and type(number) is int and 0 <= number < LARGEST_COUNT:
        tokens[kind] = number


_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "tool_plan")
PARTS = frozenset((*_THOUGHTS, "refusal", "audio", "tool_calls", "function_call"))  # of a message, besides its content


class Reader:
    """Reads the objects of one answer in their order."""

    def __init__(self) -> None:
        # model, finish, error, error_type: the last ones that were said; `finish` is the first choice's
        self.model = self.finish = self.error = self.error_type = ""
        self.tokens: dict[str, int] = {}  # by the names in `_TOKENS`
        self.whole = False  # whether the pieces of the last object are the whole answer, in place of all before it
        self._pieces: list[Piece] = []  # of the current object
        self._calls: dict[Hashable, tuple[Hashable, str]] = {}  # by place: the key and the id of the last one there
        self._serial = itertools.count()  # of calls without a place

    def read(self, value: dict[str, Any], event: str | None = None) -> list[Piece]:
        """Return the pieces that an object brings, and note the model, tokens, finish reason and error in it."""
        self.whole = False
        self._pieces = []
        self._read_model(value)
        if value.get("error"):
            self.note_error(value["error"])
        if value.get("choices") and isinstance(value["choices"], list):
            for choice in dicts(value["choices"]):
                self._read_choice(choice)
            return self._pieces
        if event is not None and event.startswith("exception:"):
            self.note_error({"type": event.removeprefix("exception:"), **value})
        count_tokens(value.get("usageMetadata"), self.tokens)
        count_tokens(value, self.tokens)
        if value.get("type") != "message_start":
            self._read_message(value.get("message"))
        self.finish = _first_text(value, "stopReason", "stop_reason", "finish_reason", "done_reason") or self.finish
        read = next((read for fits, read in _SHAPES if fits(value)), None)
        if read is not None:
            read(self, value)
        for number, candidate in enumerate(dicts(value.get("candidates"))):
            self._read_candidate(candidate, candidate.get("index", number))
        return self._pieces

    # The parts that all formats share.

    def _say(self, kind: str, value: Any, choice: int = 0) -> None:
        if value and isinstance(value, str):
            self._pieces.append(Piece(kind, value, choice))

    def _call(self, key: Hashable, name: Any, arguments: Any, own: Any, choice: int = 0) -> None:
        """Add a tool call, or a piece of one."""
        self._pieces.append(Piece("tool_call", arguments_text(arguments), choice, key, text(name), text(own)))

    def note_error(self, error: Any) -> None:
        """Note an error that the provider tells."""
        if not isinstance(error, dict):
            self.error = str(error)
            return
        self.error = text(error.get("message"))
        self.error_type = _first_text(error, "type", "status", "code") or self.error_type

    def _read_model(self, value: dict[str, Any], *finish: str) -> None:
        """Note model and usage of an object, and the finish reason in one of these fields."""
        self.model = text(value.get("model") or value.get("modelVersion")) or self.model
        self.finish = (_first_text(value, *finish) if finish else "") or self.finish
        count_tokens(value.get("usage"), self.tokens)

    def _read_parts(self, parts: Any, choice: int = 0) -> None:
        """Read parts of OpenAI, Mistral and Cohere, or blocks of Anthropic and Bedrock, that come whole."""
        for index, part in enumerate(dicts(parts)):
            self._read_block(("block", str(index)), part, choice)

    def _read_block(self, key: Hashable, part: dict[str, Any], choice: int = 0) -> None:
        kind = part.get("type")
        use = _dict(part, "toolUse")
        if kind in ("thinking", "thought") or "reasoningContent" in part:
            self._say("reasoning", reasoning_text(part), choice)
        elif kind == "refusal":
            self._say("refusal", part.get("refusal"), choice)
        elif kind in BLOCK_CALLS:
            self._call(key, part.get("name"), part.get("input", part.get("arguments")), part.get("id"), choice)
        elif use is not None:
            self._call(key, use.get("name"), use.get("input"), use.get("toolUseId"), choice)
        else:
            self._say("text", part.get("text"), choice)

    # Chat completions of OpenAI, and the messages of Cohere and Ollama.

    def _read_choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index", 0)
        index = index if type(index) is int else 0
        message = choice.get("delta") or choice.get("message")
        if message:
            self._read_message(message, index)
        else:
            self._say("text", choice.get("text"), index)
        if index == 0:
            self.finish = text(choice.get("finish_reason")) or self.finish

    def _read_message(self, message: Any, choice: int = 0) -> None:
        if not isinstance(message, dict):
            return
        content = message.get("content")
        # Most bring a text alone, and a stream has thousands of them.
        others = PARTS.intersection(message)
        if type(content) is str and (not others or all(message[name] is None for name in others)):
            self._say("text", content, choice)
            return
        thought = _first_text(message, *_THOUGHTS)
        self._say("reasoning", thought, choice)
        self._say("text", content, choice)
        self._read_parts(content, choice)
        self._say("refusal", message.get("refusal"), choice)
        self._say("text", (_dict(message, "audio") or {}).get("transcript"), choice)
        calls = message.get("tool_calls")
        # Cohere streams the call that goes on, not a list of it.
        for number, call in enumerate(dicts(calls if isinstance(calls, list) else [calls])):
            self._read_openai_call(call, number, choice)
        legacy = _dict(message, "function_call")
        if legacy is not None:
            self._call((choice, "function"), legacy.get("name"), legacy.get("arguments"), "", choice)

    def _read_openai_call(self, call: dict[str, Any], number: int, choice: int) -> None:
        function = call.get("function")
        if not isinstance(function, dict):
            return
        arguments, own = function.get("arguments"), text(call.get("id"))
        key: Hashable
        if "index" not in call and isinstance(arguments, dict):
            key = ("serial", next(self._serial))  # arguments that are data come whole
        else:
            place = (choice, str(call.get("index", number)))
            key, last = self._calls.get(place, (place, ""))
            if own and last and own != last:
                key = ("serial", next(self._serial))  # some servers give several calls one index
            self._calls[place] = key, own or last
        self._call(key, function.get("name"), arguments, own, choice)

    def _read_ollama_response(self, value: dict[str, Any]) -> None:
        self._say("reasoning", value.get("thinking"))
        self._say("text", value["response"])

    # The responses API of OpenAI.

    def _read_response(self, value: dict[str, Any]) -> None:
        self._read_model(value, "status")
        self._read_output(value.get("output"))

    def _read_response_state(self, value: dict[str, Any]) -> None:
        response, kind = value["response"], value.get("type")
        self._read_model(response, "status")
        if response.get("error"):
            self.note_error(response["error"])
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._read_output(response.get("output"))
            # A failure may come without the text before it.
            self.whole = bool(self._pieces) or kind == "response.completed"

    def _read_response_event(self, value: dict[str, Any]) -> None:
        kind, delta = value["type"].removeprefix("response."), value.get("delta")
        if kind in _RESPONSE_TEXTS:
            self._say(_RESPONSE_TEXTS[kind], delta)
        elif kind.endswith(("function_call_arguments.delta", "custom_tool_call_input.delta", ".arguments.delta")):
            self._call(("item", str(value.get("item_id", value.get("output_index")))), "", delta, "")
        elif kind == "output_item.added":
            item = value.get("item")
            if isinstance(item, dict) and item.get("type") in ITEM_CALLS:
                key = ("item", str(item.get("id", value.get("output_index"))))
                self._call(key, item.get("name"), "", item.get("call_id", item.get("id")))

    def _read_output(self, items: Any) -> None:
        for number, item in enumerate(dicts(items)):
            kind = item.get("type")
            if kind == "message":
                self._read_parts(item.get("content"))
            elif kind in ITEM_CALLS:
                key, arguments = ("item", str(item.get("id", number))), item.get("arguments", item.get("input"))
                self._call(key, item.get("name"), arguments, item.get("call_id", item.get("id")))
            elif kind == "reasoning":
                self._say("reasoning", text_of(item.get("summary")) or text_of(item.get("content")))

    # Messages of Anthropic, Bedrock and Cohere, and Gemini's interactions.

    def _read_content_block(self, value: dict[str, Any]) -> None:
        block = value["content_block"]
        # The input of a call follows in deltas; here it is an empty object.
        self._read_block(_block_key(value), {**block, "input": None} if "input" in block else block)

    def _read_delta(self, value: dict[str, Any]) -> None:
        delta, key = value["delta"], _block_key(value)
        if isinstance(delta.get("message"), dict):
            self._read_cohere_delta(delta["message"], value.get("index"))
        elif "partial_json" in delta:
            self._call(key, "", delta["partial_json"], "")
        elif _dict(delta, "toolUse") is not None or delta.get("type") == "function_call" or "reasoningContent" in delta:
            self._read_block(key, delta)
        else:
            self._say("reasoning", delta.get("thinking"))
            self._say("text", delta.get("text"))
        self.finish = _first_text(delta, "stop_reason", "finish_reason") or self.finish
        count_tokens(delta.get("usage"), self.tokens)

    def _read_cohere_delta(self, message: dict[str, Any], index: Any) -> None:
        message = dict(message)
        if isinstance(message.get("tool_calls"), dict):
            message["tool_calls"] = {"index": index, **message["tool_calls"]}
        if isinstance(message.get("content"), dict):
            message["content"] = [message["content"]]
        self._read_message(message)

    def _read_invocation(self, value: dict[str, Any]) -> None:
        """Read an event of a model's own form, which Bedrock wraps."""
        try:
            inner = json.loads(base64.b64decode(value["bytes"], validate=True))
        except (ValueError, TypeError, RecursionError):
            return
        if isinstance(inner, dict) and "bytes" not in inner:
            self.read(inner)
            self._say("text", inner.get("completion"))

    def _read_outputs(self, value: dict[str, Any]) -> None:
        self._read_parts(value["outputs"])
        self.finish = text(value.get("status")) or self.finish

    # Gemini's candidates.

    def _read_candidate(self, candidate: dict[str, Any], choice: Any) -> None:
        choice = choice if type(choice) is int else 0
        for part in dicts((_dict(candidate, "content") or {}).get("parts")):
            self._say("reasoning" if part.get("thought") else "text", part.get("text"), choice)
            call = part.get("functionCall")
            if isinstance(call, dict):
                self._call(("serial", next(self._serial)), call.get("name"), call.get("args"), call.get("id"), choice)
        if choice == 0:
            self.finish = text(candidate.get("finishReason")) or self.finish


_RESPONSE_TEXTS = {
    "output_text.delta": "text",
    "reasoning_summary_text.delta": "reasoning",
    "reasoning_text.delta": "reasoning",
    "refusal.delta": "refusal",
}


def _block_key(value: dict[str, Any]) -> Hashable:
    return "block", str(value.get("index", value.get("contentBlockIndex")))


def _has(name: str, kind: type) -> Callable[[dict[str, Any]], bool]:
    return lambda value: isinstance(value.get(name), kind)


_SHAPES: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[[Reader, dict[str, Any]], None]], ...] = (
    (_has("response", str), Reader._read_ollama_response),
    (_has("response", dict), Reader._read_response_state),
    (lambda value: value.get("object") == "response", Reader._read_response),
    (lambda value: text(value.get("type")).startswith("response."), Reader._read_response_event),
    (
        lambda value: value.get("type") == "message" and "content" in value,
        lambda reader, value: reader._read_parts(value["content"]),
    ),
    (
        lambda value: value.get("type") == "message_start" and isinstance(value.get("message"), dict),
        lambda reader, value: reader._read_model(value["message"]),
    ),
    (_has("content_block", dict), Reader._read_content_block),
    (_has("delta", dict), Reader._read_delta),
    (_has("start", dict), lambda reader, value: reader._read_block(_block_key(value), value["start"])),
    (_has("output", dict), lambda reader, value: reader._read_message(value["output"].get("message"))),
    (_has("outputs", list), Reader._read_outputs),
    (_has("interaction", dict), lambda reader, value: reader._read_model(value["interaction"], "status")),
    (lambda value: "bytes" in value and len(value) <= 2, Reader._read_invocation),
)
"""The shapes of answers, the first that fits counts: which objects have it, and how they are read."""
