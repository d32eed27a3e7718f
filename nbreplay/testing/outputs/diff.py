"""Readable diffs between the stored and the displayed outputs of a cell."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import msgspec

from nbreplay.core.variable_text import Proposal
from nbreplay.core.words import count_of, shorten
from nbreplay.notebook.escape import plain

_WIDTH = 160
_LINES = 30  # of one output
_AROUND = 2
_ALIGNED = 1000  # lines; to align more takes too long


class Difference(msgspec.Struct, frozen=True):
    """How the outputs of one cell differ."""

    index: int  # position of the cell in the notebook, from 1
    first: str  # first line of its source
    lines: tuple[str, ...]  # each begins with ``-`` and a space (stored), ``+`` and a space (now) or two spaces (both)
    masks: tuple[Proposal, ...] = ()  # masks that make the outputs equal, if there are any


def make_difference(index: int, source: str, lines: Sequence[str], masks: tuple[Proposal, ...] = ()) -> Difference:
    """Return a difference without control characters for a terminal."""
    return Difference(index, _safe(first_line(source)), tuple(map(_safe, lines)), masks)


def first_line(source: str) -> str:
    """Return the first line of a cell that is not empty, or its first 60 characters."""
    return shorten(next((line.strip() for line in source.splitlines() if line.strip()), ""), 60)


def _safe(line: str) -> str:
    return plain(line).replace("\n", "\\u000a")  # a MIME type may contain anything


def format_difference(difference: Difference, colour: bool) -> str:
    """Return a difference as text for a terminal: the cell, and its lines, indented."""
    first = _safe(difference.first)
    lines = [f"cell {difference.index}{f' ({first})' if first else ''}:"]
    for line in map(_safe, difference.lines):
        code = {"-": "31", "+": "32"}.get(line[:1]) if colour else None
        lines.append(f"    \x1b[{code}m{line}\x1b[0m" if code else f"    {line}")
    return "\n".join(lines)


def diff_lines(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return the diff of two texts as lines, of limited length; empty if they are the same."""
    return [] if old == new else _limit(list(_diff(old, new)))


def one_sided_lines(sign: str, lines: Sequence[str]) -> list[str]:
    """Return the lines of an output that only one side has."""
    return _limit([f"{sign} {_clip(line)}" for line in lines])


def _limit(lines: list[str], most: int = _LINES, sign: str = " ") -> list[str]:
    more = len(lines) - most
    return [*lines[:most], f"{sign} … {count_of(more, 'more line')}"] if more > 0 else lines


def _diff(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    codes = _opcodes(old, new)
    for place, (tag, low, high, other_low, other_high) in enumerate(codes):
        if tag == "equal":
            yield from _context_lines(old[low:high], _AROUND if place else 0, _AROUND if place < len(codes) - 1 else 0)
        else:
            yield from _change_lines(old[low:high], new[other_low:other_high])


def _opcodes(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Align two texts. Between their common start and end, that takes quadratic time."""
    most = min(len(old), len(new))
    start = next((place for place in range(most) if old[place] != new[place]), most)
    most -= start
    end = next((place for place in range(most) if old[-1 - place] != new[-1 - place]), most)
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    codes: list[tuple[str, int, int, int, int]] = [("replace", 0, len(before), 0, len(after))]
    if max(len(before), len(after)) <= _ALIGNED:
        codes = list(difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes())
    codes = [(tag, *(place + start for place in places)) for tag, *places in codes]  # type: ignore[misc]
    codes.insert(0, ("equal", 0, start, 0, start))
    codes.append(("equal", len(old) - end, len(old), len(new) - end, len(new)))
    return [code for code in codes if code[1] < code[2] or code[3] < code[4]]


def _context_lines(lines: Sequence[str], first: int, last: int) -> Iterator[str]:
    """Yield the first and the last lines, and the number of those between."""
    omitted = len(lines) - first - last
    yield from (f"  {_clip(line)}" for line in (lines[:first] if omitted > 1 else lines))
    if omitted > 1:
        yield f"  … {omitted:,} lines the same"
        yield from (f"  {_clip(line)}" for line in lines[len(lines) - last :])


def _change_lines(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    if len(old) != len(new):
        most = _LINES // 2 - _AROUND  # leaves room for the other side
        for sign, lines in (("-", old), ("+", new)):
            yield from _limit([f"{sign} {_clip(line)}" for line in lines], most, sign)
        return
    starts = [_start(line, other) for line, other in zip(old, new, strict=True)]
    before = [f"- {_clip(line, start)}" for line, start in zip(old, starts, strict=True)]
    after = [f"+ {_clip(line, start)}" for line, start in zip(new, starts, strict=True)]
    if len(old) * 2 <= _LINES:
        yield from before + after
    else:  # alternate, so that the limit does not cut off all new lines
        yield from (line for pair in zip(before, after, strict=True) for line in pair)


def _start(line: str, other: str) -> int:
    """Return the first character to show of two lines, such that their first difference is visible."""
    pairs = enumerate(zip(line, other, strict=False))
    same = next((place for place, (one, two) in pairs if one != two), min(len(line), len(other)))
    return 0 if same < _WIDTH - 40 else same - 40


def _clip(line: str, start: int = 0) -> str:
    ending = len(line) - len(line.rstrip(" "))
    part = line[start : start + _WIDTH]
    if ending and start + _WIDTH >= len(line):
        part = part.rstrip(" ") + "·" * min(ending, len(part))  # makes trailing spaces visible
    rest = len(line) - start - _WIDTH
    return f"{'…' if start else ''}{part}{f' … ({len(line):,} characters)' if rest > 0 else ''}"
