"""google-genai's objects as they go over the wire and back: names in snake case there, in camel case here.

A fixed table says which fields move where. The user's own data (arguments, results, schemas) is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_Node = TypeVar("_Node")

METHODS: Mapping[str, str] = {
    "/generate_content": "generateContent",
    "/generate_content_stream": "streamGenerateContent",
    "/embed_content": "embedContent",
}
"""The endpoints that llama-stack names, and the methods that they are on the wire."""

# Of the fields of a config, those that stand beside "generationConfig"; the others stand in it.
_BESIDE = (
    *("system_instruction", "safety_settings", "tools", "tool_config", "labels", "cached_content"),
    *("model_armor_config", "service_tier", "continuation_token"),
)
_OWN = frozenset({"args", "response", "labels", "parameters"})  # whose names are the user's
_SCHEMAS = ("_schema", "Schema")  # names are kept as well as what is below them, but for the first letter's case


def to_wire(node: _Node) -> _Node:
    """Return data with its names in camel case."""
    wire: _Node = _rename(node, lambda name: re.sub(r"(?<=[a-z0-9])_([a-z])", lambda found: found[1].upper(), name))
    return wire


def from_wire(node: _Node) -> _Node:
    """Return data with its names in snake case."""
    own: _Node = _rename(node, lambda name: re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), name))
    return own


def _rename(node: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(node, list):
        return [_rename(item, rename) for item in node]
    if not isinstance(node, dict):
        return node
    renamed = {}
    for name, item in node.items():
        if name.endswith("_json_schema"):  # which the SDK sends as it is
            renamed[name] = item
        else:
            own = name in _OWN or name.endswith(_SCHEMAS)
            renamed[rename(name)] = item if own else _rename(item, rename)
    return renamed


def request_to_wire(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that is sent for the arguments of a call, its model left out: that stands in the path."""
    sent = {name: to_wire(item) for name, item in body.items() if name not in ("model", "config")}
    config = body.get("config")
    if not isinstance(config, dict):
        return sent
    beside = {name: item for name, item in config.items() if name in _BESIDE}
    instruction = beside.get("system_instruction")
    if isinstance(instruction, str):
        beside["system_instruction"] = {"parts": [{"text": instruction}], "role": "user"}
    inside = {name: item for name, item in config.items() if name not in _BESIDE}
    return {**sent, **to_wire(beside), "generationConfig": to_wire(inside)}


def request_from_wire(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the arguments of a call for which `body` was sent."""
    arguments: dict[str, Any] = from_wire(dict(body))
    config = arguments.pop("generation_config", None)
    if isinstance(config, dict):
        beside = {name: arguments.pop(name) for name in _BESIDE if name in arguments}
        match beside.get("system_instruction"):
            case {"parts": [{"text": str(text), **more}], "role": "user", **rest} if not more and not rest:
                beside["system_instruction"] = text
        arguments["config"] = {**config, **beside}
    return {"model": model, **arguments}
