"""``%load_ext nbreplay``: the magics, and the hooks that tell which cell runs and under which mode.

``%%replay`` is no magic that runs the cell: its line is taken out (`nbreplay.notebook.line.transform`), and a
session is on from ``pre_run_cell`` to ``post_run_cell``. Top-level await, displays and tracebacks stay IPython's own.
"""

from __future__ import annotations

import ast
import asyncio
import weakref
from dataclasses import dataclass
from typing import Any

from IPython.core.error import InputRejected, UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.display import publish_display_data
from traitlets import Enum, Float, List, Unicode

from nbreplay.core import active
from nbreplay.core import log as logs
from nbreplay.core.cell import Cell, Run
from nbreplay.core.config import Mode, forced_mode, project
from nbreplay.core.redact import environment_secrets
from nbreplay.core.session import Session
from nbreplay.errors import NbreplayError, RecordingMissing
from nbreplay.intercept import switch
from nbreplay.notebook import render, status
from nbreplay.notebook.line import HELP, MODES, VIEWS, WORDS, Directive, misplaced, parse_cell, parse_line, transform

__all__ = ["ReplayMagics", "load", "unload"]

STATUS = {"nbreplay": "status"}
"""Metadata of the displays that are nbreplay's own: neither compared nor stored by the runner."""


@dataclass
class _Running:
    """A cell that runs."""

    raw: str
    run: Run
    session: Session | None
    marks: dict[logs.Log, int]
    view: str | None = None


class _Rejected(InputRejected):  # type: ignore[misc]
    """Keeps a cell from running whose ``%%replay`` line cannot be done."""

    def _render_traceback_(self) -> list[str]:
        return [f"UsageError: {self}"]


class _Gate(ast.NodeTransformer):
    def __init__(self, magics: ReplayMagics) -> None:
        self._magics = magics

    def visit(self, node: ast.AST) -> ast.AST:
        refused, self._magics.refused = self._magics.refused, None
        if refused is not None:
            raise _Rejected(refused)
        return node


