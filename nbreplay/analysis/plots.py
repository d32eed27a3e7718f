"""Plots of frames: one look, readable on light and dark. Needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import columns
from nbreplay.errors import OptionError

__all__ = ["Plots"]

# Of equal lightness, told apart by the colour-blind, and clear on white as on black.
_COLOURS = ("#3b82c4", "#d97706", "#2a9d6f", "#c2528b", "#8b7bd8", "#808080")
_GREY = "#808890"


class Plots:
    """``frame.llm.plot``: each method draws into `ax`, or into a figure of its own, and returns the axes.

    What nobody recorded is not drawn; where there is nothing at all, the plot says so.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def ttft(self, by: str = "model", ax: Any = None) -> Any:
        """Draw how long the first token took: a dot an answer, a line at the median."""
        frame = self._frame.dropna(subset=["ttft_s"])
        ax = _axes(ax, "Time to the first token", "seconds", "")
        groups = [(str(name), group.ttft_s.astype(float)) for name, group in _grouped(frame, by)]
        groups.sort(key=lambda item: -float(item[1].median()))
        for place, (_, values) in enumerate(groups):
            colour = _COLOURS[place % len(_COLOURS)]
            ax.plot(values, [place] * len(values), "o", color=colour, alpha=0.7, markersize=6)
            ax.plot([values.median()] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2)
        ax.set_yticks(range(len(groups)), [f"{_short(name)} ({len(values)})" for name, values in groups])
        ax.set_ylim(-0.6, max(len(groups), 1) - 0.4)
        ax.set_xlim(left=0)
        return _or_nothing(ax, bool(groups), "no first token was timed")

    def gaps(self, by: str = "model", ax: Any = None) -> Any:
        """Draw the share of pauses between chunks that are no longer than so many seconds."""
        rows = self._frame.llm.others("chunks", by)
        rows = rows[(rows.chunk > 0) & rows.gap_s.notna()]
        ax = _axes(ax, "Gaps between chunks", "seconds, at most", "share of gaps")
        drawn = False
        for place, (name, group) in enumerate(_grouped(rows, columns.grouped(rows, by))):
            values = group.gap_s.astype(float).sort_values().clip(lower=0.0005)
            shares = [(number + 1) / len(values) for number in range(len(values))]
            ax.step(
                values,
                shares,
                where="post",
                color=_COLOURS[place % len(_COLOURS)],
                label=f"{_short(name)} ({len(values)})",
            )
            drawn = True
        if drawn:
            ax.set_xscale("log")
            ax.set_ylim(0, 1.02)
            _legend(ax)
        return _or_nothing(ax, drawn, "no gap was timed")

    def timeline(self, ax: Any = None) -> Any:
        """Draw when each call was recorded and how long it took; a dot where its first token came."""
        frame = self._frame.dropna(subset=["recorded_at", "duration_s"]).sort_values("recorded_at", kind="stable")
        ax = _axes(ax, "Calls, the first on top", "seconds from sending", "")
        colours = _by_name(frame, "model")
        for place, row in enumerate(frame.itertuples()):
            colour = colours[str(row.model)]
            ax.barh(place, float(row.duration_s), color=colour, alpha=0.75, height=0.7)
            if not pd.isna(row.ttft_s):
                ax.plot([float(row.ttft_s)], [place], "o", color=colour, markeredgecolor="white", markersize=6)
        _keys(ax, colours)
        ax.invert_yaxis()
        ax.set_yticks([])
        return _or_nothing(ax, len(frame) > 0, "no call was timed")

    def tokens(self, by: str = "model", ax: Any = None) -> Any:
        """Draw input and output tokens."""
        made = self._frame.llm.summary(by).dropna(subset=["input_tokens", "output_tokens"], how="all")
        ax = _axes(ax, "Tokens", "tokens", "")
        into = made.input_tokens.fillna(0).astype(float)
        out = made.output_tokens.fillna(0).astype(float)
        places = range(len(made))
        ax.barh(places, into, color=_COLOURS[0], label="input", height=0.6)
        ax.barh(places, out, left=into, color=_COLOURS[1], label="output", height=0.6)
        ax.set_yticks(places, [_short(name) for name in made.index])
        ax.invert_yaxis()
        if len(made):
            _legend(ax)
        return _or_nothing(ax, len(made) > 0, "no tokens were counted")

    def cost(self, prices: Mapping[str, Any] | pd.DataFrame | None = None, by: str = "model", ax: Any = None) -> Any:
        """Draw what the interactions cost, as `Metrics.cost` estimates it."""
        made = self._frame.llm.cost(prices, by).dropna(subset=["usd_estimate"])
        ax = _axes(ax, "Cost, estimated from list prices", "US dollars", "")
        ax.barh(range(len(made)), made.usd_estimate.astype(float), color=_COLOURS[2], height=0.6)
        names = [f"{_short(name)} ({row.priced} of {row.interactions})" for name, row in made.iterrows()]
        ax.set_yticks(range(len(made)), names)
        ax.invert_yaxis()
        return _or_nothing(ax, len(made) > 0, "nothing could be priced")


def _axes(ax: Any, title: str, across: str, up: str) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise OptionError("plots need matplotlib: pip install 'nbreplay[plot]'") from None
    if ax is None:
        figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
        figure.patch.set_alpha(0)
    ax.patch.set_alpha(0)
    ax.set_title(title, loc="left", color=_GREY, fontsize=11, pad=8)
    ax.set_xlabel(across, color=_GREY)
    ax.set_ylabel(up, color=_GREY)
    ax.tick_params(which="both", colors=_GREY)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GREY)
    ax.grid(axis="x", color=_GREY, alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def _or_nothing(ax: Any, drawn: bool, said: str) -> Any:
    if not drawn:
        ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", va="center", color=_GREY)
        ax.set_xticks([])
        ax.set_yticks([])
    return ax


def _grouped(frame: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    if by not in frame.columns:
        raise OptionError(f"there is no column {by!r} to group by")
    return [(str(name), group) for name, group in frame.groupby(by, observed=True, dropna=False)]


def _by_name(frame: pd.DataFrame, column: str) -> dict[str, str]:
    return {str(name): _COLOURS[place % len(_COLOURS)] for place, name in enumerate(frame[column].unique())}


def _keys(ax: Any, colours: Mapping[str, str]) -> None:
    if len(colours) > 1:
        for name, colour in colours.items():
            ax.plot([], [], "s", color=colour, label=_short(name))
        _legend(ax)


def _legend(ax: Any) -> None:
    # Above the axes, where no bar is.
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(frameon=False, labelcolor=_GREY, fontsize=9, ncols=3, **place)


def _short(name: object) -> str:
    # A $ would be read as mathematics, and a name from a recording may be of any length.
    text = str(name).replace("$", r"\$").replace("\n", " ")
    return text if len(text) <= 32 else text[:31] + "…"
