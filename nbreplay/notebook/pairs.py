"""Pairs: two answers side by side, with the words that differ marked, and what a comparison says around them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from nbreplay.core.log import Interaction
from nbreplay.core.words import count_of
from nbreplay.notebook.card import Card, Track, make_cards
from nbreplay.notebook.escape import escape, fence, plain
from nbreplay.notebook.render import FONT, MUTED, page_of, render
from nbreplay.notebook.word_diff import changed_spans

_NOTHING = "this side has no answer to this"


class Rest(msgspec.Struct, frozen=True):
    """Pairs that are not shown side by side: their heading, such as ``12 same``, their first lines and their number."""

    head: str
    lines: tuple[str, ...]
    count: int


def make_pair(calls: Sequence[Interaction | None], names: Sequence[str]) -> list[Card]:
    """Return the cards of two calls, each with the name of its side; a card that says so where a side has no answer."""
    cards = [
        Card(f"nothing in {plain(name)}", note=_NOTHING) if call is None else make_cards([call])[0]
        for name, call in zip(names, calls, strict=True)
    ]
    sides = [
        card if call is None or name in (card.title, "") else replace(card, title=f"{plain(name)} · {card.title}")
        for card, call, name in zip(cards, calls, names, strict=True)
    ]
    if None in calls:
        return sides
    _mark(*sides)
    return [replace(card, side=side) for card, side in zip(sides, "-+", strict=True)]


def _mark(one: Card, other: Card) -> None:
    """Set the marks of the tracks of two cards, which are paired by their kind and order."""
    rows = [list(_track_keys(card.tracks)) for card in (one, other)]
    tracks = [dict(row) for row in rows]
    for name in dict.fromkeys(name for row in rows for name, _ in row):
        pair = [side.get(name) for side in tracks]
        for track, spans in zip(
            pair, changed_spans(*(track.marked_text if track else "" for track in pair)), strict=True
        ):
            if track is not None:
                track.marks = tuple(spans)


def _track_keys(tracks: Sequence[Track]) -> Iterator[tuple[tuple[str, int, int], Track]]:
    numbers: dict[tuple[str, int], int] = {}
    for track in tracks:
        kind = (track.kind, track.choice)
        numbers[kind] = numbers.get(kind, -1) + 1
        yield (*kind, numbers[kind]), track


def pair_head(cards: Sequence[Card], place: int, count: int) -> tuple[str, list[Card]]:
    """Return the heading of a pair, and its cards without the question, if that is the same."""
    prompts = {card.prompt for card in cards if card.prompt}
    number = f"{place} of {count:,}" if count > 1 else ""
    if len(prompts) != 1:
        return number, list(cards)
    head = " · ".join(filter(None, (number, f"asked: {prompts.pop()}")))
    return head, [replace(card, prompt="") for card in cards]


def pair_bundle(head: str, cards: Sequence[Card], owner: str = "") -> dict[str, str]:
    """Return two cards as a mime bundle, side by side where there are styles. On `owner` see `page_of`."""
    parts = [render(card) for card in cards]
    sides = "".join(f'<div style="flex:1;min-width:0">{part["text/html"]}</div>' for part in parts)
    title = f'<div style="{FONT}"><b>{escape(head)}</b></div>' if head else ""
    return {
        "text/plain": "\n".join(filter(None, [plain(head), *(part["text/plain"] for part in parts)])),
        "text/markdown": "\n\n".join(filter(None, [head and fence(head), *(part["text/markdown"] for part in parts)])),
        "text/html": page_of(f'{title}<div style="display:flex;gap:8px">{sides}</div>', owner, together=True),
    }


def lines_bundle(lines: Sequence[str]) -> dict[str, str]:
    """Return the first lines of a comparison as a mime bundle; the first one is its heading."""
    head, *more = map(plain, lines)
    rows = f"<div><b>{escape(head)}</b></div>" + "".join(f'<div style="{MUTED}">{escape(line)}</div>' for line in more)
    return {
        "text/plain": "\n".join([head, *(f"  {line}" for line in more)]),
        "text/html": f'<div style="{FONT};padding:4px 0">{rows}</div>',
    }


def rest_bundle(rest: Sequence[Rest]) -> dict[str, str]:
    """Return the pairs that are not shown side by side as a mime bundle, folded where a page can fold."""
    texts, folds = [], []
    for part in rest:
        left = part.count - len(part.lines)
        lines = [*map(plain, part.lines), *([f"… {left:,} more"] if left else [])]
        texts.append("\n".join([plain(part.head), *(f"  {line}" for line in lines)]))
        rows = "".join(f"<div>{escape(line)}</div>" for line in lines)
        folds.append(f"<details><summary>{escape(part.head)}</summary>{rows}</details>")
    return {"text/plain": "\n".join(texts), "text/html": f'<div style="{FONT}">{"".join(folds)}</div>'}


def describe_left(count: int) -> str:
    """Return that a number of changed pairs is not shown."""
    return f"… {count_of(count, 'more changed pair')}: see the rows of .changed"
