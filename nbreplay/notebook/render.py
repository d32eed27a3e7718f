"""Interactions as text and HTML. Pure: no display, no IPython; everything from a recording is escaped."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from nbreplay.core.fold import Answer, fold, last_user_text
from nbreplay.core.frozen import frozen
from nbreplay.core.log import Interaction, summary
from nbreplay.core.stream import Events
from nbreplay.core.take import Take

__all__ = ["Totals", "badge", "bundle", "cards", "escape", "plain", "totals"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MUTED = "color:var(--jp-ui-font-color2,#6b7280)"
_FONT = "font:12px var(--jp-ui-font-family,system-ui,sans-serif)"
_BOX = "border:1px solid var(--jp-border-color2,#d0d5dd);border-radius:6px;padding:8px 12px;margin:6px 0;max-width:52em"
_COLOURS = {
    "missing": "#b42318",
    "blocked": "#b42318",
    "unsaved": "#b42318",
    "recorded": "#b54708",
    "replayed": "#067647",
}
_WORDS = {
    "replayed": "REPLAY",
    "recorded": "REC",
    "live": "LIVE",
    "missing": "MISSING",
    "unsaved": "UNSAVED",
    "blocked": "BLOCKED",
}


def plain(text: str) -> str:
    """Return `text` with control characters shown, so that no terminal or page obeys them."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


@frozen
class Totals:
    """Sums over interactions.

    Attributes
    ----------
    counts : str
        Such as ``3 replayed, 0 recorded, 0 missing``.
    tokens : int or None
        Input and output tokens, None where no provider told any.
    saved_s : float or None
        Seconds that replaying saved, None where no time was recorded.
    trouble : bool
        Whether something is missing, blocked or unsaved.
    """

    counts: str
    tokens: int | None
    saved_s: float | None
    trouble: bool


def totals(interactions: Sequence[Interaction]) -> Totals:
    """Return the sums over `interactions`."""
    tokens: list[int] = []
    saved: list[float] = []
    for item in interactions:
        if item.take is None:
            continue
        answer = fold(item.take)
        tokens += [count for count in (answer.input_tokens, answer.output_tokens) if count is not None]
        took = item.take.duration_s
        if item.outcome == "replayed" and took is not None:
            saved.append(max(0.0, took - (item.served_s or 0.0)))
    trouble = any(item.outcome in ("missing", "blocked", "unsaved") for item in interactions)
    return Totals(_counts(interactions), sum(tokens) if tokens else None, sum(saved) if saved else None, trouble)


def _counts(interactions: Sequence[Interaction]) -> str:
    return ", ".join(part for part in summary(interactions).split(", ") if not part.startswith("0 ")) or "no calls"


def bundle(text: str, page: str) -> dict[str, str]:
    """Return a mime bundle."""
    return {"text/plain": text, "text/html": page}


def badge(interactions: Sequence[Interaction], *, mode: str, store: str, shown: str = "") -> dict[str, str]:
    """Return the one line below a cell, and what went wrong in it unseen.

    Parameters
    ----------
    interactions : sequence of Interaction
        Those of the cell.
    mode, store : str
    shown : str
        The text of the error that the cell itself shows; it is not said again.
    """
    sums = totals(interactions)
    parts = [sums.counts]
    if sums.tokens is not None:
        parts.append(f"{sums.tokens:,} tokens")
    if sums.saved_s is not None:
        parts.append(f"{_seconds(sums.saved_s)} saved")
    foreign = [item.note for item in interactions if item.outcome == "replayed" and item.note]
    parts += foreign[:1]
    parts += [f"{mode}, {store}"]
    said = shown.replace(" ", "").replace("\n", "")
    troubles = [
        f"{_WORDS[item.outcome]}: {item.note}"
        for item in interactions
        if item.outcome in ("missing", "blocked", "unsaved")
        and item.note.replace(" ", "").replace("\n", "") not in said
    ]
    text = plain("nbreplay: " + " · ".join(parts))
    lines = [text, *(plain(trouble) for trouble in dict.fromkeys(troubles))]
    colour = _COLOURS["missing"] if sums.trouble else "inherit"
    mark = "⚠" if sums.trouble else "▶"
    page = (
        f'<div style="{_FONT};{_MUTED}"><b style="color:{colour}">{mark} nbreplay</b> {escape(" · ".join(parts))}</div>'
    )
    bar = f"font-size:12px;border-left:3px solid {colour};padding-left:8px;margin:4px 0"
    page += "".join(f'<pre style="{bar}">{escape(trouble)}</pre>' for trouble in lines[1:])
    return bundle("\n".join(lines), page)


