"""Cutting what was received of a stream into chunks, such that these give the very same bytes again.

Runs once, at the end of a stream that is being recorded; meanwhile only bytes and times were noted.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nbreplay.core import eventstream
from nbreplay.core.stream import Chunk, Events, Frame
from nbreplay.core.wire import compact, encode_json, from_json

__all__ = ["events_of"]

_SAMPLE = 24


_Block = tuple[int, str, str | None, str | None]
"""Time in ms, the whole text where it has another shape than ``data: …``, else its data, and the event's name."""


def events_of(pieces: Sequence[tuple[float, bytes]], framing: str, started: float) -> Events:
    """Return what was received as a stream, such that its `data()` is those bytes again.

    Parameters
    ----------
    pieces : sequence of (float, bytes)
        Decoded bytes as they arrived, each with its time in seconds.
    framing : str
        ``sse``, ``ndjson`` or ``eventstream``.
    started : float
        When the request was sent, in seconds of the same clock.
    """
    blocks = _blocks(pieces, framing, started)
    texts = [data for _, _, data, _ in blocks if data is not None and data[:1] == "{"]
    sample = [(text, value) for text in texts[:: max(1, len(texts) // _SAMPLE)] if (value := _parsed(text)) is not None]
    style = _style(sample)
    fields, common = _shared([value for _, value in sample])
    frame = Frame.of(fields, common, style)
    if frame is None:
        fields, common = (), {}
    values, inner = _values(texts, frame, fields, common)
    _keep_exact(values, texts, inner, Events((), framing, fields, common, style))

    chunks: list[Chunk] = []
    lines: list[str] = []
    before, found, made, verbatim = 0, zip(texts, values, inner, strict=True), tuple.__new__, style == "compact"
    for at, whole, data, event in blocks:
        # Rounding the times and not the differences keeps errors from adding up.
        gap, before = at - before, at
        text, value, between = next(found) if data is not None and data[:1] == "{" else ("", None, "")
        if value is not None and verbatim:
            chunks.append(made(Chunk, (gap, value, event, None)))  # what `Chunk(…)` does, in half the time
            # It stands in the file as it came: encoding it again would take as long as all else.
            lines.append(
                f"[{gap},{between or text}]" if event is None else f"[{gap},{between or text},{encode_json(event)}]"
            )
        else:
            chunk = (
                Chunk(gap, None, None, whole) if data is None else Chunk(gap, data if value is None else value, event)
            )
            chunks.append(chunk)
            lines.append(encode_json(chunk.stored()))
    return Events(tuple(chunks), framing, fields, common, style, lines)


def _blocks(pieces: Sequence[tuple[float, bytes]], framing: str, started: float) -> list[_Block]:
    """Cut what was received into events; an event arrives with the piece that holds its end."""
    data = b"".join([piece for _, piece in pieces])
    usual = framing == "sse" and b"\r" not in data
    parse = {"sse": _parse_event, "ndjson": _parse_line, "eventstream": _parse_message}[framing]
    over = 0
    if usual:
        cut = data.split(b"\n\n")
        over = 2
    elif framing == "eventstream":
        cut = [*eventstream.split(data), b""]
    else:
        cut = re.findall(rb"[^\n]*\n|[^\n]+" if framing == "ndjson" else rb"(?s).*?(?:\r\n\r\n|\n\n|\r\r)|.+", data)
        cut.append(b"")
    last = cut.pop()
    blocks: list[_Block] = []
    arrivals = iter(pieces)
    start = end = at = 0
    for part in cut:
        start += len(part) + over
        if end < start:
            while end < start:
                time, piece = next(arrivals)
                end += len(piece)
            at = round((time - started) * 1000) if time > started else 0
        text = part.decode("utf-8", "surrogateescape")
        if usual and text[:6] == "data: " and "\n" not in text:
            blocks.append((at, "", text[6:], None))
        else:
            blocks.append((at, *parse(text + "\n\n" if usual else text)))
    if last:
        at = max(0, round((pieces[-1][0] - started) * 1000))
        blocks.append((at, last.decode("utf-8", "surrogateescape"), None, None))
    return blocks


def _parse_line(text: str) -> tuple[str, str | None, str | None]:
    data = text[:-1]
    return text, data if text[-1:] == "\n" and "\r" not in data else None, None


def _parse_event(text: str) -> tuple[str, str | None, str | None]:
    event, rest = None, text
    if text.startswith("event: "):
        event, _, rest = text[7:].partition("\n")
    if not rest.startswith("data: ") or rest[-2:] != "\n\n" or "\r" in text or "\n" in rest[6:-2]:
        return text, None, None
    return "", rest[6:-2], event


def _parse_message(text: str) -> tuple[str, str | None, str | None]:
    found = eventstream.opened(text.encode("utf-8", "surrogateescape"))
    return (text, None, None) if found is None else ("", found[1], found[0])


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        value = from_json(_bytes(text))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _values(
    texts: Sequence[str], frame: Frame | None, fields: tuple[str, ...], common: Mapping[str, Any]
) -> tuple[list[dict[str, Any] | None], list[str]]:
    """Return what is stored of every text, None where that cannot be, and the text between its frame, if it has it."""
    bodies: Sequence[str] = texts
    inner = [""] * len(texts)
    if frame is not None:
        start, end, cut, rest = frame.start, frame.end, len(frame.start), len(frame.end)
        inner = [f"{{{t[cut:-rest]}}}" if t.startswith(start) and t.endswith(end) else "" for t in texts]
        bodies = [body or text for body, text in zip(inner, texts, strict=True)]
    try:
        # All in one call; where something in it is no JSON, each for itself.
        values: list[Any] = from_json(f"[{','.join(bodies)}]".encode())
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(bodies):
        values = [_parsed(body) for body in bodies]
    if frame is None:
        return [value if isinstance(value, dict) else None for value in values], inner
    usual = tuple(name for name in fields if name in frame.between)
    for index, value in enumerate(values):
        if inner[index]:
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
    return values, inner


def _keep_exact(
    values: list[dict[str, Any] | None], texts: Sequence[str], inner: Sequence[str], events: Events
) -> None:
    """Give up, in `values`, what does not come back exactly as it was; there is no other way to be sure."""
    whole = not events.common and events.style == "compact"
    easy = [index for index, value in enumerate(values) if value is not None and (whole or inner[index])]
    # One comparison for all of them is nearly always enough.
    between = f"[{','.join([inner[index] or texts[index] for index in easy])}]"
    exact = set(easy) if compact([values[index] for index in easy]) == _bytes(between) else set()
    if len(exact) == len(values):
        return
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
