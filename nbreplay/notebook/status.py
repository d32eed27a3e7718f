"""What nbreplay says of itself: the badge below a cell, and the answers of ``%replay``. Pure."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from nbreplay.core.config import Mode, forced_mode, is_url
from nbreplay.core.log import Interaction, Log, all_logs, describe_uncovered, find_uncovered
from nbreplay.core.recorder import NO_FAILURES
from nbreplay.core.session import Session
from nbreplay.core.words import FAILURES, OUTCOMES, count_of, format_failure, format_outcome
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.notebook.escape import escape, format_seconds, plain
from nbreplay.notebook.render import FONT, MUTED, WRAP
from nbreplay.providers.answer import Answer

_RED = "var(--jp-error-color1,#b42318)"
_KEEP = f"{NO_FAILURES}. To keep this one, put %%replay record as the first line of the cell"
_LEAST_SAVED = 0.05  # seconds
_NEAR = 2  # folders up, to which a path is relative
_MODES = {
    Mode.AUTO: "replays what is recorded, and records what is missing",
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
    processes: tuple[str, ...] = ()  # the child processes, each with the number of its calls

    @property
    def is_saving(self) -> bool:
        """Whether replaying saved a time that is worth a word."""
        return (self.saved_s or 0.0) >= _LEAST_SAVED

    @classmethod
    def of(cls, calls: Sequence[Interaction]) -> Totals:
        """Return the sums over `calls`."""
        takes = [(call, call.take) for call in calls if call.take is not None]
        usages = [Answer(take.body).reader.tokens for _, take in takes]
        tokens = [usage[kind] for usage in usages for kind in ("input", "output") if kind in usage]
        saved = [
            max(0.0, take.duration_s - (call.served_s or 0.0))
            for call, take in takes
            # A failure that comes at once saves no waiting.
            if call.outcome == "replayed" and take.duration_s is not None and (take.status or 999) < 400
        ]
        reasons: dict[str, list[str]] = {}
        for call in calls:
            reasons.setdefault(call.outcome, []).append(call.lost)
        # One that has a comma itself stands alone.
        parts = [format_outcome(name, len(reasons[name]), reasons[name]) for name in OUTCOMES if name in reasons]
        short = ", ".join(part for part in parts if "," not in part)
        counts = " · ".join(filter(None, [short, *(part for part in parts if "," in part)])) or "no calls"
        foreign = tuple(call.note for call in calls if call.outcome == "replayed" and call.note)
        children = Counter(call.process for call in calls if call.process)
        processes = tuple(f"{number:,} by {name}" for name, number in children.items())
        return cls(counts, sum(tokens) if tokens else None, sum(saved) if saved else None, foreign, processes)


def badge(
    calls: Sequence[Interaction], *, mode: str, store: str, error: str = "", uncovered: Sequence[str] = ()
) -> dict[str, str]:
    """Return the line below a cell, as a mime bundle, with a line for each failure that `error` does not show already.

    `error` is the text that the cell shows itself; `uncovered` describes what the guard could not see.
    """
    totals = Totals.of(calls)
    tokens = [] if totals.tokens is None else [count_of(totals.tokens, "token")]
    saved = [f"{format_seconds(totals.saved_s)} saved"] if totals.is_saving else []
    where = [*totals.foreign[:1], f"{mode}, {store}".rstrip(", ")]
    text = " · ".join([totals.counts, *totals.processes, *tokens, *saved, *where])
    failures, shown = [call for call in calls if call.outcome in FAILURES], "".join(error.split())
    hidden = [call for call in failures if "".join(call.note.split()) not in shown]
    notes = [format_failure(call.outcome, call.note) for call in hidden]
    notes += [_KEEP for call in calls if call.lost]
    notes = list(dict.fromkeys([*notes, *uncovered]))
    colour, mark = (_RED, "⚠") if failures else ("inherit", "▶")
    line = f"{FONT};{MUTED};padding:6px 0 2px"
    page = f'<div style="{line}"><b style="color:{colour}">{mark} nbreplay</b> {escape(text)}</div>'
    bar = f"{WRAP};font-size:12px;border-left:3px solid {colour};padding:2px 0 2px 8px"
    page += "".join(f'<pre style="{bar}">{escape(note)}</pre>' for note in notes)
    return {"text/plain": "\n".join(map(plain, [f"nbreplay: {text}", *notes])), "text/html": page}


def short_path(path: str | os.PathLike[str]) -> str:
    """Return a path as seen from the working directory; if it is far from there, the shortest form of it.

    A notebook stores what is near, so that must not depend on the machine.
    """
    if is_url(path):
        return str(path)
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive
        return str(Path(path))
    if relative.split(os.sep).count(os.pardir) <= _NEAR:
        return relative
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
        rows = [("mode", session.mode.value + (" (set by NBREPLAY_MODE)" if forced_mode() else ""))]
        rows += [("store", f"{_store_text(session)}, {count_of(len(session.store.names()), 'recording')}")]
        rows += [("speed", f"{options.speed:g} × recorded")] if options.speed else []
        filters = {name: getattr(options, name) for name in ("ignore", "mask", "only", "allow")}
        rows += [(name, ", ".join(values)) for name, values in filters.items() if values]
        rows += [("children", "allowed")] if options.allow_children else []
    rows += [("calls", totals.counts)]
    rows += [("processes", ", ".join(totals.processes))] if totals.processes else []
    rows += [] if totals.tokens is None else [("tokens", f"{totals.tokens:,}")]
    rows += [("saved", f"{format_seconds(totals.saved_s)} of waiting")] if totals.is_saving else []
    if totals.foreign:
        rows.append(("note", f"{count_of(len(totals.foreign), 'answer')} from another host: {totals.foreign[-1]}"))
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
