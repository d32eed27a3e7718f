"""Notebooks in JupyterLab and in Notebook 7: cards, their player, themes, and what stays without a kernel."""

from __future__ import annotations

import os
import re
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
from tests.provider import Provider  # noqa: E402

Open = Callable[..., Opened]
Write = Callable[..., str]
STREAMS = "02_streams_and_tools.ipynb"
ASK = """
from openai import OpenAI
client = OpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)
stream = client.chat.completions.create(
    model={model!r}, messages=[{{"role": "user", "content": "hello"}}], stream=True
)
for chunk in stream:
    pass
"""


def at(page: Opened, ms: int) -> tuple[str, str]:
    """Scrub the first player to a time; return the text and the clock."""
    slider = page.page.locator(".nbr-play input[type=range]").first
    slider.evaluate(f"e => {{ e.value = {ms}; e.dispatchEvent(new Event('input')); }}")
    return text(page), page.page.locator(".nbr-time").first.text_content() or ""


def text(page: Opened) -> str:
    """The text of the first answer, whether or not it is in sight."""
    return page.page.locator(".nbr-text").first.text_content() or ""


@pytest.mark.parametrize("server", ["lab/tree", "classic/notebooks"])
def test_run_all_in_replay_shows_the_cards(
    server: str, opened: Open, pictures: Path, request: pytest.FixtureRequest
) -> None:
    name, _, route = server.partition("/")
    url = request.getfixturevalue(name)
    route = f"{'lab/' if name == 'lab' else ''}{route}"
    page = opened(f"{url}/{route}/notebooks/{STREAMS}").ready().run_all()
    first = page.cards.first
    expect(first.locator(".nbr-word")).to_have_text("REPLAY")
    expect(first.locator(".nbr-title")).to_have_text("smollm2-135m")
    expect(first.locator(".nbr-text")).to_contain_text("lighthouse")
    expect(first).to_have_attribute("aria-busy", "false")
    row = page.page.locator(".nbr-call summary").first
    expect(row).to_contain_text('get_weather(city="Tokyo") → It is 18 degrees Celsius in Tokyo. · ')
    expect(page.page.locator(".nbr-head").first).to_contain_text("2 calls")
    page.picture(pictures / f"{name}.png")
    page.picture(pictures / f"{name}-card.png", of=first)
    assert page.outside() == []
    assert page.troubles == []


def test_play_pause_and_scrub(lab: str, opened: Open) -> None:
    page = opened(f"{lab}/lab/tree/notebooks/{STREAMS}").ready().run_all()
    expect(page.cards.first.locator(".nbr-word")).to_have_text("REPLAY")
    whole = text(page)
    until = float(page.page.locator(".nbr-play input[type=range]").first.get_attribute("max") or 0)
    assert at(page, 0)[0] == ""
    part, clock = at(page, int(until / 2))
    assert 0 < len(part) < len(whole)
    assert whole.startswith(part)
    assert clock == f"{int(until / 2) / 1000:.2f}/{until / 1000:.2f} s"
    card = page.cards.first
    card.get_by_role("button", name="speed ∞").click()
    expect(card.get_by_role("button", name="speed ∞")).to_have_attribute("aria-pressed", "true")
    card.get_by_role("button", name="play").click()
    expect(page.page.locator(".nbr-text").first).to_have_text(whole)
    card.get_by_role("button", name="speed 1×").click()
    at(page, 0)
    card.get_by_role("button", name="play").click()
    expect(card.get_by_role("button", name="pause")).to_be_visible()
    expect(page.page.locator(".nbr-text").first).not_to_be_empty()
    card.get_by_role("button", name="pause").click()
    expect(card.get_by_role("button", name="play")).to_be_visible()
    page.page.locator(".nbr-play input[type=range]").first.focus()
    page.page.keyboard.press("Home")
    expect(page.page.locator(".nbr-time").first).to_have_text(re.compile(r"^0\.00/"))
    page.page.keyboard.press("End")
    expect(page.page.locator(".nbr-text").first).to_have_text(whole)


