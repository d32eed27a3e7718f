"""Streams cut short: what is kept of them, when they are replayed and when asked for again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nbreplay.core.recorder import Recorder
from nbreplay.core.replay import Replay
from nbreplay.errors import RecordingIncomplete
from tests.core.making import (
    N1,
    SSE,
    begin,
    cell,
    chat,
    event,
    outcomes,
    record,
    replayed,
    session,
    stream,
    takes,
)

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
        answer.end()  # the library's own read error is raised
        assert only.error == {"type": "ReadError", "message": "gone"}
        return
    with pytest.raises(RecordingIncomplete, match="ends here"):
        answer.end()
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
