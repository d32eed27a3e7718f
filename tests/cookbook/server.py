"""The services that the notebooks of the cookbook call: models that want a key, a batch that takes a while, a page.

It is the server of `tests.sdks`, whose models call a tool that they have before they answer. Each answer contains a
running number, and answers to concurrent questions come in another order than they were asked.
"""

from __future__ import annotations

import base64
import json
import struct
import time
import zlib
from typing import Any
from urllib.parse import urlsplit

from tests.sdks import server
from tests.sdks.asked import JSON

__all__ = ["KEY", "SECRETS", "Services"]

KEY = "sk-proj-" + "c00kb00k" * 5
"""The key that all models accept."""
TOKEN = "gw_" + "5ca1ab1e" * 4
"""The token of the gateway in front of them."""
SECRETS = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY, "GEMINI_API_KEY": KEY, "GATEWAY_TOKEN": TOKEN}
"""What an author has in the environment, and CI does not."""

_POLLS = ("validating", "in_progress", "completed")
_PAGE = b"<html><head><title>Opening hours</title></head><body><p>Monday to Friday, 9 to 17.</p></body></html>"


class Services(server._Provider):
    """The services, in threads of this process, until `close`."""

    def __init__(self) -> None:
        self.polls: dict[str, int] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        super().__init__(holds=False, patience=1.0)
        self.RequestHandlerClass = _Handler

    def addresses(self) -> dict[str, str]:
        """Return the variables that lead the SDKs here, which a replay needs as well as a recording."""
        root = self.url.removesuffix("/v1")
        return {
            "OPENAI_BASE_URL": self.url,
            "ANTHROPIC_BASE_URL": root,
            "GOOGLE_GEMINI_BASE_URL": root,
            "SHOP_URL": root,
        }


class _Handler(server._Handler):
    server: Services

    def _answer(self, ask: Any, route: str) -> Any:
        if self.command == "GET" and route == "/hours.html":
            return _PAGE, "text/html; charset=utf-8", {}
        if not any(KEY in (self.headers.get(name) or "") for name in ("authorization", "x-api-key", "x-goog-api-key")):
            return self._refusal(401, "invalid_api_key", "Incorrect API key provided.")
        question = json.dumps(ask.body, default=str)
        if "hurry" in question and not ask.arrival:
            return self._refusal(429, "rate_limit_exceeded", "Rate limit reached for gpt-4o-mini.")
        # By its length, so that it is the same in every run, and neighbours are answered in another order.
        time.sleep(0.03 * (7 * len(question) % 5) if self.command == "POST" else 0)
        if answer := self._batch(ask, route):
            return json.dumps(answer).encode(), JSON, {}
        if route == "/images/generations":
            data = [{"b64_json": base64.b64encode(_picture(ask.number)).decode()}]
            return json.dumps({"created": 1_700_000_000 + ask.number, "data": data}).encode(), JSON, {}
        if self.command == "GET" and (content := self._results(route)):
            return content, "application/jsonl", {}
        return super()._answer(ask, route)

    def _refusal(self, status: int, code: str, message: str) -> Any:
        self._status = status
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        return json.dumps({"error": error}).encode(), JSON, {}

    def _batch(self, ask: Any, route: str) -> dict[str, Any] | None:
        """Return a batch, which is a step further each time."""
        if self.command == "POST" and route == "/batches":
            name = f"batch_{ask.number}"
            times = {"created_at": 1_700_000_000 + ask.number, "completion_window": "24h"}
            paths = {"endpoint": ask.body["endpoint"], "input_file_id": ask.body["input_file_id"]}
            self.server.batches[name] = {"id": name, "object": "batch", **paths, **times}
        else:
            name = urlsplit(route).path.removeprefix("/batches/")
        if name not in self.server.batches:
            return None
        polls = self.server.polls[name] = self.server.polls.get(name, -1) + 1
        status = _POLLS[min(polls, len(_POLLS) - 1)]
        done = {"output_file_id": f"file-of-{name}"} if status == "completed" else {}
        return {**self.server.batches[name], "status": status, **done}

    def _results(self, route: str) -> bytes | None:
        """Return the results of a batch, one line for each task."""
        name = route.removeprefix("/files/file-of-").removesuffix("/content")
        if name not in self.server.batches:
            return None
        message = {"role": "assistant", "content": f"A comedy, says {name}."}
        body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        lines = ({"custom_id": f"task-{n}", "response": {"status_code": 200, "body": body}} for n in range(3))
        return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _picture(number: int) -> bytes:
    """Return a PNG of one colour, another one for each number."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size, colour = 32, bytes((number * 67 % 256, number * 29 % 256, 120))
    rows = (b"\0" + colour * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
