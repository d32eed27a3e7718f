"""Plots: what they draw is what the metrics say, and nothing is drawn of what nobody recorded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbreplay
from nbreplay.analysis.library import Library
from tests.analysis.making import lib

plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed: pip install -e '.[plot]'")
OWN = Path(__file__).parents[2] / "recordings"
PRICES = {"smollm2-135m": (1, 2)}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def real() -> Library:
    return nbreplay.load(OWN)


def widths(ax: Any) -> list[float]:
    return [patch.get_width() for patch in ax.patches]


def test_bars_are_as_long_as_the_metrics_say(real: Library) -> None:
    llm = real.interactions.llm
    summary = llm.summary().dropna(subset=["input_tokens"])
    assert widths(llm.plot.tokens()) == [*summary.input_tokens, *summary.output_tokens]
    assert widths(llm.plot.cost(PRICES)) == pytest.approx(llm.cost(PRICES).usd_estimate.dropna().tolist())
    timed = real.interactions.dropna(subset=["duration_s"]).sort_values("recorded_at", kind="stable")
    assert widths(llm.plot.timeline()) == timed.duration_s.tolist()


def test_dots_and_steps_are_the_times_that_were_recorded(real: Library) -> None:
    ax = real.interactions.llm.plot.ttft()
    dots = sorted(value for line in ax.lines if line.get_marker() == "o" for value in line.get_xdata())
    assert dots == sorted(real.interactions.ttft_s.dropna())
    (_, own) = plt.subplots()
    assert real.interactions.llm.plot.gaps(ax=own) is own
    assert sum(len(line.get_xdata()) for line in own.lines) == real.interactions.llm.gaps(by=None).gaps.sum()


@pytest.mark.parametrize("name", ["ttft", "gaps", "timeline", "tokens", "cost"])
def test_where_there_is_nothing_it_is_said(tmp_path: Path, name: str) -> None:
    ax = getattr(nbreplay.load(tmp_path).interactions.llm.plot, name)(**({"prices": {}} if name == "cost" else {}))
    (text,) = ax.texts
    assert text.get_text().startswith(("no ", "nothing "))
    assert not widths(ax)


def test_a_name_is_no_mathematics(tmp_path: Path) -> None:
    said = {"choices": [{"index": 0, "message": {"content": "x"}}], "usage": {"prompt_tokens": 1}}
    made = lib(tmp_path, ({"model": "$\\frac{", "messages": [{"role": "user", "content": "x"}]}, said))
    made.interactions.llm.plot.tokens().figure.savefig(io.BytesIO())


def test_what_cannot_be_drawn_is_told(real: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(nbreplay.OptionError, match="group by"):
        real.interactions.llm.plot.ttft(by="colour")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(nbreplay.OptionError, match=r"nbreplay\[plot\]"):
        real.interactions.llm.plot.ttft()
