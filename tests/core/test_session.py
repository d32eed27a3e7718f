"""The decision: what is replayed, recorded, passed through or refused, and what is kept of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core import active
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay
from nbreplay.core.request.hosts import host_matches
from nbreplay.core.request.request import Call
from nbreplay.core.secrets.redact import PLACEHOLDER
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.errors import NetworkBlocked, OptionError, RecordingFormatError, RecordingIncomplete, RecordingMissing
from tests.core.making import (
    AZURE,
    LOCAL,
    OPENAI,
    SSE,
    answers,
    begin,
    call,
    cell,
    chat,
    record,
    replayed,
    request,
    session,
)

SECRET = "sk-" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY"
N1, N2, N3, N4 = ({"n": n} for n in range(1, 5))


def event(value: Any) -> bytes:
    return (
        b"data: " + (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))).encode() + b"\n\n"
    )


def outcomes(given: Session) -> list[str]:
    return [item.outcome for item in given.interactions]


def takes(store: Path, given: Call) -> list[Take]:
    made = request(given)
    found = Store(store).find(made.kind, made.key)
    return list(found.takes) if found else []


def missed(given: Session, asked: Call) -> RecordingMissing:
    with pytest.raises(RecordingMissing) as error:
        given.ask(asked)
    assert outcomes(given)[-1] == "missing"
    return error.value


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
    assert not active.sessions()


def test_a_request_is_handled_under_the_mode_at_which_it_started(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(session(store, "record"), chat(), N1)
    made = session(store, "record")
    recorder = begin(made, chat(), N2)
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    recorder.end()
    assert answers(store) == [N2]


def test_a_session_is_on_from_entry_to_exit_and_sessions_nest(store: Path) -> None:
    outer, inner = session(store), session(store / "inner")
    with outer:
        assert active.current() is outer
        with inner:
            assert active.current() is inner
        assert active.current() is outer
        with pytest.raises(ZeroDivisionError), inner:
            raise ZeroDivisionError
        assert active.current() is outer

    async def use() -> None:
        async with outer:
            assert active.current() is outer

    asyncio.run(use())
    assert active.current() is None


def test_a_store_that_cannot_be_written_is_said_before_the_first_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="file"), session(tmp_path / "file" / "inner", "record"):
        pass
    assert not active.sessions()


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
    answer.served()
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
        recorder.answered(
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


# Which take.


def test_takes_are_given_in_order_and_a_fourth_question_misses(store: Path) -> None:
    with cell("loop()"):
        recorded = session(store, "record")
        for value in (N1, N2, N3):
            record(recorded, chat(), value)
    replay = session(store, "replay")
    with cell("loop()"):
        assert [replayed(replay, chat()) for _ in range(3)] == [N1, N2, N3]
        text = str(missed(replay, chat()))
        assert "3 times" in text
        assert "4th" in text
    with cell("loop()"):
        assert replayed(replay, chat()) == N1, "every run of a cell starts anew"
    with cell("other()"):
        assert [replayed(replay, chat()) for _ in range(3)] == [N1, N2, N3]


def test_auto_records_another_when_all_are_used_up(store: Path) -> None:
    auto = session(store)
    record(auto, chat(), N1)
    record(auto, chat(), N2)
    assert answers(store) == [N1, N2]
    again = session(store)
    assert [replayed(again, chat()) for _ in range(2)] == [N1, N2]
    record(again, chat(), N3)
    assert answers(store) == [N1, N2, N3]


def test_outside_a_cell_the_session_counts_as_one(store: Path) -> None:
    record(session(store), chat(), N1)
    replay = session(store, "replay")
    assert replayed(replay, chat()) == N1
    missed(replay, chat())
    assert replayed(session(store, "replay"), chat()) == N1


def test_a_cells_own_takes_go_first(store: Path) -> None:
    auto = session(store)
    for number, source in enumerate(("a", "b", "c"), 1):
        with cell(source):
            assert isinstance(auto.ask(chat(f"seed {source}")), Recorder)
            record(session(store, "record"), chat(), {"n": number})
    replay = session(store, "replay")
    for number, source in ((3, "c"), (1, "a"), (2, "b"), (1, "d")):
        with cell(source):
            assert replayed(replay, chat()) == {"n": number}
    with cell("c"):
        assert [replayed(replay, chat()) for _ in range(3)] == [N3, N1, N2]


def test_a_cell_that_is_edited_keeps_its_takes_where_ids_tell(store: Path) -> None:
    with cell("one", "id-1"):
        record(session(store, "record"), chat(), N1)
    with cell("one", "id-2"):
        record(session(store, "record"), chat(), N2)
    replay = session(store, "replay")
    with cell("edited", "id-2"):
        assert replayed(replay, chat()) == N2
    with cell("one"):
        assert replayed(replay, chat()) == N1
    with cell("edited", "id-2"):
        record(session(store, "record"), chat(), N3)
    assert answers(store) == [N1, N3]


def test_recording_a_cell_anew_replaces_its_own_takes_only(store: Path) -> None:
    for source, values in (("a", (N1, N2)), ("b", (N3,))):
        with cell(source):
            recorded = session(store, "record")
            for value in values:
                record(recorded, chat(), value)
    assert answers(store) == [N1, N2, N3]
    with cell("a"):
        recorded = session(store, "record")
        first = begin(recorded, chat(), N4)
        assert answers(store) == [N1, N2, N3], "nothing is lost before there is something better"
        first.end()
        assert answers(store) == [N4, N3]
        record(recorded, chat(), N1)
    assert answers(store) == [N4, N1, N3]


def test_recording_at_one_host_leaves_the_takes_of_another(store: Path) -> None:
    record(session(store, "record"), chat(), N1)
    record(session(store, "record"), chat(host=AZURE), N2)
    record(session(store, "record"), chat(), N3)
    assert answers(store) == [N3, N2]


def test_answers_that_overtake_each_other_stay_in_the_order_of_the_questions(store: Path) -> None:
    for mode in ("record", "auto"):
        made = session(store / mode, mode)
        recorders = [begin(made, chat(), value) for value in (N1, N2, N3, N4)]
        for index in (2, 0, 3, 1):
            recorders[index].end()
        assert answers(store / mode) == [N1, N2, N3, N4]


def test_threads_that_ask_the_same_get_every_answer_once(store: Path) -> None:
    made = session(store, "record")
    for number in range(8):
        record(made, chat(), {"n": number})
    replay = session(store, "replay")
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(replayed(replay, chat())["n"])) for _ in range(8)]
    with cell("gather()"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(got) == list(range(8))


def test_threads_that_record_at_once_lose_nothing(store: Path) -> None:
    made = session(store, "record")
    recorders = [begin(made, chat(), {"n": number}) for number in range(8)]
    threads = [threading.Thread(target=recorder.end) for recorder in recorders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers(store) == [{"n": number} for number in range(8)]


def test_two_sessions_of_one_store_share_the_cursors_of_a_cell(store: Path) -> None:
    record(session(store, "record"), chat(), N1)
    with cell("a"):
        assert replayed(session(store, "replay"), chat()) == N1
        missed(session(store, "replay"), chat())


def test_a_cell_that_records_can_show_that_it_replays(store: Path) -> None:
    with cell("both()"):
        record(session(store, "record"), chat(), N1)
        assert replayed(session(store, "replay"), chat()) == N1
        record(session(store, "auto"), chat("b"), N2)
        assert replayed(session(store, "replay"), chat("b")) == N2


# Failures that may pass.


def fail(made: Session, given: Call, status: int) -> None:
    record(made, given, {"error": {"message": "later"}}, status=status)


def refuse(made: Session, given: Call) -> None:
    recorder = made.ask(given)
    assert isinstance(recorder, Recorder)
    recorder.fail("ConnectError", f"no route to host, key {SECRET}")


@pytest.mark.parametrize("status", [401, 403, 408, 409, 429, 500, 503])
def test_record_keeps_a_failure_in_front_of_the_good_take_that_follows(store: Path, status: int) -> None:
    record(session(store, "record"), chat(), N1)
    made = session(store, "record")
    fail(made, chat(), status)
    assert answers(store) == [N1], "a failure displaces nothing"
    fail(made, chat(), status)
    record(made, chat(), N2)
    assert answers(store) == [status, status, N2]
    record(session(store, "record"), chat(), N3)
    assert answers(store) == [N3]


def test_record_writes_a_failure_alone_only_where_no_good_take_is_lost(store: Path) -> None:
    made = session(store, "record")
    fail(made, chat(), 429)
    assert answers(store) == [429]
    record(made, chat(), N1)
    assert answers(store) == [429, N1]
    failing = session(store, "record")
    fail(failing, chat(), 500)
    assert answers(store) == [429, N1]
    assert "not kept" in failing.interactions[0].note


def test_a_broken_connection_is_a_failure_that_may_pass(store: Path) -> None:
    record(session(store, "record"), chat(), N1)
    made = session(store, "record")
    refuse(made, chat())
    assert answers(store) == [N1]
    record(made, chat(), N2)
    failed, good = takes(store, chat())
    assert failed.status is None
    assert failed.error == {"type": "ConnectError", "message": "no route to host, key [secret:1]"}
    assert good.body.data() == b'{"n":2}'


def test_auto_keeps_no_failure_that_may_pass(store: Path) -> None:
    auto = session(store)
    fail(auto, chat(), 429)
    refuse(auto, chat())
    assert takes(store, chat()) == []
    assert outcomes(auto) == ["live", "live"]
    record(auto, chat(), N1)
    assert answers(store) == [N1]


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_failure_that_stays_is_an_answer(store: Path, status: int) -> None:
    fail(session(store), chat(), status)
    answer = session(store, "replay").ask(chat())
    assert isinstance(answer, Replay)
    assert answer.take.status == status


# Streams cut short.


def stream(made: Session, given: Call, *texts: str) -> Recorder:
    return begin(made, given, *[event({"t": text}) for text in texts], kind=SSE)


CUTS: dict[str, Callable[[Recorder], None]] = {
    "closed": Recorder.close,
    "interrupted": Recorder.interrupt,
    "dropped": lambda recorder: recorder.fail("ReadError", "gone"),
    "open": lambda recorder: recorder.flush(False),
}


@pytest.mark.parametrize("reason", CUTS)
@pytest.mark.parametrize("mode", ["auto", "record"])
def test_a_stream_that_was_cut_short_says_why(store: Path, reason: str, mode: str) -> None:
    CUTS[reason](stream(session(store, mode), chat(), "a", "b"))
    (only,) = takes(store, chat())
    assert (only.complete, only.reason) == (False, reason)
    assert only.body.data() == event({"t": "a"}) + event({"t": "b"})
    answer = session(store, "replay").ask(chat())
    assert isinstance(answer, Replay)
    if reason == "dropped":
        assert answer.incomplete is None, "the library's own read error is raised"
        assert only.error == {"type": "ReadError", "message": "gone"}
        return
    error = answer.incomplete
    assert isinstance(error, RecordingIncomplete)
    assert "ends here" in str(error)
    with pytest.raises(RecordingIncomplete):
        answer.fail(error)
    assert [item.outcome for item in answer.log.interactions] == ["missing"]


@pytest.mark.parametrize("reason", CUTS)
def test_auto_asks_again_for_what_was_cut_unless_its_caller_closed_it(store: Path, reason: str) -> None:
    CUTS[reason](stream(session(store), chat(), "a"))
    auto = session(store)
    if reason == "closed":
        assert replayed(auto, chat()) == event({"t": "a"})
        return
    stream(auto, chat(), "a", "b").end()
    (only,) = takes(store, chat())
    assert only.complete
    assert only.body.data() == event({"t": "a"}) + event({"t": "b"})


@pytest.mark.parametrize("reason", ["interrupted", "dropped", "open"])
def test_what_was_cut_displaces_no_good_take(store: Path, reason: str) -> None:
    stream(session(store, "record"), chat(), "good").end()
    CUTS[reason](stream(session(store, "record"), chat(), "bad"))
    assert [each.body.data() for each in takes(store, chat())] == [event({"t": "good"})]


@pytest.mark.parametrize(
    "mark",
    [
        b"data: [DONE]\n\n",
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        b'data: {"type":"response.completed"}\n\n',
    ],
)
def test_what_is_closed_after_its_end_mark_is_whole(store: Path, mark: bytes) -> None:
    for index, cut in enumerate((Recorder.close, lambda recorder: recorder.flush(False))):
        recorder = begin(session(store), chat(str(index)), event({"t": "a"}), mark[:9], mark[9:], kind=SSE)
        cut(recorder)
        assert takes(store, chat(str(index)))[0].complete
    plain = begin(session(store), chat("plain"), b"[DONE] [DONE]")
    plain.close()
    assert not takes(store, chat("plain"))[0].complete


def test_what_is_open_at_the_end_of_a_cell_is_written_and_again_when_it_goes_on(store: Path) -> None:
    auto = session(store)
    with cell("start()") as run:
        recorder = stream(auto, chat(), "a")
        auto.flush(run)
    (only,) = takes(store, chat())
    assert (only.complete, only.reason) == (False, "open")
    recorder.feed(event({"t": "b"}))
    auto.flush()
    assert takes(store, chat())[0].body.data() == event({"t": "a"}) + event({"t": "b"})
    recorder.feed(event({"t": "c"}))
    recorder.end()
    (only,) = takes(store, chat())
    assert only.complete
    assert len(only.body.data()) == 3 * len(event({"t": "a"}))
    assert outcomes(auto) == ["recorded"]


def test_leaving_a_session_writes_what_is_open(store: Path) -> None:
    with session(store) as auto:
        stream(auto, chat(), "a")
    assert takes(store, chat())[0].reason == "open"


def test_a_stream_that_outlasts_its_cell_replaces_the_good_take_once_it_is_whole(store: Path) -> None:
    stream(session(store, "record"), chat(), "old").end()
    recorded = session(store, "record")
    recorder = stream(recorded, chat(), "a")
    recorded.flush()
    assert [each.body.data() for each in takes(store, chat())] == [event({"t": "old"})]
    recorder.feed(event({"t": "b"}))
    recorder.end()
    assert [(each.complete, each.body.data()) for each in takes(store, chat())] == [
        (True, event({"t": "a"}) + event({"t": "b"}))
    ]


def test_a_stream_that_goes_on_while_another_process_writes_stays_one_take(store: Path) -> None:
    for mode in ("auto", "record"):
        mine, other = session(store / mode, mode), session(store / mode, mode)
        recorder = stream(mine, chat(), "a")
        mine.flush()
        with cell("elsewhere"):
            other_recorder = other.ask(chat()) if mode == "record" else None
            record(session(store / mode, "record"), chat(), N1)
            assert (other_recorder is None) == (mode == "auto")
        recorder.feed(event({"t": "b"}))
        recorder.end()
        found = takes(store / mode, chat())
        assert sorted(len(each.body.data()) for each in found) == sorted(
            [len(b'{"n":1}'), 2 * len(event({"t": "a"}))]
        ), mode


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


# Ids.


def responses(text: str, previous: str | None = None, **more: Any) -> Call:
    body = {"model": "m", "input": text, **({"previous_response_id": previous} if previous else {}), **more}
    return call(body, path="/v1/responses")


def conversation(made: Session, number: int, streamed: bool) -> None:
    """Record two turns, with ids that are others each time."""
    one, two = f"resp_{number}a", f"resp_{number}b"
    if streamed:
        created = {"type": "response.created", "response": {"id": one, "status": "in_progress"}, "sequence_number": 0}
        deltas = [
            {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "x", "sequence_number": n}
            for n in range(1, 6)
        ]
        begin(made, responses("one"), event(created), *map(event, deltas), kind=SSE).end()
    else:
        record(made, responses("one"), {"id": one, "object": "response"})
    record(made, responses("two", one), {"id": two, "object": "response"})
    record(made, call(path=f"/v1/responses/{two}", method="GET"), {"id": two, "object": "response", "n": number})


@pytest.mark.parametrize("streamed", [False, True])
def test_recording_step_one_anew_does_not_orphan_the_steps_after_it(store: Path, streamed: bool) -> None:
    conversation(session(store, "record"), 1, streamed)
    assert len(Store(store).names()) == 3
    conversation(session(store, "record"), 2, streamed)
    assert len(Store(store).names()) == 3
    replay = session(store, "replay")
    first = replay.ask(responses("one"))
    assert isinstance(first, Replay)
    assert b"resp_2a" in b"".join(part for _, part in first.parts()), "the ids are those that were recorded"
    assert replayed(replay, responses("two", "resp_2a"))["id"] == "resp_2b"
    assert replayed(replay, call(path="/v1/responses/resp_2b", method="GET"))["n"] == 2


def test_an_id_that_this_session_has_not_seen_stays_verbatim(store: Path) -> None:
    record(session(store), responses("two", "resp_old"), N1)
    assert replayed(session(store, "replay"), responses("two", "resp_old")) == N1
    missed(session(store, "replay"), responses("two", "resp_other"))


def test_an_uploaded_file_is_known_by_what_was_uploaded(store: Path) -> None:
    def upload(made: Session, file: str) -> None:
        record(made, call({"purpose": "x"}, path="/v1/files"), {"id": file, "object": "file"})

    def ask(file: str) -> Call:
        return chat(messages=[{"role": "user", "content": [{"type": "file", "file": {"file_id": file}}]}])

    made = session(store, "record")
    upload(made, "file-111")
    record(made, ask("file-111"), N1)
    again = session(store, "record")
    upload(again, "file-222")
    replay = session(store, "replay")
    assert replayed(replay, call({"purpose": "x"}, path="/v1/files"))["id"] == "file-222"
    assert replayed(replay, ask("file-222")) == N1


def test_a_tool_call_that_only_the_service_remembers_does_not_orphan_its_result(store: Path) -> None:
    def turn(made: Session, number: int) -> None:
        output = [
            {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": "f", "arguments": "{}"}
        ]
        record(made, responses("one"), {"id": f"resp_{number}", "object": "response", "output": output})

    def result(number: int) -> Call:
        given = [{"type": "function_call_output", "call_id": f"call_{number}", "output": "18"}]
        return responses("", f"resp_{number}", input=given)

    made = session(store, "record")
    turn(made, 111)
    record(made, result(111), N1)
    turn(session(store, "record"), 222)
    replay = session(store, "replay")
    replayed(replay, responses("one"))
    assert replayed(replay, result(222)) == N1


def test_takes_whose_ids_are_the_asked_ones_go_first(store: Path) -> None:
    def asked(name: str) -> Call:
        tool = {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return chat(
            messages=[
                {"role": "assistant", "tool_calls": [tool]},
                {"role": "tool", "tool_call_id": name, "content": "1"},
            ]
        )

    made = session(store, "record")
    record(made, asked("call_a"), N1)
    record(made, asked("call_b"), N2)
    assert [each.ids for each in takes(store, asked("call_z"))] == [("call_a",), ("call_b",)]
    assert replayed(session(store, "replay"), asked("call_b")) == N2
    assert replayed(session(store, "replay"), asked("call_a")) == N1
    assert replayed(session(store, "replay"), asked("call_z")) == N1


# --ignore and --mask.


def test_what_is_ignored_or_masked_does_not_count(store: Path) -> None:
    options = {"ignore": ["metadata.run"], "mask": [r"\d{4}-\d\d-\d\d"]}
    record(session(store, **options), chat("2026-01-01", metadata={"run": 1}), N1)
    assert replayed(session(store, "replay", **options), chat("2026-02-02", metadata={"run": 2})) == N1
    missed(session(store, "replay", **options), chat("soon", metadata={"run": 2}))


def test_an_option_given_later_heals_what_was_recorded_before_it(store: Path) -> None:
    record(session(store), chat("2026-01-01", user="ann"), N1)
    record(session(store), chat("2026-01-02", user="bob"), N2)
    before = {path.name: path.read_bytes() for path in store.glob("*.json")}
    options = {"ignore": ["user"], "mask": [r"\d{4}-\d\d-\d\d"]}
    for mode in ("replay", "auto"):
        healed = session(store, mode, **options)
        assert [replayed(healed, chat("2026-03-03", user="eve")) for _ in range(2)] == [N1, N2]
    missed(session(store, "replay", ignore=["user"]), chat("2026-03-03", user="eve"))
    assert {path.name: path.read_bytes() for path in store.glob("*.json")} == before


def test_a_recording_made_while_the_option_is_on_is_found_too(store: Path) -> None:
    healed = session(store, "auto", ignore=["user"])
    missed(session(store, "replay", ignore=["user"]), chat(user="ann"))
    record(session(store), chat(user="bob"), N1)
    assert replayed(healed, chat(user="ann")) == N1


def test_what_is_recorded_beside_a_healed_take_does_not_hide_it(store: Path) -> None:
    record(session(store), chat(user="ann"), N1)
    auto = session(store, "auto", ignore=["user"])
    assert replayed(auto, chat(user="bob")) == N1
    record(auto, chat(user="bob"), N2)
    replay = session(store, "replay", ignore=["user"])
    assert [replayed(replay, chat(user="eve")) for _ in range(2)] == [N1, N2]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_mask_heals_bodies_that_are_no_json(store: Path, kind: str) -> None:
    record(session(store), call(raw=b"run=1", kind=kind, path="/x"), N1)
    assert replayed(session(store, "replay", mask=[r"\d"]), call(raw=b"run=2", kind=kind, path="/x")) == N1


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
    recorder.answered(200, [("content-type", "application/json")])
    recorder.decode = broken
    recorder.feed(b"{}")
    with pytest.warns(UserWarning, match="has its answer all the same"):
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
