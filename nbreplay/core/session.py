"""Session: the only place that decides whether a request is replayed, recorded or passed through."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Self

import msgspec

from nbreplay.core.advice import Place
from nbreplay.core.cell import Run, current_run
from nbreplay.core.config import Mode, Options, forced_mode
from nbreplay.core.explain import Miss, describe_used_up, explain, explain_message, suggest_recording
from nbreplay.core.log import Interaction, Log, warn_uncovered
from nbreplay.core.nearest import MOST
from nbreplay.core.recorder import NO_FAILURES, Keeper, Recorder
from nbreplay.core.recording.body import LARGE, Text
from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay, adapt_take, answer_again
from nbreplay.core.request.jsonrpc import answer_to
from nbreplay.core.request.request import Call, Request, apply_rules, key_of, request_of, without_numbers
from nbreplay.core.request.route import host_matches, is_background
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.credentials import has_placeholder, placeholder_variables
from nbreplay.core.secrets.redact import UNREDACTED, Redactor
from nbreplay.core.selection import owns
from nbreplay.core.store.store import Store
from nbreplay.core.websocket import Binding, WebSocketRecorder, WebSocketReplay
from nbreplay.core.words import Outcome
from nbreplay.errors import NbreplayError, NetworkBlocked, RecordingMissing

# After so many misses the nearest recording is looked for among the newest only, which takes a hundredth of the time.
_THOROUGH, _NEWEST = 20, 300


class Session:
    """A store, a mode, and the log of their calls; `nbreplay.session` makes it.

    Use it as a context manager, ``with`` or ``async with``: it is on from entry
    to exit.

    Parameters
    ----------
    store : Store
    options : Options
    log : Log, optional
        Shared with other sessions of the same notebook.

    Attributes
    ----------
    interactions : list of Interaction
        The calls so far.
    mode : Mode
        The mode in force.
    place : Place
        Where its user writes options.

    Examples
    --------
    >>> import nbreplay as nr
    >>> with nr.session("recordings", mode="replay") as s:
    ...     pass
    >>> s.mode.value, len(s.interactions)
    ('replay', 0)
    """

    def __init__(self, store: Store, options: Options | None = None, *, log: Log | None = None) -> None:
        self.store = store
        self.options: Options = options or Options()
        self.log: Log = log or Log()
        self.normaliser = Normaliser(self.options.ignore, self.options.mask)
        self.place = Place.PYTHON
        self.last_miss: Miss | None = None
        self.keeps_errors = False  # whether ``auto`` keeps failures that may pass
        self.keeper = Keeper(store, self.log)
        self.own_run = Run()
        self._misses = 0
        self._differing: list[Take] = []  # sessions of websockets of which a message differed

    def __repr__(self) -> str:
        return f"Session({self.store.shown!r}, mode={self.mode.value!r}, {len(self.log)} calls)"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        # Here and in `show` the core looks upward, by name and when asked.
        overview: dict[str, str] = importlib.import_module("nbreplay.notebook.overview").session_overview(self)
        return overview

    @property
    def mode(self) -> Mode:
        """The mode in force: that of ``NBREPLAY_MODE``, where it is set.

        A read-only store is only replayed.
        """
        mode = forced_mode() or self.options.mode
        return Mode.REPLAY if mode is Mode.AUTO and self.store.archive else mode

    @property
    def run(self) -> Run:
        """The run of the cell that is running; outside any, the session's own."""
        return current_run() or self.own_run

    @property
    def interactions(self) -> list[Interaction]:
        """The calls so far, in the order in which they started."""
        return self.log.interactions

    def show(self) -> None:
        """Display the interactions: as cards in a notebook, as text elsewhere."""
        importlib.import_module("nbreplay.notebook.display").show(self.interactions)

    def start(self) -> None:
        """Switch the session on.

        A store that cannot be written raises its error now, before the first request.
        """
        if self.mode is Mode.RECORD:
            self.store.prepare()
        if "marimo" in sys.modules:
            importlib.import_module("nbreplay.notebook.marimo").follow_cells()
        enter_session(self)

    def stop(self) -> None:
        """Switch the session off.

        Streams that are still open are written as far as they came.
        """
        leave_session(self)
        self.flush()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        warn_uncovered(self.log)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def flush(self, run: Run | None = None, *, interrupted: bool = False) -> None:
        """Write the streams that are still open, of one run or of all."""
        self.keeper.flush(run, interrupted=interrupted)

    def ask(self, call: Call, mode: Mode | None = None, *, run: Run | None = None) -> Replay | Recorder | None:
        """Decide once and for all whether `call` is replayed, recorded or passed through.

        Parameters
        ----------
        call : Call
        mode : Mode, optional
            The mode in which the call has started, where that is known already.
        run : Run, optional
            The run whose takes are used, if it is not that of the current cell.

        Returns
        -------
        Replay
            Serve this; send nothing.
        Recorder
            Send the call, and give the recorder the answer.
        None
            Send the call; nbreplay does not handle it.

        Raises
        ------
        RecordingMissing
            No answer is recorded, and the call must not be sent.
        """
        mode, run = mode or self.mode, run or self.run
        if is_background(call.host, call.target):
            return self._answer_background(call, mode)
        if mode is Mode.OFF or not self._handles(call.host, mode):
            self._refuse_unsendable(call, run, mode, None)
            self.log_live(call.host)
            return None
        started = time.perf_counter()
        try:
            if mode is not Mode.RECORD:
                request, recording = self._look_up(call, mode)
                if (replay := self._replay(call, request, recording, run, mode, started)) is not None:
                    return replay
            if mode is Mode.RECORD or recording is not None:
                # The request is written without its secrets, whatever was looked up.
                request = self._request(call)
                self.store.find(request.kind, request.key)
            self.store.prepare()
        except (NbreplayError, ValueError, RecursionError) as error:
            why = str(error)
            if not isinstance(error, NbreplayError):
                why = f"the call cannot be replayed: {type(error).__name__}: {why}"
            self._miss(call, None, run, mode, why, "as the error says, then run this again", error)
        self._refuse_unsendable(call, run, mode, request)
        kind = WebSocketRecorder if call.is_websocket else Recorder
        recorder = self.keeper.recorder(request, call, run, mode, kind)
        recorder.keeps_errors = self._keeps_errors(run)
        if call.note:
            recorder.notes.append(call.note)
            with contextlib.suppress(Warning):  # under -W error the call goes on all the same
                warnings.warn(f"{call.method} {call.host}: {call.note}", stacklevel=2)
        return recorder

    def ask_websocket(
        self, call: Call, mode: Mode | None = None, *, run: Run | None = None
    ) -> WebSocketReplay | WebSocketRecorder | None:
        """Decide, as `ask` does, about a call that opens a websocket."""
        call.is_websocket, mode = True, mode or self.mode
        run = run or self.run
        decision = self.ask(call, mode, run=run)
        if isinstance(decision, Replay):
            request, found = self._look_up(call, mode)
            slot = (self.store.identity, request.key)
            recording = found or Recording(request.key, request.kind, request.fields)  # a library's own business

            def miss(recorded: object, sent: object, number: int, total: int, take: Take) -> str:
                run.turnstile.give_up()
                self._differing.append(take)
                options = self.options.with_(mode=mode)
                self.last_miss = explain_message(
                    recorded, sent, number, total, call, self.store, run.cell, options, place=self.place
                )
                return self.last_miss.text

            replaying, folder = mode is Mode.REPLAY, self.store.identity
            recording = recording if replaying else self._own_sessions(recording, run)
            binding = Binding(run, slot, recording, replaying, folder, self.normaliser, call.tokens, miss)
            return WebSocketReplay(decision, binding)
        assert decision is None or isinstance(decision, WebSocketRecorder)
        return decision

    def _own_sessions(self, recording: Recording, run: Run) -> Recording:
        """Return a recording with the websocket sessions that ``auto`` replays."""
        cell = run.ref_in(self.store.identity)
        takes = tuple(take for take in recording.takes if owns(cell, take) and take not in self._differing)
        return msgspec.structs.replace(recording, takes=takes, texts=())

    def pass_websocket(self, call: str, host: str) -> None:
        """Let a call pass that opens a websocket, which is not recorded; raise `RecordingMissing` under replay.

        `call` names it in words. Hosts that are allowed may always be called.
        """
        mode = self.mode  # once: another thread may change it
        if mode is Mode.REPLAY and not host_matches(host, self.options.allow):
            self._block(
                host,
                f"{call} opens a websocket, which nbreplay does not replay. Nothing was sent. "
                f"To let it through, run %replay replay --allow {host}",
            )
        note = ""
        if mode in (Mode.RECORD, Mode.AUTO):
            note = f"{call} opens a websocket, which nbreplay does not record. It will not replay"
            warnings.warn(note, stacklevel=3)
        self.log_live(host, note)

    def log_live(self, host: str, note: str = "") -> None:
        """Log that a call to `host` passes, neither recorded nor replayed."""
        self._log(None, None, "live", note, host)

    def log_blocked(self, host: str, text: str) -> None:
        """Log that something was kept from reaching `host`, and why."""
        self._log(None, None, "blocked", text, host)

    def _block(self, host: str, text: str) -> NoReturn:
        self.log_blocked(host, text)
        raise RecordingMissing(text) from NetworkBlocked(text)

    def _answer_background(self, call: Call, mode: Mode) -> Replay | None:
        """Let a library's own business pass unrecorded; under replay, or without a key, it finds itself offline."""
        offline = mode is Mode.REPLAY and not host_matches(call.host, self.options.allow)
        if offline or _has_placeholder(call):
            error = {"type": "ConnectError", "message": "nbreplay is replaying: nothing is sent"}
            take = Take(host=call.host, body=Text(""), status=None, complete=False, reason="dropped", error=error)
            return Replay(take, None, self.log, self.log.start(), time.perf_counter())
        self.log_live(call.host, "a library's own business: not recorded")
        return None

    def _keeps_errors(self, run: Run) -> bool:
        """Tell whether ``auto`` keeps failures that may pass: by an option or a tag, or in place of ``record``."""
        is_option = self.keeps_errors or os.environ.get("NBREPLAY_KEEP_ERRORS") == "1"
        # `NBREPLAY_MODE` overrides the record of a notebook, which keeps them.
        return is_option or run.keeps_errors or self.options.mode is Mode.RECORD

    def _handles(self, host: str, mode: Mode) -> bool:
        """Apply ``--only`` and ``--allow``; a tool has no host."""
        only, allow = self.options.only, self.options.allow
        if not host:
            return True
        if mode is Mode.REPLAY and host_matches(host, allow):
            return False
        if not only or host_matches(host, only):
            return True
        if mode is Mode.REPLAY:
            text = f"{host} is not among the hosts that are replayed (--only {' '.join(only)}). Pass --allow {host}"
            self._block(host, text)
        return False

    def recorded_takes(self, call: Call) -> tuple[Take, ...]:
        """Return the takes of a call, of which none is used up, since the call is not made."""
        recording = self._look_up(call, self.mode)[1]
        return recording.takes if recording is not None else ()

    def _look_up(self, call: Call, mode: Mode) -> tuple[Request, Recording | None]:
        self.log.catch_up()
        # Few requests hold a secret, and to look for one takes longer than to find the recording.
        if len(call.body) < LARGE and not self.normaliser.rules:
            request = request_of(call, self.normaliser, self.log.issued, UNREDACTED)
            if (recording := self.store.find(request.kind, request.key)) is not None:
                return request, recording
        request = self._request(call)
        return request, self._find(call, request, mode)

    def _request(self, call: Call) -> Request:
        """Return the request without its secrets."""
        self.log.catch_up()
        call.credentials = tuple(dict.fromkeys((*call.tokens, *self.log.known_secrets)))
        redactor = Redactor(call.tokens, again=True)
        request = request_of(call, self.normaliser, self.log.issued, redactor)
        self.log.learn_secrets(redactor.secrets)
        if redactor.count and self.log.has_other_secrets(request.key, redactor.secrets):
            call.note = (
                "differs from an earlier call only in a secret, which is not stored: "
                "the answers are replayed in recorded order"
            )
        return request

    def _find(self, call: Call, request: Request, mode: Mode) -> Recording | None:
        """Return the recording of a request, with the takes of those that are its equal.

        ``--ignore`` and ``--mask`` make requests equal; or they differ only in which of their secrets are the same.
        """
        own = self.store.find(request.kind, request.key)
        kind, names = request.kind, list[str]()
        if self.normaliser.rules:
            # These were recorded before the option was given: their stored requests are keyed anew.
            rule = (self.normaliser.ignore, self.normaliser.mask)
            by_key = self.store.names_by_key(kind, rule, lambda each: key_of(kind, apply_rules(each, self.normaliser)))
            names = by_key.get(request.key, [])
        if own is None and not names and _has_secrets(request) and (mode is Mode.REPLAY or _has_placeholder(call)):
            by_key = self.store.names_by_key(kind, ("secrets",), lambda each: key_of(kind, without_numbers(each)))
            alike = by_key.get(key_of(kind, without_numbers(request.fields)), [])
            names = alike if len(alike) == 1 else []
            call.note = call.note or ("recorded with other secrets, of which others are the same" if names else "")
        if not names:
            return own
        self.log.healed.update((self.store.name, name) for name in names)
        recordings = (*[self.store.read(name, Recording.verify) for name in names], own)
        takes = {id(take): take for recording in recordings if recording for take in recording.takes}
        if not takes:
            return own
        return Recording(request.key, kind, request.fields, tuple(sorted(takes.values(), key=lambda t: t.recorded_at)))

    def _replay(
        self, call: Call, request: Request, recording: Recording | None, run: Run, mode: Mode, started: float
    ) -> Replay | None:
        """Return the next take, or None where the call is to be recorded; a miss under replay."""
        slot, note = (self.store.identity, request.key), ""
        if call.is_websocket and mode is not Mode.REPLAY and recording is not None:
            recording = self._own_sessions(recording, run)
        take, foreign = None, False
        if recording is not None:
            take, foreign = run.next(slot, recording, call, request.ids, replaying=mode is Mode.REPLAY)
        if take is None and mode is not Mode.REPLAY:
            return None
        if take is not None and foreign:
            note = f"recorded at {take.host}, asked at {call.host}"
            if call.origin:
                note = f"recorded from the tool {take.tool}, which is now {call.origin}"
        elif take is None and (take := answer_again(call, request, recording)) is not None:
            note = "asked by the MCP client, more often than when recorded"
        if take is None:
            self._miss(call, request, run, mode, *self._explain_refusal(call, request, recording, run))
        answer = answer_to(adapt_take(call, request, take, recording), request.rpc_id)
        self.log.note(request, answer)
        place = self._log(request, take, "replayed", call.note or note, call.host, run)
        in_turn = self.options.speed is None and answer.turns and owns(run.ref, take)
        return Replay(answer, self.options.speed, self.log, place, started, run.turnstile if in_turn else None)

    def _explain_refusal(self, call: Call, request: Request, recording: Recording | None, run: Run) -> tuple[str, str]:
        """Return why no take of a recording answers, and the remedy; each is ``""`` if `explain` is to find it."""
        why = fix = ""
        if recording is not None and recording.takes:
            why = describe_used_up(
                len(recording.takes), run.count_refusal((self.store.identity, request.key), recording)
            )
            tools = {take.tool for take in recording.takes}
            if call.origin and tools.isdisjoint(("", call.origin)):
                why = f"recorded from another tool of that name only: {', '.join(sorted(tools))}"
        if failure := self.store.noted_failure(request.kind, request.key):
            again = f"when it was last asked live, it failed: {failure}. {NO_FAILURES}"
            why = f"{why}; {again}" if why else again
            fix = suggest_recording(run.cell, self.store, self.place, keeps_errors=True)
        return why, fix

    def _miss(
        self, call: Call, request: Request | None, run: Run, mode: Mode, why: str, fix: str = "", cause: Any = None
    ) -> NoReturn:
        # Without a key, auto is as replay: it says what is nearest if nothing is recorded.
        search = request is not None and mode is Mode.AUTO and self.store.find(request.kind, request.key) is None
        options = self.options.with_(mode=mode)
        self._misses += 1
        most = MOST if self._misses <= _THOROUGH else _NEWEST
        self.last_miss = miss = explain(
            request, call, self.store, run.cell, options, why, fix, search=search, most=most, place=self.place
        )
        run.turnstile.give_up()
        self.log.start(
            Interaction(request, None, "missing", run.cell, None, miss.text, self.store.name, call.host, miss.masks)
        )
        raise RecordingMissing(miss.text) from cause

    def _refuse_unsendable(self, call: Call, run: Run, mode: Mode, request: Request | None) -> None:
        if _has_placeholder(call):
            names = placeholder_variables(call.target, call.headers, call.content)
            which = f" ({', '.join(names)})" if names else ""
            why = f"no API key is set{which}, and nbreplay's placeholder is never sent"
            fix = "set the key in the environment or in .env, build the client anew, and run this again"
            self._miss(call, request, run, mode, why, fix)
        # A cookie is sent without its value. Most are of no account; a lost login is refused by its server.
        values = [value for name, value in call.headers if name.lower() != b"cookie"]
        if mode is not Mode.OFF and any(b"[secret:" in value for value in values):
            why = "the call carries a token of a replayed answer, in which secrets are removed. Nothing was sent"
            fix = "record anew from the call that issues the token, such as the login"
            self._miss(call, request, run, mode, why, fix)

    def _log(
        self, request: Request | None, take: Take | None, outcome: Outcome, note: str, host: str, run: Run | None = None
    ) -> int:
        run = run or self.run
        return self.log.start(Interaction(request, take, outcome, run.cell, None, note, self.store.name, host))


