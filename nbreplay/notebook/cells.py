"""The cells that run: which one a call belongs to, what its ``%%replay`` line asks for, what is still to be told.

Knows IPython's events; what is displayed is up to `nbreplay.notebook.magics`.
"""

from __future__ import annotations

import ast
import asyncio
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from IPython.core.error import InputRejected

from nbreplay.core import log as logs
from nbreplay.core.cell import Cell, Run, enter_run, leave_run
from nbreplay.core.session import Session, active_sessions, current_session
from nbreplay.errors import NbreplayError
from nbreplay.notebook.directive import Directive, cleaned, parse_cell
from nbreplay.notebook.live import Live

__all__ = ["Cells", "Running"]

# VS Code tells an address of its own instead, with the path of the file, which no other run of the cell would have.
_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(eq=False, slots=True)
class Running:
    """A cell that runs, or a ``run_cell`` inside of one.

    Attributes
    ----------
    raw : str
    message : str or None
        The request of the front end that it is part of.
    run : Run
        Of the notebook's cell; what runs inside of it shares it.
    nested : bool
    view : str or None
        What its ``%%replay`` line says.
    session : Session or None
        What is on for its time.
    live : Live or None
        What shows its calls while it runs.
    """

    raw: str
    message: str | None
    run: Run
    nested: bool
    view: str | None = None
    session: Session | None = None
    live: Live | None = None


@dataclass(slots=True)
class _Seen:
    """How far a log has been told: all before `upto`, but for `pending`, which had not ended."""

    upto: int = 0
    pending: list[int] = field(default_factory=list)


class Cells:
    """The cells of a shell that run.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    opened : callable
        Returns the session that a ``%%replay`` line asks for.
    watch : callable
        Returns what is to show a cell's calls while it runs, or None.
    tell : callable
        Called at the end of a cell with it, its calls, the session and the error.
    """

    def __init__(
        self,
        shell: Any,
        opened: Callable[[Directive], Session],
        watch: Callable[[Running], Live | None],
        tell: Callable[[Running, list[logs.Interaction], Session | None, Any], None],
    ) -> None:
        self._shell, self._opened, self._watch, self._tell = shell, opened, watch, tell
        self._running: list[Running] = []
        self.refused: str | None = None
        self.gate = _Gate(self)
        self._seen: weakref.WeakKeyDictionary[logs.Log, _Seen] = weakref.WeakKeyDictionary()
        self._later: list[logs.Interaction] = []
        self._missed = ""
        self._untold()

    def pre_run_cell(self, info: Any) -> None:
        """A cell starts: note which, and switch on what its ``%%replay`` line asks for."""
        number = len(self._history()) if info.store_history else self._shell.execution_count
        self._begin(info.raw_cell, getattr(info, "cell_id", None), number)

    def begin_now(self) -> None:
        """Note the cell that runs right now, the one with ``%load_ext`` in it; its start has gone by."""
        history = self._history()
        parent = self._parent()
        content = parent.get("content", {})
        raw = content.get("code", history[-1] if history else "")
        if raw.strip() and not content.get("silent") and (content or "nbreplay" in raw):
            self._begin(raw, parent.get("metadata", {}).get("cellId"), len(history) - 1)

    def _history(self) -> list[str]:
        manager = getattr(self._shell, "history_manager", None)
        return list(manager.input_hist_raw) if manager is not None else []

    def _parent(self) -> dict[str, Any]:
        return (self._shell.get_parent() if hasattr(self._shell, "get_parent") else None) or {}

    def _begin(self, raw: str, cell_id: str | None, number: int) -> None:
        self.refused = None
        try:
            directive = parse_cell(raw)
        except NbreplayError:
            directive = None  # the real cell magic says so
        message = self._parent().get("header", {}).get("msg_id")
        above = self._running[-1] if self._running and self._running[-1].message == message else None
        if above is None:
            source = directive.source if directive else "".join(cleaned(raw)).strip()
            own = cell_id if cell_id and _CELL_ID.fullmatch(cell_id) else None
            run = Run(Cell(own, number, source))
            enter_run(run)
        else:
            run = above.run
        running = Running(raw, message, run, above is not None, directive.view if directive else None)
        self._running.append(running)
        if directive is not None:
            try:
                session = self._opened(directive)
                session.start()
                running.session = session
            except NbreplayError as error:
                self.refused = f"%%replay: {error}"
        if above is None:
            running.live = self._watch(running)

    def post_run_cell(self, result: Any) -> None:
        """A cell has ended, well or not: restore the mode, write open streams, tell what happened."""
        running = self._ended(result)
        if running is None:
            return
        self.refused = None
        error = None if result is None else result.error_in_exec or result.error_before_exec
        interrupted = result is None or isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
        session = running.session or current_session()
        if interrupted or not running.nested:
            for one in active_sessions():
                one.flush(running.run, interrupted=interrupted)
        if running.session is not None:
            running.session.stop()
        if not running.nested:
            leave_run(running.run)
            self._missed = self.last_miss
            made = [item for item in self._untold() if item.cell is running.run.cell or item.outcome in logs.FAILURES]
            self._tell(running, made, session, error)

    def _ended(self, result: Any) -> Running | None:
        raw = None if result is None else result.info.raw_cell
        for index in range(len(self._running) - 1, -1, -1):
            if raw is None or self._running[index].raw == raw:
                return self._running.pop(index)
        return None

    @property
    def last_miss(self) -> str:
        """Why the last miss missed, or ``""``."""
        self._later = self._untold()
        return next((item.note for item in reversed(self._later) if item.outcome == "missing"), self._missed)

    def _untold(self) -> list[logs.Interaction]:
        """Return what has ended since this was asked last: also calls of threads, callbacks and widgets."""
        found, self._later = self._later, []
        for log in logs.all_logs():
            seen, length = self._seen.setdefault(log, _Seen()), len(log)
            ended = [(place, log.at(place)) for place in [*seen.pending, *range(seen.upto, length)]]
            seen.upto, seen.pending = length, [place for place, item in ended if item is None]
            found += [item for _, item in ended if item is not None]
        return found

    @property
    def sessions(self) -> list[Session]:
        """What is on for the time of a cell, outermost first."""
        return [running.session for running in self._running if running.session is not None]

    def stop(self) -> None:
        """Let go of every cell."""
        for running in self._running:
            if running.session is not None:
                running.session.stop()
            if running.live is not None:
                running.live.end(())
            leave_run(running.run)
        self._running.clear()


class _Rejected(InputRejected):
    """Keeps a cell from running whose ``%%replay`` line cannot be done."""

    def _render_traceback_(self) -> list[str]:
        return [f"UsageError: {self}"]


_Rejected.__name__ = "UsageError"  # as a front end names it


class _Gate(ast.NodeTransformer):
    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def visit(self, node: ast.AST) -> ast.AST:
        refused, self._cells.refused = self._cells.refused, None
        if refused is not None:
            raise _Rejected(refused)
        return node
