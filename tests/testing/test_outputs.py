"""Outputs of a run against those that are stored: what is the same, and what is not."""

from __future__ import annotations

import base64
import copy
import io
import uuid
from pathlib import Path
from typing import Any

import ipywidgets
import nbformat
import pandas as pd
import pytest
from ipywidgets.embed import dependency_state
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from nbreplay.testing.notebook_file import read_notebook, requested_check
from nbreplay.testing.outputs.compare import compare, restore_equal_outputs
from nbreplay.testing.outputs.diff import format_difference
from nbreplay.testing.outputs.sanitise import Rules
from nbreplay.testing.runner import run
from tests.testing.making import notebook

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def made(*outputs: Any, tags: tuple[str, ...] = (), count: int | None = 1, states: Any = None) -> Any:
    """A notebook of one cell that has these outputs."""
    cell = new_code_cell("show()", outputs=list(outputs), execution_count=count)
    if tags:
        cell.metadata["tags"] = list(tags)
    return new_notebook(cells=[cell], metadata={"widgets": {STATE: {"state": states}}} if states else {})


def out(text: str, name: str = "stdout") -> Any:
    return new_output("stream", name=name, text=text)


def display(value: Any = None, kind: str = "text/plain", **more: Any) -> Any:
    return new_output("display_data", {kind: value} if value is not None else {}, **more)


def failed(evalue: str, *traceback: str, ename: str = "ValueError") -> Any:
    return new_output("error", ename=ename, evalue=evalue, traceback=list(traceback))


def lines(old: Any, new: Any, **rules: Any) -> list[str]:
    """The lines of the difference between two notebooks of a cell, or between two lists of outputs."""
    pair = [made(*item) if isinstance(item, list) else item for item in (old, new)]
    found = compare(*pair, Rules(**rules))
    assert len(found) <= 1
    return list(found[0].lines) if found else []


@pytest.mark.full
def test_a_run_of_a_notebook_against_its_own_outputs(tmp_path: Path) -> None:
    """A real kernel; what changes by itself is the same, and what the user changes is told by cell."""
    sources = (
        "import sys, ipywidgets, pandas as pd",
        "print(object())\nfor i in range(3): print(i, end='\\r', flush=True)\nsys.stderr.write('warned')\nobject()",
        "display(pd.DataFrame({'a': [1]}).style)\n{'a': {1, 2}}",
        "w = ipywidgets\nw.VBox([w.IntSlider(value=7), w.Text('hello')])",
        "raise ValueError(str(object()))",
    )
    path = notebook(tmp_path / "one.ipynb", *sources, tags=("raises-exception",))
    first = run(path)
    assert first.errors == []
    assert first.notebook.cells[1].outputs != run(path).notebook.cells[1].outputs
    stored = tmp_path / "stored.ipynb"
    nbformat.write(first.notebook, stored)
    assert compare(read_notebook(stored), run(path).notebook, Rules()) == []
    changed = [source.replace("range(3)", "range(4)").replace("'hello'", "'bye'") for source in sources]
    found = compare(read_notebook(stored), run(notebook(path, *changed, tags=("raises-exception",))).notebook, Rules())
    assert [(one.index, one.first) for one in found] == [(2, "print(object())"), (4, "w = ipywidgets")]
    assert found[0].lines == ("  [stdout]", "  <object object at [address]>", "- 2", "+ 3")
    assert [line.split(".")[-1] for line in found[1].lines if line[0] in "-+"] == ['value: "hello"', 'value: "bye"']


def test_what_tags_ask_for() -> None:
    for tags, choice in (
        (["nbreplay-compare"], "compare"),
        (["nbreplay-run"], "run"),
        (["nbreplay-ignore"], "ignore"),
        (["nbval-ignore-output"], "run"),
        (["nbval-ignore-output", "nbreplay-compare"], "compare"),
        (["nbreplay-run", "nbreplay-ignore"], "ignore"),
        (["other"], None),
        ([], None),
        ("nbreplay-ignore", None),
        ([["nbreplay-ignore"], 7], None),
    ):
        cell = new_code_cell("")
        cell.metadata["tags"] = tags
        assert requested_check(cell) == choice, tags
    assert requested_check(new_code_cell("")) is None


@pytest.mark.parametrize(
    ("tags", "by_default", "never"),
    [
        ((), True, False),
        (("nbreplay-compare",), True, True),
        (("nbreplay-run",), False, False),
        (("nbreplay-ignore",), False, False),
        (("nbval-ignore-output",), False, False),
        (("nbreplay-compare", "skip"), False, False),
        (("skip-execution",), False, False),
    ],
)
def test_which_cells_are_compared(tags: tuple[str, ...], by_default: bool, never: bool) -> None:
    old, new = made(out("a"), tags=tags), made(out("b"), tags=tags)
    assert bool(lines(old, new)) is by_default
    assert bool(lines(old, new, compare=False)) is never


