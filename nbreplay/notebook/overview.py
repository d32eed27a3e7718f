"""Overviews: what an object holds, as lines of text and as HTML in the look of the page. Pure; escapes what it shows.

Colours and borders are those of the page, so that an overview fits a light and a dark theme.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import TextWrapper

import msgspec

from nbreplay.core.config import forced_mode
from nbreplay.core.log import Interaction
from nbreplay.core.session import Session, active_sessions
from nbreplay.core.words import FAILURES, shorten, shorten_line
from nbreplay.notebook.card import Card, make_cards
from nbreplay.notebook.escape import escape, format_seconds, plain
from nbreplay.notebook.render import FONT, render_calls
from nbreplay.notebook.status import Totals, short_path

_LINE = 100  # characters
_LAST = 5  # calls of a session
_SHORT = 28  # characters of a cell that is not broken into lines
_NUMBER = re.compile(r"[\d,.–]*( m?s)?")


class Part(msgspec.Struct, frozen=True):
    """A table below the facts of an overview, as text and as HTML that is safe."""

    heading: str
    text: str
    page: str


class Overview(msgspec.Struct, frozen=True):
    """A title, a remark beside it, facts as names and values, and tables."""

    title: str
    remark: str = ""
    facts: Sequence[tuple[str, str]] = ()
    parts: Sequence[Part] = ()

    def bundle(self) -> dict[str, str]:
        """Return the overview as a mime bundle: text/plain, text/html."""
        return {"text/plain": self._text(), "text/html": self._page()}

    def _text(self) -> str:
        width = max((len(name) for name, _ in self.facts), default=0)
        lines = [plain(f"{self.title}: {self.remark}" if self.remark else self.title)]
        for name, value in self.facts:
            wrapper = TextWrapper(_LINE, initial_indent=f"  {name:<{width}}  ", subsequent_indent=" " * (width + 4))
            lines += wrapper.wrap(plain(value))
        for part in self.parts:
            if part.text:
                lines += ["", *([part.heading] if part.heading else []), part.text]
        return "\n".join(lines)

    def _page(self) -> str:
        remark = f' <span style="opacity:.75">{escape(self.remark)}</span>' if self.remark else ""
        page = f'<div style="margin:4px 0"><b>{escape(self.title)}</b>{remark}</div>'
        left = 'style="text-align:left;vertical-align:top"'
        rows = (f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>" for name, value in self.facts)
        page += f'<table class="dataframe">{"".join(rows)}</table>' if self.facts else ""
        for part in self.parts:
            heading = f'<div style="opacity:.75;margin:8px 0 4px">{escape(part.heading)}</div>' if part.heading else ""
            page += heading + part.page
        # The classes keep MathJax from reading $ in a prompt as mathematics.
        return f'<div class="tex2jax_ignore mathjax_ignore" style="{FONT};overflow-x:auto">{page}</div>'


def table(names: Sequence[str], rows: Sequence[Sequence[str]], heading: str = "", *, text: bool = True) -> Part:
    """Return a table of texts, with numbers to the right; `text` is whether it is shown as text, too."""
    columns = [*zip(names, *rows, strict=True)]
    sides = ["right" if any(cells) and all(map(_NUMBER.fullmatch, cells)) else "left" for _, *cells in columns]
    widths = [max(map(len, column)) for column in columns]
    lines, page = [], ""
    for row in (names, *rows):
        cells = [*zip(row, sides, widths, strict=True)]
        padded = (f"{cell:{'>' if side == 'right' else '<'}{width}}" for cell, side, width in cells)
        lines.append(plain("  " + "  ".join(padded)).rstrip())
        tag = "th" if row is names else "td"
        page += "<tr>" + "".join(f"<{tag} {_style(*cell)}>{escape(cell[0])}</{tag}>" for cell in cells) + "</tr>"
    return Part(heading, "\n".join(lines) if text else "", f'<table class="dataframe">{page}</table>')


def _style(cell: str, side: str, _: int) -> str:
    return f'style="text-align:{side}{"" if len(cell) > _SHORT else ";white-space:nowrap"}"'


def enumerate_counts(counts: Iterable[tuple[str, int]], most: int = 8) -> str:
    """Return names with their counts, such as ``gpt-4o (12), o3 (2)``; of many, the first ones and how many more."""
    texts = [f"{shorten_line(name, 60)} ({count:,})" for name, count in counts]
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])


def session_overview(session: Session) -> dict[str, str]:
    """Return what a session is and has done, as a mime bundle."""
    calls = session.interactions
    totals = Totals.of(calls)
    mode = session.mode.value + (" (by NBREPLAY_MODE)" if forced_mode() else "")
    off = "; the session has ended" if calls else "; the session has not begun"
    facts = [
        ("mode", mode if session in active_sessions() else mode + off),
        ("store", short_path(session.store.shown) + (" (read-only)" if session.store.archive else "")),
        ("calls", totals.counts),
    ]
    facts += [] if totals.tokens is None else [("tokens", f"{totals.tokens:,}")]
    waits = [call.take.duration_s for call in calls if call.outcome == "replayed" and call.take is not None]
    times = [wait for wait in waits if wait is not None]
    if times and not session.options.speed:
        # Not less the time of the replay, which differs in each run: a notebook's outputs are compared.
        facts.append(("saved", f"{format_seconds(sum(times))} of waiting, as recorded"))
    last = {call.outcome: call.note for call in calls if call.outcome in FAILURES}
    facts += [(outcome, _first_line(note)) for outcome, note in last.items()]
    cards = make_cards(calls[-_LAST:])
    heading = f"the last {len(cards)} of {len(calls):,} calls" if len(calls) > len(cards) else ""
    names = ("outcome", "model or tool", "asked", "answered", "took")
    parts = [table(names, [*map(_row, cards)], heading)] if cards else []
    return Overview("Session", "", facts, parts).bundle()


def _row(card: Card) -> tuple[str, ...]:
    texts = [track.text for track in card.tracks if track.kind in ("text", "refusal")]
    calls = [f"{track.name}({track.text})" for track in card.tracks if track.kind == "tool_call"]
    answer = card.error or _first_line(card.note) or " ".join(texts + calls)
    outcome = card.call.outcome if card.call else card.word
    times = format_seconds(card.duration_s)
    return outcome, shorten(card.title, 40), shorten_line(card.prompt, 60), shorten_line(answer, 60), times


def _first_line(note: str) -> str:
    return shorten_line(note.strip().split("\n")[0], 160)


def interaction_overview(call: Interaction) -> dict[str, str]:
    """Return a call as a mime bundle: its card."""
    return render_calls([call], outcomes=True)
