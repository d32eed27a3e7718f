"""Streams of events (SSE, NDJSON, AWS event streams) as a recording stores them, and the bytes that they came as.

`nbreplay.core.recording.stream_parser` makes them from what was received.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from nbreplay.core.recording import aws_eventstream
from nbreplay.core.recording.body import STYLES, TOO_DEEP, encode_json, is_too_deep
from nbreplay.errors import RecordingFormatError, UnsafeRecordingError

__all__ = [
    "LONGEST_MS", "Chunk", "Events", "Frame", "Millis", "encode_all", "events_from", "framing_of", "has_ended",
    "is_oversized",
]  # fmt: skip

LONGEST_MS = 7 * 86_400_000
"""The longest time that a recording may ask a replay to wait, a week."""

Millis = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_MS)]

# A short file may stand for a long stream, since its chunks share values: as long as streams of models may be, or in
# proportion to what the chunks hold by themselves.
_AMPLE = 64 << 20  # bytes
_PROPORTION = 64

_MARK = "\0nbreplay\0"
# What a stream ends with where it is whole, whether or not its connection was read to the end.
# At the start of a line, or between quotes that are not escaped: a model may well write about these marks.
_END = re.compile(
    rb"^data: ?\[DONE\]|"
    rb"^(?:event: ?|data: ?\{\s*\"type\"\s*:\s*\")(?:message_stop|response\.(?:completed|failed|incomplete))\b|"
    rb'(?<!\\)"(?:done"\s*:\s*true|finishReason"\s*:\s*"\w|type"\s*:\s*"message-end")|'
    rb":event-type\x07\x00\x08metadata",
    re.M,
)


def framing_of(content_type: str) -> str | None:
    """Return ``sse``, ``ndjson`` or ``eventstream`` for the content types of event streams, else None."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return "sse"
    if kind in ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"):
        return "ndjson"
    return "eventstream" if kind == aws_eventstream.CONTENT_TYPE else None


def has_ended(data: bytes) -> bool:
    """Tell whether what has come of a stream ends with the mark that it is whole."""
    # The mark is in one of the last events; looking through all of them takes longer than keeping them.
    separator = b"\n\n" if b"\n\n" in data[-(1 << 16) :] else b"\n"
    parts = data.rsplit(separator, 6)
    return any(_END.search(part) for part in (parts[1:] if len(parts) > 6 else parts))


class Chunk(NamedTuple):
    """One streamed event. A tuple, since a stream has thousands and a replay makes them all at once.

    Attributes
    ----------
    gap_ms : int
        Milliseconds since the chunk before it; of the first, since the request was sent.
    data : dict, str or None
        JSON data, the raw text of a ``data:`` line, or None where `raw` holds the whole block.
    event : str or None
        The event's name.
    raw : str or None
        The block as it came, where it has another shape.
    """

    gap_ms: Millis
    data: dict[str, Any] | str | None
    event: str | None = None
    raw: str | None = None

    def stored(self) -> list[Any]:
        """Return the chunk as a recording stores it."""
        if self.raw is not None:
            return [self.gap_ms, None, None, self.raw]
        return [self.gap_ms, self.data] if self.event is None else [self.gap_ms, self.data, self.event]


