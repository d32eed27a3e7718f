"""The line below a cell: what was replayed, recorded or missing, and the sums of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nbreplay.core.log import Interaction, summary
from nbreplay.notebook.card import WORDS
from nbreplay.notebook.escape import escape, plain, seconds
from nbreplay.providers.answer import fold

__all__ = ["Totals", "badge", "totals"]

_MUTED = "color:var(--jp-ui-font-color2,#6b7280)"
_FONT = "font:12px var(--jp-ui-font-family,system-ui,sans-serif)"
_TROUBLE = "#b42318"


class Totals(msgspec.Struct, frozen=True):
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


def badge(
    interactions: Sequence[Interaction], *, mode: str, store: str, shown: str = "", uncovered: Sequence[str] = ()
) -> dict[str, str]:
    """Return the one line below a cell, and what went wrong in it unseen.

    Parameters
    ----------
    interactions : sequence of Interaction
        Those of the cell.
    mode, store : str
    shown : str
        The text of the error that the cell itself shows; it is not said again.
    uncovered : sequence of str
        What the guard could not see, in words.
    """
    sums = totals(interactions)
    parts = [sums.counts]
    if sums.tokens is not None:
        parts.append(f"{sums.tokens:,} tokens")
    if sums.saved_s is not None:
        parts.append(f"{seconds(sums.saved_s)} saved")
    foreign = [item.note for item in interactions if item.outcome == "replayed" and item.note]
    parts += foreign[:1]
    parts += [f"{mode}, {store}".rstrip(", ")]
    said = shown.replace(" ", "").replace("\n", "")
    troubles = [
        f"{WORDS[item.outcome]}: {item.note}"
        for item in interactions
        if item.outcome in ("missing", "blocked", "unsaved")
        and item.note.replace(" ", "").replace("\n", "") not in said
    ]
    text = plain("nbreplay: " + " · ".join(parts))
    lines = [text, *(plain(trouble) for trouble in dict.fromkeys([*troubles, *uncovered]))]
    colour = _TROUBLE if sums.trouble else "inherit"
    mark = "⚠" if sums.trouble else "▶"
    page = (
        f'<div style="{_FONT};{_MUTED}"><b style="color:{colour}">{mark} nbreplay</b> {escape(" · ".join(parts))}</div>'
    )
    bar = f"font-size:12px;border-left:3px solid {colour};padding-left:8px;margin:4px 0"
    page += "".join(f'<pre style="{bar}">{escape(trouble)}</pre>' for trouble in lines[1:])
    return {"text/plain": "\n".join(lines), "text/html": page}