@magics_class
class ReplayMagics(Magics):  # type: ignore[misc]
    """The magics; ``%config ReplayMagics`` shows the defaults that can be set."""

    view = Enum(VIEWS, default_value="badge", help="What is shown below a cell that made calls.").tag(config=True)
    store = Unicode("", help="The folder of recordings, where none is named.").tag(config=True)
    speed = Float(None, allow_none=True, help="Replay at the recorded pace times this.").tag(config=True)
    ignore = List(Unicode(), help="Fields of requests that do not count.").tag(config=True)
    mask = List(Unicode(), help="Regular expressions; what they match in requests does not count.").tag(config=True)
    only = List(Unicode(), help="The hosts to record and replay; all, if empty.").tag(config=True)
    allow = List(Unicode(), help="Hosts that replay lets through.").tag(config=True)

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.log = logs.Log()
        self.base: Session | None = None
        self.refused: str | None = None
        self._running: list[_Running] = []
        self._gate = _Gate(self)

    @line_cell_magic  # type: ignore[untyped-decorator]
    def replay(self, line: str, cell: str | None = None) -> None:
        if cell is not None:
            # Only a line that could not be done comes here; any other has been taken out of its cell.
            raise UsageError(_complaint(line, cell))
        try:
            directive = parse_line(line)
            self._do(directive)
        except NbreplayError as error:
            raise UsageError(f"%replay: {error}") from None

    replay.__doc__ = f"""Record what cells exchange with models, and replay it.

    ::

        %replay on                  replay what is recorded, record what is missing
        %replay record|replay|off   from here on
        %replay                     what is on, and what has happened
        %replay last                the last cell's calls
        %replay diff                why the last miss missed
        %%replay record             this cell only; must be its first line

{HELP}
    """

    def _do(self, directive: Directive) -> None:
        if directive.word == "last":
            self._say(render.cards(self._last()))
        elif directive.word == "diff":
            self._say({"text/plain": status.last_miss(self._sessions())})
        elif directive.word is None and not directive.given and directive.store is None:
            if directive.view:
                self.view = directive.view
            else:
                self._say(status.overview(self.base, logs.every()))
        else:
            if directive.word is None and self.base is None:
                raise UsageError(f"%replay is off; say which mode is meant: {', '.join(MODES)}")
            self.switch(directive)
            self._say({"text/plain": status.switched(self.base)})
            if directive.view:
                self.view = directive.view

    @staticmethod
    def _say(bundle: dict[str, str]) -> None:
        publish_display_data(bundle, metadata=STATUS)

    def switch(self, directive: Directive) -> None:
        """Do what ``%replay`` asks for, from here on."""
        made = None if directive.mode is Mode.OFF else self._opened(directive, self.base)
        above = [running.session for running in self._running if running.session is not None]
        for session in above:
            active.leave(session)
        try:
            if self.base is not None:
                self.base.stop()
            self.base = None
            if made is not None:
                made.start()
                self.base = made
        finally:
            for session in above:
                active.enter(session)

    def _opened(self, directive: Directive, under: Session | None) -> Session:
        given: dict[str, Any] = {
            name: getattr(self, name) or None for name in ("speed", "ignore", "mask", "only", "allow")
        }
        given.update(directive.given)
        store = directive.store or self.store or (under.store.path if under else None)
        if under is not None:
            options = under.options.with_(mode=directive.mode, **{k: v for k, v in given.items() if v is not None})
            return switch.opened(
                store, log=self.log, **{name: getattr(options, name) for name in type(options).__slots__}
            )
        return switch.opened(store, log=self.log, mode=directive.mode, **given)

    def pre_run_cell(self, info: Any) -> None:
        """A cell starts: note which, and switch on what its ``%%replay`` line asks for."""
        self.begin(info.raw_cell, getattr(info, "cell_id", None))

    def begin(self, raw: str, cell_id: str | None) -> None:
        """Note that a cell starts."""
        environment_secrets(fresh=True)
        self.refused = None
        try:
            directive = parse_cell(raw)
        except NbreplayError:
            directive = None  # the real cell magic says so
        source = directive.source if directive else raw.strip()
        run = Run(Cell(cell_id, self.shell.execution_count, source))
        running = _Running(
            raw, run, None, {log: len(log) for log in logs.every()}, directive.view if directive else None
        )
        self._running.append(running)
        active.enter_run(run)
        if directive is not None:
            try:
                session = self._opened(directive, self.base)
                session.start()
                running.session = session
            except NbreplayError as error:
                self.refused = f"%%replay: {error}"

    def post_run_cell(self, result: Any) -> None:
        """A cell has ended, well or not: restore the mode, write open streams, tell what happened."""
        running = self._ended(result)
        if running is None:
            return
        self.refused = None
        error = None if result is None else result.error_in_exec or result.error_before_exec
        interrupted = isinstance(error, KeyboardInterrupt | asyncio.CancelledError)
        session = running.session or active.current()
        for one in active.sessions():
            one.flush(running.run, interrupted=interrupted)
        if running.session is not None:
            running.session.stop()
        active.leave_run(running.run)
        made = [item for log in logs.every() for item in log.since(running.marks.get(log, 0))]
        if made:
            self._tell(made, session, running, error)

    def _tell(self, made: list[logs.Interaction], session: Session | None, running: _Running, error: Any) -> None:
        view = running.view or self.view
        mode = session.mode.value if session else "off"
        store = str(session.store.path) if session else made[-1].store
        trouble = any(item.outcome in ("missing", "blocked", "unsaved") for item in made)
        if view == "off" and not trouble:
            return
        if view == "stream":
            self._say(render.cards(made))
        shown = str(error) if isinstance(error, RecordingMissing | NbreplayError) else ""
        self._say(render.badge(made, mode=mode, store=status.short(store), shown=shown))

    def _ended(self, result: Any) -> _Running | None:
        if not self._running:
            return None
        raw = None if result is None else result.info.raw_cell
        for index in range(len(self._running) - 1, -1, -1):
            if raw is None or self._running[index].raw == raw:
                return self._running.pop(index)
        return None

    def _last(self) -> list[logs.Interaction]:
        every = [item for log in logs.every() for item in log.interactions]
        last = next((item.cell for item in reversed(every)), None)
        return [item for item in every if item.cell is last] if every else []

    def _sessions(self) -> list[Session]:
        return [*active.sessions(), *([self.base] if self.base else [])]

    def stop(self) -> None:
        """Switch everything off."""
        for running in self._running:
            if running.session is not None:
                running.session.stop()
            active.leave_run(running.run)
        self._running.clear()
        if self.base is not None:
            self.base.stop()
            self.base = None


