"""Streams of events as a recording stores them: values that most chunks share are there once."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, cast, get_args

import msgspec

from nbreplay.core.recording.json_text import (
    TOO_DEEP,
    encode_json,
    is_too_deep,
    is_written_as,
    parse_json,
    parse_object,
)
from nbreplay.core.recording.stream_parser import (
    Framing,
    StreamEvent,
    StreamParser,
    parse_block,
    parse_stream,
    write_block,
)
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

LONGEST_MS = 7 * 86_400_000
"""The longest time that a recording may ask a replay to wait, a week."""

Millis = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_MS)]

# A short file may stand for a long stream, since its chunks share values: as long as streams of models may be, or in
# proportion to what the chunks hold by themselves.
_AMPLE = 64 << 20  # bytes
_PROPORTION = 64
_SAMPLE = 24  # chunks
_STYLES = ("compact", "spaced", "compact-ascii", "spaced-ascii")
_ABSENT = object()
_INFINITE = (float("inf"), float("-inf"))  # a number too large for a float has become so, and cannot be written


class Chunk(NamedTuple):
    """One streamed event. A tuple, since a stream has thousands and a replay makes them all at once.

    Attributes
    ----------
    gap_ms : int
        Milliseconds since the chunk before it; of the first, since the request was sent.
    data : dict, str or None
        JSON data, the raw text of a ``data:`` line, or None if `raw` holds the whole block.
    event : str or None
        The event's name.
    raw : str or None
        The block as it came, if it has another shape.
    """

    gap_ms: Millis
    data: dict[str, Any] | str | None
    event: str | None = None
    raw: str | None = None

    def as_list(self) -> list[Any]:
        """Return the chunk as a recording stores it."""
        if self.raw is not None:
            return [self.gap_ms, None, None, self.raw]
        return [self.gap_ms, self.data] if self.event is None else [self.gap_ms, self.data, self.event]


class Events(msgspec.Struct, frozen=True, eq=False):
    """The body of a stream."""

    chunks: tuple[Chunk, ...]  # as they are stored: mostly without the values of `common`
    framing: Framing = "sse"  # ``sse``, ``ndjson`` or ``eventstream``
    fields: tuple[str, ...] = ()  # the order of the top-level names, where `common` is used
    common: Mapping[str, Any] | None = None  # the values that most chunks share
    style: str = "compact"  # how the chunks' JSON was written, one of `nbreplay.core.recording.json_text.STYLES`
    lines: list[str] | None = None  # the JSON texts of the chunks, once `stored_chunks` has made them

    def __eq__(self, other: object) -> bool:
        if type(other) is not Events:
            return NotImplemented
        compared = operator.attrgetter("chunks", "framing", "fields", "common", "style")
        return bool(compared(self) == compared(other))

    @classmethod
    def of(cls, stream: StreamParser, started: float) -> Events:
        """Return the body of a stream that was parsed, such that its `data()` is the bytes that the parser was fed.

        Parameters
        ----------
        stream : StreamParser
        started : float
            When the request was sent, in seconds of the parser's clock.
        """
        events = [*stream.events, *([stream.rest] if stream.rest else [])]
        texts = [event.data for event in events if event.is_plain and event.data and event.data[0] == "{"]
        parsed = [(text, _parse_exactly(text)) for text in texts[:: max(1, len(texts) // _SAMPLE)]]
        sample = [(text, value) for text, value in parsed if value is not None]
        style = _find_style(sample)
        layout = _Layout(*_find_shared([value for _, value in sample]), style)
        body = layout.body(events, started, stream.framing)
        if _is_oversized(body.chunks, layout):
            body = _Layout((), {}, style).body(events, started, stream.framing)
        return body

    @classmethod
    def parse(cls, pieces: Iterable[tuple[float, bytes]], framing: Framing, started: float) -> Events:
        """Return the body of a stream, given its bytes, each with the time in seconds at which they arrived."""
        return cls.of(parse_stream(pieces, framing), started)

    @property
    def duration_ms(self) -> int:
        """From sending the request to the last chunk."""
        return sum(chunk.gap_ms for chunk in self.chunks)

    def data(self) -> bytes:
        """Return the bytes of the whole body.

        Raises
        ------
        RecordingFormatError
            If a chunk cannot be written, as in a file that was edited.
        """
        try:
            return "".join(self._blocks()).encode("utf-8", "surrogateescape")
        except (ValueError, RecursionError) as error:
            raise _unwritable(error) from None

    def parts(self) -> list[bytes]:
        """Return the bytes of each chunk, as they were received.

        Raises
        ------
        RecordingFormatError
            If a chunk cannot be written, as in a file that was edited.
        """
        try:
            return [block.encode("utf-8", "surrogateescape") for block in self._blocks()]
        except (ValueError, RecursionError) as error:
            raise _unwritable(error) from None

    def value(self, chunk: Chunk) -> dict[str, Any] | None:
        """Return the JSON object that one of the chunks holds, or None."""
        if isinstance(chunk.data, dict):
            return _Layout(self.fields, self.common or {}, self.style).whole(chunk.data)
        return parse_object(chunk.data if chunk.raw is None else parse_block(chunk.raw, self.framing)[1])

    def readable_parts(self) -> list[str]:
        """Return the text of each chunk; in an event stream of AWS, the payload of the message."""
        if self.framing != "eventstream":
            return self._blocks()
        pairs = zip(self.chunks, self._texts(), strict=True)
        return [text if chunk.raw is None else chunk.raw for chunk, text in pairs]

    def encode_parts(self, texts: Sequence[str]) -> list[bytes]:
        """Return the bytes of each chunk, given its text as `readable_parts` returns it.

        Raises
        ------
        RecordingFormatError
            If a message has changed that cannot be put together again.
        """
        parts = []
        for chunk, text in zip(self.chunks, texts, strict=True):
            if self.framing == "eventstream":
                if chunk.raw not in (None, text):
                    raise RecordingFormatError("a message of the event stream holds a secret and is not understood")
                text = text if chunk.raw else write_block(chunk.event, text, self.framing)
            parts.append(text.encode("utf-8", "surrogateescape"))
        return parts

    def as_fields(self) -> dict[str, Any]:
        """Return the fields of a take that hold this body, without the chunks."""
        fields: dict[str, Any] = {}
        if self.framing != "sse":
            fields["framing"] = self.framing
        if self.style != "compact":
            fields["style"] = self.style
        if self.common:
            fields["fields"], fields["common"] = list(self.fields), dict(self.common)
        return fields

    def stored_chunks(self) -> list[str]:
        """Return each chunk as JSON text, as a recording stores it."""
        if self.lines is None:
            msgspec.structs.force_setattr(self, "lines", [encode_json(chunk.as_list()) for chunk in self.chunks])
        return self.lines or []

    def _blocks(self) -> list[str]:
        return [
            write_block(chunk.event, text, self.framing) if chunk.raw is None else chunk.raw
            for chunk, text in zip(self.chunks, self._texts(), strict=True)
        ]

    def _texts(self) -> list[str]:
        layout = _Layout(self.fields, self.common or {}, self.style)
        return [layout.text(chunk.data) if isinstance(chunk.data, dict) else chunk.data or "" for chunk in self.chunks]


class _Layout:
    """How the objects of a stream are written: their style, their names in order, and the values that most share."""

    def __init__(self, fields: tuple[str, ...], common: Mapping[str, Any], style: str) -> None:
        self.fields, self.common, self.style = fields, common, style
        own = [number for number, name in enumerate(fields) if name not in common]
        first, last = (own[0], own[-1] + 1) if own else (0, 0)
        # What stands between the shared values, if these are all at the two ends; else it is empty.
        self._between = frozenset(fields[first:last])
        if not common or len(common) + len(self._between) != len(fields) or not self._between.isdisjoint(common):
            self._between = frozenset()
            return
        comma = ", " if style.startswith("spaced") else ","
        lead, tail = ({name: common[name] for name in part} for part in (fields[:first], fields[last:]))
        self._start = encode_json(lead, style)[:-1] + comma if lead else "{"
        self._end = comma + encode_json(tail, style)[1:] if tail else "}"

    def whole(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return an object with the values that it shares with others."""
        common = self.common
        if not common:
            return stored
        return {name: stored.get(name, common.get(name)) for name in self.fields if name in stored or name in common}

    def text(self, stored: dict[str, Any]) -> str:
        """Return the JSON text of an object, as it was received.

        Raises
        ------
        ValueError, RecursionError
            If it cannot be written.
        """
        if stored and stored.keys() <= self._between:  # in its own order, whichever others have
            return f"{self._start}{encode_json(stored, self.style)[1:-1]}{self._end}"
        return encode_json(self.whole(stored), self.style)

    def reduce(self, text: str) -> tuple[dict[str, Any], str] | None:
        """Return an object without its shared values, and its text; None if it would not come back as `text`."""
        if self._between and text.startswith(self._start) and text.endswith(self._end):
            own = f"{{{text[len(self._start) : -len(self._end)]}}}"
            value = _parse_exactly(own)
            fits = value and value.keys() <= self._between and is_written_as(value, own, self.style)
            return (value, own) if value and fits else None
        value, common = _parse_exactly(text), self.common
        if value is None:
            return None
        # The types too: 1, 1.0 and true are equal to Python and are not the same JSON.
        stored = {
            name: item
            for name, item in value.items()
            if name not in common or common[name] != item or type(common[name]) is not type(item)
        }
        return (stored, text) if is_written_as(self.whole(stored), text, self.style) else None

    def body(self, events: Sequence[StreamEvent], started: float, framing: Framing) -> Events:
        """Return the body of the events of a stream."""
        chunks, lines, before = [], [], 0
        for event in events:
            # Rounding the times and not the differences keeps errors from adding up.
            at = max(0, round((event.at - started) * 1000))
            gap = min(max(0, at - before), LONGEST_MS)
            before = at
            stored = self.reduce(event.data) if event.is_plain and event.data and event.data[0] == "{" else None
            if stored is None:
                chunk = Chunk(gap, event.data, event.event) if event.is_plain else Chunk(gap, None, None, event.block)
            else:
                chunk = Chunk(gap, stored[0], event.event)
            chunks.append(chunk)
            if stored is not None and self.style == "compact":  # as it came, which is faster than writing it again
                name = "" if event.event is None else f",{encode_json(event.event)}"
                lines.append(f"[{gap},{stored[1]}{name}]")
            else:
                lines.append(encode_json(chunk.as_list()))
        return Events(tuple(chunks), framing, self.fields, self.common, self.style, lines)


