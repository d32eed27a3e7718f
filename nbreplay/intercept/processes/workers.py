"""Workers of multiprocessing, which may live longer than a session: those from before the first one are not covered."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from weakref import WeakSet

from nbreplay.intercept.network import guard
from nbreplay.intercept.processes.channel import VARIABLE
from nbreplay.intercept.processes.programs import MULTIPROCESSING, classify

_covered: WeakSet[Any] = WeakSet()  # they were started while a session was on, so that they follow the next one, too
_others: WeakSet[Any] = WeakSet()
_is_on = False


def note_workers(is_on: bool) -> None:
    """Note which workers are covered, where the first session starts or the last one has ended."""
    global _is_on
    if is_on == _is_on:
        return
    _is_on = is_on
    process = sys.modules.get("multiprocessing.process")
    workers = set() if process is None else set(process.__dict__["_children"])
    if is_on:
        _others.update(workers - set(_covered))
    else:
        _covered.update(workers - set(_others))


def name_workers() -> None:
    """Name the workers that are not covered, if a session replays."""
    if any(worker.is_alive() for worker in list(_others)):
        guard.name_uncovered("child", f"{MULTIPROCESSING} that was started before")


def has_variable(pid: int | str) -> bool:
    """Tell whether a process was started with the variable that switches it on, where the system tells."""
    try:
        return f"\0{VARIABLE}={{".encode() in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def check_forkserver(*_: Any) -> None:
    """Name a process that is to be forked by a server which is not covered."""
    server = sys.modules["multiprocessing.forkserver"].__dict__["_forkserver"]
    pid = server._forkserver_pid  # None if it is yet to be started
    python = os.fsdecode(sys.modules["multiprocessing.spawn"].__dict__["_python_exe"] or sys.executable)
    if not (has_variable(pid) if pid else classify([python, "-c", ""]).kind == "covered"):
        guard.name_uncovered("child", MULTIPROCESSING)