def _has_secrets(request: Request) -> bool:
    return "[secret:" in str(request.fields)


def _has_placeholder(call: Call) -> bool:
    return has_placeholder(call.target, call.headers, call.content)


# Not a context variable: worker threads and callbacks do not inherit one, and would go live unnoticed.
_sessions: list[Session] = []
_listeners: list[Callable[[], None]] = []
_follow: Callable[[], None] | None = None
_lock = threading.RLock()


def current_session() -> Session | None:
    """Return the innermost session that is switched on, or None."""
    if _follow is not None:
        _follow()
    try:
        return _sessions[-1]  # in one step: another thread may end an inner session meanwhile, and no call may go live
    except IndexError:
        return None


def active_sessions() -> tuple[Session, ...]:
    """Return all sessions that are switched on, outermost first."""
    return tuple(_sessions)


def enter_session(session: Session) -> None:
    """Make `session` the innermost."""
    with _lock:
        _sessions.append(session)
        try:
            _notify()
        except BaseException:
            leave_session(session)
            raise


def leave_session(session: Session) -> None:
    """Switch `session` off; sessions may end in any order."""
    with _lock:
        if places := [place for place, other in enumerate(_sessions) if other is session]:
            del _sessions[places[-1]]
        _notify()


def follow_sessions(follow: Callable[[], None]) -> None:
    """Have `follow` called before the innermost session is looked up, in the child process of another one."""
    global _follow, _lock
    _follow, _lock = follow, threading.RLock()  # a thread that is not in a forked process may have the lock


def replace_sessions(old: Sequence[Session], new: Session | None) -> None:
    """Replace sessions of another process, which are the outermost ones, by the one that is on there now."""
    with _lock:
        _sessions[:] = [*([new] if new is not None else []), *(each for each in _sessions if each not in old)]
        _notify()


def on_change(listener: Callable[[], None]) -> None:
    """Have `listener` called whenever a session starts or ends."""
    _listeners.append(listener)


def _notify() -> None:
    for listener in _listeners:
        listener()
