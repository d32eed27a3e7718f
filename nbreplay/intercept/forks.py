"""What the guard refuses in a forked child, reported to the log of the process that it was forked from.

A child inherits the sessions and the guard, but what it logs is in its own memory, and ends with it. So there is a pipe
from children to their parent, opened before the first fork under replay.
"""

from __future__ import annotations

import contextlib
import json
import os

from nbreplay.core import log as logs
from nbreplay.core.cell import Cell
from nbreplay.core.log import Interaction, Log

__all__ = ["prepare", "send"]

_LONGEST = 2000  # characters of a text; a pipe takes 4096 bytes whole

_pipe: tuple[int, int] | None = None
_kind: tuple[int, int] | None = None  # which pipe that is: a child may have closed it, and its number is another file's
_owner: int | None = None


def prepare() -> None:
    """Open the pipe; called before a fork."""
    global _pipe, _kind, _owner
    if _pipe is None:
        with contextlib.suppress(OSError):
            reading, writing = os.pipe()
            for end in (reading, writing):
                os.set_blocking(end, False)
            about = os.fstat(writing)
            _kind, _owner, _pipe = (about.st_dev, about.st_ino), os.getpid(), (reading, writing)


def send(log: Log, host: str, text: str, cell: Cell | None = None, store: str = "") -> None:
    """Report what was refused, or started where there is no text, if this process is a forked child."""
    if _pipe is None or _owner == os.getpid():
        return
    told = [log.number, host[:200], text[:_LONGEST], cell and [cell.id, cell.number], store[:1000]]
    with contextlib.suppress(OSError):
        about = os.fstat(_pipe[1])
        if (about.st_dev, about.st_ino) == _kind:
            os.write(_pipe[1], json.dumps(told).encode("ascii") + b"\n")


def _receive() -> None:
    """Log what forked children have reported since this was asked last."""
    if _pipe is None or _owner != os.getpid():
        return
    received = b""
    with contextlib.suppress(OSError):
        while more := os.read(_pipe[0], 1 << 16):
            received += more
    by_number = {log.number: log for log in logs.every()} if received else {}
    for line in received.splitlines():
        with contextlib.suppress(ValueError):
            number, host, text, cell, store = json.loads(line)
            if number in by_number and not text:
                by_number[number].uncovered.setdefault(("child", host), False)
            elif number in by_number:
                of = Cell(cell[0], cell[1], "") if cell else None
                by_number[number].start(Interaction(None, None, "blocked", of, None, text, store, host))


logs.on_read(_receive)
