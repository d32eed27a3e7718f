"""Websocket sessions in the core, without a library: recorded, stored, replayed, and told apart."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbreplay.core import websocket
from nbreplay.core.advice import Place
from nbreplay.core.audit.audit import audit
from nbreplay.core.recording.blob import Blob
from nbreplay.core.recording.json_text import STYLES, encode_json
from nbreplay.core.recording.recording import parse
from nbreplay.core.recording.stream import Chunk, Events
from nbreplay.core.recording.take import Take
from nbreplay.core.recording.websocket import Close, Frame, Message, frames_of, times_of, websocket_body
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.core.websocket import WebSocketRecorder, WebSocketReplay
from nbreplay.errors import RecordingFormatError, RecordingIncomplete, RecordingMissing
from tests.core.making import OPENAI, SECRET, cell, json_bodies, outcomes, recording, session, take

HELLO, ASK, ANSWER = '{"type": "hello"}', '{"type":"ask","text":"one"}', '{"type":"answer","text":"1"}'
GOODBYE = Close("server", 1000, "done")


def opening(path: str = "/v1/realtime?model=gpt-realtime", *, token: str = "") -> Call:
    """A call that opens a websocket."""
    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    return Call("GET", OPENAI, path, "", b"", headers, "tests 1.0")


def client(content: str | bytes) -> Message:
    return Message("client", content)


def server(content: str | bytes) -> Message:
    return Message("server", content)


USUAL = (server(HELLO), client(ASK), server(ANSWER), GOODBYE)


def start(made: Session, *frames: Frame, call: Call | None = None) -> WebSocketRecorder:
    """Have messages recorded, but not the end."""
    recorder = made.ask_websocket(call or opening())
    assert isinstance(recorder, WebSocketRecorder), recorder
    recorder.begin(101, [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "x"), ("X-Request-Id", "req_1")])
    for frame in frames:
        if isinstance(frame, Close):
            recorder.note_close(frame.by, frame.code, frame.reason)
        else:
            assert isinstance(frame.content, str | bytes)
            (recorder.note_sent if frame.by == "client" else recorder.note_received)(frame.content)
    return recorder


def record(made: Session, *frames: Frame, call: Call | None = None) -> None:
    """Have a whole session recorded."""
    start(made, *frames, call=call).end()


def stored_takes(store: Path) -> list[Take]:
    return [take for _, recording in Store(store).recordings() for take in recording.takes]


def reopen(made: Session, call: Call | None = None) -> WebSocketReplay:
    replay = made.ask_websocket(call or opening())
    assert isinstance(replay, WebSocketReplay), replay
    return replay


def play(replay: WebSocketReplay, frames: Sequence[Frame]) -> None:
    """Send and receive as recorded."""
    for frame in frames:
        if frame.by == "server":
            received = replay.receive(0)
            content = received.content if isinstance(received, Message) else None
            assert (content.data() if isinstance(content, Blob) else content) == getattr(frame, "content", None)
            assert isinstance(received, type(frame))
        elif isinstance(frame, Close):
            replay.close(frame.code, frame.reason)
        else:
            assert isinstance(frame.content, str | bytes)
            replay.send(frame.content)


# How a session is stored


def test_a_session_is_a_take_whose_chunks_are_its_messages(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    (name,) = Store(store).names()
    assert name.startswith("websocket-")
    file = json.loads((store / name).read_text())
    assert file["request"] == {
        "method": "GET",
        "host": OPENAI,
        "path": "/v1/realtime",
        "query": [["model", "gpt-realtime"]],
    }
    assert file["key"] == "k1:9df5e1c40116e925778316a6286dd75797acc116c8d1487105dcc36d04a2bb7e"
    (stored,) = file["takes"]
    assert stored["status"] == 101
    assert stored["framing"] == "ndjson"
    assert stored["headers"] == {"x-request-id": "req_1"}
    assert [data for _, data in stored["chunks"]] == [
        {"<": {"type": "hello"}, "style": "spaced"},
        {">": {"type": "ask", "text": "one"}},
        {"<": {"type": "answer", "text": "1"}},
        {"close": {"code": 1000, "reason": "done", "by": "server"}},
    ]


CONTENTS: dict[str, str | bytes] = {
    "an empty text": "",
    "a text": "hello\nthere",
    "a JSON string": '"text"',
    "odd white space": '{"a" : 1}',
    "an indented object and a line end": '{\n  "setupComplete": {}\n}\n',
    "a list": "[1.0, 2]",
    "escapes": '{"a": "\\u00e9"}',
    "characters": '{"a":"é\u2028"}',
    "NaN": '{"a":NaN}',
    "half of a surrogate pair": '{"a":"\\ud83d"}',
    "deep nesting": "[" * 1000 + "]" * 1000,
    "JSON as binary": b'{"setup": {"model": "m"}}',
    "text as binary": b"hello",
    "bytes": bytes(range(256)),
    "no bytes": b"",
    "many bytes": bytes(range(256)) * 300,
}


@pytest.mark.full(quick="each")
@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("by", ["client", "server"])
def test_a_message_comes_back_as_it_was(name: str, by: Any, store: Path) -> None:
    frame = Message(by, CONTENTS[name])
    record(session(store, "record"), frame, GOODBYE)
    play(reopen(session(store, "replay")), [frame, GOODBYE])
    (_, again), _ = frames_of(stored_takes(store)[0].body, f"{store}/")  # type: ignore[arg-type]
    assert isinstance(again, Message)
    content = again.content.data() if isinstance(again.content, Blob) else again.content
    assert content == frame.content


@given(json_bodies, st.sampled_from(list(STYLES)), st.booleans())
def test_json_in_any_style_comes_back(value: Any, style: str, binary: bool) -> None:
    text = encode_json(value, style)
    content = text.encode("utf-8", "surrogatepass") if binary else text
    body = websocket_body([(0.0, server(content))], 0.0)
    text = recording(take(body)).text()
    (again,) = parse(text.encode("utf-8")).takes
    assert isinstance(again.body, Events)
    assert frames_of(again.body) == [(0, server(content))]


def test_times_are_kept_to_the_millisecond() -> None:
    body = websocket_body([(1.0004, client("a")), (1.0104, server("b")), (1.0206, server("c"))], 1.0)
    assert times_of(body) == [0, 10, 21]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {">": 1, "<": 2},
        {"?": 1},
        {">audio": "x"},
        {">text": 1},
        {">base64": "§"},
        {">base64": 7},
        {"<": {}, "style": "fancy"},
        {"<": {}, "end": "x"},
        {"<blob": "../x", "size": 1},
        {"close": 1},
        {"close": {"code": "1", "by": "client"}},
        {"close": {"code": 1000, "by": "proxy"}},
        {"close": {"code": 99, "by": "client"}},
        {"close": {"code": 1000, "reason": 1, "by": "client"}},
        {"close": {"code": 1000, "by": ["client"]}},
    ],
)
def test_a_body_that_holds_no_messages_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(RecordingFormatError, match="message 1 of the websocket cannot be read"):
        frames_of(Events((Chunk(0, data),), "ndjson"))


def test_a_corrupt_session_is_a_miss_that_says_so(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    (file,) = store.glob("websocket-*.json")
    file.write_text(file.read_text().replace('{"close"', '{"clse"'))
    made = session(store, "replay")
    with pytest.raises(RecordingMissing, match="message 4 of the websocket cannot be read"):
        made.ask_websocket(opening())
    assert outcomes(made) == ["missing"]


# Secrets


def test_no_secret_of_a_message_or_the_address_is_stored(store: Path) -> None:
    halves = [server(json.dumps({"delta": part})) for part in (SECRET[:20], SECRET[20:])]
    frames = [client(json.dumps({"key": SECRET})), client(SECRET), server(f"got {SECRET}"), server(SECRET.encode())]
    call = opening(f"/live?key={SECRET}")
    record(session(store, "record"), *frames, *halves, GOODBYE, call=call)
    text = "".join(path.read_text() for path in store.glob("*.json"))
    assert SECRET not in text
    assert SECRET[20:] not in text
    replay = reopen(session(store, "replay"), opening(f"/live?key=sk-{'xY7' * 12}"))
    other = "sk-" + "zB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xQ"
    replay.send(json.dumps({"key": other}))
    replay.send(other)
    assert replay.receive(0) == server("got [secret:1]")


def test_what_a_client_sends_is_redacted_by_name_too(store: Path) -> None:
    named = {"name": "API_KEY", "value": "x7Kq9mZ2vB4nR8tLw5Yc"}
    frames = [client(json.dumps(named)), server(json.dumps({"n": 1})), GOODBYE]
    record(session(store, "record"), *frames)
    assert named["value"] not in "".join(path.read_text() for path in store.glob("*.json"))
    assert frames_of(stored_takes(store)[0].body)[1][1] == frames[1]  # type: ignore[arg-type]
    play(reopen(session(store, "replay")), frames)


# Which messages wait


def test_an_answer_waits_for_its_question_and_a_greeting_does_not(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    replay = reopen(session(store, "replay"))
    assert replay.receive(0) == server(HELLO)
    with pytest.raises(TimeoutError):
        replay.receive(0)
    replay.send(ASK)
    assert replay.receive(0) == server(ANSWER)
    assert replay.receive(0) == replay.receive(0) == GOODBYE


def test_what_is_sent_waits_for_nothing(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    replay = reopen(session(store, "replay"))
    replay.send(ASK)
    assert [replay.receive(0) for _ in range(3)] == [server(HELLO), server(ANSWER), GOODBYE]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is not woken waits longer than a test may take."""
    monkeypatch.setattr(websocket, "_PATIENCE", 1000.0)


