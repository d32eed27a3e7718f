"""Metrics: the `.llm` accessor of frames. Knows frames alone, not recordings.

A value that was not recorded is absent, never 0, and every figure comes with the number of interactions behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import OPERATIONS, OTEL
from nbreplay.analysis.frames import FrameSource
from nbreplay.analysis.plots import GROUP, Plots, group_column
from nbreplay.errors import OptionError
from nbreplay.prices import UNKNOWN, Cost, Price, packaged_prices

By = str | Sequence[str] | None
_MILLION = 1_000_000


class _Link(str):
    """The library of a frame, in its ``attrs``. A text, so that a frame with it can be written to any format."""

    library: FrameSource

    __slots__ = ("library",)

    def __eq__(self, other: object) -> bool:  # two libraries are never the same one
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Link:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def link_to_library(frame: pd.DataFrame, library: FrameSource) -> pd.DataFrame:
    """Have a frame know its library, in which its ``.llm`` finds chunks and tool calls."""
    link = _Link(repr(library))
    link.library = library
    frame.attrs["nbreplay"] = link
    return frame


def library_of(frame: pd.DataFrame) -> FrameSource | None:
    """Return the library that `link_to_library` gave a frame; None where pandas has lost it."""
    link = frame.attrs.get("nbreplay")
    return link.library if isinstance(link, _Link) else None


@pd.api.extensions.register_dataframe_accessor("llm")
class Metrics:
    """``frame.llm``: times, tokens, costs and tool calls of interactions.

    A method uses the rows of its frame alone, filtered or not; `gaps` and `tool_success` of interactions look up the
    chunks and tool calls of these. ``by`` is a column, several, or None for one row.

    Examples
    --------
    >>> lib = nbreplay.load("recordings")
    >>> lib.interactions.llm.summary()
    >>> lib.interactions.query("stream").llm.ttft(by="provider")
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    @property
    def plot(self) -> Plots:
        """Plots, which need matplotlib: ``pip install 'nbreplay[plot]'``."""
        return Plots(self._frame)

    def summary(self, by: By = "model") -> pd.DataFrame:
        """Return a row per group: how many interactions there are, how many failed or were cut short, tokens, times."""
        frame = self._with("interaction", "error_type", "complete", "input_tokens", "output_tokens", "duration_s")
        frame = frame.assign(_failed=frame.error_type.notna(), _cut=~frame.complete.fillna(True))
        groups = _groups(frame, by)
        columns = {
            "interactions": groups.size(),
            "failed": groups["_failed"].sum(),
            "cut_short": groups["_cut"].sum(),
        }
        for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "n_tool_calls"):
            # No sum where nothing was counted.
            columns[name] = groups[name].sum(min_count=1)
        for name in ("ttft_s", "duration_s"):
            columns[f"{name}_median"] = groups[name].median()
            columns[f"{name}_p90"] = groups[name].quantile(0.9)
        columns["duration_s_total"] = groups["duration_s"].sum(min_count=1)
        return _table(columns, by, "interactions")

    def ttft(self, by: By = "model") -> pd.DataFrame:
        """Return the seconds to the first token: a row per group, the slowest median first."""
        frame = self._with("ttft_s").dropna(subset=["ttft_s"])
        return _table(_spread(_groups(frame, by)["ttft_s"]), by, "median")

    def gaps(self, by: By = "model", *, stall: float = 1.0) -> pd.DataFrame:
        """Return the pauses between the chunks of streams.

        Parameters
        ----------
        by : str, sequence of str, or None
            Columns of the interactions; of a frame of chunks without a library, its own.
        stall : float
            A gap of more seconds than this is a stall.

        Returns
        -------
        pandas.DataFrame
            A row per group: streams, gaps, median, p99, max, stalls, stalled_s.
        """
        frame = self.related_rows("chunks", by)
        # The gap of the first chunk is the wait for the answer to begin.
        frame = frame[(frame.chunk > 0) & frame.gap_s.notna()]
        frame = frame.assign(_stall=frame.gap_s > stall, _stalled=frame.gap_s.where(frame.gap_s > stall, 0.0))
        groups = _groups(frame, by)
        spread = _spread(groups["gap_s"])
        columns = {
            "streams": groups["interaction"].nunique(),
            "gaps": groups.size(),
            "median": spread["median"],
            "p99": spread["p99"],
            "max": spread["max"],
            "stalls": groups["_stall"].sum(),
            "stalled_s": groups["_stalled"].sum(),
        }
        return _table(columns, by, "p99")

    def throughput(self, by: By = "model") -> pd.DataFrame:
        """Return output tokens per second: of all interactions, and of streams after their first token."""
        frame = self._with("output_tokens", "duration_s", "ttft_s").dropna(subset=["output_tokens", "duration_s"])
        frame = frame[frame.duration_s > 0]
        after = (frame.duration_s - frame.ttft_s).where(frame.duration_s > frame.ttft_s)
        frame = frame.assign(_after=after, _streamed=frame.output_tokens.where(after.notna()))
        frame = frame.assign(_rate=frame.output_tokens / frame.duration_s)
        groups = _groups(frame, by)
        tokens, seconds = groups["output_tokens"].sum(), groups["duration_s"].sum()
        columns = {
            "interactions": groups.size(),
            "output_tokens": tokens,
            "seconds": seconds,
            "tokens_per_s": tokens / seconds,
            "median_tokens_per_s": groups["_rate"].median(),
            "after_first_token_per_s": groups["_streamed"].sum(min_count=1) / groups["_after"].sum(min_count=1),
        }
        return _table(columns, by, "tokens_per_s")

    def cost(self, prices: Mapping[str, Any] | pd.DataFrame | None = None, by: By = "model") -> pd.DataFrame:
        """Return an estimate of the cost of the interactions, in US dollars: tokens times list prices.

        Parameters
        ----------
        prices : mapping or DataFrame, optional
            By model: dollars per million tokens of ``input`` and ``output``, and of ``cached`` input where it is
            cheaper; ``{"gpt-4o": {"input": 2.5, "output": 10}}`` or ``{"gpt-4o": (2.5, 10)}``. If not given, those of
            the genai-prices package: ``pip install 'nbreplay[prices]'``.
        by : str, sequence of str, or None

        Returns
        -------
        pandas.DataFrame
            A row per group: interactions, how many of them have a price, and the estimate; NA where none has.

        Raises
        ------
        OptionError
            For `prices` of another shape; without any, where the package is not installed.
        """
        frame = self._with("kind", "model", "response_model", "provider", "input_tokens", "output_tokens")
        into, out = _costs(frame, prices)
        frame = frame.assign(_in=into, _out=out, _priced=into.notna() & out.notna())
        groups = _groups(frame, by)
        into, out = groups["_in"].sum(min_count=1), groups["_out"].sum(min_count=1)
        columns = {
            "interactions": groups.size(),
            "priced": groups["_priced"].sum(),
            "input_usd_estimate": into,
            "output_usd_estimate": out,
            "usd_estimate": into + out,
        }
        return _table(columns, by, "usd_estimate")

    def tool_success(self, by: By = "name") -> pd.DataFrame:
        """Return how tool calls went: a row per tool, or per group by columns of the tool calls or interactions."""
        frame = self.related_rows("tool_calls", by)
        failed = frame.error_type.notna()
        frame = frame.assign(_failed=failed, _invalid=~frame.arguments_valid, _ok=frame.answered & ~failed)
        groups = _groups(frame, by)
        answered, succeeded = groups["answered"].sum(), groups["_ok"].sum()
        columns = {
            "calls": groups.size(),
            "answered": answered,
            "succeeded": succeeded,
            "failed": groups["_failed"].sum(),
            "invalid_arguments": groups["_invalid"].sum(),
            "success": (succeeded / answered).where(answered > 0),
            "duration_s_median": groups["duration_s"].median(),
        }
        return _table(columns, by, "calls")

    def otel(self) -> pd.DataFrame:
        """Return the frame with OpenTelemetry's GenAI names for columns and operations."""
        frame = self._frame.copy()
        if "kind" in frame and "model" in frame:
            frame["kind"] = frame["kind"].map(lambda kind: OPERATIONS.get(kind, kind)).astype("category")
        return frame.rename(columns={name: OTEL.get(name, f"nbreplay.{name}") for name in frame.columns})

    def related_rows(self, name: str, by: By) -> pd.DataFrame:
        """Return the rows of another frame that belong to these interactions, with the columns to group them by."""
        own, library = self._frame, library_of(self._frame)
        if {"chunks": "gap_s", "tool_calls": "arguments_valid"}[name] in own.columns:
            frame = own
            interactions = None if library is None else library.frame("interactions")
        elif library is not None:
            interactions = own.set_index("interaction") if "interaction" in own.columns else own
            every = library.frame(name)
            frame = every[every.interaction.isin(interactions.index)]
        else:
            raise OptionError(f"the frame has lost its link to the recordings. Use .llm of lib.{name}")
        for column in _names(by):
            # Grouped by a column of the interactions, even where the other frame has one of the same name.
            if interactions is None or column not in interactions.columns:
                continue
            if frame is not own or column not in frame.columns:
                values = interactions[column].reindex(frame.interaction.astype(object))
                frame = frame.assign(**{GROUP + column: values.array})
        return frame

    def _with(self, *names: str) -> pd.DataFrame:
        frame = self._frame.reset_index() if self._frame.index.name == "interaction" else self._frame
        missing = [name for name in names if name not in frame.columns]
        if missing:
            raise OptionError(f"the frame has no column {', '.join(missing)}. Use lib.interactions, or rows of it")
        return frame


