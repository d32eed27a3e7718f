"""AWS event streams: binary messages with typed headers and checksums, cut apart, opened and sealed again.

Only the shape that services send is understood: an event (or an exception) by name, with a text
for its payload. Any other message stays the bytes that it is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

__all__ = ["CONTENT_TYPE", "opened", "sealed", "split"]

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE, _END = 12, 4  # bytes: two lengths and their checksum; the checksum of all
_EXCEPTION = "exception:"


def split(data: bytes) -> Iterator[bytes]:
    """Yield the messages of a stream; what is left at its end, if it is cut short, comes last."""
    at = 0
    while len(data) - at >= _PRELUDE:
        length = int.from_bytes(data[at : at + 4], "big")
        if length < _PRELUDE + _END or at + length > len(data):
            break
        yield data[at : at + length]
        at += length
    if at < len(data):
        yield data[at:]


def sealed(event: str, payload: str) -> bytes:
    """Return the message of an event.

    Parameters
    ----------
    event : str
        Its name; after ``exception:`` that of an exception.
    payload : str
        JSON text.
    """
    kind, name = ("exception", event[len(_EXCEPTION) :]) if event.startswith(_EXCEPTION) else ("event", event)
    named = [(f":{kind}-type", name), (":content-type", "application/json"), (":message-type", kind)]
    headers = b"".join([_text(name, 1) + b"\x07" + _text(value, 2) for name, value in named])
    body = payload.encode("utf-8", "surrogateescape")
    prelude = struct.pack("!II", _PRELUDE + len(headers) + len(body) + _END, len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack("!I", zlib.crc32(message))


def _text(text: str, width: int) -> bytes:
    data = text.encode()
    return len(data).to_bytes(width, "big") + data


def opened(message: bytes) -> tuple[str, str] | None:
    """Return name and payload of a message, such that `sealed` gives it again; None for any other."""
    if len(message) < _PRELUDE + _END:
        return None
    start = _PRELUDE + int.from_bytes(message[4:8], "big")
    for kind, prefix in ((b":event-type", ""), (b":exception-type", _EXCEPTION)):
        lead = bytes([len(kind)]) + kind + b"\x07"
        at = _PRELUDE + len(lead)
        if message[_PRELUDE:at] != lead:
            continue
        length = int.from_bytes(message[at : at + 2], "big")
        if length > 255:
            return None
        try:
            event = prefix + message[at + 2 : at + 2 + length].decode("ascii")
        except UnicodeDecodeError:
            return None
        payload = message[start:-_END].decode("utf-8", "surrogateescape")
        return (event, payload) if sealed(event, payload) == message else None
    return None
