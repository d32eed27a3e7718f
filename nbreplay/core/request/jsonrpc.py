"""JSON-RPC, which MCP speaks: the ids of its messages count calls, and are not a part of the request.

A request is keyed without its id, and what was recorded is given back with the id that is asked now. Knows messages;
batches stay as they are. Must not import sessions or recorders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from msgspec.structs import replace

from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.json_text import parse_object
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.stream_parser import StreamParser, parse_block
from nbreplay.core.recording.take import Body, RpcId, Take, is_rpc_id

TOKEN = "@id"
"""What stands in a canonical request where a progress token is the request's own id."""

_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
_RESPONSE = (("id",), ("result", "_meta", _SUBSCRIPTION))
_NOTIFICATION = (("params", "progressToken"), ("params", "_meta", _SUBSCRIPTION))


def without_id(body: Mapping[str, Any]) -> tuple[dict[str, Any], RpcId | None]:
    """Return a request without its id, and that id; None if it is not JSON-RPC or has no id.

    The id is left out wherever MCP repeats it: a progress token that is the id, such as the ``mcp`` package makes,
    becomes `TOKEN`, and a notification that cancels a request does not tell which.
    """
    message = dict(body)
    if body["jsonrpc"] != "2.0":
        return message, None
    own = message.pop("id") if is_rpc_id(body.get("id")) else None
    params = body.get("params")
    if not isinstance(params, dict):
        return message, own
    if body.get("method") == "notifications/cancelled" and is_rpc_id(params.get("requestId")):
        message["params"] = {name: value for name, value in params.items() if name != "requestId"}
    meta = params.get("_meta")
    if own is not None and isinstance(meta, dict) and _is_same(meta.get("progressToken"), own):
        message["params"] = {**params, "_meta": {**meta, "progressToken": TOKEN}}
    return message, own


def answer_to(take: Take, rpc_id: RpcId | None) -> Take:
    """Return a take as the answer to a request with this id: else its bytes are those that were recorded."""
    if rpc_id is None or take.rpc_id is None or _is_same(take.rpc_id, rpc_id):
        return take
    return replace(take, body=_Renumbering(take.rpc_id, rpc_id).body(take), rpc_id=rpc_id)


def has_answered(stream: StreamParser, rpc_id: RpcId | None) -> bool:
    """Tell whether a stream so far ends with the answer to the request with this id."""
    if rpc_id is None:
        return False
    message = parse_object(next((event.data for event in reversed(stream.events) if event.data is not None), None))
    return message is not None and "method" not in message and _is_same(message.get("id"), rpc_id)


def _is_same(one: Any, other: RpcId) -> bool:
    return type(one) is type(other) and bool(one == other)  # True is not 1, and neither is "1"


class _Renumbering:
    """Puts another id where the recorded one stands, in messages that answer the request."""

    def __init__(self, recorded: RpcId, rpc_id: RpcId) -> None:
        self.recorded, self.rpc_id = recorded, rpc_id

    def body(self, take: Take) -> Body:
        body = take.body
        if isinstance(body, Json):
            return Json(self.value(body.value), body.style, body.end) if isinstance(body.value, dict) else body
        if isinstance(body, Events):
            if body.framing == "eventstream":
                return body
            chunks = [self.chunk(chunk, body.common, body.framing) for chunk in body.chunks]
            return replace(body, chunks=tuple(chunks), lines=None)
        is_text = isinstance(body, Text) or "json" in take.headers.get("content-type", "")
        if "content-encoding" in take.headers or not is_text:
            return body  # a caller that reads compressed bytes gets what they were
        text = body.data().decode("utf-8", "surrogateescape")
        changed = self.text(text)
        return body if changed is text else Text(changed)

    def value(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message with the other id; itself if it has none of the request's."""
        for path in self._paths(message):
            message = _put(message, path, self.rpc_id)
        return message

    def chunk(self, chunk: Chunk, common: Mapping[str, Any], framing: str) -> Chunk:
        """Return an event with the other id, given the values that it shares with most others."""
        data, raw = chunk.data, chunk.raw
        if isinstance(data, dict):
            whole = {**common, **data}
            changed = self.value(whole)
            return chunk._replace(data=data | {path[0]: changed[path[0]] for path in self._paths(whole)})
        if raw is not None:
            text = parse_block(raw, framing)[1] or ""
            return chunk._replace(raw=raw.replace(text, self.text(text), 1))
        return chunk._replace(data=self.text(data or ""))

    def text(self, text: str) -> str:
        """Return the JSON text of a message with the other id, and every other character as it was."""
        try:
            message = json.loads(text)
            paths = self._paths(message) if isinstance(message, dict) else []
            for path in paths:
                start, end = _span(text, path)
                text = text[:start] + json.dumps(self.rpc_id) + text[end:]
        except (ValueError, RecursionError):
            pass
        return text

    def _paths(self, message: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Return where in a message the recorded id stands."""
        if message.get("jsonrpc") != "2.0":
            return []
        # A message with a method and an id is a request of the server, which counts for itself.
        paths = _RESPONSE if "method" not in message else () if "id" in message else _NOTIFICATION
        return [path for path in paths if _is_same(_at(message, path), self.recorded)]


def _at(node: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _put(node: dict[str, Any], path: tuple[str, ...], value: RpcId) -> dict[str, Any]:
    name, rest = path[0], path[1:]
    return {**node, name: _put(node[name], rest, value) if rest else value}


_decode = json.JSONDecoder().raw_decode
_BETWEEN = re.compile(r"[ \t\r\n:,]*")


def _span(text: str, path: tuple[str, ...]) -> tuple[int, int]:
    """Return where a value begins and ends in the text of a JSON object that is known to hold it."""
    start, end = _next_token(text, 0), len(text)
    for name in path:
        at = _next_token(text, start + 1)
        while text[at] != "}":
            # Of two with one name the last counts, as it does for whoever parses it.
            key, at = scanstring(text, at + 1)
            value = _next_token(text, at)
            _, after = _decode(text, value)
            if key == name:
                start, end = value, after
            at = _next_token(text, after)
    return start, end


def _next_token(text: str, at: int) -> int:
    match = _BETWEEN.match(text, at)
    return match.end() if match else at
