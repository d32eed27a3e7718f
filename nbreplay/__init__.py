"""Record what a notebook's cells exchange with models, and replay it.

A replay needs no key and no network, and gives the same output.

In a notebook::

    %load_ext nbreplay
    %replay on              # replay what is recorded, record what is missing

In Python::

    import nbreplay as nr

    with nr.session("recordings", mode="auto") as s:
        ...                 # calls of any supported client
    s.show()                # as cards

    lib = nr.load("recordings")
    lib.interactions        # a pandas frame: models, tokens, times, costs

=============  ============================================================
`session`      records and replays the calls of a ``with`` block
`transport`    does so for one client of httpx or httpx2, without patching
`tool`         does so for the calls of a function
`load`         reads recordings as frames: pandas, polars, duckdb or dask
`compare`      compares the answers of two stores, sessions or models
=============  ============================================================

Nothing heavy is imported before it is asked for.
"""

from __future__ import annotations

import importlib

# `typing` is not imported, since child processes import this at their start. To jedi, which completes names in Jupyter,
# what stands below a literal False is not there.
TYPE_CHECKING = bool()  # noqa: UP018

__version__ = "0.1.0"

_HOMES = {
    "Chunk": "nbreplay.core.recording.stream",
    "Comparison": "nbreplay.analysis.compare",
    "Interaction": "nbreplay.core.log",
    "Library": "nbreplay.analysis.library",
    "Recording": "nbreplay.core.recording.recording",
    "Session": "nbreplay.core.session",
    "Store": "nbreplay.core.store.store",
    "Take": "nbreplay.core.recording.take",
    "Transport": "nbreplay.intercept.http.httpx",
    "compare": "nbreplay.analysis.compare",
    "load": "nbreplay.analysis.library",
    "session": "nbreplay.intercept.registry",
    "tool": "nbreplay.intercept.tools.decorator",
    "transport": "nbreplay.intercept.http.httpx",
}
__all__ = [
    "Chunk",
    "Comparison",
    "Interaction",
    "Library",
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
    "Transport",
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
    from IPython.core.interactiveshell import InteractiveShell

    from nbreplay.analysis.compare import Comparison, compare
    from nbreplay.analysis.library import Library, load
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
    from nbreplay.intercept.http.httpx import Transport, transport
    from nbreplay.intercept.registry import session
    from nbreplay.intercept.tools.decorator import tool


if not TYPE_CHECKING:  # to type checkers, a module with this function has every name

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name, "nbreplay.errors")
        if name not in __all__:
            raise AttributeError(f"module 'nbreplay' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(home), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add ``%replay`` and ``%%replay`` to an IPython shell; for ``%load_ext nbreplay``."""
    from nbreplay.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Undo `load_ipython_extension`, and switch off what was on."""
    from nbreplay.notebook.magics import unload

    unload(shell)
