"""A server that says what it is told to, byte for byte, and a way to have a call recorded, then replayed without it."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brotli
import zstandard

import nbreplay as nr
from tests.clients import outcomes
from tests.sdks.sockets import counted

__all__ = [
    *("ANSWERS", "BINARY", "CREDENTIALS", "EVENTS", "FAILURES", "HOLD", "JSON", "LINES", "RESET", "SECRET", "SSE"),
    *("WAIT", "Server", "chunked", "described", "head", "serving", "sized", "twice"),
]

SECRET = "a-secret-of-the-tests-0123456789"
CREDENTIALS = [
    {"Authorization": f"Bearer {SECRET}"},
    {"x-api-key": SECRET},
    {"Cookie": f"session={SECRET}"},
    {"x-amz-security-token": SECRET, "Authorization": "AWS4-HMAC-SHA256 Credential=a/b, Signature=" + SECRET},
]
"""Headers, each with the secret where a service wants it."""
HOLD = "hold"
"""Says nothing more until `Server.go` is set."""
WAIT = "wait"
"""Says nothing more until the test is over."""
RESET = "reset"
"""Resets the connection."""

Part = bytes | str
_TLS = b"\x16"  # what a client begins with


def sized(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """Return an answer that tells its length."""
    return head(status, content_length=str(len(body)), **headers) + body


def chunked(*pieces: bytes, trailer: bytes = b"", **headers: str) -> bytes:
    """Return an answer in chunks."""
    chunks = [b"%X;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return head(transfer_encoding="chunked", **headers) + b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


def head(status: str = "200 OK", **headers: str) -> bytes:
    """Return the beginning of an answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"content_type": "text/plain", **headers}.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


class Server:
    """Answers each path with what it was given for it: the first time with the first, then the next; the last stays.

    Attributes
    ----------
    answers : dict of str to list of list of bytes and marks
        By the target of the request line. The connection stays open, unless the last part is empty.
    requests : list of tuple
        (head, body) of all that was received.
    connections : int
    go : threading.Event
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[list[Part]]] = {}
        self.requests: list[tuple[bytes, bytes]] = []
        self.connections = 0
        self.go, self._over = threading.Event(), threading.Event()
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self._accept, daemon=True).start()

    def say(self, target: str, *parts: Part) -> str:
        """Add an answer for a target; return its URL."""
        self.answers.setdefault(target, []).append(list(parts))
        return self.url + target

    def stop(self) -> None:
        """Stop listening, and cut what is open."""
        self._over.set()
        self.go.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError, ValueError):
            while file.peek(1):
                if file.peek(1)[:1] == _TLS:
                    connection.sendall(b"this is not TLS")
                    return
                line = file.readline()
                lines = [line]
                while lines[-1] not in (b"\r\n", b""):
                    lines.append(file.readline())
                fields = {name.lower(): value.strip() for name, _, value in (one.partition(b":") for one in lines)}
                body = file.read(int(fields.get(b"content-length", 0)))
                if fields.get(b"transfer-encoding") == b"chunked":
                    while size := int(file.readline(), 16):
                        body += file.read(size + 2)[:size]
                    file.readline()
                with self._lock:
                    self.requests.append((b"".join(lines), body))
                    known = self.answers[line.split(b" ")[1].decode()]
                    parts = known.pop(0) if len(known) > 1 else known[0]
                if not self._said(connection, parts):
                    return

    def _said(self, connection: socket.socket, parts: list[Part]) -> bool:
        for part in parts:
            if part == RESET:
                # Closing at once, with what has not been sent thrown away, resets the connection.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if part in (HOLD, WAIT):
                if not (self.go if part == HOLD else self._over).wait(20):
                    return False  # nobody came: whoever reads on is not to wait for ever
            elif not part:
                return False
            else:
                assert isinstance(part, bytes)
                connection.sendall(part)
        return True


def twice(store: Path, server: Server, way: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what `way` gives while it is recorded, and what in a replay without the server and without a socket."""
    with nr.session(store, mode="record") as session:
        live = way()
    assert set(outcomes(session)) == {"recorded"}, outcomes(session)
    server.stop()
    with nr.session(store, mode="replay") as again, counted() as opened:
        replayed = way()
    assert not opened
    assert outcomes(again) == ["replayed"] * len(session.interactions)
    assert all(item.served_s is not None for item in again.interactions)
    return live, replayed


def described(call: Callable[[], Any]) -> Any:
    """Return what a call gives, or all that its exception tells, with that what it was made of."""
    try:
        return call()
    except Exception as error:
        return _told(error)


