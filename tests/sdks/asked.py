"""A request as the tests' server of all SDKs sees it, and the means to answer it.

Every answer holds the running number of its request, so that a live answer never equals a replayed one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HOLD", "JSON", "NDJSON", "SSE", "Answer", "Asked", "Route", "events", "example", "fragments"]

JSON, SSE, NDJSON = "application/json", "text/event-stream; charset=utf-8", "application/x-ndjson"
HOLD = b""
"""In a stream: what follows is sent when the caller has told that what came before has reached it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes
    ----------
    number : int
        Its running number, which the answer has to hold.
    arrival : int
        How many requests just like it came before.
    method, path : str
    body : dict
        The JSON body, or the fields of a form with its files as (name, content).
    groups : tuple of str
        What the route's pattern caught of the path.
    """

    number: int
    arrival: int
    method: str
    path: str
    body: Mapping[str, Any]
    groups: tuple[str, ...] = ()

    def words(self, question: object = "") -> list[str]:
        """Return the text of an answer, in the pieces in which it is streamed."""
        return [f"answer {self.number}", " to:", f" {question}", " \u6f22\u5b57", " \U0001f642 done"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: data that becomes JSON, bytes, or the pieces of a stream."""

    body: Any
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


Route = tuple[str, re.Pattern[str], Callable[[Asked], Answer | None]]
"""A method, the pattern of a whole path, and what answers it; None leaves it to others."""


def events(pairs: Iterable[tuple[str, Any] | bytes]) -> Iterator[bytes]:
    """Write server-sent events, each a name (or ``""``) and data; a `HOLD` among them stays one."""
    for pair in pairs:
        if isinstance(pair, bytes):
            yield pair
            continue
        name, data = pair
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        yield (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def fragments(text: str) -> list[str]:
    """Cut a text into the pieces in which a model would send it."""
    return [text[start : start + 6] for start in range(0, len(text), 6)]


def example(schema: Mapping[str, Any]) -> Any:
    """Return a value that fits a simple JSON schema."""
    kind = str(schema.get("type", "object")).lower()
    if kind == "object":
        return {name: example(inner) for name, inner in (schema.get("properties") or {}).items()}
    simple: dict[str, Any] = {"array": [], "boolean": True, "integer": 3, "number": 1.5, "null": None}
    return schema["enum"][0] if "enum" in schema else simple.get(kind, "Tokyo")
