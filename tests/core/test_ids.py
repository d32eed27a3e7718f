"""Ids that stand for content, and fields that do not count: a request that differs in them is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.replay import Replay
from nbreplay.core.request.request import Call
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from tests.core.making import (
    N1,
    N2,
    SSE,
    begin,
    call,
    chat,
    event,
    missed,
    record,
    replayed,
    session,
    takes,
)

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
