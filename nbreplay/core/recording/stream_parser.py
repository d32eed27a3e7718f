"""Parser of streams of events (SSE, NDJSON, AWS event streams): bytes in as they arrive, events out.

Knows how a stream is framed, and nothing of how it is recorded. It reads no socket and keeps no clock.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable
from typing import Literal

import msgspec

Framing = Literal["sse", "ndjson", "eventstream"]

_MARKS = {"sse": re.compile(rb"\r\n\r\n|\n\n|\r\r"), "ndjson": re.compile(rb"\n")}  # the end of an event
_LONGEST_MARK = 4  # bytes
_LINE_END = re.compile(r"\r\n|\n|\r")
_RECENT = 6  # so many events at the end of a stream are searched for the mark of its end
_END = re.compile(
    # At the start of a line, or between quotes that are not escaped: a model may well write about these marks.
    r"^data: ?\[DONE\]|"
    r"^(?:event: ?|data: ?\{\s*\"type\"\s*:\s*\")(?:message_stop|response\.(?:completed|failed|incomplete))\b|"
    r'(?<!\\)"(?:done"\s*:\s*true|finishReason"\s*:\s*"\w|type"\s*:\s*"message-end")|'
    r":event-type\x07\x00\x08metadata",
    re.M,
)


# An event stream of AWS is a row of binary messages with typed headers and checksums. Only the shape that services send
# is understood: an event or an exception by name, with a text for its payload. Any other message stays as it is.
_AWS_EVENT = re.compile(rb".:(event|exception)-type\x07\x00(.)", re.DOTALL)
_EXCEPTION = "exception:"
_PRELUDE, _CHECKSUM = 12, 4  # bytes: two lengths and their checksum; the checksum of all


def framing_of(content_type: str) -> Framing | None:
    """Return the framing of a stream with this content type; None for the types of other bodies."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return "sse"
    if kind in ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"):
        return "ndjson"
    return "eventstream" if kind == "application/vnd.amazon.eventstream" else None


class StreamEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream."""

    at: float  # when its last byte came, in seconds
    block: str  # its text with all that frames it; bytes that are not UTF-8 are surrogate escapes
    event: str | None  # its name
    data: str | None
    is_plain: bool  # whether `write_block` makes the same block of name and data


class StreamParser:
    """Cuts a stream into events as its bytes arrive, such that the blocks of all events are these very bytes."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.events: list[StreamEvent] = []
        self._pending = bytearray()
        self._at = 0.0

    def feed(self, data: bytes, at: float) -> list[StreamEvent]:
        """Add bytes that arrived at `at` seconds; return the events that end in them."""
        if not data:
            return []
        self._at = at
        # Where the end of an event is looked for: its mark may have begun with what is pending.
        start, search, before = 0, max(0, len(self._pending) - _LONGEST_MARK + 1), len(self.events)
        self._pending += data
        while start < len(self._pending) and (end := self._find_end(start, search)) is not None:
            self.events.append(self._event(self._pending[start:end]))
            start = search = end
        del self._pending[:start]
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

    def _event(self, block: bytearray) -> StreamEvent:
        text = block.decode("utf-8", "surrogateescape")
        return StreamEvent(self._at, text, *parse_block(text, self.framing))

    def _find_end(self, start: int, search: int) -> int | None:
        """Return where the event ends that begins at `start`, or None while that has not come."""
        if self.framing == "eventstream":
            end = start + int.from_bytes(self._pending[start : start + 4], "big")
            return end if start + _PRELUDE + _CHECKSUM <= end <= len(self._pending) else None
        match = _MARKS[self.framing].search(self._pending, search)
        return match.end() if match else None


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
        message = decode_message(block.encode("utf-8", "surrogateescape"))
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
        return encode_message(event or "", data).decode("utf-8", "surrogateescape")
    return f"data: {data}\n\n" if event is None else f"event: {event}\ndata: {data}\n\n"


def encode_message(event: str, payload: str) -> bytes:
    """Return the AWS message of an event, or of an exception if its name begins with ``exception:``."""
    name = event.removeprefix(_EXCEPTION)
    kind = "event" if name == event else "exception"
    pairs = ((f":{kind}-type", name), (":content-type", "application/json"), (":message-type", kind))
    headers = b"".join(_with_length(name, 1) + b"\x07" + _with_length(value, 2) for name, value in pairs)
    body = payload.encode("utf-8", "surrogateescape")
    prelude = struct.pack("!II", _PRELUDE + len(headers) + len(body) + _CHECKSUM, len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack("!I", zlib.crc32(message))


def _with_length(text: str, width: int) -> bytes:
    data = text.encode()
    return len(data).to_bytes(width, "big") + data


def decode_message(message: bytes) -> tuple[str, str] | None:
    """Return name and payload of a message, such that `encode_message` gives it again; None for any other."""
    match = _AWS_EVENT.match(message, _PRELUDE)
    name = message[match.end() : match.end() + match[2][0]] if match else b""
    if not match or not name.isascii():
        return None
    event = (_EXCEPTION if match[1] == b"exception" else "") + name.decode("ascii")
    payload = message[_PRELUDE + int.from_bytes(message[4:8], "big") : -_CHECKSUM].decode("utf-8", "surrogateescape")
    return (event, payload) if encode_message(event, payload) == message else None