class Events(msgspec.Struct, frozen=True, eq=False):
    """The body of a stream.

    Attributes
    ----------
    chunks : tuple of Chunk
        As they are stored: without the values of `common`.
    framing : str
        ``sse``, ``ndjson`` or ``eventstream``.
    fields : tuple of str
        The order of the top-level names, where `common` is used.
    common : mapping
        The values that most chunks share.
    style : str
        How the chunks' JSON was written, one of `nbreplay.core.recording.body.STYLES`.
    lines : sequence of str or None
        What `stored` gives for each chunk, as JSON text, where that is known already.
    """

    chunks: tuple[Chunk, ...]
    framing: str = "sse"
    fields: tuple[str, ...] = ()
    common: Mapping[str, Any] | None = None
    style: str = "compact"
    lines: Sequence[str] | None = None

    def __eq__(self, other: object) -> bool:
        if type(other) is not Events:
            return NotImplemented
        told = operator.attrgetter("chunks", "framing", "fields", "common", "style")
        return bool(told(self) == told(other))

    @property
    def duration_ms(self) -> int:
        """From sending the request to the last chunk."""
        return sum(chunk.gap_ms for chunk in self.chunks)

    def parts(self) -> list[bytes]:
        """Return the bytes of each chunk, as they were received.

        Raises
        ------
        RecordingFormatError
            Where a chunk stands for no bytes: only a file that was edited holds such a stream.
        """
        try:
            return [block.encode("utf-8", "surrogateescape") for block in self._blocks()]
        except (ValueError, RecursionError) as error:
            raise _unwritable(error) from None

    def data(self) -> bytes:
        """Return the bytes of the whole body.

        Raises
        ------
        RecordingFormatError
            Where a chunk stands for no bytes: only a file that was edited holds such a stream.
        """
        try:
            return "".join(self._blocks()).encode("utf-8", "surrogateescape")
        except (ValueError, RecursionError) as error:
            raise _unwritable(error) from None

    def objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the time in milliseconds and the JSON of every chunk that holds JSON."""
        at = 0
        for chunk in self.chunks:
            at += chunk.gap_ms
            value = self.value(chunk)
            if value is not None:
                yield at, value

    def value(self, chunk: Chunk) -> dict[str, Any] | None:
        """Return the JSON object that one of the chunks holds, or None."""
        if isinstance(chunk.data, dict):
            return self._whole(chunk.data)
        raw = chunk.raw if chunk.raw is None or self.framing == "ndjson" else _data_of(chunk.raw)
        return _json_of(chunk.data if chunk.raw is None else raw)

    def opened(self) -> list[str]:
        """Return the text of each chunk, out of the binary message that it may be in."""
        if self.framing != "eventstream":
            return self._blocks()
        texts = iter(self.texts([chunk.data for chunk in self.chunks if type(chunk.data) is dict]))
        return [next(texts) if isinstance(data, dict) else raw or data or "" for _, data, _, raw in self.chunks]

    def sealed(self, texts: Sequence[str]) -> list[bytes]:
        """Return the bytes of each chunk, given texts as `opened` returns them."""
        if self.framing != "eventstream":
            return [text.encode("utf-8", "surrogateescape") for text in texts]
        for chunk, text in zip(self.chunks, texts, strict=True):
            if chunk.raw not in (None, text):
                raise RecordingFormatError("there is a secret in a message of its event stream that is not understood")
        return [
            aws_eventstream.sealed(chunk.event or "", text)
            if chunk.raw is None
            else text.encode("utf-8", "surrogateescape")
            for chunk, text in zip(self.chunks, texts, strict=True)
        ]

    def stored(self) -> dict[str, Any]:
        """Return the fields of a take that hold this body, without the chunks."""
        fields: dict[str, Any] = {}
        if self.framing != "sse":
            fields["framing"] = self.framing
        if self.style != "compact":
            fields["style"] = self.style
        if self.common:
            fields["fields"], fields["common"] = list(self.fields), dict(self.common)
        return fields

    def stored_lines(self) -> Sequence[str]:
        """Return each chunk as JSON text, as a recording stores it."""
        return encode_all([chunk.stored() for chunk in self.chunks]) if self.lines is None else self.lines

    def texts(self, values: Sequence[dict[str, Any]]) -> list[str]:
        """Return the JSON text of chunks, given as they are stored, as it was received."""
        frame = Frame.of(self.fields, self.common or {}, self.style)
        if frame is None:
            return encode_all([self._whole(value) for value in values], self.style)
        # What all chunks begin and end with is encoded once, and what is between by one call for all of them.
        inner = [frame.fits(value) for value in values]
        texts = encode_all([v if i else self._whole(v) for v, i in zip(values, inner, strict=True)], self.style)
        start, end = frame.start, frame.end
        return [start + text[1:-1] + end if i else text for text, i in zip(texts, inner, strict=True)]

    def _blocks(self) -> list[str]:
        texts = iter(self.texts([chunk.data for chunk in self.chunks if type(chunk.data) is dict]))
        head, tail = ("", "\n") if self.framing == "ndjson" else ("data: ", "\n\n")
        blocks = []
        for _, data, event, raw in self.chunks:
            if raw is not None:
                blocks.append(raw)
                continue
            text = next(texts) if isinstance(data, dict) else data or ""
            if self.framing == "eventstream":
                blocks.append(aws_eventstream.sealed(event or "", text).decode("utf-8", "surrogateescape"))
                continue
            blocks.append(f"{head}{text}{tail}" if event is None else f"event: {event}\n{head}{text}{tail}")
        return blocks

    def _whole(self, value: dict[str, Any]) -> dict[str, Any]:
        common = self.common
        if not common:
            return value
        return {name: value.get(name, common.get(name)) for name in self.fields if name in value or name in common}


class Frame(NamedTuple):
    """What the JSON text of most chunks begins and ends with.

    Attributes
    ----------
    start, end : str, with the braces and the commas towards what is between
    between : frozenset of str, the names that may stand there
    """

    start: str
    end: str
    between: frozenset[str]

    @classmethod
    def of(cls, fields: Sequence[str], common: Mapping[str, Any], style: str) -> Frame | None:
        """Return the frame of a stream, or None where its shared values are not all at the two ends."""
        names = list(fields)
        first = next((i for i, name in enumerate(names) if name not in common), len(names))
        last = next((i for i in range(len(names), first, -1) if names[i - 1] not in common), first)
        between = frozenset(names[first:last])
        if not common or not between or not between.isdisjoint(common) or len(common) + len(between) != len(names):
            return None
        comma = ", " if style.startswith("spaced") else ","
        lead, tail = ({name: common[name] for name in part} for part in (names[:first], names[last:]))
        start = encode_json(lead, style)[:-1] + comma if lead else "{"
        return cls(start, comma + encode_json(tail, style)[1:] if tail else "}", between)

    def fits(self, value: Mapping[str, Any]) -> bool:
        """Tell whether a stored chunk is what stands between."""
        return bool(value) and value.keys() <= self.between


def encode_all(values: Sequence[Any], style: str = "compact", encode: Callable[[Any], str] | None = None) -> list[str]:
    """Return the JSON texts of `values`, by one call to the encoder: a call each costs ten times as much.

    Parameters
    ----------
    values : sequence of JSON values
    style : str
        One of `nbreplay.core.recording.body.STYLES`.
    encode : callable, optional
        What else writes them in that style.
    """
    if not values:
        return []
    encode = encode or STYLES[style]
    marked = [_MARK] * (2 * len(values) - 1)
    marked[::2] = values
    # The mark cannot stand inside a value: there its quotes would be escaped.
    comma = ", " if style.startswith("spaced") else ","
    texts = encode(marked)[1:-1].split(f"{comma}{encode_json(_MARK)}{comma}")
    return texts if len(texts) == len(values) else [encode(value) for value in values]


def _data_of(raw: str) -> str | None:
    lines = [line[5:].lstrip(" ") for line in raw.splitlines() if line.startswith("data:")]
    return "\n".join(lines) if lines else None


def _json_of(text: Any) -> dict[str, Any] | None:
    if isinstance(text, str) and text[:1] == "{":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None
    return None


def events_from(
    chunks: tuple[Chunk, ...], framing: str, fields: tuple[str, ...], common: Mapping[str, Any], style: str
) -> Events:
    """Return a stream as a file tells it.

    Raises
    ------
    RecordingFormatError
        Where that is none.
    """
    if framing not in ("sse", "ndjson", "eventstream") or style not in STYLES or style.startswith("indent"):
        raise RecordingFormatError(f"its stream has a framing {framing!r} or style {style!r} that is not known")
    for chunk in chunks:
        if (chunk.data is None) is (chunk.raw is None):
            said = str(chunk.stored())[:80]
            raise RecordingFormatError(f"a chunk of it has no data, or data and a text of its own: {said}")
    if framing == "eventstream" and not all(chunk.raw is not None or _nameable(chunk.event) for chunk in chunks):
        raise RecordingFormatError("an event of its stream has no name, or one that cannot be sent")
    if common:
        names = frozenset(fields)
        stored = (chunk.data.keys() for chunk in chunks if type(chunk.data) is dict)
        if not (common.keys() <= names and all(keys <= names for keys in stored)):
            raise RecordingFormatError("its stream has a name that is not among its fields")
    try:
        if is_too_deep(common):
            raise RecordingFormatError(TOO_DEEP)
        if is_oversized(chunks, fields, common, style):
            raise UnsafeRecordingError(
                f"its {len(chunks):,} chunks share values that make them larger than a stream may be"
            )
    except ValueError as error:
        raise _unwritable(error) from None
    return Events(chunks, framing, fields, common, style)


def is_oversized(
    chunks: Sequence[Chunk], fields: Sequence[str], common: Mapping[str, Any], style: str = "compact"
) -> bool:
    """Tell whether the values that chunks share make of them more than a replay should hold in memory.

    Raises
    ------
    ValueError
        Where the shared values cannot be written.
    """
    if not common:
        return False
    size = len(encode_json([fields, common], style)) * len(chunks)
    return size > _AMPLE and size > _PROPORTION * sum(map(len, encode_all([chunk.stored() for chunk in chunks])))


def _unwritable(error: Exception) -> RecordingFormatError:
    return RecordingFormatError(f"its stream cannot be written ({error})")


def _nameable(event: str | None) -> bool:
    return event is not None and len(event) < 300 and event.isascii()
