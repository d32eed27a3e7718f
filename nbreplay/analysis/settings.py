"""Settings of a request, whichever provider's shape it has; and how many tools it offers. Imports no pandas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbreplay.providers.deltas import dicts

__all__ = ["number", "tools_of"]

_SETTINGS = ("generationConfig", "generation_config", "inferenceConfig", "options")


def number(body: Any, names: Iterable[str]) -> float | None:
    """Return a setting: the first of `names` that the body, or the object in it that holds settings, has."""
    if not isinstance(body, dict):
        return None
    holders = [body, *[body[name] for name in _SETTINGS if name in body and isinstance(body[name], dict)]]
    for holder in holders:
        for name in names:
            if name in holder and type(holder[name]) in (int, float):
                return holder[name]  # type: ignore[no-any-return]
    return None


_OFFERS = {"tools", "functions", "toolConfig"}


def tools_of(body: Any) -> int:
    """Return how many tools a request offers."""
    if not isinstance(body, dict):
        return 0
    if not body.keys() & _OFFERS:
        return 0
    config = body.get("toolConfig")
    found = dicts(body.get("tools")) + dicts(body.get("functions"))
    found += dicts(config.get("tools")) if isinstance(config, dict) else []
    declared = [tool.get("functionDeclarations", tool.get("function_declarations")) for tool in found]
    return sum(len(inner) if isinstance(inner, list) else 1 for inner in declared)
