"""``%load_ext nbreplay``: the magics, and the hooks into the cells that run.

``%%replay`` is not a magic that runs the cell: its line is removed (`nbreplay.notebook.directive.transform`), and a
session is on from ``pre_run_cell`` to ``post_run_cell``. Top-level await, displays and tracebacks stay IPython's own.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib
import os
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython.core.error import InputRejected, UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import publish_display_data
from msgspec.structs import replace
from traitlets import Bool, Enum, Float, List, Unicode

from nbreplay.core import log as logs
from nbreplay.core import pyodide
from nbreplay.core.advice import Place
from nbreplay.core.cell import Cell, Run, enter_run, leave_run
from nbreplay.core.config import Mode, forced_mode, project
from nbreplay.core.session import Session, active_sessions, current_session, enter_session, leave_session
from nbreplay.core.words import FAILURES
from nbreplay.errors import NbreplayError, OptionError, RecordingMissing
from nbreplay.intercept import registry
from nbreplay.notebook import display, status
from nbreplay.notebook.directive import (
    HELP,
    MODES,
    VIEWS,
    Directive,
    clean_cell,
    complete,
    explain_refusal,
    parse_cell,
    parse_line,
    transform,
)
from nbreplay.notebook.render import MANY
from nbreplay.notebook.stall import StallWatch

# VS Code sends an address with the path of the file instead, which differs between runs.
# The runner neither compares nor stores displays with this metadata.
_STATUS = {"nbreplay": "status"}
_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def find_notebook(shell: Any) -> str | None:
    """Return the path of the notebook that a shell runs, if its runner, VS Code or Jupyter's server tells it."""
    names = (
        os.environ.get("NBREPLAY_NOTEBOOK_FILE"),
        shell.user_ns.get("__vsc_ipynb_file__"),
        os.environ.get("JPY_SESSION_NAME"),
    )
    name = next((name for name in names if isinstance(name, str) and name.endswith(".ipynb")), None)
    # A server may tell the path from its own root. A kernel starts in the notebook's folder.
    return os.path.abspath(name if os.path.isabs(name) else os.path.basename(name)) if name else None


@dataclass(eq=False, slots=True)
class RunningCell:
    """A cell that runs, or a ``run_cell`` inside one."""

    raw: str
    message: str | None  # the id of the front end's request
    run: Run  # a ``run_cell`` shares that of the notebook's cell
    nested: bool
    view: str | None = None  # on its ``%%replay`` line
    session: Session | None = None  # of its ``%%replay`` line
    live: display.Live | None = None


class Cells:
    """The cells of a shell that run, with what `magics` does at their start and end."""

    def __init__(self, shell: Any, magics: ReplayMagics) -> None:
        self._shell, self._magics = shell, magics
        self._running: list[RunningCell] = []
        self._refusal: str | None = None
        # Of each log, the number of calls that had started, and the places of those that had not ended.
        self._progress: weakref.WeakKeyDictionary[logs.Log, tuple[int, list[int]]] = weakref.WeakKeyDictionary()
        self._unreported: list[logs.Interaction] = []
        self._reported_miss = ""
        self._notebook = find_notebook(shell)
        self._stall = StallWatch()
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
        raw = history[-1] if history else ""
        if not pyodide.IS_PYODIDE:  # whose kernel runs a translation, in which %pip is Python
            raw = content.get("code", raw)
        if raw.strip() and not content.get("silent") and (content or "nbreplay" in raw):
            self._begin(raw, parent.get("metadata", {}).get("cellId"), len(history) - 1)

    def _history(self) -> list[str]:
        manager = getattr(self._shell, "history_manager", None)
        return list(manager.input_hist_raw) if manager is not None else []

    def _parent(self) -> dict[str, Any]:
        # Pyodide's shell has none, but its kernel does.
        owners = (self._shell, getattr(self._shell, "kernel", None))
        owner: Any = next((each for each in owners if hasattr(each, "get_parent")), None)
        return (owner.get_parent() if owner is not None else None) or {}

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
            cell_id = cell_id if cell_id and _CELL_ID.fullmatch(cell_id) else None
            run = Run(Cell(cell_id, number, source, self._notebook))
            # Our runner tells what the tags of the cell say.
            run.keeps_errors = bool((self._parent().get("metadata", {}).get("nbreplay") or {}).get("keeps_errors"))
            enter_run(run)
            self._stall.begin()
        else:
            run = outer.run
        cell = RunningCell(raw, message, run, outer is not None, directive.view if directive else None)
        self._running.append(cell)
        if directive is not None:
            self._magics.use()
            try:
                session = self._magics.open_session(directive)
                session.start()
                cell.session = session
            except NbreplayError as error:
                self._refusal = f"%%replay: {error}"
        if outer is None:
            cell.live = self._magics.watch(cell)

    def visit(self, node: ast.AST) -> ast.AST:
        """Refuse a cell whose ``%%replay`` line is wrong, as a transformer of IPython's, which runs before the cell."""
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise _Rejected(refusal)
        return node

    def post_run_cell(self, result: Any) -> None:
        """At the end of a cell, restore the mode, write open streams, and report its calls."""
        # The history, which has the cell with %load_ext, is without its last line feeds.
        raw = None if result is None else result.info.raw_cell.rstrip("\n")
        ended = (cell for cell in reversed(self._running) if raw is None or cell.raw.rstrip("\n") == raw)
        if (cell := next(ended, None)) is None:
            return
        self._running.remove(cell)
        self._refusal = None
        if not cell.nested:
            self._stall.end()
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
            calls = [call for call in self._new_calls() if call.cell is cell.run.cell or call.outcome in FAILURES]
            self._magics.report(cell, calls, session, error)

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
            new = {place: log.at(place) for place in log.by_strand([*pending, *range(before, now)])}
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
        self._stall.end()
        self._stall.stop()


