"""Words: the outcomes of calls, numbers and enumerations, as cards, badges, reports and messages write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

Outcome = Literal["replayed", "recorded", "missing", "live", "unsaved", "blocked"]


class OutcomeWords(msgspec.Struct, frozen=True):
    """How an outcome is written."""

    label: str  # on a card
    words: str  # after a number of calls
    fails: bool = False  # whether it fails a test, even if the program caught the exception


OUTCOMES: Mapping[str, OutcomeWords] = {
    "replayed": OutcomeWords("REPLAY", "replayed"),
    "recorded": OutcomeWords("REC", "recorded"),
    "missing": OutcomeWords("MISSING", "missing", fails=True),
    "live": OutcomeWords("LIVE", "answered live, not recorded"),
    "unsaved": OutcomeWords("UNSAVED", "answered live, not saved", fails=True),
    "blocked": OutcomeWords("BLOCKED", "blocked", fails=True),
}
"""The outcomes of a call. ``unsaved`` was answered but not written; ``blocked`` was refused by the guard."""

FAILURES = tuple(outcome for outcome, words in OUTCOMES.items() if words.fails)
"""The outcomes that fail a test."""

TOLERABLE = ("blocked",)
"""Those of them that a cell may have if a tag lets it raise: a refused connection fails as it would offline."""

_ALWAYS = ("replayed", "recorded", "missing")  # of a summary, even if there are none


def count_of(number: int, noun: str) -> str:
    """Return a number and its noun, such as ``1 call`` or ``2,000 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_outcome(outcome: str, number: int, reasons: Iterable[str] = ()) -> str:
    """Return a number of calls with an outcome, such as ``1 answered live, not recorded: 429 Too Many Requests``."""
    why = ", ".join(dict.fromkeys(filter(None, reasons)))
    return f"{number:,} {OUTCOMES[outcome].words}" + (f": {why}" if why else "")


def format_failure(outcome: str, note: str) -> str:
    """Return the note of a call that failed, which says by itself what is missing, and what was blocked."""
    return f"answer not saved: {note}" if outcome == "unsaved" else note


def format_counts(counts: Mapping[str, int], unused: int = 0) -> str:
    """Return the summary of a run: ``3 replayed, 0 recorded, 0 missing, 2 unused; 1 answered live, not recorded``."""
    usual = [format_outcome(outcome, counts.get(outcome, 0)) for outcome in _ALWAYS]
    usual += [f"{unused:,} unused"] if unused else []
    others = (format_outcome(name, counts[name]) for name in OUTCOMES if name not in _ALWAYS and counts.get(name))
    return "; ".join([", ".join(usual), *others])


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean record?"`` where a known word is close to `word`, else ``""``."""
    import difflib  # takes a millisecond

    close = difflib.get_close_matches(word, list(known), 1)
    return f" Did you mean {close[0]}?" if close else ""


def shorten(text: str, size: int) -> str:
    """Return at most `size` characters of `text`, up to the end of a word, with ``…`` where some are left out."""
    if len(text) <= size:
        return text
    head = text[: size - 1]
    if not text[size - 1].isspace():
        words = head.rsplit(maxsplit=1)
        # A word that is half of the text, such as an address, is cut.
        head = words[0] if len(words) > 1 and len(words[0]) > size // 2 else head
    return f"{head.rstrip()}…"


def shorten_line(text: str, size: int) -> str:
    """Return at most `size` characters of `text` on one line, as `shorten` does."""
    return shorten(" ".join(text[: 4 * size].split()), size)


def join_words(words: Iterable[str]) -> str:
    """Return an enumeration, such as ``a date, a time and a uuid``."""
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last
