"""``nbreplay diff``: recordings, stores and executed notebooks, with the words marked that differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from rich.cells import cell_len

from nbreplay.cli.main import main
from nbreplay.core.recording.blob import Blob
from nbreplay.core.store.store import Store
from tests.analysis.making import put
from tests.terminals import EVIL, UNSAFE, on_terminal


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    return Store("recordings")


def keep(store: Store, prompt: str, said: Any, at: int = 1, **settings: Any) -> str:
    """Record an answer, and return the beginning of its name."""
    asked = {"model": "m", "messages": [{"role": "user", "content": prompt}], **settings}
    answer = {"choices": [{"index": 0, "message": {"content": said}}]} if isinstance(said, str) else said
    return "chat-" + put(store, asked, answer, at=at).partition(":")[2][:12]


def test_words_that_differ_are_marked_and_sides_are_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    a = keep(store, "How warm is it in Tokyo?", "It is warm and clear.", stop=["x"])
    b = keep(store, "How warm is it in Paris?", "It is cold and clear.", seed=1)
    assert main(["diff", a, b]) == 1
    out = capsys.readouterr().out
    names = [name for key in (a, b) for name in store.names() if name.startswith(key)]
    assert (
        out
        == f"""\
a  {names[0]}  m  1 take
b  {names[1]}  m  1 take

seed  only in b
  b  1
messages[0].content
  a  How warm is it in [-Tokyo-]?
  b  How warm is it in {{+Paris+}}?
stop[0]  only in a
  a  x

the answers differ
  a  It is [-warm-] and clear.
  b  It is {{+cold+}} and clear.
