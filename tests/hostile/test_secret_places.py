"""No secret reaches the disk, wherever in a call it stood: every kind of the corpus in every place.

A call carries many kinds, each in a field of its own. What is searched is every byte below the folder of
recordings, unpacked, and what a replay gives.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
import pandas as pd
import pytest
import requests

import nbreplay as nr
from nbreplay.core.store.store import Store
from nbreplay.formats import registry, zip_export
from nbreplay.formats.llama_stack import reader
from nbreplay.notebook.render import cards
from tests.clients import http, outcomes, said
from tests.hostile.haystack import contents, forms
from tests.hostile.mirror import Answer, Mirror
from tests.hostile.secret_kinds import KINDS, Kind
from tests.notebook.kernel import started

EXPECTED_LEFT: dict[str, frozenset[str]] = {}
"""What still reaches the disk: place and kinds, each of which the documentation names."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A secret on its way: its kind, the text that has it, and the part that must not be written."""

    kind: Kind
    text: str
    secret: str

    @property
    def id(self) -> str:
        return self.kind.id

    @property
    def prose(self) -> str:
        return f"My key is {self.text}, please use it."


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the calls of a place are made."""

    mirror: Mirror
    store: Path
    out: Path
    set_variable: Callable[[str, str], None]
    client: Any = field(default_factory=lambda: http.Client(verify=False))

    @property
    def url(self) -> str:
        return self.mirror.url

    def post(self, path: str, **body: Any) -> str:
        """Send a request, and return the text of its answer."""
        return str(self.client.post(self.url + path, **body).text)

    def get(self, url: str, **more: Any) -> Any:
        """Return the answer of an address."""
        return self.client.get(url, **more)

    def give(self, path: str, body: bytes | list[bytes], kind: str = "application/json", **more: Any) -> str:
        """Let the server answer this at a path, and return the address."""
        self.mirror.answers[path] = Answer(body, kind, **more)
        return self.url + path


Call = Callable[[Scene, Sequence[Carried]], "Iterator[str | bytes]"]


@dataclass(frozen=True, slots=True)
class Place:
    """A place of a call.

    Attributes
    ----------
    name : str
    call : callable
        Makes the calls, and yields what came of them.
    named : bool
        Whether the place says that the value is a secret; elsewhere only kinds of a shape of their own are sent.
    fits : callable
        Which texts can stand there at all.
    recorded : bool
        Whether there is a recording afterwards: what cannot be redacted is not kept, and the session says so.
    after : callable, optional
        What is done with the recordings afterwards: it writes below the second folder of the scene, or yields.
    """

    name: str
    call: Call
    named: bool
    fits: Callable[[str], bool]
    recorded: bool = True
    after: Call | None = None

    def carried(self) -> list[Carried]:
        """Return what is sent there, another example than in any other place."""
        drawn = ((kind, kind.example(Random(f"{kind.id} {self.name}"))) for kind in KINDS if self.named or kind.shaped)
        return [Carried(kind, text, kind.secret(text)) for kind, text in drawn if self.fits(text)]


PLACES: list[Place] = []


def place(
    name: str,
    *,
    named: bool = False,
    fits: Callable[[str], bool] = lambda _: True,
    recorded: bool = True,
    after: Call | None = None,
) -> Callable[[Call], Call]:
    def add(call: Call) -> Call:
        PLACES.append(Place(name, call, named, fits, recorded, after))
        return call

    return add


def one_line(text: str) -> bool:
    return "\n" not in text


def batched(items: Sequence[Carried], size: int) -> Iterator[Sequence[Carried]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


# --- what is sent: headers, address


def bearer(scheme: str) -> Call:
    def call(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
        for item in carried:
            yield scene.post(f"/key/{item.id}", headers={"authorization": f"{scheme} {item.text}"}, json={"model": "m"})

    return call


place("header authorization bearer", named=True, fits=one_line)(bearer("Bearer"))
place("header authorization of another scheme", named=True, fits=one_line)(bearer("Acme"))


@place("request header that nobody knows", named=True, fits=one_line)
def unknown_header(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for items in batched(carried, 40):
        sent = {f"x-acme-{number}": item.text for number, item in enumerate(items)}
        yield requests.post(scene.url + "/unknown", headers=sent, json={"model": "m"}, timeout=20).text


@place("basic authentication", named=True, fits=one_line)
def basic(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.post(f"/basic/{item.id}", auth=("someone", item.text), json={"model": "m"})


@place("cookie of the request", named=True, fits=lambda text: one_line(text) and not set(text) & set(';,"'))
def cookie(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.post(f"/cookie/{item.id}", headers={"cookie": f"session={item.text}"}, json={"model": "m"})


@place("query by name", named=True)
def query(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.get(f"{scene.url}/query", params={"api_key": item.text, "page": "1"}).text


@place("query in prose")
def query_prose(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.get(f"{scene.url}/query", params={"q": item.prose}).text


@place("path", fits=one_line)
def path(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    for item in carried:
        yield scene.get(f"{scene.url}/bots/{quote(item.text, safe='')}/messages").text


# --- what is sent: bodies


@place("JSON by name", named=True)
def json_named(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/json", json={"accounts": [{"api_key": item.text} for item in carried]})


@place("message of a chat")
def message(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    turns = [turn for item in carried for turn in said(item.prose)]
    yield scene.post("/v1/chat/completions", json={"model": "m", "messages": turns})


@place("name of a member of JSON")
def json_name(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/names", json={item.text: 1 for item in carried})


@place("JSON in JSON", named=True)
def json_in_json(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    called = [{"function": {"name": "f", "arguments": json.dumps({"password": item.text})}} for item in carried]
    turns = [{"role": "assistant", "tool_calls": called}]
    yield scene.post("/v1/chat/completions", json={"model": "m", "messages": turns})


@place("form by name", named=True)
def form(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield requests.post(scene.url + "/form", [("client_secret", item.text) for item in carried], timeout=20).text


def multipart(scene: Scene, parts: Iterable[tuple[str, str | None, bytes]]) -> str:
    boundary, lines = "b" * 30, []
    for name, file, data in parts:
        more = f'; filename="{file}"' if file else ""
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"{more}\r\n\r\n'
        lines.append(head.encode() + data + b"\r\n")
    body = b"".join(lines) + f"--{boundary}--\r\n".encode()
    return scene.post("/files", content=body, headers={"content-type": f"multipart/form-data; boundary={boundary}"})


@place("text part of a form by name", named=True)
def part(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, (("api_key", None, item.text.encode()) for item in carried))


@place("text part of a form in prose")
def part_prose(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, (("comment", None, item.prose.encode()) for item in carried))


@place("name of a part", fits=lambda text: one_line(text) and '"' not in text)
def part_name(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, ((item.text, None, b"yes") for item in carried))


@place("name of a file", fits=lambda text: one_line(text) and '"' not in text)
def file_name(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield multipart(scene, (("file", item.text, b"yes") for item in carried))


def env_file(carried: Sequence[Carried]) -> str:
    return "".join(f"{item.kind.name}={item.text}\n" for item in carried)


@place("text file", named=True)
def text_file(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/files", files={"file": (".env", env_file(carried).encode())})


@place("small text files", named=True)
def small_files(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/files", files=[("files", (f"{item.id}.env", env_file([item]).encode())) for item in carried])


@place("gzip of JSON", named=True)
def gzipped(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    body = gzip.compress(json.dumps([{"api_key": item.text} for item in carried]).encode(), mtime=0)
    yield scene.post("/gzip", content=body, headers={"content-encoding": "gzip", "content-type": "application/json"})


def packed(**members: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return made.getvalue()


@place("zip that is sent", named=True)
def zip_sent(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    yield scene.post("/files", files={"file": ("project.zip", packed(**{"project/.env": env_file(carried)}))})


@place("zip as the body", named=True)
def zip_body(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    body = packed(**{"project/.env": env_file(carried)})
    yield scene.post("/upload", content=body, headers={"content-type": "application/zip"})


@place("docx that is sent")
def docx(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    text = "".join(f"<w:p><w:t>{item.prose}</w:t></w:p>" for item in carried)
    document = packed(**{"word/document.xml": f"<w:document>{text}</w:document>"})
    yield scene.post("/files", files={"file": ("letter.docx", document)})


@place("notebook that is sent", named=True)
def ipynb(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    cells = [{"cell_type": "code", "source": [f"api_key = {item.text!r}\n"], "outputs": []} for item in carried]
    notebook = json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    yield scene.post("/files", files={"file": ("notes.ipynb", notebook.encode())})


# --- what is answered


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


# --- tools


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


# --- known by the environment


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


# --- what is written after


def both(scene: Scene, carried: Sequence[Carried]) -> Iterator[str | bytes]:
    """Record a chat, a stream, a tool and a JSON answer."""
    for call in (json_answer, tool_arguments):
        yield from call(scene, carried)
    shaped = [item for item in carried if item.kind.shaped]
    for call in (chat_answer, tool_result, message):
        yield from call(scene, shaped)
    scene.mirror.answers.pop("/v1/chat/completions")


def load(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    library = nr.load(scene.store)
    for frame in (library.interactions, library.messages, library.chunks, library.tool_calls):
        yield frame.to_csv()
    assert list(scene.store.rglob("*.parquet")), "the frames are kept"


def export_parquet(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    nr.load(scene.store).to_parquet(scene.out / "frames")
    yield ""


def export_zip(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    zip_export.export(Store(scene.store), scene.out / "store.zip")
    yield ""


def export_llama_stack(scene: Scene, carried: Sequence[Carried]) -> Iterator[str]:
    reader.export(Store(scene.store), scene.out / "llama")
    yield ""


for _name, _after in {
    "frames and their cache": load,
    "export as parquet": export_parquet,
    "export as zip": export_zip,
    "export as llama-stack": export_llama_stack,
}.items():
    place(_name, named=True, after=_after)(both)


@dataclass
class Left:
    """What was left on the disk, and of how many."""

    pairs: int = 0
    found: dict[str, frozenset[str]] = field(default_factory=dict)


LEFT = Left()


def left_in(data: bytes, carried: Sequence[Carried]) -> frozenset[str]:
    """Return the kinds that stand in `data`, whole or by half."""

    def stands(secret: str) -> bool:
        middle = len(secret) // 2
        parts = (secret[:middle], secret[middle:]) if middle >= 16 else (secret,)
        return any(form in data for part in parts for form in forms(part))

    return frozenset(item.id for item in carried if stands(item.secret))


def note(name: str, carried: Sequence[Carried], left: frozenset[str]) -> None:
    """Count what is left, and say it; it must be what the documentation names."""
    LEFT.pairs += len(carried)
    LEFT.found[name] = left
    print(f"\n{name}: {len(left)} of {len(carried)} kinds left: {', '.join(sorted(left)) or 'none'}")
    assert left == EXPECTED_LEFT.get(name, frozenset())


def run(item: Place, scene: Scene, carried: Sequence[Carried]) -> bytes:
    """Record and replay; return what is on the disk, what the replay gave and what its cards show."""
    with warnings.catch_warnings(action="ignore"), nr.session(scene.store, mode="record") as session:
        assert list(item.call(scene, carried)), "there are calls"
    if not item.recorded:
        assert {(entry.outcome, "secret" in entry.note) for entry in session.interactions} == {("unsaved", True)}
        return contents(scene.store)
    with nr.session(scene.store, mode="replay") as session:
        replayed = list(item.call(scene, carried))
    assert set(outcomes(session)) == {"replayed"}
    shown = [json.dumps(cards([interaction])) for interaction in session.interactions[:40]]
    after = list(item.after(scene, carried)) if item.after else []
    texts = [text if isinstance(text, bytes) else text.encode() for text in (*replayed, *shown, *after)]
    return b"\n".join([contents(scene.store), contents(scene.out), *texts])


@pytest.fixture
def scene(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    (tmp_path / "out").mkdir()
    with Mirror() as mirror:
        made = Scene(mirror, store, tmp_path / "out", monkeypatch.setenv)
        with made.client:
            yield made


@pytest.mark.parametrize("item", PLACES, ids=lambda item: item.name)
def test_no_secret_is_written(item: Place, scene: Scene) -> None:
    carried = item.carried()
    note(item.name, carried, left_in(run(item, scene, carried), carried))


def test_no_secret_of_a_cassette_is_written(scene: Scene) -> None:
    """Cassettes of VCR hold what was sent and answered as it was."""
    carried = Place("cassette of VCR", json_named, True, one_line).carried()
    answer = {"status": {"code": 200, "message": "OK"}, "headers": {"content-type": ["application/json"]}}
    interactions = []
    for number, items in enumerate(batched(carried, 20)):
        keys = [{"api_key": item.text} for item in items]
        headers = {
            "content-type": ["application/json"],
            **{f"x-acme-{each}": [item.text] for each, item in enumerate(items)},
        }
        query = "&".join(f"token={quote(item.text, safe='')}" for item in items)
        request = {"method": "POST", "uri": f"https://api.acme.example/keys/{number}?{query}", "headers": headers}
        said_back = {"keys": keys, "message": " ".join(item.prose for item in items)}
        interactions.append(
            {
                "request": {**request, "body": json.dumps(keys)},
                "response": {**answer, "body": {"string": json.dumps(said_back)}},
            }
        )
    source = scene.out.parent / "cassettes"
    source.mkdir()
    (source / "keys.yaml").write_text(json.dumps({"version": 1, "interactions": interactions}), encoding="utf-8")
    counts = registry.import_(source, Store(scene.store))
    assert counts.written == len(interactions)
    note("cassette of VCR", carried, left_in(contents(scene.store), carried))


def test_the_search_sees_a_secret_however_it_is_packed(tmp_path: Path) -> None:
    secret = KINDS[0].draw()
    written = {
        "plain.json": json.dumps({"a": json.dumps({"b": secret})}).encode(),
        "coded.json": json.dumps({"data": base64.b64encode(f"a {secret}".encode()).decode()}).encode(),
        "coded-zip.json": json.dumps({"data": base64.b64encode(packed(inner=secret)).decode()}).encode(),
        "body.gz": gzip.compress(secret.encode()),
        "store.zip": packed(**{"recordings/a.json": json.dumps([quote(secret, safe="")])}),
    }
    for name, data in written.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(data)
        assert any(form in contents(folder) for form in forms(secret)), name
    (tmp_path / "names" / secret).mkdir(parents=True)
    assert secret.encode() in contents(tmp_path / "names")
    pd.DataFrame({"text": [f"it is {secret}"]}).to_parquet(tmp_path / "names" / "frame.parquet", compression="zstd")
    (tmp_path / "names" / secret).rmdir()
    assert secret.encode() in contents(tmp_path / "names")


WATCHED = """
import openai
client = openai.OpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)
for _ in client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "hi"}}], stream=True):
    pass
