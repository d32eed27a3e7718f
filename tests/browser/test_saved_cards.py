"""Cards in a notebook that JupyterLab or Notebook 7 has saved with default settings, in everything that shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

for name in ("playwright.sync_api", "jupyterlab", "notebook", "nbconvert"):
    pytest.importorskip(name, reason="the browser tests want the extra 'browser'")
nh3 = pytest.importorskip("nh3", reason="the browser tests want the extra 'browser'")
pytest.importorskip("myst_nb", reason="the pages of myst-nb want the extra 'docs'")

import nbformat  # noqa: E402
from playwright.sync_api import expect  # noqa: E402

from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.page import Opened  # noqa: E402

Open = Callable[..., Opened]
Write = Callable[..., str]
STREAMS = ROOT / "notebooks" / "02_streams_and_tools.ipynb"
EXPLORER = "from nbreplay import load\nload('../recordings').show()"
ROUTES = {"lab": "lab/tree", "classic": "notebooks"}
SAID = ("lighthouse", "first token", 'get_weather(city="Tokyo")', "It is 18 degrees Celsius", "56 tokens")
END = """async () => {
    const headers = { "X-XSRFToken": (document.cookie.match(/_xsrf=([^;]*)/) || [])[1] };
    const all = await (await fetch("/api/sessions")).json();
    const end = (one) => fetch("/api/sessions/" + one.id, { method: "DELETE", headers });
    return Promise.all(all.map(async (one) => (await end(one)).status));
}"""
# How VS Code puts HTML into an output, and runs its scripts.
EVALUATE = """
for (const page of pages) {
    const place = document.body.appendChild(document.createElement("div"));
    place.innerHTML = page;
    for (const script of [...place.getElementsByTagName("script")]) {
        const made = document.createElement("script");
        made.text = script.innerText;
        place.appendChild(made).parentNode.removeChild(made);
    }
}
"""
# What GitHub keeps of a page, by its own list; no style, id, class, script or data- attribute is in it.
TAGS = (
    "h1 h2 h3 h4 h5 h6 br b i strong em a pre code img tt div ins del sup sub p ol ul table thead tbody tfoot "
    "blockquote dl dt dd kbd q samp var hr ruby rt rp li tr td th s strike summary details caption figure "
    "figcaption abbr bdo cite dfn mark small source span time wbr"
)
ATTRIBUTES = "align alt border colspan dir height hspace label lang name open rowspan title width"


def shows(page: Opened) -> bool:
    """Tell whether everything that the cards say can be read."""
    page.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    text = page.page.locator("body").text_content() or ""
    return all(word in text for word in SAID) and "Error displaying widget" not in text


def plays(page: Opened) -> bool:
    """Tell whether the first card can be scrubbed and played."""
    cards = page.page.locator("[data-beats]").filter(has=page.page.locator("input"))
    if not cards.count():
        return False
    said, slider = cards.first.locator("[data-part]").first, cards.first.locator("input")
    whole = said.text_content() or ""
    slider.evaluate("e => { e.value = e.max / 2; e.dispatchEvent(new Event('input')); }")
    part = said.text_content() or ""
    cards.first.get_by_role("button", name="speed 4×").click()
    cards.first.get_by_role("button", name="play", exact=False).first.click()
    expect(said).to_have_text(whole)
    return 0 < len(part) < len(whole) and whole.startswith(part)


def written(saved: Path, way: str, folder: Path) -> Path:
    """Have a program make a page of a notebook; return the page."""
    if way in ("GitHub", "VS Code"):
        book = nbformat.read(saved, 4)
        data = [output["data"] for cell in book.cells for output in cell.get("outputs", ()) if "data" in output]
        pages = ["".join(one["text/html"]) for one in data if "text/html" in one]
        if way == "GitHub":
            clean = nh3.clean("".join(pages), tags={*TAGS.split()}, attributes={"*": {*ATTRIBUTES.split()}})
        else:
            clean = f"<script>const pages = {json.dumps(pages).replace('<', chr(92) + 'u003c')};{EVALUATE}</script>"
        page = folder / "page.html"
        page.write_text(f"<!doctype html><meta charset=utf-8><body>{clean}</body>", "utf-8")
        return page
    if way == "myst-nb":
        (folder / "index.ipynb").write_bytes(saved.read_bytes())
        (folder / "conf.py").write_text("extensions = ['myst_nb']\nnb_execution_mode = 'off'\n")
        command, page = ["sphinx", "-q", str(folder), str(folder / "site")], folder / "site" / "index.html"
    else:
        command, page = (
            ["nbconvert", "--to", way, str(saved), "--output-dir", str(folder)],
            folder / f"{saved.stem}.html",
        )
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    return page


@pytest.mark.parametrize("server", ["lab", "classic"])
def test_saved_cards_are_shown_everywhere_and_play_where_scripts_may_run(
    server: str,
    opened: Open,
    notebook: Write,
    project: Path,
    scratch: Path,
    pictures: Path,
    request: pytest.FixtureRequest,
) -> None:
    saved = project / "notebooks" / notebook(f"kept-{server}", "1")
    book = nbformat.read(STREAMS, 4)
    book.cells.append(nbformat.v4.new_code_cell(EXPLORER))
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(book, saved)
    address = f"{request.getfixturevalue(server)}/{ROUTES[server]}/notebooks/"
    page = opened(address + saved.name).ready().run_all()
    expect(page.cards.first.locator(".nbr-word")).to_have_text("REPLAY")
    expect(page.page.get_by_role("listbox", name="recordings")).to_be_visible()
    before = saved.stat().st_mtime_ns
    page.page.keyboard.press("Escape")
    page.page.keyboard.press("Control+s")
    page.page.wait_for_function("() => !document.title.startsWith('*')")
    for _ in range(100):
        if saved.stat().st_mtime_ns != before:
            break
        page.page.wait_for_timeout(100)
    assert set(page.page.evaluate(END)) == {204}
    page.page.close()
    text = saved.read_text("utf-8")
    assert "jupyter.widget" not in text, "nothing is stored that JupyterLab's settings leave out"

    strange = project / "notebooks" / f"strange-{server}.ipynb"
    strange.write_text(text.replace("Describe the moon", "Describe a moon"), "utf-8")
    places = {"trusted": address + saved.name, "not trusted": address + strange.name}
    ways = ("html", "nbreplay", "myst-nb", "VS Code", "GitHub") if server == "lab" else ()  # both save the same
    for way in ways:
        (scratch / way).mkdir()
        places[way] = written(saved, way, scratch / way).as_uri()
    found = {}
    for way, place in places.items():
        page = opened(place)
        if way not in ways:
            page.page.wait_for_selector(".jp-Notebook .jp-OutputArea-output")
            for word in SAID:
                expect(page.page.locator(".jp-Notebook")).to_contain_text(word)
        if way != "GitHub" and way != "not trusted":
            expect(page.page.locator("[data-beats] input").first).to_be_attached()
        found[way] = (shows(page), plays(page))
        page.picture(pictures / f"saved-{server}-{way.replace(' ', '-')}.png")
        assert page.page.get_by_text("Error displaying widget").count() == 0
        assert page.troubles == []
    strange.unlink()
    for way, (one, two) in found.items():
        print(f"{server:8} {way:12} {'shows' if one else '-':6} {'plays' if two else '-'}")
    quiet = ("not trusted", "GitHub")
    assert found == {way: (True, way not in quiet) for way in places}
