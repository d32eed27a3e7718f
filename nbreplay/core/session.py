"""Session: the only place that decides whether a request is replayed, recorded or passed through."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, Self

from nbreplay.core.cell import Run, current_run
from nbreplay.core.config import Mode, Options, forced_mode
from nbreplay.core.explain import Miss, describe_used_up, explain
from nbreplay.core.log import Interaction, Log, warn_uncovered
from nbreplay.core.recorder import Keeper, Recorder
from nbreplay.core.recording.body import LARGE, Text
from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import Take
from nbreplay.core.replay import Replay, adapt_take, answer_again
from nbreplay.core.request.jsonrpc import answer_to
from nbreplay.core.request.request import Call, Request, apply_rules, key_of, request_of
from nbreplay.core.request.route import host_matches, is_background
from nbreplay.core.request.rules import Normaliser
from nbreplay.core.secrets.credentials import has_placeholder
from nbreplay.core.secrets.redact import UNREDACTED, Redactor
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, NetworkBlocked, RecordingMissing


class Session:
    """A store, a mode, and the log of their calls.

    Parameters
    ----------
    store : Store
    options : Options
    log : Log, optional
        Shared with other sessions of the same notebook.

    Use it as a context manager, ``with`` or ``async with``: it is on from entry to exit.
    """

    def __init__(self, store: Store, options: Options | None = None, *, log: Log | None = None) -> None:
        self.store = store
        self.options = options or Options()
        self.log = log or Log()
        self.normaliser = Normaliser(self.options.ignore, self.options.mask)
        self.last_miss: Miss | None = None
        self.keeper = Keeper(store, self.log)
        self._run = Run()

    def __repr__(self) -> str:
        return f"Session({self.store.shown!r}, mode={self.mode.value!r}, {len(self.log)} calls)"

    @property
    def mode(self) -> Mode:
        """The mode in force: that of ``NBREPLAY_MODE``, where it is set. A read-only store is only replayed."""
        mode = forced_mode() or self.options.mode
        return Mode.REPLAY if mode is Mode.AUTO and self.store.archive else mode

    @property
    def interactions(self) -> list[Interaction]:
        """The calls so far, in the order in which they started."""
        return self.log.interactions

    def show(self) -> None:
        """Display the interactions: as cards in a notebook, as text elsewhere."""
        # The one place where the core looks upward, by name and when asked.
        importlib.import_module("nbreplay.notebook.display").show(self.interactions)

    def start(self) -> None:
        """Switch the session on. A store that cannot be written raises its error now, before the first request."""
        if self.mode is Mode.RECORD:
            self.store.prepare()
        enter_session(self)

    def stop(self) -> None:
        """Switch the session off. Streams that are still open are written as far as they came."""
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

    def ask(self, call: Call, mode: Mode | None = None) -> Replay | Recorder | None:
        """Decide once and for all whether `call` is replayed, recorded or passed through.

        Parameters
        ----------
        call : Call
        mode : Mode, optional
            The mode in which the call has started, where that is known already.

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
        mode = mode or self.mode
        run = current_run() or self._run
        if is_background(call.host, call.target):
            return self._answer_background(call, mode)
        if mode is Mode.OFF or not self._handles(call.host, mode):
            self._refuse_unsendable(call, run, mode, None)
            self.log_live(call.host)
            return None
        started = time.perf_counter()
        try:
            if mode is not Mode.RECORD:
                request, recording = self._look_up(call)
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
        recorder = self.keeper.recorder(request, call, run, mode)
        if call.note:
            recorder.notes.append(call.note)
            with contextlib.suppress(Warning):  # under -W error the call goes on all the same
                warnings.warn(f"{call.method} {call.host}: {call.note}", stacklevel=2)
        return recorder

    def ask_websocket(self, call: str, host: str) -> None:
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
        if offline or has_placeholder(call.target, call.headers):
            error = {"type": "ConnectError", "message": "nbreplay is replaying: nothing is sent"}
            take = Take(host=call.host, body=Text(""), status=None, complete=False, reason="dropped", error=error)
            return Replay(take, None, self.log, self.log.start(), time.perf_counter())
        self.log_live(call.host, "a library's own business: not recorded")
        return None

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

    def _look_up(self, call: Call) -> tuple[Request, Recording | None]:
        # Few requests hold a secret, and to look for one takes longer than to find the recording.
        if len(call.body) < LARGE and not self.normaliser.rules:
            request = request_of(call, self.normaliser, self.log.issued, UNREDACTED)
            if (recording := self.store.find(request.kind, request.key)) is not None:
                return request, recording
        request = self._request(call)
        return request, self._find(request)

    def _request(self, call: Call) -> Request:
        """Return the request without its secrets."""
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

    def _find(self, request: Request) -> Recording | None:
        """Return the recording of a request, with the takes of those that ``--ignore`` and ``--mask`` make equal."""
        own = self.store.find(request.kind, request.key)
        if not self.normaliser.rules:
            return own
        # These were recorded before the option was given: their stored requests are keyed anew.
        rule, kind = (self.normaliser.ignore, self.normaliser.mask), request.kind
        by_key = self.store.names_by_key(kind, rule, lambda fields: key_of(kind, apply_rules(fields, self.normaliser)))
        names = by_key.get(request.key, ())
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
        take, foreign = None, False
        if recording is not None:
            take, foreign = run.next(slot, recording, call.host, request.ids, replaying=mode is Mode.REPLAY)
        if take is None and mode is not Mode.REPLAY:
            return None
        if take is not None and foreign:
            note = f"recorded at {take.host}, asked at {call.host}"
        elif take is None and (take := answer_again(call, request, recording)) is not None:
            note = "asked by the MCP client, more often than when recorded"
        if take is None:
            why = ""
            if recording is not None and recording.takes:
                why = describe_used_up(len(recording.takes), run.count_refusal(slot, recording))
            self._miss(call, request, run, mode, why)
        answer = answer_to(adapt_take(call, request, take, recording), request.rpc_id)
        self.log.note(request, answer)
        place = self._log(request, take, "replayed", call.note or note, call.host, run)
        return Replay(answer, self.options.speed, self.log, place, started)

    def _miss(
        self, call: Call, request: Request | None, run: Run, mode: Mode, why: str, fix: str = "", cause: Any = None
    ) -> NoReturn:
        self.last_miss = miss = explain(request, call, self.store, run.cell, mode, why, fix)
        self._log(request, None, "missing", miss.text, call.host, run)
        raise RecordingMissing(miss.text) from cause

    def _refuse_unsendable(self, call: Call, run: Run, mode: Mode, request: Request | None) -> None:
        if has_placeholder(call.target, call.headers):
            why = "no API key is set, and nbreplay's placeholder is never sent"
            fix = "set the key in the environment or in .env, build the client anew, and run this again"
            self._miss(call, request, run, mode, why, fix)
        # A cookie is sent without its value. Most are of no account; a lost login is refused by its server.
        values = [value for name, value in call.headers if name.lower() != b"cookie"]
        if mode is not Mode.OFF and any(b"[secret:" in value for value in values):
            why = "the call carries a token of a replayed answer, in which secrets are removed. Nothing was sent"
            fix = "record anew from the call that issues the token, such as the login"
            self._miss(call, request, run, mode, why, fix)

    def _log(
        self, request: Request | None, take: Take | None, outcome: str, note: str, host: str, run: Run | None = None
    ) -> int:
        run = run or current_run() or self._run
        return self.log.start(Interaction(request, take, outcome, run.cell, None, note, self.store.name, host))


# Not a context variable: worker threads and callbacks do not inherit one, and would go live unnoticed.
_sessions: list[Session] = []
_listeners: list[Callable[[], None]] = []
_lock = threading.RLock()


def current_session() -> Session | None:
    """Return the innermost session that is switched on, or None."""
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


def on_change(listener: Callable[[], None]) -> None:
    """Have `listener` called whenever a session starts or ends."""
    _listeners.append(listener)


def _notify() -> None:
    for listener in _listeners:
        listener()
