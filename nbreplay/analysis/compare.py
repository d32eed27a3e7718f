"""Comparison: two libraries, answer by answer. Reads nothing but frames."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis.columns import COMPARED
from nbreplay.analysis.frames import frame
from nbreplay.analysis.library import Library, load
from nbreplay.analysis.metrics import Linked
from nbreplay.analysis.sources import Row
from nbreplay.core.log import Interaction
from nbreplay.errors import OptionError
from nbreplay.providers.messages import canonical

if TYPE_CHECKING:
    from nbreplay.analysis.sources import Source

__all__ = ["Comparison", "compare"]

_STATUSES = ("same", "changed", "only in a", "only in b")
_DELTAS = ("n_tool_calls", "input_tokens", "output_tokens", "duration_s", "ttft_s")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of each answer between a and b.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row a pair, by `pair`; its columns are `COMPARED` of `nbreplay.analysis.columns`.
    on : str
        What pairs are made of: ``key`` or ``prompt``.
    libraries : tuple of Library
        What a and b are rows of.
    """

    frame: pd.DataFrame = field(repr=False, compare=False)
    on: str
    libraries: tuple[Library, Library] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs there are of each status."""
        found = self.frame.status.value_counts()
        return {status: int(found.get(status, 0)) for status in _STATUSES}

    @property
    def changed(self) -> pd.DataFrame:
        """The rows whose answers differ."""
        return self.frame[self.frame.status == "changed"]

    def __repr__(self) -> str:
        counted = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        lines = [f"Comparison on {self.on}: {counted}"]
        both = self.frame[self.frame.status.isin(["same", "changed"])]
        for name, unit in (("output_tokens", "tokens"), ("duration_s", "s"), ("ttft_s", "s")):
            known = both[f"{name}_delta"].dropna()
            if len(known):
                lines.append(f"  {name}: median {known.median():+.4g} {unit} from a to b, of {len(known)}")
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        shown = self.frame[self.frame.status != "same"].head(20)
        names = ["status", "model_a", "model_b", "prompt", "text_diff", "similarity", "tool_calls_a", "tool_calls_b"]
        head, *more = repr(self).split("\n")
        lines = "".join(f"<br>{line.strip()}" for line in more)
        # Texts of recordings: pandas escapes them.
        table = shown[names].reset_index(drop=True).to_html(max_rows=20, na_rep="") if len(shown) else ""
        return {"text/plain": repr(self), "text/html": f"<div><p><b>{head}</b>{lines}</p>{table}</div>"}

    @property
    def sides(self) -> Iterator[tuple[Interaction | None, Interaction | None]]:
        """The pairs as interactions, those that have changed first; None where one side has none."""
        rank = self.frame.status.map({"changed": 0, "same": 2}).astype("float").fillna(1)
        ordered = self.frame.loc[rank.sort_values(kind="stable").index, ["interaction_a", "interaction_b"]].astype(
            object
        )
        for names in ordered.itertuples(index=False):
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
    """Compare what two libraries answered.

    Parameters
    ----------
    a, b : Library, what `nbreplay.load` takes, rows of a library's interactions, or interactions of a session
        An interaction is compared with another one, whatever they asked.
    on : {"key", "prompt"}
        Pair answers to the same request (last month against today), or to the same messages (model against model).
        Of several answers, the first is paired with the first. What has no messages is paired by its key.

    Returns
    -------
    Comparison
        Calls of a session that got no answer are not in it.

    Raises
    ------
    OptionError
        For another `on`, or a frame that does not know its library.

    Examples
    --------
    >>> nbreplay.compare("recordings-october", "recordings").changed[["prompt", "text_diff"]]
    >>> found = lib.interactions
    >>> nbreplay.compare(found.query("model == 'gpt-4o'"), found.query("model == 'o3'"), on="prompt")
    """
    if on not in ("key", "prompt"):
        raise OptionError(f'compare on="key" or on="prompt", not on={on!r}')
    (first, one), (second, other) = _answers(a, on), _answers(b, on)
    if isinstance(a, Interaction) and isinstance(b, Interaction):
        other = dict(zip(one, other.values(), strict=False))
    pairs = list(dict.fromkeys((*one, *other)))
    made = frame(COMPARED, (_row(pair, one.get(pair), other.get(pair)) for pair in pairs), index="pair")
    return Comparison(made, on, (first, second))


def _answers(given: Any, on: str) -> tuple[Library, dict[str, dict[str, Any]]]:
    """Return a library, and its answers by pair."""
    if isinstance(given, pd.DataFrame):
        mark = given.attrs.get("nbreplay")
        if not isinstance(mark, Linked) or given.index.name != "interaction" or "answer_key" not in given:
            raise OptionError("compare takes rows of lib.interactions, with their index; or a library, or a store")
        library, rows = mark.library, given
    else:
        library = given if isinstance(given, Library) else _of(given) or load(given)
        rows = library.interactions
    rows = rows[rows.answer_key.notna()]
    names = ["kind", "model", "finish_reason", "error_type", "answer_key", "key", "prompt_key", *_DELTAS]
    plain = rows[names].astype(object)
    plain = plain.where(plain.notna(), None)
    texts, prompts, calls = _texts(library, rows.index)
    made: dict[str, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    for own, row in zip(plain.index, plain.to_dict("records"), strict=True):
        pair = (row["prompt_key"] if on == "prompt" else None) or row["key"]
        seen[pair] = seen.get(pair, 0) + 1
        text = None if own not in texts else "\n".join(texts[own])
        row |= {"interaction": own, "text": text, "prompt": prompts.get(own), "calls": "\n".join(calls.get(own, ()))}
        made[f"{pair}#{seen[pair]}"] = row
    return library, made


def _of(given: Any) -> Library | None:
    """Return the library of some interactions; None where it is something else that is given."""
    items = [given] if isinstance(given, Interaction) else given
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, Interaction) for item in items):
        return None
    return Library(
        [
            Row(f"{item.key}#{number}", None, item.request, item.take, host=item.host)
            for number, item in enumerate(items, 1)
        ]
    )


def _texts(library: Library, wanted: pd.Index) -> tuple[dict[str, list[str]], dict[str, str], dict[str, list[str]]]:
    """Return what was said, what was asked last, and which tools were asked for, by interaction."""
    texts: dict[str, list[str]] = {}
    prompts: dict[str, str] = {}
    calls: dict[str, list[str]] = {}
    every = library.messages
    every = every[every.interaction.isin(wanted) & every.content.notna() & (every.content_type != "reasoning")]
    names = ("interaction", "direction", "role", "content")
    for own, direction, role, content in zip(*(every[name].astype(object) for name in names), strict=True):
        if direction == "output":
            texts.setdefault(own, []).append(content)
        elif role == "user":
            prompts[own] = content
    asked = library.tool_calls
    asked = asked[asked.interaction.isin(wanted)]
    for own, name, given in zip(
        *(asked[one].astype(object) for one in ("interaction", "name", "arguments")), strict=True
    ):
        calls.setdefault(own, []).append(f"{'' if pd.isna(name) else name}({canonical(given)})")
    return texts, prompts, calls


_NONE: dict[str, Any] = {}


def _row(pair: str, one: dict[str, Any] | None, other: dict[str, Any] | None) -> tuple[Any, ...]:
    a, b = one or _NONE, other or _NONE
    both = one is not None and other is not None
    same = both and a["answer_key"] == b["answer_key"]
    status = "only in b" if one is None else "only in a" if other is None else "same" if same else "changed"
    before, after = a.get("text"), b.get("text")
    diff = alike = None
    if both:
        diff = "" if before == after else _diff(before or "", after or "")
        if before is not None or after is not None:
            alike = difflib.SequenceMatcher(None, (before or "").split(), (after or "").split()).ratio()
    return (
        pair,
        status,
        a.get("kind") or b.get("kind"),
        a.get("interaction"),
        b.get("interaction"),
        a.get("model"),
        b.get("model"),
        b.get("prompt") or a.get("prompt"),
        before,
        after,
        diff,
        alike,
        a.get("calls"),
        b.get("calls"),
        *(_delta(a.get(name), b.get(name)) for name in _DELTAS),
        a.get("finish_reason"),
        b.get("finish_reason"),
        a.get("error_type"),
        b.get("error_type"),
    )


def _diff(one: str, other: str) -> str:
    lines = list(difflib.unified_diff(one.splitlines(), other.splitlines(), n=0, lineterm=""))[2:]
    return "\n".join(line for line in lines if not line.startswith("@@"))


def _delta(one: Any, other: Any) -> Any:
    return None if one is None or other is None else other - one