client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "plain"}}])
"""


def test_no_secret_is_in_a_card_or_the_state_of_a_widget(scene: Scene, tmp_path: Path) -> None:
    """The displays of a kernel and the states of its widgets are what is saved in a notebook."""
    shaped = Place("card and widget of a notebook", stream_content, False, lambda _: True).carried()
    scene.give("/v1/chat/completions", [*content_stream(shaped), b"data: [DONE]\n\n"], "text/event-stream")
    with started(tmp_path / "work") as kernel:
        assert not kernel.run("%load_ext nbreplay").ename
        kernel.run("%replay record kept --view stream")
        ran = kernel.run(WATCHED.format(url=f"{scene.url}/v1"), "a-cell")
    kept = [content for kind, content in ran.comms if kind == "comm_open" or content["data"].get("method") == "update"]
    assert kept
    told = json.dumps([ran.displays, kept, ran.stdout, ran.stderr, ran.result])
    data = b"\n".join([told.encode(), "".join(strings(kept)).encode(), contents(tmp_path / "work" / "kept")])
    note("card and widget of a notebook", shaped, left_in(data, shaped))


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from strings(item)


def test_hardly_anything_is_left() -> None:
    """After all the places above: of the kinds of a shape of their own, or with a name beside them."""
    left = sum(map(len, LEFT.found.values()))
    print(f"\n{left} of {LEFT.pairs} kinds in {len(LEFT.found)} places left")
    assert len(PLACES) + 1 >= 34
    assert left <= 0.02 * LEFT.pairs
