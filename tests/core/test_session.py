"""The decision: what is replayed, recorded, passed through or refused, and what is kept of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from nbreplay.core.cell import Run, current_run, enter_run, leave_run
from nbreplay.core.config import Mode
from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.request.route import host_matches
from nbreplay.core.secrets.credentials import PLACEHOLDER
from nbreplay.core.session import Session, active_sessions, current_session, enter_session, leave_session
from nbreplay.core.store.store import Store
from nbreplay.errors import NetworkBlocked, OptionError, RecordingFormatError, RecordingMissing
from tests.core.making import (
    AZURE,
    LOCAL,
    N1,
    N2,
    OPENAI,
    SECRET,
    SSE,
    answers,
    begin,
    call,
    cell,
    chat,
    event,
    missed,
    outcomes,
    record,
    replayed,
    request,
    session,
    stream,
    takes,
)

# Modes.


def test_off_lets_everything_pass_and_writes_nothing(store: Path) -> None:
    record(session(store), chat(), N1)
    off = session(store, "off")
    assert off.ask(chat()) is None
    assert off.ask(chat("another")) is None
    assert outcomes(off) == ["live", "live"]
    assert len(Store(store).names()) == 1


def test_record_asks_even_for_what_is_recorded(store: Path) -> None:
    record(session(store, "record"), chat(), N1)
    again = session(store, "record")
    record(again, chat(), N2)
    assert answers(store) == [N2]
    assert outcomes(again) == ["recorded"]


def test_replay_answers_or_misses_and_never_sends(store: Path) -> None:
    record(session(store), chat(), N1)
    replay = session(store, "replay")
    assert replayed(replay, chat()) == N1
    error = missed(replay, chat("another"))
    assert not isinstance(error, Exception), "a retry or an agent must not eat it"
    assert "another" in str(error)
    assert replay.last_miss is not None
    assert replay.last_miss.text == str(error)
    assert outcomes(replay) == ["replayed", "missing"]
    assert len(Store(store).names()) == 1


def test_auto_replays_what_is_there_and_records_what_is_missing(store: Path) -> None:
    record(session(store), chat(), N1)
    auto = session(store, "auto")
    assert replayed(auto, chat()) == N1
    record(auto, chat("another"), N2)
    assert outcomes(auto) == ["replayed", "recorded"]
    assert replayed(session(store, "replay"), chat("another")) == N2


def test_replaying_writes_nothing_at_all(store: Path) -> None:
    missed(session(store, "replay"), chat())
    assert not store.exists()


@pytest.mark.parametrize("given", ["off", "record", "auto", "replay"])
def test_the_environment_overrides_every_session(store: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record(session(store), chat(), N1)
    made = session(store, given)
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    assert made.mode.value == "replay"
    assert replayed(made, chat()) == N1
    missed(made, chat("another"))
    monkeypatch.setenv("NBREPLAY_MODE", "nonsense")
    with pytest.raises(OptionError, match="NBREPLAY_MODE"):
        session(store, given).start()
    assert not active_sessions()


def test_a_request_is_handled_under_the_mode_at_which_it_started(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(session(store, "record"), chat(), N1)
    made = session(store, "record")
    recorder = begin(made, chat(), N2)
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    recorder.end()
    assert answers(store) == [N2]


def test_a_websocket_is_handled_under_the_mode_at_which_it_started(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, modes = session(store), iter([Mode.AUTO, Mode.REPLAY])
    monkeypatch.setattr(Session, "mode", property(lambda _: next(modes)))
    with pytest.warns(UserWarning, match="which nbreplay does not record"):
        made.pass_websocket("GET /realtime", OPENAI)
    assert [item.outcome for item in made.interactions] == ["live"]


def test_a_session_is_on_from_entry_to_exit_and_sessions_nest(store: Path) -> None:
    outer, inner = session(store), session(store / "inner")
    with outer:
        assert current_session() is outer
        with inner:
            assert current_session() is inner
        assert current_session() is outer
        with pytest.raises(ZeroDivisionError), inner:
            raise ZeroDivisionError
        assert current_session() is outer

    async def use() -> None:
        async with outer:
            assert current_session() is outer

    asyncio.run(use())
    assert current_session() is None


def interrupted(function: Callable[[], object], step: int, meanwhile: Callable[[], object]) -> object:
    """Return what `function` returns if another thread does something after so many of its instructions."""
    left = step

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code is not function.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                meanwhile()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return function()
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("step", range(1, 16))
def test_a_call_is_never_live_because_another_thread_leaves_an_inner_session(store: Path, step: int) -> None:
    outer, inner = session(store), session(store)
    with outer:
        enter_session(inner)
        try:
            assert interrupted(current_session, step, lambda: leave_session(inner)) in (outer, inner)
        finally:
            leave_session(inner)


@pytest.mark.parametrize("step", range(1, 16))
def test_a_call_has_a_cell_although_another_one_ends_meanwhile(step: int) -> None:
    outer, inner = Run(), Run()
    enter_run(outer)
    enter_run(inner)
    try:
        assert interrupted(current_run, step, lambda: leave_run(inner)) in (outer, inner)
    finally:
        leave_run(inner)
        leave_run(outer)


def test_a_store_that_cannot_be_written_is_said_before_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="file"), session(tmp_path / "file" / "inner", "record"):
        pass
    assert not active_sessions()


# What is logged.


def test_the_log_is_in_the_order_of_starting_and_tells_the_cell(store: Path) -> None:
    auto = session(store)
    with cell("first()", "id-1"):
        slow = begin(auto, chat("slow"), N1)
        record(auto, chat("quick"), N2)
    assert len(auto.interactions) == 1
    slow.end()
    first, second = auto.interactions
    assert first.request is not None
    assert first.request.body["messages"][0]["content"] == "slow"
    assert first.cell is not None
    assert (first.cell.id, first.cell.source) == ("id-1", "first()")
    assert first.take == takes(store, chat("slow"))[0]
    assert (first.host, first.store, first.key) == (OPENAI, str(store), request(chat("slow")).key)
    assert second.served_s is not None
    answer = session(store, "replay").ask(chat("slow"))
    assert isinstance(answer, Replay)
    assert answer.log.interactions[0].served_s is None
    answer.finish()
    assert answer.log.interactions[0].served_s is not None


def test_a_take_says_when_where_and_by_whom(store: Path) -> None:
    headers = [(b"user-agent", b"OpenAI/Python 3.54.0"), (b"authorization", b"Bearer " + SECRET.encode())]
    with cell("ask()", "id-1") as run:
        recorder = session(store).ask(chat(headers=headers, path="/v1/chat/completions?key=abc"))
        assert isinstance(recorder, Recorder)
        kept = {
            "content-type": "application/json",
            "x-request-id": "r",
            "retry-after": "1",
            "x-ratelimit-limit-tokens": "9",
            "openai-processing-ms": "5",
            "location": "/x",
            "request-id": "q",
            "retry-after-ms": "7",
            "content-disposition": "a",
        }
        recorder.begin(
            200, [*((name.title(), value) for name, value in kept.items()), ("Set-Cookie", "a=b"), ("Date", "x")]
        )
        recorder.feed(b"{}")
        recorder.end()
    (only,) = takes(store, chat())
    assert only.headers == {**kept, "set-cookie": "a=[secret:1]"}
    assert (only.host, only.sdk, only.url) == (OPENAI, "openai 3.54.0", "/v1/chat/completions?key=[secret:1]")
    assert only.cell == run.ref
    assert only.recorded_at.endswith("Z")
    assert type(only.elapsed_ms) is int
    assert SECRET not in next(store.glob("chat-*")).read_text()
    assert "ask()" not in next(store.glob("chat-*")).read_text()


# What is recorded is what is replayed.


def test_a_stream_is_replayed_at_once_or_at_its_pace(store: Path) -> None:
    recorder = stream(session(store), chat(), "a", "b", "c")
    recorder._pieces = [
        (recorder.started + at, data) for at, (_, data) in zip((0.1, 0.3, 0.35), recorder._pieces, strict=True)
    ]
    recorder.end()
    whole = b"".join(event({"t": text}) for text in "abc")
    at_once = session(store, "replay").ask(chat())
    paced = session(store, "replay", speed=2).ask(chat())
    assert isinstance(at_once, Replay)
    assert isinstance(paced, Replay)
    assert at_once.parts() == [(0.0, whole)]
    assert [round(delay, 6) for delay, _ in paced.parts()] == [0.05, 0.1, 0.025]
    assert b"".join(part for _, part in paced.parts()) == whole


def test_secrets_in_an_answer_are_taken_out_and_counted(store: Path) -> None:
    headers = [(b"authorization", b"Bearer a-token-of-no-shape")]
    record(session(store), chat("a", headers=headers), {"text": f"You sent a-token-of-no-shape, I know {SECRET}"})
    pieces = [event({"t": "your key:\n" + SECRET}), event({"t": "[DONE]"})]
    begin(session(store), chat("b"), *pieces, kind=SSE).end()
    begin(session(store), chat("c"), b"\xff\xfe " + SECRET.encode() + b" \xff", kind="audio/mpeg").end()
    for text in "abc":
        assert takes(store, chat(text))[0].redacted == (2 if text == "a" else 1)
    assert replayed(session(store, "replay"), chat("a")) == {"text": "You sent [secret:1], I know [secret:2]"}
    assert replayed(session(store, "replay"), chat("b")) == event({"t": "your key:\n[secret:1]"}) + pieces[1]
    assert replayed(session(store, "replay"), chat("c")) == b"\xff\xfe [secret:1] \xff"
    for path in store.iterdir():
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes()
            assert b"no-shape" not in path.read_bytes()


def test_a_key_does_not_matter_to_whoever_replays(store: Path) -> None:
    def asked(token: str) -> Call:
        return chat(f"my token is {token}", headers=[(b"authorization", f"Bearer {token}".encode())])

    record(session(store), asked("a-token-of-no-shape"), N1)
    for token in ("a-token-of-no-shape", "another-token", PLACEHOLDER):
        assert replayed(session(store, "replay"), asked(token)) == N1
        assert replayed(session(store, "auto"), asked(token)) == N1


def test_a_local_model_whose_key_is_a_word_is_replayed(store: Path) -> None:
    given = chat(
        "tell me about ollama", model="ollama/llama3", headers=[(b"authorization", b"Bearer ollama")], host=LOCAL
    )
    record(session(store), given, {"text": "ollama runs models"})
    assert replayed(session(store, "auto"), given) == {"text": "ollama runs models"}


def test_an_answer_that_cannot_be_kept_as_data_does_not_cost_the_caller_anything(store: Path) -> None:
    recorder = begin(session(store), chat(), event('{"a":1e999}'), event('{"a":1}'), kind=SSE)
    recorder.end()
    assert takes(store, chat())[0].body.data() == event('{"a":1e999}') + event('{"a":1}')


# Hosts.


def test_a_take_of_another_public_host_is_served_in_replay_only_and_said(store: Path) -> None:
    record(session(store), chat(), N1)
    replay = session(store, "replay")
    assert replayed(replay, chat(host=AZURE)) == N1
    note = replay.interactions[0].note
    assert OPENAI in note
    assert AZURE in note
    auto = session(store)
    record(auto, chat(host=AZURE), N2)
    assert answers(store) == [N1, N2]
    assert replayed(session(store, "replay"), chat(host=AZURE)) == N2
    assert replayed(session(store, "replay"), chat()) == N1


@pytest.mark.parametrize("mode", ["replay", "auto"])
def test_a_local_model_answers_for_any_host_and_the_other_way_round(store: Path, mode: str) -> None:
    record(session(store), chat("a", host=LOCAL), N1)
    record(session(store), chat("b"), N2)
    made = session(store, mode)
    assert replayed(made, chat("a")) == N1
    assert replayed(made, chat("b", host="localhost:11434")) == N2
    assert [item.note for item in made.interactions] == ["", ""]


@pytest.mark.parametrize("mode", ["record", "auto"])
def test_hosts_that_are_not_meant_pass_through_unrecorded(store: Path, mode: str) -> None:
    made = session(store, mode, only=[OPENAI])
    assert made.ask(chat(host=AZURE)) is None
    record(made, chat(), N1)
    assert outcomes(made) == ["live", "recorded"]
    assert answers(store) == [N1]


def test_hosts_that_are_not_meant_are_refused_in_replay_unless_allowed(store: Path) -> None:
    record(session(store), chat(), N1)
    replay = session(store, "replay", only=[OPENAI], allow=["example.com:8080"])
    assert replayed(replay, chat()) == N1
    with pytest.raises(RecordingMissing) as error:
        replay.ask(chat(host=AZURE))
    assert isinstance(error.value.__cause__, NetworkBlocked)
    assert isinstance(error.value.__cause__, OSError)
    assert AZURE in str(error.value)
    assert replay.ask(chat(host="example.com:8080")) is None
    assert outcomes(replay) == ["replayed", "blocked", "live"]


def test_hosts_that_are_allowed_are_live_even_where_there_is_a_recording(store: Path) -> None:
    record(session(store), chat(), N1)
    replay = session(store, "replay", allow=[OPENAI])
    assert replay.ask(chat()) is None
    assert outcomes(replay) == ["live"]


@pytest.mark.parametrize(
    ("host", "given", "matches"),
    [
        ("api.openai.com", "api.openai.com", True),
        ("127.0.0.1:8080", "127.0.0.1", True),
        ("127.0.0.1:8080", "127.0.0.1:8080", True),
        ("127.0.0.1:8080", "127.0.0.1:9090", False),
        ("127.0.0.1", "127.0.0.1:80", False),
        ("[::1]:8080", "[::1]:8080", True),
        ("[::1]:8080", "[::1]", True),
        ("xapi.openai.com", "api.openai.com", False),
        ("api.openai.com.evil.com", "api.openai.com", False),
    ],
)
def test_a_host_without_a_port_stands_for_all_of_its_ports(host: str, given: str, matches: bool) -> None:
    assert host_matches(host, [given]) is matches


# Nothing is sent that must not be, and nothing lost that came.


@pytest.mark.parametrize("mode", ["off", "record", "replay", "auto"])
def test_a_placeholder_is_never_sent(store: Path, mode: str) -> None:
    for headers, path in (
        ([(b"authorization", f"Bearer {PLACEHOLDER}".encode())], "/v1/chat/completions"),
        ([(b"X-Goog-Api-Key", PLACEHOLDER.encode())], "/v1/chat/completions"),
        ([], f"/v1/chat/completions?key={PLACEHOLDER}"),
    ):
        made = session(store, mode)
        text = str(missed(made, chat(headers=headers, path=path)))
        if mode != "replay":
            assert "no API key is set" in text
    assert not list(store.glob("chat-*"))


def test_a_placeholder_is_good_enough_for_what_is_recorded(store: Path) -> None:
    record(session(store), chat(), N1)
    given = chat(headers=[(b"authorization", f"Bearer {PLACEHOLDER}".encode())])
    for mode in ("replay", "auto"):
        assert replayed(session(store, mode), given) == N1


@pytest.mark.parametrize("mode", ["record", "replay", "auto"])
def test_a_file_that_cannot_be_read_stops_the_call_and_is_the_cause(store: Path, mode: str) -> None:
    record(session(store), chat(), N1)
    (path,) = store.glob("chat-*")
    path.write_text("<<<<<<< HEAD")
    made = session(store, mode)
    error = missed(made, chat())
    assert isinstance(error.__cause__, RecordingFormatError)
    assert path.name in str(error)
    assert path.read_text() == "<<<<<<< HEAD"


def test_an_answer_that_cannot_be_written_still_reaches_its_caller(store: Path) -> None:
    auto = session(store)
    recorder = begin(auto, chat(), N1)
    (store / f"chat-{request(chat()).key[3:19]}.json").mkdir()
    with pytest.warns(UserWarning, match="could not record"):
        recorder.end()
    assert outcomes(auto) == ["unsaved"]
    assert auto.interactions[0].take is not None
    assert auto.interactions[0].take.body.data() == b'{"n":1}'


def test_an_answer_that_cannot_be_written_reaches_its_caller_where_warnings_are_errors(store: Path) -> None:
    auto = session(store)
    recorder = begin(auto, chat(), N1)
    (store / f"chat-{request(chat()).key[3:19]}.json").mkdir()
    recorder.end()
    assert outcomes(auto) == ["unsaved"]


def test_the_end_of_an_answer_counts_once(store: Path) -> None:
    auto = session(store)
    recorder = record(auto, chat(), N1)
    recorder.close()
    recorder.interrupt()
    recorder.fail("ReadError", "late")
    auto.flush()
    assert answers(store) == [N1]
    assert outcomes(auto) == ["recorded"]


def test_an_answer_that_cannot_be_taken_down_costs_its_caller_nothing(store: Path) -> None:
    def broken(_: object) -> list[tuple[float, bytes]]:
        raise RuntimeError("no such encoding")

    made = session(store, "record")
    recorder = made.ask(chat("hi"))
    assert isinstance(recorder, Recorder)
    recorder.begin(200, [("content-type", "application/json")])
    recorder.decode = broken
    recorder.feed(b"{}")
    with pytest.warns(UserWarning, match="which got its answer"):
        recorder.end()
    assert [item.outcome for item in made.interactions] == ["unsaved"]


def test_an_id_that_looks_like_a_secret_is_not_kept_whichever_take_it_is(store: Path) -> None:
    own = SECRET
    function = {"name": "f", "arguments": "{}"}
    messages = [
        {"role": "user", "content": "go on"},
        {"role": "assistant", "tool_calls": [{"id": own, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": own, "content": "done"},
    ]
    auto = session(store, "auto")
    for value in (N1, N2):
        record(auto, call({"model": "m", "messages": messages}), value)
    (path,) = store.glob("*.json")
    assert own not in path.read_text()
    assert len(auto.interactions) == 2