class _Rejected(InputRejected):
    """Keeps a cell from running whose ``%%replay`` line is wrong."""

    def _render_traceback_(self) -> list[str]:
        return [f"UsageError: {self}"]


_Rejected.__name__ = "UsageError"  # shown by front ends


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


@magics_class
class ReplayMagics(Magics):
    """The magics. ``%config ReplayMagics`` lists their defaults."""

    view = Enum(tuple(VIEWS), default_value="badge", help="The view below a cell that made calls.").tag(config=True)
    store = Unicode("", help="The folder of recordings (or a .zip, or its URL), if no line names one.").tag(config=True)
    speed = Float(None, allow_none=True, help="Replay at the recorded pace times this.").tag(config=True)
    ignore = List(Unicode(), help="Fields to leave out of the key.").tag(config=True)
    mask = List(Unicode(), help="Regular expressions; what they match is left out of the key.").tag(config=True)
    only = List(Unicode(), help="Hosts to record and replay; all, if empty.").tag(config=True)
    allow = List(Unicode(), help="Hosts that replay lets through.").tag(config=True)
    allow_children = Bool(False, help="Whether network clients may start as child processes during replay.").tag(
        config=True
    )

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.log = logs.Log()
        self.base: Session | None = None
        self.place = Place.PROJECT  # where options are to be written, as long as no cell uses a magic
        self.undo = [guard_callbacks(shell)]
        self._directive = Directive()
        self.cells = Cells(shell, self)

    # IPython would expand {4} and $name, which are parts of regular expressions here. In %%replay it does not.
    @no_var_expand
    @line_cell_magic
    def replay(self, line: str, cell: str | None = None) -> None:
        if cell is not None:  # only a line that is wrong: `transform` removes any other
            raise UsageError(explain_refusal(line, cell))
        try:
            self._run(parse_line(line))
        except NbreplayError as error:
            raise UsageError(f"%replay: {error}") from None

    replay.__doc__ = HELP

    def use(self) -> None:
        """Note that the notebook uses the magics, so that options are to be written there."""
        self.place = Place.MAGIC
        if self.base is not None:
            self.base.place = self.place

    def _run(self, directive: Directive) -> None:
        self.use()
        if directive.display == "last":
            calls = [call for log in logs.all_logs() for call in log.interactions]
            if calls:
                display.show([call for call in calls if call.cell is calls[-1].cell])
            else:
                self._publish({"text/plain": "nbreplay: no calls yet"})
        elif directive.display == "help":
            self._publish({"text/plain": HELP})
        elif directive.display == "recordings":
            self._show_recordings()
        elif directive.display == "diff":
            self._publish({"text/plain": self.cells.last_miss or "nbreplay: no call has been missing"})
        elif directive.mode or directive.options or directive.store:
            self.switch(directive)
            self._publish({"text/plain": status.mode_text(self.base)})
        elif not directive.view:
            self._publish(status.overview(self.base, logs.all_logs()))
        if directive.view:
            self.view = directive.view

    def _show_recordings(self) -> None:
        # Where nbreplay is off, those that it would replay.
        session = current_session() or self.open_session(Directive(Mode.REPLAY))
        if session.store.names():
            from nbreplay.notebook import catalogue

            # As the core does with views: upward, by name and when asked.
            load = importlib.import_module("nbreplay.analysis.library").load
            catalogue.show(load(session.store, strict=False).catalogue(), _STATUS)
        else:
            self._publish({"text/plain": f"nbreplay: no recordings yet in {status.short_path(session.store.shown)}"})

    @staticmethod
    def _publish(bundle: dict[str, str]) -> None:
        publish_display_data(bundle, metadata=_STATUS)

    def switch(self, directive: Directive) -> None:
        """Switch to the mode, store and options of a ``%replay`` line."""
        off = directive.mode is Mode.OFF and forced_mode() is None
        base = None if off else self.open_session(directive)
        inner = self.cells.sessions
        for session in inner:
            leave_session(session)
        try:
            if base is not None:
                base.start()
            if self.base is not None:
                self.base.stop()
            store = directive.store or self._directive.store
            options = self._directive.options | directive.options
            self._directive = Directive(store=store, options=options) if base else Directive()
            self.base = base
        finally:
            for session in inner:
                enter_session(session)

    def open_session(self, directive: Directive) -> Session:
        """Return the session of a line, which overrides earlier ``%replay`` lines, which override the defaults."""
        names = ("speed", "ignore", "mask", "only", "allow", "allow_children")
        defaults: dict[str, Any] = {name: getattr(self, name) or None for name in names}
        mode, current = directive.mode, None
        if self.base is not None:
            mode, store = mode or self.base.options.mode, self.base.store
            # After a change of the working directory a relative path is another folder.
            unmoved = os.path.join(os.path.abspath(store.path), "") == store.identity
            current = store.archive.source if store.archive else str(store.path) if unmoved else store.identity
        elif mode is None:
            raise OptionError(f"nbreplay is off. Name a mode: {', '.join(MODES)}")
        options = defaults | self._directive.options | directive.options
        path = directive.store or (current if self._directive.store else None) or self.store or current
        session = registry.open_session(path, log=self.log, mode=mode, **options)
        session.place = self.place
        return session

    def watch(self, cell: RunningCell) -> display.Live | None:
        """Return the live view of a cell that starts, if its view is ``stream``."""
        if (cell.view or self.view) != "stream":
            return None
        session = cell.session or current_session()
        return display.Live(cell.run, session.options.speed if session else None)

    def report(self, cell: RunningCell, calls: list[logs.Interaction], session: Session | None, error: Any) -> None:
        """Show the calls of a cell that has ended, as its view says."""
        view = cell.view or self.view
        text = str(error) if isinstance(error, RecordingMissing | NbreplayError) else ""
        # The error of the cell explains the failure, so its card has the first line alone.
        cards = [replace(call, note=call.note.partition("\n")[0]) if call.note in text else call for call in calls]
        is_shown = cell.live is not None and cell.live.end(cards)
        uncovered = logs.describe_uncovered(logs.find_uncovered(logs.all_logs(), new=True))
        has_failed = any(call.outcome in FAILURES for call in calls)
        if not (uncovered or (has_failed if view == "off" else calls)):
            return
        if view == "stream" and calls and not is_shown:
            display.show(cards, widgets=cell.live is None or not cell.live.failed)
        if not uncovered and all(call.outcome in FAILURES and call.note in text for call in calls):
            return
        if (is_shown or view == "stream") and len(calls) <= MANY:  # each card has its note
            text += "\n".join(call.note for call in calls if call.note)
        mode = session.mode.value if session else "off"
        path = session.store.shown if session else calls[-1].store if calls else ""
        store = status.short_path(path) if path else ""
        self._publish(status.badge(calls, mode=mode, store=store, error=text, uncovered=uncovered))


