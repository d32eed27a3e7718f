"""Word diff: the words in which two texts differ. Pure: texts to spans, and spans to text with marks.

Words and punctuation are compared, and white space is not. Long texts are compared sentence by sentence first, which
keeps the time of a comparison short.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence

Span = tuple[int, int]
Marked = list[tuple[str, bool]]
"""A text in pieces, each with whether it differs."""

_SENTENCE = re.compile(r"[^\n.!?]+[\n.!?]*\s*|[\n.!?]+\s*")
_WORD = re.compile(r"\w+|[^\w\s]")
_MOST = 250_000  # pairs of words that are compared; a longer piece differs as a whole
_CONTEXT = 60  # characters of an equal piece that stay on each side of a difference


def changed_spans(a: str, b: str) -> tuple[list[Span], list[Span]]:
    """Return the spans of `a` and those of `b` that differ."""
    mine, others = list[Span](), list[Span]()
    for (start, end), (low, high) in _differing(a, b, (0, len(a)), (0, len(b)), _SENTENCE):
        words = len(_WORD.findall(a, start, end)) * len(_WORD.findall(b, low, high))
        pairs = [((start, end), (low, high))]
        for one, other in _differing(a, b, *pairs[0], _WORD) if 0 < words <= _MOST else pairs:
            mine += [one] if one[0] < one[1] else []
            others += [other] if other[0] < other[1] else []
    return _join(a, mine), _join(b, others)


def _differing(a: str, b: str, one: Span, other: Span, unit: re.Pattern[str]) -> Iterator[tuple[Span, Span]]:
    """Yield the pairs of spans that differ between two pieces, cut into units; an empty span where one has nothing."""
    mine, others = ([found.span() for found in unit.finditer(*piece)] for piece in ((a, *one), (b, *other)))
    mine_words = [a[low:high].strip() for low, high in mine]
    others_words = [b[low:high].strip() for low, high in others]
    # Sentences that come often are not looked for, which would take seconds.
    matcher = difflib.SequenceMatcher(None, mine_words, others_words, autojunk=unit is _SENTENCE)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag != "equal":
            yield _around(mine[i:j]), _around(others[k:m])


def _around(spans: Sequence[Span]) -> Span:
    return (spans[0][0], spans[-1][1]) if spans else (0, 0)


def _join(text: str, spans: Sequence[Span]) -> list[Span]:
    """Return spans without the white space at their ends; those that only white space divides are one."""
    joined: list[Span] = []
    for low, high in spans:
        high = low + len(text[low:high].rstrip())
        if joined and not text[joined[-1][1] : low].strip():
            joined[-1] = joined[-1][0], high
        elif high > low:
            joined.append((low, high))
    return joined


def split_at(text: str, spans: Sequence[Span]) -> Marked:
    """Return a text in pieces, at the spans that differ."""
    pieces, at = Marked(), 0
    for low, high in spans:
        pieces += [(text[at:low], False), (text[low:high], True)]
        at = high
    return [(piece, differs) for piece, differs in (*pieces, (text[at:], False)) if piece]


def fold_equal(pieces: Marked, fold: Callable[[str], str]) -> Marked:
    """Return pieces with what is equal and far from a difference replaced by `fold` of it, up to the end of a word."""
    folded = Marked()
    for place, (piece, differs) in enumerate(pieces):
        low = 0 if place == 0 else _CONTEXT
        high = len(piece) - (0 if place == len(pieces) - 1 else _CONTEXT)
        if not differs and high - low > 2 * _CONTEXT and len(pieces) > 1:
            low, high = piece.find(" ", low) % len(piece) if low else 0, piece.rfind(" ", 0, high) + 1 or high
            if high - low > _CONTEXT:
                piece = piece[:low] + fold(piece[low:high]) + piece[high:]
        folded.append((piece, differs))
    return folded