def test_a_cell_that_was_never_run_has_nothing_to_compare() -> None:
    assert lines(made(count=None), made(out("a"))) == []
    assert lines(made(count=1), made(out("a"))) == ["  [stdout]", "+ a"]
    assert lines(made(out("a"), count=None), made()) == ["  [stdout]", "- a"]
    text = new_notebook(cells=[new_markdown_cell("a")])
    assert compare(text, new_notebook(cells=[new_markdown_cell("b")]), Rules()) == []


def test_streams_are_what_they_leave() -> None:
    mixed = [out("a"), out("oh", "stderr"), out("b\n"), display("x"), out("\x1b[1mc\x1b[0m\r\nd \n\n")]
    assert lines(mixed, [out("ab\nc\nd"), display("x")]) == []
    assert lines(mixed, [out("ab\nc\ne"), display("x")]) == ["  [stdout]", "  ab", "  c", "- d", "+ e"]
    assert lines(mixed, [out("ab\nc\nd"), display("x")], stderr=True) == ["  [stderr]", "- oh"]
    assert lines(mixed, [out("x"), display("x")], ignore=("stdout",)) == []


def test_counts_metadata_and_kinds_of_displays_are_not_compared() -> None:
    old = new_output("execute_result", {"text/plain": "1"}, execution_count=3)
    new = new_output("display_data", {"text/plain": "1"}, metadata={"a": 1})
    stored, executed = made(old, count=3), made(new, count=9)
    executed.cells[0].outputs[0]["transient"] = {"display_id": "x"}
    assert lines(stored, executed) == []


def test_what_nbreplay_itself_displays_is_not_compared() -> None:
    status = display("3 replayed", metadata={"nbreplay": "status"})
    assert lines([status, display("x")], [display("x")]) == []
    assert lines([display("x")], [display("x"), status, status]) == []
    assert lines([display("3 replayed", metadata={"nbreplay": "other"})], []) != []


def test_outputs_that_come_and_go_are_told_with_the_right_ones() -> None:
    old = [display("one"), display("two"), display("three")]
    assert lines(old, [old[0], old[2]]) == ["  [output 2, text/plain]", "- two"]
    assert lines(old, [*old, display("four")]) == ["  [output 4, text/plain]", "+ four"]
    assert lines(old, []) == [
        *["  [output 1, text/plain]", "- one", "  [output 2, text/plain]", "- two"],
        *["  [output 3, text/plain]", "- three"],
    ]
    assert lines(old, [old[1], old[0], old[2]]) != [], "their order counts"


def test_every_type_of_an_output_counts() -> None:
    old = new_output("display_data", {"text/plain": "1", "text/html": "<b>1</b>"})
    assert lines([old], [display("1")]) == ["  [text/html]", "- <b>1</b>"]
    assert lines([display("1")], [old]) == ["  [text/html]", "+ <b>1</b>"]
    other = new_output("display_data", {"text/plain": "1", "text/html": "<b>2</b>"})
    assert lines([old], [other]) == ["  [text/html]", "- <b>1</b>", "+ <b>2</b>"]
    assert lines([old], [other], ignore=("text/html",)) == []
    assert lines([old], [display("1")], ignore=("text/*",)) == []


def test_rules_mask_text_everywhere() -> None:
    def outputs(number: int) -> list[Any]:
        text = f"took {number} ms"
        return [
            out(text),
            display(text),
            display(f"<b>{text}</b>", "text/html"),
            failed(text),
            display({"a": [text]}, "application/json"),
        ]

    assert lines(outputs(1), outputs(2), mask=(r"\d+ ms",)) == []
    assert sum(line.startswith("-") for line in lines(outputs(1), outputs(2))) == 5


def svg(values: list[float]) -> str:
    buffer = io.StringIO()
    matplotlib = pytest.importorskip("matplotlib.figure", reason="it draws: pip install -e '.[plot]'")
    figure = matplotlib.Figure(figsize=(2, 1))
    figure.add_subplot().plot(values)
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()


def test_drawings() -> None:
    first, second = svg([1, 2]), svg([1, 2])
    assert first != second
    assert lines([display(first, "image/svg+xml")], [display(second, "image/svg+xml")]) == []
    assert lines([display(first, "image/svg+xml")], [display(svg([2, 1]), "image/svg+xml")]) != []