_loaded: weakref.WeakKeyDictionary[Any, ReplayMagics] = weakref.WeakKeyDictionary()


def load(shell: Any, *, on: bool = False) -> ReplayMagics:
    """Add the magics and hooks to a shell, once. With `on`, switch on in the mode of the environment or the project."""
    magics = _loaded.get(shell)
    if magics is None:
        defaults = project()  # first, since it may raise
        magics = _loaded[shell] = ReplayMagics(shell)
        if defaults.view in VIEWS:
            magics.view = defaults.view
        shell.register_magics(magics)
        shell.input_transformers_cleanup.append(transform)
        shell.ast_transformers.append(magics.cells)
        shell.events.register("pre_run_cell", magics.cells.pre_run_cell)
        shell.events.register("post_run_cell", magics.cells.post_run_cell)
        for key in ("%replay", "%%replay"):
            shell.set_hook("complete_command", complete, str_key=key)
        logs.keep_all_logs()
        magics.cells.begin_now()
        if pyodide.IS_PYODIDE:
            pyodide.hide_warnings()
            magics.undo.append(pyodide.call_after_cells(shell, magics.cells.post_run_cell))
    if not on:
        magics.use()
    elif magics.base is None:
        magics.switch(Directive(forced_mode() or project().options.mode))
    return magics


def unload(shell: Any) -> None:
    """Undo `load`."""
    magics = _loaded.pop(shell, None)
    if magics is None:
        return
    magics.cells.stop()
    if magics.base is not None:
        magics.base.stop()
    for undo in magics.undo:
        undo()
    shell.events.unregister("pre_run_cell", magics.cells.pre_run_cell)
    shell.events.unregister("post_run_cell", magics.cells.post_run_cell)
    if transform in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(transform)
    if magics.cells in shell.ast_transformers:
        shell.ast_transformers.remove(magics.cells)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("replay", None)
    shell.magics_manager.registry.pop("ReplayMagics", None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
    for key in ("%replay", "%%replay"):
        shell.strdispatchers["complete_command"].strs.pop(key, None)
    registry.undo()