def _groups(frame: pd.DataFrame, by: By) -> Any:
    names = [group_column(frame, name) for name in _names(by)]
    # Rows without a value are a group of their own: nothing is left out of a sum.
    return frame.groupby(names or (lambda _: "all"), observed=True, dropna=False)


def _table(columns: Mapping[str, Any], by: By, order: str) -> pd.DataFrame:
    table = pd.DataFrame(dict(columns))
    if by is not None:
        table.index.names = _names(by)
    return table.sort_values(order, ascending=False, kind="stable")


def _names(by: By) -> list[str]:
    return [] if by is None else [by] if isinstance(by, str) else list(by)


def _spread(values: Any) -> dict[str, Any]:
    return {
        "interactions": values.count(),
        "mean": values.mean(),
        "median": values.median(),
        "p90": values.quantile(0.9),
        "p99": values.quantile(0.99),
        "max": values.max(),
    }


def _costs(frame: pd.DataFrame, prices: Mapping[str, Any] | pd.DataFrame | None) -> tuple[pd.Series, pd.Series]:
    """Return the costs of input and output of each interaction, in dollars; NA where tokens or price are unknown."""
    price = packaged_prices() if prices is None else _price_table(prices)
    if price is None:
        raise OptionError(
            "cost needs prices. Pass a table, cost({'gpt-4o': {'input': 2.5, 'output': 10}}), or install one: "
            "pip install 'nbreplay[prices]'"
        )
    names = ("kind", "model", "response_model", "provider", "input_tokens", "output_tokens", "cached_tokens")
    costs = []
    for row in zip(*(frame[name].astype(object).where(frame[name].notna(), None) for name in names), strict=True):
        kind, model, answering, provider, into, out, cached = row
        if kind == "embedding" and out is None:  # an embedding has no output tokens
            out = 0
        has_tokens = into is not None and out is not None
        costs.append(price(model, answering, provider, into, out, min(cached or 0, into)) if has_tokens else UNKNOWN)
    into, out = (pd.Series([cost[side] for cost in costs], index=frame.index, dtype="Float64") for side in (0, 1))
    return into, out