def cards(interactions: Sequence[Interaction]) -> dict[str, str]:
    """Return a card for each interaction: what was asked, what came, and from when."""
    if not interactions:
        return bundle("nbreplay: no calls yet", f'<div style="{_FONT};{_MUTED}">nbreplay: no calls yet</div>')
    made = [_card(item) for item in interactions]
    return bundle("\n\n".join(text for text, _ in made), "".join(page for _, page in made))


def _card(item: Interaction) -> tuple[str, str]:
    answer = fold(item.take) if item.take else Answer()
    model = answer.model or (item.request.model if item.request else "") or item.host
    facts = [model] + ([] if item.take is None else _facts(item.take, answer))
    head = " · ".join(plain(fact) for fact in facts if fact)
    word = _WORDS[item.outcome]
    asked = plain(last_user_text(item.request)) if item.request else ""
    body = [plain(answer.text)] if answer.text else []
    body += [f"▸ {plain(call.name)}({plain(call.arguments)})" for call in answer.tool_calls]
    if answer.error:
        body.append(f"error: {plain(answer.error)}")
    if item.note:
        body.append(plain(item.note))
    foot = _foot(item)
    lines = [
        f"{word}  {head}",
        *([f"  asked: {asked}"] if asked else []),
        *(f"  {line}" for text in body for line in text.split("\n")),
        f"  {foot}",
    ]
    colour = _COLOURS.get(item.outcome, "#475467")
    rows = "".join(f'<div style="white-space:pre-wrap;margin:2px 0">{escape(text)}</div>' for text in body)
    page = (
        f'<div style="{_FONT};{_BOX}">'
        f'<div><b style="color:{colour}">{word}</b> <b>{escape(head)}</b></div>'
        + (f'<div style="{_MUTED};white-space:pre-wrap">asked: {escape(asked)}</div>' if asked else "")
        + f'{rows}<div style="{_MUTED};font-size:11px">{escape(foot)}</div></div>'
    )
    return "\n".join(lines), page


def _facts(take: Take, answer: Answer) -> list[str]:
    facts = [str(take.status) if take.status != 200 else "", take.reason or ""]
    took = take.duration_s
    facts.append(_seconds(took) if took is not None else "no timings recorded")
    if isinstance(take.body, Events) and take.body.chunks:
        facts.append(f"first chunk {_seconds(take.body.chunks[0].gap_ms / 1000)}, {len(take.body.chunks)} chunks")
    if answer.input_tokens is not None or answer.output_tokens is not None:
        facts.append(f"{answer.input_tokens or 0} → {answer.output_tokens or 0} tokens")
    return facts


def _foot(item: Interaction) -> str:
    parts = []
    if item.request:
        parts.append(f"{item.request.kind}-{item.key.partition(':')[2][:16]}")
    if item.take:
        if item.take.recorded_at:  # what an MCP client asked in vain was not
            parts.append(f"recorded {item.take.recorded_at[:10]} at {item.take.host}")
        if item.take.redacted:
            parts.append(f"{item.take.redacted} secrets taken out")
    return plain(" · ".join(parts)) if parts else item.outcome


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def escape(text: str) -> str:
    """Return `text` as HTML that shows it as it is."""
    return html.escape(plain(text), quote=True)
