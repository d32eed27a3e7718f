"""What a replay cannot refuse, since it was there before: connections, processes, and libraries that cannot be hooked.

It is named in the log of the session.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbreplay.core.session import Session
from nbreplay.intercept.children.processes import MULTIPROCESSING, child_of
from nbreplay.intercept.network import guard, sockets

__all__ = ["name_all", "name_library"]

_libraries: dict[str, None] = {}


def name_all(session: Session) -> None:
    """Name all that is there when `session` starts to replay."""
    for peer in sockets.connected():
        if _split(peer) not in guard.pooled and not guard.is_allowed(session, *_split(peer)):
            session.log.uncovered.setdefault(("connection", peer), False)
    for name in _libraries:
        session.log.uncovered.setdefault(("library", name), False)
    _name_children(session)


def name_library(name: str) -> None:
    """Name a library whose connections cannot be refused: in the innermost session if it replays, and in later ones."""
    _libraries[name] = None
    if (session := guard.replaying()) is not None:
        session.log.uncovered.setdefault(("library", name), False)


def _split(peer: str) -> tuple[str, Any]:
    if "/" in peer or "\0" in peer:
        return peer, None
    host, _, port = peer.rpartition(":")
    return host.strip("[]"), int(port)


def _name_children(session: Session) -> None:
    """Name processes that were started before `session`: workers of multiprocessing, and known network clients."""
    with contextlib.suppress(Exception):  # what cannot be seen here must not keep a session from starting
        process = sys.modules.get("multiprocessing.process")
        if process is not None and any(child.is_alive() for child in list(process.__dict__["_children"])):
            session.log.uncovered.setdefault(("child", f"{MULTIPROCESSING} that was started before"), False)
    for child in _children():
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[:-1]
            found = child_of(line, f"/proc/{child}/cwd")
            # A Python is more often a server of the program's own, and what connects to it is refused.
            if found.kind == "client" and "python" not in found.name:
                session.log.uncovered.setdefault(("child", f"{found.name} that was started before"), False)


def _children() -> Iterator[str]:
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):
                yield from Path(f"/proc/self/task/{task}/children").read_text().split()
