"""AWS event streams: binary messages with typed headers and checksums, taken apart and put together again.

Only the shape that services send is understood: an event (or an exception) by name, with a text for its payload. Any
other message stays the bytes that it is.
"""

from __future__ import annotations

import struct
import zlib

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE, _END = 12, 4  # bytes: two lengths and their checksum; the checksum of all
_EXCEPTION = "exception:"


def find_end(data: bytes | bytearray, start: int) -> int | None:
    """Return where the message ends that begins at `start`; None if that has not come, or no message begins there."""
    if len(data) - start < _PRELUDE:
        return None
    end = start + int.from_bytes(data[start : start + 4], "big")
    return end if start + _PRELUDE + _END <= end <= len(data) else None


def encode_message(event: str, payload: str) -> bytes:
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


def decode_message(message: bytes) -> tuple[str, str] | None:
    """Return name and payload of a message, such that `encode_message` gives it again; None for any other."""
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
        return (event, payload) if encode_message(event, payload) == message else None
    return None
