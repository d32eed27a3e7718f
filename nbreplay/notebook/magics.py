"""``%load_ext nbreplay``: the magics, and the hooks that tell which cell runs and under which mode.

``%%replay`` is no magic that runs the cell: its line is taken out (`nbreplay.notebook.directive.transform`), and a
session is on from ``pre_run_cell`` to ``post_run_cell``. Top-level await, displays and tracebacks stay IPython's own.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.display import publish_display_data
from traitlets import Bool, Enum, Float, List, Unicode

from nbreplay.core import log as logs
from nbreplay.core.config import Mode, forced_mode, project
from nbreplay.core.session import Session, current_session, enter_session, leave_session
from nbreplay.errors import NbreplayError, OptionError, RecordingMissing
from nbreplay.intercept import registry
from nbreplay.notebook import comm_guard, display, status
from nbreplay.notebook.cells import Cells, Running
from nbreplay.notebook.directive import (
    HELP,
    MODES,
    VIEWS,
    WORDS,
    Directive,
    misplaced,
    parse_cell,
    parse_line,
    transform,
)
from nbreplay.notebook.live import Live

__all__ = ["ReplayMagics", "load", "unload"]

STATUS = {"nbreplay": "status"}
"""Metadata of the displays that are nbreplay's own: neither compared nor stored by the runner."""


@magics_class
class ReplayMagics(Magics):
    """The magics; ``%config ReplayMagics`` shows the defaults that can be set."""

    view = Enum(VIEWS, default_value="badge", help="What is shown below a cell that made calls.").tag(config=True)
    store = Unicode("", help="The folder of recordings (or a .zip, or its URL) where none is named.").tag(config=True)
    speed = Float(None, allow_none=True, help="Replay at the recorded pace times this.").tag(config=True)
    ignore = List(Unicode(), help="Fields of requests that do not count.").tag(config=True)
    mask = List(Unicode(), help="Regular expressions; what they match in requests does not count.").tag(config=True)
    only = List(Unicode(), help="The hosts to record and replay; all, if empty.").tag(config=True)
    allow = List(Unicode(), help="Hosts that replay lets through.").tag(config=True)
    allow_children = Bool(False, help="Whether replay lets child processes start that are network clients.").tag(
        config=True
    )

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.log = logs.Log()
        self.base: Session | None = None
        self.unguard: Callable[[], None] = lambda: None
        self._said = Directive()
        self.cells = Cells(shell, self._opened, self._watch, self._tell)

    # What IPython would put in for {4} or $name is part of a regular expression here, and is not looked at in %%replay.
    @no_var_expand
    @line_cell_magic
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
            last = self._last()
            if last:
                display.show(last)
            else:
                self._say({"text/plain": "nbreplay: no calls yet"})
        elif directive.word == "diff":
            self._say({"text/plain": self.cells.last_miss or "nbreplay: nothing has been missing"})
        elif directive.word is None and not directive.given and directive.store is None:
            if directive.view:
                self.view = directive.view
            else:
                self._say(status.overview(self.base, logs.all_logs()))
        else:
            self.switch(directive)
            self._say({"text/plain": status.mode_text(self.base)})
            if directive.view:
                self.view = directive.view

    @staticmethod
    def _say(bundle: dict[str, str]) -> None:
        publish_display_data(bundle, metadata=STATUS)

    def switch(self, directive: Directive) -> None:
        """Do what ``%replay`` asks for, from here on."""
        off = directive.mode is Mode.OFF and forced_mode() is None
        made = None if off else self._opened(directive)
        above = self.cells.sessions
        for session in above:
            leave_session(session)
        try:
            if made is not None:
                made.start()
            if self.base is not None:
                self.base.stop()
            if made is None:
                self.base, self._said = None, Directive()
            else:
                said = {**self._said.given, **directive.given}
                self.base, self._said = made, Directive(store=directive.store or self._said.store, given=said)
        finally:
            for session in above:
                enter_session(session)

    def _opened(self, directive: Directive) -> Session:
        """Return the session that a line asks for: what it says, else what `%replay` has said, else the defaults."""
        given: dict[str, Any] = {
            name: getattr(self, name) or None for name in ("speed", "ignore", "mask", "only", "allow", "allow_children")
        }
        given.update({**self._said.given, **directive.given})
        if self.base is None and directive.mode is None:
            raise OptionError(f"nothing is on; say which mode is meant: {', '.join(MODES)}")
        mode = directive.mode or (self.base.options.mode if self.base else None)
        here = None
        if self.base is not None:
            kept = self.base.store
            # A relative path means another folder once the working directory has changed.
            same = os.path.join(os.path.abspath(kept.path), "") == kept.identity
            here = kept.archive.source if kept.archive else str(kept.path) if same else kept.identity
        store = directive.store or (here if self._said.store else None) or self.store or here
        return registry.open_session(store, log=self.log, mode=mode, **given)

    def _watch(self, running: Running) -> Live | None:
        if (running.view or self.view) != "stream":
            return None
        display.preload(self.shell)
        run = running.run
        session = running.session or current_session()
        cell = None if run.cell is None else run.cell.id
        return Live(
            lambda: display.make_screen(self.shell, cell, run.view()),
            None if session is None else session.options.speed,
        )

    def _tell(self, running: Running, made: list[logs.Interaction], session: Session | None, error: Any) -> None:
        view = running.view or self.view
        seen = running.live is not None and running.live.end(made)
        uncovered = logs.describe_uncovered(logs.find_uncovered(logs.all_logs(), new=True))
        if not (made or uncovered):
            return
        if view == "off" and not (uncovered or any(item.outcome in logs.FAILURES for item in made)):
            return
        mode = session.mode.value if session else "off"
        store = session.store.shown if session else made[-1].store if made else ""
        if view == "stream" and made and not seen:
            display.show(made, widgets=running.live is None or not running.live.failed)
        shown = str(error) if isinstance(error, RecordingMissing | NbreplayError) else ""
        where = status.short_path(store) if store else ""
        self._say(status.badge(made, mode=mode, store=where, error=shown, uncovered=uncovered))

    def _last(self) -> list[logs.Interaction]:
        every = [item for log in logs.all_logs() for item in log.interactions]
        last = next((item.cell for item in reversed(every)), None)
        return [item for item in every if item.cell is last] if every else []

    def stop(self) -> None:
        """Switch everything off."""
        self.cells.stop()
        if self.base is not None:
            self.base.stop()
            self.base = None


