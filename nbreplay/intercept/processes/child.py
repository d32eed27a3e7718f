"""The child's side: a process that follows the session of its parent, and reports its calls.

A forked process has the parent's sessions at first, another one has none. As soon as another session is on in the
parent, or another cell runs there, it is so in the child, too: workers of a pool live longer than both.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence

from nbreplay.core import cell as cells
from nbreplay.core import log as logs
from nbreplay.core import session as sessions
from nbreplay.core.advice import Place
from nbreplay.core.cell import Cell, Run
from nbreplay.core.log import Interaction, Log
from nbreplay.core.secrets.credentials import environment_secrets
from nbreplay.core.session import Session
from nbreplay.core.store.store import Store
from nbreplay.core.strand import Branch, set_branch
from nbreplay.intercept.processes.channel import (
    VARIABLE,
    Channel,
    Report,
    RunState,
    State,
    encode_variable,
    take_id,
)
from nbreplay.intercept.processes.children import Start
from nbreplay.intercept.processes.facts import Fact
from nbreplay.intercept.processes.parent import HEALED, UNCOVERED, foreign, learn_fact, parent
from nbreplay.intercept.processes.programs import MULTIPROCESSING

_LONGEST_NOTE = 20_000  # characters


class Follower:
    """Keeps the sessions and runs of this process as those of its parent."""

    def __init__(self, channel: Channel, stamp: int, outer: tuple[Session, ...], runs: tuple[Run, ...]) -> None:
        self.channel, self._stamp = channel, stamp
        self.is_fork = bool(outer)
        self._outer, self._outer_runs = outer, runs
        self._lock = threading.RLock()
        self._sessions: dict[int, Session] = {}
        self._runs: dict[int, Run] = {}
        self._state: State | None = None
        self._calls: dict[tuple[int, int], Report] = {}
        self._healed: set[tuple[str, str]] = set()
        self._last: tuple[str, str, str] | None = None
        self._facts: list[Fact] = []  # of all sessions, of which some may not be on here yet

    def follow(self) -> None:
        """Take over the state of the parent, if it has changed. If the parent has ended, its last state stays."""
        stamp = self.channel.stamp()
        if stamp in (0, self._stamp):
            return
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                self.apply(self.channel.read_state())

    def apply(self, state: State | None) -> None:
        """Have the session and the run on that a state names."""
        self._state = state
        session = None if state is None else self._session(state)
        run = None if state is None else self._run(state.run)
        before, self._outer = self._outer, () if session is None else (session,)
        foreign.difference_update(before)
        foreign.update(self._outer)
        is_cell = run is not None and run.cell is not None
        if session is not None and run is not None and not is_cell:
            session.own_run = run
        runs, self._outer_runs = self._outer_runs, (run,) if run is not None and is_cell else ()
        cells.follow_run(runs, run if is_cell else None)
        sessions.replace_sessions(before, session)

    def keep(self, state: State | None) -> None:
        """Note the state that a forked process has inherited, with its sessions."""
        self._state = state
        if state is not None and self._outer:
            session = self._sessions[state.session] = self._outer[-1]
            run = self._runs[state.run.number] = session.run
            run.lock = threading.Lock()  # a thread that is not in this process may have the old one
            run.share(self.channel.claims(state.run.number))

    def _session(self, state: State) -> Session:
        if state.session not in self._sessions:
            store = Store(state.folder, durable=state.durable)
            store.name, store.shown = state.name, state.shown
            session = Session(store, state.options)
            session.keeps_errors, session.place = state.keeps_errors, Place(state.place)
            self._sessions[state.session] = session
            for fact in self._facts:
                if fact.session == state.session:
                    learn_fact(fact, session.log)
        return self._sessions[state.session]

    def _run(self, state: RunState) -> Run:
        if state.number not in self._runs:
            identity, number, notebook, digest = state.cell or (None, None, None, "")
            cell = Cell(identity, number, "", notebook, digest) if state.cell else None
            run = self._runs[state.number] = Run(cell)
            run.started, run.keeps_errors = state.started, state.keeps_errors
            run.share(self.channel.claims(state.number))
        return self._runs[state.number]

    def report_call(self, log: Log, place: int, call: Interaction) -> None:
        """Report a call of this process, as a reporter of all outcomes."""
        request = call.request
        report = self._report(
            str(call.outcome),
            f"{log.number}.{place}",
            kind=request.kind if request else "",
            key=request.key if request else "",
            model=request.model[:200] if request else "",
            take=take_id(call.take) if call.take is not None else "",
            note=call.note[:_LONGEST_NOTE],
            store=call.store,
            host=call.host[:200],
            masks=call.masks,
            served_s=call.served_s,
        )
        if report is None:
            return
        known = self._calls.get((log.number, place))
        if known is not None and (known.outcome, known.take, known.note) == (report.outcome, report.take, report.note):
            return  # the time alone is not worth a line
        self._calls[log.number, place] = report
        # `os.execvp` tries every folder of the path.
        last, self._last = self._last, (call.outcome, call.host, call.note)
        if call.outcome == "blocked" and last == self._last:
            return
        self.channel.append(report)
        for store, name in log.healed - self._healed:
            self._healed.add((store, name))
            self._append(HEALED, store=store, note=name)

    def share(self, log: Log, value: str, key: str) -> None:
        """Tell the parent and its other children a secret, or an id, that a session of the parent has found here."""
        numbers = [number for number, session in [*self._sessions.items()] if session.log is log]
        self._add_facts([Fact(number, value, key) for number in numbers])

    def learn(self) -> None:
        """Learn what other processes have found, and tell them the secrets of this one's environment."""
        self._add_facts([Fact(0, value) for value in environment_secrets()])
        for fact in self.channel.facts.read():
            self._facts.append(fact)
            session = self._sessions.get(fact.session)
            learn_fact(fact, session.log if session is not None else None)

    def _add_facts(self, facts: Sequence[Fact]) -> None:
        with contextlib.suppress(OSError):  # the parent has ended
            self.channel.facts.append(facts)

    def report_uncovered(self, kind: str, name: str) -> None:
        """Report something that the guard of this process cannot refuse."""
        self._append(UNCOVERED, kind=kind, host=name[:200])

    def _append(self, outcome: str, **fields: str) -> None:
        if (report := self._report(outcome, "", **fields)) is not None:
            self.channel.append(report)

    def _report(self, outcome: str, number: str, **fields: object) -> Report | None:
        state = self._state
        if state is None:
            return None
        name = f"{_identity}.{number}"
        return Report(state.session, state.run.number, process_name(), name, outcome, **fields)  # type: ignore[arg-type]


