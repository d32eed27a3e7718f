"""What each JSON object of an answer brings, whichever provider wrote it, streamed or not.

The one place that knows how providers shape their answers. `nbreplay.providers.answer` puts the pieces together.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Hashable
from typing import Any

from nbreplay.providers.pieces import Piece, Tray, dicts, text, text_of
from nbreplay.providers.tokens import count

__all__ = ["Reader"]

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
