"""Plots: what they draw is what the metrics say, and nothing is drawn of what nobody recorded."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbreplay
from nbreplay.analysis import plots
from nbreplay.analysis.library import Library
from tests.analysis.making import lib

plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed: pip install -e '.[plot]'")
from matplotlib.collections import LineCollection  # noqa: E402
from matplotlib.colors import to_hex, to_rgb  # noqa: E402

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
    summary = summary.iloc[(summary.input_tokens + summary.output_tokens.fillna(0)).argsort()[::-1]]
    assert widths(llm.plot.tokens()) == [*summary.input_tokens, *summary.output_tokens]
    assert widths(llm.plot.cost(PRICES)) == pytest.approx(llm.cost(PRICES).usd_estimate.dropna().tolist())
    timed = real.interactions.dropna(subset=["duration_s"]).sort_values("recorded_at", kind="stable")
    ends = {place: end for bars in segments(llm.plot.timeline()) for (_, place), (end, _) in bars}
    assert [ends[place] for place in range(len(timed))] == timed.duration_s.tolist()


def test_plot_draws_one_of_its_kinds(real: Library) -> None:
    calls = real.interactions.llm
    _, own = plt.subplots()
    assert calls.plot(ax=own) is own
    assert own.get_title(loc="left") == "Duration of answers"
    assert (own.get_xlabel(), own.get_ylabel()) == ("seconds", "model")
    assert sorted(dots(own)) == sorted(real.interactions.duration_s.dropna())
    assert dots(calls.plot(kind="ttft", by="kind")) == dots(calls.plot.ttft(by="kind")) != []
    rates = (real.interactions.output_tokens / real.interactions.duration_s).dropna()
    assert sorted(dots(calls.plot.throughput(None))) == pytest.approx(sorted(rates))
    assert real.chunks.llm.plot().get_title(loc="left") == "Gaps between chunks"
    tools = real.tool_calls.llm.plot()
    assert (tools.get_ylabel(), sorted(dots(tools))) == ("name", sorted(real.tool_calls.duration_s.dropna()))
    with pytest.raises(nbreplay.OptionError, match=r"kind must be one of duration, .*, not 'pie'"):
        calls.plot("pie")
    assert all(callable(getattr(calls.plot, kind)) for kind in plots.KINDS)
    assert ", ".join(plots.KINDS) in repr(calls.plot)


def test_many_groups_and_long_names_stay_legible(tmp_path: Path) -> None:
    long = "projects/1234567890/locations/europe-west4/publishers/google/models/gemini-2.5-pro-preview"
    names = [long, f"{long}-2", *(f"model-{number}" for number in range(39))]
    said = {"choices": [{"index": 0, "message": {"content": "x"}}], "usage": {"prompt_tokens": 1}}
    exchanges = [({"model": name, "messages": []}, said) for name in names]
    exchanges += [(exchange[0], said, {"at": 1}) for exchange in exchanges[:2]]
    made = lib(tmp_path, *exchanges, at=0).interactions
    made = made.assign(duration_s=1.0, ttft_s=0.5)
    ax = made.llm.plot()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0].replace("\n", "") == f"{long} (2)"
    assert labels[-1] == "16 others (16)"
    assert len(dots(ax)) == len(made) == 43
    ax.figure.canvas.draw()
    boxes = sorted((label.get_window_extent() for label in ax.get_yticklabels()), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 for lower, upper in itertools.pairwise(boxes))
    assert boxes[0].x0 >= 0
    assert made.llm.plot.tokens().get_xlabel() == "tokens (not shown: 16 smaller groups, 16 in all)"
    legend = [text.get_text() for text in made.llm.plot.timeline().get_legend().get_texts()]
    assert (len(legend), legend[-1]) == (6, "36 others (36)")


def test_text_is_as_legible_on_white_as_on_black(real: Library) -> None:
    def lightness(colour: str) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) + 0.05

    ax = real.interactions.llm.plot.gaps()
    assert ax.figure.patch.get_alpha() == ax.patch.get_alpha() == 0
    texts = [ax.xaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels(), *ax.get_legend().get_texts()]
    for colour in {to_hex(text.get_color()) for text in texts}:
        assert lightness("white") / lightness(colour) > 3.9
        assert lightness(colour) / lightness("#111111") > 3.9


@pytest.mark.parametrize("kind", plots.KINDS)
def test_a_page_behind_a_plot_is_not_asked_for(kind: str, real: Library) -> None:
    inline = pytest.importorskip("matplotlib_inline.backend_inline")
    ax = real.interactions.llm.plot(kind, **({"prices": PRICES} if kind == "cost" else {}))
    assert inline._fetch_figure_metadata(ax.figure) is None


def dots(ax: Any) -> list[float]:
    return [value for line in ax.lines if line.get_marker() == "o" for value in line.get_xdata()]


def segments(ax: Any) -> list[Any]:
    return [bars.get_segments() for bars in ax.collections if isinstance(bars, LineCollection)]


def test_dots_and_steps_are_the_times_that_were_recorded(real: Library) -> None:
    ax = real.interactions.llm.plot.ttft()
    assert sorted(dots(ax)) == sorted(real.interactions.ttft_s.dropna())
    (_, own) = plt.subplots()
    assert real.interactions.llm.plot.gaps(ax=own) is own
    assert sum(len(line.get_xdata()) for line in own.lines) == real.interactions.llm.gaps(by=None).gaps.sum()


@pytest.mark.parametrize("name", plots.KINDS)
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
