"""Plots of frames: one style, readable on light and dark. Needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUP = "by "
"""Prefix of a column that a frame is grouped by and that came from another frame: it may have one of that name."""

# Of equal lightness, distinct to the colour-blind, and clear on white and on black.
_COLOURS = ("#3b82c4", "#d97706", "#2a9d6f", "#c2528b", "#8b7bd8", "#808080")
_GREY = "#808890"


class Plots:
    """``frame.llm.plot``: each method draws into `ax`, or into a new figure, and returns the axes.

    Values that were not recorded are not drawn; a plot without any says so.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def ttft(self, by: str = "model", ax: Axes | None = None) -> Axes:
        """Draw the seconds to the first token: a dot per answer, a line at the median."""
        frame = self._frame.dropna(subset=["ttft_s"])
        ax = _axes(ax, "Time to the first token", "seconds")
        groups = [(str(name), group.ttft_s.astype(float)) for name, group in _groups(frame, by)]
        groups.sort(key=lambda item: -float(item[1].median()))
        for place, (_, values) in enumerate(groups):
            colour = _COLOURS[place % len(_COLOURS)]
            ax.plot(values, [place] * len(values), "o", color=colour, alpha=0.7, markersize=6)
            ax.plot([values.median()] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2)
        ax.set_yticks(range(len(groups)), [f"{_short(name)} ({len(values)})" for name, values in groups])
        ax.set_ylim(-0.6, max(len(groups), 1) - 0.4)
        ax.set_xlim(left=0)
        return _or_nothing(ax, bool(groups), "no first token was timed")

    def gaps(self, by: str = "model", ax: Axes | None = None) -> Axes:
        """Draw the distribution of the gaps between chunks: the share that is at most so many seconds long."""
        rows = self._frame.llm.related_rows("chunks", by)
        rows = rows[(rows.chunk > 0) & rows.gap_s.notna()]
        ax = _axes(ax, "Gaps between chunks", "seconds, at most", "share of gaps")
        for place, (name, group) in enumerate(_groups(rows, by)):
            values = group.gap_s.astype(float).sort_values().clip(lower=0.0005)
            shares = [(number + 1) / len(values) for number in range(len(values))]
            label = f"{_short(name)} ({len(values)})"
            ax.step(values, shares, where="post", color=_COLOURS[place % len(_COLOURS)], label=label)
        if len(rows):
            ax.set_xscale("log")
            ax.set_ylim(0, 1.02)
            _legend(ax)
        return _or_nothing(ax, len(rows) > 0, "no gap was timed")

    def timeline(self, ax: Axes | None = None) -> Axes:
        """Draw the duration of each call, in the order of recording; a dot marks its first token."""
        frame = self._frame.dropna(subset=["recorded_at", "duration_s"]).sort_values("recorded_at", kind="stable")
        ax = _axes(ax, "Calls, the first on top", "seconds from sending")
        models = [str(name) for name in frame.model.unique()]
        colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(models)}
        for place, row in enumerate(frame.itertuples()):
            colour = colours[str(row.model)]
            ax.barh(place, float(row.duration_s), color=colour, alpha=0.75, height=0.7)
            if not pd.isna(row.ttft_s):
                ax.plot([float(row.ttft_s)], [place], "o", color=colour, markeredgecolor="white", markersize=6)
        if len(colours) > 1:
            for name, colour in colours.items():
                ax.plot([], [], "s", color=colour, label=_short(name))
            _legend(ax)
        ax.invert_yaxis()
        ax.set_yticks([])
        return _or_nothing(ax, len(frame) > 0, "no call was timed")

    def tokens(self, by: str = "model", ax: Axes | None = None) -> Axes:
        """Draw input and output tokens."""
        table = self._frame.llm.summary(by).dropna(subset=["input_tokens", "output_tokens"], how="all")
        ax = _axes(ax, "Tokens", "tokens")
        into = table.input_tokens.fillna(0).astype(float)
        out = table.output_tokens.fillna(0).astype(float)
        places = range(len(table))
        ax.barh(places, into, color=_COLOURS[0], label="input", height=0.6)
        ax.barh(places, out, left=into, color=_COLOURS[1], label="output", height=0.6)
        ax.set_yticks(places, [_short(name) for name in table.index])
        ax.invert_yaxis()
        if len(table):
            _legend(ax)
        return _or_nothing(ax, len(table) > 0, "no tokens were counted")

    def cost(
        self, prices: Mapping[str, Any] | pd.DataFrame | None = None, by: str = "model", ax: Axes | None = None
    ) -> Axes:
        """Draw the cost of the interactions, as `Metrics.cost` estimates it."""
        table = self._frame.llm.cost(prices, by).dropna(subset=["usd_estimate"])
        ax = _axes(ax, "Cost, estimated from list prices", "US dollars")
        ax.barh(range(len(table)), table.usd_estimate.astype(float), color=_COLOURS[2], height=0.6)
        names = [f"{_short(name)} ({row.priced} of {row.interactions})" for name, row in table.iterrows()]
        ax.set_yticks(range(len(table)), names)
        ax.invert_yaxis()
        return _or_nothing(ax, len(table) > 0, "no interaction has a price")


def _axes(ax: Axes | None, title: str, xlabel: str, ylabel: str = "") -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise OptionError("plots need matplotlib: pip install 'nbreplay[plot]'") from None
    if ax is None:
        figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
        figure.patch.set_alpha(0)
    ax.patch.set_alpha(0)
    ax.set_title(title, loc="left", color=_GREY, fontsize=11, pad=8)
    ax.set_xlabel(xlabel, color=_GREY)
    ax.set_ylabel(ylabel, color=_GREY)
    ax.tick_params(which="both", colors=_GREY)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GREY)
    ax.grid(axis="x", color=_GREY, alpha=0.25, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def _or_nothing(ax: Axes, drawn: bool, message: str) -> Axes:
    if not drawn:
        ax.text(0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", color=_GREY)
        ax.set_xticks([])
        ax.set_yticks([])
    return ax


def group_column(frame: pd.DataFrame, name: str) -> str:
    """Return the column to group a frame by."""
    for column in (GROUP + name, name):
        if column in frame.columns:
            return column
    raise OptionError(f"the frame has no column {name!r} to group by")


def _groups(frame: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    groups = frame.groupby(group_column(frame, by), observed=True, dropna=False)
    return [(str(name), group) for name, group in groups]


def _legend(ax: Axes) -> None:
    # Above the axes, so that it covers no bar.
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    ax.legend(frameon=False, labelcolor=_GREY, fontsize=9, ncols=3, **place)


def _short(name: object) -> str:
    # matplotlib reads $ as mathematics, and a name in a recording may have any length.
    text = str(name).replace("$", r"\$").replace("\n", " ")
    return text if len(text) <= 32 else text[:31] + "…"
