"""The messages of a request, whichever provider's shape it has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json

from nbreplay.core.recording.json_text import dicts
from nbreplay.core.request.request import PROMPTS, text_of
from nbreplay.core.request.rules import verbatim
from nbreplay.errors import RecordingFormatError
from nbreplay.providers.deltas import BLOCK_CALLS, ITEM_CALLS, arguments_text, reasoning_text, text


class MessageCall(NamedTuple):
    """A tool call in a history: its id, where it has one, its name, and its arguments as `canonical` writes them."""

    id: str
    name: str
    arguments: str


class Message(NamedTuple):
    """A message of a request."""

    role: str
    content: str  # its text
    content_type: str  # the kinds of its parts, joined by ``+``
    calls: tuple[MessageCall, ...] = ()
    # The call that it is the result of; without name and arguments where the request does not tell.
    result_of: MessageCall | None = None
    failed: bool = False  # whether the tool failed
    others: tuple[Any, ...] = ()  # its parts that are neither text nor calls, as they are


def canonical(arguments: Any) -> str:
    """Return a tool call's arguments as JSON in one form; a text that is not JSON stays as it is."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return str(arguments)
    try:
        return json.dumps(arguments, sort_keys=True)
    except (ValueError, RecursionError):
        return ""


def prompt_key(messages: Iterable[Message]) -> str | None:
    """Return the key of messages, whichever model is asked; None where there are none."""
    return hash_prompt([(m.role, m.content, m.content_type, m.calls, m.result_of, m.others) for m in messages])


def hash_prompt(fields: Sequence[tuple[Any, ...]]) -> str | None:
    """Return the key of messages, given the fields of each that make it."""
    if not fields:
        return None
    try:
        data = to_json(fields)
    except ValueError:
        data = json.dumps(fields).encode()  # half of a surrogate pair
    return "p1:" + hashlib.sha256(data).hexdigest()[:32]


SYSTEM = ("system", "instructions", "systemInstruction", "system_instruction", "preamble")
_SPEAKERS = ("user", "assistant", "system", "developer")


def messages_of(body: Any) -> list[Message]:
    """Return the messages of a request's body, the system's first; a tool's result is a message of its own."""
    if not isinstance(body, dict):
        return []
    history = _History()
    for name in SYSTEM:
        if value := body.get(name):
            content = "parts" if isinstance(value, dict) and "parts" in value else "content"
            history.add({"role": "system", content: value["parts"] if content == "parts" else value})
    for name in PROMPTS:
        value = body.get(name)
        if isinstance(value, list):
            history.add_prompts(name, value)
        elif isinstance(value, dict):
            history.add({"role": "user", **value})
        elif isinstance(value, str):
            history.add({"role": "user", "content": value})
    return history.messages


def messages_in(body: Any, ids: Sequence[str]) -> list[Message]:
    """Return the messages of a body as it is stored, with its request's own ids in place of the stored ones."""
    try:
        return messages_of(verbatim(body, tuple(ids)) if ids else body)
    except (RecordingFormatError, RecursionError):
        return messages_of(body)


