"""Metrics: the `.llm` accessor of frames. Knows frames alone, not recordings.

A value that was not recorded is absent, never 0, and every figure comes with the number of interactions behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbreplay.analysis.columns import OPERATIONS, OTEL
from nbreplay.analysis.costs import PRICED, estimate_costs
from nbreplay.analysis.frames import FrameSource
from nbreplay.analysis.groups import By, add_keys, group_rows, group_table, require_columns
from nbreplay.analysis.pandas import pd, register_accessor
from nbreplay.analysis.plots import Plots
from nbreplay.errors import OptionError
from nbreplay.prices import PriceTable

if TYPE_CHECKING:

    class Frame(pd.DataFrame):  # type: ignore[misc]
        """A frame of a library to type checkers and editors, which do not see accessors; to Python, a DataFrame."""

        @property
        def llm(self) -> Metrics:
            """Times, tokens, costs and tool calls."""


_SUMS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "n_tool_calls")
_TIMES = ("ttft_s", "duration_s")


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


def link_to_library(frame: pd.DataFrame, library: FrameSource) -> Frame:
    """Have a frame know its library, in which its ``.llm`` finds chunks and tool calls."""
    link = _Link(repr(library))
    link.library = library
    frame.attrs["nbreplay"] = link
    linked: Frame = frame
    return linked


def library_of(frame: pd.DataFrame) -> FrameSource | None:
    """Return the library that `link_to_library` gave a frame; None where pandas has lost it."""
    link = frame.attrs.get("nbreplay")
    return link.library if isinstance(link, _Link) else None


@register_accessor("llm")
class Metrics:
    """``frame.llm``: times, tokens, costs and tool calls of interactions.

    A method uses the rows of its frame alone, filtered or not; `gaps` and
    `tool_success` of interactions look up the chunks and tool calls of these.
    ``by`` is what pandas groups by: a column, several, a series of the frame,
    a `pandas.Grouper`, a function of the frame, or None for one row.

    Examples
    --------
    >>> lib = nbreplay.load("recordings")
    >>> lib.interactions.llm.ttft()["median"]
    model
    claude-sonnet-4-5    0.4
    gpt-4o               0.1
    Name: median, dtype: Float64
    >>> final = lib.interactions.query("n_tool_calls == 0")
    >>> final.llm.summary(by="provider").interactions
    provider
    openai           2
    anthropic        1
    (no provider)    1
    Name: interactions, dtype: int64
    >>> axes = lib.interactions.llm.plot()
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        return f"<.llm of {len(self._frame):,} rows: summary, ttft, gaps, throughput, cost, tool_success, plot, otel>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from nbreplay.analysis.overviews import metrics_overview

        return metrics_overview(self, self._frame)

    @property
    def plot(self) -> Plots:
        """Plots, which need matplotlib: ``pip install 'nbreplay[plot]'``."""
        return Plots(self._frame)

    def summary(self, by: By = "model") -> pd.DataFrame:
        """Return a row per group: interactions, failures, tokens and times.

        Parameters
        ----------
        by : column, Series, pandas.Grouper, callable, a list of those, or None
            Rows without a value are the group ``(no NAME)``. By model, all
            tools are the group ``(tools)``.

        Returns
        -------
        pandas.DataFrame
            The biggest group first. Sums are NA where nothing was counted.
            Columns in ``_s`` are seconds, ``cost_usd`` is US dollars.

        Examples
        --------
        >>> llm = lib.interactions.llm
        >>> llm.summary()[["interactions", "output_tokens", "duration_s_median"]]
                           interactions  output_tokens  duration_s_median
        model
        gpt-4o                        3             15               0.25
        (tools)                       1           <NA>               0.25
        claude-sonnet-4-5             1             15                1.6
        >>> llm.summary(["kind", "status"]).failed
        kind  status
        chat  200       0
              529       1
        tool  200       0
        Name: failed, dtype: int64
        >>> month = pd.Grouper(key="recorded_at", freq="MS")
        >>> llm.summary(month).output_tokens
        recorded_at
        2026-01-01 00:00:00+00:00    30
        Name: output_tokens, dtype: Int64
        >>> llm.summary(lambda calls: calls.prompt.str.len() > 15).interactions
        prompt
        True     3
        False    2
        Name: interactions, dtype: int64
        """
        rows, names = self._keyed_rows(by, "error_type", "complete", *_SUMS, *_TIMES)
        rows = rows.assign(_failed=rows.error_type.notna(), _cut=~rows.complete.fillna(True))
        groups = group_rows(rows, names)
        columns = {
            "interactions": groups.size(),
            "failed": groups["_failed"].sum(),
            "cut_short": groups["_cut"].sum(),
        }
        for name in (*_SUMS, *({"cost_usd"} & {*rows.columns})):
            # No sum where nothing was counted.
            columns[name] = groups[name].sum(min_count=1)
        for name in _TIMES:
            columns[f"{name}_median"] = groups[name].median()
            columns[f"{name}_p90"] = groups[name].quantile(0.9)
        columns["duration_s_total"] = groups["duration_s"].sum(min_count=1)
        return group_table(columns, names, "interactions")

    def ttft(self, by: By = "model") -> pd.DataFrame:
        """Return the seconds to the first token, the slowest group first.

        Examples
        --------
        >>> lib.interactions.llm.ttft().round(2)
                           interactions  mean  median  p90  p99  max
        model
        claude-sonnet-4-5             1   0.4     0.4  0.4  0.4  0.4
        gpt-4o                        2   0.1     0.1  0.1  0.1  0.1
        """
        rows, names = self._keyed_rows(by, "ttft_s")
        return group_table(_spread(group_rows(rows.dropna(subset=["ttft_s"]), names)["ttft_s"]), names, "median")

    def gaps(self, by: By = "model", *, stall: float = 1.0) -> pd.DataFrame:
        """Return the pauses between the chunks of streams.

        Parameters
        ----------
        by : str, sequence of str, or None
            As in `summary`: of the interactions; of a frame of chunks, of
            its own, too.
        stall : float
            A gap of more seconds than this is a stall.

        Returns
        -------
        pandas.DataFrame
            A row per group: streams, gaps, median, p99, max, stalls, stalled_s.

        Examples
        --------
        >>> gaps = lib.interactions.llm.gaps(stall=0.3)
        >>> gaps[["streams", "gaps", "stalls", "stalled_s"]]
                           streams  gaps  stalls  stalled_s
        model
        claude-sonnet-4-5        1     3       3        1.2
        gpt-4o                   2     3       0        0.0
        """
        frame, names = self._related_rows("chunks", by)
        # The gap of the first chunk is the wait for the answer to begin.
        frame = frame[(frame.chunk > 0) & frame.gap_s.notna()]
        frame = frame.assign(_stall=frame.gap_s > stall, _stalled=frame.gap_s.where(frame.gap_s > stall, 0.0))
        groups = group_rows(frame, names)
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
        return group_table(columns, names, "p99")

    def throughput(self, by: By = "model") -> pd.DataFrame:
        """Return output tokens per second, also of streams after their first.

        Examples
        --------
        >>> rates = lib.interactions.llm.throughput()
        >>> rates[["output_tokens", "seconds", "tokens_per_s"]]
                           output_tokens  seconds  tokens_per_s
        model
        gpt-4o                        15      0.5          30.0
        claude-sonnet-4-5             15      1.6         9.375
        """
        frame, names = self._keyed_rows(by, "output_tokens", "duration_s", "ttft_s")
        frame = frame.dropna(subset=["output_tokens", "duration_s"]).query("duration_s > 0")
        after = (frame.duration_s - frame.ttft_s).where(frame.duration_s > frame.ttft_s)
        frame = frame.assign(_after=after, _streamed=frame.output_tokens.where(after.notna()))
        frame = frame.assign(_rate=frame.output_tokens / frame.duration_s)
        groups = group_rows(frame, names)
        tokens, seconds = groups["output_tokens"].sum(), groups["duration_s"].sum()
        columns = {
            "interactions": groups.size(),
            "output_tokens": tokens,
            "seconds": seconds,
            "tokens_per_s": tokens / seconds,
            "median_tokens_per_s": groups["_rate"].median(),
            "after_first_token_per_s": groups["_streamed"].sum(min_count=1) / groups["_after"].sum(min_count=1),
        }
        return group_table(columns, names, "tokens_per_s")

    def cost(self, prices: PriceTable | pd.DataFrame | None = None, by: By = "model") -> pd.DataFrame:
        """Return an estimate of the cost, in US dollars: tokens times prices.

        Parameters
        ----------
        prices : mapping or DataFrame, optional
            By model: dollars per million tokens of ``input`` and ``output``,
            and of ``cached`` input where it is cheaper, or a tuple of those.
            If not given, the list prices of the genai-prices package:
            ``pip install 'nbreplay[prices]'``.
        by : str, sequence of str, or None

        Returns
        -------
        pandas.DataFrame
            A row per group: interactions, how many of them have a price, and
            the estimate; NA where none has.

        Raises
        ------
        OptionError
            For `prices` of another shape; without any, where the package is
            not installed.

        Examples
        --------
        >>> prices = {"gpt-4o": {"input": 2.5, "output": 10},
        ...           "claude-sonnet-4-5": (3, 15)}
        >>> lib.interactions.llm.cost(prices).usd_estimate
        model
        claude-sonnet-4-5    0.000285
        gpt-4o                0.00025
        (tools)                  <NA>
        Name: usd_estimate, dtype: Float64
        """
        frame, names = self._keyed_rows(by, *PRICED)
        into, out = estimate_costs(frame, prices)
        frame = frame.assign(_in=into, _out=out, _priced=into.notna() & out.notna())
        groups = group_rows(frame, names)
        into, out = groups["_in"].sum(min_count=1), groups["_out"].sum(min_count=1)
        columns = {
            "interactions": groups.size(),
            "priced": groups["_priced"].sum(),
            "input_usd_estimate": into,
            "output_usd_estimate": out,
            "usd_estimate": into + out,
        }
        return group_table(columns, names, "usd_estimate")

    def tool_success(self, by: By = "name") -> pd.DataFrame:
        """Return how tool calls went, a row per tool.

        `by` is of the tool calls, or of the interactions that they belong to.

        Examples
        --------
        >>> tools = lib.tool_calls.llm.tool_success()
        >>> tools[["calls", "success", "duration_s_median"]]
                     calls  success  duration_s_median
        name
        get_weather      1      1.0               0.25
        """
        frame, names = self._related_rows("tool_calls", by)
        failed = frame.error_type.notna()
        frame = frame.assign(_failed=failed, _invalid=~frame.arguments_valid, _ok=frame.answered & ~failed)
        groups = group_rows(frame, names)
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
        return group_table(columns, names, "calls")

    def otel(self) -> pd.DataFrame:
        """Return the frame with OpenTelemetry's GenAI names for columns and operations.

        Examples
        --------
        >>> list(lib.interactions.llm.otel().columns[2:4])
        ['gen_ai.operation.name', 'gen_ai.request.model']
        """
        frame = self._frame.copy()
        if "kind" in frame and "model" in frame:
            frame["kind"] = frame["kind"].map(lambda kind: OPERATIONS.get(kind, kind)).astype("category")
        return frame.rename(columns={name: OTEL.get(name, f"nbreplay.{name}") for name in frame.columns})

    def _keyed_rows(self, by: By, *names: str) -> tuple[pd.DataFrame, list[str]]:
        """Return the rows, which must have these columns, and the keys to group them by."""
        return add_keys(require_columns(self._frame, *names), by)

    def _related_rows(self, name: str, by: By = None) -> tuple[pd.DataFrame, list[str]]:
        """Return the chunks or tool calls of these interactions, with keys."""
        own, library = self._frame, library_of(self._frame)
        if {"chunks": "gap_s", "tool_calls": "arguments_valid"}[name] in own.columns:
            # Another frame's key is looked up in its own columns first: they may have one of the same name.
            return add_keys(own, by, None if library is None else library.frame("interactions"), own_first=True)
        if library is None:
            raise OptionError(f"the frame has lost its link to the recordings. Use .llm of lib.{name}")
        indexed = own.index.name == "interaction"
        interactions = own if indexed else require_columns(own, "interaction").set_index("interaction")
        every = library.frame(name)
        return add_keys(every[every.interaction.isin(interactions.index)], by, interactions)


def _spread(values: Any) -> dict[str, Any]:
    return {
        "interactions": values.count(),
        "mean": values.mean(),
        "median": values.median(),
        "p90": values.quantile(0.9),
        "p99": values.quantile(0.99),
        "max": values.max(),
    }
