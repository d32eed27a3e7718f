"""The parent's side: the session that is on is published to children, and their reports are added to its log."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from nbreplay.core import cell as cells
from nbreplay.core import log as logs
from nbreplay.core.cell import Cell, Run
from nbreplay.core.log import UNSEEN_CALLS, Interaction
from nbreplay.core.recording.recording import file_name
from nbreplay.core.request.request import Request
from nbreplay.core.secrets.credentials import environment_secrets, learn_secret
from nbreplay.core.session import Session, active_sessions
from nbreplay.core.store.store import Store
from nbreplay.intercept.processes.channel import (
    VARIABLE,
    Channel,
    Report,
    RunState,
    State,
    encode_variable,
    next_number,
    take_id,
)
from nbreplay.intercept.processes.facts import Fact

UNCOVERED, HEALED = "uncovered", "healed"
"""In place of an outcome: the child has started a process that the guard does not see; it has used a recording that a
mask made equal to a request of another key."""

foreign: set[Session] = set()
"""The sessions of the parent process, in a child."""


class Parent:
    """What this process tells its children, and hears from them."""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.stamp = 0  # of the state that was written last
        self.is_sharing = False  # whether a child may have been started
        self.is_child = False  # whether this process follows another one
        self.tell: Callable[[str, str], object] = lambda *_: None  # where that is told what cannot be refused
        self._numbers: WeakKeyDictionary[Session | Run, int] = WeakKeyDictionary()
        # By the numbers of sessions, and the cells by those of runs.
        self._logs: WeakValueDictionary[int, logs.Log] = WeakValueDictionary()
        self._stores: WeakValueDictionary[int, Store] = WeakValueDictionary()
        self._cells: dict[int, Cell | None] = {}
        self._places: dict[str, tuple[logs.Log, int]] = {}  # of calls, by their numbers
        self._listeners: dict[object, Callable[[], None]] = {}
        self._inherited: str | None = None
        self._is_set = False  # the variable
        self._told: WeakSet[Session] = WeakSet()  # sessions of which children know what is known
        self._reading = threading.Lock()

    def own_session(self) -> Session | None:
        """Return the innermost session that was switched on in this process."""
        return next((each for each in reversed(active_sessions()) if each not in foreign), None)

    def is_covering(self) -> bool:
        """Tell whether children can learn which session is on; its folder, if it was removed, is made anew."""
        if self.channel is not None and not self.channel.stamp():
            self.publish()
        return self.channel is not None and self.channel.stamp() != 0

    def publish(self) -> None:
        """Write which session is on, in which run, and set the variable for children; undo that if none is."""
        if sys.platform == "emscripten":
            return
        session = self.own_session()
        if session is None and (self.channel is None or self.channel.owner != os.getpid()):
            return
        self.receive()  # while the log of a session that has ended is there
        with contextlib.suppress(OSError):  # children are not covered then, and so they are refused
            if self.channel is None or self.channel.owner != os.getpid():
                self.channel = Channel.make()
                self.is_sharing = False
                self._told = WeakSet()
                atexit.register(self.channel.remove)
            self.stamp = self.channel.write_state(None if session is None else self._state(session))
            self._set_variable(session is not None)
            if session is not None:
                self._tell_facts(session)

    def _tell_facts(self, session: Session) -> None:
        """Tell children the secrets and ids that are known now; `share` tells them those to come."""
        if self.is_sharing and self.channel is not None:
            number, known = self._number(session), [Fact(0, value) for value in environment_secrets()]
            if session not in self._told:
                self._told.add(session)
                known += [Fact(number, value) for value in session.log.known_secrets]
                known += [Fact(number, value, key) for value, key in [*session.log.issued.items()]]
            self.channel.facts.append(known)

    def share(self, log: logs.Log, value: str, key: str) -> None:
        """Tell children a secret, or an id with the key of the request that issued it, of a session of this process."""
        if self.is_sharing and self.channel is not None and self.channel.owner == os.getpid():
            numbers = [number for number, each in [*self._logs.items()] if each is log]
            with contextlib.suppress(OSError):  # no folder, no children
                self.channel.facts.append(Fact(number, value, key) for number in numbers)

    def learn(self) -> None:
        """Learn the secrets and ids that children have found."""
        if self.is_sharing and self.channel is not None and self.channel.owner == os.getpid():
            for fact in self.channel.facts.read():
                learn_fact(fact, self._logs.get(fact.session))

    def _state(self, session: Session) -> State:
        assert self.channel is not None
        run, store = session.run, session.store
        number, own = self._number(run), self._number(session)
        self._cells[number], self._logs[own], self._stores[own] = run.cell, session.log, store
        if self.is_sharing:
            run.share(self.channel.claims(number))
        cell, ref = run.cell, run.ref
        place = (cell.id, cell.number, cell.notebook, ref.source) if cell is not None and ref is not None else None
        return State(
            own,
            RunState(number, run.started, run.keeps_errors, place),
            session.options.with_(mode=session.mode),
            os.path.abspath(store.path),
            store.name,
            store.shown,
            store.durable,
            session.keeps_errors,
            session.place.value,
        )

    def _number(self, item: Session | Run) -> int:
        if item not in self._numbers:
            self._numbers[item] = next_number()
        return self._numbers[item]

    def _set_variable(self, is_on: bool) -> None:
        if is_on and self.channel is not None:
            if not self._is_set:
                self._inherited = os.environ.get(VARIABLE)
            os.environ[VARIABLE] = encode_variable(self.channel)
        elif self._is_set:
            if self._inherited is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = self._inherited
        self._is_set = is_on

    def forget_variable(self) -> None:
        """Leave the variable as it is, in a forked process."""
        self._is_set = False

    def start_child(self, function: Any = None) -> str:
        """Note that a child process is about to start; return its strand, ``""`` if no session is on."""
        if not (sessions := active_sessions()):
            return ""
        if self.own_session() is not None and self.is_covering() and not self.is_sharing:
            self.is_sharing = True
            self.publish()
        elif self.is_sharing and (session := self.own_session()) is not None:
            with contextlib.suppress(OSError):
                self._tell_facts(session)  # a key may have been typed in meanwhile
        for listener in list(self._listeners.values()):
            listener()
        return sessions[-1].run.branches.number(function or _main).path

    def on_start(self, listener: Callable[[], None]) -> Callable[[], object]:
        """Have `listener` called before a child process starts; return the function that ends it."""
        key = object()
        self._listeners[key] = listener
        return lambda: self._listeners.pop(key, None)

    def receive(self) -> None:
        """Add the calls of the children so far to the logs of this process."""
        if self.channel is None or self.channel.owner != os.getpid() or not self._reading.acquire(blocking=False):
            return
        try:
            for report in self.channel.read_reports():
                if report is None:
                    for each in logs.all_logs():
                        each.uncovered.setdefault(("child", UNSEEN_CALLS), False)
                elif (log := self._logs.get(report.session)) is not None:
                    self._add(log, report)
        finally:
            self._reading.release()

    def _add(self, log: logs.Log, report: Report) -> None:
        if report.outcome == UNCOVERED:
            log.uncovered.setdefault((report.kind, report.host), False)
        elif report.outcome == HEALED:
            log.healed.add((report.store, report.note))
        elif report.number in self._places:
            known, place = self._places[report.number]
            known.finish(place, self._interaction(report))
        else:
            self._places[report.number] = log, log.start(self._interaction(report))

    def _interaction(self, report: Report) -> Interaction:
        request, take = None, None
        if report.key:
            fields = {"tool": report.model, "body": {"model": report.model}}
            request = Request(report.kind, fields, report.key)
            store = self._stores.get(report.session)
            recording = _read(store, report) if store is not None and store.name == report.store else None
            if recording is not None:
                request = Request(report.kind, dict(recording.request), report.key)
                take = next((each for each in recording.takes if take_id(each) == report.take), None)
        return Interaction(
            request,
            take,
            report.outcome,  # type: ignore[arg-type]
            self._cells.get(report.run),
            report.served_s,
            report.note,
            report.store,
            report.host,
            report.masks,
            report.process,
        )


def _read(store: Store, report: Report) -> Any:
    with contextlib.suppress(Exception):  # what cannot be read is not shown
        return store.read(file_name(report.kind, report.key))
    return None


def learn_fact(fact: Fact, log: logs.Log | None) -> None:
    """Learn what another process has found, in the session of this log."""
    if not fact.session:
        learn_secret(fact.value)
    elif log is not None and fact.key:
        log.issued.setdefault(fact.value, fact.key)
    elif log is not None:
        log.learn_secrets([fact.value])


def _main() -> None:
    """Stand for what a child process runs, where processes are numbered."""


parent = Parent()
"""What this process tells its children, and hears from them."""

logs.on_read(parent.receive)
logs.on_learn(parent.share, parent.learn)
cells.on_run(parent.publish)
