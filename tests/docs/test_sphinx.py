"""A project's site with `nbreplay.sphinx`: its notebooks are replayed, and a missing answer fails the build."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from nbreplay.core.config import Mode
from nbreplay.testing.runner import run
from tests.provider import Provider
from tests.testing.making import notebook

pytest.importorskip("sphinx", reason="pip install -e '.[docs]'")
pytest.importorskip("myst_nb", reason="pip install -e '.[docs]'")

from nbreplay.sphinx import prepare_page

ASK = """from openai import OpenAI
client = OpenAI()
def ask(text, **options):
    return client.chat.completions.create(model="test", messages=[{"role": "user", "content": text}], **options)"""
STREAM = """for chunk in ask("a stream", stream=True):
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="|")"""
PRINTED = 'print(ask("a question").choices[0].message.content)'
SWALLOWED = """try:
    ask("something else")
except BaseException as error:
    print("swallowed", type(error).__name__)"""
MARKDOWN = """---
file_format: mystnb
kernelspec:
  name: python3
---
# In Markdown

```{code-cell} ipython3
%s
```
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


def write_site(folder: Path, extension: str, *pages: str) -> Path:
    """Write a site that shows some pages."""
    folder.mkdir()
    settings = {
        "extensions": [extension, "nbreplay.sphinx"],
        "exclude_patterns": ["_build"],
        "suppress_warnings": ["toc"],
        "nbreplay_folders": {"examples": "../examples"} if "examples/guide" in pages else {},
    }
    (folder / "conf.py").write_text("\n".join(f"{name} = {value!r}" for name, value in settings.items()))
    listed = "\n".join(f"   {page}" for page in pages)
    (folder / "index.rst").write_text(f"Theirs\n======\n\n.. toctree::\n\n{listed}\n")
    return folder


def build(site: Path) -> subprocess.CompletedProcess[str]:
    """Build a site, without a key or an address of an API, and return what it printed."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", site, site / "_build" / "html"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def text_of(page: Path) -> str:
    """The text of a page, without its tags."""
    return unescape(re.sub("<[^>]*>", "", page.read_text(encoding="utf-8")))


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recordings of what `PRINTED` and `STREAM` ask."""
    with Provider() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        (tmp_path / "recordings").mkdir()
        path = notebook(tmp_path / "first.ipynb", ASK, PRINTED, STREAM)
        assert run(path, mode=Mode.RECORD).passed
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    return tmp_path


@pytest.mark.full
def test_a_site_replays_its_notebooks(recorded: Path) -> None:
    site = write_site(recorded / "docs", "myst_nb", "guide", "words", "examples/guide")
    (recorded / "examples").mkdir()
    notebook(recorded / "examples" / "guide.ipynb", "import os; print(os.path.basename(os.getcwd()))", ASK, PRINTED)
    (site / "examples").mkdir()
    (site / "examples" / "gone.ipynb").write_text("{}")
    (site / "examples" / ".nbreplay-copies").write_text("gone.ipynb\n../guide.ipynb\n")
    (site / "examples" / "own.png").write_bytes(b"a picture of the site")
    load = "%load_ext nbreplay\n%replay on --view stream"
    notebook(site / "guide.ipynb", ASK, PRINTED, load, STREAM)
    (site / "words.md").write_text(MARKDOWN % f"{ASK}\n{PRINTED}")
    done = build(site)
    assert done.returncode == 0, done.stderr
    assert "answer 1 to: a question" in text_of(site / "_build" / "html" / "guide.html")
    assert "answer 1 to: a question" in text_of(site / "_build" / "html" / "words.html")
    html = (site / "_build" / "html" / "guide.html").read_text("utf-8")
    assert re.search("raw chunks", html), "the card is there"
    assert "widget-state" not in html, "its widget is not"
    assert html.count("answer|") == 1, "what is printed in pieces is one block"
    assert "unpkg" not in html
    page = text_of(site / "_build" / "html" / "examples" / "guide.html")
    assert "answer 1 to: a question" in page
    assert "\nexamples\n" in page, "it is executed where it comes from"
    assert not os.path.exists(site / "examples" / "gone.ipynb")
    assert os.path.exists(site / "examples" / "own.png"), "only copies are removed"
    assert os.path.exists(site / "guide.ipynb")


def test_a_file_of_the_site_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    notebook(tmp_path / "examples" / "guide.ipynb", "1")
    site = write_site(tmp_path / "docs", "myst_nb", "examples/guide")
    (site / "examples").mkdir()
    (site / "examples" / "guide.ipynb").write_text("the site's own")
    done = build(site)
    assert done.returncode != 0
    assert "guide.ipynb is not a copy" in done.stderr
    assert (site / "examples" / "guide.ipynb").read_text() == "the site's own"


@pytest.mark.full
def test_a_site_with_nbsphinx_replays_its_notebooks(recorded: Path) -> None:
    pytest.importorskip("nbsphinx", reason="pip install -e '.[docs]'")
    site = write_site(recorded / "docs", "nbsphinx", "guide")
    notebook(site / "guide.ipynb", ASK, PRINTED)
    done = build(site)
    assert "answer 1 to: a question" in text_of(site / "_build" / "html" / "guide.html"), done.stderr


@pytest.mark.full
def test_a_missing_answer_fails_the_build(recorded: Path) -> None:
    site = write_site(recorded / "docs", "myst_nb", "guide", "quiet")
    notebook(site / "guide.ipynb", ASK, 'ask("another question")')
    notebook(site / "quiet.ipynb", ASK, SWALLOWED)
    done = build(site)
    assert done.returncode == 2
    assert re.search(r"guide\.ipynb: cell 2 .*RecordingMissing: .*another question", done.stderr, re.DOTALL)
    assert re.search(r"quiet\.ipynb: .*something else", done.stderr, re.DOTALL), "although the cell swallows it"
    assert "2 of 2 notebooks were not replayed" in done.stderr


@pytest.mark.full
def test_a_missing_answer_fails_a_page_that_myst_nb_executes(recorded: Path) -> None:
    site = write_site(recorded / "docs", "myst_nb", "words")
    (site / "words.md").write_text(MARKDOWN % f"{ASK}\n{SWALLOWED}")
    done = build(site)
    assert done.returncode == 2
    assert "RecordingMissing" in done.stderr


def test_a_page_shows_the_html_of_a_card_and_not_its_widget() -> None:
    widgets = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"m": {}}}}}
    card = {"output_type": "display_data", "data": {WIDGET: {"model_id": "m"}, "text/html": "<b>card</b>"}}
    page = prepare_page({"cells": [{"cell_type": "code", "outputs": [card]}], "metadata": widgets})
    assert page["cells"][0]["outputs"][0]["data"] == {"text/html": "<b>card</b>"}
    assert "widgets" not in page["metadata"]


def test_a_page_keeps_the_widgets_of_others() -> None:
    widgets = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"m": {}}}}}
    slider = {"output_type": "display_data", "data": {WIDGET: {"model_id": "m"}, "text/plain": "IntSlider(value=1)"}}
    page = prepare_page({"cells": [{"cell_type": "code", "outputs": [slider]}], "metadata": widgets})
    assert page["cells"][0]["outputs"][0]["data"] == slider["data"]
    assert page["metadata"]["widgets"] == widgets["widgets"]
