"""Places of what is answered, of tools, and of secrets that the environment names."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

import nbreplay as nr
from tests.clients import said
from tests.hostile.places import Carried, Scene, batched, one_line, place
from tests.hostile.places_sent import env_file, packed

# what is answered


def slices(text: str, seed: str) -> Iterator[str]:
    """Cut a text anywhere, into one to nine characters."""
    random, start = Random(seed), 0
    while start < len(text):
        size = random.randint(1, 9)
        yield text[start : start + size]
        start += size


def chunk(**delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def content_stream(carried: Sequence[Carried]) -> list[bytes]:
    text = "\n\n".join(item.prose for item in carried)
    return [chunk(role="assistant", content=""), *(chunk(content=piece) for piece in slices(text, "content"))]


def streamed(scene: Scene, url: str) -> str:
    """Return the text of a streamed chat, its deltas joined."""
    text = ""
    body = {"model": "m", "stream": True, "messages": said("hi")}
    with scene.client.stream("POST", url, json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                delta = json.loads(line[6:])["choices"][0]["delta"]
                text += delta.get("content") or "".join(
                    call["function"]["arguments"] for call in delta.get("tool_calls", ())
                )
    return text


@place("stream of a text cut anywhere")
def stream_content(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    url = scene.give("/v1/chat/completions", [*content_stream(carried), b"data: [DONE]\n\n"], "text/event-stream")
    yield streamed(scene, url)


@place("stream of the arguments of tools cut anywhere", named=True)
def stream_arguments(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        called = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "login", "arguments": ""}}
        pieces = [chunk(role="assistant", content=None, tool_calls=[called])]
        for piece in slices(json.dumps({"user": "me", "api_key": item.text}), item.text):
            pieces.append(chunk(tool_calls=[{"index": 0, "function": {"arguments": piece}}]))
        path = f"/v1/{quote(item.id)}/chat/completions"
        yield streamed(scene, scene.give(path, [*pieces, b"data: [DONE]\n\n"], "text/event-stream"))


@place("events that arrive cut anywhere", named=True)
def stream_bytes(scene: Scene, carried: Sequence[Carried]) -> Iterator[bytes]:
    data = b"".join(b"data: " + json.dumps({"api_key": item.text}).encode() + b"\n\n" for item in carried)
    pieces = [piece.encode() for piece in slices(data.decode(), "bytes")]
    with scene.client.stream("GET", scene.give("/events", pieces, "text/event-stream")) as answer:
        yield b"".join(answer.iter_bytes())


@place("lines of JSON cut anywhere")
def ndjson(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    text = "\n\n".join(item.prose for item in carried)
    lines = [{"model": "m", "message": {"content": piece}, "done": False} for piece in slices(text, "lines")]
    pieces = [json.dumps(line).encode() + b"\n" for line in [*lines, {"model": "m", "done": True}]]
    url = scene.give("/api/chat", pieces, "application/x-ndjson")
    with scene.client.stream("POST", url, json={"model": "m", "messages": said("hi")}) as answer:
        yield "".join(json.loads(line).get("message", {}).get("content", "") for line in answer.iter_lines())


@place("JSON answer by name", named=True)
def json_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    body = json.dumps({"data": [{"id": item.id, "api_key": item.text} for item in carried]}).encode()
    yield scene.get(scene.give("/keys", body)).text


@place("answer of a chat")
def chat_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    message = {"role": "assistant", "content": "\n\n".join(item.prose for item in carried)}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    answer["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    scene.give("/v1/chat/completions", json.dumps(answer).encode())
    yield scene.post("/v1/chat/completions", json={"model": "m", "messages": said("hi")})


@place("text answer", named=True)
def text_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.get(scene.give("/env", env_file(carried).encode(), "text/plain")).text


@place("text answer in prose, by aiohttp")
def text_answer_prose(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    url = scene.give("/prose", "\n".join(item.prose for item in carried).encode(), "text/plain")

    async def ask() -> str:
        async with aiohttp.ClientSession() as client, client.get(url) as answer:
            return await answer.text()

    yield asyncio.run(ask())


@place("binary answer")
def binary_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[bytes]:
    body = b"\x89PNG\x00\xff" + b"\x00\xfe".join(item.text.encode() for item in carried) + b"\x00\xff"
    yield scene.get(scene.give("/binary", body, "application/octet-stream")).content


@place("large answer", named=True)
def large_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    members = [{"api_key": item.text, "filling": "x" * 8000} for item in carried]
    yield scene.get(scene.give("/large", json.dumps(members).encode())).text


@place("gzip answer", named=True)
def gzip_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    body = gzip.compress(json.dumps([{"api_key": item.text} for item in carried]).encode(), mtime=0)
    yield scene.get(scene.give("/packed", body, headers=[("content-encoding", "gzip")])).text


@place("zip answer", named=True, recorded=False)
def zip_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[bytes]:
    body = packed(**{"project/.env": env_file(carried)})
    yield scene.get(scene.give("/project.zip", body, "application/zip")).content


def escaped(text: str) -> str:
    """Write every character of a JSON string as its number."""
    return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'


@place("JSON answer in escapes", named=True)
def escaped_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    members = ", ".join(f'{{"api_key": {escaped(item.text)}}}' for item in carried)
    yield json.dumps(scene.get(scene.give("/escaped", f"[{members}]".encode())).json())


@place("JSON answer as PHP and .NET write it", named=True)
def careful_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    body = json.dumps([{"api_key": item.text} for item in carried]).replace("/", "\\/").replace("+", "\\u002B")
    yield json.dumps(scene.get(scene.give("/careful", body.encode())).json())


@place("events in escapes", named=True)
def escaped_events(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    events = [f'data: {{"api_key": {escaped(item.text)}}}\n\n'.encode() for item in carried]
    text = scene.get(scene.give("/escaped/events", events, "text/event-stream")).text
    yield json.dumps([json.loads(line[6:]) for line in text.splitlines() if line])


@place("text answer in UTF-16", named=True)
def utf_16(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.get(scene.give("/utf-16", env_file(carried).encode("utf-16"), "text/plain; charset=utf-16")).text


@place("error answer")
def error_answer(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    message = " ".join(f"Incorrect API key provided: {item.text}." for item in carried)
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
    scene.give("/v1/responses", body, status=401)
    yield scene.post("/v1/responses", json={"model": "m", "input": "hi"})


@place("header of the answer", fits=one_line)
def answer_header(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for number, items in enumerate(batched(carried, 40)):
        headers = [(f"x-acme-{each}", item.text) for each, item in enumerate(items)]
        yield repr(dict(scene.get(scene.give(f"/headers/{number}", b"{}", headers=headers)).headers))


@place("header of the answer by name", named=True, fits=one_line)
def named_answer_header(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        url = scene.give(f"/tokens/{item.id}", b"{}", headers=[("x-subject-token", item.text)])
        yield repr(dict(scene.get(url).headers))


@place("link to the next page", named=True)
def link_header(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        link = f'<{scene.url}/list?access_token={quote(item.text, safe="")}&page=2>; rel="next"'
        yield repr(dict(scene.get(scene.give(f"/list/{item.id}", b"[]", headers=[("link", link)])).headers))


@place("set-cookie", named=True, fits=lambda text: one_line(text) and not set(text) & set(';,"'))
def set_cookie(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        headers = [("set-cookie", f"session={item.text}; Path=/; HttpOnly")]
        yield repr(scene.get(scene.give(f"/cookies/{quote(item.id)}", b"{}", headers=headers)).headers)


@place("redirect", named=True)
def redirect(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        location = f"{scene.url}/landing?access_token={quote(item.text, safe='')}"
        url = scene.give(f"/moved/{quote(item.id)}", b"", status=302, headers=[("location", location)])
        yield scene.get(url, follow_redirects=True).text


# tools


@place("arguments of a tool", named=True)
def tool_arguments(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    @nr.tool
    def login(api_key: str) -> str:
        return "done"

    yield from (login(api_key=item.text) for item in carried)


@place("result of a tool")
def tool_result(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    @nr.tool
    def search(query: str) -> dict[str, Any]:
        return {"found": [item.prose for item in carried]}

    yield json.dumps(search("keys"))


@place("exception of a tool")
def tool_error(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    @nr.tool
    def login(number: int) -> None:
        raise ValueError(carried[number].prose)

    for number in range(len(carried)):
        with pytest.raises(ValueError) as caught:
            login(number)
        yield str(caught.value)


@place("arguments of a tool of MCP", named=True)
def mcp_arguments(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    calls = [{"api_key": item.text} for item in carried]
    yield repr(asyncio.run(mcp_calls(calls, lambda: "done")))


@place("result of a tool of MCP")
def mcp_result(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield repr(asyncio.run(mcp_calls([{}], lambda: "\n".join(item.prose for item in carried))))


async def mcp_calls(calls: list[dict[str, str]], answer: Callable[[], str]) -> list[Any]:
    mcp = pytest.importorskip("mcp")
    server = pytest.importorskip("mcp.server.mcpserver").MCPServer("tests", log_level="ERROR")

    @server.tool()  # type: ignore[untyped-decorator]
    def work(api_key: str = "") -> str:
        """Work."""
        return answer()

    async with mcp.Client(server) as client:
        return [await client.call_tool("work", arguments) for arguments in calls]


@place("JSON-RPC over HTTP", named=True)
def jsonrpc(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    result = {"content": [{"type": "text", "text": json.dumps({"api_key": item.text})} for item in carried]}
    scene.give("/mcp", json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode())
    asked = {"name": "login", "arguments": {str(n): {"api_key": item.text[::-1]} for n, item in enumerate(carried)}}
    yield scene.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": asked})


# known by the environment


def in_environment(scene: Scene, carried: Sequence[Carried]) -> None:
    for item in carried:
        scene.set_variable(f"{item.id.upper().replace('-', '_')}_API_KEY", item.secret)


@place("value of the environment", named=True)
def environment(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    in_environment(scene, carried)
    body = json.dumps({"lines": [f"It is {item.secret} here." for item in carried]}).encode()
    scene.give("/environment", body)
    yield scene.post("/environment", json={"q": [f"Is it {item.secret}?" for item in carried]})


@place("base64 of a value of the environment", named=True)
def environment_base64(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    in_environment(scene, carried)
    coded = [
        base64.b64encode(f"{'u' * before}{item.secret}{after}".encode()).decode()
        for item in carried
        for before, after in ((0, ""), (1, "!"), (2, "!!"))
    ]
    scene.give("/coded", json.dumps({"data": coded}).encode())
    yield scene.post("/coded", json={"data": coded})
