"""Cutting what was received of a stream into chunks, such that these give the very same bytes again.

Runs once, at the end of a stream that is being recorded; meanwhile only bytes and times were noted.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nbreplay.core.recording import aws_eventstream
from nbreplay.core.recording.body import encode_json, from_json, rewritten
from nbreplay.core.recording.stream import LONGEST_MS, Chunk, Events, Frame, encode_all, is_oversized

__all__ = ["events_of"]

_SAMPLE = 24
_NONE = "null"
"""The JSON of an event that holds none."""

_Block = tuple[str | None, str | None, str | None]
"""The whole text of an event where it has another shape than ``data: …``, else its data, and the event's name."""


class _Blocks(NamedTuple):
    """Events, field by field: when they came, in milliseconds, and what `_Block` tells of each."""

    at: list[int]
    data: Sequence[str | None]
    event: Sequence[str | None]
    whole: Sequence[str | None]


def events_of(pieces: Sequence[tuple[float, bytes]], framing: str, started: float, *, sharing: bool = True) -> Events:
    """Return what was received as a stream, such that its `data()` is those bytes again.

    Parameters
    ----------
    pieces : sequence of (float, bytes)
        Decoded bytes as they arrived, each with its time in seconds.
    framing : str
        ``sse``, ``ndjson`` or ``eventstream``.
    started : float
        When the request was sent, in seconds of the same clock.
    sharing : bool
        Whether what most chunks share is stored once.
    """
    blocks = _blocks(pieces, framing, started)
    texts = [data if data is not None and data[:1] == "{" else _NONE for data in blocks.data]
    telling = [text for text in texts if text is not _NONE]
    sample = [
        (text, value) for text in telling[:: max(1, len(telling) // _SAMPLE)] if (value := _parsed(text)) is not None
    ]
    style = _style(sample)
    fields, common = _shared([value for _, value in sample]) if sharing else ((), {})
    frame = Frame.of(fields, common, style)
    if frame is None:
        fields, common = (), {}
    values, bodies, framed = _values(texts, frame, fields, common)
    _keep_exact(values, texts, bodies, framed, Events((), framing, fields, common, style))

    # Rounding the times and not the differences keeps errors from adding up.
    gaps = list(map(operator.sub, blocks.at, [0, *blocks.at]))
    if gaps and (min(gaps) < 0 or max(gaps) > LONGEST_MS):
        gaps = [min(max(gap, 0), LONGEST_MS) for gap in gaps]
    made, new = tuple.__new__, Chunk
    chunks = [
        made(new, (gap, data if value is None else value, event, whole))  # what `Chunk(…)` does, in half the time
        for gap, data, value, event, whole in zip(gaps, blocks.data, values, blocks.event, blocks.whole, strict=True)
    ]
    if is_oversized(chunks, fields, common, style):
        return events_of(pieces, framing, started, sharing=False)
    # It stands in the file as it came: encoding it again would take as long as all else.
    verbatim = style == "compact"
    ends = {event: "]" if event is None else f",{encode_json(event)}]" for event in set(blocks.event)}
    lines = [
        f"[{chunk[0]},{body}{ends[chunk[2]]}" if value is not None and verbatim else encode_json(chunk.stored())
        for chunk, value, body in zip(chunks, values, bodies, strict=True)
    ]
    return Events(tuple(chunks), framing, fields, common, style, lines)


def _blocks(pieces: Sequence[tuple[float, bytes]], framing: str, started: float) -> _Blocks:
    """Cut what was received into events; an event arrives with the piece that holds its end."""
    data = b"".join([piece for _, piece in pieces])
    if framing == "sse" and data.startswith(b"data: ") and data.endswith(b"\n\n") and b"\r" not in data:
        text = data.decode("utf-8", "surrogateescape")
        datas = text.split("\n\ndata: ")
        datas[0] = datas[0][6:]
        datas[-1] = datas[-1][:-2]
        if not any(map(operator.contains, datas, itertools.repeat("\n"))):  # every event is one line of data
            nothing = [None] * len(datas)
            sizes = map(len, datas if text.isascii() else map(_bytes, datas))
            return _Blocks(_arrivals([size + 8 for size in sizes], pieces, started), datas, nothing, nothing)
    split, parse = _FRAMINGS[framing]
    cut = list(split(data))
    found = [parse(part.decode("utf-8", "surrogateescape")) for part in cut]
    wholes, parsed, events = zip(*found, strict=True) if found else ((), (), ())
    return _Blocks(_arrivals(map(len, cut), pieces, started), parsed, events, wholes)


def _events(data: bytes) -> list[bytes]:
    if b"\r" in data:
        return re.findall(rb"(?s).*?(?:\r\n\r\n|\n\n|\r\r)|.+", data)
    *whole, last = data.split(b"\n\n")
    return [*(event + b"\n\n" for event in whole), *([last] if last else ())]


def _arrivals(sizes: Iterable[int], pieces: Sequence[tuple[float, bytes]], started: float) -> list[int]:
    """Return when each part of `sizes` bytes was there whole, in milliseconds."""
    ends = list(itertools.accumulate([len(piece) for _, piece in pieces]))
    times = [round((time - started) * 1000) for time, _ in pieces]
    if min(times, default=0) < 0:
        times = [max(0, time) for time in times]
    wanted = list(itertools.accumulate(sizes))
    # Most servers send one event at a time.
    return times if wanted == ends else [times[bisect.bisect_left(ends, end)] for end in wanted]


def _parse_line(text: str) -> _Block:
    data = text[:-1]
    return (None, data, None) if text[-1:] == "\n" and "\r" not in data else (text, None, None)


def _parse_event(text: str) -> _Block:
    event, rest = None, text
    if text.startswith("event: "):
        event, _, rest = text[7:].partition("\n")
    if not rest.startswith("data: ") or rest[-2:] != "\n\n" or "\r" in text or "\n" in rest[6:-2]:
        return text, None, None
    return None, rest[6:-2], event


def _parse_message(text: str) -> _Block:
    found = aws_eventstream.opened(text.encode("utf-8", "surrogateescape"))
    return (text, None, None) if found is None else (None, found[1], found[0])


_FRAMINGS: Mapping[str, tuple[Callable[[bytes], Iterable[bytes]], Callable[[str], _Block]]] = {
    "sse": (_events, _parse_event),
    "ndjson": (re.compile(rb"[^\n]*\n|[^\n]+").findall, _parse_line),
    "eventstream": (aws_eventstream.split, _parse_message),
}


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        value = from_json(_bytes(text))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _values(
    texts: Sequence[str], frame: Frame | None, fields: tuple[str, ...], common: Mapping[str, Any]
) -> tuple[list[dict[str, Any] | None], Sequence[str], Sequence[bool]]:
    """Return what is stored of every text, None where that cannot be; its text less the frame; whether it has it."""
    bodies, framed = texts, [False] * len(texts)
    if frame is not None:
        start, end, cut, rest = frame.start, frame.end, len(frame.start), len(frame.end)
        framed = [text.startswith(start) and text.endswith(end) for text in texts]
        bodies = [f"{{{text[cut:-rest]}}}" if has else text for text, has in zip(texts, framed, strict=True)]
    try:
        # All in one call; where something in it is no JSON, each for itself.
        values: list[Any] = from_json(f"[{','.join(bodies)}]".encode())
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(bodies):
        values = [_parsed(body) for body in bodies]
    if frame is None:
        return [value if isinstance(value, dict) else None for value in values], bodies, framed
    usual = tuple(name for name in fields if name in frame.between)
    for index, value in enumerate(values):
        if framed[index]:
            if type(value) is not dict or (tuple(value) != usual and not frame.fits(value)):
                values[index] = None
        elif isinstance(value, dict) and _ordered(value, fields) and common.keys() <= value.keys():
            # The types too: 1, 1.0 and true are equal to Python and are not the same JSON.
            values[index] = {
                name: item
                for name, item in value.items()
                if name not in common or common[name] != item or type(common[name]) is not type(item)
            }
        else:
            values[index] = None
    return values, bodies, framed


def _keep_exact(
    values: list[dict[str, Any] | None],
    texts: Sequence[str],
    bodies: Sequence[str],
    framed: Sequence[bool],
    events: Events,
) -> None:
    """Give up, in `values`, what does not come back exactly as it was; there is no other way to be sure."""
    style, whole = events.style, not events.common
    easy = [index for index, value in enumerate(values) if value is not None and (whole or framed[index])]
    exact: set[int] = set()
    with contextlib.suppress(ValueError, RecursionError):
        # Each with its own text: broken events may make up whole ones together, and be as many.
        written = encode_all([values[index] for index in easy], style, rewritten if style == "compact" else None)
        exact = {index for index, text in zip(easy, written, strict=True) if text == bodies[index]}
    left = [index for index, value in enumerate(values) if value is not None and index not in exact]
    try:
        again: Sequence[str | None] = events.texts([values[index] or {} for index in left])
    except ValueError:
        again = [_written_alone(values[index] or {}, events) for index in left]
    for index, text in zip(left, again, strict=True):
        if text != texts[index]:
            values[index] = None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _written(value: Any, style: str) -> str | None:
    """Return `value` as JSON text, None where it cannot be: a number too large for a float has become infinite."""
    try:
        return encode_json(value, style)
    except ValueError:
        return None


def _written_alone(value: dict[str, Any], events: Events) -> str | None:
    try:
        return events.texts([value])[0]
    except ValueError:
        return None


def _ordered(value: Mapping[str, Any], fields: Sequence[str]) -> bool:
    places = iter(fields)
    return all(name in places for name in value)


def _style(samples: Sequence[tuple[str, dict[str, Any]]]) -> str:
    # Only a chunk with an escape in it tells whether the server escapes what is not ASCII.
    telling = [*samples[:8], *[sample for sample in samples if "\\u" in sample[0]][:8]]
    best, most = "compact", -1
    for style in ("compact", "spaced", "compact-ascii", "spaced-ascii"):
        fitting = sum(_written(value, style) == text for text, value in telling)
        if fitting > most:
            best, most = style, fitting
        if most == len(telling):
            break
    return best


def _shared(values: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the order of the first chunk's names, and what most chunks begin and end with."""
    if len(values) < 3:
        return (), {}
    fields = tuple(values[0])
    usual: dict[str, Any] = {}
    for name in fields:
        items = [value.get(name, _ABSENT) for value in values]
        for item in (items[len(items) // 2], items[-1]):
            if isinstance(item, str | int | float | None) and 2 * items.count(item) > len(items):
                usual[name] = item
                break
    lead = list(itertools.takewhile(usual.__contains__, fields))
    tail = list(itertools.takewhile(usual.__contains__, reversed(fields[len(lead) :])))
    common = {name: usual[name] for name in fields if name in lead or name in tail}
    fitting = sum(common.keys() <= value.keys() and _ordered(value, fields) for value in values)
    return (fields, common) if common and 2 * fitting > len(values) else ((), {})


_ABSENT = object()
