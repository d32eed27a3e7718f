"""Recordings are written by strangers: whatever stands in them is shown as text, in every field that is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

for name in ("playwright.sync_api", "jupyterlab", "notebook", "nbconvert"):
    pytest.importorskip(name, reason="the browser tests want the extra 'browser'")

from playwright.sync_api import expect  # noqa: E402

from nbreplay.core.recording.recording import Recording, file_name  # noqa: E402
from nbreplay.core.recording.stream import Chunk, Events  # noqa: E402
from nbreplay.core.recording.take import Take  # noqa: E402
from nbreplay.core.request.request import key_of  # noqa: E402
from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.page import Opened  # noqa: E402

Open = Callable[..., Opened]
HOSTILE = [
    "<img src=x onerror=\"window.hacked=1;fetch('http://hacked.invalid/')\">",
    "</script><script>window.hacked=1</script>",
    "[click](javascript:window.hacked=1) ![](http://hacked.invalid/x.png)",
    '"><svg onload=window.hacked=1><a href="javascript:window.hacked=1">x</a>',
    "\x1b]8;;http://hacked.invalid\x07link\x1b]8;;\x07 \x1b[2J\x1b[31mred",
    "abc\u202etxt.exe\u202c \u2066x\u2069 \u200f",
    "${window.hacked=1} {{constructor.constructor('window.hacked=1')()}}",
    "<style>*{display:none}</style><iframe src=http://hacked.invalid></iframe>",
    "</pre></details></div><form action=http://hacked.invalid><button>x",
    "```\n<b onmouseover=window.hacked=1>\n```\n$\\href{javascript:window.hacked=1}{x}$",
    "a tag \U000e0041\ufeff",
]
TELLTALE = ["<img src=x", "</script><script>", "javascript:window.hacked", "<svg onload", "\\u001b", "\\u202e"]


def hostile(text: str) -> Recording:
    """A recording that says `text` wherever a card shows something."""
    fields = {
        "method": "POST",
        "endpoint": "chat/completions",
        "body": {"model": text, "messages": [{"role": "user", "content": text}]},
    }
    call = {
        "index": 0,
        "id": text,
        "type": "function",
        "function": {"name": text, "arguments": json.dumps({"a": text})},
    }
    broken = {"index": 1, "id": "b", "type": "function", "function": {"name": text, "arguments": text}}
    deltas: list[dict[str, Any]] = [
        {"reasoning_content": text},
        {"content": text},
        {"refusal": text},
        {"tool_calls": [call, broken]},
    ]
    chunks = [
        Chunk(5, {"model": text, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas
    ]
    chunks.append(Chunk(5, {"choices": [{"index": 0, "delta": {}, "finish_reason": text}], "error": {"message": text}}))
    key = key_of("chat", fields)
    take = Take(text, text, text, text, body=Events(tuple(chunks)), error={"type": text, "message": text})
    return Recording(key, "chat", fields, (take,))


@pytest.fixture
def shown(notebook: Callable[..., str], project: Path) -> str:
    """A notebook that shows hostile recordings, one alone, several, and many."""
    store = project / "hostile"
    store.mkdir(exist_ok=True)
    for text in HOSTILE:
        made = hostile(text)
        (store / file_name(made.kind, made.key)).write_text(made.text(), "utf-8")
    code = """
from nbreplay import Interaction, Store  # noqa: E402
from nbreplay.core.request.request import Request  # noqa: E402
from nbreplay.notebook.display import show  # noqa: E402
store = Store("../hostile")
items = []
for name in store.names():
    found = store.read(name)
    request = Request(found.kind, found.request, found.key)
    items += [Interaction(request, take, "replayed", note=take.host, host=take.host) for take in found.takes]
    items.append(Interaction(request, None, "missing", note=found.takes[0].host, host=found.takes[0].host))
"""
    one = "for item in items: show([item])"
    return notebook("hostile", code, one, "show(items[:20])", "show(items * 2)")


def harmless(page: Opened) -> None:
    """Open all that is folded, go over it, and find nothing done."""
    page.page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("window.hacked") is None
    assert page.troubles == []
    assert page.outside() == []
    for inside in ("img", "script", "iframe", "a", "form", "style", "svg[onload]"):
        assert page.page.locator(f".nbr {inside}, [data-nbreplay] {inside}").count() == 0, inside


def test_hostile_recordings_are_shown_as_text(shown: str, lab: str, opened: Open) -> None:
    page = opened(f"{lab}/lab/tree/notebooks/{shown}").ready().run_all()
    expect(page.cards).to_have_count(2 * len(HOSTILE) + 20)
    expect(page.page.locator(".nbr table")).to_have_count(1)
    harmless(page)
    text = page.page.locator(".jp-Notebook").text_content() or ""  # what is out of sight is not drawn
    assert [sign for sign in TELLTALE if sign not in text] == []
    assert "\u202e" not in text
    assert "invalid JSON" in text


@pytest.mark.parametrize("script", [True, False])
def test_hostile_recordings_in_an_exported_page(
    script: bool, shown: str, project: Path, opened: Open, scratch: Path
) -> None:
    path = project / "notebooks" / shown
    for command in (
        ["nbreplay", "run", str(path), "--update"],
        ["nbconvert", "--to", "nbreplay", str(path), "--output-dir", str(scratch)],
    ):
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, cwd=ROOT)
    page = opened((scratch / path.with_suffix(".html").name).as_uri(), java_script_enabled=script)
    if script:
        expect(page.page.get_by_role("button", name="▶ play", include_hidden=True)).to_have_count(len(HOSTILE) + 10)
        page.page.get_by_role("button", name="▶ play").first.click()
        harmless(page)
    else:
        assert page.page.locator("img").count() == 0
        assert page.outside() == []
    text = page.page.locator("body").inner_text()
    assert [sign for sign in TELLTALE if sign not in text] == []
    assert "\u202e" not in text
