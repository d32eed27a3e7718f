"""What runs inside the kernel of a notebook that the runner executes: switching on, and reporting at the end."""

from __future__ import annotations

import json

from nbreplay.core import active
from nbreplay.core import log as logs

__all__ = ["begin", "report"]


def begin() -> str:
    """Switch nbreplay on before the first cell, in the mode that the environment forces; return JSON text."""
    from IPython.core.getipython import get_ipython

    from nbreplay.notebook.magics import load

    logs.keep_all()
    shell = get_ipython()
    load(shell, on=True)
    return "null"


def report() -> str:
    """Return every call that was made in this kernel, and the recordings that were asked for, as JSON text."""
    for session in active.sessions():
        session.flush()
    used = {session.store.name: list[str]() for session in active.sessions()} | logs.used(logs.every())
    return json.dumps({"calls": _calls(), "used": used})


def _calls() -> list[dict[str, object]]:
    return [
        {
            "outcome": item.outcome,
            "kind": item.request.kind if item.request else "",
            "model": item.request.model if item.request else "",
            "key": item.key,
            "cell": item.cell.id if item.cell else None,
            "number": item.cell.number if item.cell else None,
            "note": item.note,
            "host": item.host,
        }
        for log in logs.every()
        for item in log.interactions
    ]
