"""What the local server costs: ``python -m tests.benchmarks.serve [--rounds N] [--recordings N…] [--json FILE]``.

``nbreplay serve`` replays, and beside it an uvicorn with starlette answers the same bytes, whatever it is asked. Each
is a process of its own, with uvicorn's HTTP in Python (h11). A lean client asks both in turn: one call after the other
over one connection, and 200 streams at once. The figures are ratios of the CPU time of the servers, and of the time
that the client waits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

import nbreplay as nr
from tests.benchmarks.timing import Figure, Spent, ratio

__all__ = ["main", "measure"]

_TARGET = 2.0
_CALLS, _STREAMS = 400, 200
_HERE = Path(__file__).parents[2]
_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-4o"}
_WHOLE = {**_CHUNK, "object": "chat.completion"}


def answer(stream: bool) -> bytes:
    """Return the constant answer: 50 events, or a message."""
    if not stream:
        message = {"role": "assistant", "content": "18 °C and clear. " * 20}
        return json.dumps({**_WHOLE, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    chunks = [{**_CHUNK, "choices": [{"index": 0, "delta": {"content": f" word{n}"}}]} for n in range(50)]
    return b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in chunks) + b"data: [DONE]\n\n"


def question(number: int, stream: bool) -> bytes:
    """Return the body of a request."""
    messages = [{"role": "user", "content": f"question {number}"}]
    return json.dumps({"model": "gpt-4o", "stream": stream, "messages": messages}).encode()


def record(store: Path, recordings: int) -> None:
    """Record so many questions; one in two is a stream."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        stream = b'"stream": true' in request.content
        kind = "text/event-stream" if stream else "application/json"
        content = iter([answer(True)]) if stream else answer(False)  # streams come in chunks, without a length
        return httpx2.Response(200, headers={"content-type": kind}, content=content)

    with httpx2.Client(transport=nr.transport(store, "record", inner=httpx2.MockTransport(reply))) as client:
        for number in range(recordings):
            body = question(number // 2, bool(number % 2))
            client.post("https://api.openai.com/v1/chat/completions", content=body)


class Server:
    """A server in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serve", "--be", *arguments],
            cwd=_HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        match = re.match(r"http://127\.0\.0\.1:(\d+)(.*)", self.process.stdout.readline())
        assert match is not None
        self.port, self.path = int(match[1]), match[2].strip()

    def cpu(self) -> float:
        """Return the seconds of CPU that it has spent."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def stop(self) -> None:
        """Stop it."""
        self.process.communicate()


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Server]:
    """Run a server meanwhile."""
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.stop()


def be(arguments: list[str]) -> None:
    """Be a server, until standard input ends; tell the CPU time for each line of it."""
    if arguments[0] == "nbreplay":
        from nbreplay.core.config import Options
        from nbreplay.core.session import Session
        from nbreplay.core.store.store import Store
        from nbreplay.serve import local

        print(local.start(Session(Store(arguments[1]), Options.of(mode="replay"))).address, flush=True)
    else:
        _be_constant()
    for _ in sys.stdin:
        print(time.process_time(), flush=True)


def _be_constant() -> None:
    import socket
    import threading

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def reply(request: Request) -> Response:
        stream = b'"stream": true' in await request.body()
        return Response(answer(stream), media_type="text/event-stream" if stream else "application/json")

    app = Starlette(routes=[Route("/{path:path}", reply, methods=["POST"])])
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # so that it has TCP_NODELAY
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    config = uvicorn.Config(app, http="h11", loop="asyncio", ws="none", log_config=None, access_log=False)
    threading.Thread(target=uvicorn.Server(config).run, args=([listener],), daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes) -> bytes:
    head = f"POST {path}/openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{writer.get_extra_info('peername')[1]}"
    writer.write(f"{head}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    answer_head = await reader.readuntil(b"\r\n\r\n")
    assert answer_head.startswith(b"HTTP/1.1 200"), answer_head + await reader.read(2000)
    if match := re.search(rb"content-length: (\d+)", answer_head):
        return await reader.readexactly(int(match[1]))
    data = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        data += (await reader.readexactly(size + 2))[:size]
    await reader.readexactly(2)
    return data


async def one_by_one(server: Server, path: str, recordings: int) -> None:
    """Ask one question after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    questions = min(_CALLS, recordings // 2)
    for number in range(_CALLS):
        at = number % questions
        run = f"{path}-{number // questions}" if path else ""
        data = await _ask(reader, writer, run, question(at * (recordings // 2 // questions), False))
        assert data == answer(False)
    writer.close()


async def at_once(server: Server, path: str, recordings: int) -> None:
    """Ask for many streams at once."""
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(_STREAMS)]
    questions = min(_STREAMS, recordings // 2)
    step = recordings // 2 // questions
    asked = [
        _ask(*pair, f"{path}-{at // questions}" if path else "", question(at % questions * step, True))
        for at, pair in enumerate(connections)
    ]
    assert set(await asyncio.gather(*asked)) == {answer(True)}
    for _, writer in connections:
        writer.close()


def measure(rounds: int, recordings: int) -> list[Figure]:
    """Return the figures for a store of so many recordings."""
    figures = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        record(Path(folder) / "recordings", recordings)
        servers = [stack.enter_context(running(*a)) for a in (("nbreplay", f"{folder}/recordings"), ("constant",))]
        for name, load in (("one by one", one_by_one), (f"{_STREAMS} streams at once", at_once)):
            spent: list[list[Spent]] = [[], []]
            for number in range(-1, rounds):
                for place in (number % 2, 1 - number % 2):
                    server = servers[place]
                    path = f"{server.path}/-/run/{name.replace(' ', '-')}{number}" if server.path else ""
                    cpu, wall = server.cpu(), time.perf_counter()
                    asyncio.run(load(server, path, recordings))
                    wall = time.perf_counter() - wall
                    if number >= 0:
                        spent[place].append(Spent(wall, server.cpu() - cpu))
            for clock in ("cpu", "wall"):
                title = f"{name}, {recordings:,} recordings, {clock}"
                figures.append(ratio(title, *spent, _TARGET, clock))
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--recordings", type=int, nargs="+", default=[100, 10_000], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--be", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.be:
        be(given.be)
        return 0
    rows: list[dict[str, Any]] = []
    for recordings in given.recordings:
        for figure in measure(given.rounds, recordings):
            print(f"{figure.name:<45} {figure.measured:.2f} x (best {figure.best:.2f}), target {figure.target}")
            rows.append(figure.row())
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
