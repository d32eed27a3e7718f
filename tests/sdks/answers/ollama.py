"""Ollama: lines of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.sdks.asked import HOLD, NDJSON, Answer, Asked, Route, example

__all__ = ["ROUTES"]


def chat(asked: Asked) -> Answer:
    """A chat, or the call of a tool."""
    if asked.body["model"] == "missing":
        return Answer({"error": f"model 'missing' not found ({asked.number})"}, status=404)
    tools, last = asked.body.get("tools"), asked.body["messages"][-1]
    if tools and last["role"] != "tool":
        function = tools[0]["function"]
        call = {"function": {"name": function["name"], "arguments": example(function["parameters"])}}
        thought: dict[str, Any] = {"role": "assistant", "content": "", "thinking": f"tool {asked.number}"}
        parts = [{"message": thought}, {"message": {"role": "assistant", "content": "", "tool_calls": [call]}}]
        return _answer(asked, parts, {"message": {**thought, "tool_calls": [call]}})
    words = [{"message": {"role": "assistant", "content": word}} for word in asked.words(last["content"])]
    whole = {"message": {"role": "assistant", "content": "".join(asked.words(last["content"]))}}
    return _answer(asked, words, whole)


def generate(asked: Asked) -> Answer:
    """A completion."""
    words = asked.words(asked.body["prompt"])
    return _answer(asked, [{"response": word} for word in words], {"response": "".join(words), "context": [1, 2, 3]})


def _answer(asked: Asked, parts: list[dict[str, Any]], whole: dict[str, Any]) -> Answer:
    stamp = f"2024-01-01T00:00:00.{asked.number:09d}Z"
    head = {"model": asked.body["model"], "created_at": stamp}
    told = {"done": True, "done_reason": "stop", "total_duration": 10**9 + asked.number, "eval_count": 7}
    if not asked.body.get("stream", True):
        return Answer({**head, **whole, **told})

    def lines() -> Iterator[bytes]:
        for position, part in enumerate(parts):
            yield json.dumps({**head, **part, "done": False}).encode() + b"\n"
            if not position:
                yield HOLD
        ending = {"message": {"role": "assistant", "content": ""}} if "message" in whole else {"response": ""}
        yield json.dumps({**head, **ending, **told}).encode() + b"\n"

    return Answer(lines(), NDJSON)


def embed(asked: Asked) -> Answer:
    """Vectors, one for each text."""
    vector = [asked.number * 1e-3, -0.0123456789, 1.5e-17]
    given = asked.body["input"]
    vectors = [vector for _ in (given if isinstance(given, list) else [given])]
    return Answer({"model": asked.body["model"], "embeddings": vectors, "total_duration": 5})


def embeddings(asked: Asked) -> Answer:
    """A vector, the older way."""
    return Answer({"embedding": [asked.number * 1e-3, -0.0123456789]})


def models(asked: Asked) -> Answer:
    """What is installed, or runs."""
    details = {"format": "gguf", "family": "llama", "parameter_size": "135M", "quantization_level": "Q8_0"}
    one = {"name": "test", "model": "test", "size": asked.number, "digest": "abc", "details": details}
    return Answer({"models": [{**one, "modified_at": "2024-01-01T00:00:00Z", "expires_at": "2024-01-02T00:00:00Z"}]})


def show(asked: Asked) -> Answer:
    """What a model is."""
    details = {"format": "gguf", "family": "llama"}
    about = {"modelfile": f"FROM test # {asked.number}", "template": "{{ .Prompt }}", "details": details}
    return Answer({**about, "model_info": {"general.count": asked.number}, "capabilities": ["completion", "tools"]})


ROUTES: list[Route] = [
    ("POST", re.compile(r"/api/chat"), chat),
    ("POST", re.compile(r"/api/generate"), generate),
    ("POST", re.compile(r"/api/embed"), embed),
    ("POST", re.compile(r"/api/embeddings"), embeddings),
    ("GET", re.compile(r"/api/(?:tags|ps)"), models),
    ("POST", re.compile(r"/api/show"), show),
]
