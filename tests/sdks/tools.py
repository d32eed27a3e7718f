"""What the tests of tools in frameworks share: a count of what was entered, and a loop of three steps."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbreplay as nr
from tests.clients import outcomes

__all__ = ["Entries", "Loop", "model"]


class Entries:
    """How often tools' bodies were entered. Once it is closed none may be, whoever catches the error.

    Attributes
    ----------
    number : int
    wrong : int
        How often while it was closed.
    """

    def __init__(self) -> None:
        self.number = self.wrong = 0
        self._closed = False

    def enter(self) -> str:
        """Be entered; the result differs each time."""
        self.number += 1
        if self._closed:
            self.wrong += 1
            raise AssertionError("the body of a tool was entered in a replay")
        return f"answer {self.number}"

    def close(self) -> None:
        """Let nobody in."""
        self._closed = True

    def open(self) -> None:
        """Let everybody in, after nobody was."""
        assert self.wrong == 0
        self._closed = False


class _Handler(BaseHTTPRequestHandler):
    """OpenAI's chat: calls the first tool twice, then is done. Its ids are never the same, the rest always."""

    numbers = itertools.count(1)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        results = sum(message["role"] == "tool" for message in body["messages"])
        message: dict[str, Any] = {"role": "assistant", "content": "done"}
        if results < 2:
            function = {"name": body["tools"][0]["function"]["name"], "arguments": f'{{"text": "step {results + 1}"}}'}
            call = {"id": f"call_{next(self.numbers):024d}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = {
            "id": f"chatcmpl-{next(self.numbers)}",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "test",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if results < 2 else "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def model() -> Iterator[str]:
    """Have a model that calls tools; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


class Loop:
    """An agent that asks a model three times and calls a tool twice.

    Parameters
    ----------
    agent : function of (str, function)
        Runs it, with the address of the model and the tool's function; returns what it comes to.
    store : path
    """

    def __init__(self, agent: Callable[[str, Callable[[str], str]], Any], store: Path) -> None:
        self.agent, self.store, self.entries = agent, store, Entries()

    def run(self, url: str, mode: str) -> tuple[Any, list[str]]:
        """Run it; what it comes to, and what became of its calls."""

        def do_step(text: str) -> str:
            """Do one step of three."""
            return f"{self.entries.enter()}: {text}"

        with nr.session(self.store, mode=mode) as session:
            said = self.agent(url, do_step)
        return said, outcomes(session)

    def check(self) -> None:
        """Record it; replay it; record its first step anew, with other ids, and replay it again."""
        with model() as url:
            recorded, became = self.run(url, "record")
        assert became == ["recorded"] * 5
        assert self.entries.number == 2
        self.entries.close()
        assert self.run(url, "replay") == (recorded, ["replayed"] * 5)
        first = [path for path in self.store.glob("*.json") if '"messages"' in path.read_text("utf-8")]
        first = [path for path in first if '"role": "tool"' not in path.read_text("utf-8")]
        assert len(first) == 1
        before = first[0].read_bytes()
        first[0].unlink()
        with model() as url:
            again, became = self.run(url, "auto")
        assert (again, became) == (recorded, ["recorded", *["replayed"] * 4])
        assert first[0].read_bytes() != before, "it was recorded anew, with other ids"
        assert self.run(url, "replay") == (recorded, ["replayed"] * 5)
        assert self.entries.wrong == 0
