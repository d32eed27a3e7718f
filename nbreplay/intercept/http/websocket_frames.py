"""Frames of websockets as bytes, and the head that opens a session: what a server sends, for parsers of libraries."""

from __future__ import annotations

import base64
import hashlib

from nbreplay.core.recording.headers import response_headers
from nbreplay.core.recording.take import Take
from nbreplay.core.recording.websocket import NO_CODE, Close
from nbreplay.intercept.http.exchange import encode_line

# RFC 6455, 5.2
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_FIN = 0x80
_LONGEST_REASON = 123  # bytes
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def encode_frame(opcode: int, data: bytes) -> bytes:
    """Return the bytes of a whole message, or of a control frame, from a server."""
    size = len(data)
    if size < 126:
        head = bytes([size])
    elif size < 1 << 16:
        head = b"\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x7f" + size.to_bytes(8, "big")
    return bytes([_FIN | opcode]) + head + data


def close_data(close: Close) -> bytes:
    """Return what a close frame holds."""
    reason = close.reason.encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore").encode()
    return b"" if close.code == NO_CODE else close.code.to_bytes(2, "big") + reason


def parse_close(data: bytes) -> tuple[int, str]:
    """Return the code and the reason in a close frame."""
    if len(data) < 2:
        return NO_CODE, ""
    return int.from_bytes(data[:2], "big"), data[2:].decode("utf-8", "replace")


def opening_headers(take: Take, key: str) -> list[tuple[str, str]]:
    """Return the headers of the answer that opens a session, to a client that has sent this key."""
    accept = base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode()).digest()).decode()
    headers = [*response_headers(take, None), ("Upgrade", "websocket"), ("Connection", "Upgrade")]
    return [*headers, ("Sec-WebSocket-Accept", accept)]


def opening_head(take: Take, key: str) -> bytes:
    """Return the head of the answer that opens a session, to a client that has sent this key."""
    headers = opening_headers(take, key)
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers), "", ""]
    return b"\r\n".join(map(encode_line, lines))
