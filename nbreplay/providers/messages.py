"""What a request says: its messages, whichever provider's shape it has. Imports no pandas."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json

from nbreplay.core.request.ids import verbatim
from nbreplay.errors import RecordingFormatError
from nbreplay.providers.deltas import arguments_text, dicts, text, text_of

__all__ = ["Message", "MessageCall", "canonical", "messages_in", "messages_of", "prompt_key"]


class MessageCall(NamedTuple):
    """A tool call in a history: its id, where it has one, its name, and its arguments as `canonical` writes them."""

    id: str
    name: str
    arguments: str


class Message(NamedTuple):
    """A message of a request.

    Attributes
    ----------
    role : str
    content : str
        Its text.
    content_type : str
        What it consists of, joined by ``+``.
    calls : tuple of MessageCall
    result_of : MessageCall or None
        The call that it is the result of; without name and arguments where the request does not tell.
    failed : bool
        Whether it says that the tool failed.
    others : tuple
        Its parts that are neither text nor calls, as they are.
    """

    role: str
    content: str
    content_type: str
    calls: tuple[MessageCall, ...] = ()
    result_of: MessageCall | None = None
    failed: bool = False
    others: tuple[Any, ...] = ()


def canonical(arguments: Any) -> str:
    """Return a tool call's arguments so that equal ones are equal texts; what is no JSON stays as it is."""
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
    """Return what identifies messages, whoever is asked; None where there are none."""
    said = [(m.role, m.content, m.content_type, m.calls, m.result_of, m.others) for m in messages]
    if not said:
        return None
    try:
        data = to_json(said)
    except ValueError:
        data = json.dumps(said).encode()  # half of a surrogate pair
    return "p1:" + hashlib.sha256(data).hexdigest()[:32]


_SYSTEM = ("system", "instructions", "systemInstruction", "system_instruction", "preamble")
_PROMPTS = ("messages", "input", "contents", "content", "prompt", "query", "texts", "requests", "documents")


def messages_of(body: Any) -> list[Message]:
    """Return the messages of a request's body, the system's first; a tool's result is a message of its own."""
    if not isinstance(body, dict):
        return []
    history = _History()
    for name in _SYSTEM:
        if body.get(name):
            history.add({"role": "system", **_contents(body[name])})
    for name in _PROMPTS:
        given = body.get(name)
        if isinstance(given, str):
            history.add({"role": "user", "content": given})
        elif isinstance(given, dict):
            history.add({"role": "user", **given})
        elif isinstance(given, list):
            if any(isinstance(item, int | float) for item in given):
                history.made.append(Message("user", "", "tokens", others=(given,)))
                continue
            for item in given:
                if isinstance(item, dict):
                    history.add(item.get("content") if name == "requests" else item)
                elif isinstance(item, list):
                    history.made.append(Message("user", "", "tokens", others=(item,)))
                else:
                    history.add({"role": "document" if name == "documents" else "user", "content": item})
    return history.made


def messages_in(body: Any, ids: Sequence[str]) -> list[Message]:
    """Return the messages of a body as it is stored, with its request's own ids in place of the stored ones."""
    try:
        return messages_of(verbatim(body, tuple(ids)) if ids else body)
    except (RecordingFormatError, RecursionError):
        return messages_of(body)


def _contents(given: Any) -> dict[str, Any]:
    return {"parts": given["parts"]} if isinstance(given, dict) and "parts" in given else {"content": given}


