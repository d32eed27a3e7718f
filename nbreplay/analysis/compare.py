"""Comparison: what two sets of recordings answered to the same requests, or to the same prompts."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import pandas as pd  # type: ignore[import-untyped]

from nbreplay.analysis import columns
from nbreplay.analysis.frames import frame
from nbreplay.analysis.library import Library, load
from nbreplay.analysis.rows import Told
from nbreplay.analysis.sources import Row, Source
from nbreplay.core.asked import prompt_key
from nbreplay.core.log import Interaction
from nbreplay.errors import OptionError

__all__ = ["Comparison", "compare"]

_BY = ("key", "prompt")
_TOOL_KINDS = ("tool",)
Compared = Library | Interaction | Sequence[Interaction] | Source
Pair = tuple[Told | None, Told | None]


def compare(a: Compared, b: Compared, *, on: str = "key") -> Comparison:
    """Compare what two sets of recordings answered.

    Parameters
    ----------
    a, b : path, Store, Session, Library, Interaction, or a list of interactions
        Two interactions are compared with each other, whatever they asked.
    on : {"key", "prompt"}
        ``key``: the same request, as last month against today. ``prompt``: the same messages, whatever the model and
        its settings, as one model against another. Several takes of a request are compared in their order.

    Returns
    -------
    Comparison

    Raises
    ------
    OptionError
        For another `on`, and for what cannot be compared.
    RecordingFormatError, StoreError
        As `nbreplay.load`.

    Examples
    --------
    >>> nbreplay.compare("recordings-october", "recordings").frame.status.value_counts()
    """
    if on not in _BY:
        raise OptionError(f"on={on!r}: compare by {' or '.join(map(repr, _BY))}")
    if isinstance(a, Interaction) and isinstance(b, Interaction):
        return Comparison([(_told(a), _told(b))])
    return Comparison(list(_paired(_all(a), _all(b), on)))


class Comparison:
    """Pairs of answers; `nbreplay.compare` makes it."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = list(pairs)

    def __repr__(self) -> str:
        counts = self.frame.status.value_counts()
        return f"Comparison({', '.join(f'{counts[status]} {status}' for status in counts.index if counts[status])})"

    def __len__(self) -> int:
        return len(self._pairs)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a pair: what is the same, what has changed and how, and what is on one side only."""
        return frame(columns.COMPARED, (_row(a, b) for a, b in self._pairs))

    @property
    def sides(self) -> list[tuple[Interaction | None, Interaction | None]]:
        """The pairs as interactions, those that have changed first."""
        order = {"changed": 0, "same": 1}
        ranked = sorted(zip(self.frame.status, self._pairs, strict=True), key=lambda item: order.get(item[0], 2))
        return [(_interaction(a), _interaction(b)) for _, (a, b) in ranked]

    def show(self) -> None:
        """Display the pairs side by side, each on one timeline: in a notebook as widgets, elsewhere as text."""
        from nbreplay._show import show_pairs

        show_pairs(self.sides)


def _told(item: Interaction) -> Told:
    return Told(Row(item.key or item.host, None, item.request, item.take, host=item.host))


def _all(source: Compared) -> list[Told]:
    if isinstance(source, Library):
        return list(source.told)
    if isinstance(source, Interaction):
        return [_told(source)]
    if isinstance(source, list | tuple) and source and all(isinstance(item, Interaction) for item in source):
        return [_told(item) for item in source]
    return list(load(source).told)  # type: ignore[arg-type]


def _paired(ours: Iterable[Told], theirs: Iterable[Told], on: str) -> Iterable[Pair]:
    groups: dict[str, tuple[list[Told], list[Told]]] = defaultdict(lambda: ([], []))
    for side, told in enumerate((ours, theirs)):
        for item in told:
            name = item.row.request.key if item.row.request is not None else None
            if on == "prompt":
                name = prompt_key(item.canonical)
            if name is not None:
                groups[name][side].append(item)
    for left, right in groups.values():
        both = min(len(left), len(right))
        yield from zip(left, right, strict=False)
        yield from ((item, None) for item in left[both:])
        yield from ((None, item) for item in right[both:])


def _row(a: Told | None, b: Told | None) -> tuple[Any, ...]:
    text_a, text_b = _text(a), _text(b)
    calls_a, calls_b = _calls(a), _calls(b)
    if a is None or b is None:
        status = "only in a" if b is None else "only in b"
    else:
        status = "same" if (text_a, calls_a) == (text_b, calls_b) else "changed"
    either = a or b
    request = either.row.request if either is not None else None
    return (
        status,
        request.key if request is not None else None,
        None if request is None else request.kind,
        None if a is None else a.row.interaction,
        None if b is None else b.row.interaction,
        _model(a),
        _model(b),
        text_a,
        text_b,
        _difference(text_a, text_b),
        None if text_a is None or text_b is None else _similarity(text_a, text_b),
        _less(_tokens(b), _tokens(a)),
        _less(_took(b), _took(a)),
        _less(_first(b), _first(a)),
        calls_a,
        calls_b,
    )


def _text(told: Told | None) -> str | None:
    if told is None:
        return None
    if told.kind in _TOOL_KINDS and told.row.take is not None:
        return told.row.take.body.data().decode("utf-8", "replace")
    return told.answer.text() or told.answer.text("refusal") or told.answer.reader.error


def _calls(told: Told | None) -> str | None:
    if told is None:
        return None
    return "\n".join(f"{call.name}({''.join(call.arguments)})" for call in told.answer.calls.values())


def _model(told: Told | None) -> str | None:
    request = None if told is None else told.row.request
    return None if request is None else request.model or None


def _tokens(told: Told | None) -> int | None:
    return None if told is None else told.answer.reader.tokens.get("output")


def _took(told: Told | None) -> float | None:
    return None if told is None or told.row.take is None else told.row.take.duration_s


def _first(told: Told | None) -> float | None:
    if told is None or told.row.take is None or told.row.take.duration_s is None or told.answer.first_ms is None:
        return None
    return told.answer.first_ms / 1000 if told.answer.first_ms else None


def _less(b: float | None, a: float | None) -> Any:
    return None if a is None or b is None else b - a


def _difference(a: str | None, b: str | None) -> str | None:
    if a is None or b is None or a == b:
        return None
    lines = difflib.unified_diff(a.splitlines(), b.splitlines(), "a", "b", lineterm="", n=1)
    return "\n".join(lines)


def _similarity(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.split(), b.split(), False).ratio()


def _interaction(told: Told | None) -> Interaction | None:
    if told is None:
        return None
    return Interaction(told.row.request, told.row.take, "replayed" if told.row.take else "missing", host=told.row.host)
