"""Overviews of libraries, of the accessor `.llm` and of comparisons. Builds no frame but that of the interactions."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from nbreplay.analysis.columns import FRAMES
from nbreplay.analysis.pandas import pd
from nbreplay.analysis.plots import KINDS
from nbreplay.core.words import count_of, shorten
from nbreplay.errors import OptionError
from nbreplay.notebook.escape import format_seconds, plain
from nbreplay.notebook.overview import Overview, Part, enumerate_counts, table
from nbreplay.notebook.status import short_path

_ROWS = {
    "interactions": "a row per answer",
    "messages": "a row per message of a request or an answer",
    "chunks": "a row per chunk of a stream",
    "tool_calls": "a row per tool call of an answer",
}
_COUNTED = {"chunks": "n_chunks", "tool_calls": "n_tool_calls"}  # columns whose sum is the number of rows
_FIRST = ("recorded_at", "notebook", "model", "tool", "prompt", "answer", "output_tokens", "duration_s", "outcome")
_SUMMARY = ("interactions", "failed", "input_tokens", "output_tokens", "cost_usd", "ttft_s_median", "duration_s_median")
_SHOWN = 5  # rows of a table


def library_overview(names: Sequence[str], built: Mapping[str, pd.DataFrame], unread: pd.DataFrame) -> dict[str, str]:
    """Return what a library holds, as a mime bundle; `built` are its frames so far, with the interactions."""
    calls = built["interactions"]
    facts = [*_facts(calls)]
    if len(unread):
        files = unread.file.nunique()
        reasons = "; ".join(shorten(reason, 120) for reason in unread.reason.head(2))
        facts.append(("unread", f"{count_of(files, 'file')}, listed in .unread: {reasons}"))
    frames = [(f".{name}", *_size(name, built)) for name in _ROWS]
    parts = [table(("frame", "rows", "columns", ""), frames)]
    if len(calls):
        columns = [column for column in _FIRST if column in calls.columns and calls[column].head(_SHOWN).notna().any()]
        parts.append(_rows(".interactions, which .show() searches", calls[columns], text=False))
    remark = ", ".join([*map(short_path, names), count_of(len(calls), "interaction")])
    return Overview("Library", remark, facts, parts).bundle()


def _size(name: str, built: Mapping[str, pd.DataFrame]) -> tuple[str, str, str]:
    """Return the rows and columns of a frame, as far as they are known without building it, and what a row is."""
    if name in built:
        return f"{len(built[name]):,}", f"{len(built[name].columns)}", _ROWS[name]
    columns = f"{len(FRAMES[name])}"
    if name in _COUNTED:
        return f"{built['interactions'][_COUNTED[name]].sum():,}", columns, _ROWS[name]
    return "–", columns, f"{_ROWS[name]}; counted when it is first used"


def _facts(calls: pd.DataFrame) -> list[tuple[str, str]]:
    is_tool = (calls.kind == "tool").to_numpy(bool, na_value=False)
    tools = calls.tool if "tool" in calls.columns else calls.model[is_tool]
    facts = [
        ("models", _counts(calls.model[~is_tool])),
        ("tools", _counts(tools)),
        ("kinds", _counts(calls.kind)),
        ("outcomes", _counts(calls.outcome) if "outcome" in calls.columns else ""),
        ("notebooks", _counts(calls.notebook)),
        ("tokens", _tokens(calls)),
        ("seconds", _seconds(calls.duration_s)),
        ("cost", _cost(calls)),
        ("recorded", _dates(calls.recorded_at)),
        ("failed", _failures(calls)),
    ]
    return [(name, value) for name, value in facts if value]


def _counts(values: pd.Series) -> str:
    counts = values.dropna().astype(object).value_counts()
    return enumerate_counts((str(name), int(count)) for name, count in counts.items())


def _tokens(calls: pd.DataFrame) -> str:
    counts = {"input": calls.input_tokens, "output": calls.output_tokens}
    texts = [f"{tokens.sum():,} {side}" for side, tokens in counts.items() if tokens.notna().any()]
    counted = (calls.input_tokens.notna() | calls.output_tokens.notna()).sum()
    return f"{', '.join(texts)}{_of(counted, calls)}" if texts else ""


def _seconds(durations: pd.Series) -> str:
    known = durations.dropna()
    if not len(known):
        return ""
    return f"{known.sum():,.1f} s in all, median {format_seconds(float(known.median()))}{_of(len(known), durations)}"


def _cost(calls: pd.DataFrame) -> str:
    if "cost_usd" not in calls.columns or calls.cost_usd.isna().all():
        return ""
    return f"about ${calls.cost_usd.sum():,.4g} by list prices{_of(calls.cost_usd.count(), calls)}"


def _of(counted: int, rows: Any) -> str:
    return "" if counted == len(rows) else f" (known of {counted:,} interactions)"


def _dates(times: pd.Series) -> str:
    days = [f"{day:%d %b %Y}".lstrip("0") for day in (times.min(), times.max()) if not pd.isna(day)]
    return " to ".join(dict.fromkeys(days))


def _failures(calls: pd.DataFrame) -> str:
    errors, cut = calls.error_type.dropna(), int((~calls.complete.fillna(True)).sum())
    texts = [f"{len(errors):,}: {_counts(errors)}"] if len(errors) else []
    return "; ".join([*texts, *([f"{cut:,} cut short"] if cut else [])])


def _rows(heading: str, frame: pd.DataFrame, *, text: bool = True) -> Part:
    """Return the first rows of a frame as a table, with long texts cut."""
    shown = frame.head(_SHOWN)
    index = ", ".join(str(name) for name in shown.index.names if name)
    columns = [[_cell(label) for label in shown.index], *([_cell(value) for value in shown[name]] for name in shown)]
    first = f"the first {len(shown)} of {len(frame):,} rows of " if len(frame) > len(shown) else ""
    rows = [*zip(*columns, strict=True)]
    return table((index, *map(str, shown.columns)), rows, first + heading, text=text)


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_cell, value))
    if pd.isna(value):
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, Integral) else shorten(plain(" ".join(str(value).split())), 50)


_METHODS = (
    ("summary", "by=…", "interactions, failures, tokens and times"),
    ("ttft", "by=…", "seconds to the first token"),
    ("gaps", "by=…", "pauses between chunks"),
    ("throughput", "by=…", "output tokens per second"),
    ("cost", "prices=…, by=…", "an estimate in US dollars, by list prices or by yours"),
    ("tool_success", "by=…", "how tool calls went"),
    ("plot", "kind=…, by=…", f"matplotlib axes; kinds: {', '.join(KINDS)}"),
    ("otel", "", "the frame with OpenTelemetry's names"),
)
_OWN = (("gap_s", ("gaps",)), ("arguments_valid", ("tool_success",)))  # by a column of another frame, what it offers


def metrics_overview(metrics: object, frame: pd.DataFrame) -> dict[str, str]:
    """Return what `.llm` offers for a frame, with its first figures, as a mime bundle."""
    usual = [name for name, _, _ in _METHODS if name not in ("plot", "otel")]
    names = next((own for column, own in _OWN if column in frame.columns), usual)
    offered = [row for row in _METHODS if row[0] in (*names, "plot", "otel")]
    parts = [table(("method", "returns"), [(f".llm.{name}({options})", text) for name, options, text in offered])]
    with contextlib.suppress(OptionError):  # of a frame that is a part of one, or none of ours
        figures = getattr(metrics, names[0])().dropna(axis="columns", how="all")
        columns = [column for column in figures.columns if names[0] != "summary" or column in _SUMMARY]
        parts += [_rows(f".llm.{names[0]}()", figures[columns])] if len(figures) else []
    return Overview(".llm", count_of(len(frame), "row"), (), parts).bundle()


def comparison_overview(
    frame: pd.DataFrame, on: str, names: Sequence[str], counts: Mapping[str, int]
) -> dict[str, str]:
    """Return how the answers of two libraries compare, as a mime bundle; `frame` has a row per pair."""
    a, b = (shorten(name, 60) for name in names)
    statuses = {status: status for status in counts} | {"only in a": f"only in {a}", "only in b": f"only in {b}"}
    facts = [(statuses[status], f"{number:,}") for status, number in counts.items()]
    facts += delta_facts({name: frame[name].dropna().tolist() for name, *_ in DELTAS}, (a, b))
    differing = frame[frame.status != "same"].sort_values("status", kind="stable").head(_SHOWN)
    texts = zip(differing.status, differing.prompt, differing.text_a, differing.text_b, strict=True)
    rows = [(statuses[status], _cell(prompt), *_differences(before, after)) for status, prompt, before, after in texts]
    others = len(frame) - counts["same"]
    more = f" ({len(rows):,} of {others:,})" if others > len(rows) else ""
    heads = ("", "prompt", f"answer of {a}", f"answer of {b}")
    parts = [table(heads, rows, f"where answers differ{more}", text=False)] if rows else []
    return Overview("Comparison", f"{a} with {b}, paired by {on}", facts, parts).bundle()


DELTAS = (
    ("output_tokens_delta", "output tokens", ""),
    ("duration_s_delta", "duration", " s"),
    ("ttft_s_delta", "first token", " s"),
)
"""The columns of a comparison whose median is shown, each with its words and its unit."""


def delta_facts(values: Mapping[str, Sequence[float]], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the figures that both sides of some pairs have, each with the median of its differences."""
    facts = []
    for column, what, unit in DELTAS:
        deltas = values[column]
        if deltas:
            text = f"{statistics.median(deltas):+,.4g}{unit} from {names[0]} to {names[1]}"
            facts.append((what, f"{text}, median of {len(deltas):,}" if len(deltas) > 1 else text))
    return facts


def _differences(before: Any, after: Any) -> tuple[str, str]:
    """Return two texts from shortly before the first word that differs."""
    a, b = ([] if pd.isna(text) else str(text).split() for text in (before, after))
    start = next((at for at, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b))) - 3
    head = "… " if start > 0 and a and b else ""
    first = max(start, 0) if head else 0
    return _cell(head + " ".join(a[first:])), _cell(head + " ".join(b[first:]))
