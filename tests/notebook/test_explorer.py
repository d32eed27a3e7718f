"""The explorer's list: its data, the cards that are stored, answers to the browser, and the list as text."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from nbreplay.core.log import Interaction
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request, key_of
from nbreplay.errors import StoreError
from nbreplay.notebook import catalogue, explorer
from nbreplay.notebook.catalogue import COLUMNS
from nbreplay.notebook.explorer import ExplorerView
from tests.notebook.kernel import Kernel


def call(text: str, answer: str = "Hi") -> Interaction:
    fields = {"endpoint": "chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": text}]}}
    body = Json({"model": "m", "choices": [{"message": {"role": "assistant", "content": answer}}]})
    take = Take("2026-11-22T20:15:50Z", "api.example.com", "/v1/chat/completions", "test", body=body)
    return Interaction(Request("chat", fields, key_of("chat", fields)), take, "replayed")


class Shelf:
    """A catalogue of calls; one whose prompt is "gone" cannot be read."""

    notes = ("1 file could not be read: see .unread",)

    def __init__(self, prompts: Sequence[str], **columns: Any) -> None:
        self.calls = 0
        self.prompts = prompts
        same = {"kind": "chat", "model": "m", "at": 1_763_842_550, "answer": "Hi", "state": "ok", "file": "chat-1"}
        self.columns = {name: [same.get(name)] * len(prompts) for name in COLUMNS} | {
            "prompt": list(prompts),
            **columns,
        }

    def __len__(self) -> int:
        return len(self.prompts)

    def call(self, place: int) -> Interaction:
        self.calls += 1
        if self.prompts[place] == "gone":
            raise StoreError("chat-1 was removed. Load the store again")
        return call(self.prompts[place])

    def search(self, words: Sequence[str]) -> list[int]:
        return [place for place, prompt in enumerate(self.prompts) if all(word in prompt.lower() for word in words)]


class Told(ExplorerView):
    """An explorer that notes what it sends."""

    def send(self, content: Any, buffers: Any = None) -> None:
        self.__dict__.setdefault("sent", []).append(content)

    def asked(self, message: Any) -> list[Any]:
        self.__dict__["sent"] = []
        self.answer(message)
        return list(self.__dict__["sent"])


def test_ten_thousand_different_rows_are_less_than_two_megabytes() -> None:
    prompts = [
        f"{number} " + "Why is the sky blue in the evening, and not in the night? " * 4 for number in range(10_000)
    ]
    files = [f"chat-{number:016x}" for number in range(10_000)]
    shelf = Shelf(prompts, file=files, answer=[prompt[::-1] for prompt in prompts], seconds=[1.234] * 10_000)
    view = ExplorerView(shelf)
    assert len(json.dumps([view.rows, view.cards])) < 2_000_000
    assert len(view.cards) == shelf.calls == 200
    data = json.loads(view.rows)
    assert data["columns"]["model"] == {"values": ["m"], "codes": [0] * 10_000}
    assert data["clipped"]
    assert data["columns"]["prompt"][7].startswith("7 Why is the sky blue in the evening,")
    assert data["columns"]["prompt"][7].endswith("…")
    assert "tool" not in data["columns"]


def test_few_rows_keep_more_of_their_texts() -> None:
    data = json.loads(ExplorerView(Shelf(["word " * 40, "a\n  b\x1b[2J"])).rows)
    assert data["columns"]["prompt"] == [("word " * 24).strip() + "…", "a b\\u001b[2J"]
    assert not json.loads(ExplorerView(Shelf(["short"])).rows)["clipped"]


def test_the_cards_that_are_stored_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(["a", "gone", "b", "c"])
    assert list(ExplorerView(shelf).cards) == ["0", "2", "3"]
    size = len(json.dumps(explorer._find_card(shelf, 0), ensure_ascii=False))
    monkeypatch.setattr(explorer, "_STORED_SIZE", 2 * size)
    assert list(ExplorerView(shelf).cards) == ["0", "2"]
    assert list(ExplorerView(Shelf(["long " * 100, "a"])).cards) == ["1"], "a large one leaves room for others"


def test_a_card_is_built_for_a_place_in_the_list() -> None:
    view = Told(Shelf(["a", "gone"]))
    ((answer),) = view.asked({"do": "card", "place": 0})
    assert (answer["do"], answer["place"], answer["card"]["asked"]) == ("card", 0, "a")
    assert view.asked({"do": "card", "place": 1}) == [
        {"do": "card", "place": 1, "problem": "chat-1 was removed. Load the store again"}
    ]


@pytest.mark.parametrize("place", [-1, 2, 10**30, 0.0, True, "0", None, [0], {"a": 1}])
def test_a_message_that_is_not_a_place_is_ignored(place: Any) -> None:
    assert Told(Shelf(["a", "b"])).asked({"do": "card", "place": place}) == []


@pytest.mark.parametrize("message", [None, [], "card", {"do": "card"}, {"do": "search", "text": 5}, {"do": "exec"}])
def test_any_other_message_is_ignored(message: Any) -> None:
    assert Told(Shelf(["a"])).asked(message) == []


def test_whole_texts_are_searched() -> None:
    view = Told(Shelf(["Tokyo " + "x " * 200 + "Oslo", "Tokyo"]))
    assert view.asked({"do": "search", "text": " OSLO tokyo"}) == [
        {"do": "found", "text": " OSLO tokyo", "places": [0]}
    ]
    assert view.asked({"do": "search", "text": "x" * 501}) == []


def test_the_outcome_of_a_session_is_shown_and_a_stores_is_not() -> None:
    view = ExplorerView(Shelf(["a", "b"], outcome=["replayed", None]))
    assert json.loads(view.rows)["columns"]["outcome"]["values"] == ["REPLAY", None]
    assert [card.get("now") for card in view.cards.values()] == ["REPLAY", None]


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    catalogue.show(Shelf(["Why is it? [b]not[/b] \x1b[31m"] * 22, tokens=[1234] * 22, seconds=[0.5] * 22))
    head, names, first, *rest = capsys.readouterr().out.splitlines()
    assert head == "22 recordings · 1 file could not be read: see .unread"
    assert names.split() == ["recorded", "(UTC)", "model", "or", "tool", "prompt", "answer", "tokens", "time"]
    assert first.startswith("2025-11-22 20:15  m  ")
    assert "Why is it? [b]not[/b] \\u" in first
    assert first.endswith("1,234  0.50 s")
    assert rest[-1] == "… and 2 more"


def test_without_recordings_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    catalogue.show(Shelf([]))
    assert capsys.readouterr().out == "0 recordings · 1 file could not be read: see .unread\n"


def test_the_list_as_html_is_escaped() -> None:
    page = catalogue.list_bundle(Shelf(["<img src=x onerror=alert(1)>"]))["text/html"]
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.full
def test_the_magic_explores_the_current_store(kernel: Kernel) -> None:
    kernel.run("%load_ext nbreplay\n%replay record kept")
    assert kernel.run("%replay recordings").status == ["nbreplay: no recordings yet in kept"]
    kernel.run("ask('hello')")
    for code in ("%replay recordings", "nbreplay.load('kept').show()"):
        ran = kernel.run(f"import nbreplay\n{code}")
        assert ran.views[0].startswith("1 recording\n"), ran.traceback
        opened = [content for kind, content in ran.comms if kind == "comm_open"]
        (view,) = (content["comm_id"] for content in opened if "rows" in content["data"]["state"])
        asked = {"method": "custom", "content": {"do": "card", "place": 0}}
        (answer,) = kernel.comm(view, asked).messages
        assert answer["card"]["asked"] == "hello"


def test_a_list_is_shown_as_text_where_there_is_no_anywidget(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    for name in ("explorer", "widget"):
        monkeypatch.delitem(sys.modules, f"nbreplay.notebook.{name}", raising=False)
    catalogue.show(Shelf(["Why?"]))
    assert "Why?" in capsys.readouterr().out
