"""An answer folded to what every provider's has: text, tool calls, tokens. To be shown and counted, never replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nbreplay.core.frozen import frozen
from nbreplay.core.request import Request
from nbreplay.core.stream import Events
from nbreplay.core.take import Take
from nbreplay.core.wire import Json

__all__ = ["Answer", "ToolCall", "fold", "last_user_text", "text_of"]


@frozen
class ToolCall:
    """A tool call that a model asked for; `arguments` is the text that it wrote."""

    name: str
    arguments: str
    id: str = ""


@frozen
class Answer:
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


def fold(take: Take) -> Answer:
    """Return what a take says."""
    state = _Fold()
    for value in _values(take):
        state.add(value)
    return state.answer()


def _values(take: Take) -> Iterator[dict[str, Any]]:
    body = take.body
    if isinstance(body, Events):
        for _, value in body.objects():
            yield value
    elif isinstance(body, Json):
        for value in body.value if isinstance(body.value, list) else [body.value]:
            if isinstance(value, dict):
                yield value


class _Fold:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[Any, list[str]] = {}
        self.model = self.finish = self.error = ""
        self.tokens: dict[str, int] = {}
        self.whole = False

    def answer(self) -> Answer:
        calls = tuple(ToolCall(name, arguments, call) for call, name, arguments in self.calls.values())
        return Answer(
            "".join(self.text),
            "".join(self.reasoning),
            calls,
            self.model,
            self.finish,
            self.tokens.get("in"),
            self.tokens.get("out"),
            self.error,
        )

    def add(self, value: dict[str, Any]) -> None:
        self.model = _text(value.get("model")) or _text(value.get("modelVersion")) or self.model
        self.usage(value.get("usage"))
        self.usage(value.get("usageMetadata"))
        self.usage(value)
        error = value.get("error")
        if error:
            self.error = _text(error.get("message")) if isinstance(error, dict) else str(error)
        for choice in _dicts(value.get("choices")):
            if choice.get("index", 0) == 0:
                self.message(choice.get("delta") or choice.get("message") or {"content": choice.get("text")})
                self.finish = _text(choice.get("finish_reason")) or self.finish
        if isinstance(value.get("message"), dict) and value.get("type") != "message_start":
            self.message(value["message"])
        self.finish = _text(value.get("done_reason")) or self.finish
        self.responses(value)
        self.anthropic(value)
        for candidate in _dicts(value.get("candidates"))[:1]:
            content = candidate.get("content")
            for part in _dicts(content.get("parts")) if isinstance(content, dict) else []:
                (self.reasoning if part.get("thought") else self.text).append(_text(part.get("text")))
                call = part.get("functionCall")
                if isinstance(call, dict):
                    self.calls[len(self.calls)] = [
                        _text(call.get("id")),
                        _text(call.get("name")),
                        _arguments(call.get("args")),
                    ]
            self.finish = _text(candidate.get("finishReason")) or self.finish

    def message(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        self.text.append(text_of(message.get("content")) or _text(message.get("refusal")))
        self.reasoning.append(_text(message.get("reasoning_content")) or _text(message.get("thinking")))
        for number, call in enumerate(_dicts(message.get("tool_calls"))):
            function = call.get("function")
            if isinstance(function, dict):
                # Arguments that are data come whole: without an index, that is another call each time.
                whole = "index" not in call and isinstance(function.get("arguments"), dict)
                known = self.calls.setdefault(
                    len(self.calls) if whole else str(call.get("index", number)), ["", "", ""]
                )
                known[0] = known[0] or _text(call.get("id"))
                known[1] += _text(function.get("name"))
                arguments = function.get("arguments")
                known[2] += _arguments(arguments)

    def responses(self, value: dict[str, Any]) -> None:
        response = value.get("response")
        if isinstance(response, dict):
            self.model = _text(response.get("model")) or self.model
            self.finish = _text(response.get("status")) or self.finish
            self.usage(response.get("usage"))
            if value.get("type") in ("response.completed", "response.incomplete", "response.failed"):
                self.whole = True
                self.text, self.reasoning, self.calls = [], [], {}
                self.output(response.get("output"))
        elif value.get("object") == "response":
            self.finish = _text(value.get("status")) or self.finish
            self.output(value.get("output"))
        elif not self.whole and value.get("type") == "response.output_text.delta":
            self.text.append(_text(value.get("delta")))

    def output(self, items: Any) -> None:
        for item in _dicts(items):
            if item.get("type") == "message":
                self.text.append(text_of(item.get("content")))
            elif item.get("type") == "function_call":
                self.calls[len(self.calls)] = [
                    _text(item.get("call_id")),
                    _text(item.get("name")),
                    _text(item.get("arguments")),
                ]
            elif item.get("type") == "reasoning":
                self.reasoning.append(text_of(item.get("summary")))

    def anthropic(self, value: dict[str, Any]) -> None:
        kind = value.get("type")
        if kind == "message" and "content" in value:
            blocks = _dicts(value["content"])
            for index, block in enumerate(blocks):
                self.block(str(index), block)
            self.finish = _text(value.get("stop_reason")) or self.finish
        elif kind == "message_start" and isinstance(value.get("message"), dict):
            self.model = _text(value["message"].get("model")) or self.model
            self.usage(value["message"].get("usage"))
        elif kind == "content_block_start" and isinstance(value.get("content_block"), dict):
            self.block(str(value.get("index")), {**value["content_block"], "input": None})
        elif isinstance(value.get("delta"), dict):
            delta = value["delta"]
            self.text.append(_text(delta.get("text")))
            self.reasoning.append(_text(delta.get("thinking")))
            known = self.calls.get(str(value.get("index")))
            if "partial_json" in delta and known:
                known[2] += _text(delta["partial_json"])
            self.finish = _text(delta.get("stop_reason")) or self.finish

    def block(self, index: str, block: dict[str, Any]) -> None:
        if block.get("type") == "text":
            self.text.append(_text(block.get("text")))
        elif block.get("type") == "thinking":
            self.reasoning.append(_text(block.get("thinking")))
        elif block.get("type") == "tool_use":
            given = block.get("input")
            self.calls[index] = [_text(block.get("id")), _text(block.get("name")), _arguments(given)]

    def usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            for names, name in ((_IN, "in"), (_OUT, "out")):
                for key in names:
                    if type(usage.get(key)) is int:
                        self.tokens[name] = usage[key]


_IN = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count")
_OUT = ("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: Any) -> str:
    """Return a tool call's arguments as text: some providers send them as data."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(content: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(_text(part.get("text")) for part in _dicts(content))


def last_user_text(request: Request | Mapping[str, Any]) -> str:
    """Return the last thing that a user says in a request, or ``""``."""
    fields = request.fields if isinstance(request, Request) else request
    body = fields.get("body", fields.get("arguments"))
    if not isinstance(body, dict):
        return ""
    for name in ("messages", "input", "contents"):
        given = body.get(name)
        if isinstance(given, str):
            return given
        for message in reversed(_dicts(given)):
            if message.get("role", "user") == "user":
                found = text_of(message.get("content", message.get("parts")))
                if found:
                    return found
    prompt = body.get("prompt")
    return prompt if isinstance(prompt, str) else ""
