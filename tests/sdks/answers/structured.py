"""A chat's answer in a form that was asked for, which holds the running number where the form has an integer.

It is for frameworks that show nothing but the form: the answers of others tell themselves apart by their ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.sdks.asked import HOLD, SSE, Answer, Asked, Route, events, fragments

__all__ = ["ROUTES"]


def counted(asked: Asked) -> Answer | None:
    """A chat that has to call ``Count`` or what is named after it, or to answer with JSON; None for any other."""
    functions = [tool["function"] for tool in asked.body.get("tools") or []]
    named = next((function for function in functions if function["name"].endswith("Count")), None)
    if named:
        schema = named["parameters"]
        call = {"name": named["name"], "arguments": json.dumps(_filled(schema, schema, asked.number))}
        return _answer(asked, call["arguments"], call)
    form = asked.body.get("response_format") or {}
    if form.get("type") == "json_object":
        return _answer(asked, json.dumps({"name": "Tokyo", "number": asked.number}))
    wanted = form.get("json_schema") or {}
    if str(wanted.get("name", "")).endswith("Count"):
        return _answer(asked, json.dumps(_filled(wanted["schema"], wanted["schema"], asked.number)))
    return None


def _filled(schema: Mapping[str, Any], root: Mapping[str, Any], number: int) -> Any:
    if "$ref" in schema:
        return _filled(root["$defs"][schema["$ref"].rpartition("/")[2]], root, number)
    kind = schema.get("type", "object")
    if kind == "object":
        return {name: _filled(inner, root, number) for name, inner in schema["properties"].items()}
    if kind == "array":
        return [_filled(schema["items"], root, number + place) for place in range(2)]
    return number if kind == "integer" else "Tokyo"


def _answer(asked: Asked, text: str, call: Mapping[str, str] | None = None) -> Answer:
    head = {"id": f"chatcmpl-{asked.number}", "created": 1_700_000_000 + asked.number, "model": asked.body["model"]}
    if asked.body.get("stream"):
        return Answer(events(_chunks(head, text, call)), SSE)
    message: dict[str, Any] = {"role": "assistant", "content": None if call else text, "refusal": None}
    if call:
        message["tool_calls"] = [{"id": f"call_{asked.number}", "type": "function", "function": call}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop", "logprobs": None}
    usage = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    return Answer({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def _chunks(head: dict[str, Any], text: str, call: Mapping[str, str] | None) -> Iterator[tuple[str, Any] | bytes]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> tuple[str, Any]:
        told = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return "", {**head, "object": "chat.completion.chunk", "choices": [told]}

    opening: dict[str, Any] = {"role": "assistant", "content": None if call else ""}
    if call:
        begun = {"index": 0, "id": f"call_{head['id']}", "type": "function"}
        opening["tool_calls"] = [{**begun, "function": {"name": call["name"], "arguments": ""}}]
    yield chunk(opening)
    pieces = fragments(text)
    for position, piece in enumerate(pieces):
        if position == len(pieces) * 2 // 3:  # the first of many is whole then
            yield HOLD
        part = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        yield chunk(part if call else {"content": piece})
    yield chunk({}, "tool_calls" if call else "stop")
    yield b"data: [DONE]\n\n"


ROUTES: list[Route] = [("POST", re.compile(r"/chat/completions"), counted)]