@pytest.mark.usefixtures("patient")
def test_a_thread_that_waits_is_woken_by_one_that_sends(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    replay = reopen(session(store, "replay"))
    received: list[Frame] = []
    thread = threading.Thread(target=lambda: received.extend(replay.receive() for _ in range(3)))
    thread.start()
    while not received:
        time.sleep(0.001)
    replay.send(ASK)
    thread.join(20)
    assert received == [server(HELLO), server(ANSWER), GOODBYE]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("by", ["close", "abort", "a difference"])
def test_a_thread_that_waits_is_woken_when_the_session_ends(by: str, store: Path) -> None:
    record(session(store, "record"), *USUAL)
    replay = reopen(session(store, "replay"))
    replay.receive()
    ends: list[object] = []

    def listen() -> None:
        try:
            ends.append(replay.receive())
        except RecordingMissing as error:
            ends.append(type(error))

    thread = threading.Thread(target=listen)
    thread.start()
    if by == "close":
        assert replay.close(4000, "bye") == GOODBYE
    elif by == "abort":
        replay.abort()
    else:
        with pytest.raises(RecordingMissing):
            replay.send("other")
    thread.join(20)
    assert ends == [{"close": GOODBYE, "abort": Close("client", 1006)}.get(by, RecordingMissing)]
    assert replay.close(1000) == {"abort": Close("client", 1006)}.get(by, GOODBYE)


@pytest.mark.usefixtures("patient")
async def test_a_task_that_waits_is_woken_by_one_that_sends(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    replay = reopen(session(store, "replay"))

    async def listen() -> list[Frame]:
        return [await replay.receive_async() for _ in range(3)]

    task = asyncio.create_task(listen())
    await asyncio.sleep(0)
    replay.send(ASK)
    assert await asyncio.wait_for(task, 20) == [server(HELLO), server(ANSWER), GOODBYE]


async def test_a_cancelled_wait_loses_no_message(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    replay = reopen(session(store, "replay"))
    await replay.receive_async()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(replay.receive_async(), 0.01)
    replay.send(ASK)
    assert await replay.receive_async() == server(ANSWER)


def test_a_client_that_never_sends_its_message_is_told_so(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(session(store, "record"), *USUAL)
    monkeypatch.setattr(websocket, "_PATIENCE", 0.01)
    made = session(store, "replay")
    replay = reopen(made)
    replay.receive()
    with pytest.raises(RecordingMissing) as caught:
        replay.receive()
    assert "the client waits for an answer to a message that it has not sent" in str(caught.value)
    assert ASK in str(caught.value).replace(": ", ":").replace(", ", ",")
    assert outcomes(made) == ["missing"]


# Pace


def test_messages_come_at_the_recorded_pace(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each so long after the one before it, be that one sent or received; by a clock that the test moves."""
    times = [100.0]
    monkeypatch.setattr(websocket.time, "perf_counter", lambda: times[0])
    recorder = start(session(store, "record"))
    for gap, frame in ((0.5, server("a")), (0.25, server("b")), (1.0, client("q")), (0.125, server("c"))):
        times[0] += gap
        (recorder.note_sent if frame.by == "client" else recorder.note_received)(str(frame.content))
    recorder.end()
    times[0] = 200.0
    replay = reopen(session(store, "replay", speed=2.0))
    assert replay.poll() == pytest.approx(0.25)
    times[0] += 0.25
    assert replay.poll() == server("a")
    assert replay.poll() == pytest.approx(0.125)
    times[0] += 5
    assert replay.poll() == server("b"), "one that is overdue comes at once"
    times[0] += 3
    replay.send("q")
    assert replay.poll() == pytest.approx(0.0625), "after it was sent now"


# Differences


DIFFERENT = {
    "another value": (ASK, '{"type":"ask","text":"two"}', 'text: recorded "one", asked "two"'),
    "another text": ("hello", "bye", "recorded  hello"),
    "a number of another type": ('{"a":1}', '{"a":1.0}', "a: recorded 1, asked 1.0"),
    "text in place of JSON": (ASK, "one", "sent      one"),
    "binary in place of text": ("one", b"one", "sent      (3 bytes"),
    "other bytes": (b"\x00", b"\x01", "recorded  (1 bytes"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_message_is_a_miss_that_shows_both(name: str, store: Path) -> None:
    recorded, sent, expected = DIFFERENT[name]
    record(session(store, "record"), client(recorded), server(ANSWER), GOODBYE)
    made = session(store, "replay")
    replay = reopen(made)
    with pytest.raises(RecordingMissing) as caught:
        replay.send(sent)
    text = str(caught.value)
    assert text.startswith("no recorded answer for this websocket message\n")
    assert f"GET {OPENAI}/v1/realtime · message 1 of 1" in text
    assert expected in text
    assert 'mode="record"' in text
    assert outcomes(made) == ["missing"]
    assert made.last_miss is not None
    with pytest.raises(RecordingMissing):
        replay.receive()
    with pytest.raises(RecordingMissing):
        replay.send(recorded)


async def test_a_difference_in_one_task_surfaces_in_another(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    replay = reopen(session(store, "replay"))
    await replay.receive_async()

    async def send() -> None:
        replay.send("other")

    task = asyncio.create_task(send())
    with pytest.raises(RecordingMissing):
        await replay.receive_async()
    assert isinstance(task.exception(), RecordingMissing)


@pytest.mark.parametrize(
    ("recorded", "sent", "options"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', {}),
        ('{"a":1,"event_id":"event_1"}', '{"event_id":"event_2","a":1}', {}),
        ('{"a":{"run":"x"},"b":1}', '{"a":{"run":"y"},"b":1}', {"ignore": ["a.run"]}),
        ('{"a":"run 1"}', '{"a":"run 2"}', {"mask": [r"run \d"]}),
        ("at 12:00", "at 13:30", {"mask": [r"\d\d:\d\d"]}),
        (b'{"a": 1}', b'{"a":1}', {}),
    ],
    ids=["order and spaces", "event_id", "ignored", "masked", "masked text", "binary JSON"],
)
def test_messages_that_mean_the_same_are_equal(recorded: Any, sent: Any, options: Any, store: Path) -> None:
    record(session(store, "record", **options), client(recorded), server(ANSWER), GOODBYE)
    replay = reopen(session(store, "replay", **options))
    replay.send(sent)
    assert replay.receive(0) == server(ANSWER)


def test_a_message_more_than_recorded_is_a_miss(store: Path) -> None:
    record(session(store, "record"), client(ASK), server(ANSWER), Close("client"))
    replay = reopen(session(store, "replay"))
    replay.send(ASK)
    with pytest.raises(RecordingMissing, match="message 2 of 2"):
        replay.send(ASK)


def test_a_message_after_the_end_goes_nowhere(store: Path) -> None:
    """As when recorded: a program that goes on sending notices that the server has closed."""
    record(session(store, "record"), client(ASK), GOODBYE)
    replay = reopen(session(store, "replay"))
    assert replay.send(ASK) is None
    assert replay.send(ASK) == GOODBYE
    assert replay.receive(0) == GOODBYE


# Several sessions


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("greeted", [False, True])
def test_two_sessions_at_once_may_open_in_either_order(swapped: bool, greeted: bool, store: Path) -> None:
    def session_of(name: str) -> list[Frame]:
        greeting = [server(json.dumps({"type": "created", "session": {"id": f"sess_{name}"}}))] if greeted else []
        return [*greeting, client(f"who? {name}"), server(f"I am {name}"), GOODBYE]

    recording_one = session(store, "record")
    one, two = (start(recording_one, *session_of(name)) for name in "AB")
    one.end()
    two.end()
    made = session(store, "replay")
    replays = {name: reopen(made) for name in ("BA" if swapped else "AB")}
    for replay in replays.values():
        if greeted:
            replay.receive(0)
    for name, replay in replays.items():
        replay.send(f"who? {name}")
        assert replay.receive(0) == server(f"I am {name}")
        assert replay.receive(0) == GOODBYE
    assert outcomes(made) == ["replayed", "replayed"]
    logged = [item.take for item in made.interactions]
    assert [item is not None and item.body for item in logged] == [
        each.body for each in (stored_takes(store)[::-1] if swapped else stored_takes(store))
    ]


def test_a_session_does_not_change_over_to_one_with_other_answers(store: Path) -> None:
    made = session(store, "record")
    for name in "AB":
        record(made, client("hello"), server(f"I am {name}"), client(f"more, {name}"), server("yes"), GOODBYE)
    replay = reopen(session(store, "replay"))
    replay.send("hello")
    assert replay.receive(0) == server("I am A")
    with pytest.raises(RecordingMissing):
        replay.send("more, B")


def test_a_session_asked_once_more_than_recorded_is_missing(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    made = session(store, "replay")
    play(reopen(made), USUAL)
    with pytest.raises(RecordingMissing, match="recorded once, asked a 2nd time"):
        made.ask_websocket(opening())


def test_a_library_that_speaks_on_its_own_account_finds_itself_offline(store: Path) -> None:
    call = Call("GET", "api.smith.langchain.com", "/live", "", b"", (), "tests 1.0")
    made = session(store, "replay")
    assert reopen(made, call).replay.take.status is None
    assert outcomes(made) == []


def test_another_address_is_another_session(store: Path) -> None:
    record(session(store, "record"), *USUAL)
    with pytest.raises(RecordingMissing, match="no recorded answer for this websocket other call"):
        session(store, "replay").ask_websocket(opening("/v1/realtime?model=other"))


# How a session ends


def test_the_answer_to_the_clients_close_is_the_recorded_one(store: Path) -> None:
    record(session(store, "record"), server(HELLO), Close("client", 1001, "bye"), Close("server", 4000, "why?"))
    replay = reopen(session(store, "replay"))
    assert replay.receive(0) == server(HELLO)
    assert replay.close(1001, "bye") == Close("server", 4000, "why?")
    assert stored_takes(store)[0].complete


def test_a_client_that_closes_early_is_noted(store: Path) -> None:
    record(session(store, "record"), client("a"), client("b"), GOODBYE)
    made = session(store, "replay")
    replay = reopen(made)
    replay.send("a")
    replay.close()
    assert outcomes(made) == ["replayed"]
    assert made.interactions[0].note == "closed after 1 of 2 messages"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda recorder: recorder.fail("ConnectionClosedError", "no close frame"), "dropped"),
        (lambda recorder: recorder.close(), "closed"),
        (lambda recorder: recorder.interrupt(), "interrupted"),
        (lambda recorder: recorder.flush(False), "open"),
    ],
)
def test_a_session_that_is_cut_short_says_so(
    end: Any, reason: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "_PATIENCE", 0.01)
    end(start(session(store, "record"), client(ASK), server(ANSWER)))
    (stored,) = stored_takes(store)
    assert (stored.complete, stored.reason) == (False, reason)
    replay = reopen(session(store, "replay"))
    play(replay, [client(ASK), server(ANSWER)])
    if reason == "dropped":
        assert replay.receive(0) == Close("server", 1006)
    else:
        with pytest.raises(RecordingIncomplete):
            replay.receive()
    again = session(store, "auto").ask_websocket(opening())
    assert isinstance(again, WebSocketReplay if reason == "closed" else WebSocketRecorder)


def test_a_session_whose_end_has_come_is_whole_when_the_cell_ends(store: Path) -> None:
    start(session(store, "record"), client(ASK), GOODBYE).flush(False)
    assert stored_takes(store)[0].complete


def test_a_session_that_goes_on_after_its_cell_is_written_again(store: Path) -> None:
    made = session(store, "record")
    with cell("one"):
        recorder = start(made, client("a"))
        made.flush()
        assert len(frames_of(stored_takes(store)[0].body)) == 1  # type: ignore[arg-type]
        recorder.note_received("b")
        recorder.note_close("server", 1000)
        recorder.end()
    (stored,) = stored_takes(store)
    assert stored.complete
    assert len(frames_of(stored.body)) == 3  # type: ignore[arg-type]


# Refused handshakes, auto, and many messages


@pytest.mark.parametrize("status", [401, 404])
def test_a_refused_handshake_is_an_http_answer(status: int, store: Path) -> None:
    recorder = session(store, "record").ask_websocket(opening())
    assert isinstance(recorder, WebSocketRecorder)
    recorder.begin(status, [("Content-Type", "application/json")], "No")
    recorder.feed(b'{"error":"no"}')
    recorder.end()
    replay = reopen(session(store, "replay"))
    assert (replay.replay.take.status, replay.replay.data()) == (status, b'{"error":"no"}')


def test_auto_records_a_changed_session_when_it_is_asked_again(store: Path) -> None:
    record(session(store), *USUAL)
    made = session(store)
    with pytest.raises(RecordingMissing):
        reopen(made).send("other")
    record(made, client("other"), GOODBYE)
    made = session(store)
    play(reopen(made), USUAL)
    play(reopen(made), [client("other"), GOODBYE])
    assert outcomes(made) == ["replayed", "replayed"]


def test_in_a_notebook_auto_says_to_run_the_cell_again(store: Path) -> None:
    with cell("one"):
        record(session(store), *USUAL)
    made = session(store)
    made.place = Place.MAGIC
    with cell("one"), pytest.raises(RecordingMissing, match="run this cell again, which records the session anew"):
        reopen(made).send("other")
    with cell("one"):
        record(made, client("other"), GOODBYE)


def test_auto_records_the_session_of_another_cell(store: Path) -> None:
    made = session(store)
    for source in ("one", "two"):
        with cell(source):
            record(made, client(source), GOODBYE)
    with cell("two"):
        play(reopen(session(store)), [client("two"), GOODBYE])


@pytest.mark.full
def test_a_thousand_messages_come_back(store: Path) -> None:
    frames: list[Frame] = []
    for number in range(500):
        frames += [client(json.dumps({"n": number})), server(json.dumps({"n": number, "type": "echo"}))]
    record(session(store, "record"), *frames, GOODBYE)
    play(reopen(session(store, "replay")), [*frames, GOODBYE])


def test_a_large_binary_message_lies_in_a_file_of_its_own(store: Path) -> None:
    audio = bytes(range(256)) * 1000
    record(session(store, "record"), server(audio), client(audio), GOODBYE)
    (blob,) = store.glob("blob-*.bin")
    assert blob.read_bytes() == audio
    play(reopen(session(store, "replay")), [server(audio), client(audio), GOODBYE])
    made = reopen(session(store, "replay"))
    with pytest.raises(RecordingMissing):
        made.send(audio[1:])
    assert not audit(Store(store), None, lambda: None)[0]
    blob.unlink()
    assert [finding.kind for finding in audit(Store(store), None, lambda: None)[0]] == ["blob", "blob"]
    with pytest.raises(RecordingMissing, match="is gone"):
        reopen(session(store, "replay"))


def test_takes_that_are_no_sessions_are_told_apart() -> None:
    from nbreplay.core.recording.websocket import is_websocket

    assert is_websocket(take(websocket_body([], 0.0), status=101))
    assert not is_websocket(take(status=101))
    assert not any(map(is_websocket, [take(), Take(host="h", body=websocket_body([], 0.0))]))
