"""What ``%replay`` says: what is on, what has happened."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nbreplay.core.config import Mode, forced_mode, is_url
from nbreplay.core.log import Log, all_logs, describe_uncovered, find_uncovered
from nbreplay.core.session import Session
from nbreplay.intercept import patching, placeholder_keys
from nbreplay.notebook.badge import totals
from nbreplay.notebook.escape import escape, plain

__all__ = ["overview", "short", "switched"]


def short(path: str | os.PathLike[str]) -> str:
    """Return a path as it is shortest to read: from the working directory, from home, or whole."""
    if is_url(path):
        return str(path)
    given = Path(path)
    try:
        relative = os.path.relpath(given)
    except ValueError:  # another drive
        return str(given)
    home = os.path.expanduser("~")
    whole = os.path.abspath(given)
    candidates = [relative, whole] + ([f"~{whole[len(home) :]}"] if whole.startswith(home + os.sep) else [])
    return min(candidates, key=len)


def warnings_() -> list[str]:
    """Return what limits what nbreplay can see."""
    return [*patching.problems(), *describe_uncovered(find_uncovered(all_logs()))]


def switched(session: Session | None) -> str:
    """Return what to say after ``%replay MODE``."""
    if session is None:
        return "nbreplay is off: calls go out, and nothing is recorded"
    mode = session.mode
    does = {
        Mode.AUTO: "replays what is recorded, records what is missing",
        Mode.REPLAY: "replays; nothing goes out",
        Mode.RECORD: "records",
        Mode.OFF: "is off: calls go out, and nothing is recorded",
    }[mode]
    lines = [f"nbreplay {does} · {_store(session)}"]
    forced = forced_mode()
    if forced is not None and forced is not session.options.mode:
        lines.append(f"(NBREPLAY_MODE={forced.value} goes before the mode asked for, {session.options.mode.value})")
    if mode is Mode.REPLAY and not session.store.path.exists():
        lines.append(f"⚠ {session.store.path} does not exist, so every call will be missing")
    lines += [f"⚠ {text}" for text in warnings_()]
    return plain("\n".join(lines))


def _store(session: Session) -> str:
    return short(session.store.shown) + (" (read-only)" if session.store.archive else "")


def overview(session: Session | None, logs: Iterable[Log]) -> dict[str, str]:
    """Return the display of ``%replay``."""
    interactions = [item for log in logs for item in log.interactions]
    sums = totals(interactions)
    rows = []
    if session is None:
        rows.append(("mode", "off"))
    else:
        mode = session.mode.value + (" (by NBREPLAY_MODE)" if forced_mode() else "")
        rows += [("mode", mode), ("store", f"{_store(session)}, {len(session.store.names())} recordings")]
        options = session.options
        if options.speed:
            rows.append(("speed", f"{options.speed:g} × recorded"))
        rows += [
            (name, ", ".join(getattr(options, name)))
            for name in ("ignore", "mask", "only", "allow")
            if getattr(options, name)
        ]
        if options.allow_children:
            rows.append(("children", "allowed"))
    rows.append(("calls", sums.counts))
    if sums.tokens is not None:
        rows.append(("tokens", f"{sums.tokens:,}"))
    if sums.saved_s is not None:
        rows.append(("saved", f"{sums.saved_s:,.1f} s of waiting"))
    foreign = [item.note for item in interactions if item.outcome == "replayed" and item.note]
    if foreign:
        rows.append(("note", f"{len(foreign)} answers come from another host: {foreign[-1]}"))
    blocked = [item.host for item in interactions if item.outcome == "blocked"]
    if blocked:
        rows.append(("blocked", ", ".join(dict.fromkeys(blocked))))
    if placeholder_keys.placed_names():
        rows.append(
            (
                "no key",
                ", ".join(placeholder_keys.placed_names()) + " not set; a placeholder stands in, and is never sent",
            )
        )
    rows += [("warning", text) for text in warnings_()]
    width = max(len(name) for name, _ in rows)
    text = "nbreplay\n" + "\n".join(f"  {name:<{width}}  {plain(value)}" for name, value in rows)
    left = 'style="text-align:left"'
    cells = "".join(f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>" for name, value in rows)
    return {"text/plain": text, "text/html": f"<table>{cells}</table>"}
