"""Ids that answers issue, for later requests to stand on: of responses, files, and the items and calls in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Body

__all__ = ["issued_by"]

_SHORTEST = 6  # characters; a shorter one may be anything


def issued_by(body: Body) -> list[str]:
    """Return the ids that an answer brings: its own, and those of the items that the service remembers with it."""
    if isinstance(body, Json):
        return list(_of(body.value))
    if not isinstance(body, Events):
        return []
    found: list[str] = []
    if body.common:
        found += _of(body.common)
    for number, chunk in enumerate(body.chunks):
        data = chunk.data
        if type(data) is dict and (number == 0 or "response" in data or "item" in data):
            found += _of(data)
            found += _of(data.get("response"))
            found += _of({"output": [data.get("item")]})
    return list(dict.fromkeys(found))


def _of(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    items = value.get("output")
    for holder in (value, *(items if isinstance(items, list) else ())):
        if isinstance(holder, dict):
            for name in ("id", "call_id"):
                own = holder.get(name)
                if isinstance(own, str) and len(own) >= _SHORTEST:
                    yield own
