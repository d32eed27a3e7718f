"""Parser of streams of events (SSE, NDJSON, AWS event streams): bytes in as they arrive, events out.

Knows how a stream is framed, and nothing of how it is recorded. It reads no socket and keeps no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from nbreplay.core.recording import aws_eventstream

Framing = Literal["sse", "ndjson", "eventstream"]

_BLOCK_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LONGEST_MARK = 4  # bytes
_LINE_END = re.compile(r"\r\n|\n|\r")
_RECENT = 6
"""So many events at the end of a stream are searched for the mark of its end."""
_END = re.compile(
    # At the start of a line, or between quotes that are not escaped: a model may well write about these marks.
    r"^data: ?\[DONE\]|"
    r"^(?:event: ?|data: ?\{\s*\"type\"\s*:\s*\")(?:message_stop|response\.(?:completed|failed|incomplete))\b|"
    r'(?<!\\)"(?:done"\s*:\s*true|finishReason"\s*:\s*"\w|type"\s*:\s*"message-end")|'
    r":event-type\x07\x00\x08metadata",
    re.M,
)


def framing_of(content_type: str) -> Framing | None:
    """Return the framing of a stream with this content type; None for the types of other bodies."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return "sse"
    if kind in ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"):
        return "ndjson"
    return "eventstream" if kind == aws_eventstream.CONTENT_TYPE else None


class StreamEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream."""

    at: float  # when its last byte came, in seconds
    block: str  # Its text with all that frames it. Bytes that are not UTF-8 are surrogate escapes in it.
    # event, data: its name and its data, as far as it has any
    event: str | None
    data: str | None
    is_plain: bool  # whether `write_block` makes the same block of name and data


class StreamParser:
    """Cuts a stream into events as its bytes arrive, such that the blocks of all events are these very bytes."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.events: list[StreamEvent] = []  # the events so far
        self._pending = bytearray()
        self._at = 0.0
        self._has_return = False

    def feed(self, data: bytes, at: float) -> list[StreamEvent]:
        """Add bytes that arrived at `at` seconds; return the events that end in them."""
        if not data:
            return []
        self._at = at
        self._has_return = self._has_return or b"\r" in data
        start, before = 0, len(self.events)
        # Where the end of an event is looked for: its mark may have begun with what is pending.
        search = max(0, len(self._pending) - _LONGEST_MARK + 1)
        buffer: bytes | bytearray = data
        if self._pending:
            self._pending += data  # without copying what is there, which may be long
            buffer = self._pending
        while (end := self._find_end(buffer, start, search)) is not None:
            self.events.append(self._event(buffer[start:end]))
            start = search = end
        if start or not self._pending:
            self._pending = bytearray(buffer[start:])
        return self.events[before:]

    @property
    def rest(self) -> StreamEvent | None:
        """The event of which only a part has come, or None."""
        return self._event(self._pending) if self._pending else None

    @property
    def ended(self) -> bool:
        """Whether the mark has come with which such streams end, even if the connection was not read to its end."""
        blocks = [event.block for event in self.events[-_RECENT:]]
        return any(_END.search(block) for block in [*blocks, self._pending.decode("utf-8", "surrogateescape")])

    def _event(self, block: bytes | bytearray) -> StreamEvent:
        text = block.decode("utf-8", "surrogateescape")
        return StreamEvent(self._at, text, *parse_block(text, self.framing))

    def _find_end(self, buffer: bytes | bytearray, start: int, search: int) -> int | None:
        """Return where the event ends that begins at `start`, or None while that has not come."""
        if self.framing == "eventstream":
            return aws_eventstream.find_end(buffer, start)
        if self.framing == "sse" and self._has_return:
            match = _BLOCK_END.search(buffer, search)
            return match.end() if match else None
        mark = b"\n\n" if self.framing == "sse" else b"\n"
        at = buffer.find(mark, search)
        return None if at < 0 else at + len(mark)


def parse_stream(pieces: Iterable[tuple[float, bytes]], framing: Framing) -> StreamParser:
    """Return a parser that was fed with bytes, each with the time in seconds at which they arrived."""
    parser = StreamParser(framing)
    for at, data in pieces:
        parser.feed(data, at)
    return parser


def parse_block(block: str, framing: str) -> tuple[str | None, str | None, bool]:
    """Return name and data of the event that a block holds, and whether `write_block` makes the same block of them."""
    if framing == "ndjson":
        return None, block.rstrip("\r\n"), block[-1:] == "\n" and "\r" not in block
    if framing == "eventstream":
        message = aws_eventstream.decode_message(block.encode("utf-8", "surrogateescape"))
        return (*message, True) if message else (None, None, False)
    event, line = None, block
    if block.startswith("event: "):
        event, _, line = block[7:].partition("\n")
    if line.startswith("data: ") and line.find("\n") == len(line) - 2 and line[-1] == "\n" and "\r" not in block:
        return event, line[6:-2], True
    event, data = None, []
    for line in _LINE_END.split(block):
        name, _, value = line.partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif name == "event":
            event = value.removeprefix(" ")
    return event, "\n".join(data) if data else None, False


def write_block(event: str | None, data: str, framing: str) -> str:
    """Return the block of an event, as most servers write it."""
    if framing == "ndjson":
        return f"{data}\n"
    if framing == "eventstream":
        return aws_eventstream.encode_message(event or "", data).decode("utf-8", "surrogateescape")
    return f"data: {data}\n\n" if event is None else f"event: {event}\ndata: {data}\n\n"
