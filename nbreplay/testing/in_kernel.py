"""Code that runs inside the kernel of a notebook: it turns nbreplay on, and reports the calls at the end."""

from __future__ import annotations

import atexit
import faulthandler
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from nbreplay.core import log as logs
from nbreplay.core.secrets.credentials import environment_secrets
from nbreplay.core.session import active_sessions
from nbreplay.core.words import FAILURES
from nbreplay.errors import RecordingMissing

LAST_WORDS = "stderr"
"""The file beside a kernel's connection file that takes what it writes while it starts, and when it crashes."""

_END_SECONDS = 2.0


def begin(parameters: str = "{}", *, skip_installs: bool = False, fast_sleep: bool = False) -> str:
    """Turn nbreplay on before the first cell, in the mode that the environment forces. Returns ``null``, as JSON.

    `parameters` are the values of ``-p`` as JSON, which also answer what cells ask for.
    """
    from IPython.core.getipython import get_ipython

    from nbreplay.notebook.display import show_pages_only
    from nbreplay.notebook.magics import load
    from nbreplay.testing import inputs

    logs.keep_all_logs()
    shell: Any = get_ipython()
    show_pages_only()
    load(shell, on=True)
    inputs.install(shell, json.loads(parameters))
    _make_ids_repeatable(shell)
    if fast_sleep:
        from nbreplay.testing.fast_sleep import install

        install()
    if skip_installs:
        from nbreplay.testing.installs import InstallRemover

        shell.ast_transformers.append(InstallRemover())
    atexit.register(_end_in_order, shell)
    _keep_last_words(shell)
    return "null"


def begin_page() -> None:
    """Turn nbreplay on in a kernel that another program runs, such as myst-nb, and fail a cell that hides a miss."""
    from IPython.core.getipython import get_ipython

    from nbreplay.notebook.magics import load

    logs.keep_all_logs()
    shell: Any = get_ipython()
    load(shell, on=True).view = "off"  # the badges are for those who write a notebook
    reported = 0

    def fail(result: Any) -> None:
        nonlocal reported
        failed = [call for log in logs.all_logs() for call in log.interactions if call.outcome in FAILURES]
        if len(failed) > reported and result is not None and result.success:
            note = failed[reported].note
            result.error_in_exec, shell._last_traceback = RecordingMissing(note), [f"RecordingMissing: {note}"]
        reported = len(failed)

    shell.events.register("post_run_cell", fail)


def _keep_last_words(shell: Any) -> None:
    """Write the traceback of a crash to a file. The thread of ipykernel that reads stderr dies with the process."""
    folder = os.path.dirname(shell.kernel.parent.abs_connection_file)
    file = open(os.path.join(folder, LAST_WORDS), "a")  # noqa: SIM115
    faulthandler.enable(file, all_threads=False)


def _end_in_order(shell: Any) -> None:
    """Wait for the control thread: ipykernel stops its output thread first, and hangs if more output is to be sent."""
    kernel = shell.kernel
    if getattr(kernel, "_shutdown_message", None) is not None and (thread := kernel.parent.control_thread):
        thread.join(_END_SECONDS)


def report() -> str:
    """Return the calls of this kernel, the recordings that they used, what was not covered, and secrets, as JSON."""
    from nbreplay.testing.inputs import is_unset, list_inputs

    sessions, every = active_sessions(), logs.all_logs()
    for session in sessions:
        session.flush()
    calls = [_describe_call(item) for log in every for item in log.interactions]
    used = {session.store.name: list[str]() for session in sessions} | logs.used_recordings(every)
    # For the outputs, which are masked outside: a cell may have put a key into this process alone.
    secrets = dict.fromkeys((*environment_secrets(), *(secret for log in every for secret in log.known_secrets)))
    found = {"calls": calls, "used": used, "uncovered": logs.find_uncovered(every), "secrets": list(secrets)}
    unset = {name for session in sessions for name in session.store.variables() if is_unset(name)}
    return json.dumps({**found, "inputs": list_inputs(), "unset": sorted(unset)})


def _describe_call(item: logs.Interaction) -> dict[str, object]:
    """Return the fields of a `CallReport`."""
    cell, recorded = item.cell, item.take.cell if item.take else None
    return {
        "outcome": item.outcome,
        "kind": item.request.kind if item.request else "",
        "model": item.request.model if item.request else "",
        "key": item.key,
        "cell": cell.id if cell else None,
        "number": cell.number if cell else None,
        "note": item.note,
        "host": item.host,
        "masks": msgspec.to_builtins(item.masks),
        "lost": item.lost,
        "edited": bool(cell and recorded and cell.id and cell.id == recorded.id and cell.ref.source != recorded.source),
    }


def _make_ids_repeatable(shell: Any) -> None:
    """Derive the ids of widgets and displays from the cell and a count. They are random otherwise."""
    from IPython.display import display

    count: Counter[str] = Counter()

    def new_id(kind: str) -> str:
        metadata = (shell.get_parent() or {}).get("metadata", {})
        name = f"{kind} {metadata.get('cellId') or shell.execution_count}"
        count[name] += 1
        return hashlib.sha256(f"nbreplay {name} {count[name]}".encode()).hexdigest()[:32]

    def with_id(create: Callable[..., Any]) -> Callable[..., Any]:
        def create_comm(*args: Any, **options: Any) -> Any:
            if not options.get("comm_id"):
                options["comm_id"] = new_id("widget")
            return create(*args, **options)

        return create_comm

    try:
        import comm
    except ImportError:  # ipykernel before 6.18 has comms of its own
        import ipykernel.comm

        comms: Any = ipykernel.comm.Comm
        comms.__init__ = with_id(comms.__init__)
    else:
        comm.create_comm = with_id(comm.create_comm)
    module: Any = sys.modules[display.__module__]
    if hasattr(module, "_new_id"):  # a private name of IPython, which may go
        module._new_id = lambda: new_id("display")
