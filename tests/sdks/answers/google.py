"""Google's generative models."""

from __future__ import annotations

import re
from typing import Any

from tests.sdks.asked import HOLD, SSE, Answer, Asked, Route, events, example

__all__ = ["ROUTES"]

_USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 7, "totalTokenCount": 16}


def generate(asked: Asked) -> Answer:
    """What is generated: text, JSON, or the call of a function."""
    model, streams = asked.groups[0], asked.groups[1] == "streamG"
    if model == "missing":
        error = {"code": 404, "message": f"models/missing is not found ({asked.number})", "status": "NOT_FOUND"}
        return Answer({"error": error}, status=404)
    parts = _parts(asked)
    if not streams:
        return Answer(_answer(asked, model, _whole(parts), "STOP"))
    chunks: list[Any] = [("", _answer(asked, model, [part], None)) for part in parts[:-1]]
    chunks = [*chunks[:1], HOLD, *chunks[1:], ("", _answer(asked, model, parts[-1:], "STOP"))]
    return Answer(events(chunks), SSE)


def _parts(asked: Asked) -> list[dict[str, Any]]:
    tools = asked.body.get("tools") or []
    last = asked.body["contents"][-1]["parts"]
    if tools and not any("functionResponse" in part for part in last):
        function = tools[0]["functionDeclarations"][0]
        arguments = example(function.get("parameters") or function.get("parametersJsonSchema") or {})
        call = {"name": function["name"], "args": {**arguments, "count": asked.number}}
        thought = {"text": f"thinking {asked.number}", "thought": True, "thoughtSignature": "c2lnbmVk"}
        return [thought, {"functionCall": call}]
    if "json" in str(asked.body.get("generationConfig", {}).get("responseMimeType")):
        return [{"text": '{"name": '}, {"text": f'"Tokyo {asked.number}"'}, {"text": "}"}]
    return [{"text": word} for word in asked.words("hello")]


def _whole(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if all(part.keys() == {"text"} for part in parts):
        return [{"text": "".join(part["text"] for part in parts)}]
    return parts


def _answer(asked: Asked, model: str, parts: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if reason:
        candidate |= {"finishReason": reason, "avgLogprobs": -0.012345678901234567}
    head = {"modelVersion": model, "responseId": f"resp-{asked.number}", "usageMetadata": _USAGE}
    return {"candidates": [candidate], **head}


def embed(asked: Asked) -> Answer:
    """Vectors, one for each text."""
    values = [asked.number * 1e-3, -0.0123456789, 1.5e-17]
    return Answer({"embeddings": [{"values": values} for _ in asked.body["requests"]]})


def count(asked: Asked) -> Answer:
    """How many tokens a request has."""
    return Answer({"totalTokens": 1000 + asked.number})


def models(asked: Asked) -> Answer:
    """The models that there are."""
    about = {"version": str(asked.number), "inputTokenLimit": 1000, "supportedGenerationMethods": ["generateContent"]}
    return Answer({"models": [{"name": f"models/test-{name}", **about} for name in "ab"]})


ROUTES: list[Route] = [
    ("POST", re.compile(r"/google/v1(?:beta)?/models/([^/]+):(streamG|g)enerateContent"), generate),
    ("POST", re.compile(r"/google/v1(?:beta)?/models/([^/]+):batchEmbedContents"), embed),
    ("POST", re.compile(r"/google/v1(?:beta)?/models/([^/]+):countTokens"), count),
    ("GET", re.compile(r"/google/v1(?:beta)?/models"), models),
]
