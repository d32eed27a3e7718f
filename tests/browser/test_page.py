"""A notebook as a web page: its cards play with no kernel, no server and no network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

for name in ("playwright.sync_api", "jupyterlab", "notebook", "nbconvert"):
    pytest.importorskip(name, reason="the browser tests want the extra 'browser'")

from playwright.sync_api import expect  # noqa: E402

from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.page import Opened  # noqa: E402

Open = Callable[..., Opened]
STREAMS = ROOT / "notebooks" / "02_streams_and_tools.ipynb"


def test_the_exported_page_plays_alone(opened: Open, scratch: Path, pictures: Path) -> None:
    command = [sys.executable, "-m", "nbconvert", "--to", "nbreplay", str(STREAMS), "--output-dir", str(scratch)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = scratch.glob("*.html")
    page = opened(made.as_uri())
    first = page.page.locator("[data-beats]").first
    expect(first).to_contain_text("smollm2-135m")
    said = first.locator("[data-part]")
    whole = said.inner_text()
    slider = first.locator("input[type=range]")
    slider.evaluate("e => { e.value = e.max / 2; e.dispatchEvent(new Event('input')); }")
    part = said.inner_text()
    assert 0 < len(part) < len(whole)
    assert whole.startswith(part)
    first.get_by_role("button", name="play").click()
    expect(said).to_have_text(whole)
    page.picture(pictures / "page.png")
    assert page.troubles == []
    assert [url for url in page.requests if not url.startswith(("file:", "blob:", "data:"))] == []


def test_without_script_the_page_says_the_same(opened: Open, scratch: Path) -> None:
    command = [sys.executable, "-m", "nbconvert", "--to", "nbreplay", str(STREAMS), "--output-dir", str(scratch)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = scratch.glob("*.html")
    page = opened(made.as_uri(), java_script_enabled=False)
    text = page.page.locator("body").inner_text()
    assert "first token" in text
    assert "lighthouse" in text
    assert "get_weather" in text
