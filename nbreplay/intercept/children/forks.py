"""What the guard refuses in a forked child, reported to the log of the process that it was forked from.

A child inherits the sessions and the guard, but what it logs is in its own memory, and ends with it. So there is memory
that children share with their parent, made before the first fork under replay. It is not a pipe: many children close
all their files first.
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

__all__ = ["prepare", "send"]

_SLOTS, _SLOT, _HEAD = 64, 8192, 4  # a child writes into the slot of its process id, so that no lock is needed
_LONGEST = 1000  # characters of a text

_memory: Any = None
_owner: int | None = None
_sent: tuple[int, bytes] | None = None


def prepare() -> None:
    """Have the memory; called before a fork."""
    global _memory, _owner
    if _memory is None:
        import mmap

        with contextlib.suppress(OSError):
            _memory, _owner = mmap.mmap(-1, _SLOTS * _SLOT), os.getpid()


def send(log: Log, host: str, text: str, cell: Cell | None = None, store: str = "") -> None:
    """Report what was refused, or started where there is no text, if this process is a forked child."""
    global _sent
    if _memory is None or _owner == os.getpid():
        return
    told = [time.monotonic_ns(), log.number, host[:200], text[:_LONGEST], cell and [cell.id, cell.number], store[:500]]
    line = json.dumps(told).encode("ascii") + b"\n"
    same = json.dumps(told[1:]).encode("ascii")
    if _sent == (os.getpid(), same):
        return  # `os.execvp` tries every folder of the path
    _sent = os.getpid(), same
    start = os.getpid() % _SLOTS * _SLOT
    size = int.from_bytes(_memory[start : start + _HEAD], "little")
    end = start + _HEAD + size
    if end + len(line) <= start + _SLOT:
        _memory[end : end + len(line)] = line
        _memory[start : start + _HEAD] = (size + len(line)).to_bytes(_HEAD, "little")


def _receive() -> None:
    """Log what forked children have reported since this was asked last."""
    if _memory is None or _owner != os.getpid():
        return
    told = list[list[Any]]()
    for start in range(0, _SLOTS * _SLOT, _SLOT):
        size = int.from_bytes(_memory[start : start + _HEAD], "little")
        if size:
            received = _memory[start + _HEAD : start + _HEAD + size]
            _memory[start : start + _HEAD] = bytes(_HEAD)
            for line in received.splitlines():
                with contextlib.suppress(ValueError):
                    told.append(json.loads(line))
    for _, *rest in sorted(told, key=lambda item: item[0]):  # by time: the slots say nothing of the order
        _log(*rest)


def _log(number: int, host: str, text: str, cell: list[Any] | None, store: str) -> None:
    log = next((log for log in logs.every() if log.number == number), None)
    if log is None:
        return
    if text:
        of = Cell(cell[0], cell[1], "") if cell else None
        log.start(Interaction(None, None, "blocked", of, None, text, store, host))
    else:
        log.uncovered.setdefault(("child", host), False)


logs.on_read(_receive)
