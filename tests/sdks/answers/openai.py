"""OpenAI: what `tests/provider.py` does not answer, or not with tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.sdks.asked import HOLD, SSE, Answer, Asked, Route, events, example, fragments

__all__ = ["ROUTES"]


def response(asked: Asked) -> Answer | None:
    """A response that calls a function; None where there is nothing to call."""
    functions = [tool for tool in asked.body.get("tools") or [] if tool.get("type") == "function"]
    turns = asked.body.get("input")
    last = turns[-1] if isinstance(turns, list) and turns else {}
    if not functions or last.get("type") == "function_call_output":
        return None
    item = {
        "id": f"fc_{asked.number}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_{asked.number}",
        "name": functions[0]["name"],
        "arguments": json.dumps(example(functions[0].get("parameters") or {})),
    }
    if asked.body.get("stream"):
        return Answer(events(_response_events(asked, item)), SSE)
    return Answer(_response(asked, [item]))


def _response(asked: Asked, output: list[Any], status: str = "completed") -> dict[str, Any]:
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 16,
    }
    return {
        "id": f"resp_{asked.number}",
        "object": "response",
        "created_at": 1_700_000_000 + asked.number,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": asked.body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "reasoning": {"effort": None, "summary": None},
        "previous_response_id": None,
        "store": True,
        "top_p": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": asked.body.get("tools") or [],
        "truncation": "disabled",
        "user": None,
        "usage": usage if status == "completed" else None,
    }


def _response_events(asked: Asked, item: dict[str, Any]) -> Iterator[tuple[str, Any] | bytes]:
    sent = 0

    def event(kind: str, /, **data: Any) -> tuple[str, Any]:
        nonlocal sent
        sent += 1
        return kind, {"type": kind, "sequence_number": sent - 1, **data}

    begun = _response(asked, [], "in_progress")
    where = {"item_id": item["id"], "output_index": 0}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    opening = {**item, "status": "in_progress", "arguments": ""}
    yield event("response.output_item.added", output_index=0, item=opening)
    for position, piece in enumerate(fragments(item["arguments"])):
        yield event("response.function_call_arguments.delta", **where, delta=piece)
        if not position:
            yield HOLD
    whole = {"name": item["name"], "arguments": item["arguments"]}
    yield event("response.function_call_arguments.done", **where, **whole)
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=_response(asked, [item]))


def logprobs(asked: Asked) -> Answer | None:
    """A chat with the probabilities of its tokens; None where nobody wants them."""
    if not asked.body.get("logprobs"):
        return None
    chances = [
        {"token": word, "bytes": list(word.encode()), "logprob": -0.1 * place - 1e-7, "top_logprobs": []}
        for place, word in enumerate(asked.words())
    ]
    head = {"id": f"chatcmpl-{asked.number}", "created": asked.number, "model": asked.body["model"]}
    if asked.body.get("stream"):
        return Answer(events(_logprob_chunks(head, chances)), SSE)
    message = {"role": "assistant", "content": "".join(asked.words()), "refusal": None}
    told = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": chances, "refusal": None}}
    return Answer({**head, "object": "chat.completion", "choices": [told]})


def _logprob_chunks(head: dict[str, Any], chances: list[dict[str, Any]]) -> Iterator[tuple[str, Any] | bytes]:
    for position, chance in enumerate(chances):
        told = {"index": 0, "delta": {"content": chance["token"]}, "finish_reason": None}
        told["logprobs"] = {"content": [chance], "refusal": None}
        yield "", {**head, "object": "chat.completion.chunk", "choices": [told]}
        if not position:
            yield HOLD
    yield b"data: [DONE]\n\n"


def models(asked: Asked) -> Answer:
    """The models that there are."""
    owned = {"object": "model", "created": asked.number, "owned_by": "tests"}
    return Answer({"object": "list", "data": [{"id": f"test/{name}", **owned} for name in "ab"]})


def model(asked: Asked) -> Answer:
    """One model."""
    return Answer({"id": asked.groups[0], "object": "model", "created": asked.number, "owned_by": "tests"})


def content(asked: Asked) -> Answer:
    """The content of a file: not text."""
    return Answer(b"\x89 file %d \xff\x00" % asked.number + bytes(range(256)), "application/octet-stream")


def moderation(asked: Asked) -> Answer:
    """Nothing is wrong."""
    names = ["harassment", "hate", "violence"]
    scores = dict.fromkeys(names, asked.number * 1e-05 + 1e-17)
    told = {"flagged": False, "categories": dict.fromkeys(names, False), "category_scores": scores}
    return Answer({"id": f"modr-{asked.number}", "model": "test", "results": [told]})


def transcript(asked: Asked) -> Answer | None:
    """A transcription as text, or piece by piece; None where JSON will do."""
    if asked.body.get("stream") in ("true", True):
        deltas = [("", {"type": "transcript.text.delta", "delta": piece}) for piece in asked.words("sound")]
        done = ("", {"type": "transcript.text.done", "text": "".join(asked.words("sound"))})
        return Answer(events([deltas[0], HOLD, *deltas[1:], done]), SSE)
    if asked.body.get("response_format") == "text":
        return Answer("".join(asked.words("sound")).encode(), "text/plain; charset=utf-8")
    return None


ROUTES: list[Route] = [
    ("POST", re.compile(r"/responses"), response),
    ("POST", re.compile(r"/chat/completions"), logprobs),
    ("GET", re.compile(r"/models"), models),
    ("GET", re.compile(r"/models/([^/]+)"), model),
    ("GET", re.compile(r"/files/([^/]+)/content"), content),
    ("POST", re.compile(r"/moderations"), moderation),
    ("POST", re.compile(r"/audio/transcriptions"), transcript),
]
