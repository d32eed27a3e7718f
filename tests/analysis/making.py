"""Stores for frames, made in a line an exchange."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbreplay
from nbreplay.analysis.library import Library
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import encode_message
from nbreplay.core.recording.take import Body
from nbreplay.core.request.request import key_of
from nbreplay.core.store.store import Store
from tests.core.making import take

CHAT, TOOL = "chat/completions", "tool"


def streamed(*values: Any, framing: str = "sse", gap: float = 0.01) -> Body:
    """A stream of JSON values (of texts, as they are), one each `gap` seconds; AWS's are names and values."""
    pieces = []
    for number, value in enumerate(values, 1):
        if framing == "eventstream":
            data = encode_message(value[0], json.dumps(value[1], separators=(",", ":")))
        else:
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            data = (f"data: {text}\n\n" if framing == "sse" else f"{text}\n").encode()
        pieces.append((number * gap, data))
    return Events.parse(pieces, framing, 0.0)


def put(
    store: Store, asked: dict[str, Any], answer: Any, *, endpoint: str = CHAT, kind: str = "chat", **more: Any
) -> str:
    """Write a take; of a tool, `asked` is its name and arguments. Return the key."""
    given = {"tool": asked["tool"], "arguments": asked["arguments"]} if kind == TOOL else None
    fields = given or {"method": "POST", "endpoint": endpoint, "body": asked}
    key = key_of(kind, fields)
    body = answer if not isinstance(answer, dict) else Json(answer)
    made = take(body, **more)
    store.write(kind, key, fields, lambda takes: [*takes, made])
    return key


def named(kind: str, key: str, number: int = 1) -> str:
    """The name of an interaction, where its digits tell it from all others."""
    return f"{kind}-{key.removeprefix('k1:')[:8]}#{number}"


def lib(folder: Path, *exchanges: Sequence[Any], **more: Any) -> Library:
    """The frames of some (request, answer) or (request, answer, options)."""
    store = Store(folder)
    for number, exchange in enumerate(exchanges):
        asked, answer, *options = exchange
        put(store, asked, answer, **{"at": number, **more, **(options[0] if options else {})})
    return nbreplay.load(folder)


def rows(frame: Any, *names: str) -> list[tuple[Any, ...]]:
    """Some columns, as tuples; None where there is no value."""
    made = frame.reset_index()[list(names)].astype(object)
    return [tuple(None if value is None or value != value else value for value in row) for row in
            made.where(made.notna(), None).itertuples(index=False)]  # fmt: skip
