"""What recordings hold, counted without any of the package's code: from their files' JSON, provider by provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Counted:
    """What a take holds. `text` is all that is said, of all choices."""

    text: str = ""
    reasoning: str = ""
    tokens: dict[str, int | None] = field(default_factory=lambda: {"input": None, "output": None})
    chunks: int = 0
    calls: dict[Any, list[str]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    """The text of each message that went in."""

    def take(self, value: dict[str, Any]) -> None:
        """Count one object of an answer."""
        for choice in value.get("choices") or []:
            said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            self.text += said.get("content") or ""
            self.text += said.get("refusal") or ""
            self.reasoning += said.get("reasoning_content") or said.get("reasoning") or ""
            for number, call in enumerate(said.get("tool_calls") or []):
                place = choice["index"], call.get("index", number)
                while call.get("id") and self.calls.get(place, ["", "", call["id"]])[2] != call["id"]:
                    place = (*place, "another")
                known = self.calls.setdefault(place, ["", "", call.get("id") or ""])
                known[0] = call["function"].get("name") or known[0]
                known[1] += call["function"].get("arguments") or ""
        for candidate in value.get("candidates") or []:
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("thought"):
                    self.reasoning += part.get("text") or ""
                else:
                    self.text += part.get("text") or ""
                call = part.get("functionCall") or part.get("function_call")
                if call:
                    self.calls[len(self.calls)] = [call["name"], json.dumps(call.get("args"), ensure_ascii=False), ""]
        for block in value.get("content") or [] if value.get("type") == "message" else []:
            self.text += block.get("text") or ""
            self.reasoning += block.get("thinking") or ""
            if block.get("type") == "tool_use":
                self.calls[block["id"]] = [block["name"], json.dumps(block["input"], ensure_ascii=False), block["id"]]
        for output in value.get("outputs") or []:
            self.text += output.get("text") or ""
        if isinstance(value.get("delta"), dict):
            self.text += value["delta"].get("text") or ""
            self.reasoning += value["delta"].get("thinking") or ""
        if value.get("type") == "response.output_text.delta":
            self.text += value["delta"]
        holders = [value, value.get("message"), value.get("interaction"), value.get("response")]
        for holder in [holder for holder in holders if isinstance(holder, dict)]:
            for name in ("usage", "usageMetadata", "usage_metadata"):
                self.count(holder.get(name) or {})

    def count(self, usage: dict[str, Any]) -> None:
        """Count tokens; the last that is told is right."""
        names = {
            "input": ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count", "total_input_tokens"),
            "output": (
                "completion_tokens",
                "output_tokens",
                "candidatesTokenCount",
                "candidates_token_count",
                "total_output_tokens",
            ),
        }
        for kind, known in names.items():
            for name in known:
                if usage.get(name) is not None:
                    self.tokens[kind] = usage[name]


def _said(content: Any) -> str:
    if isinstance(content, dict):
        return str(content.get("text") or "")
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content or ""


def _is_result(part: dict[str, Any]) -> bool:
    return part.get("type", "").endswith("_result") or "function_response" in part


def asked(body: dict[str, Any]) -> list[str]:
    """The text of each message of a request, those of tools too."""
    found = [_said(body[name]) for name in ("system", "instructions") if body.get(name)]
    config = body.get("config") or {}
    system = config.get("system_instruction") or body.get("systemInstruction")
    if system:
        found.append(_said(system if isinstance(system, str) else system.get("parts")))
    given = next((body[n] for n in ("messages", "contents", "input", "prompt") if body.get(n) is not None), [])
    for message in [given] if isinstance(given, str) else given:
        parts = message.get("content", message.get("parts")) if isinstance(message, dict) else message
        results = [p for p in parts if _is_result(p)] if isinstance(parts, list) else []
        # A result of a tool is a message of its own, and so is what stands beside it.
        for result in results:
            inner = result.get("function_response") or {"response": result.get("result")}
            found.append(_said(result.get("content")) or json.dumps(inner["response"]))
        if len(results) < (len(parts) if isinstance(parts, list) and parts else 1):
            found.append(_said([p for p in parts if p not in results] if results else parts))
    return found


def llama_stack(path: Path) -> Counted:
    """What one of llama-stack's files holds."""
    data = json.loads(path.read_text(encoding="utf-8"))
    request, response = data["request"], data["response"]
    counted = Counted()
    body = request.get("body", request.get("payload"))
    if "tool_name" in request or "api" in request:
        return counted
    counted.messages = asked(body)
    answer = response.get("body")
    items = answer if isinstance(answer, list) else [answer]
    if items and isinstance(items[0], str):
        events = [line[6:] for line in items if line.startswith("data: ")]
        counted.chunks = len([event for event in events if event != "[DONE]"])
        items = [json.loads(event) for event in events if event != "[DONE]"]
    elif response.get("is_streaming"):
        counted.chunks = len(items)
    for item in items:
        if isinstance(item, dict):
            counted.take(item.get("__data__", item))
    return counted


def own(path: Path) -> Iterator[Counted]:
    """What each take of one of nbreplay's own files holds."""
    data = json.loads(path.read_text(encoding="utf-8"))
    for take in data["takes"]:
        counted = Counted(messages=asked(data["request"].get("body", {})))
        if data["kind"] == "websocket":  # of no known service: a message is its text, as `json.dumps` writes it
            counted.messages = [json.dumps(line[">"]) for _, line, *_ in take["chunks"] if ">" in line]
        if "json" in take:
            counted.take(take["json"])
        for _, value, *_ in take.get("chunks", []):
            if value == "[DONE]":
                continue
            counted.chunks += 1
            if isinstance(value, dict):
                counted.take({**take.get("common", {}), **value})
            elif isinstance(value, str):
                counted.take(json.loads(value))
        yield counted
