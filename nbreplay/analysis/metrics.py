"""Metrics: the `.llm` accessor of frames. Knows frames, and no recording.

What nobody recorded is absent, never 0, and every figure says of how many interactions it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import GROUPED, OPERATIONS, OTEL, grouped
from nbreplay.analysis.plots import Plots
from nbreplay.analysis.prices import costs
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from nbreplay.analysis.library import Library

__all__ = ["Linked", "Metrics", "linked"]

By = str | Sequence[str] | None


class Linked(str):
    """What a frame's ``attrs`` hold: the library that it is of. To everybody else it is a text."""

    library: Library

    __slots__ = ("library",)

    def __eq__(self, other: object) -> bool:  # two libraries are never the same one
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Linked:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def linked(frame: pd.DataFrame, library: Library) -> pd.DataFrame:
    """Have a frame know the library that it is of, whose chunks and tool calls its `.llm` then finds."""
    mark = Linked(repr(library))
    mark.library = library
    frame.attrs["nbreplay"] = mark
    return frame


@pd.api.extensions.register_dataframe_accessor("llm")
class Metrics:
    """``frame.llm``: what interactions took, cost and achieved.

    A method takes the frame that it is asked of, filtered or not; `gaps` and `tool_success` of interactions look up the
    chunks and tool calls of just these. ``by`` is a column, several, or None for one row a frame.

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
        """Return a row a group: how many, failed, cut short, tokens, and times."""
        frame = self._with("interaction", "error_type", "complete", "input_tokens", "output_tokens", "duration_s")
        frame = frame.assign(_failed=frame.error_type.notna(), _cut=~frame.complete.fillna(True))
        groups = self._groups(frame, by)
        made = {
            "interactions": groups.size(),
            "failed": groups["_failed"].sum(),
            "cut_short": groups["_cut"].sum(),
        }
        for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "n_tool_calls"):
            # Where nobody counted, there is no sum.
            made[name] = groups[name].sum(min_count=1)
        for name in ("ttft_s", "duration_s"):
            made[f"{name}_median"] = groups[name].median()
            made[f"{name}_p90"] = groups[name].quantile(0.9)
        made["duration_s_total"] = groups["duration_s"].sum(min_count=1)
        return self._made(made, by).sort_values("interactions", ascending=False, kind="stable")

    def ttft(self, by: By = "model") -> pd.DataFrame:
        """Return how long the first token took: a row a group, the slowest median first."""
        frame = self._with("ttft_s").dropna(subset=["ttft_s"])
        made = self._made(_spread(self._groups(frame, by)["ttft_s"]), by)
        return made.sort_values("median", ascending=False, kind="stable")

    def gaps(self, by: By = "model", *, stall: float = 1.0) -> pd.DataFrame:
        """Return how long streams paused between two chunks.

        Parameters
        ----------
        by : str, sequence of str, or None
            Columns of the interactions; of a frame of chunks that knows no library, columns of its own.
        stall : float
            A gap of more seconds than this is a stall.

        Returns
        -------
        pandas.DataFrame
            A row a group: streams, gaps, median, p99, max, stalls, stalled_s.
        """
        frame = self.others("chunks", by)
        # The first chunk's is no pause: it is the wait for the answer to begin.
        frame = frame[(frame.chunk > 0) & frame.gap_s.notna()]
        frame = frame.assign(_stall=frame.gap_s > stall, _stalled=frame.gap_s.where(frame.gap_s > stall, 0.0))
        groups = self._groups(frame, by)
        made = {"streams": groups["interaction"].nunique(), "gaps": groups.size()}
        spread = _spread(groups["gap_s"])
        made |= {name: spread[name] for name in ("median", "p99", "max")}
        made |= {"stalls": groups["_stall"].sum(), "stalled_s": groups["_stalled"].sum()}
        return self._made(made, by).sort_values("p99", ascending=False, kind="stable")

    def throughput(self, by: By = "model") -> pd.DataFrame:
        """Return output tokens a second: over all, and of streams after their first token."""
        frame = self._with("output_tokens", "duration_s", "ttft_s").dropna(subset=["output_tokens", "duration_s"])
        frame = frame[frame.duration_s > 0]
        after = (frame.duration_s - frame.ttft_s).where(frame.duration_s > frame.ttft_s)
        frame = frame.assign(_after=after, _spoken=frame.output_tokens.where(after.notna()))
        frame = frame.assign(_rate=frame.output_tokens / frame.duration_s)
        groups = self._groups(frame, by)
        tokens, seconds = groups["output_tokens"].sum(), groups["duration_s"].sum()
        spoken, following = groups["_spoken"].sum(min_count=1), groups["_after"].sum(min_count=1)
        made = {
            "interactions": groups.size(),
            "output_tokens": tokens,
            "seconds": seconds,
            "tokens_per_s": tokens / seconds,
            "median_tokens_per_s": groups["_rate"].median(),
            "after_first_token_per_s": spoken / following,
        }
        return self._made(made, by).sort_values("tokens_per_s", ascending=False, kind="stable")

    def cost(self, prices: Mapping[str, Any] | pd.DataFrame | None = None, by: By = "model") -> pd.DataFrame:
        """Return an estimate of what the interactions cost, in US dollars: tokens times list prices.

        Parameters
        ----------
        prices : mapping or DataFrame, optional
            By model: dollars per million tokens of ``input`` and ``output``, and of ``cached`` input where it is
            cheaper; ``{"gpt-4o": {"input": 2.5, "output": 10}}`` or ``{"gpt-4o": (2.5, 10)}``. If not given, those of
            the genai-prices package, as it was installed: ``pip install 'nbreplay[prices]'``.
        by : str, sequence of str, or None

        Returns
        -------
        pandas.DataFrame
            A row a group: interactions, how many of them could be priced, and the estimate; NA where none could.
        """
        frame = self._with("kind", "model", "response_model", "provider", "input_tokens", "output_tokens")
        spent, paid = costs(frame, prices)
        frame = frame.assign(_in=spent, _out=paid, _priced=spent.notna() & paid.notna())
        groups = self._groups(frame, by)
        made = {"interactions": groups.size(), "priced": groups["_priced"].sum()}
        made |= {"input_usd_estimate": groups["_in"].sum(min_count=1)}
        made |= {"output_usd_estimate": groups["_out"].sum(min_count=1)}
        made["usd_estimate"] = made["input_usd_estimate"] + made["output_usd_estimate"]
        return self._made(made, by).sort_values("usd_estimate", ascending=False, kind="stable")

    def tool_success(self, by: By = "name") -> pd.DataFrame:
        """Return how tool calls went: a row a tool, or a group by columns of the tool calls or interactions."""
        frame = self.others("tool_calls", by)
        failed = frame.error_type.notna()
        frame = frame.assign(_failed=failed, _bad=~frame.arguments_valid, _ok=frame.answered & ~failed)
        groups = self._groups(frame, by)
        answered, ok = groups["answered"].sum(), groups["_ok"].sum()
        made = {
            "calls": groups.size(),
            "answered": answered,
            "succeeded": ok,
            "failed": groups["_failed"].sum(),
            "invalid_arguments": groups["_bad"].sum(),
            "success": (ok / answered).where(answered > 0),
            "duration_s_median": groups["duration_s"].median(),
        }
        return self._made(made, by).sort_values("calls", ascending=False, kind="stable")

    def otel(self) -> pd.DataFrame:
        """Return the frame with OpenTelemetry's GenAI names for columns and operations."""
        frame = self._frame.copy()
        if "kind" in frame and "model" in frame:
            frame["kind"] = frame["kind"].map(lambda kind: OPERATIONS.get(kind, kind)).astype("category")
        return frame.rename(columns={name: OTEL.get(name, f"nbreplay.{name}") for name in frame.columns})

    def _with(self, *names: str) -> pd.DataFrame:
        frame = self._frame.reset_index() if self._frame.index.name == "interaction" else self._frame
        lacking = [name for name in names if name not in frame.columns]
        if lacking:
            raise OptionError(
                f"the frame has no column {', '.join(lacking)}: ask it of lib.interactions, or of rows of it"
            )
        return frame

    def others(self, name: str, by: By) -> pd.DataFrame:
        """Return the rows of another frame that are of these interactions, with what they are to be grouped by."""
        own = self._frame
        own_kind = "gap_s" if name == "chunks" else "arguments_valid"
        mark = own.attrs.get("nbreplay")
        known = isinstance(mark, Linked)
        if own_kind in own.columns:
            frame = own
            interactions = mark.library.interactions if known else None
        elif known:
            interactions = own.set_index("interaction") if "interaction" in own.columns else own
            every = getattr(mark.library, name)
            frame = every[every.interaction.isin(interactions.index)]
        else:
            raise OptionError(f"the frame does not know its recordings any more: ask it of lib.{name}")
        for column in _listed(by):
            # Asked of interactions, a column is theirs, also where the others have one of its name.
            if interactions is None or column not in interactions.columns:
                continue
            if frame is not own or column not in frame.columns:
                told = interactions[column].reindex(frame.interaction.astype(object))
                frame = frame.assign(**{GROUPED + column: told.array})
        return frame

    @staticmethod
    def _groups(frame: pd.DataFrame, by: By) -> Any:
        wanted = [grouped(frame, name) for name in _listed(by)]
        lacking = [name for name in wanted if name not in frame.columns]
        if lacking:
            raise OptionError(f"there is no column {', '.join(map(repr, lacking))} to group by")
        # What has no value is a group of its own: nothing is left out of a sum in silence.
        return frame.groupby(wanted or (lambda _: "all"), observed=True, dropna=False)

    @staticmethod
    def _made(columns: Mapping[str, Any], by: By) -> pd.DataFrame:
        made = pd.DataFrame(dict(columns))
        if by is not None:
            made.index.names = _listed(by)
        return made


def _listed(by: By) -> list[str]:
    return [] if by is None else [by] if isinstance(by, str) else list(by)


def _spread(values: Any) -> dict[str, Any]:
    made = {"interactions": values.count(), "mean": values.mean(), "median": values.median()}
    return made | {"p90": values.quantile(0.9), "p99": values.quantile(0.99), "max": values.max()}
