"""Fuzzing of what reads strangers' data: ``python -m tests.hostile.fuzz [--seconds N] [--only TARGET] [--seed N]``.

Each case follows from the name of its target and a seed, so that a failure is made again by the line that it prints.
A target fails by any exception that it does not declare, by a hang, and by memory out of proportion.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import faulthandler
import http.client
import io
import itertools
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

from nbreplay.analysis.columns import FRAMES
from nbreplay.analysis.frames import RowFrames
from nbreplay.analysis.rows import Row
from nbreplay.core.log import Interaction, Log
from nbreplay.core.recording import stream_parser
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.recording import Recording, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay
from nbreplay.core.request.jsonrpc import answer_to
from nbreplay.core.request.request import Request
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, RecordingMissing
from nbreplay.formats import registry
from nbreplay.formats.llama_stack import recordings
from nbreplay.intercept.http.http_client import ReplaySocket
from nbreplay.intercept.http.httpx import response_of
from nbreplay.notebook import render
from nbreplay.notebook.card import make_cards
from nbreplay.providers.answer import Answer
from tests.clients import http as http_library
from tests.formats.making import SHARED, chat, load, method

__all__ = ["TARGETS", "Failure", "run"]

ROOT = Path(__file__).resolve().parents[2]
_LARGEST = 24 << 10  # bytes of a file to begin with
_PATIENCE = 30  # seconds for one case
_MEMORY = 3 << 30

Random = random.Random

_TOKENS = [
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\x00",
        b"\xff",
        b"\xf0\x9f",
        b"-",
    ),
    *(b"null", b"true", b"NaN", b"Infinity", b"-0", b"1e999", b"1e-400", b"9" * 40, b"1" * 5000, b"0.00001", b"1e16"),
    *(b'"\\ud800"', b'"\\udc80"', b"\\u0000", b"\\u2028", "\u2028\U0001f600é".encode(), b'"__proto__"', b"<script>"),
    *(
        b"[" * 150,
        b"]" * 150,
        b"[" * 900,
        b'{"a":' * 300,
        b"data: ",
        b"event: ",
        b": ",
        b"id: 1\n",
        b"[DONE]",
        b"data:",
    ),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 10**400, 1.5, 1e300, float("inf"), float("nan"), -0.0, 1e-7),
    *(
        "",
        "a",
        "\ud800",
        "\udcff",
        "\x00\x1b[2J",
        "\u2028\u202e",
        "</script><script>alert(1)</script>",
        "é😀",
        "9" * 5000,
    ),
    *([], {}, [[]], [None], {"a": None}, [[0, "a"]], [[0, None, None, "data: x\n\n"]], {"": ""}, [1] * 300),
    *("k1:" + "0" * 64, "sse", "ndjson", "eventstream", "spaced", "compact-ascii", "indent", "dropped", "text/html"),
]
_NAMES = [
    *("json", "text", "blob", "chunks", "size", "style", "end", "framing", "fields", "common", "status", "headers"),
    *("complete", "reason", "standing", "error", "redacted", "elapsed_ms", "task", "rpc_id", "ids", "cell", "host"),
    *("key", "kind", "request", "takes", "nbreplay", "later", "timed", "choices", "delta", "content", "tool_calls"),
    *("usage", "error", "type", "function", "arguments", "index", "message", "jsonrpc", "id", "result", "method", ""),
]


class Failure(Exception):
    """A case that failed. Says how to make it again."""


def _bytes(random: Random, data: bytes, others: list[bytes]) -> bytes:
    """Return bytes with a few changes."""
    made = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        at = random.randrange(len(made) + 1)
        size = min(len(made) - at, int(random.expovariate(1 / 12)))
        match random.randrange(8):
            case 0:
                made[at : at + size] = b""
            case 1:
                made[at:at] = made[at : at + size] * random.choice((1, 2, 30))
            case 2 if at < len(made):
                made[at] ^= 1 << random.randrange(8)
            case 3:
                other = random.choice(others)
                start = random.randrange(len(other) + 1)
                made[at : at + size] = other[start : start + 4 * size]
            case 4 if random.random() < 0.2:
                del made[at:]
            case _:
                made[at : at + random.choice((0, 0, size))] = random.choice(_TOKENS)
    return bytes(made)


def _places(node: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    for name, value in list(node.items()) if isinstance(node, dict) else list(enumerate(node)):
        found.append((node, name))
        if isinstance(value, dict | list):
            _places(value, found)
    return found


def _data(random: Random, data: Any) -> Any:
    """Return JSON data with a few changes of its structure."""
    made = copy.deepcopy(data)
    with contextlib.suppress(RecursionError):  # of a copy of what has become deep
        for _ in range(random.choice((1, 1, 2, 4))):
            made = _changed(random, made)
    return made


def _changed(random: Random, made: Any) -> Any:
    places = _places(made, []) if isinstance(made, dict | list) else []
    if not places:
        return random.choice(_VALUES)
    node, name = random.choice(places)
    value = copy.deepcopy(random.choice(_VALUES))
    match random.randrange(7):
        case 0:
            del node[name]
        case 1:
            for _ in range(random.choice((1, 3, 250))):
                value = [value] if random.random() < 0.5 else {"a": value}
            node[name] = value
        case 2 if isinstance(node, dict):
            node[random.choice(_NAMES)] = node.pop(name)
        case 3 if isinstance(node, dict):
            node[random.choice(_NAMES)] = value
        case 4 if isinstance(node, list):
            node.insert(name, copy.deepcopy(node[name]))
        case 5:
            other, key = random.choice(places)
            with contextlib.suppress(KeyError, IndexError):
                node[name] = copy.deepcopy(other[key])
        case _:
            node[name] = value
    return made


def _mutated(random: Random, files: list[bytes]) -> bytes:
    data = random.choice(files)
    if random.random() < 0.6:
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(_data(random, json.loads(data)), ensure_ascii=random.random() < 0.5).encode(
                "utf-8", "surrogatepass"
            )
    return _bytes(random, data, files)


@cache
def _recordings() -> list[bytes]:
    """Real recordings, and one of each shape that is not among them."""
    found = [*ROOT.glob("recordings/*.json"), *ROOT.glob("tests/sdks/crossed/*/*.json")]
    files = [data for path in sorted(found) if len(data := path.read_bytes()) < _LARGEST]
    fields = {"method": "POST", "host": "a.b", "path": "/mcp", "body": {"jsonrpc": "2.0", "method": "tools/call"}}
    message = {"jsonrpc": "2.0", "id": 3, "result": {"content": [{"type": "text", "text": "a"}]}}
    sse = b"".join(b"event: message\ndata: %b\n\n" % json.dumps({**message, "n": n}).encode() for n in range(5))
    takes = [
        Take(body=Json(message), rpc_id=3),
        Take(body=Events.parse([(1.0, sse)], "sse", 0.0), rpc_id=3),
        Take(body=Events(()), standing=True, complete=False, reason="open"),
        Take(body=Blob("blob-" + "0" * 32 + ".bin", 1)),
    ]
    aws = b"".join(
        stream_parser.encode_message("contentBlockDelta", f'{{"delta":{{"text":"{n}"}},"p":"ab"}}') for n in range(5)
    )
    takes.append(Take(body=Events.parse([(1.0, aws)], "eventstream", 0.0)))
    lines = b"".join(b'{"model":"m","message":{"content":"%d"},"done":false}\n' % n for n in range(6))
    takes.append(Take(body=Events.parse([(1.0, lines)], "ndjson", 0.0), extra={"timed": False}))
    files += [Recording("k1:" + "0" * 64, "http", fields, (take,)).data() for take in takes]
    tool = {"tool": "f", "arguments": {"a": 1}}
    said = [Take(body=Json(value)) for value in ({"value": [1, "a"]}, {"exception": {"type": "ValueError"}})]
    files.append(Recording("k1:" + "0" * 64, "tool", tool, tuple(said)).data())
    return files


# Targets: each makes its input of a random generator, hands it to `note`, and raises where something is wrong.

Note = Callable[[Any], None]
_ERRORS = (http_library.HTTPError, http_library.InvalidURL, http.client.HTTPException, OSError)


def _reader(random: Random, note: Note) -> None:
    data = _mutated(random, _recordings())
    note(data)
    try:
        recording = parse(data)
    except (RecordingFormatError, UnicodeDecodeError):
        return
    for check in (recording.verify, recording.check):
        with contextlib.suppress(RecordingFormatError):
            check()
    try:
        recording.check()
    except RecordingFormatError:
        request = Request(recording.kind, {}, recording.key)
    else:
        request = Request(recording.kind, recording.request, recording.key)
        text = recording.text()
        if parse(text).text() != text:
            raise AssertionError("it is not the same when it is read again")
    for take in recording.takes:
        if not isinstance(take.body, Blob):
            with contextlib.suppress(RecordingFormatError):
                whole = take.body.data()
                if isinstance(take.body, Events) and b"".join(take.body.parts()) != whole:
                    raise AssertionError("a stream is not the sum of its parts")
            _serve(take)
            with contextlib.suppress(RecordingFormatError):
                answer_to(take, 7).body.data()
            with contextlib.suppress(RecordingFormatError):
                Answer(take.body)
                frames = RowFrames([Row(request.key, None, request, take)])
                for name in FRAMES:
                    frames.frame(name)


def _serve(take: Take) -> None:
    """Have a take served by the two ways that there are of giving it to an HTTP library."""
    for serve in (_by_httpx, _by_http_client):
        replay = Replay(take, None, Log(), 0, time.perf_counter())
        if not replay.stays_open:
            with contextlib.suppress(RecordingMissing, *_ERRORS):
                serve(replay)


def _by_httpx(replay: Replay) -> None:
    response = response_of(http_library.Request("POST", "http://a.example/"), replay)
    response.request = http_library.Request("POST", "http://a.example/")
    response.read()
    _ = response.headers.items(), response.text


def _by_http_client(replay: Replay) -> None:
    response = http.client.HTTPResponse(ReplaySocket(replay, "POST"))  # type: ignore[arg-type]
    response.begin()
    response.read()


def _piece(random: Random) -> bytes:
    """Return about what is an event of some stream."""
    value: Any = {
        "id": "c",
        "n": random.randrange(4),
        "model": "m",
        "delta": {"text": random.choice(_TOKENS).decode("latin-1")},
    }
    if random.random() < 0.3:
        value = _data(random, value)
    try:
        text = json.dumps(
            value, ensure_ascii=random.random() < 0.5, separators=random.choice(((",", ":"), (", ", ": ")))
        )
    except RecursionError:
        text = "{}"
    data = text.encode("utf-8", "surrogatepass")
    end = random.choice((b"\n\n", b"\n\n", b"\n\n", b"\r\n\r\n", b"\n", b"\r\r", b""))
    match random.randrange(8):
        case 0:
            return b"event: " + random.choice((b"a", b"", b"\xff", b"x y")) + b"\ndata: " + data + end
        case 1:
            return b": ping" + end
        case 2:
            return random.choice(_TOKENS) + end
        case 3:
            return stream_parser.encode_message("e", data.decode("utf-8", "surrogateescape"))
        case 4:
            return data + b"\n"
        case _:
            return b"data: " + data + end


def _stream(random: Random, note: Note) -> None:
    data = b"".join(_piece(random) for _ in range(random.choice((0, 1, 3, 12, 40))))
    if random.random() < 0.4:
        data = _bytes(random, data, [data, b"data: [DONE]\n\n"])
    framing = random.choice(("sse", "sse", "ndjson", "eventstream"))
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 1, 5, 30))))
    pieces = [(0.1 * n, data[a:b]) for n, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(data)], strict=True))]
    note((framing, cuts, data))
    events = Events.parse(pieces, framing, 0.0)
    if events.data() != data or b"".join(events.parts()) != data:
        raise AssertionError("the bytes are not those that were cut")
    again = parse(Recording("k1:0", "http", {}, (Take(body=events),)).data()).takes[0].body
    if not isinstance(again, Events) or again.data() != data:
        raise AssertionError("the bytes are not the same out of a file")
    if len(again.chunks) != len(events.chunks) or any(chunk.gap_ms < 0 for chunk in again.chunks):
        raise AssertionError("the chunks are not the same out of a file")


@cache
def _foreign() -> list[tuple[str, bytes]]:
    """Small files of llama-stack and VCR, real ones where there are any."""
    stream = {"body": [{"__type__": "a.B", "__data__": {"choices": []}}] * 3, "is_streaming": True}
    made = [
        chat(),
        method({"model": "m", "stream": True}, stream),
        {"request": {"tool_name": "f"}, "response": {"body": 1}},
    ]
    found = [(".json", json.dumps(one).encode()) for one in made]
    item = "- request: {method: GET, uri: 'http://a.example/b?c=d', headers: {A: [b]}, body: null}\n" \
        "  response: {status: {code: 200}, headers: {Content-Type: [text/plain]}, body: {string: abc}}\n"  # fmt: skip
    found.append((".yaml", f"version: 1\ninteractions:\n{item}{item}".encode()))
    found.append((".toml", b'version = 1\n[[interactions]]\n[interactions.request]\nmethod="GET"\nuri="http://a/"\n'))
    for ending, most, count in ((".json", 8 << 10, 60), (".yaml", 5 << 10, 40)):
        paths = [path for path in sorted(SHARED.rglob(f"*{ending}")) if path.stat().st_size < most]
        found += [(ending, path.read_bytes()) for path in paths[:: max(1, len(paths) // count)]]
    return found


def _importers(random: Random, note: Note) -> None:
    ending, data = random.choice(_foreign())
    others = [data for _, data in _foreign()]
    data = _mutated(random, [data]) if ending == ".json" else _bytes(random, data, others)
    note((ending, data))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"000000000000{ending}"
        path.write_bytes(data)
        for recording in load(path):
            if isinstance(recording, Recording):
                again = parse(recording.data())
                again.verify()
                again.check()
                for one, other in zip(recording.takes, again.takes, strict=True):
                    if not isinstance(one.body, Blob) and one.body.data() != other.body.data():
                        raise AssertionError("an answer is not the same out of a file")
            else:
                str(recording).encode("utf-8", "surrogateescape")
        if random.random() < 0.1:
            store = Store(Path(folder) / "store")
            registry.import_files(path, store)
            recordings.export(store, Path(folder) / "out")


_SECRETS = [
    *("sk-proj-" + "aB3x" * 12, "sk-ant-api03-" + "Zy9_" * 22, "ghp_" + "k2Lm" * 9, "AKIA" + "QX7N" * 4),
    *("hf_" + "aBcD" * 9, "Bearer " + "t0k3N" * 8, "AIza" + "Sy5a" * 9, "xoxb-1234567890-" + "ab" * 12),
    *("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIE" * 40 + "\n-----END RSA PRIVATE KEY-----", "password=hunter2hunter2"),
]
_FILLER = [
    " ",
    "\n",
    '"',
    "=",
    ": ",
    "&key=",
    "/",
    "\\n",
    "a",
    "é",
    "😀",
    "-----BEGIN ",
    "sk-",
    "eyJ",
    ".",
    "[secret:1]",
]


def _secretive(random: Random, between: list[str]) -> str:
    parts = []
    for _ in range(random.choice((1, 3, 9, 40))):
        part = random.choice(random.choice((_SECRETS, _FILLER)))
        parts += [part[: random.randrange(len(part) + 1)] if random.random() < 0.1 else part, random.choice(between)]
    return "".join(parts)


def _redactor(random: Random, note: Note) -> None:
    # Without a space between, one secret may hide the beginning of the next.
    apart = random.random() < 0.7
    text = _secretive(random, [" ", "\n", " = "] if apart else ["", "", " "])
    note(text)
    clean = Redactor().text(text)
    if apart and (Redactor().text(clean) != clean or Redactor().finds(clean)):
        raise AssertionError(f"there is a secret in what is left: {clean!r}")
    made, end, numbers, matches = [], 0, Redactor(), Redactor().matches(text)
    for match in matches:
        if not end <= match.start < match.end <= len(text):
            raise AssertionError("the matches overlap")
        made += [text[end : match.start], numbers.placeholder(text[match.start : match.end])]
        end = match.end
    if "".join([*made, text[end:]]) != clean:
        raise AssertionError("the matches are not what is replaced")
    cuts = sorted(random.randrange(len(text) + 1) for _ in range(3))
    pieces = [text[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(text)])]
    if "".join(Redactor().pieces(pieces)) != clean:
        raise AssertionError(f"cut at {cuts}, something else is left")
    place = random.randrange(len(text) + 1)
    before = Redactor().before(text, place)
    if not 0 <= before <= place or any(match.start < before < match.end for match in matches):
        raise AssertionError(f"{before} is in the middle of a secret")
    Redactor().value({text: [text]})
    Redactor().json({text: [text]}, json.dumps({text: [text]}).encode())
    Redactor().data(text.encode())
    Redactor().url("http://a.example/?q=" + text)


_PLAYER = render.read_static("player.js").replace("\n", " ")


class _Page(HTMLParser):
    """Refuses what is not HTML of ours."""

    _TAGS = frozenset(["div", "b", "span", "details", "summary", "pre", "table", "tr", "th", "td"])
    _ATTRIBUTES: ClassVar = {  # and what their values are
        "style": r"[^\"<>\\]*",
        "open": r"",
        "class": r"tex2jax_ignore mathjax_ignore",
        "data-nbreplay": r"\w*",
        "data-together": r"1",
        "data-beats": r"[-\d@+ ]*",
        "data-part": r"\d+",
        "data-foot": r"",
    }

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" and attrs == [("type", "text/javascript")]:  # the same in every page; `handle_data` reads it
            self.open.append(tag)
            return
        known = all(re.fullmatch(self._ATTRIBUTES.get(name, "(?!)"), value or "") for name, value in attrs)
        if tag not in self._TAGS or not known:
            raise AssertionError(f"it has a tag {tag} {attrs}")
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and data != _PLAYER:
            raise AssertionError(f"it has a script {data[:80]}")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"its tag {tag} is not open")


def _renderer(random: Random, note: Note) -> None:
    data = _mutated(random, _recordings())
    note(data)
    try:
        recording = parse(data)
        request = Request(recording.kind, recording.request, recording.key)
    except (RecordingFormatError, UnicodeDecodeError):
        return
    items = [Interaction(request, take, random.choice(("replayed", "recorded", "unsaved"))) for take in recording.takes]
    for shown in ([*items, Interaction(request, None, "missing", note=str(data))], items * 30):
        for kind, text in render.render_calls(shown, outcomes=True).items():
            text.encode("utf-8")
            if kind == "text/html":
                page = _Page()
                page.feed(text)
                page.close()
                if page.open:
                    raise AssertionError(f"it leaves {page.open} open")
    for one in make_cards(items):
        render.render(one, random.randrange(1 << 20))
        json.dumps(one.state(), ensure_ascii=False).encode("utf-8")


TARGETS: dict[str, Callable[[Random, Note], None]] = {
    "reader": _reader,
    "stream": _stream,
    "importers": _importers,
    "redactor": _redactor,
    "renderer": _renderer,
}


def run(target: str, seed: int) -> None:
    """Run one case.

    Raises
    ------
    Failure
        It names target and seed, and has the input and the error in its message.
    """
    noted: list[Any] = []
    try:
        TARGETS[target](Random(f"{target} {seed}"), noted.append)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        given = repr(noted[-1])[:4000] if noted else "(no input yet)"
        again = f"python -m tests.hostile.fuzz --only {target} --seed {seed}"
        raise Failure(f"{again}\n{given}\n{''.join(traceback.format_exception(error))[-3000:]}") from error


class _Hang(BaseException):
    pass


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """End a case that hangs, by an exception; and the process, where nothing of Python runs any more."""

    def hang(*_: object) -> None:
        raise _Hang(f"it takes more than {_PATIENCE} seconds")

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)


def _grown() -> list[str]:
    """Return the texts that take a redactor more than about four times as long when they are four times as long."""
    slow = []
    begun_with = [secret[:size] for secret in _SECRETS for size in (8, 31, len(secret) // 2)]
    for part in [*_SECRETS, *_FILLER, *begun_with, "a", "A1-_", "=" * 7 + "a"]:
        times = []
        for size in (1 << 15, 1 << 17):
            text = (part * (size // len(part) + 1))[:size]
            begun = time.process_time()
            Redactor().text(text)
            times.append(time.process_time() - begun)
        if times[1] > 0.5 and times[1] > 10 * times[0]:
            slow.append(f"{part[:60]!r}: {times[0]:.2f} s, {times[1]:.2f} s")
    return slow


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--seed", type=int, help="run this one case")
    given = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    names = [given.only] if given.only else list(TARGETS)
    if given.seed is not None:
        run(names[0], given.seed)
        return 0
    counts, failed = dict.fromkeys(names, 0), 0
    begun, first = time.monotonic(), int.from_bytes(os.urandom(6), "big")
    seen: set[str] = set()
    while time.monotonic() - begun < given.seconds:
        faulthandler.dump_traceback_later(4 * _PATIENCE * len(names), exit=True)
        for name in names:
            for _ in range(25):
                seed, counts[name] = first + counts[name], counts[name] + 1
                try:
                    with _watched(), contextlib.redirect_stdout(io.StringIO()):
                        run(name, seed)
                except Failure as failure:
                    failed += 1
                    cause = failure.__cause__
                    where = traceback.extract_tb(cause.__traceback__)[-1] if cause else None
                    if (mark := f"{name} {type(cause)} {where}") not in seen:
                        seen.add(mark)
                        print(failure, flush=True)
    faulthandler.cancel_dump_traceback_later()
    slow = _grown() if "redactor" in names else []
    print(*(f"slower than linear: {text}" for text in slow), sep="\n")
    each = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    took = time.monotonic() - begun
    print(f"{sum(counts.values()):,} cases in {took:,.0f} s ({each}): {failed} failed, {len(seen)} of them different")
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MB of memory")
    return 1 if failed or slow else 0


if __name__ == "__main__":
    sys.exit(main())
