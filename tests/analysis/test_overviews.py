"""How a library, `.llm` and a comparison show themselves: what they hold, at no cost, and nothing unescaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from tests.analysis.making import lib, streamed

OWN = Path(__file__).parents[2] / "recordings"
HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m$\\frac{1}"


def asked(text: str, model: str = "gpt-4o") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def said(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": text}}], "usage": {"prompt_tokens": 7}}


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.styles = ""
        self.classes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        assert given.keys() <= {"style", "class"}, given
        self.styles += given.get("style") or ""
        self.classes += (given.get("class") or "").split()


def bundles(folder: Path) -> dict[str, dict[str, str]]:
    """Everything that shows itself, of two stores with hostile texts in them."""
    tool = ({"tool": HOSTILE, "arguments": {"x": HOSTILE}}, {"result": HOSTILE}, {"kind": "tool", "host": ""})
    failed = (asked("no"), {"error": {"type": HOSTILE, "message": HOSTILE}}, {"status": 500})
    stream = (asked("s", HOSTILE), streamed({"choices": [{"index": 0, "delta": {"content": HOSTILE}}]}, "x"))
    a = lib(folder / "a", (asked(HOSTILE, HOSTILE), said(HOSTILE)), tool, failed, stream)
    (folder / "a" / "other<b>.json").write_text("{}")
    a = nbreplay.load(folder / "a", strict=False)
    b = lib(folder / "b", (asked(HOSTILE, HOSTILE), said(f"other {HOSTILE}")))
    shown = {"library": a, "comparison": nbreplay.compare(a, b)}
    shown |= {f"{name}.llm": a.frame(name).llm for name in ("interactions", "chunks", "tool_calls")}
    return {name: thing._repr_mimebundle_() for name, thing in shown.items()}


def test_nothing_of_a_recording_is_shown_unescaped(tmp_path: Path) -> None:
    found = bundles(tmp_path)
    for name, bundle in found.items():
        assert bundle.keys() == {"text/plain", "text/html"}
        page = _Page(bundle["text/html"])
        assert page.tags <= {"div", "b", "span", "table", "tr", "th", "td"}, name
        assert {"dataframe", "mathjax_ignore"} <= {*page.classes}
        # Without colours of its own it fits a light and a dark page.
        assert not {"color", "background", "#", "rgb"} & {*page.styles.replace(":", " ").replace(";", " ").split()}
        assert not {"\u202e", "\x1b"} & {*"".join(bundle.values())}, name
    for name in ("library", "comparison", "interactions.llm"):
        assert "&lt;img src=x onerror" in found[name]["text/html"]
        assert max(map(len, found[name]["text/plain"].split("\n"))) <= 160


def test_a_library_shows_what_it_holds() -> None:
    real = nbreplay.load(OWN)
    assert repr(real) == f"Library({str(OWN)!r}, {len(real)} interactions)"
    assert not real._frames, "a repr of one line builds nothing"
    bundle = real._repr_mimebundle_()
    assert {*real._frames} == {"interactions"}
    text, calls = bundle["text/plain"], real.interactions
    assert f"smollm2-135m ({(calls.model == 'smollm2-135m').sum()})" in text
    assert re.search(r"tools +get_weather \(2\), to_fahrenheit \(1\)", text)
    assert f"{calls.input_tokens.sum():,} input, {calls.output_tokens.sum():,} output (known of " in text
    assert re.search("recorded +23 Nov 2026", text)
    assert f".chunks         {len(real.chunks)} " in text
    assert ".messages         –        9  a row per message of a request or an answer; counted when" in text
    assert f".messages       {len(real.messages):>3} " in real._repr_mimebundle_()["text/plain"]
    assert calls.index[0] in bundle["text/html"]


def test_what_could_not_be_read_is_shown(tmp_path: Path) -> None:
    lib(tmp_path, (asked("x"), said("y")))
    (tmp_path / "chat-0000000000000000.json").write_text("{")
    text = nbreplay.load(tmp_path, strict=False)._repr_mimebundle_()["text/plain"]
    assert "\n  tokens    7 input\n" in text, "output was not counted"
    assert "unread    1 file, listed in .unread: " in text
    assert "chat-0000000000000000.json" in text


def test_llm_shows_what_it_offers_of_a_frame() -> None:
    real = nbreplay.load(OWN)
    text = real.interactions.llm._repr_mimebundle_()["text/plain"]
    assert ".llm.throughput(by=…)" in text
    assert "(tools)" in text
    assert ".llm.gaps()" in real.chunks.llm._repr_mimebundle_()["text/plain"]
    assert ".llm.summary" not in real.chunks.llm._repr_mimebundle_()["text/plain"]
    assert "get_weather" in real.tool_calls.llm._repr_mimebundle_()["text/plain"]
    for frame in (pd.DataFrame({"a": [1]}), real.interactions[["model"]], real.interactions.head(0)):
        assert ".llm.summary(by=…)" in frame.llm._repr_mimebundle_()["text/html"]


def test_a_comparison_names_its_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lib(tmp_path / "october", (asked("x"), said("The capital of France is Paris today.")), (asked("y"), said("1")))
    lib(tmp_path / "today", (asked("x"), said("The capital of France is Lyon.")), (asked("x", "o3"), said("2")))
    made = nbreplay.compare("october", "today")
    assert made.names == ("october", "today")
    bundle = made._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Comparison: october with today, paired by key\n  changed          1\n")
    assert "only in october  1" in bundle["text/plain"]
    assert ">… of France is Paris today.<" in bundle["text/html"]
    assert ">… of France is Lyon.<" in bundle["text/html"]
    calls = nbreplay.load("today").interactions
    models = nbreplay.compare(calls.query("model == 'gpt-4o'"), calls.query("model == 'o3'"), on="prompt")
    assert models.names == ("gpt-4o", "o3")
    assert nbreplay.compare(calls, calls).names == ("a", "b")


def test_what_holds_nothing_is_shown_too(tmp_path: Path) -> None:
    none = nbreplay.load(tmp_path)
    for thing in (none, none.interactions.llm, nbreplay.compare(none, none)):
        assert thing._repr_mimebundle_()["text/plain"]
