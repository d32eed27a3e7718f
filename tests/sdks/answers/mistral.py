"""Mistral, where it differs from OpenAI: known by the names of its models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.sdks.asked import HOLD, SSE, Answer, Asked, Route, events, example

__all__ = ["ROUTES"]


def chat(asked: Asked) -> Answer | None:
    """A stream that calls a tool in one piece, as this provider does; None leaves the rest to OpenAI's."""
    tools = asked.body.get("tools")
    if not (_ours(asked) and tools and asked.body.get("stream")):
        return None
    function = tools[0]["function"]
    call = {"name": function["name"], "arguments": json.dumps(example(function["parameters"]))}

    def deltas() -> Iterator[tuple[dict[str, Any], str | None]]:
        yield {"role": "assistant", "content": ""}, None
        yield {"tool_calls": [{"id": f"call{asked.number:05d}", "function": call, "index": 0}]}, "tool_calls"

    return Answer(events(_chunks(asked, deltas())), SSE)


def fim(asked: Asked) -> Answer:
    """What stands between a beginning and an end."""
    words = asked.words(asked.body["prompt"])
    if asked.body.get("stream"):
        return Answer(events(_chunks(asked, (({"content": word}, None) for word in words))), SSE)
    message = {"role": "assistant", "content": "".join(words), "tool_calls": None, "prefix": False}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return Answer({**_head(asked), "object": "chat.completion", "choices": choices, "usage": _USAGE})


def embeddings(asked: Asked) -> Answer | None:
    """Vectors, under an id."""
    if not _ours(asked):
        return None
    vectors = [
        {"object": "embedding", "index": index, "embedding": [asked.number * 1e-3, -0.0123456789, 1.5e-17]}
        for index, _ in enumerate(asked.body["input"])
    ]
    return Answer({**_head(asked), "object": "list", "data": vectors, "usage": _USAGE})


def file(asked: Asked) -> Answer | None:
    """A file that was uploaded."""
    if asked.body.get("purpose") != "ocr":
        return None
    name, content = asked.body["file"]
    told = {"purpose": "ocr", "sample_type": "ocr_input", "source": "upload", "filename": name, "bytes": len(content)}
    return Answer({"id": f"00000000-0000-0000-0000-{asked.number:012d}", "object": "file", "created_at": 1, **told})


_USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


def _ours(asked: Asked) -> bool:
    return str(asked.body.get("model", "")).startswith("mistral")


def _head(asked: Asked) -> dict[str, Any]:
    return {"id": f"{asked.number:032x}", "created": 1_700_000_000 + asked.number, "model": asked.body["model"]}


def _chunks(asked: Asked, deltas: Iterator[tuple[dict[str, Any], str | None]]) -> Iterator[tuple[str, Any] | bytes]:
    for position, (delta, reason) in enumerate(deltas):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield "", {**_head(asked), "object": "chat.completion.chunk", "choices": [choice]}
        if not position:
            yield HOLD
    yield "", {**_head(asked), "object": "chat.completion.chunk", "choices": [], "usage": _USAGE}
    yield b"data: [DONE]\n\n"


ROUTES: list[Route] = [
    ("POST", re.compile(r"/chat/completions"), chat),
    ("POST", re.compile(r"/fim/completions"), fim),
    ("POST", re.compile(r"/embeddings"), embeddings),
    ("POST", re.compile(r"/files"), file),
]
