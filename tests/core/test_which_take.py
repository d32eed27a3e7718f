"""Which take answers a request, and what recording anew replaces."""

from __future__ import annotations

import threading
from pathlib import Path

from nbreplay.core.recorder import Recorder
from tests.core.making import (
    AZURE,
    N1,
    N2,
    N3,
    N4,
    answers,
    begin,
    cell,
    chat,
    missed,
    record,
    replayed,
    session,
)


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
