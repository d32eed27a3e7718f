"""Anthropic's messages, with tools and token counts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.sdks.asked import HOLD, SSE, Answer, Asked, Route, events, example, fragments

__all__ = ["ROUTES"]


def message(asked: Asked) -> Answer | None:
    """A message: text, or text and the use of a tool; None where `tests/provider.py` is to fail."""
    if "status=" in asked.body["model"]:
        return None
    blocks: list[dict[str, Any]] = [{"type": "text", "text": "".join(asked.words("hello"))}]
    tools, last = asked.body.get("tools"), asked.body["messages"][-1]["content"]
    answered = isinstance(last, list) and any(part.get("type") == "tool_result" for part in last)
    if tools and not answered:
        use = {"id": f"toolu_{asked.number}", "name": tools[0]["name"], "input": example(tools[0]["input_schema"])}
        blocks.append({"type": "tool_use", **use})
    reason = "tool_use" if len(blocks) > 1 else "end_turn"
    usage = {"input_tokens": 9, "output_tokens": 7, "cache_read_input_tokens": 0}
    made = {
        "id": f"msg_{asked.number}",
        "type": "message",
        "role": "assistant",
        "model": asked.body["model"],
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }
    headers = {"request-id": f"req_of_{asked.number}"}
    if asked.body.get("stream"):
        return Answer(events(_stream(asked, made)), SSE, headers)
    return Answer(made, headers=headers)


def _stream(asked: Asked, made: dict[str, Any]) -> Iterator[tuple[str, Any] | bytes]:
    def event(kind: str, **data: Any) -> tuple[str, Any]:
        return kind, {"type": kind, **data}

    opening = {**made, "content": [], "stop_reason": None, "usage": {**made["usage"], "output_tokens": 1}}
    yield event("message_start", message=opening)
    yield event("ping")
    for index, block in enumerate(made["content"]):
        if block["type"] == "text":
            start, deltas = {**block, "text": ""}, [("text_delta", "text", word) for word in asked.words("hello")]
        else:
            pieces = ["", *fragments(json.dumps(block["input"]))]
            start, deltas = {**block, "input": {}}, [("input_json_delta", "partial_json", piece) for piece in pieces]
        yield event("content_block_start", index=index, content_block=start)
        for kind, name, piece in deltas:
            yield event("content_block_delta", index=index, delta={"type": kind, name: piece})
            if not index and piece == deltas[0][2]:
                yield HOLD
        yield event("content_block_stop", index=index)
    ending = {"stop_reason": made["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=ending, usage={"output_tokens": 7})
    yield event("message_stop")


def count(asked: Asked) -> Answer:
    """How many tokens a request has."""
    return Answer({"input_tokens": 1000 + asked.number}, headers={"request-id": f"req_of_{asked.number}"})


ROUTES: list[Route] = [
    ("POST", re.compile(r"/messages"), message),
    ("POST", re.compile(r"/messages/count_tokens"), count),
]
