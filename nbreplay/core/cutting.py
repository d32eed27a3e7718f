"""Cutting what was received of a stream into chunks, such that these give the very same bytes again.

Runs once, at the end of a stream that is being recorded; meanwhile only bytes and times were noted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nbreplay.core.stream import Chunk, Events, lead_of
from nbreplay.core.wire import encode_json

__all__ = ["events_of"]

_SAMPLE = 64
_EMPTY: Mapping[str, Any] = {}


class _Block(NamedTuple):
    at_ms: int
    text: str
    data: str | None  # None where the block has another shape than "data: …"
    event: str | None


def events_of(pieces: Sequence[tuple[float, bytes]], framing: str, started: float) -> Events:
    """Return what was received as a stream, such that its `data()` is those bytes again.

    Parameters
    ----------
    pieces : sequence of (float, bytes)
        Decoded bytes as they arrived, each with its time in seconds.
    framing : str
        ``sse`` or ``ndjson``.
    started : float
        When the request was sent, in seconds of the same clock.
    """
    blocks = _blocks(pieces, framing, started)
    texts = [block.data for block in blocks if block.data is not None and block.data[:1] == "{"]
    sample = [(text, value) for text in texts[:: max(1, len(texts) // _SAMPLE)] if (value := _parsed(text)) is not None]
    style = _style(sample)
    fields, common = _shared([value for _, value in sample])
    values = _values(texts, fields, common, style)

    # What does not come back exactly as it was is kept as text; there is no other way to be sure.
    events = Events((), framing, fields, common, style)
    good = [index for index, value in enumerate(values) if value is not None]
    again = events.texts([values[index] or {} for index in good])
    for index, text in zip(good, again, strict=True):
        if text != texts[index]:
            values[index] = None

    chunks, before, found = [], 0, iter(zip(texts, values, strict=True))
    for at, whole, data, event in blocks:
        # Rounding the times and not the differences keeps errors from adding up.
        gap, before = at - before, at
        if data is None:
            chunks.append(Chunk(gap, None, None, whole))
        elif data[:1] == "{":
            text, value = next(found)
            chunks.append(Chunk(gap, text if value is None else value, event))
        else:
            chunks.append(Chunk(gap, data, event))
    if common and sum(value is not None for value in values) * 2 < len(values):
        return events_of_plain(chunks, texts, framing, style)
    return Events(tuple(chunks), framing, fields, common, style)


def events_of_plain(chunks: list[Chunk], texts: list[str], framing: str, style: str) -> Events:
    """Return the stream without shared values, where most chunks do not have them."""
    values = [_parsed(text) for text in texts]
    exact = iter([v if v is not None and encode_json(v, style) == t else t for v, t in zip(values, texts, strict=True)])
    whole = [
        chunk._replace(data=next(exact)) if isinstance(chunk.data, dict) or str(chunk.data)[:1] == "{" else chunk
        for chunk in chunks
    ]
    return Events(tuple(whole), framing, (), {}, style)


def _blocks(pieces: Sequence[tuple[float, bytes]], framing: str, started: float) -> list[_Block]:
    """Cut what was received into events; an event arrives with the piece that holds its end."""
    data = b"".join([piece for _, piece in pieces])
    if framing == "ndjson":
        cut = data.splitlines(keepends=True) if b"\r" not in data else re.findall(rb"[^\n]*\n|[^\n]+", data)
    elif b"\r" in data:
        cut = re.findall(rb".*?(?:\r\n\r\n|\n\n|\r\r)|.+", data, re.S)
    else:
        cut = [part + b"\n\n" for part in data.split(b"\n\n")]
        last = cut.pop()[:-2]
        if last:
            cut.append(last)
    blocks, start, arrivals = [], 0, iter(pieces)
    end, at = 0, 0
    parse = _parse_line if framing == "ndjson" else _parse_event
    for part in cut:
        start += len(part)
        while end < start:
            time, piece = next(arrivals)
            end += len(piece)
            at = max(0, round((time - started) * 1000))
        text = part.decode("utf-8", "surrogateescape")
        blocks.append(_Block(at, text, *parse(text)))
    return blocks


def _parse_line(text: str) -> tuple[str | None, str | None]:
    data = text[:-1]
    return (data, None) if text[-1:] == "\n" and "\r" not in data else (None, None)


def _parse_event(text: str) -> tuple[str | None, str | None]:
    event, rest = None, text
    if text.startswith("event: "):
        event, _, rest = text[7:].partition("\n")
    if not rest.startswith("data: ") or rest[-2:] != "\n\n":
        return None, None
    data = rest[6:-2]
    if "\n" in data or "\r" in text:
        return None, None
    return data, event


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_decode = json.JSONDecoder(parse_constant=_refuse).decode  # NaN and Infinity are no JSON


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        value = _decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _values(
    texts: Sequence[str], fields: tuple[str, ...], common: Mapping[str, Any], style: str
) -> list[dict[str, Any] | None]:
    """Return the JSON of every text without the values of `common`, None where that cannot be."""
    lead = lead_of(fields, common)
    separator = ", " if style.startswith("spaced") else ","
    start = encode_json(lead, style)[:-1] + separator if lead else "{"
    cut = len(start)
    short = [text.startswith(start) for text in texts]
    bodies = ["{" + text[cut:] if s else text for text, s in zip(texts, short, strict=True)]
    try:
        # All in one call; where something in it is no JSON, each for itself.
        values: list[Any] = _decode("[" + ",".join(bodies) + "]")
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(bodies):
        values = [_parsed(body) for body in bodies]
    rest = {name: common[name] for name in common if name not in lead}
    own = tuple(name for name in fields if name not in lead)
    names = lead.keys()
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            values[index] = None
        elif not common:
            continue
        elif short[index] and (tuple(value) == own or (_ordered(value, own) and rest.keys() <= value.keys())):
            # The types too: 1, 1.0 and true are equal to Python and are not the same JSON.
            for name, item in rest.items():
                if value[name] == item and type(value[name]) is type(item):
                    del value[name]
        elif not short[index] and _ordered(value, fields) and common.keys() <= value.keys():
            for name, item in common.items():
                if value[name] == item and type(value[name]) is type(item):
                    del value[name]
        else:
            values[index] = None
        if common and short[index] and values[index] is not None and not names.isdisjoint(value):
            values[index] = None
    return values


def _ordered(value: Mapping[str, Any], fields: Sequence[str]) -> bool:
    places = iter(fields)
    return all(name in places for name in value)


def _style(samples: Sequence[tuple[str, dict[str, Any]]]) -> str:
    # Only a chunk with an escape in it tells whether the server escapes what is not ASCII.
    telling = [*samples[:8], *[sample for sample in samples if "\\u" in sample[0]][:8]]
    styles = ("compact", "spaced", "compact-ascii", "spaced-ascii")
    return max(styles, key=lambda style: sum(encode_json(value, style) == text for text, value in telling))


def _shared(values: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Return the order of the first chunk's names, and the plain values that most chunks have."""
    if len(values) < 3:
        return (), _EMPTY
    fields = tuple(values[0])
    common: dict[str, Any] = {}
    for name in fields:
        items = [value.get(name, _ABSENT) for value in values]
        for item in (items[len(items) // 2], items[-1]):
            if isinstance(item, str | int | float | None) and 2 * items.count(item) > len(items):
                common[name] = item
                break
    fitting = sum(common.keys() <= value.keys() and _ordered(value, fields) for value in values)
    return (fields, common) if common and 2 * fitting > len(values) else ((), _EMPTY)


_ABSENT = object()