def _told(error: Any) -> Any:
    if not isinstance(error, Exception):
        return re.sub("0x[0-9a-f]+", "0x", str(error))
    inner = [_told(value) for value in (*error.args, getattr(error, "reason", None)) if isinstance(value, Exception)]
    return type(error).__name__, re.sub("0x[0-9a-f]+", "0x", str(error)), getattr(error, "errno", None), inner


def serving() -> Iterator[Server]:
    """Have a server for the time of a test: to be made a fixture of."""
    made = Server()
    yield made
    made.stop()


EVENTS = [b'data: {"n":%d}\n\n' % number for number in range(5)] + [b"data: [DONE]\n\n"]
LINES = [b'{"n":%d}\n' % number for number in range(5)]
JSON = json.dumps({"text": "compress me " * 50}).encode()
SSE = {"content_type": "text/event-stream"}
BINARY = bytes(range(256)) * 8192  # 2 MB

_KIND = {"content_type": "application/json"}


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _zipped_events() -> list[bytes]:
    packer = zlib.compressobj(wbits=31)
    return [*[packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in EVENTS], packer.flush()]


ANSWERS: dict[str, list[bytes]] = {
    "/sized": [sized(JSON, **_KIND)],
    "/chunked": [chunked(JSON[:10], JSON[10:], **_KIND)],
    "/looks-over": [chunked(b"one\r\n0\r\n\r\n", b"0\r\n\r\n", b"two 0\r\n\r\n")],
    "/trailer": [chunked(b"with", b" a\n trailer", trailer=b"x-a: b\r\nx-c: d\r\n")],
    "/empty": [sized(b"")],
    "/nothing": [head("204 No Content")],
    "/same": [head("304 Not Modified", content_length="7")],
    "/missing": [sized(b"nowhere", "404 Not Found")],
    "/broken": [sized(b'{"error":"here"}', "500 Internal Server Error", **_KIND)],
    "/named": [sized(b"ok", "299 Of Our Own")],
    "/gzip": [sized(gzip.compress(JSON, mtime=0), content_encoding="gzip", **_KIND)],
    "/gzip-chunked": [
        chunked(gzip.compress(JSON, mtime=0)[:20], gzip.compress(JSON, mtime=0)[20:], content_encoding="gzip", **_KIND)
    ],
    "/zlib": [sized(zlib.compress(JSON), content_encoding="deflate", **_KIND)],
    "/deflate": [sized(_deflated(JSON), content_encoding="deflate", **_KIND)],
    "/br": [sized(brotli.compress(JSON), content_encoding="br", **_KIND)],
    "/zstd": [sized(zstandard.compress(JSON), content_encoding="zstd", **_KIND)],
    "/two": [chunked(brotli.compress(gzip.compress(JSON)), content_encoding="gzip, br")],
    "/odd": [sized(b"odd", content_encoding="of-our-own")],
    "/events": [chunked(*EVENTS, **SSE)],
    "/events-sized": [sized(b"".join(EVENTS), **SSE)],
    "/events-gzip": [chunked(*_zipped_events(), content_encoding="gzip", **SSE)],
    "/events-br": [sized(brotli.compress(b"".join(EVENTS)), content_encoding="br", **SSE)],
    "/events-zstd": [sized(zstandard.compress(b"".join(EVENTS)), content_encoding="zstd", **SSE)],
    "/ndjson": [chunked(*LINES, content_type="application/x-ndjson")],
    "/binary": [sized(BINARY, content_type="application/octet-stream")],
    "/binary-chunked": [chunked(BINARY[:1_000_000], BINARY[1_000_000:], content_type="application/octet-stream")],
    "/until-close": [head() + b"first line\nsecond line\nthird", b""],
}
"""Answers of every shape, by the target that they are for."""

FAILURES: dict[str, list[Part]] = {
    "/reset": [RESET],
    "/gone": [b""],
    "/nonsense": [b"this is not HTTP\r\n\r\n", b""],
    "/slow": [WAIT],
    "/reset-inside": [head(content_length="99") + b"some", HOLD, RESET],
    "/short": [head(content_length="99") + b"only this", b""],
    "/short-events": [chunked(*EVENTS, **SSE)[:-30], b""],
    "/short-between": [chunked(*EVENTS, **SSE)[:-28], b""],
    "/short-sized": [sized(b"".join(EVENTS), **SSE)[:-30], b""],
    "/short-chunk": [head(transfer_encoding="chunked") + b"ff\r\nonly this", b""],
    "/no-chunk": [head(transfer_encoding="chunked") + b"4\r\nsome\r\nzz\r\n", b""],
    "/slow-inside": [head(content_length="99") + b"some", WAIT],
    "/slow-events": [chunked(*EVENTS, **SSE)[:-28], WAIT],
}
"""Answers that break, or that do not come in time."""
