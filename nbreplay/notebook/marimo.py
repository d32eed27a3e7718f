"""marimo: the runs of its cells. Nobody is told when one starts or ends, so each call asks which one is running."""

from __future__ import annotations

import threading
from typing import Any

from nbreplay.core.cell import Cell, Run, set_run_finder


class _Cells:
    """The runs of the cells of one process, each found by the context that marimo makes for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: object = None
        self._run: Run | None = None

    def find_run(self) -> Run | None:
        """Return the run of the cell that is running in this thread; in a thread of the user's, the latest one."""
        from marimo._runtime.context import ContextNotInitializedError, get_context

        try:
            runtime: Any = get_context()
        except ContextNotInitializedError:
            return self._run
        context = runtime.execution_context
        with self._lock:
            if context is not None and context is not self._context:
                # The context is kept, so that none of the next ones gets its address.
                self._context, self._run = context, Run(_read_cell(runtime, context.cell_id))
            return None if context is None else self._run


def _read_cell(runtime: Any, name: str) -> Cell:
    """Return a cell as it is recorded. marimo makes ids anew where cells move, so only the source tells cells apart."""
    cell = runtime.graph.cells.get(name)
    return Cell(None, None, cell.code.strip() if cell is not None else "", getattr(runtime, "filename", None))


def follow_cells() -> None:
    """Have each run of a cell begin with its first takes."""
    set_run_finder(_cells.find_run)


_cells = _Cells()
