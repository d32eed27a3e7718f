"""What a recorded tool returned or raised, as data."""

from __future__ import annotations

from typing import Any

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.take import Take
from nbreplay.providers.pieces import values

__all__ = ["tool_error", "tool_value"]


def tool_error(take: Take) -> str | None:
    """Return the class of the exception that a recorded tool raised, or None."""
    for _, value, _ in values(take.body):
        raised = None if value is None else value.get("exception")
        if isinstance(raised, dict):
            return str(raised.get("type", "Exception"))
    return None


def tool_value(take: Take) -> Any:
    """Return what a recorded tool returned as JSON data; of a generator, a list of what it yielded."""
    found = [value for _, value, _ in values(take.body) if value is not None]
    made = [next(iter(value.values())) if len(value) == 1 else value for value in found]
    return made[0] if isinstance(take.body, Json) and made else made
