"""What runs inside the kernel of a notebook that the runner executes: switching on, and reporting at the end."""

from __future__ import annotations

import atexit
import json
from typing import Any

from nbreplay.core import log as logs
from nbreplay.core.session import active_sessions

__all__ = ["begin", "report"]

_END_SECONDS = 2.0


def begin() -> str:
    """Switch nbreplay on before the first cell, in the mode that the environment forces; return JSON text."""
    from IPython.core.getipython import get_ipython

    from nbreplay.notebook.magics import load
    from nbreplay.testing.steady import keep_ids

    logs.keep_all_logs()
    shell = get_ipython()
    load(shell, on=True)
    keep_ids(shell)
    atexit.register(_end_in_order, shell)
    return "null"


def _end_in_order(shell: Any) -> None:
    """Let the thread that was told to shut down come to its end.

    ipykernel ends the thread that takes outputs first, and where the other had one for it meanwhile, waits for ever.
    """
    kernel = shell.kernel
    if getattr(kernel, "_shutdown_message", None) is not None and (thread := kernel.parent.control_thread):
        thread.join(_END_SECONDS)


def report() -> str:
    """Return every call that was made in this kernel, the recordings asked for, and what was not covered, as JSON."""
    for session in active_sessions():
        session.flush()
    used = {session.store.name: list[str]() for session in active_sessions()} | logs.used_recordings(logs.all_logs())
    return json.dumps({"calls": _calls(), "used": used, "uncovered": logs.find_uncovered(logs.all_logs())})


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
        for log in logs.all_logs()
        for item in log.interactions
    ]
