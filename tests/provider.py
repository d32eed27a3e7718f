"""The tests' own model provider: a real HTTP/1.1 server on 127.0.0.1 which imitates model APIs.

Every answer to a POST contains a running counter. Switches stand after the first ``/`` of the model's name,
separated by spaces or ``+``, as in ``test/words=20+gap=5``: ``words gap hold drop status delay delays crlf
spaced ascii unicode echo-key size``. Run ``python -m tests.provider`` to have it in a process of its own.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import email
import gzip
import hashlib
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import unquote, urlsplit

_Answer = tuple[bytes | Iterable[bytes], str, dict[str, str]]
_JSON, _SSE, _NDJSON = "application/json", "text/event-stream; charset=utf-8", "application/x-ndjson"
_HOLD_SECONDS = 20.0
_CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
_STRANGE = " \U0001f642 \u6f22\u5b57 line\u2028separator nul\x00 lone\ud800"

# What is answered, by path: $name is a value, <name> another entry. Under a ":stream" each line is one event,
# and the line with * is repeated for each piece of the content.
_SHAPES: dict[str, str] = {}
for _entry in re.split(
    r"\n(?=\S)",
    """
error {"error": {"message": "answer $n: status $status", "type": $type, "param": null, "code": $code}}
model {"id": $model, "object": "model", "created": 1700000000, "owned_by": "tests"}
/models {"object": "list", "data": [{"id": "test/a", "object": "model", "created": 1, "owned_by": "tests"}]}
head "created": $at, "model": $model, "service_tier": "default", "system_fingerprint": "fp_tests"
usage "usage": {"prompt_tokens": 9, "completion_tokens": $tokens, "total_tokens": $total,
  "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
/chat/completions {"id": "chatcmpl-$n", "object": "chat.completion", <head>, "choices": $choices, <usage>}
chunk {"id": "chatcmpl-$n", "object": "chat.completion.chunk", <head>, "choices": $choices}
used {<usage>}
/completions {"id": "cmpl-$n", "object": "text_completion", "created": $at, "model": $model, "choices":
  [{"text": $text, "index": 0, "logprobs": null, "finish_reason": "stop"}], <usage>}
part {"type": "output_text", "text": $text, "annotations": [], "logprobs": []}
item "id": "msg_$n", "type": "message", "role": "assistant"
done {<item>, "status": "completed", "content": [<part>]}
response "id": "resp_$n", "object": "response", "created_at": $at, "error": null, "incomplete_details": null,
  "instructions": null, "metadata": {}, "model": $model, "parallel_tool_calls": true, "temperature": 1.0,
  "reasoning": {"effort": null, "summary": null}, "previous_response_id": null, "store": true,
  "text": $format, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "user": null
begun {"response": {<response>, "status": "in_progress", "output": [], "usage": null}}
final {<response>, "status": "completed", "output": [<done>], "usage":
  {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
  "output_tokens": $tokens, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": $total}}
where "item_id": "msg_$n", "output_index": 0, "content_index": 0
/responses <final>
/responses:stream
  response.created <begun>
  response.in_progress <begun>
  response.output_item.added {"output_index": 0, "item": {<item>, "status": "in_progress", "content": []}}
  response.content_part.added {<where>, "part": {"type": "output_text", "text": "", "annotations": []}}
  * response.output_text.delta {<where>, "delta": $piece, "logprobs": [], "obfuscation": $mist}
  response.output_text.done {<where>, "text": $text, "logprobs": []}
  response.content_part.done {<where>, "part": <part>}
  response.output_item.done {"output_index": 0, "item": <done>}
  response.completed {"response": <final>}
message <item>, "model": $model
ended "stop_reason": "end_turn", "stop_sequence": null
/messages {<message>, "content": [{"type": "text", "text": $text}], <ended>,
  "usage": {"input_tokens": 9, "output_tokens": $tokens}}
blank {<message>, "content": [], "stop_reason": null, "stop_sequence": null,
  "usage": {"input_tokens": 9, "output_tokens": 1}}
/messages:stream
  message_start {"message": <blank>}
  content_block_start {"index": 0, "content_block": {"type": "text", "text": ""}}
  ping {}
  * content_block_delta {"index": 0, "delta": {"type": "text_delta", "text": $piece}}
  content_block_stop {"index": 0}
  message_delta {"delta": {<ended>}, "usage": {"output_tokens": $tokens}}
  message_stop {}
ollama "model": $model, "created_at": "2024-01-01T00:00:00.${n}Z"
/api/chat {<ollama>, "message": {"role": "assistant", "content": $text}, "done": true, "done_reason": "stop"}
/api/chat:stream
  * line {<ollama>, "message": {"role": "assistant", "content": $piece}, "done": false}
  line {<ollama>, "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": "stop"}
/images/generations {"created": $at, "data": [{"b64_json": $image}]}
/audio/transcriptions {"text": "transcription $n"}
/files {"id": "file-$n", "object": "file", "bytes": $size, "created_at": $at, "filename": $name,
  "purpose": $purpose, "status": "processed"}
/embeddings {"object": "list", "data": $vectors, "model": $model,
  "usage": {"prompt_tokens": 9, "total_tokens": 9}}""",
)[1:]:
    _name, _text = re.split(r"\s", _entry, maxsplit=1)
    _SHAPES[_name] = re.sub(r"<(\w+)>", lambda found: _SHAPES[found[1]].replace("\n", ""), _text)


def _fill(shape: str, values: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(Template(shape).substitute({name: json.dumps(v) for name, v in values.items()})))


def _example(schema: dict[str, Any], word: str, root: dict[str, Any]) -> Any:
    """Return a value which satisfies a simple schema, with `word` for the strings."""
    if "$ref" in schema:
        return _example(root["$defs"][schema["$ref"].rpartition("/")[2]], word, root)
    for options in filter(None, (schema.get("anyOf"), schema.get("allOf"))):
        return _example(options[0], word, root)
    if (kind := schema.get("type")) == "object":
        return {name: _example(inner, word, root) for name, inner in schema.get("properties", {}).items()}
    simple = {"array": [], "boolean": True, "integer": 1, "number": 1, "null": None}
    return schema["enum"][0] if "enum" in schema else schema.get("const", simple.get(str(kind), word))


def _slices(text: str) -> list[str]:
    return [text[start : start + 5] for start in range(0, len(text), 5)]


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request, and how it wishes to be answered."""

    number: int
    arrival: int
    body: dict[str, Any]
    key: str

    def has(self, name: str) -> bool:
        return self._switch(name) is not None

    def count(self, name: str) -> int | None:
        """Return a switch's number; of a list of numbers the one for this arrival of the same request."""
        numbers = [int(number) for number in (self._switch(name) or "").split(",") if number]
        return numbers[min(self.arrival, len(numbers) - 1)] if numbers else None

    def _switch(self, name: str) -> str | None:
        words = re.split("[ +]", str(self.body.get("model", "")).partition("/")[2])
        return next((value for key, _, value in (word.partition("=") for word in words) if key == name), None)

    def dump(self, value: object) -> bytes:
        separators = (", ", ": ") if self.has("spaced") else (",", ":")
        text = json.dumps(value, separators=separators, ensure_ascii=self.has("ascii"))
        return text.encode("utf-8", "backslashreplace")  # which makes a lone surrogate its JSON escape

    def event(self, data: bytes, name: str = "") -> bytes:
        lines = [*([b"event: " + name.encode()] if name else []), b"data: " + data, b"", b""]
        return (b"\r\n" if self.has("crlf") else b"\n").join(lines)

    def mist(self, position: int) -> str:
        return hashlib.sha256(f"{self.number}.{position}".encode()).hexdigest()[: 4 + position % 9]

    def schema(self) -> dict[str, Any] | None:
        form = self.body.get("response_format") or (self.body.get("text") or {}).get("format") or {}
        found = form.get("json_schema", form) if isinstance(form, dict) else {}
        return found.get("schema") if isinstance(found, dict) else None

    def pieces(self) -> list[str]:
        """Return the answer's content, in the pieces in which it is streamed."""
        if (schema := self.schema()) is not None:
            return _slices(self.dump(_example(schema, "x", schema)).decode())
        turns = self.body.get("messages") or self.body.get("input") or self.body.get("prompt") or ""
        mine = [t for t in turns if isinstance(t, dict) and t.get("role") == "user"] if turns else []
        asked = mine[-1].get("content", "") if mine else turns
        if isinstance(asked, list):
            asked = " ".join(str(part.get("text", "") if isinstance(part, dict) else part) for part in asked)
        more = (f" key {self.key}" * self.has("echo-key")) + _STRANGE * self.has("unicode")
        words = f"answer {self.number} to: {asked}{more}".split(" ")
        wanted = max(1, self.count("words") or len(words))
        words += [f"word{position}" for position in range(len(words), wanted)]
        words[wanted - 1 :] = [" ".join(words[wanted - 1 :])]
        return [words[0], *(" " + word for word in words[1:])]

    def mark(self, index: int) -> str:
        return f"[{index}] " if index and not self.schema() else ""

    def call(self, index: int) -> dict[str, Any]:
        """Return the calls of tools in the message of one choice, if the request forces one."""
        chosen, tools = self.body.get("tool_choice"), self.body.get("tools") or []
        if not tools or not (chosen == "required" or isinstance(chosen, dict)):
            return {}
        name = chosen.get("function", {}).get("name") if isinstance(chosen, dict) else None
        tool = next((tool for tool in tools if tool["function"]["name"] == name), tools[0])["function"]
        schema = tool.get("parameters") or {"type": "object"}
        function = {"name": tool["name"], "arguments": self.dump(_example(schema, "Tokyo", schema)).decode()}
        identity = f"call_{self.number}_{index}"
        return {"tool_calls": [{"id": identity, "type": "function", "function": function}]}

    def choices(self) -> Iterator[dict[str, Any]]:
        for index in range(self.body.get("n") or 1):
            calls, text = self.call(index), self.mark(index) + "".join(self.pieces())
            message = {"role": "assistant", "content": None if calls else text, "refusal": None, **calls}
            reason = "tool_calls" if calls else "stop"
            yield {"index": index, "message": message, "logprobs": None, "finish_reason": reason}

    def vectors(self) -> Iterator[dict[str, Any]]:
        given = self.body.get("input") or ""
        several = isinstance(given, list) and not isinstance(given[0], int)
        for index, text in enumerate(given if several else [given]):
            seeds = (hashlib.sha256(f"{text!r} {n}".encode()).digest() for n in range(6))
            digits = [f"-0.0{int.from_bytes(seed[:7]) % 10**17:017d}" for seed in seeds]
            digits = [f"0.{self.number:04d}45678901234567", "0.012345678901234567", *digits]
            vector: object = ["@" + number for number in digits]
            if self.body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack("<8f", *map(float, digits))).decode()
            yield {"object": "embedding", "index": index, "embedding": vector}

    def values(self, route: str) -> dict[str, Any]:
        pieces, (name, content) = self.pieces(), self.body.get("file") or ("", b"")
        return {
            "n": self.number,
            "at": 1_700_000_000 + self.number,
            "model": self.body.get("model", "test"),
            "tokens": len(pieces),
            "total": 9 + len(pieces),
            "text": "".join(pieces),
            "name": name,
            "size": len(content),
            "purpose": self.body.get("purpose"),
            "image": base64.b64encode(b"\x89PNG\r\n\x1a\n image %d" % self.number).decode(),
            "format": self.body.get("text") or {"format": {"type": "text"}},
            "choices": list(self.choices()) if route == "/chat/completions" else None,
            "vectors": list(self.vectors()) if route == "/embeddings" else None,
        }


def _fields(body: bytes, kind: str) -> dict[str, Any]:
    """Return a body's members, or of a form its fields, files as (name, content)."""
    fields: dict[str, Any] = {}
    if not kind.startswith("multipart/"):
        with contextlib.suppress(ValueError):
            fields = json.loads(body)
        return fields if isinstance(fields, dict) else {}
    for part in email.message_from_bytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body).walk():
        content, name = part.get_payload(decode=True), part.get_param("name", header="content-disposition")
        if name and isinstance(content, bytes):
            fields[str(name)] = (part.get_filename(), content) if part.get_filename() else content.decode()
    return fields


def _fixed() -> dict[str, _Answer]:
    sample = {"text": "h\u00e9llo \u6f22\u5b57 \U0001f642", "float": 1.5, "list": [1, 2, 3], "none": None}
    gzipped, packer = {"content-encoding": "gzip"}, zlib.compressobj(wbits=31)
    small = json.dumps(sample).encode()
    events = [b'data: {"index":%d,"data":%s}\n\n' % (n, small) for n in range(5)] + [b"data: [DONE]\n\n"]
    packed = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events] + [packer.flush()]
    return {
        "/text": ("h\u00e9llo \u6f22\u5b57 \U0001f642\n".encode(), "text/plain; charset=utf-8", {}),
        "/binary": (bytes(range(256)), "application/octet-stream", {}),
        "/pretty": ((json.dumps(sample, indent=2, ensure_ascii=False) + "\n").encode(), _JSON, {}),
        "/gzip": (gzip.compress(small, mtime=0), _JSON, gzipped),
        "/gzip-sse": (packed, _SSE, gzipped),
        "/models": (_SHAPES["/models"].encode(), _JSON, {}),
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    server: Provider

    def log_message(self, *_: object) -> None:
        pass

    def _read(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if "transfer-encoding" in self.headers:
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2)[:size]
            self.rfile.readline()
        return body

    def _serve(self) -> None:
        self.server.open.add(self.connection)
        try:
            body, route = self._read(), urlsplit(self.path).path.removeprefix("/v1")
            if not route.startswith("/_/"):
                return self._reply(route, body)
            if route == "/_/ack":
                self.server.ack()
            counts = json.dumps({"hits": self.server.hits, "acks": self.server.acks})
            self._send(0, (counts.encode(), _JSON, {}))
        except ConnectionError:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _reply(self, route: str, body: bytes) -> None:
        hit, number, arrival = self.server.record((self.command, self.path, body))
        key = self.headers.get("authorization") or self.headers.get("x-api-key") or ""
        ask = _Ask(number, arrival, _fields(body, self.headers.get("content-type", "")), key)
        time.sleep((ask.count("delays") or ask.count("delay") or 0) / 1000)
        status = ask.count("status") or 200
        if status < 400 and (answer := self._answer(ask, route)):
            return self._send(hit, answer, status)
        status = max(status, 404) if status < 400 else status
        kind = "server_error" if status >= 500 else "invalid_request_error"
        error = {"n": number, "status": status, "type": kind, "code": _CODES.get(status)}
        more = {"retry-after": "7"} if status == 429 else {}
        self._send(hit, (ask.dump(_fill(_SHAPES["error"], error)), _JSON, more), status)

    def _send(self, hit: int, answer: _Answer, status: int = 200) -> None:
        body, kind, more = answer
        size = {"transfer-encoding": "chunked"}
        if isinstance(body, bytes):
            size = {"content-length": str(len(body))}
        headers = {"content-type": kind, "x-request-id": f"req_{hit}", "set-cookie": "secret-cookie=abc"}
        self.send_response(status)
        for header in {**headers, "openai-processing-ms": "12", **size, **more}.items():
            self.send_header(*header)
        self.end_headers()
        if isinstance(body, bytes):
            self.wfile.write(body)
            return
        for part in body:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self, ask: _Ask, route: str) -> _Answer | None:
        """Return the answer's content, content type and further headers, or None if there is nothing."""
        url, post, stream = urlsplit(self.path), self.command == "POST", ask.body.get("stream")
        if not post and (found := self.server.kept.get(route)):
            return found
        if route.startswith("/echo"):
            echo = {"method": self.command, "path": url.path, "query": url.query}
            return ask.dump(echo | ({"number": ask.number} if post else {})), _JSON, {}
        if route.startswith("/models/"):
            return ask.dump(_fill(_SHAPES["model"], {"model": unquote(route[8:])})), _JSON, {}
        if post and route == "/audio/speech":
            size = ask.count("size") or 3000
            sound = (b"speech %d " % ask.number + bytes(range(256)) * (size // 256 + 1))[:size]
            step = max(1000, size // 100)
            return [sound[start : start + step] for start in range(0, size, step)], "audio/mpeg", {}
        if not post or not route.startswith("/") or route not in _SHAPES:
            return None
        if route == "/chat/completions" and stream:
            return self._chunks(ask), _SSE, {}
        if f"{route}:stream" in _SHAPES and ask.body.get("stream", route == "/api/chat"):
            return self._script(ask, route), _NDJSON if route == "/api/chat" else _SSE, {}
        # digits which no float would be written with: only a body kept as bytes comes back the same
        answer = re.sub(rb'"@([-.0-9]+)"', rb"\1", ask.dump(_fill(_SHAPES[route], ask.values(route))))
        if route == "/files":
            self.server.kept[f"/files/file-{ask.number}"] = answer, _JSON, {}
        return answer, _JSON, {}

    def _paced(self, ask: _Ask, pieces: list[str]) -> Iterator[str]:
        """Yield the pieces; what runs after a yield runs when that piece has been sent."""
        acks, drop, gap = self.server.acks, ask.count("drop"), (ask.count("gap") or 0) / 1000
        for position, piece in enumerate([*pieces, None]):
            if position == 1 and ask.has("hold") and not self.server.wait_ack(acks):
                yield "NOT ACKNOWLEDGED"
                return
            if position == drop:
                raise ConnectionAbortedError
            if piece is not None:
                time.sleep(gap if position else 0)
                yield piece

    def _script(self, ask: _Ask, route: str) -> Iterator[bytes]:
        values, text, sent = ask.values(route), "", 0
        if ask.has("crlf"):
            yield b": ping\r\n\r\n"
        for line in _SHAPES[f"{route}:stream"].strip().split("\n"):
            name, _, shape = line.strip().removeprefix("* ").partition(" ")
            for piece in self._paced(ask, ask.pieces()) if "* " in line[:4] else [""]:
                text += piece
                data = _fill(shape, values | {"piece": piece, "text": text, "mist": ask.mist(sent)})
                numbered = {"sequence_number": sent} if route == "/responses" else {}
                typed = {"type": name, **numbered, **data}
                yield ask.dump(data) + b"\n" if route == "/api/chat" else ask.event(ask.dump(typed), name)
                sent += 1

    def _chunks(self, ask: _Ask) -> Iterator[bytes]:
        values, sent = ask.values("/chat/completions"), 0
        counted = (ask.body.get("stream_options") or {}).get("include_usage")
        choices, usage = values["choices"], _fill(_SHAPES["used"], values) if counted else {}

        def chunk(choices: list[dict[str, Any]], **usage: Any) -> bytes:
            nonlocal sent
            sent += 1
            data = _fill(_SHAPES["chunk"], values | {"choices": choices})
            none = {"usage": None} if counted else {}
            return ask.event(ask.dump({**data, **none, **usage, "obfuscation": ask.mist(sent)}))

        def delta(choice: dict[str, Any], content: dict[str, Any], reason: str | None = None) -> bytes:
            told = {"index": choice["index"], "delta": content, "logprobs": None, "finish_reason": reason}
            return chunk([told])

        if ask.has("crlf"):
            yield b": ping\r\n\r\n"
        pieces, calls = ask.pieces(), []
        for choice in choices:
            opening = {**choice["message"], "content": ""}
            for call in opening.get("tool_calls", []):
                pieces = _slices(call["function"]["arguments"])
                calls = [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}]
                opening |= {"content": None, "tool_calls": calls}
            yield delta(choice, opening)
        for position, piece in enumerate(self._paced(ask, pieces)):
            for choice in choices:
                part = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
                mark = "" if position else ask.mark(choice["index"])
                yield delta(choice, part if calls else {"content": mark + piece})
        for choice in choices:
            yield delta(choice, {}, choice["finish_reason"])
        if counted:
            yield chunk([], **usage)
        yield ask.event(b"[DONE]")


class Provider(ThreadingHTTPServer):
    """A provider which serves from threads of this process, from its making until `close`.

    Parameters
    ----------
    port : int
        The port to listen on; 0 takes a free one.

    Attributes
    ----------
    port, url : int, str
        The port it listens on, and the base address for clients, ending in ``/v1``.
    requests : list of tuple
        (method, path with query, body) of all requests received but those under ``/_``.
    acks : int
        How many acknowledgements came by ``POST /_/ack`` or `ack`.
    """

    daemon_threads, request_queue_size = True, 256

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.acks = self._posts = 0
        self._changed, self._closed = threading.Condition(), False
        self.open, self.kept = set[socket.socket](), _fixed()
        super().__init__(("127.0.0.1", port), _Handler)
        self.port, self.url = self.server_port, f"http://127.0.0.1:{self.server_port}/v1"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def hits(self) -> int:
        """How many requests were received."""
        return len(self.requests)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and cut the open connections."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def ack(self) -> None:
        """Release the answers which `hold`, as ``POST /_/ack`` does."""
        with self._changed:
            self.acks += 1
            self._changed.notify_all()

    def wait_ack(self, seen: int) -> bool:
        """Wait for an acknowledgement beyond the `seen` ones; False if none came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or self.acks > seen, _HOLD_SECONDS)

    def record(self, request: tuple[str, str, bytes]) -> tuple[int, int, int]:
        """Note a request; return its number, the POSTs' number, and how many the same came before."""
        with self._changed:
            arrival = self.requests.count(request)
            self.requests.append(request)
            self._posts += request[0] == "POST"
            return len(self.requests), self._posts, arrival

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of defects, not of clients which went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass(frozen=True, slots=True)
class Spawned:
    """A provider in a process of its own.

    Attributes
    ----------
    port : int
        The port it listens on.
    process : subprocess.Popen
        The process.
    """

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The base address for clients, ending in ``/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def hits(self) -> int:
        """How many requests it received."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", "/_/hits")
            return int(json.loads(connection.getresponse().read())["hits"])

    def stop(self) -> None:
        """End the process; its port then refuses connections."""
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def spawn() -> Iterator[Spawned]:
    """Have a provider in another process for the time of the context.

    Yields
    ------
    Spawned
        The provider, which listens.
    """
    command, root = [sys.executable, "-m", "tests.provider", "--until"], Path(__file__).resolve().parents[1]
    until, ours = os.pipe()  # not standard input: a replay names a child that reads from this process
    line, quiet = [*command, str(until)], subprocess.DEVNULL
    with subprocess.Popen(line, cwd=root, pass_fds=[until], stdin=quiet, stdout=subprocess.PIPE) as process:
        os.close(until)
        assert process.stdout is not None
        spawned = Spawned(int(process.stdout.readline()), process)
        try:
            yield spawned
        finally:
            spawned.stop()
            os.close(ours)


def main() -> None:
    """Print the port, and serve until a pipe is closed: standard input, if no other is named."""
    parser = argparse.ArgumentParser(description="an imitation of model providers, for tests")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--until", type=int, default=0)
    options = parser.parse_args()
    with Provider(options.port) as provider, open(options.until, "rb") as until:
        print(provider.port, flush=True)
        until.read()


if __name__ == "__main__":
    main()
