"""The explorer in JupyterLab and in an exported page: search, filters, keyboard, cards on demand, hostile texts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

for name in ("playwright.sync_api", "jupyterlab", "nbconvert"):
    pytest.importorskip(name, reason="the browser tests want the extra 'browser'")

from playwright.sync_api import Browser, Locator, expect  # noqa: E402

from nbreplay.core.recording.body import Json  # noqa: E402
from nbreplay.core.recording.recording import Recording, file_name  # noqa: E402
from nbreplay.core.recording.stream import Chunk, Events  # noqa: E402
from nbreplay.core.recording.take import CellRef, Take  # noqa: E402
from nbreplay.core.request.request import key_of  # noqa: E402
from nbreplay.notebook.explorer import _STORED  # noqa: E402
from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.page import Opened  # noqa: E402
from tests.browser.test_hostile import HOSTILE, harmless, hostile  # noqa: E402

Open = Callable[..., Opened]
COUNT = 280  # more than the cards that are stored
DEEP = "word " * 100 + "treasure"  # the list has only the beginning of it


def recording(number: int) -> Recording:
    """Return a recording: each third one a stream, each fifth one an error."""
    prompt = f"Question {number:03}? " + (DEEP if number == 3 else "")
    model = f"model-{number % 2}"
    fields = {
        "endpoint": "chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": prompt}]},
    }
    answer: dict[str, Any] = {
        "model": model,
        "choices": [{"message": {"role": "assistant", "content": f"Answer {number}."}}],
    }
    words = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("one ", "two ", "three ", "four")]
    body: Any = Json({"error": {"message": "slow down", "type": "rate_limit"}} if number % 5 == 0 else answer)
    if number % 5 and number % 3 == 0:
        body = Events(tuple(Chunk(100, word) for word in words))
    cell = CellRef(id=f"cell-{number}", notebook=f"notebooks/{number % 3}.ipynb")
    at = f"2026-11-22T{number // 60:02}:{number % 60:02}:00Z"
    status = 200 if number % 5 else 429
    take = Take(at, "api.example.com", "/v1/chat/completions", "test", body=body, status=status, cell=cell)
    return Recording(key_of("chat", fields), "chat", fields, (take,))


def write(store: Path, *recordings: Recording) -> list[Path]:
    store.mkdir(exist_ok=True)
    paths = [store / file_name(made.kind, made.key) for made in recordings]
    for path, made in zip(paths, recordings, strict=True):
        path.write_text(made.text(), "utf-8")
    return paths


CELLS = (
    # The frames of a store are kept once its files are old enough. Cards are then read from the files.
    "import time\nimport nbreplay as nr\ntime.sleep(2.1)\nlen(nr.load('../many').interactions)",
    "nr.load('../many').show()",
    "%load_ext nbreplay\n%replay replay ../odd\n%replay recordings",
)


@pytest.fixture(scope="module")
def files(project: Path) -> list[Path]:
    """The files of many recordings, by number; beside them a store with hostile ones, and one that is broken."""
    write(project / "odd", *map(hostile, HOSTILE))
    (project / "odd" / "chat-0123456789abcdef.json").write_text("{")
    return write(project / "many", *map(recording, range(COUNT)))


@pytest.fixture(scope="module")
def book(project: Path) -> Path:
    """A notebook that shows both stores."""
    import nbformat

    cells = [nbformat.v4.new_code_cell(cell, id=f"explorer-{number}") for number, cell in enumerate(CELLS)]
    path = project / "notebooks" / "explorer.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture(scope="module")
def page(lab: str, browser: Browser, book: Path, files: list[Path]) -> Iterator[Opened]:
    """The notebook in JupyterLab, after it has run."""
    assert files
    tall = {"width": 1060, "height": 2000}
    opened = Opened(browser.new_page(viewport=tall), f"{lab}/lab/tree/notebooks/{book.name}").ready().run_all()
    expect(opened.page.locator(".nbx")).to_have_count(2)
    yield opened
    assert opened.troubles == []
    assert opened.outside() == []
    opened.page.close()


@pytest.fixture
def many(page: Opened) -> Locator:
    """The explorer of the large store, with nothing searched and nothing filtered."""
    explorer = page.page.locator(".nbx").first
    for select in explorer.locator("select:visible").all():
        select.select_option(index=0)
    search(explorer, "")
    explorer.get_by_role("listbox").press("Home")
    expect(explorer.get_by_role("status")).to_have_text(f"{COUNT} recordings")
    return explorer


def search(explorer: Locator, text: str) -> None:
    explorer.get_by_role("searchbox").fill(text)


def chosen(explorer: Locator) -> Locator:
    return explorer.locator(".nbx-row[aria-selected=true]")


def test_the_newest_is_chosen_and_few_rows_are_drawn(many: Locator, pictures: Path) -> None:
    expect(chosen(many)).to_contain_text(f"Question {COUNT - 1}?")
    expect(many.locator(".nbx-card .nbr-asked").first).to_have_text(f"asked: Question {COUNT - 1}? ")
    assert many.locator(".nbx-row").count() < 30
    assert chosen(many).get_attribute("aria-setsize") == str(COUNT)
    many.screenshot(path=pictures / "explorer.png")


def test_words_are_searched_in_all_columns(many: Locator) -> None:
    search(many, "question model-1 notebooks/0")
    expect(many.get_by_role("status")).to_have_text(f"47 of {COUNT} recordings")
    expect(chosen(many)).to_contain_text("Question 279?")
    search(many, "chat-zzz")
    expect(many.get_by_text("No recording matches. Press Escape to clear the search.")).to_be_visible()
    many.get_by_role("searchbox").press("Escape")
    expect(many.get_by_role("status")).to_have_text(f"{COUNT} recordings")


def test_the_kernel_finds_what_the_list_has_no_room_for(many: Locator) -> None:
    search(many, "TREASURE")
    expect(many.get_by_role("status")).to_have_text(f"1 of {COUNT} recordings")
    expect(chosen(many)).to_contain_text("Question 003?")


def test_filters_narrow_the_list(many: Locator) -> None:
    many.get_by_role("combobox", name="states").select_option("error (56)")
    expect(many.get_by_role("status")).to_have_text(f"56 of {COUNT} recordings")
    expect(chosen(many)).to_contain_text("rate_limit")
    many.get_by_role("combobox", name="models").select_option("model-1 (140)")
    many.get_by_role("combobox", name="notebooks").select_option(index=1)
    expect(many.get_by_role("status")).to_have_text(re.compile(r"^\d of|^1\d of"))
    expect(many.get_by_role("combobox", name="kinds")).to_have_count(0)  # there is one kind
    many.get_by_role("combobox", name="order").select_option("oldest")
    expect(many.locator(".nbx-row").first).to_contain_text(re.compile(r"Question 0\d\d\?"))


def test_the_keyboard_is_enough(many: Locator, page: Opened) -> None:
    keyboard, listbox = page.page.keyboard, many.get_by_role("listbox")
    cells = page.page.locator(".jp-Cell").count()
    listbox.focus()
    keyboard.press("/")
    expect(many.get_by_role("searchbox")).to_be_focused()
    keyboard.type("question")
    keyboard.press("ArrowDown")
    expect(listbox).to_be_focused()
    assert listbox.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    expect(chosen(many)).to_contain_text("Question 279?")
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        keyboard.press(key)
    expect(chosen(many)).to_contain_text("Question 278?")
    name = chosen(many).get_attribute("id")
    expect(listbox).to_have_attribute("aria-activedescendant", name or "")
    keyboard.press("End")
    expect(chosen(many)).to_contain_text("Question 000?")
    expect(chosen(many)).to_be_in_viewport()
    keyboard.press("Home")
    keyboard.press("PageDown")
    keyboard.press("ArrowUp")
    expect(chosen(many)).to_contain_text("Question 273?")
    expect(many.locator(".nbx-card .nbr-asked").first).to_have_text("asked: Question 273? ")
    keyboard.press("Enter")
    expect(many.get_by_role("region", name="recording")).to_be_focused()
    keyboard.press("Tab")
    expect(many.get_by_role("button", name="play")).to_be_focused()
    keyboard.press("Escape")
    expect(listbox).to_be_focused()
    keyboard.press("Escape")
    expect(many.get_by_role("searchbox")).to_be_focused()
    keyboard.press("Escape")
    expect(many.get_by_role("status")).to_have_text(f"{COUNT} recordings")
    keyboard.press("Tab")
    expect(many.get_by_role("combobox", name="notebooks")).to_be_focused()
    listbox.focus()
    for key in "abdxm":  # which are commands of the notebook
        keyboard.press(key)
    assert page.page.locator(".jp-Cell").count() == cells


def test_a_recording_plays(many: Locator) -> None:
    search(many, "question 276?")
    slider, text = many.get_by_role("slider"), many.locator(".nbx-card .nbr-text")
    # The card that was there before has the same text.
    expect(many.locator(".nbx-card .nbr-asked").first).to_have_text("asked: Question 276? ")
    expect(text).to_have_text("one two three four")
    slider.evaluate("e => { e.value = 250; e.dispatchEvent(new Event('input')); }")
    expect(text).to_have_text("one two ")
    many.get_by_role("button", name="speed ∞").click()
    many.get_by_role("button", name="play").click()
    expect(text).to_have_text("one two three four")


def test_a_click_chooses_and_the_card_is_built_when_it_is(many: Locator, files: list[Path]) -> None:
    """Those of the oldest are not sent with the list: one is there, one was removed, one was broken since."""
    removed, broken = files[2], files[1]
    contents = removed.read_text("utf-8"), broken.read_text("utf-8")
    removed.unlink()
    broken.write_text("{")
    try:
        many.get_by_role("combobox", name="order").select_option("oldest")
        for number, words in ((4, "Answer 4."), (2, "removed"), (1, "invalid JSON")):
            many.locator(".nbx-row").filter(has_text=f"Question {number:03}?").click()
            expect(many.locator(".nbx-card")).to_contain_text(words)
    finally:
        removed.write_text(contents[0], "utf-8")
        broken.write_text(contents[1], "utf-8")


def test_hostile_texts_are_shown_as_they_are(page: Opened) -> None:
    odd = page.page.locator(".nbx").nth(1)
    expect(odd).to_contain_text(f"{len(HOSTILE) + 1} files could not be read in full: see Library.unread")
    expect(odd.get_by_role("status")).to_have_text(f"{len(HOSTILE)} recordings")
    odd.get_by_role("listbox").press("Home")
    for _ in HOSTILE:
        odd.get_by_role("listbox").press("ArrowDown")
        expect(odd.locator(".nbx-card .nbr-card")).to_be_visible()
    expect(odd.locator(".nbx-row").filter(has_text="<img src=x onerror=").first).to_be_attached()
    harmless(page)
    for inside in ("img", "script", "iframe", "a", "form", "style"):
        assert page.page.locator(f".nbx {inside}").count() == 0, inside


def test_a_phone_has_one_column(many: Locator, page: Opened, pictures: Path) -> None:
    size = page.page.viewport_size or {}
    try:
        page.page.set_viewport_size({"width": 620, "height": 2000})
        page.page.wait_for_timeout(300)
        above, below = many.get_by_role("listbox").bounding_box(), many.locator(".nbx-card").bounding_box()
        assert above is not None
        assert below is not None
        assert above["y"] + above["height"] <= below["y"]
        assert many.evaluate("e => e.scrollWidth <= e.clientWidth")
        many.screenshot(path=pictures / "explorer-phone.png")
    finally:
        page.page.set_viewport_size(size)


def test_the_dark_theme_is_kept_to(dark_lab: str, opened: Open, book: Path, files: list[Path], pictures: Path) -> None:
    assert files
    page = opened(f"{dark_lab}/lab/tree/notebooks/{book.name}").ready().run_all()
    explorer = page.page.locator(".nbx").first
    expect(chosen(explorer)).to_be_visible()

    def brightness(of: str, property_: str) -> float:
        colour = explorer.locator(of).first.evaluate(f"e => getComputedStyle(e).{property_}")
        return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3

    for part in ("select:visible", "input[type=search]", ".nbx-row[aria-selected=true]"):
        assert brightness(part, "backgroundColor") < 90 < 180 < brightness(part, "color"), part
    explorer.screenshot(path=pictures / "explorer-dark.png")


def test_an_exported_page_searches_and_plays_alone(
    opened: Open, book: Path, files: list[Path], scratch: Path, pictures: Path
) -> None:
    assert files
    for command in (
        ["nbreplay", "run", str(book), "--update"],
        ["nbconvert", "--to", "nbreplay", str(book), "--output-dir", str(scratch)],
    ):
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, cwd=ROOT)
    page = opened((scratch / "explorer.html").as_uri())
    many = page.page.locator(".nbx").first
    expect(many.get_by_role("status")).to_have_text(f"{COUNT} recordings")
    search(many, "question 276?")
    # The card that was there before has the same text.
    expect(many.locator(".nbx-card .nbr-asked").first).to_have_text("asked: Question 276? ")
    expect(many.locator(".nbx-card .nbr-text")).to_have_text("one two three four")
    many.get_by_role("slider").evaluate("e => { e.value = 250; e.dispatchEvent(new Event('input')); }")
    expect(many.locator(".nbx-card .nbr-text")).to_have_text("one two ")
    search(many, "question 004?")
    name = file_name("chat", recording(4).key).removesuffix(".json")
    words = f"holds those of {_STORED} of {COUNT}. To see it, run: nbreplay show {name}"
    expect(many.locator(".nbx-card")).to_contain_text(words)
    limits = "This page holds the cards of 200 recordings. Only the beginnings of long texts are searched."
    expect(many.locator(".nbx-status")).to_contain_text(limits)
    many.screenshot(path=pictures / "explorer-page.png")
    harmless(page)
    assert page.outside() == []
