"""Memory in which forked children report refusals to the log of their parent process.

A child inherits the sessions and the guard, but its own log ends with it. The memory is shared, and made before the
first fork under replay. It is not a pipe, since many children first close all their files.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from nbreplay.core import log as logs
from nbreplay.core.cell import Cell
from nbreplay.core.log import Interaction, Log

_SLOTS, _SLOT_SIZE, _HEADER = 64, 8192, 4  # a child writes to the slot of its process id, which needs no lock
_MAX_TEXT = 1000

_memory: Any = None
_owner: int | None = None
_last_report: tuple[int, str] | None = None


def prepare() -> None:
    """Make the memory, before a fork."""
    global _memory, _owner
    if _memory is None:
        import mmap

        with contextlib.suppress(OSError):
            _memory, _owner = mmap.mmap(-1, _SLOTS * _SLOT_SIZE), os.getpid()


def send(log: Log, host: str, text: str, cell: Cell | None = None, store: str = "") -> None:
    """Report a refusal to the parent process, if this process is a forked child.

    An empty `text` is a child process that was started, and is only named; `host` is its name then.
    """
    global _last_report
    if _memory is None or _owner == os.getpid():
        return
    report = [log.number, host[:200], text[:_MAX_TEXT], cell and [cell.id, cell.number], store[:500]]
    current = os.getpid(), json.dumps(report)
    if current == _last_report:
        return  # `os.execvp` tries every folder of the path
    _last_report = current
    line = json.dumps([time.monotonic_ns(), *report]).encode("ascii") + b"\n"
    start = os.getpid() % _SLOTS * _SLOT_SIZE
    size = int.from_bytes(_memory[start : start + _HEADER], "little")
    end = start + _HEADER + size
    if end + len(line) <= start + _SLOT_SIZE:
        _memory[end : end + len(line)] = line
        _memory[start : start + _HEADER] = (size + len(line)).to_bytes(_HEADER, "little")


def _receive() -> None:
    if _memory is None or _owner != os.getpid():
        return
    reports = list[list[Any]]()
    for start in range(0, _SLOTS * _SLOT_SIZE, _SLOT_SIZE):
        size = int.from_bytes(_memory[start : start + _HEADER], "little")
        if not size:
            continue
        lines = _memory[start + _HEADER : start + _HEADER + size].splitlines()
        _memory[start : start + _HEADER] = bytes(_HEADER)
        for line in lines:
            with contextlib.suppress(ValueError):
                reports.append(json.loads(line))
    for _, number, host, text, cell, store in sorted(reports, key=lambda report: report[0]):
        log = next((log for log in logs.all_logs() if log.number == number), None)
        if log is not None and text:
            of = Cell(cell[0], cell[1], "") if cell else None
            log.start(Interaction(None, None, "blocked", of, None, text, store, host))
        elif log is not None:
            log.uncovered.setdefault(("child", host), False)


logs.on_read(_receive)
