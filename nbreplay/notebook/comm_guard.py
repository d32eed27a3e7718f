"""Widgets' callbacks, which run outside any cell: a miss in one must not end the kernel.

`RecordingMissing` is no `Exception`, and the kernel catches nothing else where it handles messages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nbreplay.errors import RecordingMissing

__all__ = ["guard"]


def guard(shell: Any) -> Callable[[], None]:
    """Have misses in callbacks shown as errors, as in a cell; return what undoes it."""
    handlers = getattr(getattr(shell, "kernel", None), "shell_handlers", None)
    if handlers is None:
        return lambda: None
    guarded = {name: _guarded(handlers[name], shell) for name in handlers if name.startswith("comm_")}
    handlers.update(guarded)

    def undo() -> None:
        for name, handler in guarded.items():
            if handlers.get(name) is handler:
                handlers[name] = handler.__wrapped__

    return undo


def _guarded(handler: Callable[..., Any], shell: Any) -> Any:
    @functools.wraps(handler)
    def handled(*message: Any) -> Any:
        try:
            return handler(*message)
        except RecordingMissing:
            shell.showtraceback()
            return None

    return handled
