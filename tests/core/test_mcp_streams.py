"""What an MCP client asks by itself: its standing stream stays open in a replay, and is never a miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingIncomplete, RecordingMissing
from tests.core.making import JSON, SSE, begin, call, record, replayed, session

EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'
HEADERS = [(b"Mcp-Session-Id", b"1"), (b"MCP-Protocol-Version", b"2025-06-18")]


def listening(headers: Any = HEADERS, **more: Any) -> Call:
    return call(method=more.pop("method", "GET"), path=more.pop("path", "/mcp"), headers=headers, **more)


def subscribing(number: Any = "listen-1", method: str = "subscriptions/listen") -> Call:
    return call({"jsonrpc": "2.0", "id": number, "method": method}, path="/mcp")


def left(live: Session, given: Call, reason: str, *pieces: bytes, kind: str = SSE, status: int = 200) -> Recorder:
    """Have a stream recorded that ends in one of the ways of a take."""
    recorder = begin(live, given, *pieces, kind=kind, status=status)
    if reason == "closed":
        recorder.close()
    elif reason == "interrupted":
        recorder.interrupt()
    elif reason == "dropped":
        recorder.fail("ReadError", "reset")
    elif reason == "open":
        live.flush()
    else:
        recorder.end()
    return recorder


def asked(again: Session, given: Call) -> Replay:
    made = again.ask(given)
    assert isinstance(made, Replay)
    return made


def taken(store: Path) -> list[Take]:
    found = [Store(store).read(name) for name in Store(store).names()]
    return [take for recording in found if recording for take in recording.takes]


@pytest.mark.parametrize("reason", ["closed", "interrupted", "open"])
@pytest.mark.parametrize("given", [listening(), listening(HEADERS[:1]), listening(HEADERS[1:]), subscribing()])
@pytest.mark.parametrize("mode", ["replay", "auto"])
def test_a_standing_stream_that_its_caller_left_stays_open(given: Call, reason: str, mode: str, store: Path) -> None:
    left(session(store, "record"), given, reason, EVENT)
    (take,) = taken(store)
    assert (take.complete, take.reason, take.standing) == (False, reason, True)
    assert take.good
    again = asked(session(store, mode), given)
    assert again.stays_open
    assert b"".join(part for _, part in again.parts()) == EVENT
    again.end()


@pytest.mark.parametrize("reason", ["closed", "interrupted", "open"])
@pytest.mark.parametrize(
    ("given", "kind", "status"),
    [
        (listening([]), SSE, 200),
        (listening([(b"accept", b"text/event-stream")]), SSE, 200),
        (listening(), "text/plain", 200),
        (listening(), "application/x-ndjson", 200),
        (listening(), SSE, 404),
        (listening(method="POST", body={"a": 1}), SSE, 200),
        (listening(path="/v1/responses/resp_1"), SSE, 200),
        (subscribing(method="tools/call"), SSE, 200),
    ],
)
def test_any_other_stream_that_was_cut_short_is_incomplete(
    given: Call, kind: str, status: int, reason: str, store: Path
) -> None:
    left(session(store, "record"), given, reason, EVENT, kind=kind, status=status)
    assert not taken(store)[0].standing
    again = asked(session(store, "replay"), given)
    assert not again.stays_open
    with pytest.raises(RecordingIncomplete):
        again.end()


def test_one_that_broke_breaks_again(store: Path) -> None:
    left(session(store, "record"), listening(), "dropped", EVENT)
    again = asked(session(store, "replay"), listening())
    assert not again.stays_open
    assert again.take.error is not None


def test_one_that_is_still_open_when_its_cell_ends_is_written_again_when_it_goes_on(store: Path) -> None:
    live = session(store, "record")
    recorder = left(live, listening(), "open", EVENT)
    recorder.feed(EVENT)
    live.flush()
    (take,) = taken(store)
    assert take.body.data() == 2 * EVENT


def test_a_client_that_listened_several_times_does_so_again_in_order(store: Path) -> None:
    live = session(store, "record")
    for number, reason in enumerate(["end", "end", "closed"]):
        left(live, listening(), reason, b"id: %d\n" % number + EVENT)
    again = session(store, "replay")
    found = [asked(again, listening()) for _ in range(3)]
    assert [b"".join(part for _, part in one.parts())[:5] for one in found] == [b"id: 0", b"id: 1", b"id: 2"]
    assert [one.stays_open for one in found] == [False, False, True]


def test_a_stream_that_ended_with_its_session_stays_open(store: Path) -> None:
    """The server ends it when the client deletes the session, at its own end: it does not listen again."""
    live = session(store, "record")
    for number in (1, 2):
        recorder = live.ask(listening())
        assert isinstance(recorder, Recorder)
        recorder.begin(200, [("content-type", SSE), ("mcp-session-id", f"session {number}")])
        recorder.feed(EVENT)
        recorder.end()
    again = session(store, "replay")
    found = [asked(again, listening()) for _ in range(2)]
    assert all(one.stays_open for one in found)
    for one in found:
        one.end()
    assert [item.take and item.take.complete for item in again.interactions] == [True, True], "as it is recorded"
    record(session(store, "record"), listening(path="/feed", headers=[]), EVENT, kind=SSE)
    assert not asked(session(store, "replay"), listening(path="/feed", headers=[])).stays_open


def test_listening_more_often_than_was_recorded_is_no_miss(store: Path) -> None:
    """How often a client does depends on how long it lives."""
    left(session(store, "record"), listening(), "dropped", EVENT)
    again = session(store, "replay")
    assert asked(again, listening()).take.body.data() == EVENT
    for _ in range(2):
        more = asked(again, listening())
        assert more.stays_open
        assert more.take.status == 200
        assert more.take.headers["content-type"] == SSE
        assert not list(more.parts())
    assert [item.outcome for item in again.interactions] == ["replayed"] * 3
    assert "MCP" in again.interactions[1].note
    assert again.interactions[0].note == ""


def test_listening_again_after_the_connection_was_refused(store: Path) -> None:
    live = session(store, "record")
    recorder = live.ask(listening())
    assert isinstance(recorder, Recorder)
    recorder.fail("ConnectError", "refused")
    again = session(store, "replay")
    assert asked(again, listening()).take.status is None
    more = asked(again, listening())
    assert more.stays_open
    assert more.take.status == 200


def test_listening_where_no_answer_had_come_before_the_client_left(store: Path) -> None:
    live = session(store, "record")
    recorder = live.ask(listening())
    assert isinstance(recorder, Recorder)
    recorder.interrupt()
    assert not taken(store)
    again = asked(session(store, "replay"), listening())
    assert again.stays_open
    assert isinstance(again.take.body, Events)


def test_a_server_that_refuses_does_so_as_often_as_it_is_asked(store: Path) -> None:
    record(session(store, "record"), listening(), {"error": "no"}, status=405)
    again = session(store, "replay")
    for _ in range(3):
        refused = asked(again, listening())
        assert refused.take.status == 405
        assert not refused.stays_open
        assert b"".join(part for _, part in refused.parts()) == b'{"error":"no"}'


def test_the_end_of_a_session_is_replayed(store: Path) -> None:
    end = listening(method="DELETE")
    record(session(store, "record"), end, status=204, kind="")
    again = session(store, "replay")
    assert asked(again, end).take.status == 204
    with pytest.raises(RecordingMissing):
        again.ask(end)


def test_the_list_of_tools_is_given_as_often_as_the_client_asks(store: Path) -> None:
    """It does so by itself at results that find it without the list: how often, with concurrent calls, is chance."""

    def tools(number: int, method: str = "tools/list") -> Call:
        return call({"jsonrpc": "2.0", "id": number, "method": method}, path="/mcp")

    live = session(store, "record")
    for method in ("tools/list", "tools/call"):
        record(live, tools(1, method), {"jsonrpc": "2.0", "id": 1, "result": {}}, kind=JSON)
    again = session(store, "replay")
    assert [replayed(again, tools(number))["id"] for number in (5, 6, 7)] == [5, 6, 7]
    replayed(again, tools(8, "tools/call"))
    with pytest.raises(RecordingMissing, match="asked a 2nd time"):
        again.ask(tools(9, "tools/call"))
    with pytest.raises(RecordingMissing):
        session(store / "other", "replay").ask(tools(1))


@pytest.mark.parametrize("given", [listening([]), listening(method="DELETE"), subscribing()])
def test_whatever_else_is_not_recorded_is_a_miss(given: Call, store: Path) -> None:
    with pytest.raises(RecordingMissing):
        session(store, "replay").ask(given)


def test_auto_listens_live_where_nothing_is_left(store: Path) -> None:
    left(session(store, "record"), listening(), "closed", EVENT)
    auto = session(store, "auto")
    assert asked(auto, listening()).stays_open
    assert isinstance(auto.ask(listening()), Recorder)
