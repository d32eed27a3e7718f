"""What nbreplay says of itself: the badge below a cell, and the answers of ``%replay``. Pure."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from nbreplay.core.config import Mode, forced_mode, is_url
from nbreplay.core.log import FAILURES, Interaction, Log, all_logs, describe_uncovered, find_uncovered, format_counts
from nbreplay.core.session import Session
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.notebook.card import OUTCOMES
from nbreplay.notebook.escape import escape, format_seconds, plain
from nbreplay.notebook.render import FONT, MUTED
from nbreplay.providers.answer import Answer

_RED = "#b42318"
_MODES = {
    Mode.AUTO: "replays what is recorded, records what is missing",
    Mode.REPLAY: "replays; nothing goes out",
    Mode.RECORD: "records",
    Mode.OFF: "is off: calls go out, and nothing is recorded",
}


class Totals(msgspec.Struct, frozen=True):
    """Sums over calls."""

    counts: str  # such as "3 replayed, 1 missing"
    tokens: int | None  # input and output, None where no provider sent any
    saved_s: float | None  # the seconds that replaying saved, None where no time was recorded
    foreign: tuple[str, ...]  # the notes of calls that replay an answer of another host

    @classmethod
    def of(cls, calls: Sequence[Interaction]) -> Totals:
        """Return the sums over `calls`."""
        takes = [(call, call.take) for call in calls if call.take is not None]
        usages = [Answer(take.body).reader.tokens for _, take in takes]
        tokens = [usage[kind] for usage in usages for kind in ("input", "output") if kind in usage]
        saved = [
            max(0.0, take.duration_s - (call.served_s or 0.0))
            for call, take in takes
            if call.outcome == "replayed" and take.duration_s is not None
        ]
        parts = format_counts(Counter(call.outcome for call in calls)).split(", ")
        counts = ", ".join(part for part in parts if not part.startswith("0 ")) or "no calls"
        foreign = tuple(call.note for call in calls if call.outcome == "replayed" and call.note)
        return cls(counts, sum(tokens) if tokens else None, sum(saved) if saved else None, foreign)


def badge(
    calls: Sequence[Interaction], *, mode: str, store: str, error: str = "", uncovered: Sequence[str] = ()
) -> dict[str, str]:
    """Return the line below a cell, as a mime bundle, with a line for each failure that `error` does not show already.

    `error` is the text that the cell shows itself; `uncovered` describes what the guard could not see.
    """
    totals = Totals.of(calls)
    tokens = [] if totals.tokens is None else [f"{totals.tokens:,} tokens"]
    saved = [] if totals.saved_s is None else [f"{format_seconds(totals.saved_s)} saved"]
    text = " · ".join([totals.counts, *tokens, *saved, *totals.foreign[:1], f"{mode}, {store}".rstrip(", ")])
    failures, shown = [call for call in calls if call.outcome in FAILURES], "".join(error.split())
    hidden = [call for call in failures if "".join(call.note.split()) not in shown]
    notes = list(dict.fromkeys([*(f"{OUTCOMES[call.outcome]}: {call.note}" for call in hidden), *uncovered]))
    colour, mark = (_RED, "⚠") if failures else ("inherit", "▶")
    page = f'<div style="{FONT};{MUTED}"><b style="color:{colour}">{mark} nbreplay</b> {escape(text)}</div>'
    bar = f"font-size:12px;border-left:3px solid {colour};padding-left:8px;margin:4px 0"
    page += "".join(f'<pre style="{bar}">{escape(note)}</pre>' for note in notes)
    return {"text/plain": "\n".join(map(plain, [f"nbreplay: {text}", *notes])), "text/html": page}


def short_path(path: str | os.PathLike[str]) -> str:
    """Return the shortest form of a path: relative to the working directory or to home, or absolute."""
    if is_url(path):
        return str(path)
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(Path(path))
    home, absolute = os.path.expanduser("~"), os.path.abspath(path)
    from_home = [f"~{absolute[len(home) :]}"] if absolute.startswith(home + os.sep) else []
    return min([relative, absolute, *from_home], key=len)


def mode_text(session: Session | None) -> str:
    """Return the answer to ``%replay MODE``."""
    if session is None:
        return f"nbreplay {_MODES[Mode.OFF]}"
    mode, forced = session.mode, forced_mode()
    lines = [f"nbreplay {_MODES[mode]} · {_store_text(session)}"]
    if forced is not None and forced is not session.options.mode:
        lines.append(f"(NBREPLAY_MODE={forced.value} overrides the mode {session.options.mode.value})")
    if mode is Mode.REPLAY and not session.store.path.exists():
        lines.append(f"⚠ {session.store.path} does not exist, so every call will be missing")
    return plain("\n".join([*lines, *(f"⚠ {text}" for text in _warnings())]))


def overview(session: Session | None, logs: Iterable[Log]) -> dict[str, str]:
    """Return the answer to ``%replay``, as a mime bundle: text/plain, text/html."""
    calls = [call for log in logs for call in log.interactions]
    totals = Totals.of(calls)
    rows = [("mode", "off")]
    if session is not None:
        options = session.options
        rows = [("mode", session.mode.value + (" (by NBREPLAY_MODE)" if forced_mode() else ""))]
        rows += [("store", f"{_store_text(session)}, {len(session.store.names())} recordings")]
        rows += [("speed", f"{options.speed:g} × recorded")] if options.speed else []
        filters = {name: getattr(options, name) for name in ("ignore", "mask", "only", "allow")}
        rows += [(name, ", ".join(values)) for name, values in filters.items() if values]
        rows += [("children", "allowed")] if options.allow_children else []
    rows += [("calls", totals.counts)]
    rows += [] if totals.tokens is None else [("tokens", f"{totals.tokens:,}")]
    rows += [] if totals.saved_s is None else [("saved", f"{totals.saved_s:,.1f} s of waiting")]
    if totals.foreign:
        rows.append(("note", f"{len(totals.foreign)} answers come from another host: {totals.foreign[-1]}"))
    if blocked := dict.fromkeys(call.host for call in calls if call.outcome == "blocked"):
        rows.append(("blocked", ", ".join(blocked)))
    if keys := placeholder_keys.placed_names():
        rows.append(("no key", ", ".join(keys) + " not set; a placeholder stands in, and is never sent"))
    rows += [("warning", text) for text in _warnings()]
    width = max(len(name) for name, _ in rows)
    text = "nbreplay\n" + "\n".join(f"  {name:<{width}}  {plain(value)}" for name, value in rows)
    left = 'style="text-align:left"'
    cells = "".join(f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>" for name, value in rows)
    return {"text/plain": text, "text/html": f"<table>{cells}</table>"}


def _store_text(session: Session) -> str:
    return short_path(session.store.shown) + (" (read-only)" if session.store.archive else "")


def _warnings() -> list[str]:
    return [*patching.problems(), *describe_uncovered(find_uncovered(all_logs()))]
