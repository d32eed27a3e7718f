"""``nbreplay check`` in notebooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbreplay.core.audit.audit import leaves, line_of
from tests.check.making import KEY, PEM, Check, printed, write_notebook

# Notebooks


def displayed(**data: Any) -> dict[str, Any]:
    names = {"plain": "text/plain", "html": "text/html", "json": "application/json", "png": "image/png"}
    made = {names[name]: value for name, value in data.items()}
    return {"output_type": "display_data", "data": made, "metadata": {}}


RAISED = {"output_type": "error", "ename": "E", "evalue": KEY, "traceback": ["\x1b[31mE\x1b[0m", f"E: {KEY}"]}


@pytest.mark.parametrize(
    "output",
    [
        printed(f"one\ntwo {KEY}\nthree\n"),
        displayed(plain=f"'{KEY}'", html=f"<b>{KEY}</b>"),
        displayed(json={"deep": [{"x": KEY}]}, plain="x"),
        RAISED,
        printed(f"before\n{PEM}after\n"),
    ],
    ids=["stream", "display", "json", "traceback", "several lines"],
)
def test_a_secret_in_an_output_is_found_and_removed(output: dict[str, Any], check: Check) -> None:
    path = write_notebook(Path("one.ipynb"), output)
    done = check(path, "--json")
    assert done.status == 1
    assert {one["kind"] for one in done.findings} == {"secret"}
    lines = path.read_text(encoding="utf-8").splitlines()
    for one in done.findings:
        assert KEY in lines[one["line"] - 1] or "PRIVATE" in lines[one["line"] - 1]
        assert "in an output of cell 1" in one["message"]
    assert check("--fix", path).status == 0
    text = path.read_text(encoding="utf-8")
    assert KEY not in text
    assert "MIIE" not in text
    assert "[secret:1]" in text
    nbformat.validate(nbformat.read(path, as_version=4))
    assert check(path).status == 0


def test_a_fix_of_a_notebook_changes_nothing_else(check: Check) -> None:
    path = write_notebook(Path("one.ipynb"), printed(f"é {KEY}\n"), displayed(plain="x", png="iVBORw0KGgo=\n"))
    before = path.read_text(encoding="utf-8")
    assert check("--fix", path).status == 0
    assert path.read_text(encoding="utf-8") == before.replace(KEY, "[secret:1]")


def test_a_secret_in_a_source_is_reported_and_not_changed(check: Check) -> None:
    path = write_notebook(Path("one.ipynb"), printed(f"{KEY}\n"), source=f"import os\nkey = '{KEY}'")
    done = check("--fix", path)
    assert done.status == 1
    assert "1 secret removed, 1 finding in 1 file" in done.out
    assert "in the source of cell 1" in done.out
    assert "Not fixed: only outputs, widgets and metadata are changed" in done.out
    (cell,) = nbformat.read(path, as_version=4).cells
    assert KEY in cell.source
    assert cell.outputs[0]["text"] == "[secret:1]\n"


def test_the_state_of_widgets_is_cleaned_with_what_still_spells_the_secret(check: Check) -> None:
    """A card plays its chunks: where its text was changed, what it knows of them goes."""
    card = {
        "title": "gpt-4o",
        "tracks": [{"kind": "text", "text": f"Use {KEY}"}],
        "beats": "5+4 5+20 5+20",
        "raw": [f'[5, {{"delta": "{KEY[:12]}"}}]', f'[5, {{"delta": "{KEY[12:]}"}}]'],
        "chunks": 2,
    }
    other = {"title": "gpt-4o", "tracks": [{"kind": "text", "text": "Hi"}], "beats": "5+2", "raw": ["[5, {}]"]}
    models = {"abc": {"model_name": "AnyModel", "model_module": "anywidget", "state": {"cards": [card, other]}}}
    widgets = {"application/vnd.jupyter.widget-state+json": {"version_major": 2, "version_minor": 0, "state": models}}
    html = '<div data-beats="5+4 5+20">'
    html += f"Use {KEY}<details style=''><summary>raw chunks (2)</summary>{KEY[:12]}\n{KEY[12:]}</details></div>"
    path = write_notebook(Path("one.ipynb"), displayed(html=html), widgets=widgets)
    assert any("in the state of a widget" in one["message"] for one in check(path, "--json").findings)
    assert check("--fix", path).status == 0
    text = path.read_text(encoding="utf-8")
    assert KEY[:12] not in text
    assert KEY[12:] not in text
    assert "data-beats" not in text
    state = json.loads(text)["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    clean, same = state["abc"]["state"]["cards"]
    assert clean["tracks"][0]["text"] == "Use [secret:1]"
    assert "beats" not in clean
    assert "raw" not in clean
    assert same == other


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not a valid notebook"),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
            "not a valid notebook",
        ),
    ],
    ids=["cut short", "a list", "a cell without a source"],
)
def test_a_notebook_that_is_not_valid(text: str, why: str, check: Check) -> None:
    path = Path("one.ipynb")
    path.write_text(text, encoding="utf-8")
    (finding,) = check(path, "--json").findings
    assert finding["kind"] == "format"
    assert why in finding["message"]
    before = path.read_bytes()
    assert check("--fix", path).status == 1
    assert path.read_bytes() == before


def test_a_notebook_that_is_a_link_is_not_rewritten(check: Check, tmp_path: Path) -> None:
    real = write_notebook(tmp_path / "real.ipynb", printed(KEY))
    link = Path("link.ipynb")
    link.symlink_to(real)
    before = real.read_bytes()
    done = check("--fix", link)
    assert done.status == 1
    assert "is a link" in done.out
    assert real.read_bytes() == before


# Strings of JSON and their lines


def test_strings_of_a_json_text_have_their_paths() -> None:
    text = '{\n "a": ["x", {"b": "y\\"]"}, 1, "z"],\n "c": {}, "d": [], "e": "w"\n}'
    found = [(leaf.path, leaf.text, line_of(text, leaf.start)) for leaf in leaves(text) if not leaf.is_name]
    assert found == [
        (("a", 0), "x", 2),
        (("a", 1, "b"), 'y"]', 2),
        (("a", 3), "z", 2),
        (("e",), "w", 3),
    ]
    assert [leaf.text for leaf in leaves(text) if leaf.is_name] == ["a", "b", "c", "d", "e"]