class _History:
    """The messages so far, and the calls in them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._calls: dict[str, MessageCall] = {}
        self._nameless: list[MessageCall] = []

    def add_prompts(self, name: str, prompts: list[Any]) -> None:
        """Add the items of a list: messages, contents to embed, texts, or tokens."""
        if any(isinstance(item, (int, float)) for item in prompts):
            self.messages.append(Message("user", "", "tokens", others=(prompts,)))
            return
        for item in prompts:
            if isinstance(item, dict):
                self.add(item.get("content") if name == "requests" else item)
            elif isinstance(item, list):
                self.messages.append(Message("user", "", "tokens", others=(item,)))
            else:
                self.add({"role": "document" if name == "documents" else "user", "content": item})

    def add(self, message: Any) -> None:
        """Add a message, or an item of the responses API."""
        if not isinstance(message, dict):
            return
        kind, content = message.get("type"), message.get("content", message.get("parts"))
        if len(message) == 2 and type(content) is str and message.get("role") in _SPEAKERS:  # as most are
            self.messages.append(Message(message["role"], content, "text"))
            return
        if isinstance(kind, str) and "role" not in message and kind != "message":
            self._add_item(kind, message)
        elif message.get("role") in ("tool", "function") and not _has_results(content):
            self._add_result(message.get("tool_call_id"), message.get("name", message.get("tool_name")), content)
        else:
            self._add_message(message, content)

    def _add_message(self, message: dict[str, Any], content: Any) -> None:
        role = "assistant" if message.get("role") == "model" else text(message.get("role")) or "user"
        thought = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
        if thought and isinstance(thought, str):
            self.messages.append(Message("assistant", thought, "reasoning"))
        parts: list[tuple[str, Any]] = [("text", content)] if isinstance(content, str) else []
        for part in [content] if isinstance(content, dict) else dicts(content):
            parts += self._read_part(part, role)
        if message.get("refusal"):
            parts.append(("refusal", text(message["refusal"])))
        if isinstance(message.get("images"), list):  # Ollama's
            parts += [("image", image) for image in message["images"]]
        for call in [*dicts(message.get("tool_calls")), {"function": message.get("function_call")}]:
            function = call.get("function")
            if isinstance(function, dict):
                note = self._note_call(call.get("id"), function.get("name"), function.get("arguments"))
                parts.append(("tool_call", note))
        if parts or not (isinstance(content, list) and content):
            self.messages.append(_join(role, parts))

    def _add_item(self, kind: str, item: dict[str, Any]) -> None:
        """Add an item of the responses API that is not a message."""
        if kind.endswith(("_call_output", "function_result")):
            self._add_result(item.get("call_id"), "", item.get("output", item.get("result")))
        elif kind in ITEM_CALLS:
            arguments = item.get("arguments", item.get("input"))
            call = self._note_call(item.get("call_id", item.get("id")), item.get("name"), arguments)
            self.messages.append(Message("assistant", "", "tool_call", (call,)))
        elif kind == "reasoning":
            thought = text_of(item.get("summary")) or text_of(item.get("content"))
            self.messages.append(Message("assistant", thought, "reasoning"))
        elif kind in ("text", "input_text"):
            self.messages.append(Message("user", text(item.get("text")), "text"))
        else:
            role = "assistant" if kind.endswith("_call") else "user"
            self.messages.append(Message(role, "", kind, others=(item,)))

    def _read_part(self, part: dict[str, Any], role: str) -> Iterator[tuple[str, Any]]:
        """Yield kind and content of a part, unless it is a message of its own."""
        kind = _kind(part)
        if kind == "tool_result":
            inner = _inner(part, "toolResult", "functionResponse")
            failed = inner.get("is_error") is True or inner.get("status") == "error"
            own = _first(inner, "tool_use_id", "toolUseId", "call_id", "id")
            content = _first(inner, "content", "response", "result", "output")
            self._add_result(own, inner.get("name"), content, failed)
        elif kind == "reasoning":
            self.messages.append(Message(role, reasoning_text(part), "reasoning"))
        elif kind == "tool_call":
            inner = _inner(part, "toolUse", "functionCall")
            arguments = _first(inner, "input", "args", "arguments")
            yield kind, self._note_call(_first(inner, "id", "toolUseId"), inner.get("name"), arguments)
        else:
            yield kind, (text(part.get("text")) or text(part.get("refusal"))) if kind in _TEXTS else part

    def _note_call(self, own: Any, name: Any, arguments: Any) -> MessageCall:
        call = MessageCall(text(own), text(name), canonical(arguments_text(arguments)))
        if call.id:
            self._calls[call.id] = call
        else:
            self._nameless.append(call)
        return call

    def _add_result(self, own: Any, name: Any, content: Any, failed: bool = False) -> None:
        call = self._calls.get(text(own))
        if call is None and not own:
            # Calls without ids are answered in their order.
            call = next((other for other in self._nameless if other.name == text(name)), None)
            if call is not None:
                self._nameless.remove(call)
        output = text_of(content)
        if not output and content is not None and not isinstance(content, str):
            blocks = dicts(content)
            data = blocks[0]["json"] if len(blocks) == 1 and "json" in blocks[0] else content
            output = "" if data == [] else json.dumps(data, ensure_ascii=False)
        result_of = call or MessageCall(text(own), text(name), "")
        self.messages.append(Message("tool", output, "tool_result", (), result_of, failed))


_TEXTS = ("text", "refusal")


def _join(role: str, parts: Sequence[tuple[str, Any]]) -> Message:
    """Return the message of parts, each with its kind."""
    whole = "".join(item for kind, item in parts if kind in _TEXTS)
    calls = tuple(item for kind, item in parts if kind == "tool_call")
    others = tuple(item for kind, item in parts if kind not in (*_TEXTS, "tool_call"))
    kinds = [kind for kind, _ in parts if kind != "tool_call" and (kind != "text" or whole or not calls)]
    content_type = "+".join(dict.fromkeys([*kinds, *(["tool_call"] if calls else [])])) or "text"
    return Message(role, whole, content_type, calls, others=others)


def _first(value: dict[str, Any], *names: str) -> Any:
    return next((value[name] for name in names if name in value), None)


def _inner(part: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return the object that a part of Bedrock or Gemini wraps; else the part itself."""
    return next((part[name] for name in names if isinstance(part.get(name), dict)), part)


def _has_results(content: Any) -> bool:
    return any(_kind(part) == "tool_result" for part in dicts(content))


# From the type of a part, or the name of its field where it has none, to a kind.
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("text", "input_text", "output_text"), "text"),
    **dict.fromkeys(("image", "image_url", "input_image"), "image"),
    **dict.fromkeys(("audio", "input_audio"), "audio"),
    **dict.fromkeys(("file", "input_file", "document", "fileData"), "file"),
    **dict.fromkeys(("thinking", "redacted_thinking", "reasoning", "reasoningContent", "thought"), "reasoning"),
    **dict.fromkeys((*BLOCK_CALLS, "toolUse", "functionCall"), "tool_call"),
    **dict.fromkeys(("tool_result", "toolResult", "functionResponse", "function_result"), "tool_result"),
}


def _kind(part: dict[str, Any]) -> str:
    kind = part.get("type")
    if isinstance(kind, str):
        return _KINDS.get(kind, "tool_result" if kind.endswith("_tool_result") else kind)
    if part.get("thought") is True:
        return "reasoning"
    data = part.get("inlineData", part.get("inline_data"))
    if isinstance(data, dict):
        return text(data.get("mimeType", data.get("mime_type"))).partition("/")[0] or "file"
    return next((_KINDS[name] for name in part if name in _KINDS), next(iter(part), "text"))
