"""Calls as text, Markdown and HTML without script. Pure: no display, no IPython; everything shown is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from nbreplay.core.log import Interaction
from nbreplay.notebook.agent_loop import films_of
from nbreplay.notebook.card import WORDS, Film
from nbreplay.notebook.escape import escape, fenced, one_line, seconds
from nbreplay.notebook.timeline import Track

__all__ = ["MANY", "bundle", "cards", "heading", "overview", "render", "spark"]

MANY = 20
"""Of more calls than this only a summary is shown."""

_MUTED = "color:var(--jp-ui-font-color2,#6b7280)"
_FONT = "font:12px var(--jp-ui-font-family,system-ui,sans-serif)"
_BOX = "border:1px solid var(--jp-border-color2,#d0d5dd);border-radius:6px;padding:8px 12px;margin:6px 0;max-width:60em"
_ERROR = "color:var(--jp-error-color1,#b42318)"
_WRAP = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0"
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24  # bars


def cards(interactions: Sequence[Interaction], *, words: bool = False) -> dict[str, str]:
    """Return the calls of a cell: a card, or a heading and a card each, or of many a summary.

    Parameters
    ----------
    interactions : sequence of Interaction
    words : bool
        Whether each begins with what became of it, such as REPLAY; what is stored in a notebook does not.

    Returns
    -------
    dict of str to str
        A mime bundle: text/plain, text/markdown, text/html.
    """
    made = films_of(interactions)
    told = [WORDS[interactions[place].outcome] for place, _ in made] if words else []
    return bundle([one for _, one in made], told)


def bundle(made: Sequence[Film], words: Sequence[str] = ()) -> dict[str, str]:
    """Return the mime bundle of some films."""
    if not made:
        text = "nbreplay: no calls yet"
        return {"text/plain": text, "text/markdown": text, "text/html": f'<div style="{_FONT};{_MUTED}">{text}</div>'}
    if len(made) > MANY:
        return _summary(made)
    shown = [render(one, word=word) for one, word in zip(made, [*words, *[""] * len(made)], strict=False)]
    if len(shown) == 1:
        return shown[0]
    head = heading(made)
    folded = "".join(
        f'<details style="margin-left:{min(one.depth, 6) * 1.5}em"><summary>{escape(_line(one))}</summary>'
        f"{part['text/html']}</details>"
        for one, part in zip(made, shown, strict=True)
    )
    return {
        "text/plain": "\n\n".join(
            [head, *(_shifted(part["text/plain"], one.depth) for one, part in zip(made, shown, strict=True))]
        ),
        "text/markdown": "\n\n".join([f"**{head}**", *(part["text/markdown"] for part in shown)]),
        "text/html": f'<div style="{_FONT}"><div><b>{escape(head)}</b></div>{folded}</div>',
    }


def render(one: Film, up_to_ms: int | None = None, *, word: str = "") -> dict[str, str]:
    """Return the card of one call.

    Parameters
    ----------
    one : Film
    up_to_ms : int, optional
        Show it as it was at this moment, in milliseconds from the request.
    word : str
        What became of it, such as REPLAY.

    Returns
    -------
    dict of str to str
        A mime bundle: text/plain, text/markdown, text/html.
    """
    tracks = list(one.tracks) if up_to_ms is None else one.upto(up_to_ms)
    said = [track for track in tracks if track.kind != "tool_call"]
    calls = [track for track in tracks if track.kind == "tool_call"]
    word, line = word or one.word, spark(one)
    facts = [*one.facts, "" if up_to_ms is None else f"at {seconds(up_to_ms / 1000)}"]
    head = " · ".join(fact for fact in (one.title, *facts) if fact)
    foot = " · ".join(part for part in (line, *one.foot) if part)
    return {
        "text/plain": _plain(one, f"{word}  {head}" if word else head, said, calls, foot),
        "text/markdown": _markdown(one, f"{word} · {head}" if word else head, said, calls, foot),
        "text/html": _html(one, word, " · ".join(filter(None, facts)), said, calls, foot),
    }


def _label(track: Track) -> str:
    name = {"reasoning": "reasoning", "refusal": "refused"}.get(track.kind, "")
    return " ".join(filter(None, (name, f"choice {track.choice + 1}" if track.choice else "")))


def _outcome(track: Track) -> str:
    """What became of a tool call, in words."""
    parts = ["invalid JSON" if track.formatted() is None else ""]
    if track.result is not None:
        parts.append(track.result.error or "ok")
        parts.append("" if track.result.took_s is None else seconds(track.result.took_s))
    return " · ".join(part for part in parts if part)


def _plain(one: Film, head: str, said: Iterable[Track], calls: Iterable[Track], foot: str) -> str:
    lines = [head]
    body = [f"asked: {one.asked}"] if one.asked else []
    body += [f"[{_label(track)}] {track.text}" if _label(track) else track.text for track in said]
    for track in calls:
        body.append("  ".join(part for part in (f"▸ {track.name}({one_line(track.text)})", _outcome(track)) if part))
        if track.result is not None and track.result.text:
            body.append(f"  → {track.result.text}")
    body += [f"error: {one.error}"] if one.error else []
    body += [one.note] if one.note else []
    lines += [f"  {line}" for text in body for line in text.split("\n")]
    return "\n".join([*lines, *([f"  {foot}"] if foot else [])])


def _markdown(one: Film, head: str, said: Iterable[Track], calls: Iterable[Track], foot: str) -> str:
    # Texts stand in fences: what is in them is no Markdown, whatever it says.
    parts = [fenced(head)] + ([f"asked\n\n{fenced(one.asked)}"] if one.asked else [])
    parts += [f"{_label(track)}\n\n{fenced(track.text)}" if _label(track) else fenced(track.text) for track in said]
    for track in calls:
        result = "" if track.result is None or not track.result.text else f"\n→ {track.result.text}"
        parts.append(fenced(f"▸ {track.name}({one_line(track.text)})  {_outcome(track)}{result}"))
    parts += [fenced(text) for text in (one.error and f"error: {one.error}", one.note, foot) if text]
    return "\n\n".join(parts)


def _html(one: Film, word: str, facts: str, said: Iterable[Track], calls: Iterable[Track], foot: str) -> str:
    mark = f"<b>{escape(word)}</b> " if word else ""
    parts = [f'<div>{mark}<b>{escape(one.title)}</b> <span style="{_MUTED}">{escape(facts)}</span></div>']
    if one.asked:
        parts.append(f'<div style="{_MUTED};{_WRAP}">asked: {escape(one.asked)}</div>')
    for track in said:
        label, text = _label(track), f'<div style="{_WRAP}">{escape(track.text)}</div>'
        parts.append(f"<details><summary>{label}</summary>{text}</details>" if label else text)
    for track in calls:
        outcome = " · ".join(part for part in ("", _outcome(track)) if part)
        inner = f'<pre style="{_WRAP}">{escape(track.formatted() or track.text)}</pre>'
        if track.result is not None and track.result.text:
            inner += f'<div style="{_MUTED}">result</div><pre style="{_WRAP}">{escape(track.result.text)}</pre>'
        short = one_line(track.text)
        short = short if len(short) <= 80 else short[:80] + " …"
        line = f"{track.name}({short}){outcome and ' ' + outcome}"
        parts.append(f"<details><summary>{escape(line)}</summary>{inner}</details>")
    parts += [f'<div style="{_ERROR};{_WRAP}">error: {escape(one.error)}</div>'] if one.error else []
    parts += [f'<pre style="{_WRAP}">{escape(one.note)}</pre>'] if one.note else []
    parts += [f'<div style="{_MUTED};font-size:11px">{escape(foot)}</div>'] if foot else []
    if one.raw:
        shown = "\n".join(one.raw)
        left = f"\n… {one.chunks - len(one.raw):,} more" if one.chunks > len(one.raw) else ""
        parts.append(
            f'<details style="{_MUTED}"><summary>raw chunks ({one.chunks:,})</summary>'
            f'<pre style="{_WRAP}">{escape(shown)}{left}</pre></details>'
        )
    return f'<div style="{_FONT};{_BOX}">{"".join(parts)}</div>'


def heading(made: Sequence[Film]) -> str:
    """Return what several calls were, in a line."""
    parts = [f"{len(made)} calls"]
    tokens = [count for one in made for count in one.tokens if count is not None]
    took = [one.duration_s for one in made if one.duration_s is not None]
    parts += [f"{sum(tokens):,} tokens"] if tokens else []
    parts += [f"{seconds(sum(took))} of answers"] if took else []
    troubled = sum(bool(one.error or one.note) for one in made)
    return " · ".join(parts + ([f"{troubled} with errors"] if troubled else []))


def _line(one: Film) -> str:
    said = next((track.text for track in one.tracks if track.kind in ("text", "refusal")), "")
    called = ", ".join(
        f"{track.name}({one_line(track.text)})" + (f" → {track.result.text}" if track.result else "")
        for track in one.tracks
        if track.kind == "tool_call"
    )
    first = " ".join((said or called or one.error or one.note).split())
    return " · ".join(
        part for part in (one.word, one.title, first if len(first) <= 90 else first[:90] + " …", *one.facts[:2]) if part
    )


def overview(made: Sequence[Film]) -> list[tuple[str, int, int, int]]:
    """Return a row for each model: how many calls, tokens and errors."""
    calls = Counter(one.title for one in made)
    return [
        (
            title,
            count,
            sum(tokens or 0 for one in made if one.title == title for tokens in one.tokens),
            sum(bool(one.error or one.note) for one in made if one.title == title),
        )
        for title, count in calls.most_common()
    ]


def _summary(made: Sequence[Film]) -> dict[str, str]:
    head, rows = heading(made), overview(made)
    texts = [f"{title}: {count} calls, {tokens:,} tokens, {bad} with errors" for title, count, tokens, bad in rows]
    cells = "".join(
        f"<tr><td>{escape(title)}</td><td>{count}</td><td>{tokens:,}</td><td>{bad}</td></tr>"
        for title, count, tokens, bad in rows
    )
    table = f"<table><tr><th></th><th>calls</th><th>tokens</th><th>errors</th></tr>{cells}</table>"
    return {
        "text/plain": "\n".join([head, *(f"  {text}" for text in texts)]),
        "text/markdown": "\n\n".join([f"**{head}**", fenced("\n".join(texts))]),
        "text/html": f'<div style="{_FONT}"><b>{escape(head)}</b>{table}</div>',
    }


def spark(one: Film, width: int = _WIDTH) -> str:
    """Return when the chunks of a stream came, as bars; ``""`` where it is none, or nobody recorded the times."""
    until = one.until_ms
    if not until or len(one.beats) < 2:
        return ""
    counts = Counter(min(width - 1, beat.at_ms * width // (until + 1)) for beat in one.beats)
    most = max(counts.values())
    return "".join(_BARS[-(-counts[place] * 7 // most)] if counts[place] else " " for place in range(width)).rstrip()


def _shifted(text: str, depth: int) -> str:
    return "\n".join("  " * min(depth, 6) + line for line in text.split("\n"))
