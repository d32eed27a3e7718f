"""Bedrock's runtime: conversations and invocations, streamed as AWS's binary events."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from tests.sdks.asked import HOLD, Answer, Asked, Route, example, fragments

__all__ = ["ROUTES"]

_USAGE = {"inputTokens": 9, "outputTokens": 7, "totalTokens": 16}
_EVENTS = "application/vnd.amazon.eventstream"


def _event(kind: str, data: Any) -> bytes:
    """Write one event: sizes and their checksum, headers, payload, and the checksum of it all."""
    named = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in named.items()
    )
    payload = json.dumps(data, ensure_ascii=False).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def converse(asked: Asked) -> Answer:
    """A conversation's next turn: text, or the use of a tool."""
    model, streams = asked.groups
    headers = {"x-amzn-requestid": f"amzn-{asked.number}"}
    if model == "missing":
        told = {"message": f"no model missing ({asked.number})"}
        return Answer(told, headers={**headers, "x-amzn-errortype": "ResourceNotFoundException"}, status=404)
    tools = asked.body.get("toolConfig", {}).get("tools") or []
    blocks: list[dict[str, Any]] = [{"text": "".join(asked.words("hello"))}]
    if tools and not any("toolResult" in block for block in asked.body["messages"][-1]["content"]):
        spec = tools[0]["toolSpec"]
        use = {"toolUseId": f"tooluse_{asked.number}", "name": spec["name"]}
        blocks.append({"toolUse": {**use, "input": example(spec["inputSchema"]["json"])}})
    reason = "tool_use" if len(blocks) > 1 else "end_turn"
    if streams:
        return Answer(_converse_events(asked, blocks, reason), _EVENTS, headers)
    message = {"role": "assistant", "content": blocks}
    told = {"output": {"message": message}, "stopReason": reason, "usage": _USAGE}
    return Answer({**told, "metrics": {"latencyMs": asked.number}}, headers=headers)


def _converse_events(asked: Asked, blocks: list[dict[str, Any]], reason: str) -> Iterator[bytes]:
    yield _event("messageStart", {"role": "assistant"})
    for index, block in enumerate(blocks):
        where, use = {"contentBlockIndex": index}, block.get("toolUse")
        if use:
            started = {"toolUse": {name: use[name] for name in ("toolUseId", "name")}}
            yield _event("contentBlockStart", {"start": started, **where})
        pieces = fragments(json.dumps(use["input"])) if use else asked.words("hello")
        for position, piece in enumerate(pieces):
            delta = {"toolUse": {"input": piece}} if use else {"text": piece}
            yield _event("contentBlockDelta", {"delta": delta, **where, "p": "abcdefgh"[: position + 1]})
            if not index and not position:
                yield HOLD
        yield _event("contentBlockStop", where)
    yield _event("messageStop", {"stopReason": reason})
    yield _event("metadata", {"usage": _USAGE, "metrics": {"latencyMs": asked.number}})


def invoke(asked: Asked) -> Answer:
    """A model's own form of answer, as bytes or as events with bytes in them."""
    headers = {"x-amzn-requestid": f"amzn-{asked.number}", "x-amzn-bedrock-output-token-count": "7"}
    if not asked.groups[1]:
        return Answer({"completion": "".join(asked.words("hello")), "count": asked.number}, headers=headers)

    def pieces() -> Iterator[bytes]:
        for position, word in enumerate(asked.words("hello")):
            inner = json.dumps({"completion": word}).encode()
            yield _event("chunk", {"bytes": base64.b64encode(inner).decode()})
            if not position:
                yield HOLD

    return Answer(pieces(), _EVENTS, headers)


ROUTES: list[Route] = [
    ("POST", re.compile(r"/model/([^/]+)/converse(-stream)?"), converse),
    ("POST", re.compile(r"/model/([^/]+)/invoke(-with-response-stream)?"), invoke),
]
