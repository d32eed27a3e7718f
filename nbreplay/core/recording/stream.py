"""Streams of events as a recording stores them: values that most chunks share are there once."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, NamedTuple, get_args

import msgspec

from nbreplay.core.recording.json_text import (
    TOO_DEEP,
    are_written_as,
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
    """One streamed event.

    It is a tuple, since a stream has thousands of them and a replay makes them
    all at once.

    Attributes
    ----------
    gap_ms : int
        Milliseconds since the chunk before it; of the first, since the request
        was sent.
    data : dict, str or None
        JSON data, the raw text of a ``data:`` line, or None if `raw` holds the
        whole block.
    event : str or None
        The event's name.
    raw : str or None
        The block as it came, if it has another shape.

    Examples
    --------
    >>> import nbreplay as nr
    >>> recordings = nr.Store("recordings").recordings()
    >>> takes = [take for _, recording in recordings for take in recording.takes]
    >>> stream = next(take.body for take in takes if hasattr(take.body, "chunks"))
    >>> isinstance(stream.chunks[0], nr.Chunk)
    True
    >>> stream.chunks[-1].data
    '[DONE]'
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
    common: Mapping[str, Any] = {}  # the values that most chunks share
    style: str = "compact"  # how the chunks' JSON was written, one of `nbreplay.core.recording.json_text.STYLES`
    lines: list[str] | None = None  # the JSON texts of the chunks, as they were recorded or `stored_chunks` makes them

    def __eq__(self, other: object) -> bool:
        if type(other) is not Events:
            return NotImplemented
        compared = operator.attrgetter("framing", "fields", "common", "style", "_whole_chunks")
        return bool(compared(self) == compared(other))

    @property
    def _whole_chunks(self) -> list[Chunk]:
        # A file may name a shared value where the chunk that was recorded does not.
        whole = self._layout.whole
        return [c._replace(data=whole(c.data)) if isinstance(c.data, dict) else c for c in self.chunks]

    @classmethod
    def of(cls, stream: StreamParser, started: float) -> Events:
        """Return the body of a stream that was parsed, such that its `data()` is the bytes that the parser was fed.

        `started` is when the request was sent, in seconds of the parser's clock.
        """
        events = [*stream.events, *([stream.rest] if stream.rest else [])]
        texts = [event.data for event in events if event.is_plain and event.data and event.data[0] == "{"]
        values = [_parse_exactly(text) for text in texts]
        pairs = list(zip(texts, values, strict=True))[:: max(1, len(texts) // _SAMPLE)]
        sample = [(text, value) for text, value in pairs if value is not None]
        style = _find_style(sample)
        for fields, common in (_find_shared([value for _, value in sample]), ((), {})):
            layout = _Layout(fields, common, style)
            chunks = _chunks(events, layout.reduce(texts, values), started)
            body = cls(chunks, stream.framing, fields, common, style, list(map(layout.line, chunks, events)))
            if not body.is_oversized():
                break
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
        """Return the received bytes. Raise RecordingFormatError if a chunk was edited and cannot be written."""
        return b"".join(self.parts())

    def parts(self) -> list[bytes]:
        """Return the bytes of each chunk. Raise RecordingFormatError if one was edited and cannot be written."""
        try:
            return [block.encode("utf-8", "surrogateescape") for block in self._blocks()]
        except (ValueError, RecursionError) as error:
            raise RecordingFormatError(f"the stream cannot be written ({error})") from None

    def value(self, chunk: Chunk) -> dict[str, Any] | None:
        """Return the JSON object that one of the chunks holds, or None."""
        if isinstance(chunk.data, dict):
            return self._layout.whole(chunk.data)
        return parse_object(chunk.data if chunk.raw is None else parse_block(chunk.raw, self.framing)[1])

    def readable_parts(self) -> list[str]:
        """Return the text of each chunk; in an event stream of AWS, the payload of the message."""
        if self.framing != "eventstream":
            return self._blocks()
        pairs = zip(self.chunks, self._texts(), strict=True)
        return [text if chunk.raw is None else chunk.raw for chunk, text in pairs]

    def encode_parts(self, texts: Sequence[str]) -> list[bytes]:
        """Return the bytes of each chunk, given its text as `readable_parts` returns it.

        Raise RecordingFormatError if a message has changed that cannot be put together again.
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
        fields = {} if self.framing == "sse" else {"framing": self.framing}
        style = {} if self.style == "compact" else {"style": self.style}
        common = {"fields": list(self.fields), "common": dict(self.common)} if self.common else {}
        return {**fields, **style, **common}

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
        whole, style = self._layout.whole, self.style
        return [
            encode_json(whole(chunk.data), style) if isinstance(chunk.data, dict) else chunk.data or ""
            for chunk in self.chunks
        ]

    @property
    def _layout(self) -> _Layout:
        return _Layout(self.fields, self.common, self.style)

    def verify(self) -> None:
        """Check what a file says.

        Raise RecordingFormatError if it is not a stream, and UnsafeRecordingError if its chunks share values that make
        them larger than a stream may be.
        """
        if self.framing not in get_args(Framing):
            raise RecordingFormatError(f"unknown framing {self.framing!r} of a stream")
        if self.style not in _STYLES:
            raise RecordingFormatError(f"unknown style {self.style!r} of a stream")
        for gap, data, event, raw in self.chunks:
            if (data is None) is (raw is None):
                stored = str(Chunk(gap, data, event, raw).as_list())[:80]
                raise RecordingFormatError(f"a chunk must have either data or raw text: {stored}")
        if self.framing == "eventstream" and not all(
            _is_name(chunk.event) for chunk in self.chunks if chunk.raw is None
        ):
            raise RecordingFormatError("an event of an event stream has no name, or one that cannot be sent")
        if not self.common:
            return
        names = frozenset(self.fields)
        objects = [data for _, data, _, _ in self.chunks if isinstance(data, dict)]
        if not (self.common.keys() <= names and names.issuperset(set().union(*objects))):
            raise RecordingFormatError("a stream has a name that is not among its 'fields'")
        if is_too_deep(self.common):
            raise RecordingFormatError(TOO_DEEP)
        try:
            if self.is_oversized():
                why = f"the {len(self.chunks):,} chunks share values that make them larger than a stream may be"
                raise UnsafeRecordingError(why)
        except ValueError as error:
            raise RecordingFormatError(f"the stream cannot be written ({error})") from None

    def is_oversized(self) -> bool:
        """Tell whether shared values make the chunks larger than a replay should hold in memory."""
        if not self.common:
            return False
        size = len(encode_json([self.fields, self.common], self.style)) * len(self.chunks)
        return size > _AMPLE and size > _PROPORTION * sum(map(len, self.stored_chunks()))


class _Layout:
    """How the objects of a stream are written: their style, their names in order, and the values that most share."""

    def __init__(self, fields: tuple[str, ...], common: Mapping[str, Any], style: str) -> None:
        self.fields, self.common, self.style = fields, common, style
        lead, own, tail = _split(fields, common)
        self._lead, self._tail = ({name: common[name] for name in names} for names in (lead, tail))
        self._own = frozenset(own) if common.keys().isdisjoint(own) else frozenset()

    def whole(self, stored: dict[str, Any]) -> dict[str, Any]:
        """Return an object with the values that it shares with others."""
        common = self.common
        if not common:
            return stored
        if stored and stored.keys() <= self._own:  # in its own order, whichever others have
            return {**self._lead, **stored, **self._tail}
        return {name: stored.get(name, common.get(name)) for name in self.fields if name in stored or name in common}

    def reduce(self, texts: Sequence[str], values: Sequence[dict[str, Any] | None]) -> Iterator[dict[str, Any] | None]:
        """Yield each object without its shared values; None for one that would not come back as its text."""
        reduced = [self._reduce(value) for value in values]
        wholes = [None if stored is None else self.whole(stored) for stored in reduced]
        are_exact = are_written_as(wholes, texts, self.style)
        for text, stored, whole in zip(texts, reduced, wholes, strict=True):
            yield stored if are_exact or is_written_as(whole, text, self.style) else None

    def _reduce(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return an object without its shared values; None for one that is stored as its text."""
        if not value or not self.common:
            return value
        # The types too: 1, 1.0 and true are equal to Python and are not the same JSON.
        own = {
            name: item
            for name, item in value.items()
            if name not in self.common or self.common[name] != item or type(self.common[name]) is not type(item)
        }
        if not own and self._lead and self._tail:
            return None  # files have its text where there is nothing between shared values at both ends
        return own

    @cached_property
    def _around(self) -> tuple[int, int]:
        """How many characters of the text of an object stand before its own values, and after them."""
        start, end = (len(encode_json(part, self.style)) - (not part) for part in (self._lead, self._tail))
        return start, end

    def line(self, chunk: Chunk, event: StreamEvent) -> str:
        """Return a chunk as it is recorded: a compact object is whole where it names a value that others share."""
        data, text = chunk.data, event.data or ""
        if self.style != "compact" or not isinstance(data, dict):
            return encode_json(chunk.as_list())
        if data and data.keys() <= self._own:
            start, end = self._around
            text = f"{{{text[start:-end]}}}"
        return (
            f"[{chunk.gap_ms},{text}]" if chunk.event is None else f"[{chunk.gap_ms},{text},{encode_json(chunk.event)}]"
        )


def _chunks(
    events: Iterable[StreamEvent], objects: Iterator[dict[str, Any] | None], started: float
) -> tuple[Chunk, ...]:
    """Return the chunks of the events of a stream, given the objects in their data as they are stored."""
    chunks, before = [], 0
    for event in events:
        # Rounding the times and not the differences keeps errors from adding up.
        at = max(0, round((event.at - started) * 1000))
        gap, before = min(max(0, at - before), LONGEST_MS), at
        if not event.is_plain:
            chunks.append(Chunk(gap, None, None, event.block))
            continue
        stored = next(objects) if event.data and event.data[0] == "{" else None
        chunks.append(Chunk(gap, event.data if stored is None else stored, event.event))
    return tuple(chunks)


def _split(fields: Sequence[str], shared: Mapping[str, Any]) -> tuple[list[str], Sequence[str], list[str]]:
    """Return the shared names with which fields begin, the names after these, and the shared ones at their end."""
    lead = list(itertools.takewhile(shared.__contains__, fields))
    tail = list(itertools.takewhile(shared.__contains__, reversed(fields[len(lead) :])))
    return lead, fields[len(lead) : len(fields) - len(tail)], tail[::-1]


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
    fitting: dict[str, int] = {}
    for style in _STYLES:
        fitting[style] = sum(is_written_as(value, text, style) for text, value in telling)
        if fitting[style] == len(telling):
            break
    return max(fitting, key=fitting.__getitem__)


def _find_shared(values: Sequence[dict[str, Any]]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the order of the first chunk's names, and the values that most chunks begin and end with."""
    if len(values) < 3:
        return (), {}
    fields = tuple(values[0])
    columns = {name: [value.get(name, _ABSENT) for value in values] for name in fields}
    usual = {name: item for name, items in columns.items() if (item := _find_usual(items)) is not _ABSENT}
    lead, _, tail = _split(fields, usual)
    common = {name: usual[name] for name in (*lead, *tail)}
    fitting = sum(common.keys() <= value.keys() and _is_ordered(value, fields) for value in values)
    return (fields, common) if 0 < len(common) < len(fields) and 2 * fitting > len(values) else ((), {})


def _find_usual(items: Sequence[Any]) -> Any:
    """Return the plain value that most of the items are, or `_ABSENT`."""
    for item in (items[len(items) // 2], items[-1]):
        plain = isinstance(item, str | int | float | None) and item not in _INFINITE
        if plain and 2 * items.count(item) > len(items):
            return item
    return _ABSENT


def _is_name(event: str | None) -> bool:
    return event is not None and len(event) < 300 and event.isascii()
