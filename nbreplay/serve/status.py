"""The status of the server, as JSON and as a page: what was asked, and how it was answered."""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.responses import HTMLResponse, Response

from nbreplay.core.log import Interaction
from nbreplay.core.recording.recording import file_name
from nbreplay.core.session import Session
from nbreplay.core.words import OUTCOMES, count_of, format_counts
from nbreplay.notebook.escape import escape, format_seconds

_LAST = 500  # calls
_HEADERS = {
    # The page is not to tell its address, which has the token, and nothing in it is to run or to load.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884 }
td { overflow-wrap: anywhere } td:first-child, td.file, td.time { white-space: nowrap }
td.time, th.time { text-align: right }
pre { margin: .3rem 0 0; white-space: pre-wrap; font: 13px/1.4 ui-monospace, monospace }
.fails td:first-child { font-weight: bold; color: light-dark(#b00020, #ff8a80) }
"""


def status_of(session: Session) -> dict[str, Any]:
    """Return the mode, the store, the counts of outcomes, and the last calls."""
    calls = session.interactions
    return {
        "mode": session.mode.value,
        "store": session.store.name,
        "counts": dict(Counter(call.outcome for call in calls)),
        "calls": [_row(call) for call in calls[-_LAST:]],
    }


def _row(call: Interaction) -> dict[str, Any]:
    request = call.request
    return {
        "outcome": call.outcome,
        "host": call.host,
        "kind": request.kind if request else "",
        "model": request.model if request else "",
        "file": file_name(request.kind, request.key) if request and call.take else "",
        "served_s": call.served_s,
        "note": call.note,
    }


def status_page(session: Session) -> Response:
    """Return the status as a page, with the last call first."""
    calls = session.interactions
    shown = calls[: -_LAST - 1 : -1]
    rows = "".join(map(_table_row, shown))
    head = '<tr><th>Outcome</th><th>Call</th><th>Recording</th><th class="time">Time</th></tr>'
    table = f"<table>{head}{rows}</table>" if rows else "<p>Nothing was asked yet.</p>"
    more = f"<p>The last {_LAST} of {count_of(len(calls), 'call')}.</p>" if len(calls) > len(shown) else ""
    where = escape(f"{session.store.shown}, mode {session.mode.value}")
    counts = escape(format_counts(Counter(call.outcome for call in calls)))
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>nbreplay serve</title><style>{_STYLE}</style>'
        f"<h1>nbreplay serve: {where}</h1><p>{counts}</p>{more}{table}</html>",
        headers=_HEADERS,
    )


def _table_row(call: Interaction) -> str:
    row = _row(call)
    words = OUTCOMES[call.outcome]
    what = escape(" ".join(filter(None, (row["kind"], row["model"], row["host"] and f"at {row['host']}"))))
    note = f"<pre>{escape(call.note)}</pre>" if call.note else ""
    return (
        f'<tr class="{"fails" if words.fails else call.outcome}"><td>{call.outcome}</td><td>{what}{note}</td>'
        f'<td class="file">{escape(row["file"])}</td><td class="time">{escape(format_seconds(call.served_s))}</td></tr>'
    )