class _History:
    """The messages so far, and the calls in them."""

    def __init__(self) -> None:
        self.made: list[Message] = []
        self.known: dict[str, MessageCall] = {}
        self.nameless: list[MessageCall] = []

    def add(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        if len(message) == 2 and type(message.get("content")) is str and message.get("role") in _SPEAKERS:
            # Most are no more than this.
            self.made.append(Message(message["role"], message["content"], "text"))
            return
        kind = message.get("type")
        if isinstance(kind, str) and "role" not in message and kind != "message":
            self._item(kind, message)
            return
        role = _role(message.get("role"))
        content = message.get("content", message.get("parts"))
        own = message.get("tool_call_id")
        if role in ("tool", "function") and not _has_results(content):
            self._result(own, message.get("name", message.get("tool_name")), content)
            return
        calls, kinds, said, others = list[MessageCall](), list[str](), list[str](), list[Any]()
        thought = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking")
        if thought and isinstance(thought, str):
            self.made.append(Message("assistant", thought, "reasoning"))
        if isinstance(content, str):
            said.append(content)
            kinds.append("text")
        for part in [content] if isinstance(content, dict) else dicts(content):
            self._part(part, role, calls, kinds, said, others)
        if message.get("refusal"):
            said.append(text(message["refusal"]))
            kinds.append("refusal")
        if isinstance(message.get("images"), list):
            kinds.append("image")
            others += message["images"]
        for call in dicts(message.get("tool_calls")):
            function = call.get("function")
            if isinstance(function, dict):
                calls.append(self._called(call.get("id"), function.get("name"), function.get("arguments")))
        legacy = message.get("function_call")
        if isinstance(legacy, dict):
            calls.append(self._called("", legacy.get("name"), legacy.get("arguments")))
        whole = "".join(said)
        if calls:
            kinds = [kind for kind in kinds if kind != "text" or whole] + ["tool_call"]
        if kinds or not _is_list(content):
            kind = "+".join(dict.fromkeys(kinds)) or "text"
            self.made.append(Message(role, whole, kind, tuple(calls), others=tuple(others)))

    def _item(self, kind: str, item: dict[str, Any]) -> None:
        """An item of the responses API that is no message."""
        if kind.endswith(("_call_output", "function_result")):
            self._result(item.get("call_id"), "", item.get("output", item.get("result")))
        elif kind in ("function_call", "custom_tool_call", "mcp_call"):
            given = item.get("arguments", item.get("input"))
            call = self._called(item.get("call_id", item.get("id")), item.get("name"), given)
            self.made.append(Message("assistant", "", "tool_call", (call,)))
        elif kind == "reasoning":
            said = text_of(item.get("summary")) or text_of(item.get("content"))
            self.made.append(Message("assistant", said, "reasoning"))
        elif kind in ("text", "input_text"):
            self.made.append(Message("user", text(item.get("text")), "text"))
        else:
            self.made.append(Message("assistant" if kind.endswith("_call") else "user", "", kind, others=(item,)))

    def _part(
        self,
        part: dict[str, Any],
        role: str,
        calls: list[MessageCall],
        kinds: list[str],
        said: list[str],
        others: list[Any],
    ) -> None:
        kind = _kind(part)
        if kind == "tool_result":
            self._part_result(part)
        elif kind == "reasoning":
            told = part.get("thinking", part.get("summary", part.get("text", part.get("reasoningContent"))))
            if isinstance(told, dict):
                told = told.get("reasoningText", told)
                told = told.get("text") if isinstance(told, dict) else told
            self.made.append(Message(role, text_of(told), "reasoning"))
        elif kind == "tool_call":
            inner = next((part[name] for name in ("toolUse", "functionCall") if isinstance(part.get(name), dict)), part)
            given = next((inner[name] for name in ("input", "args", "arguments") if name in inner), None)
            calls.append(self._called(inner.get("id", inner.get("toolUseId")), inner.get("name"), given))
        else:
            kinds.append(kind)
            if kind in ("text", "refusal"):
                said.append(text(part.get("text")) or text(part.get("refusal")))
            else:
                others.append(part)

    def _part_result(self, part: dict[str, Any]) -> None:
        inner = next((part[n] for n in ("toolResult", "functionResponse") if isinstance(part.get(n), dict)), part)
        own = next((inner[n] for n in ("tool_use_id", "toolUseId", "call_id", "id") if n in inner), None)
        told = next((inner[n] for n in ("content", "response", "result", "output") if n in inner), None)
        failed = inner.get("is_error") is True or inner.get("status") == "error"
        self._result(own, inner.get("name"), told, failed)

    def _called(self, own: Any, name: Any, arguments: Any) -> MessageCall:
        call = MessageCall(text(own), text(name), canonical(arguments_text(arguments)))
        if call.id:
            self.known[call.id] = call
        else:
            self.nameless.append(call)
        return call

    def _result(self, own: Any, name: Any, content: Any, failed: bool = False) -> None:
        call = self.known.get(text(own))
        if call is None and not own:
            # Calls without ids are answered in their order.
            call = next((known for known in self.nameless if known.name == text(name)), None)
            if call is not None:
                self.nameless.remove(call)
        said = content if isinstance(content, str) else text_of(content)
        if not said and content is not None:
            blocks = dicts(content)
            only = blocks[0]["json"] if len(blocks) == 1 and "json" in blocks[0] else content
            said = "" if only == [] else json.dumps(only, ensure_ascii=False)
        self.made.append(
            Message("tool", said, "tool_result", (), call or MessageCall(text(own), text(name), ""), failed)
        )


_SPEAKERS = ("user", "assistant", "system", "developer")


def _role(given: Any) -> str:
    return "assistant" if given == "model" else given if isinstance(given, str) and given else "user"


def _is_list(content: Any) -> bool:
    return isinstance(content, list) and bool(content)


def _has_results(content: Any) -> bool:
    return any(_kind(part) == "tool_result" for part in dicts(content))


# From the part's type, or the name of its only field where it has none, to a word of ours.
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("text", "input_text", "output_text"), "text"),
    **dict.fromkeys(("image", "image_url", "input_image"), "image"),
    **dict.fromkeys(("audio", "input_audio"), "audio"),
    **dict.fromkeys(("file", "input_file", "document", "fileData"), "file"),
    **dict.fromkeys(("thinking", "redacted_thinking", "reasoning", "reasoningContent", "thought"), "reasoning"),
    **dict.fromkeys(("tool_use", "server_tool_use", "mcp_tool_use", "function_call"), "tool_call"),
    **dict.fromkeys(("toolUse", "functionCall"), "tool_call"),
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
