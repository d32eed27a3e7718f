"""Failures that may pass: kept in front of the good take that follows, and at no good take's expense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session
from tests.core.making import (
    N1,
    N2,
    N3,
    N4,
    SECRET,
    answers,
    begin,
    cell,
    chat,
    event,
    missed,
    outcomes,
    record,
    replayed,
    session,
    stream,
    takes,
)


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


# Failures that wait, since a good take of an earlier run must not be lost, for a good one that follows.


@pytest.fixture
def made(store: Path) -> Session:
    """A session that records over a good take of an earlier run."""
    record(session(store, "record"), chat(), N4)
    return session(store, "record")


def contents(store: Path, given: Call) -> list[Any]:
    """What the takes of a call hold, or their statuses where they failed."""
    return [json.loads(take.body.data()) if take.status == 200 else take.status for take in takes(store, given)]


def test_a_failure_that_waited_is_written_once_however_many_good_takes_follow(store: Path, made: Session) -> None:
    fail(made, chat(), 429)
    assert answers(store) == [N4]
    record(made, chat(), N1)
    assert answers(store) == [429, N1]
    record(made, chat(), N2)
    record(made, chat(), N3)
    assert answers(store) == [429, N1, N2, N3]
    replay = session(store, "replay")
    assert [replayed(replay, chat())["error"]["message"], *(replayed(replay, chat()) for _ in range(3))] == [
        "later", N1, N2, N3,
    ]  # fmt: skip


def test_a_failure_alone_is_not_written_and_not_kept_for_a_later_run(store: Path, made: Session) -> None:
    fail(made, chat(), 429)
    assert answers(store) == [N4]
    record(session(store, "record"), chat(), N1)
    assert answers(store) == [N1]


def test_a_failure_that_waits_belongs_to_its_cell(store: Path) -> None:
    made = session(store, "record")
    for source, answer in (("a", N3), ("b", N4)):
        with cell(source):
            record(made, chat(), answer)
    with cell("a"):
        fail(made, chat(), 429)
    with cell("b"):
        record(made, chat(), N1)
    assert answers(store) == [N3, N1]


def test_failures_that_waited_stand_in_the_order_in_which_they_were_asked(store: Path, made: Session) -> None:
    first, second = begin(made, chat(), b"{}", status=429), begin(made, chat(), b"{}", status=503)
    second.end()
    first.end()
    assert answers(store) == [N4]
    record(made, chat(), N1)
    assert answers(store) == [429, 503, N1]


def test_a_failure_after_a_good_take_of_its_own_run_does_not_wait(store: Path, made: Session) -> None:
    fail(made, chat(), 429)
    record(made, chat(), N1)
    fail(made, chat(), 503)
    assert answers(store) == [429, N1, 503]
    record(made, chat(), N2)
    assert answers(store) == [429, N1, 503, N2]


def test_a_stream_that_breaks_waits_as_other_failures_do(store: Path, made: Session) -> None:
    stream(made, chat(), "a").fail("ReadError", "gone")
    assert answers(store) == [N4]
    record(made, chat(), N1)
    record(made, chat(), N2)
    assert [take.reason for take in takes(store, chat())] == ["dropped", None, None]
    assert answers(store)[1:] == [N1, N2]


def test_a_good_stream_that_is_written_twice_brings_the_failure_before_it_once(store: Path, made: Session) -> None:
    fail(made, chat(), 429)
    recorder = stream(made, chat(), "a")
    recorder.flush(False)
    recorder.feed(event("[DONE]"))
    recorder.end()
    record(made, chat(), N1)
    assert [(take.status, take.complete) for take in takes(store, chat())] == [(429, True), (200, True), (200, True)]


def test_failures_of_two_requests_wait_each_for_its_own_good_take(store: Path) -> None:
    for text, answer in (("a", N3), ("b", N4)):
        record(session(store, "record"), chat(text), answer)
    made = session(store, "record")
    fail(made, chat("a"), 429)
    fail(made, chat("b"), 503)
    record(made, chat("a"), N1)
    assert (contents(store, chat("a")), contents(store, chat("b"))) == ([429, N1], [N4])
    record(made, chat("a"), N2)
    record(made, chat("b"), N3)
    assert (contents(store, chat("a")), contents(store, chat("b"))) == ([429, N1, N2], [503, N3])


def test_auto_keeps_failures_where_it_is_told_to(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable of a run, by the tag of a cell, and where a run in ``auto`` overrides a notebook's ``record``."""
    made = session(store, "auto")
    made.keeps_errors = True
    fail(made, chat(), 429)
    record(made, chat(), N1)
    assert answers(store) == [429, N1]
    with cell("one()", "one") as run:
        run.keeps_errors = True
        fail(session(store, "auto"), chat("other"), 401)
    monkeypatch.setenv("NBREPLAY_KEEP_ERRORS", "1")
    fail(session(store, "auto"), chat("variable"), 500)
    monkeypatch.delenv("NBREPLAY_KEEP_ERRORS")
    monkeypatch.setenv("NBREPLAY_MODE", "auto")
    fail(session(store, "record"), chat("record"), 403)
    assert [takes(store, chat(text))[0].status for text in ("other", "variable", "record")] == [401, 500, 403]


def test_a_miss_names_the_failure_that_auto_did_not_keep(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, until an answer is kept."""
    monkeypatch.delenv("NBREPLAY_NOTEBOOK", raising=False)
    auto = session(store, "auto")
    fail(auto, chat(), 429)
    refuse(auto, chat("refused"))
    assert auto.interactions[0].note == "not kept: 429 Too Many Requests. auto does not keep failures that may pass"
    text = str(missed(session(store, "replay"), chat()))
    assert "why     when it was last asked live, it failed: 429 Too Many Requests. auto does not keep" in text
    assert 'to fix  run this once with mode="record", which keeps the failure' in text
    assert "it failed: ConnectError." in str(missed(session(store, "replay"), chat("refused")))
    monkeypatch.setenv("NBREPLAY_NOTEBOOK", "a b.ipynb")
    text = str(missed(session(store, "replay"), chat()))
    assert "to fix  nbreplay run 'a b.ipynb' --mode auto --update --keep-errors, which keeps the failure" in text
    record(session(store, "auto"), chat(), N1)
    replay = session(store, "replay")
    replayed(replay, chat())
    text = str(missed(replay, chat()))
    assert "recorded once, asked a 2nd time" in text
    assert "429" not in text


@pytest.mark.parametrize("is_link", [True, False])
def test_the_note_of_a_failure_is_read_from_its_own_file_only(store: Path, tmp_path: Path, is_link: bool) -> None:
    """A stranger's clone may hold a link there, or a huge text with control characters."""
    (tmp_path / "secret").write_text("precious")
    fail(session(store, "auto"), chat(), 429)
    (note,) = (store / ".nbreplay").glob("failed-*")
    note.unlink()
    if is_link:
        note.symlink_to(tmp_path / "secret")
    else:
        note.write_text("x\x1b[31m" * 10_000)
    text = str(missed(session(store, "replay"), chat()))
    assert "precious" not in text
    assert "\x1b" not in text
    assert len(text) < 1000
    record(session(store, "auto"), chat(), N1)
    assert (tmp_path / "secret").read_text() == "precious"
    assert not note.is_symlink()