"""
    )
    assert main(["diff", a, a]) == 0
    assert capsys.readouterr().out.endswith("\n\nthe requests are the same\nthe answers are the same\n")


def test_a_terminal_has_styles_for_the_marks_and_folds_what_is_equal(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = keep(store, "one " * 200 + "Tokyo " + "two " * 200, "same")
    b = keep(store, "one " * 200 + "Paris " + "two " * 200, "same")
    for columns in (80, 120):
        status, out = on_terminal(monkeypatch, columns, "diff", a, b, colours=True)
        assert status == 1
        assert "\x1b[1;4;31mTokyo\x1b[0m" in out
        assert "[-" not in out
        _, out = on_terminal(monkeypatch, columns, "diff", a, b)
        assert "[-Tokyo-]" in out
        assert max(map(cell_len, out.splitlines())) <= columns
        assert out.count("words)") == 4
        assert out.count("one") < 80


def test_a_terminal_gets_the_beginning_of_what_is_huge(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = keep(store, "one", "a " * 20_000), keep(store, "two", "b " * 20_000)
    _, out = on_terminal(monkeypatch, 80, "diff", a, b)
    assert len(out) < 15_000
    assert " ".join(out.split()).count("(39,999 characters)") == 2


def test_answers_of_every_sort_are_compared(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Tool calls, errors, data and files count, and so does the number of takes."""
    other = Store("other")

    def call(city: str) -> dict[str, Any]:
        function = {"name": "get", "arguments": json.dumps({"city": city})}
        return {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1", "function": function}]}}]}

    cases = {
        "call": (call("Tokyo"), call("Paris"), 'a  → get(city="[-Tokyo-]")'),
        "data": ({"data": [1, 2]}, {"data": [1, 3]}, "{+3+}"),
        "error": (
            {"error": {"type": "old", "message": "no"}},
            {"error": {"type": "new", "message": "no"}},
            "[-old-]: no",
        ),
        "blob": (Blob.of(b"\0" * 9), Blob.of(b"\1" * 9), "blob-[-"),
        "space": ("a b", "a  b", "only white space differs"),
    }
    for prompt, (one, two, marked) in cases.items():
        name = keep(store, prompt, one)
        keep(other, prompt, two)
        paths = [str(next(side.path.glob(f"{name}*"))) for side in (store, other)]
        assert main(["diff", *paths]) == 1
        out = capsys.readouterr().out
        assert "the requests are the same\n\nthe answers differ\n" in out
        assert marked in out
    name = keep(store, "call", call("Tokyo"), at=2)
    paths = [str(next(side.path.glob(f"{name}*"))) for side in (store, other)]
    assert main(["diff", *paths]) == 1
    out = capsys.readouterr().out
    assert "2 takes in a, 1 take in b\nthe answers of take 1 differ\n" in out


def test_stores_are_counted_first(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    other = Store("other")
    for side in (store, other):
        keep(side, "same", "same")
    keep(store, "changed", "It is warm.")
    keep(other, "changed", "It is cold.")
    keep(store, "again", "equal", at=1)
    keep(other, "again", "equal", at=2)
    keep(store, "one side", "x")
    assert main(["diff", "recordings", "other"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "a  recordings  4 recordings",
        "b  other  3 recordings",
        "1 same, 2 changed, 1 only in a, 0 only in b",
    ]
    text = "\n".join(lines[3:])
    assert text.startswith("only in a  chat-")
    assert text.count("  m  one side") == 1
    assert "  m  changed\n    a  It is [-warm-].\n    b  It is {+cold+}." in text
    assert "  m  again\n  the answers are the same: only when and how they were recorded differs" in text
    assert main(["diff", "recordings", "recordings"]) == 0


def executed(path: str, *cells: tuple[str, str], **metadata: Any) -> str:
    """Write a notebook whose cells have printed something."""
    nodes = []
    for source, text in cells:
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
        nodes.append(nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1 if text else None))
    nbformat.write(nbformat.v4.new_notebook(cells=nodes, metadata=metadata), path)
    return path


def test_executed_notebooks_differ_by_the_outputs_of_equal_cells(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = executed("a.ipynb", ("x = 1", ""), ("print(x)", "one\nold\n"), ("old()", "o"), ("f()", "f"), ("g()", "g"))
    b = executed("b.ipynb", ("new()", ""), ("x = 1", ""), ("print(x)", "one\nnew\n"), ("f()", "f"), ("g()", ""))
    assert main(["diff", a, b]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a  a.ipynb  5 cells",
        "b  b.ipynb  5 cells",
        "cells: 2 same, 2 changed, 1 only in a, 1 only in b",
        "only in a  cell 3 (old())",
        "only in b  cell 1 (new())",
        "cell 2 (print(x)), cell 3 in b",
        "    [stdout]",
        "    one",
        "  - old",
        "  + new",
        "cell 5 (g())",
        "  not executed in b",
    ]
    assert main(["diff", a, b, "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert (rows["same"], rows["only_a"], rows["only_b"]) == (2, [3], [1])
    assert [(row["a"], row["b"]) for row in rows["changed"]] == [(2, 3), (5, 5)]
    _, out = on_terminal(monkeypatch, 80, "diff", a, b, colours=True)
    assert "\x1b[31m- old" in out
    assert main(["diff", a, a]) == 0
    assert main(["diff", a, "recordings"]) == 2
    assert "a.ipynb is a notebook, and recordings is not" in capsys.readouterr().err
    Path("other").mkdir()
    assert main(["diff", "chat-0", "other"]) == 2
    assert "other is a store, and chat-0 is not" in capsys.readouterr().err


def test_nothing_of_a_recording_or_a_notebook_is_obeyed(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store("other")
    a = keep(store, EVIL, EVIL + "a", **{EVIL: EVIL})
    b = keep(store, EVIL + "b", EVIL + "b", **{EVIL + "b": EVIL})
    keep(other, EVIL, EVIL + "c", **{EVIL: EVIL})
    one, two = executed("a.ipynb", (EVIL, EVIL + "a")), executed("b.ipynb", (EVIL, EVIL + "b"), (EVIL, ""))
    for arguments in ((a, b), ("recordings", "other"), (one, two)):
        assert main(["diff", *arguments]) == 1
        for out in (capsys.readouterr().out, on_terminal(monkeypatch, 300, "diff", *arguments)[1]):
            assert not set(out) & UNSAFE
            assert "\\u001b[31mred" in out
            assert "[bold]" in out