def _parse_exactly(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_ordered(value: Mapping[str, Any], fields: Sequence[str]) -> bool:
    places = iter(fields)
    return all(name in places for name in value)


def _find_style(sample: Sequence[tuple[str, dict[str, Any]]]) -> str:
    # Only a chunk with an escape in it tells whether the server escapes what is not ASCII.
    telling = [*sample[:8], *[(text, value) for text, value in sample if "\\u" in text][:8]]
    fitting = {style: sum(is_written_as(value, text, style) for text, value in telling) for style in _STYLES}
    return max(_STYLES, key=fitting.__getitem__)


def _find_shared(values: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the order of the first chunk's names, and the values that most chunks begin and end with."""
    if len(values) < 3:
        return (), {}
    fields = tuple(values[0])
    usual: dict[str, Any] = {}
    for name in fields:
        items = [value.get(name, _ABSENT) for value in values]
        for item in (items[len(items) // 2], items[-1]):
            if (
                isinstance(item, str | int | float | None)
                and item not in _INFINITE
                and 2 * items.count(item) > len(items)
            ):
                usual[name] = item
                break
    lead = list(itertools.takewhile(usual.__contains__, fields))
    tail = list(itertools.takewhile(usual.__contains__, reversed(fields[len(lead) :])))
    common = {name: usual[name] for name in fields if name in lead or name in tail}
    fitting = sum(common.keys() <= value.keys() and _is_ordered(value, fields) for value in values)
    return (fields, common) if 0 < len(common) < len(fields) and 2 * fitting > len(values) else ((), {})


def events_from(
    chunks: tuple[Chunk, ...], framing: str, fields: tuple[str, ...], common: Mapping[str, Any], style: str
) -> Events:
    """Return a stream out of the fields of a take in a file.

    Raises
    ------
    RecordingFormatError
        If they do not make up a stream.
    UnsafeRecordingError
        If its chunks share values that make them larger than a stream may be.
    """
    if framing not in get_args(Framing):
        raise RecordingFormatError(f"unknown framing {framing!r} of a stream")
    if style not in _STYLES:
        raise RecordingFormatError(f"unknown style {style!r} of a stream")
    for chunk in chunks:
        if (chunk.data is None) is (chunk.raw is None):
            raise RecordingFormatError(f"a chunk must have either data or raw text: {str(chunk.as_list())[:80]}")
    if framing == "eventstream" and not all(chunk.raw is not None or _is_name(chunk.event) for chunk in chunks):
        raise RecordingFormatError("an event of an event stream has no name, or one that cannot be sent")
    if common:
        names = frozenset(fields)
        stored = (chunk.data.keys() for chunk in chunks if type(chunk.data) is dict)
        if not (common.keys() <= names and all(keys <= names for keys in stored)):
            raise RecordingFormatError("a stream has a name that is not among its 'fields'")
    try:
        if is_too_deep(common):
            raise RecordingFormatError(TOO_DEEP)
        if _is_oversized(chunks, _Layout(fields, common, style)):
            raise UnsafeRecordingError(
                f"the {len(chunks):,} chunks share values that make them larger than a stream may be"
            )
    except ValueError as error:
        raise _unwritable(error) from None
    return Events(chunks, cast("Framing", framing), fields, common, style)


def _is_oversized(chunks: Sequence[Chunk], layout: _Layout) -> bool:
    """Tell whether shared values make the chunks larger than a replay should hold in memory."""
    if not layout.common:
        return False
    size = len(encode_json([layout.fields, layout.common], layout.style)) * len(chunks)
    return size > _AMPLE and size > _PROPORTION * sum(len(encode_json(chunk.as_list())) for chunk in chunks)


def _unwritable(error: Exception) -> RecordingFormatError:
    return RecordingFormatError(f"the stream cannot be written ({error})")


def _is_name(event: str | None) -> bool:
    return event is not None and len(event) < 300 and event.isascii()
