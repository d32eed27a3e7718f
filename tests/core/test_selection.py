"""Which take answers, and where a new one goes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.request.route import is_private
from nbreplay.core.selection import Asker, choose_take, insert_take, is_missing_in_auto, owns, remove_take
from tests.core.making import AZURE, LOCAL, OPENAI, take

LATER = "2026-01-02T00:00:00.000Z"


def chosen(
    *takes: Take, host: str = OPENAI, ids: tuple[str, ...] = (), cell: str | None = None, replaying: bool = True
) -> Any:
    """The number of the take that is chosen; with "!" where it comes from another public host."""
    found, foreign = choose_take(
        takes, takes, Asker(host, ids, None if cell is None else CellRef(None, cell)), replaying=replaying
    )
    if found is None:
        return None
    assert isinstance(found.body, Json)
    return f"{found.body.value['n']}!" if foreign else found.body.value["n"]


# Choosing.


def test_takes_are_given_in_file_order() -> None:
    assert chosen(take(at=3), take(at=1), take(at=2)) == 3
    assert chosen() is None


def test_takes_of_the_same_host_go_before_others() -> None:
    assert chosen(take(at=1, host=AZURE), take(at=2)) == 2
    assert chosen(take(at=1, host=AZURE), take(at=2), replaying=False) == 2


def test_a_take_of_another_public_host_is_for_replay_only_and_said() -> None:
    assert chosen(take(at=1, host=AZURE)) == "1!"
    assert chosen(take(at=1, host=AZURE), replaying=False) is None


@pytest.mark.parametrize("replaying", [True, False])
@pytest.mark.parametrize("host", [LOCAL, "localhost:11434", "192.168.0.4", "gateway", "llm.internal", "[::1]:8080"])
def test_a_private_host_matches_any(host: str, replaying: bool) -> None:
    assert chosen(take(at=1, host=host), replaying=replaying) == 1
    assert chosen(take(at=1), host=host, replaying=replaying) == 1
    assert chosen(take(at=1, host="127.0.0.1:1"), host=host, replaying=replaying) == 1


def test_equal_ids_go_first_then_the_cells_own_then_the_rest() -> None:
    takes = [
        take(at=1),
        take(at=2, cell="b"),
        take(at=3, ids=("x",)),
        take(at=4, cell="a"),
        take(at=5, cell="a", ids=("x",)),
    ]
    assert chosen(*takes, cell="a") == 4
    assert chosen(*takes, cell="b") == 2
    assert chosen(*takes, cell="c") == 1
    assert chosen(*takes) == 1
    assert chosen(*takes, ids=("x",)) == 3
    assert chosen(*takes, ids=("x",), cell="a") == 5
    assert chosen(*takes, ids=("x",), cell="b") == 3
    assert chosen(*takes, ids=("y",), cell="a") == 4


def test_a_private_take_does_not_go_before_one_of_the_public_host_that_is_asked() -> None:
    assert chosen(take(at=1, host=LOCAL), take(at=2)) == 2


def test_a_task_is_given_its_own_take_before_the_rest() -> None:
    takes = [replace(take(at=1), task=1), replace(take(at=2), task=0), take(at=3, cell="a")]
    answers = [choose_take(takes, takes, Asker(OPENAI, task=task), replaying=True)[0] for task in (0, 1, 2, None)]
    assert answers == [takes[1], takes[0], takes[0], takes[0]]


def test_ids_do_not_bring_another_host() -> None:
    assert chosen(take(at=1, host=AZURE, ids=("x",)), take(at=2), ids=("x",)) == 2


@pytest.mark.parametrize(("reason", "auto"), [("closed", 1), ("interrupted", 2), ("dropped", 2), ("open", 2)])
def test_auto_replays_what_its_caller_closed_and_asks_again_for_what_was_cut(reason: str, auto: int) -> None:
    cut = take(at=1, complete=False, reason=reason)
    assert chosen(cut, take(at=2)) == 1
    assert chosen(cut, take(at=2), replaying=False) == auto
    assert chosen(cut, replaying=False) == (1 if auto == 1 else None)
    assert is_missing_in_auto(cut) is (auto == 2)


@pytest.mark.parametrize(
    ("one", "other", "own"),
    [
        (CellRef("1", "a"), CellRef("1", "b"), True),
        (CellRef("1", "a"), CellRef("2", "a"), False),
        (CellRef("1", "a"), CellRef(None, "a"), True),
        (CellRef(None, "a"), CellRef("1", "a"), True),
        (CellRef(None, "a"), CellRef(None, "a"), True),
        (CellRef(None, "a"), CellRef(None, "b"), False),
        (None, CellRef(None, "a"), False),
        (CellRef(None, "a"), None, False),
        (None, None, True),
    ],
)
def test_own_is_the_same_id_where_both_have_one_else_the_same_source(
    one: CellRef | None, other: CellRef | None, own: bool
) -> None:
    assert owns(one, replace(take(), cell=other)) is own


def test_cells_that_two_notebooks_share_have_takes_of_their_own() -> None:
    """Such as the first cell of every notebook in a course, or all cells of a copy."""

    def of(notebook: str | None, at: int = 1) -> Take:
        return replace(take(at=at), cell=CellRef("1", "a", notebook))

    one, two, unknown = of("one.ipynb"), of("two.ipynb", 2), of(None, 3)
    for cell, expected in ((one.cell, one), (two.cell, two), (of("copy.ipynb").cell, one), (unknown.cell, one)):
        assert choose_take([one, two], [one, two], Asker("", cell=cell), replaying=True)[0] is expected
    assert put([one, two], replace(new(), cell=two.cell)) == [1, 9]
    assert put([one, two], replace(new(), cell=of("copy.ipynb").cell)) == [1, 2, 9]
    assert put([one, unknown], replace(new(), cell=one.cell)) == [9]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1",
        "127.9.9.9:1",
        "[::1]:80",
        "::1",
        "10.1.2.3",
        "172.16.0.1:8000",
        "192.168.1.1",
        "169.254.0.1",
        "my-model",
        "my-model:8000",
        "a.local",
        "gateway.internal:443",
        "x.localhost",
        "[fd00::1]:80",
        "nas.lan",
    ],
)
def test_private_hosts(host: str) -> None:
    assert is_private(host)


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com",
        "api.openai.com:443",
        "8.8.8.8",
        "172.32.0.1",
        "[2001:4860:4860::8888]:443",
        "localhost.com",
        "1.2.3",
    ],
)
def test_public_hosts(host: str) -> None:
    assert not is_private(host)


# Removing.


def test_the_very_take_is_removed_or_else_one_that_is_equal() -> None:
    one, same, other = take(at=1), take(at=1), take(at=2)
    assert one == same
    (left,) = remove_take([one, same], same)
    assert left is one
    assert remove_take([other, one, other, other], same) == [other, other, other]
    assert remove_take([one], other) == [one]
    assert remove_take([], other) == []


# Placing.


def put(
    takes: list[Take],
    new: Take,
    order: int = 1,
    written: list[tuple[int, Take]] | None = None,
    *,
    recording: bool = True,
    earlier: tuple[Take, ...] = (),
) -> list[Any] | None:
    """The numbers of the takes after a new one has been put in."""
    made = insert_take(takes, new, order, written or [], LATER, recording=recording, earlier=earlier)
    return None if made is None else [each.body.value["n"] for each in made if isinstance(each.body, Json)]


def new(at: int = 9, **more: Any) -> Take:
    return replace(take(at=at, **more), recorded_at="2026-01-02T00:00:01.000Z")


def test_recording_replaces_the_cells_own_takes_in_one_step() -> None:
    takes = [take(at=1, cell="a"), take(at=2, cell="b"), take(at=3, cell="a"), take(at=4)]
    assert put(takes, new(cell="a")) in ([9, 2, 4], [2, 9, 4])
    assert put(takes, new(cell="b")) == [1, 9, 3, 4]
    assert put(takes, new()) == [1, 2, 3, 9]
    assert put(takes, new(cell="c")) == [1, 2, 3, 4, 9]


def test_recording_leaves_takes_of_other_hosts() -> None:
    assert put([take(at=1), take(at=2, host=AZURE)], new()) == [9, 2]
    assert put([take(at=1), take(at=2, host=AZURE)], new(host=AZURE)) == [1, 9]


def test_later_takes_of_a_run_append_in_the_order_in_which_their_requests_started() -> None:
    first, second, third = new(1), new(2), new(3)
    assert put([first], second, 2, [(1, first)]) == [1, 2]
    assert put([second], first, 1, [(2, second)]) == [1, 2]
    assert put([first, third], second, 2, [(1, first), (3, third)]) == [1, 2, 3]
    foreign = take(at=7, cell="z")
    assert put([foreign, third], first, 1, [(3, third)]) == [7, 1, 3]


@pytest.mark.parametrize(
    "bad",
    [
        {"status": 429},
        {"status": 500},
        {"status": 401},
        {"status": None, "error": {"type": "ConnectError", "message": ""}},
        {"complete": False, "reason": "dropped"},
        {"complete": False, "reason": "interrupted"},
        {"complete": False, "reason": "open"},
    ],
)
def test_what_failed_never_displaces_a_good_take(bad: dict[str, Any]) -> None:
    assert put([take(at=1)], new(**bad)) is None
    assert put([take(at=1, **bad)], new(**bad)) == [9]
    assert put([], new(**bad)) == [9]
    assert put([take(at=1, cell="z")], new(cell="a", **bad)) == [1, 9], "another cell's good take is not lost"
    good = new(8)
    assert put([good], new(**bad), 2, [(1, good)]) == [8, 9], (
        "after a good take of the same run there is nothing to lose"
    )


def test_failures_are_kept_in_front_of_the_good_take_that_follows() -> None:
    failed = (new(7, status=429), new(8, status=503))
    assert put([take(at=1)], new(), 3, earlier=failed) == [7, 8, 9]


def test_as_much_as_a_caller_wanted_does_not_throw_the_whole_away() -> None:
    closed = new(complete=False, reason="closed")
    made = put([take(at=1)], closed)
    assert made == [9, 1]
    assert put([take(at=1, complete=False, reason="closed")], closed) == [9]


def test_auto_adds_keeps_no_failure_that_may_pass_and_replaces_one_that_was_cut() -> None:
    cut = take(at=1, complete=False, reason="dropped")
    assert put([take(at=1)], new(), recording=False) == [1, 9]
    assert put([], new(status=429), recording=False) is None
    assert put([], new(status=404), recording=False) == [9]
    assert put([cut, take(at=2)], new(), recording=False) == [9, 2]
    own = new(complete=False, reason="dropped")
    assert put([own], new(8), 2, [(1, own)], recording=False) == [9, 8], "a take of the same run is not replaced"
    assert put([take(at=2), cut, replace(cut, body=Json({"n": 3}))], new(), recording=False) == [2, 9, 3]
    assert put([replace(cut, host=AZURE)], new(), recording=False) == [1, 9]
    assert put([take(at=1, complete=False, reason="closed")], new(), recording=False) == [1, 9]
