"""Explorer: the widget over a list of recordings: search and filters, the list, and the card of the chosen one.

The list is sent once, as columns with the beginnings of long texts. The kernel builds a card when it is chosen, and
searches whole texts. Some cards are stored with the widget, for a page or a saved notebook without a kernel.
"""

from __future__ import annotations

import json
from typing import Any

import anywidget
import traitlets
from IPython.display import publish_display_data

from nbreplay.core.cell import current_run
from nbreplay.core.words import OUTCOMES, shorten_line
from nbreplay.notebook.card import make_cards
from nbreplay.notebook.catalogue import COLUMNS, Catalogue, list_bundle
from nbreplay.notebook.escape import plain
from nbreplay.notebook.render import page_of, place_in, read_static
from nbreplay.notebook.widget import make_view

_CODED = ("notebook", "kind", "model", "tool", "state", "outcome")  # those that have a menu
_LONG = {"prompt": 120, "answer": 60}  # the most characters that are sent
_SIZE = 1_050_000  # characters of all long texts, with which 10,000 recordings are less than 2 MB
_STORED, _STORED_SIZE = 200, 300_000  # the most cards that are stored, and their size as JSON
_MAX_QUERY = 500


class ExplorerView(anywidget.AnyWidget):
    """The widget."""

    _esm = read_static("explorer.js")
    _css = read_static("stream.css") + read_static("explorer.css")
    rows = traitlets.Unicode().tag(sync=True)  # JSON, since a list would take a line per value in a notebook's file
    cards: traitlets.Dict[str, dict[str, Any]] = traitlets.Dict().tag(sync=True)  # by their places
    place = traitlets.Unicode().tag(sync=True)  # where it is shown

    def __init__(self, catalogue: Catalogue, **settings: Any) -> None:
        self._catalogue = catalogue
        cards = _stored_cards(catalogue)
        super().__init__(rows=_pack(catalogue), cards=cards, **settings)
        self.on_msg(lambda _, message, __: self.answer(message))

    def answer(self, message: Any) -> None:
        """Answer a message of the browser: a place whose card is asked for, or a text to search. Others are ignored."""
        match message:
            case {"do": "card", "place": int(place)} if type(place) is int and 0 <= place < len(self._catalogue):
                self.send({"do": "card", "place": place, **_find_card(self._catalogue, place)})
            case {"do": "search", "text": str(text)} if len(text) <= _MAX_QUERY:
                places = self._catalogue.search(plain(text).lower().split())
                self.send({"do": "found", "text": text, "places": list(places)})


def _find_card(catalogue: Catalogue, place: int) -> dict[str, Any]:
    """Return the card at a place, or the problem with it."""
    try:
        (card,) = make_cards([catalogue.call(place)])
    except Exception as error:  # whatever is wrong with one recording, the others can be read
        return {"problem": plain(str(error) or type(error).__name__)}
    return {"card": card.state() | ({"now": card.outcome} if catalogue.columns["outcome"][place] else {})}


def _stored_cards(catalogue: Catalogue) -> dict[str, Any]:
    cards, size = {}, 0
    for place in range(min(len(catalogue), _STORED)):
        found = _find_card(catalogue, place)
        length = len(json.dumps(found, ensure_ascii=False))
        if "card" in found and size + length <= _STORED_SIZE:
            cards[str(place)] = found["card"]
            size += length
    return cards


def _pack(catalogue: Catalogue) -> str:
    """Return the list as JSON."""
    count = len(catalogue)
    columns, is_clipped = dict[str, Any](), False
    for name in COLUMNS:
        values = catalogue.columns[name]
        if all(value is None for value in values):
            continue
        table = list(dict.fromkeys(values))
        if name not in _CODED and len(table) > count // 2:
            table = []
        texts = [_clip(name, value, count) for value in table or values]
        is_clipped = is_clipped or any(isinstance(text, str) and text.endswith("…") for text in texts)
        codes = {value: code for code, value in enumerate(table)}
        columns[name] = {"values": texts, "codes": [codes[value] for value in values]} if table else texts
    data = {"count": count, "columns": columns, "notes": [plain(note) for note in catalogue.notes]}
    return json.dumps(data | {"clipped": is_clipped}, ensure_ascii=False, separators=(",", ":"))


def _clip(name: str, value: Any, count: int) -> Any:
    """Return a value of the list as it is sent: a long text up to the end of a word, on one line."""
    if not isinstance(value, str):
        return value
    if name == "outcome":
        return OUTCOMES[value].label
    most = _LONG.get(name)
    if most is None:
        return plain(value)
    return plain(shorten_line(value, max(24, min(most, most * _SIZE // (sum(_LONG.values()) * count)))))


def show_widget(catalogue: Catalogue, metadata: dict[str, Any] | None) -> None:
    """Add the list to the outputs of a cell, with the widget in its place."""
    view = make_view(ExplorerView, current_run(), catalogue=catalogue)
    data = list_bundle(catalogue)
    data["text/html"] = page_of(data["text/html"], view.model_id)
    view.place = place_in(data["text/html"])
    publish_display_data(data, metadata=metadata)
