"""JSON-RPC, which MCP speaks: the ids of its messages count calls, and say nothing of what is asked.

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

from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json, Text
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.stream_parser import StreamParser, parse_block
from nbreplay.core.recording.take import Body, RpcId, Take, is_rpc_id

__all__ = ["TOKEN", "answering", "has_answered", "without_id"]

TOKEN = "@id"
"""What stands in a canonical request where a progress token is the request's own id."""

_SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
_RESPONSE = (("id",), ("result", "_meta", _SUBSCRIPTION))
_NOTIFICATION = (("params", "progressToken"), ("params", "_meta", _SUBSCRIPTION))


def without_id(body: Mapping[str, Any]) -> tuple[dict[str, Any], RpcId | None]:
    """Return a request without its id, and that id; None where it is no JSON-RPC or has no id.

    The id is left out wherever MCP repeats it: a progress token that is the id, such as the ``mcp`` package makes,
    becomes `TOKEN`, and a notification that cancels a request does not tell which.
    """
    made = dict(body)
    if body["jsonrpc"] != "2.0":
        return made, None
    own = made.pop("id") if is_rpc_id(body.get("id")) else None
    params = body.get("params")
    if not isinstance(params, dict):
        return made, own
    if body.get("method") == "notifications/cancelled" and is_rpc_id(params.get("requestId")):
        made["params"] = {name: value for name, value in params.items() if name != "requestId"}
    meta = params.get("_meta")
    if own is not None and isinstance(meta, dict) and _same(meta.get("progressToken"), own):
        made["params"] = {**params, "_meta": {**meta, "progressToken": TOKEN}}
    return made, own


def answering(take: Take, asked: RpcId) -> Take:
    """Return a take as the answer to a request with the id `asked`: else its bytes are those that were recorded."""
    recorded = take.rpc_id
    if recorded is None or _same(recorded, asked):
        return take
    return replace(take, body=_body(take, _Change(recorded, asked)), rpc_id=asked)


def has_answered(stream: StreamParser, asked: RpcId | None) -> bool:
    """Tell whether what has come of a stream ends with the answer to the request with the id `asked`."""
    if asked is None:
        return False
    last = next((event.data for event in reversed(stream.events) if event.data is not None), "")
    try:
        message = json.loads(last)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and "method" not in message and _same(message.get("id"), asked)


def _same(one: Any, other: RpcId) -> bool:
    return type(one) is type(other) and bool(one == other)  # True is not 1, and neither is "1"


def _body(take: Take, change: _Change) -> Body:
    body = take.body
    if isinstance(body, Json):
        return Json(change.value(body.value), body.style, body.end) if isinstance(body.value, dict) else body
    if isinstance(body, Events):
        if body.framing == "eventstream":
            return body
        common = body.common or {}
        return replace(
            body, chunks=tuple([change.chunk(chunk, common, body.framing) for chunk in body.chunks]), lines=None
        )
    if "content-encoding" in take.headers:
        return body  # its caller reads compressed bytes, which stay what they were
    if isinstance(body, Text):
        return Text(change.text(body.text))
    return _read(body, change) if "json" in take.headers.get("content-type", "") else body


def _read(body: Blob, change: _Change) -> Body:
    text = body.data().decode("utf-8", "surrogateescape")
    made = change.text(text)
    return body if made is text else Text(made)


class _Change:
    """Puts the id that is asked now where the recorded one stands, in messages that answer the request."""

    def __init__(self, recorded: RpcId, asked: RpcId) -> None:
        self.recorded, self.asked = recorded, asked

    def value(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message with the other id; itself where it has none of the request's."""
        for path in self._paths(message):
            message = _put(message, path, self.asked)
        return message

    def chunk(self, chunk: Chunk, common: Mapping[str, Any], framing: str) -> Chunk:
        """Return an event with the other id, given what it shares with most others."""
        data, raw = chunk.data, chunk.raw
        if isinstance(data, dict):
            whole = {**common, **data}
            for path in self._paths(whole):
                data = {**data, path[0]: _put(whole, path, self.asked)[path[0]]}
                whole = {**whole, **data}
            return chunk if data is chunk.data else chunk._replace(data=data)
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
                text = text[:start] + json.dumps(self.asked) + text[end:]
        except (ValueError, RecursionError):
            return text
        return text

    def _paths(self, message: Mapping[str, Any]) -> list[tuple[str, ...]]:
        """Return where in a message the recorded id stands."""
        if message.get("jsonrpc") != "2.0":
            return []
        # A message with a method and an id is a request of the server, which counts for itself.
        paths = _RESPONSE if "method" not in message else () if "id" in message else _NOTIFICATION
        return [path for path in paths if _same(_at(message, path), self.recorded)]


def _at(node: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _put(node: dict[str, Any], path: tuple[str, ...], value: RpcId) -> dict[str, Any]:
    name, rest = path[0], path[1:]
    return {**node, name: _put(node[name], rest, value) if rest else value}


_decode = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\r\n]*")


def _span(text: str, path: tuple[str, ...]) -> tuple[int, int]:
    """Return where a value begins and ends in the text of a JSON object that is known to hold it."""
    start, end = _space(text, 0), len(text)
    for name in path:
        at = _space(text, start + 1)
        while text[at] != "}":
            # Of two with one name the last counts, as it does for whoever parses it.
            key, at = scanstring(text, at + 1)
            value = _space(text, _space(text, at) + 1)
            _, after = _decode(text, value)
            if key == name:
                start, end = value, after
            at = _space(text, after)
            at = _space(text, at + 1) if text[at] == "," else at
    return start, end


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
