"""Code that runs inside the kernel of a notebook: it turns nbreplay on, and reports the calls at the end."""

from __future__ import annotations

import atexit
import hashlib
import json
from collections import Counter
from typing import Any

from nbreplay.core import log as logs
from nbreplay.core.session import active_sessions

_END_SECONDS = 2.0


def begin() -> str:
    """Turn nbreplay on before the first cell, in the mode that the environment forces. Returns ``null``, as JSON."""
    from IPython.core.getipython import get_ipython

    from nbreplay.notebook.magics import load

    logs.keep_all_logs()
    shell = get_ipython()
    load(shell, on=True)
    _make_ids_repeatable(shell)
    atexit.register(_end_in_order, shell)
    return "null"


def _end_in_order(shell: Any) -> None:
    """Wait for the control thread: ipykernel stops its output thread first, and hangs if more output is to be sent."""
    kernel = shell.kernel
    if getattr(kernel, "_shutdown_message", None) is not None and (thread := kernel.parent.control_thread):
        thread.join(_END_SECONDS)


def report() -> str:
    """Return the calls of this kernel, the recordings that they used, and what was not covered, as JSON."""
    sessions, every = active_sessions(), logs.all_logs()
    for session in sessions:
        session.flush()
    calls = [_describe_call(item) for log in every for item in log.interactions]
    used = {session.store.name: list[str]() for session in sessions} | logs.used_recordings(every)
    return json.dumps({"calls": calls, "used": used, "uncovered": logs.find_uncovered(every)})


def _describe_call(item: logs.Interaction) -> dict[str, object]:
    """Return the fields of a `CallReport`."""
    return {
        "outcome": item.outcome,
        "kind": item.request.kind if item.request else "",
        "model": item.request.model if item.request else "",
        "key": item.key,
        "cell": item.cell.id if item.cell else None,
        "number": item.cell.number if item.cell else None,
        "note": item.note,
        "host": item.host,
    }


def _make_ids_repeatable(shell: Any) -> None:
    """Derive the ids of widgets and displays from the cell and a count. They are random otherwise."""
    import comm
    from IPython.core import display_functions

    count: Counter[str] = Counter()

    def new_id(kind: str) -> str:
        metadata = (shell.get_parent() or {}).get("metadata", {})
        name = f"{kind} {metadata.get('cellId') or shell.execution_count}"
        count[name] += 1
        return hashlib.sha256(f"nbreplay {name} {count[name]}".encode()).hexdigest()[:32]

    create = comm.create_comm

    def create_comm(*args: Any, **options: Any) -> Any:
        if not options.get("comm_id"):
            options["comm_id"] = new_id("widget")
        return create(*args, **options)

    comm.create_comm = create_comm
    if hasattr(display_functions, "_new_id"):  # a private name of IPython, which may go
        display_functions._new_id = lambda: new_id("display")
