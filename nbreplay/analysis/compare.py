"""Comparison: two libraries, answer by answer. Reads frames alone."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import Column
from nbreplay.analysis.frames import RowFrames, frame_of
from nbreplay.analysis.library import Library, load
from nbreplay.analysis.metrics import library_of
from nbreplay.analysis.rows import Row
from nbreplay.analysis.sources import Source
from nbreplay.core.log import Interaction
from nbreplay.errors import OptionError
from nbreplay.providers.messages import canonical

_STATUSES = ("same", "changed", "only in a", "only in b")


class _Pair(NamedTuple):
    """Two answers, as the frames have them; None where a side has none."""

    pair: str
    a: Mapping[str, Any] | None
    b: Mapping[str, Any] | None

    def both(self, name: str) -> tuple[Any, Any]:
        return (self.a or {}).get(name), (self.b or {}).get(name)

    @property
    def prompt(self) -> Any:
        before, after = self.both("prompt")
        return after or before

    @property
    def status(self) -> str:
        if self.a is None or self.b is None:
            return "only in b" if self.a is None else "only in a"
        return "same" if self.a["answer_key"] == self.b["answer_key"] else "changed"

    @property
    def text_diff(self) -> str | None:
        if self.a is None or self.b is None:
            return None
        before, after = ((text or "").splitlines() for text in self.both("text"))
        lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
        return "\n".join(line for line in lines if not line.startswith("@@"))

    @property
    def similarity(self) -> float | None:
        texts = self.both("text")
        if self.a is None or self.b is None or texts == (None, None):
            return None
        before, after = ((text or "").split() for text in texts)
        return difflib.SequenceMatcher(None, before, after).ratio()

    def delta(self, name: str) -> Any:
        before, after = self.both(name)
        return None if before is None or after is None else after - before


def _delta(name: str, dtype: str, meaning: str) -> Column:
    return Column(f"{name}_delta", dtype, f"{meaning} of b less those of a", lambda pair: pair.delta(name))


def _sides(name: str, dtype: str, meaning: str) -> tuple[Column, Column]:
    return (
        Column(f"{name}_a", dtype, f"{meaning} of a", lambda pair: pair.both(name)[0]),
        Column(f"{name}_b", dtype, f"{meaning} of b", lambda pair: pair.both(name)[1]),
    )


COMPARED = (
    Column("pair", "string", "the index: the key or the prompt's key, # and the number of its answer"),
    Column("status", "category", "same, changed, only in a, or only in b"),
    Column("kind", "category", "as in `interactions`", lambda pair: (pair.a or pair.b)["kind"]),
    *_sides("interaction", "string", "the interaction"),
    *_sides("model", "category", "the model in the request"),
    Column("prompt", "string", "the last message of a user"),
    *_sides("text", "string", "the text"),
    Column("text_diff", "string", "the lines in which the texts differ: - of a, + of b; empty where none does"),
    Column("similarity", "Float64", "the share of words that are the same, 0 to 1"),
    *_sides("tool_calls", "string", "the tool calls, one a line: name and arguments"),
    _delta("n_tool_calls", "Int64", "tool calls"),
    _delta("input_tokens", "Int64", "input tokens"),
    _delta("output_tokens", "Int64", "output tokens"),
    _delta("duration_s", "Float64", "seconds"),
    _delta("ttft_s", "Float64", "seconds to the first token"),
    *_sides("finish_reason", "category", "the finish reason"),
    *_sides("error_type", "category", "the error"),
)
"""The columns of `Comparison.frame`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of a and of b, in pairs."""

    frame: pd.DataFrame = field(repr=False, compare=False)  # a row per pair, by `pair`; its columns are `COMPARED`
    on: str  # how answers are paired: by ``key`` or ``prompt``
    libraries: tuple[Library, Library] = field(repr=False, compare=False)  # the libraries of a and b

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def counts(self) -> dict[str, int]:
        """The number of pairs of each status."""
        counts = self.frame.status.value_counts()
        return {status: int(counts.get(status, 0)) for status in _STATUSES}

    @property
    def changed(self) -> pd.DataFrame:
        """The rows whose answers differ."""
        return self.frame[self.frame.status == "changed"]

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        lines = [f"Comparison on {self.on}: {counts}"]
        both = self.frame[self.frame.status.isin(["same", "changed"])]
        for name, unit in (("output_tokens", "tokens"), ("duration_s", "s"), ("ttft_s", "s")):
            deltas = both[f"{name}_delta"].dropna()
            if len(deltas):
                lines.append(f"  {name}: median {deltas.median():+.4g} {unit} from a to b, of {len(deltas)}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        differing = self.frame[self.frame.status != "same"].head(20)
        names = ["status", "model_a", "model_b", "prompt", "text_diff", "similarity", "tool_calls_a", "tool_calls_b"]
        head, *more = repr(self).split("\n")
        lines = "".join(f"<br>{line.strip()}" for line in more)
        # pandas escapes the texts of recordings.
        table = differing[names].reset_index(drop=True).to_html(max_rows=20, na_rep="") if len(differing) else ""
        return {"text/plain": repr(self), "text/html": f"<div><p><b>{head}</b>{lines}</p>{table}</div>"}

    @property
    def sides(self) -> Iterator[tuple[Interaction | None, Interaction | None]]:
        """The pairs as interactions, changed ones first; None where a side has none."""
        rank = self.frame.status.map({"changed": 0, "same": 2}).astype("float").fillna(1)
        pairs = self.frame.loc[rank.sort_values(kind="stable").index, ["interaction_a", "interaction_b"]]
        for names in pairs.astype(object).itertuples(index=False):
            one, other = (
                None if pd.isna(name) else _interaction(library.row(name))
                for name, library in zip(names, self.libraries, strict=True)
            )
            yield one, other

    def show(self) -> None:
        """Display the pairs side by side, each on one timeline: in a notebook as widgets, elsewhere as text."""
        from nbreplay.notebook.display import show_pairs

        show_pairs(self.sides, len(self), repr(self))


def _interaction(row: Row) -> Interaction:
    return Interaction(row.request, row.take, row.outcome or ("replayed" if row.take else "missing"), host=row.host)


def compare(
    a: Source | Sequence[Source] | Library | pd.DataFrame | Interaction | Sequence[Interaction],
    b: Source | Sequence[Source] | Library | pd.DataFrame | Interaction | Sequence[Interaction],
    *,
    on: Literal["key", "prompt"] = "key",
) -> Comparison:
    """Compare the answers of two libraries.

    Parameters
    ----------
    a, b : Library, a source as `nbreplay.load` takes it, rows of a library's interactions, or interactions of a session
        Two interactions are compared with each other, even if their requests differ.
    on : {"key", "prompt"}
        Pair answers to the same request (last month against today), or to the same messages (model against model).
        Several answers are paired in order. A request without messages is paired by its key.

    Returns
    -------
    Comparison
        Without the calls of a session that got no answer.

    Raises
    ------
    OptionError
        For another `on`, or a frame that is not linked to a library.

    Examples
    --------
    >>> nbreplay.compare("recordings-october", "recordings").changed[["prompt", "text_diff"]]
    >>> calls = lib.interactions
    >>> nbreplay.compare(calls.query("model == 'gpt-4o'"), calls.query("model == 'o3'"), on="prompt")
    """
    if on not in ("key", "prompt"):
        raise OptionError(f'on must be "key" or "prompt", not {on!r}')
    (first, one), (second, other) = _answers(a, on), _answers(b, on)
    if isinstance(a, Interaction) and isinstance(b, Interaction):
        other = dict(zip(one, other.values(), strict=False))
    pairs = [_Pair(name, one.get(name), other.get(name)) for name in dict.fromkeys((*one, *other))]
    return Comparison(frame_of(COMPARED, pairs, index="pair"), on, (first, second))


def _answers(source: Any, on: str) -> tuple[Library, dict[str, dict[str, Any]]]:
    """Return a library, and its answers by pair."""
    if isinstance(source, pd.DataFrame):
        linked = library_of(source)
        if not isinstance(linked, Library) or source.index.name != "interaction" or "answer_key" not in source:
            raise OptionError("compare takes a store, a library, or rows of lib.interactions with their index")
        library, rows = linked, source
    else:
        library = source if isinstance(source, Library) else _library_of_interactions(source) or load(source)
        rows = library.interactions
    rows = rows[rows.answer_key.notna()]
    rows = rows.assign(interaction=rows.index, **_texts(library, rows.index)).astype(object)
    answers: dict[str, dict[str, Any]] = {}
    numbers = Counter[str]()
    for row in rows.where(rows.notna(), None).to_dict("records"):
        pair = (row["prompt_key"] if on == "prompt" else None) or row["key"]
        numbers[pair] += 1
        answers[f"{pair}#{numbers[pair]}"] = row
    return library, answers


def _library_of_interactions(source: Any) -> Library | None:
    """Return the library of some interactions; None for another source."""
    items = [source] if isinstance(source, Interaction) else source
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, Interaction) for item in items):
        return None
    rows = [
        Row(f"{item.key}#{number}", None, item.request, item.take, host=item.host)
        for number, item in enumerate(items, 1)
    ]
    return Library(RowFrames(rows))


def _texts(library: Library, interactions: pd.Index) -> dict[str, Any]:
    """Return the text and the tool calls of each answer, and the last message of a user."""
    messages, calls = library.messages, library.tool_calls
    messages = messages[messages.content.notna() & (messages.content_type != "reasoning")].astype(object)
    output = messages.direction == "output"
    lines = calls.name.astype(object).fillna("") + "(" + calls.arguments.astype(object).map(canonical) + ")"
    columns = {
        "text": messages[output].groupby("interaction").content.agg("\n".join),
        "prompt": messages[~output & (messages.role == "user")].groupby("interaction").content.last(),
        "tool_calls": lines.groupby(calls.interaction.astype(object)).agg("\n".join),
    }
    columns = {name: values.reindex(interactions) for name, values in columns.items()}
    return columns | {"tool_calls": columns["tool_calls"].fillna("")}