def test_the_pictures_of_readme_can_be_taken(
    lab: str, opened: Open, pictures: Path, notebook: Write, project: Path
) -> None:
    """They are notebooks/images/stream.png and tools.png."""
    name = notebook("pictures", "1")
    (project / "notebooks" / name).write_text((ROOT / "notebooks" / STREAMS).read_text("utf-8"), "utf-8")
    tall = {"width": 1000, "height": 4000}  # what is not in sight is not drawn
    page = opened(f"{lab}/lab/tree/notebooks/{name}", viewport=tall, device_scale_factor=1.5).ready().run_all()
    expect(page.page.locator(".nbr-together .nbr-card")).to_have_count(2)
    expect(page.page.locator(".nbr-together mark").first).to_have_text("but")
    at(page, 520)
    page.picture(pictures / "stream.png", of=page.page.locator(".jp-CodeCell").filter(has=page.cards.first).first)
    tools = page.page.locator(".jp-CodeCell").filter(has_text="nbreplay.tool").last
    tools.locator(".nbr-fold, .nbr-call").evaluate_all("found => found.forEach((fold) => { fold.open = true; })")
    page.picture(pictures / "tools.png", of=tools.locator(".jp-OutputArea-output").first)
    for name in ("stream", "tools"):
        assert (pictures / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_dark_theme_is_kept_to(dark_lab: str, opened: Open, pictures: Path) -> None:
    page = opened(f"{dark_lab}/lab/tree/notebooks/{STREAMS}").ready().run_all()
    expect(page.cards.first.locator(".nbr-word")).to_have_text("REPLAY")

    def brightness(property_: str) -> float:
        colour = page.page.locator(".nbr").first.evaluate(f"e => getComputedStyle(e).{property_}")
        return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3

    assert brightness("backgroundColor") < 60 < 180 < brightness("color")
    page.picture(pictures / "dark.png")


def test_a_saved_notebook_plays_before_anything_has_run(lab: str, opened: Open, notebook: Write, project: Path) -> None:
    """A copy of its own: the kernel of the other one may know the words of its cards."""
    saved = project / "notebooks" / notebook("saved", "1")
    saved.write_text((ROOT / "notebooks" / STREAMS).read_text("utf-8"), "utf-8")
    around = {"JUPYTER_DATA_DIR": str(project.parent / "jupyter-data")}
    command = [sys.executable, "-m", "jupyter", "trust", str(saved)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **around})
    page = opened(f"{lab}/lab/tree/notebooks/{saved.name}").ready()
    first = page.page.locator("[data-beats]").first
    expect(first).to_contain_text("smollm2-135m")
    expect(first).not_to_contain_text("REPLAY")
    whole = first.locator("[data-part]").text_content() or ""
    first.locator("input").evaluate("e => { e.value = 700; e.dispatchEvent(new Event('input')); }")
    part = first.locator("[data-part]").text_content() or ""
    assert 0 < len(part) < len(whole)
    assert whole.startswith(part)


def test_a_saved_notebook_that_is_not_trusted_shows_the_same_as_html(
    lab: str, opened: Open, notebook: Write, project: Path
) -> None:
    name = notebook("untrusted", "1")
    text = (ROOT / "notebooks" / STREAMS).read_text("utf-8").replace("lighthouse", "lightship")
    (project / "notebooks" / name).write_text(text, "utf-8")
    page = opened(f"{lab}/lab/tree/notebooks/{name}").ready()
    expect(page.page.locator(".jp-OutputArea").filter(has_text="first token").first).to_contain_text("lightship")
    assert page.troubles == []


def test_text_is_on_the_page_before_the_model_has_sent_all_of_it(lab: str, opened: Open, notebook: Write) -> None:
    with Provider() as provider:
        switch = "%load_ext nbreplay\n%replay record ../live --view stream"
        name = notebook("live", switch, ASK.format(url=provider.url, model="test/words=30+hold"))
        page = opened(f"{lab}/lab/tree/notebooks/{name}").ready().start()
        # The server sends no more until somebody has told it that the first piece has come.
        expect(page.page.locator(".nbr-text").first).not_to_be_empty()
        expect(page.cards.first).to_have_attribute("aria-busy", "true")
        first = text(page)
        provider.ack()
        expect(page.cards.first).to_have_attribute("aria-busy", "false")
        expect(page.cards.first.locator(".nbr-word")).to_have_text("REC")
        whole = text(page)
        assert whole.startswith(first)
        assert len(whole) > len(first)
        expect(page.page.get_by_role("status").filter(has_text="done").first).to_be_attached()
        assert page.troubles == []


@pytest.mark.parametrize("chunks", [20_000, 100_000])
def test_long_streams_arrive_whole_and_can_be_scrubbed(chunks: int, lab: str, opened: Open, notebook: Write) -> None:
    made = f"""
%load_ext nbreplay
from nbreplay import Interaction, Take, Chunk  # noqa: E402
from nbreplay.core.recording.stream import Events  # noqa: E402
from nbreplay.notebook.display import show  # noqa: E402
chunks = tuple(Chunk(1, {{"choices": [{{"index": 0, "delta": {{"content": f" {{n}}"}}}}]}}) for n in range({chunks}))
take = Take("2026-11-22T00:00:00Z", "api.example.com", "/v1/chat/completions", "test", body=Events(chunks))
show([Interaction(None, take, "replayed")])
"""
    page = opened(f"{lab}/lab/tree/notebooks/{notebook('long', made)}").ready().run_all()
    expect(page.cards.first.locator(".nbr-time")).to_have_text(f"{chunks / 1000:.2f}/{chunks / 1000:.2f} s")
    assert text(page).split() == [str(number) for number in range(chunks)]
    part, _ = at(page, chunks // 4)
    assert part.split()[-1] == str(chunks // 4 - 1)


def test_reduced_motion_is_respected(lab: str, opened: Open, notebook: Write) -> None:
    with Provider() as provider:
        switch = "%load_ext nbreplay\n%replay record ../still --view stream"
        name = notebook("still", switch, ASK.format(url=provider.url, model="test/words=30+hold"))
        page = opened(f"{lab}/lab/tree/notebooks/{name}", reduced_motion="reduce").ready().start()
        expect(page.page.locator(".nbr-text").first).not_to_be_empty()
        moving = "e => getComputedStyle(e, '::after').animationName"
        assert page.page.locator(".nbr-text").first.evaluate(moving) == "none"
        page.page.emulate_media(reduced_motion="no-preference")
        assert page.page.locator(".nbr-text").first.evaluate(moving) == "nbr-blink"
        provider.ack()
        expect(page.cards.first).to_have_attribute("aria-busy", "false")