def test_frames_with_a_style() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    old, new, other = (display(made.style._repr_html_(), "text/html") for made in (frame, frame, frame + 1))
    assert lines([old], [new]) == []
    assert any("2" in line for line in lines([old], [other]))


def picture(value: int, size: tuple[int, int] = (4, 3)) -> Any:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "png")
    return display(base64.encodebytes(buffer.getvalue()).decode(), "image/png")


def test_pictures_may_differ_a_little() -> None:
    assert lines([picture(0)], [picture(5)]) == []
    assert lines([picture(0)], [picture(5)], tolerance=0) != []
    assert lines([picture(0)], [picture(51)]) == [
        "  [image/png]",
        "- image/png 4×3",
        "+ image/png 4×3, up to 20.00% different; 2.00% is tolerated",
    ]
    assert lines([picture(0)], [picture(51)], ignore=("image/*",)) == []
    assert lines([picture(0)], [picture(5), display("x")]) == ["  [output 2, text/plain]", "+ x"]
    assert lines([display("x"), picture(0)], [picture(5)]) == ["  [output 1, text/plain]", "- x"]
    assert lines([picture(0)], []) == ["  [image/png]", "- image/png 4×3"]


def test_json_is_compared_by_its_values() -> None:
    kind = "application/vnd.plotly.v1+json"
    old = display({"data": [{"y": [1, float("nan")], "uid": str(uuid.uuid4())}], "a": 1}, kind)
    new = display({"a": 1.0, "data": [{"uid": str(uuid.uuid4()), "y": [1, float("nan")]}]}, kind)
    assert lines([old], [new]) == []
    new["data"][kind]["a"] = 2
    assert lines([old], [new])[:3] == [f"  [{kind}]", "- .a: 1", "+ .a: 2"]


def test_json_nested_deeply_is_compared() -> None:
    def nested(inner: Any) -> Any:
        value = inner
        for _ in range(3000):
            value = [value]
        return {"output_type": "display_data", "data": {"application/json": value}, "metadata": {}}

    old, new = made(), made()
    old.cells[0].outputs, new.cells[0].outputs = [nested(1)], [nested(1)]
    assert lines(old, new) == []
    new.cells[0].outputs = [nested(2)]
    (removed, added) = lines(old, new)[1:]
    assert (removed[0], added[0]) == ("-", "+")
    assert ": 1 " in removed + " "
    assert ": 2 " in added + " "


def test_errors_are_their_names_and_what_they_say() -> None:
    assert lines([failed("no <object at 0x7f0000000000>", "a")], [failed("no <object at 0x7f0000000010>", "b")]) == []
    assert lines([failed("a")], [failed("b")]) == ["  [error]", "- ValueError: a", "+ ValueError: b"]
    assert lines([failed("a")], [failed("a", ename="KeyError")]) != []
    assert lines([failed("a")], [failed("b")], ignore=("error",)) == []
    assert lines([failed("a")], []) == ["  [error]", "- ValueError: a"]


def shown_widget(widget: ipywidgets.Widget, text: str = "x", states: bool = True, brief: bool = False) -> Any:
    view = new_output("display_data", {VIEW: {"model_id": widget.model_id}, "text/plain": text})
    return made(view, states=dependency_state([widget], drop_defaults=brief) if states else None)


def sliders(value: int, width: str = "1px") -> ipywidgets.Widget:
    return ipywidgets.HBox([ipywidgets.IntSlider(value=value, layout={"width": width}), ipywidgets.Text("hello")])


def test_widgets_are_compared_by_their_state() -> None:
    stored = shown_widget(sliders(1), "HBox(1)")
    assert lines(stored, shown_widget(sliders(1), "HBox(of another version)")) == []
    found = lines(stored, shown_widget(sliders(2)))
    assert found[0] == f"  [{VIEW}]"
    assert [line for line in found if line[0] in "-+"] == ["- widget 2.state.value: 1", "+ widget 2.state.value: 2"]
    assert lines(stored, shown_widget(sliders(1, "2px"))) != [], "also what it refers to"
    assert lines(stored, made(display("HBox(1)"))) != []
    assert lines(stored, shown_widget(sliders(2)), ignore=(VIEW,)) == []


def test_a_state_that_is_stored_without_defaults_is_the_same_as_a_full_one() -> None:
    stored = shown_widget(sliders(1), brief=True)
    full = shown_widget(sliders(1))
    assert len(str(stored)) < len(str(full)) / 2
    assert lines(stored, full) == []
    assert lines(stored, shown_widget(sliders(2))) != []
    assert lines(stored, shown_widget(sliders(2), brief=True)) != []


