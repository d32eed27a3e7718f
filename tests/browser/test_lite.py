"""A site of ``nbreplay lite`` in a browser: notebooks run whole, with no other address to reach."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

for name in ("playwright.sync_api", "jupyterlite_core", "jupyterlite_pyodide_kernel"):
    pytest.importorskip(name, reason="the tests of sites want the extras 'browser' and 'lite'")

from playwright.sync_api import Browser, Route, expect  # noqa: E402

from nbreplay.cli.main import main  # noqa: E402
from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.page import Opened  # noqa: E402

pytestmark = pytest.mark.full


class Handler(http.server.SimpleHTTPRequestHandler):
    """What ``python -m http.server`` does, below a path, as GitHub Pages serves a site."""

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/REPO"))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a site of this repository's notebooks."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which downloads Pyodide, is not installed")
    folder = tmp_path_factory.mktemp("lite")
    for each in ("notebooks", "recordings"):
        shutil.copytree(ROOT / each, folder / each)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["lite", "--offline", str(folder / "notebooks"), "--output", str(folder / "site")]) == 0
    assert "(https://OWNER.github.io/REPO/lab/index.html?path=notebooks/01_quickstart.ipynb)" in printed.getvalue()
    assert "note: pandas, which 03_analysis.ipynb needs, is not in the site" in printed.getvalue()
    handler = functools.partial(Handler, directory=str(folder / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/REPO"
        server.shutdown()


def open_alone(browser: Browser, address: str) -> Opened:
    """Open an address in a browser that reaches no other host."""
    context = browser.new_context(viewport={"width": 1060, "height": 1400})

    def decide(route: Route) -> None:
        own = route.request.url.startswith((address.partition("/REPO")[0], "data:", "blob:"))
        route.continue_() if own else route.abort()

    context.route("**/*", decide)
    return Opened(context.new_page(), address)


@pytest.mark.parametrize("name", ["01_quickstart", "02_streams_and_tools"])
def test_a_notebook_runs_twice_in_one_kernel_and_its_cards_play(
    name: str, site: str, browser: Browser, pictures: Path
) -> None:
    page = open_alone(browser, f"{site}/lab/index.html?path=notebooks/{name}.ipynb").ready()
    try:
        for run in (1, 2):
            page.run_all()
            page.picture(pictures / f"lite-{name}-{run}.png")
            assert page.errors() == []
        if name == "02_streams_and_tools":
            assert_plays(page, pictures)
        assert page.outside() == []
    finally:
        page.page.context.close()


def assert_plays(page: Opened, pictures: Path) -> None:
    """Press play on the first card, and see its text grow."""
    card = page.cards.first
    expect(card.locator(".nbr-word")).to_have_text("REPLAY")
    text = card.locator(".nbr-text").first
    expect(text).to_contain_text("lighthouse")
    whole = text.text_content() or ""
    slider = card.locator(".nbr-play input[type=range]")
    slider.evaluate("e => { e.value = 0; e.dispatchEvent(new Event('input')); }")
    expect(text).to_have_text("")
    card.get_by_role("button", name="play").click()
    expect(text).not_to_be_empty()
    card.get_by_role("button", name="pause").click()
    page.picture(pictures / "lite-card.png", of=card)
    part = text.text_content() or ""
    assert 0 < len(part) < len(whole)
    assert whole.startswith(part)
