"""How many internet sockets this process opens: counted by an audit hook, whatever library opens them."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["counted"]

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_counts: list[list[str]] = []
_installed = False


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Collect what is opened or connected meanwhile; an event loop's own pair of Unix sockets does not count."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)
    found: list[str] = []
    _counts.append(found)
    try:
        yield found
    finally:
        _counts.remove(found)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _counts:
        return
    if event == "socket.__new__" and arguments[1] in _FAMILIES:
        text = f"a socket of family {arguments[1]}"
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        text = f"a connection to {arguments[1]}"
    else:
        return
    for found in _counts:
        found.append(text)