def _complaint(line: str, cell: str) -> str:
    if misplaced(cell):
        return "%%replay must be the first line of its cell; nothing was run"
    try:
        parse_cell(f"%%replay{line}\n{cell}" if line[:1].isspace() else f"%%replay {line}\n{cell}")
    except NbreplayError as error:
        return f"%%replay: {error}"
    return "%%replay must be the first line of its cell, and the cell must be run whole; nothing was run"


def _complete(shell: Any, event: Any) -> list[str]:
    """Complete what follows ``%replay``."""
    before = event.line[: len(event.line) - len(event.symbol)].split()
    cell = event.line.startswith("%%")
    if before and before[-1] == "--view":
        return list(VIEWS)
    words = [word for word in (MODES if cell else WORDS)] if len(before) == 1 else []
    return words + ["--speed", "--view", "--ignore", "--mask", "--only", "--allow"]


_loaded: weakref.WeakKeyDictionary[Any, ReplayMagics] = weakref.WeakKeyDictionary()


def load(shell: Any, *, on: bool = False) -> ReplayMagics:
    """Add the magics and hooks to a shell; done once, however often it is called.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    on : bool
        Switch on at once, in the mode of the environment or the project: for kernels that nbreplay starts.
    """
    magics = _loaded.get(shell)
    if magics is None:
        magics = _loaded[shell] = ReplayMagics(shell)
        known = project()
        if known.view in VIEWS:
            magics.view = known.view
        shell.register_magics(magics)
        shell.input_transformers_cleanup.append(transform)
        shell.ast_transformers.append(magics._gate)
        shell.events.register("pre_run_cell", magics.pre_run_cell)
        shell.events.register("post_run_cell", magics.post_run_cell)
        for key in ("%replay", "%%replay"):
            shell.set_hook("complete_command", _complete, str_key=key)
        _begin_now(shell, magics)
    if on and magics.base is None:
        mode = forced_mode() or project().options.mode
        magics.switch(Directive(mode.value))
    return magics


def _begin_now(shell: Any, magics: ReplayMagics) -> None:
    """Note the cell that runs right now, the one with ``%load_ext`` in it; its start has gone by."""
    history = getattr(shell, "history_manager", None)
    raw = history.input_hist_raw[-1] if history is not None and history.input_hist_raw else ""
    if raw.strip() and "nbreplay" in raw:
        parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
        magics.begin(raw, (parent or {}).get("metadata", {}).get("cellId"))


def unload(shell: Any) -> None:
    """Take back all that `load` did."""
    magics = _loaded.pop(shell, None)
    if magics is None:
        return
    magics.stop()
    shell.events.unregister("pre_run_cell", magics.pre_run_cell)
    shell.events.unregister("post_run_cell", magics.post_run_cell)
    if transform in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(transform)
    if magics._gate in shell.ast_transformers:
        shell.ast_transformers.remove(magics._gate)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("replay", None)
    shell.magics_manager.registry.pop("ReplayMagics", None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
    for key in ("%replay", "%%replay"):
        shell.strdispatchers["complete_command"].strs.pop(key, None)
    switch.undo()
