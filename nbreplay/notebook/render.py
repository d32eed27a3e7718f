"""Cards as text, Markdown and HTML. Pure: no display, no IPython; everything shown is escaped.

The HTML says everything without script, and is what a notebook stores. Where scripts may run, one of ours plays it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from textwrap import indent

from nbreplay.core.log import Interaction
from nbreplay.core.words import count_of, shorten
from nbreplay.notebook.card import Card, Track, make_cards
from nbreplay.notebook.escape import escape, fence, format_seconds
from nbreplay.notebook.word_diff import fold_equal, split_at

MANY = 20  # more calls than this are shown as a summary
MUTED = "color:var(--jp-ui-font-color2,#6b7280)"
FONT = "font:12px var(--jp-ui-font-family,system-ui,sans-serif)"
_BOX = "border:1px solid var(--jp-border-color2,#d0d5dd);border-radius:6px;padding:8px 12px;margin:6px 0;max-width:60em"
_ERROR = "color:var(--jp-error-color1,#b42318)"
WRAP = "white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal;margin:4px 0"
_MAX_LINE = 90  # of what a summary says of a call
_BARS = "▁▂▃▄▅▆▇█"
_STATIC = Path(__file__).parent / "static"


@cache
def read_static(name: str) -> str:
    """Return a script or style without comments and indents, since every notebook carries it.

    A widget has one script: what it imports of another one becomes a function in it.
    """
    lines = (line.strip() for line in (_STATIC / name).read_text(encoding="utf-8").splitlines())
    text = "\n".join(re.sub(r" // .*", "", line) for line in lines if line and not line.startswith(("//", "/*")))
    return re.sub(r'import (\{.*\}) from "\./([\w.]+)";', lambda found: _inline(*found.groups()), text)


def _inline(names: str, module: str) -> str:
    text = re.sub(r"(?m)^export default .*$", "", read_static(module))
    return f"const {names} = (() => {{\n{re.sub(r'(?m)^export', 'return', text)}\n}})();"


def page_of(html: str, owner: str = "", *, together: bool = False) -> str:
    """Return cards in HTML with the script that plays them, on one timeline if they are `together`.

    `owner` is the id of a widget. While its kernel runs, it is shown in the place of the cards: see `place_in`.
    """
    place = hashlib.sha256(f"{owner} {html}".encode()).hexdigest()[:16] if owner else ""
    shared = ' data-together="1"' if together else ""
    # The classes keep MathJax from reading $ in a text as mathematics.
    page = f'<div class="tex2jax_ignore mathjax_ignore" data-nbreplay="{place}"{shared}>{html}</div>'
    # In no recording's text, since its quotes are escaped.
    if not owner and ' data-beats="' not in html:
        return page
    return f'<div>{page}<script type="text/javascript">{_player()}</script></div>'


@cache
def _player() -> str:
    return read_static("player.js").replace("\n", " ")  # a line in a notebook's file


def place_in(html: str) -> str:
    """Return the name of the place of a widget in HTML that `page_of` made; ``""`` where there is none."""
    found = re.search(r' data-nbreplay="(\w+)"', html)
    return found[1] if found else ""


def render_calls(calls: Sequence[Interaction], *, outcomes: bool = False) -> dict[str, str]:
    """Return calls as a mime bundle of text, Markdown and HTML: a card, several below a heading, or a summary of many.

    Each card begins with its outcome, such as REPLAY, if `outcomes`. One that is stored in a notebook does not.
    """
    cards = make_cards(calls)
    return bundle(cards, [card.outcome for card in cards] if outcomes else [])


def bundle(cards: Sequence[Card], labels: Sequence[str] = (), owner: str = "") -> dict[str, str]:
    """Return the mime bundle of some cards, each with its label, such as REPLAY, and with `owner` as `page_of` says."""
    data = _bundle(cards, labels)
    return {**data, "text/html": page_of(data["text/html"], owner)}


def _bundle(cards: Sequence[Card], labels: Sequence[str]) -> dict[str, str]:
    if not cards:
        text = "nbreplay: no calls yet"
        return {"text/plain": text, "text/markdown": text, "text/html": f'<div style="{FONT};{MUTED}">{text}</div>'}
    if len(cards) > MANY:
        return _summary(cards)
    parts = [render(card, label=label) for card, label in zip(cards, labels or [""] * len(cards), strict=True)]
    if len(parts) == 1:
        return parts[0]
    head, pairs = heading(cards), list(zip(cards, parts, strict=True))
    page = "".join(
        f'<details style="margin-left:{min(card.depth, 6) * 1.5}em"><summary>{escape(_summary_line(card))}</summary>'
        f"{part['text/html']}</details>"
        for card, part in pairs
    )
    texts = [indent(part["text/plain"], "  " * min(card.depth, 6), bool) for card, part in pairs]
    return {
        "text/plain": "\n\n".join([head, *texts]),
        "text/markdown": "\n\n".join([f"**{head}**", *(part["text/markdown"] for part in parts)]),
        "text/html": f'<div style="{FONT}"><div><b>{escape(head)}</b></div>{page}</div>',
    }


def render(card: Card, up_to_ms: int | None = None, *, label: str = "") -> dict[str, str]:
    """Return one card as a mime bundle of text, Markdown and HTML, with a label before its title, such as REPLAY.

    With `up_to_ms` it is shown as it was at that moment, in milliseconds from the request.
    """
    tracks = list(card.tracks) if up_to_ms is None else card.tracks_at(up_to_ms)
    label = label or card.word
    facts = _join(*card.facts, "" if up_to_ms is None else f"at {format_seconds(up_to_ms / 1000)}")
    head = _join(card.title, facts)
    foot = _join(sparkline(card), *card.foot)
    return {
        "text/plain": _plain(card, f"{label}  {head}" if label else head, tracks, foot),
        "text/markdown": _markdown(card, _join(label, head), tracks, foot),
        "text/html": _html(card, label, facts, tracks, foot, card.beats if up_to_ms is None else ""),
    }


def _join(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


# What stands before a text; and what a text is folded under.
_MARKS = {**dict.fromkeys(("user", "user_audio"), "asked: "), "tool_result": "result: ", "sent": "→ ", "received": "← "}
_SOFT = ("user", "user_audio", "audio", "tool_result")  # as what is asked is written
_LABELS = {"reasoning": "reasoning", "refusal": "refused", "system": "instructions", "history": "said before"}


def _label(track: Track) -> str:
    name = _LABELS.get(track.kind, "")
    return " ".join(filter(None, (name, f"choice {track.choice + 1}" if track.choice else "")))


def _outcome(track: Track) -> str:
    """Return the outcome of a tool call, such as ``ok · 0.12 s``; ``""`` where the card itself tells it."""
    invalid, result = "invalid JSON" if track.format_arguments() is None else "", track.result
    if result is None or track.ran:
        return invalid
    return _join(invalid, f"failed: {result.error}" if result.error else "ok", format_seconds(result.took_s))


def _plain(card: Card, head: str, tracks: Iterable[Track], foot: str) -> str:
    parts = [f"asked: {card.prompt}"] if card.prompt else []
    for track in tracks:
        if track.kind != "tool_call":
            text = _MARKS.get(track.kind, "") + _marked_plain(track, card.side)
            parts.append(f"[{name}] {text}" if (name := _label(track)) else text)
            continue
        parts.append(f"{'≠' if track.marks else '▸'} {track.name}({track.format_line()})  {_outcome(track)}".rstrip())
        if track.result is not None and track.result.text:
            parts.append(f"  → {track.result.text}")
    parts += [f"error: {card.error}"] if card.error else []
    parts += [part for part in (card.note, foot) if part]
    return "\n".join([head, *(f"  {line}" for part in parts for line in part.split("\n"))])


def _marked_plain(track: Track, side: str) -> str:
    """Return a text with the words that differ as ``[-word-]`` or ``{+word+}``, and without most of what is equal."""
    if not track.marks:
        return track.text
    opening, closing = ("[-", "-]") if side == "-" else ("{+", "+}")
    pieces = fold_equal(split_at(track.text, track.marks), lambda text: f"… {count_of(len(text.split()), 'word')} … ")
    return "".join(f"{opening}{piece}{closing}" if differs else piece for piece, differs in pieces)


def _marked_html(track: Track, side: str) -> str:
    """Return a text as HTML, with the words that differ marked."""
    tag, colour = ("del", "#f8514933") if side == "-" else ("ins", "#2ea04340")
    pieces = split_at(track.marked_text, track.marks)
    mark = f'<{tag} style="background:{colour};text-decoration:none">'
    return "".join(f"{mark}{escape(piece)}</{tag}>" if differs else escape(piece) for piece, differs in pieces)


def _markdown(card: Card, head: str, tracks: Iterable[Track], foot: str) -> str:
    # Texts stand in fences, so that nothing in them is Markdown.
    parts = [fence(head)] + ([f"asked\n\n{fence(card.prompt)}"] if card.prompt else [])
    for track in tracks:
        if track.kind != "tool_call":
            text = fence(_MARKS.get(track.kind, "") + track.text)
            parts.append(f"{name}\n\n{text}" if (name := _label(track)) else text)
            continue
        result = f"\n→ {track.result.text}" if track.result is not None and track.result.text else ""
        parts.append(fence(f"▸ {track.name}({track.format_line()})  {_outcome(track)}{result}"))
    parts += [fence(text) for text in (card.error and f"error: {card.error}", card.note, foot) if text]
    return "\n\n".join(parts)


def _html(card: Card, label: str, facts: str, tracks: Iterable[Track], foot: str, beats: str) -> str:
    mark = f"<b>{escape(label)}</b> " if label else ""
    parts = [f'<div>{mark}<b>{escape(card.title)}</b> <span style="{MUTED}">{escape(facts)}</span></div>']
    if card.prompt:
        parts.append(f'<div style="{MUTED};{WRAP}">asked: {escape(card.prompt)}</div>')
    parts += [_track_html(track, card.side, place) for place, track in enumerate(tracks)]
    parts += [f'<div style="{_ERROR};{WRAP}">error: {escape(card.error)}</div>'] if card.error else []
    parts += [f'<pre style="{WRAP}">{escape(card.note)}</pre>'] if card.note else []
    parts += [f'<div style="{MUTED};font-size:11px" data-foot="">{escape(foot)}</div>'] if foot else []
    if card.raw:
        more = [f"… {card.chunks - len(card.raw):,} more"] if card.chunks > len(card.raw) else []
        lines = "\n".join([*map(escape, card.raw), *more])
        summary = f"<summary>raw chunks ({card.chunks:,})</summary>"
        parts.append(f'<details style="{MUTED}">{summary}<pre style="{WRAP}">{lines}</pre></details>')
    timed = f' data-beats="{beats}"' if card.until_ms and beats else ""
    return f'<div style="{FONT};{_BOX}"{timed}>{"".join(parts)}</div>'


def _track_html(track: Track, side: str, place: int) -> str:
    if track.kind != "tool_call":
        mark, style = _MARKS.get(track.kind, ""), f"{MUTED};{WRAP}" if track.kind in _SOFT else WRAP
        when = f'<span style="float:right;{MUTED};font-size:11px">{track.when}</span>' if track.when else ""
        text = f'<div style="{style}">{when}{mark}<span data-part="{place}">{_marked_html(track, side)}</span></div>'
        return f"<details><summary>{name}</summary>{text}</details>" if (name := _label(track)) else text
    inner, arguments = "", track.format_line()
    if len(arguments) > _MAX_LINE or track.format_arguments() is None or not track.ran:
        inner = f'<pre style="{WRAP}">{_marked_html(track, side)}</pre>'
    if track.result is not None and track.result.text:
        inner += f'<div style="{MUTED}">result</div><pre style="{WRAP}">{escape(track.result.text)}</pre>'
    line = _join(f"{track.name}({shorten(arguments, _MAX_LINE)})", _outcome(track))
    opening = f'<details data-part="{place}"{" open" if track.ran else ""}>'
    return f"{opening}<summary>{escape(line)}</summary>{inner}</details>"


def heading(cards: Sequence[Card]) -> str:
    """Return one line on several calls, such as ``2 calls · 130 tokens · 1.62 s of answers``."""
    tokens = [count for card in cards for count in card.tokens if count is not None]
    times = [card.duration_s for card in cards if card.duration_s is not None]
    errors = sum(bool(card.error or card.note) for card in cards)
    return _join(
        f"{len(cards)} calls",
        f"{sum(tokens):,} tokens" if tokens else "",
        f"{format_seconds(sum(times))} of answers" if times else "",
        f"{errors} failed" if errors else "",
    )


def _summary_line(card: Card) -> str:
    text = next((track.text for track in card.tracks if track.kind in ("text", "refusal")), "")
    calls = ", ".join(
        f"{track.name}({track.format_line()})" + (f" → {track.result.text}" if track.result else "")
        for track in card.tracks
        if track.kind == "tool_call"
    )
    first = " ".join((text or calls or card.error or card.note).split())
    return _join(card.word, card.title, shorten(first, _MAX_LINE), *card.facts[:2])


def model_rows(cards: Sequence[Card]) -> list[tuple[str, int, int, int]]:
    """Return a row per model: its name, calls, tokens and errors."""
    rows = []
    for title, count in Counter(card.title for card in cards).most_common():
        own = [card for card in cards if card.title == title]
        tokens = sum(number or 0 for card in own for number in card.tokens)
        rows.append((title, count, tokens, sum(bool(card.error or card.note) for card in own)))
    return rows


def _summary(cards: Sequence[Card]) -> dict[str, str]:
    head, rows, right = heading(cards), model_rows(cards), 'style="text-align:right"'
    lines = [
        f"{title}: {count_of(count, 'call')}, {count_of(tokens, 'token')}" + (f", {bad} failed" if bad else "")
        for title, count, tokens, bad in rows
    ]
    cells = "".join(
        f"<tr><td>{escape(title)}</td>" + "".join(f"<td {right}>{number:,}</td>" for number in numbers) + "</tr>"
        for title, *numbers in rows
    )
    names = "".join(f"<th {right}>{name}</th>" for name in ("calls", "tokens", "failed"))
    table = f"<table><tr><th></th>{names}</tr>{cells}</table>"
    return {
        "text/plain": "\n  ".join([head, *lines]),
        "text/markdown": "\n\n".join([f"**{head}**", fence("\n".join(lines))]),
        "text/html": f'<div style="{FONT}"><b>{escape(head)}</b>{table}</div>',
    }


def sparkline(card: Card, width: int = 24) -> str:
    """Return the arrivals of a stream's chunks as bars; ``""`` where it is not a stream, or has no times."""
    if not card.until_ms or len(card.entries) < 2:
        return ""
    counts = Counter(min(width - 1, entry.at_ms * width // (card.until_ms + 1)) for entry in card.entries)
    most = max(counts.values())
    return "".join(_BARS[-(-counts[place] * 7 // most)] if counts[place] else " " for place in range(width)).rstrip()