def test_widgets_without_a_stored_state_are_there_or_not() -> None:
    stored = shown_widget(sliders(1), states=False)
    assert lines(stored, shown_widget(sliders(2))) == []
    assert lines(stored, made()) == [f"  [{VIEW}]", "- widget"]


def test_a_megabyte_of_text_is_told_briefly() -> None:
    rows = [f"{number:06d} some more words" for number in range(45_000)]
    old = "\n".join(rows)
    new = old.replace("022222", "changed")
    assert len(old) > 1_000_000
    for one, other in (([out(old)], [out(new)]), ([display(old)], [display(new)])):
        found = lines(one, other)
        assert len(found) == 9
        assert "+ changed some more words" in found
    (removed, added) = lines([display(old.replace("\n", " "))], [display(new.replace("\n", " "))])[1:]
    assert "022222" in removed
    assert "changed" in added
    assert len(added) < 220


def test_hostile_text_does_not_reach_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07\x9b2J\u202e\x08"
    old = made(out("a\x07b\x9b"), display(hostile), display({hostile: hostile}, "application/json"), failed(hostile))
    new = made(out("\x1b]0;"), display("x", f"text/{hostile}"), display(hostile, "image/png"))
    old.cells[0].source = hostile
    for pair in ((old, new), (new, old)):
        (found,) = compare(*pair, Rules())
        assert format_difference(found, colour=False).replace("\n", "").isprintable()


def test_outputs_that_are_none_do_not_crash() -> None:
    broken = [
        {},
        7,
        {"output_type": "stream"},
        {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]},
        {"output_type": "display_data", "data": 7, "metadata": None},
        {"output_type": "display_data", "data": {"text/plain": ["a", "b"], "image/png": 7, VIEW: 7}},
        {"output_type": "error"},
    ]
    old, new = made(), made()
    old.cells[0].outputs = broken
    new.cells[0].outputs = [*broken]
    assert lines(old, new) == []
    old.cells[0].outputs, new.cells[0].outputs = broken[5:6], [{"data": {**broken[5]["data"], "text/html": ["a", "b"]}}]
    assert lines(old, new) == ["  [text/html]", "+ ab"]
    old.cells[0].outputs, new.cells[0].outputs = broken, [out("a\nb")]
    assert lines(old, new) != []
    assert lines(new, old) != []


def test_an_update_keeps_widgets_that_differ_only_in_what_is_masked() -> None:
    def bars(rate: float, number: int) -> Any:
        shown = [
            shown_widget(ipywidgets.Label(f"3/3 [00:00<00:00, {rate}it/s]")),
            shown_widget(ipywidgets.IntText(number)),
        ]
        states = {name: state for one in shown for name, state in one.metadata["widgets"][STATE]["state"].items()}
        return new_notebook(cells=[one.cells[0] for one in shown], metadata={"widgets": {STATE: {"state": states}}})

    stored = bars(4.2, 1)
    for number in (1, 2):
        executed = bars(1.8, number)
        before = copy.deepcopy(executed)
        restore_equal_outputs(stored, executed, Rules())
        expected = stored if number == 1 else before  # all widgets share one state
        assert [cell.outputs for cell in executed.cells] == [cell.outputs for cell in expected.cells]
        assert executed.metadata == expected.metadata


def card(text: str, *, owner: str = "", script: str = "play()") -> dict[str, str]:
    page = f'<div><div class="tex2jax_ignore mathjax_ignore" data-nbreplay="{owner}"><b>{text}</b></div>'
    page += f'<script type="text/javascript">{script}</script></div>'
    return {"text/html": page, "text/markdown": text, "text/plain": text}


def test_of_a_card_only_what_it_says_is_compared() -> None:
    """Neither the name of its widget's place nor the script that plays it, which changes with versions."""
    stored = [new_output("display_data", card("Tokyo"))]
    assert lines(stored, [new_output("display_data", card("Tokyo", owner="0a1b", script="play(1)"))]) == []
    assert lines(stored, [new_output("display_data", card("Kyoto"))]) != []


def test_cards_that_were_widgets_are_equal_and_an_update_replaces_them() -> None:
    view = {VIEW: {"model_id": "m"}, **card("Tokyo"), "text/html": "<b>Tokyo</b>"}
    old, new = [new_output("display_data", view)], [new_output("display_data", card("Tokyo"))]
    assert lines(old, new) == []
    assert lines(old, [new_output("display_data", card("Kyoto"))]) != []
    states = {"m": {"model_name": "AnyModel", "state": {"cards": []}}}
    stored, executed = made(*old, states=states), made(*new, states=states)
    restore_equal_outputs(stored, executed, Rules())
    assert executed.cells[0].outputs == new
    assert "widgets" not in executed.metadata, "nothing shows them any more"
