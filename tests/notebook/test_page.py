"""Exported pages: what plays in them is in them, and nothing in them asks anybody for anything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbreplay.notebook.card import make_cards
from nbreplay.notebook.exporter import PageExporter
from nbreplay.notebook.render import bundle
from nbreplay.notebook.widget import VIEW
from tests.notebook.test_card import streamed

STREAMS = Path(__file__).resolve().parents[2] / "notebooks" / "02_streams_and_tools.ipynb"
STATE = "application/vnd.jupyter.widget-state+json"


@pytest.fixture
def book() -> Any:
    """A notebook as older versions saved it: its cards are widgets, whose states stand in its metadata."""
    outputs, states = [], {}
    for number in range(5):
        cards = make_cards([streamed({"content": f"lighthouse {number}"})])
        view = {"version_major": 2, "version_minor": 0, "model_id": f"card{number}"}
        outputs.append(nbformat.v4.new_output("display_data", {**bundle(cards), VIEW: view}))
        states[f"layout{number}"] = {"model_name": "LayoutModel", "state": {}}
        state = {"_anywidget_id": "nbreplay.notebook.widget.StreamView", "layout": f"IPY_MODEL_layout{number}"}
        state |= {"cards": [card.state() for card in cards], "head": "", "rows": [], "together": False}
        states[f"card{number}"] = {"model_name": "AnyModel", "state": state}
    cells = [nbformat.v4.new_markdown_cell("# Old"), nbformat.v4.new_code_cell("ask()", outputs=outputs)]
    return nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {STATE: {"state": states}}})


@pytest.fixture
def new() -> Any:
    return nbformat.read(STREAMS, as_version=4)


def exported(book: Any) -> str:
    return str(PageExporter().from_notebook_node(book)[0])


def cards(page: str) -> dict[str, Any]:
    """What the page's own script reads."""
    found = re.search(r'<script type="application/json" id="nbreplay-cards">(.*?)</script>', page, re.S)
    assert found
    return dict(json.loads(found[1]))


def test_the_page_holds_what_its_cards_show(book: Any) -> None:
    before = nbformat.writes(book)
    page = exported(book)
    known = cards(page)
    assert len(known["states"]) == page.count('data-nbreplay="card') == 5
    assert all(f'data-nbreplay="{own}"' in page for own in known["states"])
    assert "lighthouse" in json.dumps(known["states"])
    assert "render" in known["scripts"]["nbreplay.notebook.widget.StreamView"]
    assert nbformat.writes(book) == before, "the notebook stays as it is"


def test_nothing_is_asked_of_anybody(book: Any) -> None:
    page = exported(book)
    assert not re.findall(r'(?:src|href)="https?://', page)
    assert "jupyter-widgets" not in page


def test_cards_that_are_stored_as_html_need_nothing_more(new: Any) -> None:
    assert "widgets" not in new.metadata
    page = exported(new)
    assert page.count(" data-beats=") >= 5
    assert "nbreplay-cards" not in page
    assert not re.findall(r'(?:src|href)="https?://', page)


def test_what_needs_more_keeps_it(book: Any) -> None:
    book.cells[0].source += "\n\n$x^2$"
    book.metadata.widgets[STATE]["state"]["other"] = {"model_name": "IntSliderModel", "state": {}}
    page = exported(book)
    assert re.search(r'src="https?://[^"]*mathjax', page, re.I)
    assert "html-manager" in page


def test_a_recording_cannot_end_the_script_that_holds_it(book: Any) -> None:
    hostile = "</script><script>alert(1)</script><!--"
    for widget in book.metadata.widgets[STATE]["state"].values():
        for card in widget["state"].get("cards", ()):
            card["title"] = hostile
    page = exported(book)
    assert hostile not in page
    titles = [card["title"] for state in cards(page)["states"].values() for card in state["cards"]]
    assert set(titles) == {hostile}


def test_a_notebook_without_cards_is_a_page(book: Any) -> None:
    del book.metadata["widgets"]
    for output in book.cells[1].outputs:
        del output["data"][VIEW]
    page = exported(book)
    assert "nbreplay-cards" not in page
    assert "lighthouse" in page
