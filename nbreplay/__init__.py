"""Record what a notebook's cells exchange with models, and replay it: no key, no network, the same output.

In a notebook::

    %load_ext nbreplay
    %replay on

In Python::

    import nbreplay as nr

    with nr.session("recordings", mode="auto") as s:
        ...
    nr.load("recordings").interactions  # a pandas frame

Nothing heavy is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Chunk": "nbreplay.core.recording.stream",
    "Interaction": "nbreplay.core.log",
    "Recording": "nbreplay.core.recording.recording",
    "Session": "nbreplay.core.session",
    "Store": "nbreplay.core.store.store",
    "Take": "nbreplay.core.recording.take",
    "compare": "nbreplay.analysis.compare",
    "load": "nbreplay.analysis.library",
    "session": "nbreplay.intercept.registry",
    "tool": "nbreplay.intercept.tools.decorator",
    "transport": "nbreplay.intercept.http.httpx",
}
__all__ = [
    "Chunk",
    "Interaction",
    "NbreplayError",
    "NetworkBlocked",
    "NotebookMismatch",
    "OptionError",
    "RecordedToolError",
    "Recording",
    "RecordingFormatError",
    "RecordingIncomplete",
    "RecordingMissing",
    "Session",
    "Store",
    "StoreError",
    "Take",
    "ToolError",
    "UnsafeRecordingError",
    "__version__",
    "compare",
    "load",
    "load_ipython_extension",
    "session",
    "tool",
    "transport",
    "unload_ipython_extension",
]

if TYPE_CHECKING:
    from nbreplay.analysis.compare import compare
    from nbreplay.analysis.library import load
    from nbreplay.core.log import Interaction
    from nbreplay.core.recording.recording import Recording
    from nbreplay.core.recording.stream import Chunk
    from nbreplay.core.recording.take import Take
    from nbreplay.core.session import Session
    from nbreplay.core.store.store import Store
    from nbreplay.errors import (
        NbreplayError,
        NetworkBlocked,
        NotebookMismatch,
        OptionError,
        RecordedToolError,
        RecordingFormatError,
        RecordingIncomplete,
        RecordingMissing,
        StoreError,
        ToolError,
        UnsafeRecordingError,
    )
    from nbreplay.intercept.http.httpx import transport
    from nbreplay.intercept.registry import session
    from nbreplay.intercept.tools.decorator import tool


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name, "nbreplay.errors")
    if name not in __all__:
        raise AttributeError(f"module 'nbreplay' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Add ``%replay`` and ``%%replay`` to an IPython shell; for ``%load_ext nbreplay``."""
    from nbreplay.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Undo `load_ipython_extension`, and switch off what was on."""
    from nbreplay.notebook.magics import unload

    unload(shell)
