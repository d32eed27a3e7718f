"""Comparison: two libraries, answer by answer. Reads frames alone."""

from __future__ import annotations

import difflib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nbreplay.analysis.columns import Column
from nbreplay.analysis.frames import RowFrames, frame_of
from nbreplay.analysis.library import Library, load, plain_items
from nbreplay.analysis.metrics import library_of
from nbreplay.analysis.names import ShortNames
from nbreplay.analysis.overviews import DELTAS, comparison_overview, delta_facts
from nbreplay.analysis.pandas import has_pandas, pd
from nbreplay.analysis.rows import Row
from nbreplay.analysis.sources import Source, name_rows
from nbreplay.core.log import Interaction
from nbreplay.core.recording.recording import file_name
from nbreplay.core.words import shorten
from nbreplay.errors import OptionError
from nbreplay.notebook.status import short_path
from nbreplay.providers.messages import canonical

if TYPE_CHECKING:
    from nbreplay.notebook.pairs import Rest

_Name = tuple[str, str, int]
"""A pair: the kind and the key of the request, or ``prompt`` and the key of the prompt; and its number among these."""

_STATUSES = ("changed", "same", "only in a", "only in b")
_MOST_LINES = 50  # of pairs that are not shown side by side


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
    Column("pair", "string", "the index: digits of the key, or of the prompt's key, # and the number of its answer"),
    Column("status", "category", "same, changed, only in a, or only in b"),
    Column("kind", "category", "as in `interactions`", lambda pair: (pair.a or pair.b)["kind"]),
    *_sides("interaction", "string", "the interaction"),
    *_sides("model", "category", "the model in the request"),
    Column("tool", "category", "as in `interactions`", lambda pair: (pair.a or pair.b).get("tool")),
    Column("prompt", "string", "as in `interactions`"),
    *_sides("text", "string", "the `answer`"),
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