def _price_table(prices: Mapping[str, Any] | pd.DataFrame) -> Price:
    rows = prices.to_dict("index") if isinstance(prices, pd.DataFrame) else prices
    if not isinstance(rows, Mapping):
        raise OptionError(f"prices must be a dict or a DataFrame by model, not {type(prices).__name__}")
    table = {model: _price_row(model, row) for model, row in rows.items()}

    def price(model: Any, answering: Any, _: Any, into: int, out: int, cached: int) -> Cost:
        row = table.get(model) or table.get(answering)
        if row is None:
            return UNKNOWN
        per_input, per_output, per_cached = row
        return ((into - cached) * per_input + cached * per_cached) / _MILLION, out * per_output / _MILLION

    return price


def _price_row(model: Any, row: Any) -> tuple[float, float, float]:
    named = row
    if isinstance(row, tuple | list) and len(row) in (2, 3):
        named = dict(zip(("input", "output", "cached"), row, strict=False))
    if isinstance(named, Mapping) and not {*named} - {"input", "output", "cached"} and "input" in named:
        cached = named.get("cached")
        cached = named["input"] if cached is None or cached != cached else cached
        numbers = named["input"], named.get("output", 0.0), cached
        if all(isinstance(one, int | float) and math.isfinite(one) and one >= 0 for one in numbers):
            return numbers
    raise OptionError(
        f"the price of {model!r} is {row!r}. Pass {{'input': 2.5, 'output': 10}}, in dollars per million tokens, "
        "and 'cached' where cached input is cheaper"
    )
