"""Secrets in streams: a model writes a key a few letters a chunk, so that no chunk holds it and all of them do."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from nbreplay.core.recording.json_text import encode_json
from nbreplay.core.recording.stream import Events
from nbreplay.core.secrets.redact import Redactor

# What models write piece by piece.
_TEXTS = re.compile(
    r'"(?:content|text|delta|arguments|input|partial_json|reasoning\w*|thinking|refusal|response)":\s?'
    r'"([^"\\]*(?:\\.[^"\\]*)*)"'
)
_PLACES = ("index", "output_index", "content_index", "contentBlockIndex", "item_id")
_OBJECT = re.compile(r"\{.*\}")


def redact_stream(events: Events, redactor: Redactor) -> Events:
    """Return a stream without its secrets, those included that are spread over several chunks.

    Raise RecordingFormatError if a secret is in a message that cannot be written again.
    """
    parts = remove_spread_secrets(events, redactor)
    if parts is not None:
        events = _parse_again(events, parts)
    if redactor.finds(_searchable_text(events)):
        texts = [redactor.text(text) for text in events.readable_parts()]
        events = _parse_again(events, events.encode_parts(texts))
    return events


def _parse_again(events: Events, parts: Sequence[bytes]) -> Events:
    """Return the stream of these parts, each at the time of its chunk."""
    times = itertools.accumulate(chunk.gap_ms for chunk in events.chunks)
    pieces = [(at / 1000, part) for at, part in zip(times, parts, strict=True)]
    return Events.parse(pieces, events.framing, 0.0)


def _searchable_text(events: Events) -> str:
    """Return all text of a stream. What the chunks share is there once, unless they were not written compactly."""
    if events.style != "compact" or any(chunk.raw is not None for chunk in events.chunks):
        return _received_text(events)
    return "\n".join([*events.stored_chunks(), encode_json(dict(events.common))])


def _received_text(events: Events) -> str:
    return events.data().decode("utf-8", "surrogateescape")


def remove_spread_secrets(events: Events, redactor: Redactor) -> list[bytes] | None:
    """Return the bytes of each chunk without the secrets that are spread over several; None if there are none.

    Where one starts, ``[secret:N]`` stands; the rest of it is left out of the chunks that follow.
    """
    # What a model writes may be among what the chunks share, and is then not in all its places.
    shared = any(_TEXTS.match(f'"{name}":""') for name in events.common)
    text = _received_text(events) if shared else _searchable_text(events)
    # Where several answers or calls come by turns, only each for itself shows what it says.
    others = text.count('ndex":') - text.count('ndex":0')
    by_turns = others and others != text.count('ndex": 0')
    if not by_turns and not redactor.finds("".join(_TEXTS.findall(text))):
        return None
    parts = events.readable_parts()
    objects = list(_objects(parts))
    channels: dict[tuple[Any, ...], list[tuple[Any, Any]]] = defaultdict(list)
    for _, _, value in objects:
        for channel, holder, name in _leaves(value, ()):
            channels[channel].append((holder, name))
    for leaves in channels.values():
        texts = redactor.pieces([holder[name] for holder, name in leaves])
        for (holder, name), text in zip(leaves, texts, strict=True):
            holder[name] = text
    redacted = list(parts)
    for index, text, value in objects:
        if json.loads(text) != value:
            redacted[index] = parts[index].replace(text, encode_json(value, events.style), 1)
    return events.encode_parts(redacted) if redacted != parts else None


def _objects(parts: Sequence[str]) -> Iterator[tuple[int, str, Any]]:
    """Yield each JSON object in a stream with the number of its part and its text there."""
    for index, part in enumerate(parts):
        if match := _OBJECT.search(part):
            with contextlib.suppress(ValueError, RecursionError):
                yield index, match.group(), json.loads(match.group())


def _leaves(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Yield each text of an event, with the channel that joins it to texts of other events, and its place."""
    if isinstance(node, dict):
        path = (*path, *(str(node[name]) for name in _PLACES if name in node))
    for place, item in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if isinstance(item, str):
            yield (*path, place), node, place
        else:
            yield from _leaves(item, path if isinstance(node, list) else (*path, place))