@dataclass(frozen=True, eq=False)
class Comparison:
    """The answers of a and of b, in pairs; `nbreplay.compare` makes it.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row per pair: `status` (``same``, ``changed``, ``only in a``, ``only in
        b``), both texts and how they differ, tokens and times.
    on : {"key", "prompt"}
        How answers are paired.
    libraries : tuple of Library
        The libraries of a and of b.

    Examples
    --------
    >>> import nbreplay as nr
    >>> comparison = nr.compare("recordings-october", "recordings")
    >>> comparison.counts
    {'changed': 1, 'same': 2, 'only in a': 0, 'only in b': 1}
    """

    _pairs: Sequence[_Pair] = field(repr=False, compare=False)
    on: Literal["key", "prompt"]  # how answers are paired: by ``key`` or ``prompt``
    libraries: tuple[Library, Library] = field(repr=False, compare=False)  # the libraries of a and b

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row per pair, by `pair`; its columns are `COMPARED`."""
        return frame_of(COMPARED, self._pairs, index="pair")

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def counts(self) -> dict[str, int]:
        """The number of pairs of each status."""
        counts = Counter(pair.status for pair in self._pairs)
        return {status: counts[status] for status in _STATUSES}

    @property
    def changed(self) -> pd.DataFrame:
        """The rows whose answers differ."""
        return self.frame[self.frame.status == "changed"]

    @property
    def names(self) -> tuple[str, str]:
        """The names of a and b.

        Those of their stores; of one store, of their models or interactions;
        else ``a`` and ``b``.
        """
        stores = [set(map(short_path, library.names)) for library in self.libraries]
        sides = [[pair.a for pair in self._pairs], [pair.b for pair in self._pairs]]
        columns = (
            [{row[name] for row in rows if row is not None} - {None} for rows in sides]
            for name in ("model", "interaction")
        )
        return next(filter(None, (_side_names(*values) for values in (stores, *columns))), ("a", "b"))

    def __repr__(self) -> str:
        counts = ", ".join(f"{number:,} {status}" for status, number in self.counts.items())
        return f"Comparison on {self.on}: {counts}"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        if not has_pandas():
            return {"text/plain": repr(self)}
        return comparison_overview(self.frame, self.on, self.names, self.counts)

    @property
    def sides(self) -> Iterator[tuple[Interaction | None, Interaction | None]]:
        """The pairs as interactions, changed ones first; None where a side has none."""
        for pair in sorted(self._pairs, key=lambda pair: {"changed": 0, "same": 2}.get(pair.status, 1)):
            one, other = (
                None if row is None else library.row(row["interaction"]).call
                for row, library in zip((pair.a, pair.b), self.libraries, strict=True)
            )
            yield one, other

    def show(self) -> None:
        """Display the changed pairs side by side, each on one timeline.

        The words that differ are marked, and what is equal is folded. Of many
        changed pairs the first 20 are shown: in a notebook as widgets, elsewhere
        as text.
        """
        from nbreplay.notebook.display import show_pairs

        count = 1 if len(self) == 1 else self.counts["changed"]
        one, other = self.names
        heads = {"only in a": f"only in {one}", "only in b": f"only in {other}", "same": "same"}
        counts = ", ".join(
            heads.get(status, status) if len(self) == 1 else f"{number:,} {heads.get(status, status)}"
            for status, number in self.counts.items()
            if number or (len(self) != 1 and status in ("changed", "same"))
        )
        columns = {column.name: column for column in COMPARED}
        values = {name: [v for v in columns[name].values(self._pairs) if v is not None] for name, *_ in DELTAS}
        deltas = (f"{what}: {text}" for what, text in delta_facts(values, self.names))
        lines = [f"{one} against {other}: {counts}", *deltas]
        rest = [self._rest(status, head) for status, head in heads.items() if self.counts[status] and len(self) > 1]
        show_pairs(lines, self.names, itertools.islice(self.sides, count), count, rest)

    def _rest(self, status: str, head: str) -> Rest:
        """Return the pairs of a status by what they asked, and what only one side answered."""
        from nbreplay.notebook.pairs import Rest

        pairs = [pair for pair in self._pairs if pair.status == status]
        lines = []
        for pair in pairs[:_MOST_LINES]:
            asked = pair.pair if pair.prompt is None else " ".join(pair.prompt.split())
            answer = "" if status == "same" else pair.both("text")[0 if status == "only in a" else 1]
            answer = f" → {shorten(' '.join(answer.split()), 60)}" if answer else ""
            lines.append(shorten(asked, 90) + answer)
        return Rest(f"{len(pairs):,} {head}", tuple(lines), len(pairs))


def compare(
    a: Source | Sequence[Source] | Library | pd.DataFrame | Interaction | Sequence[Interaction],
    b: Source | Sequence[Source] | Library | pd.DataFrame | Interaction | Sequence[Interaction],
    *,
    on: Literal["key", "prompt"] = "key",
) -> Comparison:
    """Compare the answers of two libraries.

    Parameters
    ----------
    a, b : Library, source, DataFrame, or Interaction
        A library; a store, or what else `nbreplay.load` takes; rows of a
        library's interactions; or interactions of a session. Two interactions
        are compared with each other, even if their requests differ.
    on : {"key", "prompt"}
        Pair answers to the same request (last month against today), or to the
        same messages (model against model). Several answers are paired in
        order. A request without messages is paired by its key.

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
    >>> import nbreplay as nr
    >>> changes = nr.compare("recordings-october", "recordings").changed
    >>> print(changes.text_diff.iloc[0])
    -16 °C and rain.
    +18 °C and clear.

    The answers of two models to the same prompts:

    >>> calls = nr.load("recordings").interactions
    >>> one, other = calls.query("model == 'gpt-4o'"), calls.query("model == 'o3'")
    >>> nr.compare(one, other, on="prompt").counts["changed"]
    1
    """
    if on not in ("key", "prompt"):
        raise OptionError(f'on must be "key" or "prompt", not {on!r}')
    (first, one), (second, other) = _answers(a, on), _answers(b, on)
    if isinstance(a, Interaction) and isinstance(b, Interaction):
        other = dict(zip(one, other.values(), strict=False))
    names = dict.fromkeys((*one, *other))
    short = ShortNames(file_name(kind, key) for kind, key, _ in names)
    pairs = [_Pair(f"{short.short(*name[:2])}#{name[2]}", one.get(name), other.get(name)) for name in names]
    return Comparison(pairs, on, (first, second))


def _side_names(one: set[str], other: set[str]) -> tuple[str, str] | None:
    """Return the names of two sides that each have one, and another one; of paths, the ends that differ."""
    if len(one) != 1 or len(other) != 1 or one == other:
        return None
    paths = [name.replace("\\", "/").rstrip("/").split("/") for name in (*one, *other)]
    for size in range(1, max(map(len, paths)) + 1):
        before, after = ("/".join(path[-size:]) for path in paths)
        if before != after and before and after:
            return before, after
    return None


def _answers(source: Any, on: str) -> tuple[Library, dict[_Name, dict[str, Any]]]:
    """Return a library, and its answers by pair."""
    if has_pandas() and isinstance(source, pd.DataFrame):
        linked = library_of(source)
        if not isinstance(linked, Library) or source.index.name != "interaction" or "answer_key" not in source:
            raise OptionError("compare takes a store, a library, or rows of lib.interactions with their index")
        library, rows = linked, source
    else:
        library = source if isinstance(source, Library) else _library_of_interactions(source) or load(source)
        if not has_pandas():
            return library, _by_pair(_plain_rows(library), on)
        rows = library.interactions
    rows = rows[rows.answer_key.notna()]
    rows = rows.assign(interaction=rows.index, **_texts(library, rows)).astype(object)
    return library, _by_pair(rows.where(rows.notna(), None).to_dict("records"), on)


def _plain_rows(library: Library) -> list[dict[str, Any]]:
    """Return the rows of `interactions` with the tool calls of each, where pandas is not installed."""
    calls = defaultdict[str, list[str]](list)
    for call in plain_items(library, "tool_calls"):
        calls[call["interaction"]].append(f"{call['name'] or ''}({canonical(call['arguments'])})")
    rows = (row for row in plain_items(library, "interactions") if row["answer_key"] is not None)
    return [row | {"text": row["answer"], "tool_calls": "\n".join(calls[row["interaction"]])} for row in rows]


def _by_pair(rows: Sequence[dict[str, Any]], on: str) -> dict[_Name, dict[str, Any]]:
    answers: dict[_Name, dict[str, Any]] = {}
    numbers = Counter[tuple[str, str]]()
    for row in rows:
        prompt = row["prompt_key"] if on == "prompt" else None
        pair = ("prompt", prompt) if prompt else (row["kind"], row["key"])
        numbers[pair] += 1
        answers[*pair, numbers[pair]] = row
    return answers


def _library_of_interactions(source: Any) -> Library | None:
    """Return the library of some interactions; None for another source."""
    items = [source] if isinstance(source, Interaction) else source
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, Interaction) for item in items):
        return None
    short = ShortNames(file_name(item.request.kind, item.request.key) for item in items if item.request is not None)
    rows = [Row("", None, item.request, item.take, host=item.host, outcome=item.outcome) for item in items]
    return Library(RowFrames(name_rows(rows, short)))


def _texts(library: Library, rows: pd.DataFrame) -> dict[str, Any]:
    """Return the text and the tool calls of each answer, and what was asked."""
    calls = library.tool_calls
    lines = calls.name.astype(object).fillna("") + "(" + calls.arguments.astype(object).map(canonical) + ")"
    tool_calls = lines.groupby(calls.interaction.astype(object)).agg("\n".join).reindex(rows.index).fillna("")
    if {"prompt", "answer"} <= {*rows.columns} and not rows[["prompt", "answer"]].isna().all(axis=None):
        return {"text": rows.answer, "tool_calls": tool_calls}
    # An export from before these columns were added.
    messages = library.messages
    messages = messages[messages.content.notna() & (messages.content_type != "reasoning")].astype(object)
    texts = {
        "text": messages[messages.direction == "output"].groupby("interaction").content.agg("\n".join),
        "prompt": messages[messages.role == "user"].groupby("interaction").content.last(),
    }
    return {name: values.reindex(rows.index) for name, values in texts.items()} | {"tool_calls": tool_calls}
