"""Plots of frames: one style, legible on light and on dark pages. Needs matplotlib, which is an extra."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from nbreplay.analysis.groups import By, group_name, list_groups, require_columns
from nbreplay.analysis.pandas import pd
from nbreplay.core.words import suggest
from nbreplay.errors import OptionError
from nbreplay.notebook.escape import plain
from nbreplay.prices import PriceTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["duration", "ttft", "throughput", "gaps", "timeline", "tokens", "cost"]
KINDS: tuple[Kind, ...] = ("duration", "ttft", "throughput", "gaps", "timeline", "tokens", "cost")
"""The methods of `Plots`, which are also the values of ``plot(kind=…)``."""

# A plot has no background: its text has a contrast of about 4 with JupyterLab's white and with its black, and its
# colours are distinct to the colour-blind.
_COLOURS = ("#3b82c4", "#d97706", "#2a9d6f", "#c2528b", "#8b7bd8")
_GREY = "#7f7f7f"
_LIGHTER = (
    "#808080"  # of one axis: if all ticks were dark, or all light, IPython would put a white or black page behind
)
_ROWS = 25  # of a plot with a row per group; the smaller groups share the last one
_WIDTH = 36  # characters of a line of a name


class Plots:
    """``frame.llm.plot``: plots of interactions, chunks or tool calls.

    ``plot()`` draws what fits the frame, and ``plot(kind="ttft")`` is
    ``plot.ttft()``. Each method takes `by`, as `Metrics.summary` does, and
    `ax`, the matplotlib axes to draw into, and returns the axes. Values that
    were not recorded are not drawn.

    Examples
    --------
    >>> ax = lib.interactions.llm.plot()
    >>> ax.get_title(loc="left")
    'Duration of answers'
    >>> ax = lib.interactions.llm.plot.ttft(by="provider")
    >>> ax.figure.savefig("ttft.svg")
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        return f"<plots of {len(self._frame):,} rows: plot(kind=…, by=…, ax=…) with kind {', '.join(KINDS)}>"

    def __call__(self, kind: Kind | None = None, **options: Any) -> Axes:
        """Draw one kind of plot.

        Parameters
        ----------
        kind : str, optional
            duration, ttft, throughput, gaps, timeline, tokens or cost. If not
            given, gaps of chunks, and duration of interactions and tool calls.
        **options
            `by`, `ax` and whatever else the method of that name takes.

        Raises
        ------
        OptionError
            For another `kind`, or without matplotlib.
        """
        if kind is None:
            kind = "gaps" if "gap_s" in self._frame.columns else "duration"
        if kind not in KINDS:
            raise OptionError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}.{suggest(kind, KINDS)}")
        axes: Axes = getattr(self, kind)(**options)
        return axes

    def duration(self, by: By = "model", ax: Axes | None = None) -> Axes:
        """Draw the seconds from request to end; of tool calls, of the tools."""
        if "arguments_valid" not in self._frame.columns:
            return self._strips("duration_s", by, ax, "Duration of answers", "seconds", "no answer was timed")
        rows, names = self._frame.llm._related_rows("tool_calls", "name" if by == "model" else by)
        return _strips(rows, names, "duration_s", ax, "Duration of tool calls", "seconds", "no tool call was timed")

    def ttft(self, by: By = "model", ax: Axes | None = None) -> Axes:
        """Draw the seconds to the first token: dots, and a line at the median."""
        return self._strips("ttft_s", by, ax, "Time to the first token", "seconds", "no first token was timed")

    def throughput(self, by: By = "model", ax: Axes | None = None) -> Axes:
        """Draw the output tokens per second: dots, and a line at the median."""
        frame = require_columns(self._frame, "output_tokens", "duration_s")
        rate = frame.output_tokens / frame.duration_s.where(frame.duration_s > 0)
        plots = Plots(self._frame.assign(tokens_per_s=rate.array))
        return plots._strips("tokens_per_s", by, ax, "Throughput", "output tokens per second", "no tokens were timed")

    def _strips(self, column: str, by: By, ax: Axes | None, title: str, unit: str, nothing: str) -> Axes:
        rows, names = self._frame.llm._keyed_rows(by, column)
        return _strips(rows, names, column, ax, title, unit, nothing)

    def gaps(self, by: By = "model", ax: Axes | None = None) -> Axes:
        """Draw the share of gaps between chunks that are at most so long."""
        rows, names = self._frame.llm._related_rows("chunks", by)
        rows = rows[(rows.chunk > 0) & rows.gap_s.notna()]
        groups = _largest([(name, group.gap_s) for name, group in list_groups(rows, names)], len(_COLOURS))
        ax = _axes(ax, "Gaps between chunks", "seconds, at most", "share of gaps")
        for place, (name, gaps) in enumerate(groups):
            values = gaps.astype(float).sort_values().clip(lower=0.0005)
            shares = [(number + 1) / len(values) for number in range(len(values))]
            ax.step(values, shares, where="post", color=_colour(place), label=_label(name, len(values)))
        if groups:
            _set_logarithmic(ax)
            ax.set_ylim(0, 1.02)
            _legend(ax, names)
        return _or_nothing(ax, bool(groups), "no gap was timed")

    def timeline(self, by: By = "model", ax: Axes | None = None) -> Axes:
        """Draw each call's duration, as recorded; a dot is its first token."""
        frame, names = self._frame.llm._keyed_rows(by, "recorded_at", "duration_s", "ttft_s")
        frame = frame.dropna(subset=["recorded_at", "duration_s"]).sort_values("recorded_at", kind="stable")
        frame = frame.assign(_place=range(len(frame)))
        groups = _largest(list_groups(frame, names), len(_COLOURS))
        height = min(6.0, max(2.0, 1.2 + 0.16 * len(frame)))
        ax = _axes(ax, "Calls in the order of recording", "seconds from sending the request", "", height)
        row = ax.get_window_extent().height * 72 / ax.figure.dpi / max(len(frame), 6)  # points
        for place, (name, group) in enumerate(groups):
            ends = group.duration_s.astype(float)
            width = min(14.0, 0.7 * row)
            ax.hlines(group._place, 0, ends, colors=_colour(place), linewidth=width, label=_label(name, len(group)))
            first = group.dropna(subset=["ttft_s"])
            dots = ax.scatter(first.ttft_s.astype(float), first._place, s=min(36.0, row**2), color=_colour(place))
            dots.set(edgecolor="white", linewidth=min(1.0, row / 14), zorder=3)
        if len(groups) > 1:
            _legend(ax, names)
        ax.set_ylim(len(frame) - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.set_yticks([0], [""])
        ax.tick_params(axis="y", length=0)
        return _or_nothing(ax, bool(groups), "no call was timed")

    def tokens(self, by: By = "model", ax: Axes | None = None) -> Axes:
        """Draw input and output tokens."""
        table = self._frame.llm.summary(by).dropna(subset=["input_tokens", "output_tokens"], how="all")
        table = table[["input_tokens", "output_tokens"]].fillna(0).astype(float)
        sides = (("input_tokens", "input"), ("output_tokens", "output"))
        ax = _bars(table, sides, ax, "Tokens", "tokens")
        return _or_nothing(ax, len(table) > 0, "no tokens were counted")

    def cost(self, prices: PriceTable | pd.DataFrame | None = None, by: By = "model", ax: Axes | None = None) -> Axes:
        """Draw the cost of the interactions, as `Metrics.cost` estimates it."""
        table = self._frame.llm.cost(prices, by).dropna(subset=["usd_estimate"])
        counts = [f"{priced:,} of {count:,}" for priced, count in zip(table.priced, table.interactions, strict=True)]
        sides = (("usd_estimate", ""),)
        ax = _bars(table[["usd_estimate"]].astype(float), sides, ax, "Cost by list prices", "US dollars", counts)
        return _or_nothing(ax, len(table) > 0, "no interaction has a price")


def _strips(
    rows: pd.DataFrame, names: Sequence[str], column: str, ax: Axes | None, title: str, unit: str, nothing: str
) -> Axes:
    """Draw a row per group: a dot per value, a line at the median; the group with the highest median on top."""
    rows = rows.dropna(subset=[column])
    groups = _largest([(name, group[column].astype(float)) for name, group in list_groups(rows, names)], _ROWS)
    groups = sorted(groups[:_ROWS], key=lambda item: -float(item[1].median())) + groups[_ROWS:]
    labels = [_label(name, len(values)) for name, values in groups]
    ax = _axes(ax, title, unit, _list(names), _height(labels))
    centres = _set_rows(ax, labels)
    for place, (centre, (_, values)) in enumerate(zip(centres, groups, strict=True)):
        many, colour = len(values) > 100, _colour(place, _ROWS)
        style: dict[str, Any] = {"alpha": 0.3 if many else 0.7, "markersize": 4 if many else 6, "markeredgewidth": 0}
        ax.plot(values, [centre] * len(values), "o", color=colour, **style)
        ax.plot([values.median()] * 2, [centre - 0.6, centre + 0.6], color=colour, linewidth=2.5)
    ax.set_xlim(left=0)
    return _or_nothing(ax, bool(groups), nothing)


def _bars(
    table: pd.DataFrame,
    sides: Sequence[tuple[str, str]],
    ax: Axes | None,
    title: str,
    unit: str,
    counts: Sequence[str] = (),
) -> Axes:
    """Draw a row per group, of one bar for each side on end; the longest on top."""
    names = [name for name in table.index.names if name is not None]  # none of one group of all
    labels = [_label(group_name(label, names), *counts[at : at + 1]) for at, label in enumerate(table.index)]
    order = table.sum(axis=1).argsort(kind="stable")[::-1]
    rest, (table, labels) = table.iloc[order[_ROWS:]], (table.iloc[order[:_ROWS]], [labels[at] for at in order[:_ROWS]])
    if len(rest):
        unit += f" (not shown: {len(rest):,} smaller groups, {rest.sum().sum():,.6g} in all)"
    ax = _axes(ax, title, unit, _list(names), _height(labels))
    centres, left = _set_rows(ax, labels), [0.0] * len(table)
    for place, (column, label) in enumerate(sides):
        ax.barh(centres, table[column], left=left, color=_COLOURS[place], label=label, height=1.2)
        left = [start + size for start, size in zip(left, table[column], strict=True)]
    if len(table) and len(sides) > 1:
        _legend(ax)
    ax.set_xlim(left=0)
    return ax


def _largest(groups: list[tuple[str, Any]], most: int) -> list[tuple[str, Any]]:
    """Return groups, the largest first; if there are more than so many, the others are joined in a last one."""
    groups = sorted(groups, key=lambda item: -len(item[1]))
    if len(groups) <= most:
        return groups
    others = pd.concat([rows for _, rows in groups[most:]])
    return [*groups[:most], (f"{len(groups) - most:,} others", others)]


def _axes(ax: Axes | None, title: str, xlabel: str, ylabel: str = "", height: float = 3.0) -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise OptionError("plots need matplotlib: pip install 'nbreplay[plot]'") from None
    if ax is None:
        figure, ax = plt.subplots(figsize=(8, height), layout="constrained")
        figure.patch.set_alpha(0)
    ax.patch.set_alpha(0)
    ax.set_title(title, loc="left", color=_GREY, fontsize=11, pad=8)
    ax.set_xlabel(xlabel, color=_GREY)
    ax.set_ylabel(ylabel, color=_GREY)
    ax.tick_params(which="both", colors=_GREY)
    ax.tick_params(axis="y", which="both", colors=_LIGHTER)
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


def _set_rows(ax: Axes, labels: Sequence[str]) -> list[float]:
    """Label the rows, the first on top. Return the middle of each; the unit is a line of text."""
    heights = [_lines(label) for label in labels]
    ends = list(itertools.accumulate(heights))
    centres = [end - height / 2 for end, height in zip(ends, heights, strict=True)]
    ax.set_yticks(centres, labels)
    ax.set_ylim(ends[-1] if ends else 1, 0)
    ax.locator_params(axis="x", nbins=7)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    return centres


def _set_logarithmic(ax: Axes) -> None:
    from matplotlib.ticker import LogLocator

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")


def _lines(label: str) -> float:
    return max(2.0, 1.7 + label.count("\n"))


def _height(labels: Sequence[str]) -> float:
    """Return the inches that a figure of these rows needs."""
    return 1.2 + max(0.5, 0.16 * sum(map(_lines, labels)))


def _legend(ax: Axes, names: Sequence[str] = ()) -> None:
    # Beside the axes, so that it covers neither the title nor what is drawn, however long its names are.
    place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02)}
    legend = ax.legend(frameon=False, labelcolor=_GREY, fontsize=9, handlelength=1, title=_list(names) or None, **place)
    legend.set_alignment("left")
    legend.get_title().set(color=_GREY, fontsize=9)


def _list(names: Sequence[str]) -> str:
    return plain(", ".join(names)).replace("$", r"\$")


def _colour(place: int, most: int = len(_COLOURS)) -> str:
    """Return the colour of a group; grey for the one that joins the others."""
    return _GREY if place >= most else _COLOURS[place % len(_COLOURS)]


def _label(name: str, count: int | str | None = None) -> str:
    """Return the name of a group on one line or several, and how many values it has."""
    name, lines, line = plain(name), [], ""
    name = name if len(name) <= 4 * _WIDTH else name[: 4 * _WIDTH] + "…"
    for part in re.split(r"(?<=[/:_.@ -])", name):
        if line and len(line) + len(part) > _WIDTH:
            lines.append(line)
            line = ""
        line += part
        while len(line) > _WIDTH:
            lines.append(line[:_WIDTH])
            line = line[_WIDTH:]
    text = "\n".join([*lines, line]).rstrip().replace("$", r"\$")  # matplotlib reads $ as mathematics
    shown = f"{count:,}" if isinstance(count, int) else count
    return text if shown is None else f"{text} ({shown})"
