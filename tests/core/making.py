"""Calls, takes and sessions, made in a line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from nbreplay.core.cell import Cell, Run, enter_run, leave_run
from nbreplay.core.config import Options
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.recording import Recording, parse
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Body, CellRef, Take
from nbreplay.core.request.request import Call, Request, key_of, request_of
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.session import Replay, Session
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingFormatError, RecordingMissing

OPENAI, AZURE, LOCAL = "api.openai.com", "example.openai.azure.com", "127.0.0.1:8080"
SECRET = "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
N1, N2, N3, N4 = ({"n": n} for n in range(1, 5))
JSON, SSE = "application/json", "text/event-stream; charset=utf-8"

_texts = st.text(max_size=8)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
json_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=6
)
json_bodies = st.lists(json_values, max_size=3) | st.dictionaries(_texts, json_values, max_size=3)


def call(
    body: Any = None,
    *,
    host: str = OPENAI,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    kind: str = JSON,
    raw: bytes | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Call:
    """A call with a JSON body, or with the bytes `raw`."""
    data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    return Call(method, host, path, kind if data else "", data, headers, "tests 1.0")


def chat(text: str = "Weather in Tokyo?", **more: Any) -> Call:
    """A chat call; `host` and `path` are the call's, anything else the body's."""
    outer = {name: more.pop(name) for name in ("host", "path", "headers") if name in more}
    return call({"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **more}, **outer)


def request(given: Call, *, ignore: Sequence[str] = (), mask: Sequence[str] = (), **issued: str) -> Request:
    """The request that `given` is reduced to."""
    return request_of(given, Normaliser(ignore, mask), issued, Redactor(given.tokens))


def take(body: Body | None = None, *, at: int = 0, host: str = OPENAI, cell: str | None = None, **more: Any) -> Take:
    """A take, recorded in second `at` by the cell with the source digest `cell`."""
    ref = None if cell is None else CellRef(None, cell)
    stamp = f"2026-01-01T00:00:{at:02}.000Z"
    return Take(stamp, host, "/v1/chat/completions", "tests 1.0", body=body or Json({"n": at}), cell=ref, **more)


def recording(*takes: Take, body: Any = None) -> Recording:
    """A recording of a chat, or of another request with `body`."""
    fields = {"method": "POST", "endpoint": "chat/completions", "body": body or {"model": "m", "messages": []}}
    return Recording(key_of("chat", fields), "chat", fields, takes)


def body_of(fields: dict[str, Any]) -> Body:
    """The body that a file's take has with these fields: the same whether or not there is a field that is not known."""
    whole = {"nbreplay": 1, "key": "k1:0", "kind": "http", "request": {}}
    found: list[Body | type[Exception]] = []
    for more in ({}, {"later": 1}):
        try:
            found.append(parse(json.dumps({**whole, "takes": [{**fields, **more}]})).takes[0].body)
        except RecordingFormatError as error:
            found.append(type(error))
            refused = error
    assert found[0] == found[1]
    if isinstance(found[0], type):
        raise refused
    return found[0]


def objects(events: Events) -> list[tuple[int, dict[str, Any]]]:
    """The time in milliseconds and the JSON of every chunk that holds JSON."""
    times = itertools.accumulate(chunk.gap_ms for chunk in events.chunks)
    pairs = [(at, events.value(chunk)) for at, chunk in zip(times, events.chunks, strict=True)]
    return [(at, value) for at, value in pairs if value is not None]


def through_file(body: Body) -> bytes:
    """The bytes of a body that has been written to a file and read back."""
    text = recording(take(body)).text()
    again = parse(text.encode("utf-8"))
    assert again.text() == text
    read = again.takes[0].body
    if isinstance(read, Blob):
        assert isinstance(body, Blob)
        assert read == body
        read = body
    return read.data()


def session(folder: Path, mode: str = "auto", **options: Any) -> Session:
    """A session with a store of its own, as another process would have."""
    return Session(Store(folder), Options.of(mode=mode, **options))


def record(
    session: Session, given: Call, *pieces: bytes | dict[str, Any], status: int = 200, kind: str = JSON
) -> Recorder:
    """Have a call recorded to its end."""
    recorder = begin(session, given, *pieces, status=status, kind=kind)
    recorder.end()
    return recorder


def begin(
    session: Session, given: Call, *pieces: bytes | dict[str, Any], status: int = 200, kind: str = JSON
) -> Recorder:
    """Have a call sent and answered, but not to its end."""
    recorder = session.ask(given)
    assert isinstance(recorder, Recorder), recorder
    recorder.begin(status, [("Content-Type", kind), ("X-Request-Id", "req_1"), ("Set-Cookie", "a=b")])
    for piece in pieces:
        recorder.feed(piece if isinstance(piece, bytes) else json.dumps(piece, separators=(",", ":")).encode())
    return recorder


def replayed(session: Session, given: Call) -> Any:
    """Ask; return the JSON that is replayed, or the bytes where it is none."""
    answer = session.ask(given)
    assert isinstance(answer, Replay), answer
    data = b"".join(part for _, part in answer.parts())
    return json.loads(data) if data[:1] == b"{" else data


@contextmanager
def cell(source: str, number: str | None = None) -> Iterator[Run]:
    """Run a cell with an id, or (as under some runners) without."""
    run = Run(Cell(number, 1, source))
    enter_run(run)
    try:
        yield run
    finally:
        leave_run(run)


def answers(folder: Path) -> list[Any]:
    """What is recorded in a store of one recording: its answers' JSON, or their statuses where they failed."""
    (name,) = Store(folder).names()
    found = Store(folder).read(name)
    assert found is not None
    return [
        each.body.value if isinstance(each.body, Json) and each.status == 200 else each.status for each in found.takes
    ]


def event(value: Any) -> bytes:
    """An event of a stream."""
    return (
        b"data: " + (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))).encode() + b"\n\n"
    )


def outcomes(given: Session) -> list[str]:
    """What became of the calls of a session."""
    return [item.outcome for item in given.interactions]


def takes(store: Path, given: Call) -> list[Take]:
    """The takes that a store has of a call."""
    made = request(given)
    found = Store(store).find(made.kind, made.key)
    return list(found.takes) if found else []


def missed(given: Session, asked: Call) -> RecordingMissing:
    """Ask for what is not recorded; return the error."""
    with pytest.raises(RecordingMissing) as error:
        given.ask(asked)
    assert outcomes(given)[-1] == "missing"
    return error.value


def stream(made: Session, given: Call, *texts: str) -> Recorder:
    """Have a streamed call answered, but not to its end."""
    return begin(made, given, *[event({"t": text}) for text in texts], kind=SSE)


def shuffled(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: shuffled(node[name]) for name in reversed(list(node))}
    return [shuffled(item) for item in node] if isinstance(node, list) else node


def form(boundary: str, *, content: bytes = b"\x00\x01\xff", name: str = "a.wav", model: str = "whisper-1") -> Call:
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        ).encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    return call(raw=body, kind=f"multipart/form-data; boundary={boundary}", path="/v1/audio/transcriptions")
