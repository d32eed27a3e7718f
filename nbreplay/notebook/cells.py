"""The cells that run: which one a call belongs to, its ``%%replay`` line, and which calls are still to be reported.

This module handles IPython's events. Displays are up to `nbreplay.notebook.magics`.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython.core.error import InputRejected

from nbreplay.core import log as logs
from nbreplay.core.cell import Cell, Run, enter_run, leave_run
from nbreplay.core.session import Session, active_sessions, current_session
from nbreplay.errors import NbreplayError, RecordingMissing
from nbreplay.notebook.directive import Directive, clean_cell, parse_cell
from nbreplay.notebook.display import Live

# VS Code sends an address with the path of the file instead, which differs between runs.
_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(eq=False, slots=True)
class RunningCell:
    """A cell that runs, or a ``run_cell`` inside one."""

    raw: str
    message: str | None  # the id of the front end's request
    run: Run  # a ``run_cell`` shares that of the notebook's cell
    nested: bool
    view: str | None = None  # on its ``%%replay`` line
    session: Session | None = None  # of its ``%%replay`` line
    live: Live | None = None


class Cells:
    """The cells of a shell that run.

    `open_session` returns the session for a ``%%replay`` line, `watch` the live view of a cell's calls or None.
    `report` is called at the end of a cell with the cell, its calls, the session and the error.
    """

    def __init__(
        self,
        shell: Any,
        open_session: Callable[[Directive], Session],
        watch: Callable[[RunningCell], Live | None],
        report: Callable[[RunningCell, list[logs.Interaction], Session | None, Any], None],
    ) -> None:
        self._shell, self._open_session, self._watch, self._report = shell, open_session, watch, report
        self._running: list[RunningCell] = []
        self._refusal: str | None = None
        # Of each log, the number of calls that had started, and the places of those that had not ended.
        self._progress: weakref.WeakKeyDictionary[logs.Log, tuple[int, list[int]]] = weakref.WeakKeyDictionary()
        self._unreported: list[logs.Interaction] = []
        self._reported_miss = ""
        self._new_calls()

    def pre_run_cell(self, info: Any) -> None:
        """Note a cell that starts, and open the session of its ``%%replay`` line."""
        number = len(self._history()) if info.store_history else self._shell.execution_count
        self._begin(info.raw_cell, getattr(info, "cell_id", None), number)

    def begin_now(self) -> None:
        """Note the cell with ``%load_ext``, which has started already."""
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
        self._refusal = None
        try:
            directive = parse_cell(raw)
        except NbreplayError:
            directive = None  # reported by the cell magic
        message = self._parent().get("header", {}).get("msg_id")
        outer = self._running[-1] if self._running and self._running[-1].message == message else None
        if outer is None:
            source = directive.source if directive else "".join(clean_cell(raw)).strip()
            run = Run(Cell(cell_id if cell_id and _CELL_ID.fullmatch(cell_id) else None, number, source))
            enter_run(run)
        else:
            run = outer.run
        cell = RunningCell(raw, message, run, outer is not None, directive.view if directive else None)
        self._running.append(cell)
        if directive is not None:
            try:
                session = self._open_session(directive)
                session.start()
                cell.session = session
            except NbreplayError as error:
                self._refusal = f"%%replay: {error}"
        if outer is None:
            cell.live = self._watch(cell)

    def visit(self, node: ast.AST) -> ast.AST:
        """Refuse a cell whose ``%%replay`` line is wrong, as a transformer of IPython's, which runs before the cell."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise UsageError(refusal)
        return node

    def post_run_cell(self, result: Any) -> None:
        """At the end of a cell, restore the mode, write open streams, and report its calls."""
        ended = (cell for cell in reversed(self._running) if result is None or cell.raw == result.info.raw_cell)
        if (cell := next(ended, None)) is None:
            return
        self._running.remove(cell)
        self._refusal = None
        error = None if result is None else result.error_in_exec or result.error_before_exec
        interrupted = result is None or isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
        session = cell.session or current_session()
        if interrupted or not cell.nested:
            for active in active_sessions():
                active.flush(cell.run, interrupted=interrupted)
        if cell.session is not None:
            cell.session.stop()
        if not cell.nested:
            leave_run(cell.run)
            self._reported_miss = self.last_miss
            calls = [call for call in self._new_calls() if call.cell is cell.run.cell or call.outcome in logs.FAILURES]
            self._report(cell, calls, session, error)

    @property
    def last_miss(self) -> str:
        """The note of the last missing call, or ``""``."""
        self._unreported = self._new_calls()
        notes = (call.note for call in reversed(self._unreported) if call.outcome == "missing")
        return next(notes, self._reported_miss)

    def _new_calls(self) -> list[logs.Interaction]:
        """Return the calls that have ended since the last call of this, those of threads and widgets, too."""
        calls, self._unreported = self._unreported, []
        for log in logs.all_logs():
            (before, pending), now = self._progress.get(log, (0, [])), len(log)
            new = {place: log.at(place) for place in [*pending, *range(before, now)]}
            self._progress[log] = now, [place for place, call in new.items() if call is None]
            calls += filter(None, new.values())
        return calls

    @property
    def sessions(self) -> list[Session]:
        """The sessions of ``%%replay`` lines, outermost first."""
        return [cell.session for cell in self._running if cell.session is not None]

    def stop(self) -> None:
        """Stop the sessions and views of all cells."""
        for cell in self._running:
            if cell.session is not None:
                cell.session.stop()
            if cell.live is not None:
                cell.live.end(())
            leave_run(cell.run)
        self._running.clear()


class UsageError(InputRejected):
    """Keeps a cell from running whose ``%%replay`` line is wrong. Front ends show the name of this class."""

    def _render_traceback_(self) -> list[str]:
        return [f"UsageError: {self}"]


def guard_callbacks(shell: Any) -> Callable[[], None]:
    """Show a `RecordingMissing` in a widget's callback as an error. Return a function that undoes this.

    The kernel catches nothing but `Exception` there, so that a miss would end it.
    """
    handlers = getattr(getattr(shell, "kernel", None), "shell_handlers", {})
    originals = {name: handler for name, handler in handlers.items() if name.startswith("comm_")}

    def guard(handler: Callable[..., Any]) -> Any:
        @functools.wraps(handler)
        def handle(*message: Any) -> Any:
            try:
                return handler(*message)
            except RecordingMissing:
                shell.showtraceback()
                return None

        return handle

    guarded = {name: guard(handler) for name, handler in originals.items()}
    handlers.update(guarded)

    def undo() -> None:
        handlers.update({name: originals[name] for name in guarded if handlers.get(name) is guarded[name]})

    return undo
