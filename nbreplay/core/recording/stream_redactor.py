"""Secrets in streams: a model writes a key a few letters a chunk, so that no chunk holds it and all of them do."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from nbreplay.core.recording.body import encode_json
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.stream_parser import events_of
from nbreplay.core.secrets.redact import Redactor

__all__ = ["scrubbed", "text_of", "without_secrets"]

# What models write piece by piece.
_TEXTS = re.compile(
    r'"(?:content|text|delta|arguments|input|partial_json|reasoning\w*|thinking|refusal|response)":\s?'
    r'"([^"\\]*(?:\\.[^"\\]*)*)"'
)
_PLACES = ("index", "output_index", "content_index", "contentBlockIndex", "item_id")


def text_of(events: Events) -> str:
    """Return all text of a stream, to look for secrets in: as stored, where what the chunks share is there once."""
    if events.style != "compact" or any(chunk.raw is not None for chunk in events.chunks):
        return _received(events)
    return "\n".join([*events.stored_lines(), encode_json(dict(events.common or {}))])


def _received(events: Events) -> str:
    return events.data().decode("utf-8", "surrogateescape")


def scrubbed(events: Events, redactor: Redactor) -> list[bytes] | None:
    """Return the bytes of each chunk without the secrets that are spread over several; None where there are none.

    Where one starts, ``[secret:N]`` stands; the rest of it is left out of the chunks that follow.
    """
    # What a model writes may be among what the chunks share, and is then not in all its places.
    shared = any(_TEXTS.match(f'"{name}":""') for name in events.common or ())
    text = _received(events) if shared else text_of(events)
    # Where several answers or calls come by turns, only each for itself shows what it says.
    others = text.count('ndex":') - text.count('ndex":0')
    by_turns = others and others != text.count('ndex": 0')
    if not by_turns and not redactor.finds("".join(_TEXTS.findall(text))):
        return None
    parts = events.opened()
    before_all = list(parts)
    values: list[tuple[int, Any, str]] = []
    for index, text in enumerate(parts):
        found = re.search(r"\{.*\}", text)
        if found:
            try:
                values.append((index, json.loads(found.group()), found.group()))
            except (ValueError, RecursionError):
                continue
    channels: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
    for _, value, _ in values:
        for channel, holder, name in _leaves(value, ()):
            channels.setdefault(channel, []).append((holder, name))
    for leaves in channels.values():
        _scrub(leaves, redactor)
    for index, value, before in values:
        if json.loads(before) != value:
            after = encode_json(value, events.style)
            parts[index] = parts[index].replace(before, after, 1)
    return events.sealed(parts) if parts != before_all else None


def _leaves(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Yield each text of an event with what joins it to those of other events: its path, and which item it is of."""
    if isinstance(node, dict):
        path = (*path, *(str(node[name]) for name in _PLACES if name in node))
        for name, item in node.items():
            if isinstance(item, str):
                yield (*path, name), node, name
            else:
                yield from _leaves(item, (*path, name))
    elif isinstance(node, list):
        for index, item in enumerate(node):
            if isinstance(item, str):
                yield (*path, index), node, index
            else:
                yield from _leaves(item, path)


def _scrub(leaves: Sequence[tuple[Any, Any]], redactor: Redactor) -> None:
    whole = "".join([holder[name] for holder, name in leaves])
    found = redactor.spans(whole)
    at = 0
    for holder, name in leaves:
        text = holder[name]
        start, at = at, at + len(text)
        made, done = "", start
        for first, last, instead in found:
            if last <= start or first >= at:
                continue
            made += whole[done : max(first, start)] + (instead if first >= start else "")
            done = min(last, at)
        if done > start or made:
            holder[name] = made + whole[done:at]


def without_secrets(events: Events, redactor: Redactor) -> Events:
    """Return a stream without its secrets, those included that are spread over several chunks.

    Raises
    ------
    RecordingFormatError
        Where a secret is in a message that cannot be written again.
    """
    unspread = scrubbed(events, redactor)
    if unspread is not None:
        events = _cut_anew(events, unspread)
    if redactor.finds(text_of(events)):
        events = _cut_anew(events, events.sealed([redactor.text(text) for text in events.opened()]))
    return events


def _cut_anew(events: Events, parts: Sequence[bytes]) -> Events:
    """Cut the events anew after something was removed from them, each with its time."""
    times = itertools.accumulate(chunk.gap_ms for chunk in events.chunks)
    return events_of([(at / 1000, part) for at, part in zip(times, parts, strict=True)], events.framing, 0.0)
