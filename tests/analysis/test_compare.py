"""Comparisons: what is the same, what changed and by how much, and what is on one side only."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis import frame_cache
from nbreplay.analysis.library import Library
from nbreplay.errors import OptionError, StoreError
from nbreplay.providers.answer import Answer
from tests.analysis.making import lib, named, rows, streamed

EMBEDDING = {"kind": "embedding", "endpoint": "embeddings"}
OWN = Path(__file__).parents[2] / "recordings"


def asked(text: str, model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def said(text: str, tokens: int = 1, own: str = "id1", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"content": text, **more}, "finish_reason": "stop"}
    return {"id": own, "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}}


def called(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}]}


def by_prompt(made: nbreplay.analysis.compare.Comparison, *names: str) -> dict[str, tuple[Any, ...]]:
    return {prompt: tuple(more) for prompt, *more in rows(made.frame, "prompt", *names)}


def test_answers_to_the_same_request(tmp_path: Path) -> None:
    a = lib(
        tmp_path / "a",
        (asked("same"), said("Yes", own="id1")),
        (asked("changed"), said("one\ntwo\nthree", 3), {"elapsed_ms": 500}),
        (asked("tools"), said("", **called('{"x": 1, "y": 2}'))),
        (asked("other tools"), said("", **called('{"x": 1}'))),
        (asked("gone"), said("Here")),
    )
    b = lib(
        tmp_path / "b",
        (asked("same"), said("Yes", own="another")),
        (asked("changed"), said("one\n2\nthree", 7), {"elapsed_ms": 750}),
        (asked("tools"), said("", **called('{"y": 2, "x": 1}'))),
        (asked("other tools"), said("", **called('{"x": 2}'))),
        (asked("new"), said("There")),
    )
    made = nbreplay.compare(a, b)
    names = ["kind", "key", "model", "answer_key", "prompt_key"]
    assert nbreplay.compare(a.interactions[names], b.interactions[names]).counts == made.counts
    assert made != nbreplay.compare(a, a)
    assert made.counts == {"same": 2, "changed": 2, "only in a": 1, "only in b": 1}
    assert len(made) == len(made.frame) == 6
    assert by_prompt(made, "status") == {
        "same": ("same",),
        "changed": ("changed",),
        "tools": ("same",),
        "other tools": ("changed",),
        "gone": ("only in a",),
        "new": ("only in b",),
    }
    names = ("text_diff", "output_tokens_delta", "duration_s_delta", "similarity")
    assert by_prompt(made, *names)["changed"] == ("-two\n+2", 4, 0.25, pytest.approx(2 / 3))
    assert by_prompt(made, *names)["same"][:2] == ("", 0)
    assert by_prompt(made, *names)["gone"] == (None, None, None, None)
    assert by_prompt(made, "tool_calls_a", "tool_calls_b")["other tools"] == ('look({"x": 1})', 'look({"x": 2})')
    assert set(made.changed.prompt) == {"changed", "other tools"}
    assert repr(made) == "Comparison on key: 2 changed, 2 same, 1 only in a, 1 only in b"
    # Stores by name, and the other way round.
    turned = nbreplay.compare(tmp_path / "b", str(tmp_path / "a"))
    assert turned.counts == {"same": 2, "changed": 2, "only in a": 1, "only in b": 1}
    assert by_prompt(turned, "output_tokens_delta")["changed"] == (-4,)


def test_answers_of_two_models_to_the_same_messages(tmp_path: Path) -> None:
    both = lib(
        tmp_path,
        (asked("hello", "small"), said("Hi")),
        (asked("hello", "large"), streamed({"choices": [{"index": 0, "delta": {"content": "Good morning"}}]})),
        (asked("bye", "small"), said("Bye")),
    )
    assert set(nbreplay.compare(both, both).frame.status) == {"same"}
    found = both.interactions
    small, large = found[found.model == "small"], found[found.model == "large"]
    made = nbreplay.compare(small, large, on="prompt")
    assert by_prompt(made, "status", "model_a", "model_b", "text_a", "text_b") == {
        "hello": ("changed", "small", "large", "Hi", "Good morning"),
        "bye": ("only in a", "small", None, "Bye", None),
    }
    assert nbreplay.compare(small, large).counts["changed"] == 0


def test_the_kind_is_that_of_a(tmp_path: Path) -> None:
    a = lib(tmp_path / "a", (asked("x"), said("1")))
    b = lib(tmp_path / "b", (asked("x"), said("1"), {"kind": "message", "endpoint": "messages"}))
    assert rows(nbreplay.compare(a, b, on="prompt").frame, "status", "kind") == [("same", "chat")]
    assert rows(nbreplay.compare(b, a, on="prompt").frame, "status", "kind") == [("same", "message")]


def test_of_several_answers_the_first_is_paired_with_the_first(tmp_path: Path) -> None:
    a = lib(tmp_path / "a", (asked("x"), said("1")), (asked("x"), said("2")))
    b = lib(tmp_path / "b", (asked("x"), said("1")), (asked("x"), said("3")), (asked("x"), said("4")))
    made = nbreplay.compare(a, b)
    assert list(made.frame.status) == ["same", "changed", "only in b"]
    (key,) = set(a.interactions.key)
    assert list(made.frame.index) == [named("chat", key, number) for number in (1, 2, 3)]
    assert [name[:7] for name in nbreplay.compare(a, b, on="prompt").frame.index] == ["prompt-"] * 3


@pytest.mark.parametrize(
    ("one", "other", "options"),
    [
        ({"data": [{"embedding": [0.1]}]}, {"data": [{"embedding": [0.2]}]}, EMBEDDING),
        ({"return": 1}, {"return": 2}, {"kind": "tool"}),
        ({"return": 1}, {"exception": {"type": "KeyError", "message": "1"}}, {"kind": "tool"}),
    ],
)
def test_what_says_nothing_is_compared_by_what_it_brings(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], options: dict[str, Any]
) -> None:
    given = {"tool": "t", "arguments": {}} if options["kind"] == "tool" else {"model": "m", "input": "x"}
    usage = {"id": "1", "usage": {"prompt_tokens": 1}} if options["kind"] != "tool" else {}
    made = [lib(tmp_path / str(n), (given, body | usage, options)) for n, body in enumerate((one, one, other))]
    assert nbreplay.compare(made[0], made[1]).counts["same"] == 1
    changed = nbreplay.compare(made[0], made[2])
    assert changed.counts["changed"] == 1
    if options["kind"] == "tool":
        diff = "\n".join(f"{sign}{lib.interactions.answer.iloc[0]}" for sign, lib in zip("-+", made[::2], strict=True))
        assert rows(changed.frame, "tool", "prompt", "text_diff") == [("t", "{}", diff)]


def test_an_error_is_a_change(tmp_path: Path) -> None:
    a = lib(tmp_path / "a", (asked("x"), said("1")))
    b = lib(tmp_path / "b", (asked("x"), {"error": {"type": "overloaded", "message": "no"}}, {"status": 529}))
    assert rows(nbreplay.compare(a, b).frame, "status", "error_type_a", "error_type_b") == [
        ("changed", None, "overloaded")
    ]


def test_real_recordings_are_the_same_as_themselves() -> None:
    made = nbreplay.compare(OWN, nbreplay.load(OWN))
    assert made.counts["same"] == len(nbreplay.load(OWN)) == len(made)
    assert made.frame.similarity.dropna().eq(1).all()


def test_it_is_frozen_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = lib(tmp_path / "a", (asked("x"), said("<script>alert(1)</script>")))
    made = nbreplay.compare(a, lib(tmp_path / "b", (asked("x"), said("fine"))))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.on = "prompt"  # type: ignore[misc]
    made.show()
    assert capsys.readouterr().out.startswith("a against b: changed\n")
    html = made._repr_mimebundle_()["text/html"]
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("cache", [True, False])
def test_the_pairs_are_shown_side_by_side_those_that_changed_first(
    cache: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lib(tmp_path / "a", (asked("same"), said("Yes")), (asked("x"), said("before")), (asked("only"), said("here")))
    lib(tmp_path / "b", (asked("same"), said("Yes")), (asked("x"), said("after")))
    a, b = (nbreplay.load(tmp_path / name, cache=cache) for name in "ab")
    made = nbreplay.compare(a, b)
    sides = [[side and side.take and Answer(side.take.body).visible_text() for side in pair] for pair in made.sides]
    assert sides == [["before", "after"], ["here", None], ["Yes", "Yes"]]
    made.show()
    shown = capsys.readouterr().out
    assert shown.startswith("a against b: 1 changed, 1 same, 1 only in a\n")
    assert shown.index("asked: x") < shown.index("[-before-]") < shown.index("{+after+}")
    assert "1 only in a\n  only → here\n1 same\n  same\n" in shown
    assert "Yes" not in shown, "what is equal is folded"


def test_two_interactions_are_compared_whatever_they_asked(tmp_path: Path) -> None:
    lib(tmp_path / "a", (asked("one"), said("1")), (asked("two"), said("2")))
    one, two = (side for pair in nbreplay.compare(tmp_path / "a", tmp_path / "a").sides for side in pair[:1])
    assert one is not None
    assert two is not None
    made = nbreplay.compare(one, two)
    assert made.counts["changed"] == 1
    assert set(made.frame[["text_a", "text_b"]].iloc[0]) == {"1", "2"}
    assert nbreplay.compare([one, two], [two, one]).counts["same"] == 2


def test_nothing_against_nothing(tmp_path: Path) -> None:
    made = nbreplay.compare(tmp_path, tmp_path)
    assert made.counts == dict.fromkeys(("same", "changed", "only in a", "only in b"), 0)
    assert isinstance(made._repr_mimebundle_()["text/html"], str)


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    with pytest.raises(nbreplay.OptionError, match='on must be "key" or "prompt"'):
        nbreplay.compare(tmp_path, tmp_path, on="text")  # type: ignore[arg-type]
    with pytest.raises(nbreplay.OptionError, match=r"rows of lib\.interactions"):
        nbreplay.compare(pd.DataFrame({"a": [1]}), tmp_path)
    assert isinstance(nbreplay.load(tmp_path), Library)


def test_what_cannot_be_shown_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has been removed, and an export of frames, are errors, not pairs without an answer."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install -e '.[parquet]'")
    monkeypatch.setattr(frame_cache, "YOUNG_NS", 0)
    store = tmp_path / "store"
    shutil.copytree(OWN, store, ignore=shutil.ignore_patterns(".nbreplay"))
    made = nbreplay.compare(store, store)
    assert all(one is not None and other is not None for one, other in made.sides)
    for path in store.glob("chat-*"):
        path.unlink()
    with pytest.raises(StoreError, match="the file has been removed"):
        list(nbreplay.compare(made.libraries[1], OWN).sides)
    nbreplay.load(OWN).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(OptionError, match="holds frames without answers"):
        list(nbreplay.compare(tmp_path / "x.parquet", OWN).sides)


def test_the_sides_are_named_by_what_differs(tmp_path: Path) -> None:
    paths = [tmp_path / month / "recordings" for month in ("october", "today")]
    first, _ = (lib(path, (asked("x"), said(text))) for path, text in zip(paths, ("before", "after"), strict=True))
    assert nbreplay.compare(*paths).names == ("october/recordings", "today/recordings")
    assert nbreplay.compare(first, paths[1]).names == ("october/recordings", "today/recordings")
    other = lib(tmp_path / "models", (asked("x"), said("1")), (asked("x", model="o3"), said("2"))).interactions
    sides = [other[other.model == model] for model in sorted(other.model.unique())]
    assert nbreplay.compare(*sides, on="prompt").names == tuple(sorted(other.model.unique()))
    rows = lib(tmp_path / "keys", (asked("x"), said("1")), (asked("y"), said("2"))).interactions
    assert nbreplay.compare(rows[:1], rows[1:]).names == tuple(rows.index)
    assert nbreplay.compare(rows, rows).names == ("a", "b")


def test_of_many_changed_pairs_the_first_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in "ab":
        lib(tmp_path / side, *((asked(f"question {n}"), said(f"from {side}")) for n in range(25)))
    nbreplay.compare(tmp_path / "a", tmp_path / "b").show()
    shown = capsys.readouterr().out
    assert shown.startswith("a against b: 25 changed, 0 same\n")
    assert shown.count("  from [-a-]") == shown.count("  from {+b+}") == 20
    assert "1 of 25 · asked: question " in shown
    assert "… 5 more changed pairs" in shown
