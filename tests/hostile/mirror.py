"""A server for attacks with secrets: it answers what it is given, and mirrors the credentials that it is sent."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Answer", "Mirror"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its body in one piece, or in the pieces in which it is sent."""

    body: bytes | list[bytes]
    kind: str = "application/json"
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    server: Mirror

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        self._read()
        answer = self.server.answers.get(urlsplit(self.path).path) or Answer(self._mirrored())
        self.send_response(answer.status)
        self.send_header("content-type", answer.kind)
        for name, value in answer.headers:
            self.send_header(name, value)
        if isinstance(answer.body, bytes):
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in answer.body:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = _serve

    def _read(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if "transfer-encoding" in self.headers:
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()

    def _mirrored(self) -> bytes:
        """Return an error as providers write them: with the key that they did not take."""
        sent = {name.lower(): value for name, value in self.headers.items()}
        keys = [value for name, value in sent.items() if name.startswith("x-acme-") or name == "cookie"]
        scheme, _, credentials = sent.get("authorization", "").partition(" ")
        if scheme == "Basic":
            keys.append(base64.b64decode(credentials).decode().partition(":")[2])
        elif scheme:
            keys.append(credentials)
        message = "".join(f"Incorrect API key provided: {key}. " for key in keys)
        return json.dumps({"error": {"message": message, "sent": sent.get("authorization")}}).encode()


class Mirror(ThreadingHTTPServer):
    """The server, which listens from its making until `close`.

    Attributes
    ----------
    answers : dict of str to Answer
        By path; every other path mirrors the credentials of the request.
    url : str
    """

    daemon_threads, request_queue_size = True, 256

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()
