"""The examples of `.llm` and its plots do what they say, over a small store."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nbreplay
from nbreplay.analysis.metrics import Metrics
from nbreplay.analysis.plots import Plots
from tests.analysis.making import lib, streamed

CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Tokyo"}'}}


def asked(model: str, text: str, *more: dict[str, Any]) -> dict[str, Any]:
    return {"model": model, "stream": True, "messages": [{"role": "user", "content": text}, *more]}


def said(*texts: str, calls: Any = None, gap: float = 0.1) -> Any:
    deltas: list[dict[str, Any]] = [{"content": text} for text in texts]
    deltas += [{"tool_calls": [{"index": 0, **CALL}]}] if calls else []
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    usage = {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 5 * len(deltas)}}
    return streamed(*chunks, usage, gap=gap)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder ``recordings`` with an agent's loop, another model and an error."""
    history = {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "18 °C"}
    lib(
        tmp_path / "recordings",
        (asked("gpt-4o", "Weather in Tokyo?"), said(calls=True)),
        ({"tool": "get_weather", "arguments": {"city": "Tokyo"}}, {"result": "18 °C"},
         {"kind": "tool", "host": "", "elapsed_ms": 250}),
        (asked("gpt-4o", "Weather in Tokyo?", *history), said("It is", " 18 °C.")),
        (asked("claude-sonnet-4-5", "Name a colour."), said("Blue", " or", " green.", gap=0.4),
         {"host": "api.anthropic.com"}),
        (asked("gpt-4o", "Name a colour."), {"error": {"type": "overloaded", "message": "no"}}, {"status": 529}),
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("name", ["metrics", "plots"])
def test_examples_do_what_they_say(name: str, store: None) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    module = importlib.import_module(f"nbreplay.analysis.{name}")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    given = {"nbreplay": nbreplay, "pd": pd, "lib": nbreplay.load("recordings")}
    runner = doctest.DocTestRunner(optionflags=flags)
    found = [test for test in doctest.DocTestFinder().find(module, globs=given) if test.examples]
    failed = [runner.run(test).failed for test in found]
    assert found
    assert not any(failed)


@pytest.mark.parametrize("public", [Metrics, Plots])
def test_docstrings_fit_a_terminal(public: type) -> None:
    values = [public, *(value for name, value in vars(public).items() if not name.startswith("_"))]
    texts = [inspect.getdoc(value) or "" for value in values]
    assert all(texts)
    assert [line for text in texts for line in text.splitlines() if len(line) > 79] == []
