"""Cohere's second version: chats, embeddings, rerank."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.sdks.asked import HOLD, SSE, Answer, Asked, Route, events, example, fragments

__all__ = ["ROUTES"]

_USAGE = {"billed_units": {"input_tokens": 9, "output_tokens": 7}, "tokens": {"input_tokens": 70, "output_tokens": 9}}


def chat(asked: Asked) -> Answer:
    """A chat, or the call of a tool."""
    if asked.body["model"] == "missing":
        return Answer({"id": f"e{asked.number}", "message": "model 'missing' not found"}, status=404)
    tools, last = asked.body.get("tools"), asked.body["messages"][-1]
    call = None
    if tools and last["role"] != "tool":
        function = tools[0]["function"]
        arguments = json.dumps(example(function["parameters"]))
        wanted = {"name": function["name"], "arguments": arguments}
        call = {"id": f"get_weather_{asked.number}", "type": "function", "function": wanted}
    if asked.body.get("stream"):
        return Answer(events(_stream(asked, call)), SSE)
    message: dict[str, Any] = {"role": "assistant"}
    if call:
        message |= {"tool_plan": f"I look it up {asked.number}.", "tool_calls": [call]}
    else:
        message |= {"content": [{"type": "text", "text": "".join(asked.words("hello"))}]}
    reason = "TOOL_CALL" if call else "COMPLETE"
    return Answer({"id": f"chat-{asked.number}", "finish_reason": reason, "message": message, "usage": _USAGE})


def _stream(asked: Asked, call: dict[str, Any] | None) -> Iterator[tuple[str, Any] | bytes]:
    def event(kind: str, message: dict[str, Any] | None = None, **more: Any) -> tuple[str, Any]:
        return kind, {"type": kind, **more, **({"delta": {"message": message}} if message is not None else {})}

    yield event("message-start", {"role": "assistant"}, id=f"chat-{asked.number}")
    if call:
        yield event("tool-plan-delta", {"tool_plan": f"I look it up {asked.number}."})
        yield HOLD
        opening = {**call, "function": {**call["function"], "arguments": ""}}
        yield event("tool-call-start", {"tool_calls": opening}, index=0)
        for piece in fragments(call["function"]["arguments"]):
            yield event("tool-call-delta", {"tool_calls": {"function": {"arguments": piece}}}, index=0)
        yield event("tool-call-end", index=0)
    else:
        yield event("content-start", {"content": {"type": "text", "text": ""}}, index=0)
        for position, word in enumerate(asked.words("hello")):
            yield event("content-delta", {"content": {"text": word}}, index=0)
            if not position:
                yield HOLD
        yield event("content-end", index=0)
    reason = "TOOL_CALL" if call else "COMPLETE"
    yield "message-end", {"type": "message-end", "delta": {"finish_reason": reason, "usage": _USAGE}}
    yield b"data: [DONE]\n\n"


def embed(asked: Asked) -> Answer:
    """Vectors, one for each text."""
    vectors = [[asked.number * 1e-3, -0.0123456789, 1.5e-17] for _ in asked.body["texts"]]
    told = {"embeddings": {"float": vectors}, "texts": asked.body["texts"], "response_type": "embeddings_by_type"}
    return Answer({"id": f"embed-{asked.number}", **told, "meta": {"api_version": {"version": "2"}}})


def rerank(asked: Asked) -> Answer:
    """The documents in another order."""
    scores = [{"index": index, "relevance_score": 0.1 + index / 7} for index, _ in enumerate(asked.body["documents"])]
    return Answer({"id": f"rerank-{asked.number}", "results": scores[::-1]})


ROUTES: list[Route] = [
    ("POST", re.compile(r"/v2/chat"), chat),
    ("POST", re.compile(r"/v2/embed"), embed),
    ("POST", re.compile(r"/v2/rerank"), rerank),
]