def _complaint(line: str, cell: str) -> str:
    if misplaced(cell.splitlines(keepends=True)):
        return "%%replay must be the first line of its cell; nothing was run"
    try:
        parse_cell(f"%%replay{line}\n{cell}" if line[:1].isspace() else f"%%replay {line}\n{cell}")
    except NbreplayError as error:
        return f"%%replay: {error}"
    return "%%replay must be the first line of its cell, and the cell must be run whole; nothing was run"


def _complete(_: Any, event: Any) -> list[str]:
    """Complete what follows ``%replay``."""
    before = event.line[: len(event.line) - len(event.symbol)].split()
    cell = event.line.startswith("%%")
    if before and before[-1] == "--view":
        return list(VIEWS)
    words = (MODES if cell else WORDS) if len(before) == 1 else ()
    return [*words, "--speed", "--view", "--ignore", "--mask", "--only", "--allow", "--allow-children"]


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
        known = project()
        magics = _loaded[shell] = ReplayMagics(shell)
        if known.view in VIEWS:
            magics.view = known.view
        shell.register_magics(magics)
        shell.input_transformers_cleanup.append(transform)
        shell.ast_transformers.append(magics.cells.gate)
        shell.events.register("pre_run_cell", magics.cells.pre_run_cell)
        shell.events.register("post_run_cell", magics.cells.post_run_cell)
        magics.unguard = comm_guard.guard(shell)
        for key in ("%replay", "%%replay"):
            shell.set_hook("complete_command", _complete, str_key=key)
        logs.keep_all_logs()
        magics.cells.begin_now()
    if on and magics.base is None:
        mode = forced_mode() or project().options.mode
        magics.switch(Directive(mode.value))
    return magics


def unload(shell: Any) -> None:
    """Take back all that `load` did."""
    magics = _loaded.pop(shell, None)
    if magics is None:
        return
    magics.stop()
    magics.unguard()
    shell.events.unregister("pre_run_cell", magics.cells.pre_run_cell)
    shell.events.unregister("post_run_cell", magics.cells.post_run_cell)
    if transform in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(transform)
    if magics.cells.gate in shell.ast_transformers:
        shell.ast_transformers.remove(magics.cells.gate)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("replay", None)
    shell.magics_manager.registry.pop("ReplayMagics", None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
    for key in ("%replay", "%%replay"):
        shell.strdispatchers["complete_command"].strs.pop(key, None)
    registry.undo()
