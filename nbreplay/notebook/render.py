"""Cards as text, Markdown and HTML without script. Pure: no display, no IPython; everything shown is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import indent

from nbreplay.core.log import Interaction
from nbreplay.notebook.card import Card, Track, make_cards
from nbreplay.notebook.escape import escape, fence, format_seconds, one_line

MANY = 20  # more calls than this are shown as a summary
MUTED = "color:var(--jp-ui-font-color2,#6b7280)"
FONT = "font:12px var(--jp-ui-font-family,system-ui,sans-serif)"
_BOX = "border:1px solid var(--jp-border-color2,#d0d5dd);border-radius:6px;padding:8px 12px;margin:6px 0;max-width:60em"
_ERROR = "color:var(--jp-error-color1,#b42318)"
_WRAP = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0"
_BARS = "▁▂▃▄▅▆▇█"


def render_calls(calls: Sequence[Interaction], *, outcomes: bool = False) -> dict[str, str]:
    """Return calls as a mime bundle of text, Markdown and HTML: a card, several below a heading, or a summary of many.

    Each card begins with its outcome, such as REPLAY, if `outcomes`. One that is stored in a notebook does not.
    """
    cards = make_cards(calls)
    return bundle(cards, [card.outcome for card in cards] if outcomes else [])


def bundle(cards: Sequence[Card], labels: Sequence[str] = ()) -> dict[str, str]:
    """Return the mime bundle of some cards, each with its label, such as REPLAY."""
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
    texts = [track for track in tracks if track.kind != "tool_call"]
    calls = [track for track in tracks if track.kind == "tool_call"]
    label = label or card.word
    facts = _join(*card.facts, "" if up_to_ms is None else f"at {format_seconds(up_to_ms / 1000)}")
    head = _join(card.title, facts)
    foot = _join(sparkline(card), *card.foot)
    return {
        "text/plain": _plain(card, f"{label}  {head}" if label else head, texts, calls, foot),
        "text/markdown": _markdown(card, _join(label, head), texts, calls, foot),
        "text/html": _html(card, label, facts, texts, calls, foot),
    }


def _join(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _label(track: Track) -> str:
    name = {"reasoning": "reasoning", "refusal": "refused"}.get(track.kind, "")
    return " ".join(filter(None, (name, f"choice {track.choice + 1}" if track.choice else "")))


def _outcome(track: Track) -> str:
    """Return the outcome of a tool call, such as ``ok · 0.12 s``."""
    invalid, result = "invalid JSON" if track.format_arguments() is None else "", track.result
    return invalid if result is None else _join(invalid, result.error or "ok", format_seconds(result.took_s))


def _plain(card: Card, head: str, texts: Iterable[Track], calls: Iterable[Track], foot: str) -> str:
    parts = [f"asked: {card.prompt}"] if card.prompt else []
    parts += [f"[{_label(track)}] {track.text}" if _label(track) else track.text for track in texts]
    for track in calls:
        parts.append(f"▸ {track.name}({one_line(track.text)})  {_outcome(track)}".rstrip())
        if track.result is not None and track.result.text:
            parts.append(f"  → {track.result.text}")
    parts += [f"error: {card.error}"] if card.error else []
    parts += [part for part in (card.note, foot) if part]
    return "\n".join([head, *(f"  {line}" for part in parts for line in part.split("\n"))])


def _markdown(card: Card, head: str, texts: Iterable[Track], calls: Iterable[Track], foot: str) -> str:
    # Texts stand in fences, so that nothing in them is Markdown.
    parts = [fence(head)] + ([f"asked\n\n{fence(card.prompt)}"] if card.prompt else [])
    parts += [f"{_label(track)}\n\n{fence(track.text)}" if _label(track) else fence(track.text) for track in texts]
    for track in calls:
        result = f"\n→ {track.result.text}" if track.result is not None and track.result.text else ""
        parts.append(fence(f"▸ {track.name}({one_line(track.text)})  {_outcome(track)}{result}"))
    parts += [fence(text) for text in (card.error and f"error: {card.error}", card.note, foot) if text]
    return "\n\n".join(parts)


def _html(card: Card, label: str, facts: str, texts: Iterable[Track], calls: Iterable[Track], foot: str) -> str:
    mark = f"<b>{escape(label)}</b> " if label else ""
    parts = [f'<div>{mark}<b>{escape(card.title)}</b> <span style="{MUTED}">{escape(facts)}</span></div>']
    if card.prompt:
        parts.append(f'<div style="{MUTED};{_WRAP}">asked: {escape(card.prompt)}</div>')
    for track in texts:
        name, text = _label(track), f'<div style="{_WRAP}">{escape(track.text)}</div>'
        parts.append(f"<details><summary>{name}</summary>{text}</details>" if name else text)
    for track in calls:
        inner = f'<pre style="{_WRAP}">{escape(track.format_arguments() or track.text)}</pre>'
        if track.result is not None and track.result.text:
            inner += f'<div style="{MUTED}">result</div><pre style="{_WRAP}">{escape(track.result.text)}</pre>'
        line = f"{track.name}({_shorten(one_line(track.text), 80)}) {_outcome(track)}".rstrip()
        parts.append(f"<details><summary>{escape(line)}</summary>{inner}</details>")
    parts += [f'<div style="{_ERROR};{_WRAP}">error: {escape(card.error)}</div>'] if card.error else []
    parts += [f'<pre style="{_WRAP}">{escape(card.note)}</pre>'] if card.note else []
    parts += [f'<div style="{MUTED};font-size:11px">{escape(foot)}</div>'] if foot else []
    if card.raw:
        more = [f"… {card.chunks - len(card.raw):,} more"] if card.chunks > len(card.raw) else []
        lines = "\n".join([*map(escape, card.raw), *more])
        summary = f"<summary>raw chunks ({card.chunks:,})</summary>"
        parts.append(f'<details style="{MUTED}">{summary}<pre style="{_WRAP}">{lines}</pre></details>')
    return f'<div style="{FONT};{_BOX}">{"".join(parts)}</div>'


def heading(cards: Sequence[Card]) -> str:
    """Return one line on several calls, such as ``2 calls · 130 tokens · 1.62 s of answers``."""
    tokens = [count for card in cards for count in card.tokens if count is not None]
    times = [card.duration_s for card in cards if card.duration_s is not None]
    errors = sum(bool(card.error or card.note) for card in cards)
    return _join(
        f"{len(cards)} calls",
        f"{sum(tokens):,} tokens" if tokens else "",
        f"{format_seconds(sum(times))} of answers" if times else "",
        f"{errors} with errors" if errors else "",
    )


def _summary_line(card: Card) -> str:
    text = next((track.text for track in card.tracks if track.kind in ("text", "refusal")), "")
    calls = ", ".join(
        f"{track.name}({one_line(track.text)})" + (f" → {track.result.text}" if track.result else "")
        for track in card.tracks
        if track.kind == "tool_call"
    )
    first = " ".join((text or calls or card.error or card.note).split())
    return _join(card.word, card.title, _shorten(first, 90), *card.facts[:2])


def _shorten(text: str, size: int) -> str:
    return text if len(text) <= size else text[:size] + " …"


def model_rows(cards: Sequence[Card]) -> list[tuple[str, int, int, int]]:
    """Return a row per model: its name, calls, tokens and errors."""
    rows = []
    for title, count in Counter(card.title for card in cards).most_common():
        own = [card for card in cards if card.title == title]
        tokens = sum(number or 0 for card in own for number in card.tokens)
        rows.append((title, count, tokens, sum(bool(card.error or card.note) for card in own)))
    return rows


def _summary(cards: Sequence[Card]) -> dict[str, str]:
    head, rows = heading(cards), model_rows(cards)
    lines = [f"{title}: {count} calls, {tokens:,} tokens, {bad} with errors" for title, count, tokens, bad in rows]
    cells = "".join(
        f"<tr><td>{escape(title)}</td><td>{count}</td><td>{tokens:,}</td><td>{bad}</td></tr>"
        for title, count, tokens, bad in rows
    )
    table = f"<table><tr><th></th><th>calls</th><th>tokens</th><th>errors</th></tr>{cells}</table>"
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