def process_name() -> str:
    """Return the name of this process for people: the same in each run of a program."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return MULTIPROCESSING
    if follower is not None and follower.is_fork:
        return "a forked process"
    main = sys.modules.get("__main__")
    if spec := getattr(main, "__spec__", None):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    file = getattr(main, "__file__", None) or (sys.argv[0] if sys.argv[:1] not in ([""], ["-c"]) else "")
    name = os.path.basename(file).encode(errors="backslashreplace").decode()  # others may not write lone surrogates
    return f"python {name}" if name else "python -c"


follower: Follower | None = None
"""What this process follows, if it is a child."""

_identity = ""  # of the program: its number alone is that of another one, too, after `exec` and in a container


def follow_parent(channel: Channel, strand: str) -> None:
    """Follow the session of the parent, in a process that has been started by it. Raise OSError if it has ended."""
    stamp = channel.stamp()
    state = channel.read_state()
    _begin(Follower(channel, stamp, (), ()), strand)
    assert follower is not None
    follower.apply(state)


def _begin(new: Follower, strand: str) -> None:
    global follower, _identity
    if follower is None:
        logs.on_outcome(_report_call)
        logs.on_learn(_share, _learn)
    parent.is_child, parent.tell = True, new.report_uncovered
    follower, _identity = new, os.urandom(8).hex()
    if strand:
        set_branch(threading.main_thread(), Branch(strand, ((new, "process"), 0)))
    sessions.follow_sessions(new.follow)


def _share(log: Log, value: str, key: str) -> None:
    if follower is not None:
        follower.share(log, value, key)


def _learn() -> None:
    if follower is not None:
        follower.learn()


def _report_call(log: Log, place: int, call: Interaction) -> None:
    if follower is not None:
        follower.report_call(log, place, call)


def left_alone(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment, else that of this process, for a Python that is not a part of what a session covers."""
    return {**(os.environ if environment is None else environment), VARIABLE: ""}


def give_variable(start: Start) -> dict[str, str | None]:
    """Return the variable for a process that starts, unless it is to be left alone."""
    if start.environ.get(VARIABLE) == "":
        return {}
    strand = parent.start_child()
    if parent.own_session() is not None:
        return {VARIABLE: encode_variable(parent.channel, strand)} if parent.channel is not None else {}
    return {VARIABLE: encode_variable(follower.channel, strand)} if follower is not None else {}


_forking = threading.local()


def _before_fork() -> None:
    _forking.strand = parent.start_child()


def _after_fork() -> None:
    """Follow the process that this one is forked from, or the one that it follows."""
    strand = getattr(_forking, "strand", "")
    if parent.own_session() is not None and parent.channel is not None:
        channel, stamp = Channel(parent.channel.folder, parent.channel.key), parent.stamp
        outer = sessions.active_sessions()
        foreign.update(outer)
        new = Follower(channel, stamp, outer, cells.current_runs())
        _begin(new, strand)
        new.keep(channel.read_state() if channel.stamp() == stamp else None)
        parent.forget_variable()
    elif follower is not None:
        _begin(follower, strand)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
