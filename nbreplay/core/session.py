"""Session: the only place that decides whether a request is replayed, recorded or passed through."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Self

from nbreplay.core import active
from nbreplay.core.cell import Run
from nbreplay.core.choose import choose, placed, without
from nbreplay.core.config import Mode, Options, forced_mode
from nbreplay.core.hosts import host_matches
from nbreplay.core.ids import issued_by
from nbreplay.core.log import Interaction, Log
from nbreplay.core.normalise import Normaliser
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording import Recording
from nbreplay.core.redact import PLACEHOLDER, environment_secrets
from nbreplay.core.replay import Replay
from nbreplay.core.request import Call, Request, key_of, normalised, request_of
from nbreplay.core.store import Store
from nbreplay.core.take import Take
from nbreplay.errors import NbreplayError, NetworkBlocked, RecordingMissing

if TYPE_CHECKING:
    from nbreplay.core.explain import Miss

__all__ = ["Session"]


class Session:
    """A store, a mode, and what has happened under them.

    Parameters
    ----------
    store : Store
    options : Options
    log : Log, optional
        Shared with other sessions of the same notebook.

    Use as a context manager, ``with`` or ``async with``: it is on from entry to exit.
    """

    def __init__(self, store: Store, options: Options | None = None, *, log: Log | None = None) -> None:
        self.store = store
        self.options = options or Options()
        self.log = log or Log()
        self.normaliser = Normaliser(self.options.ignore, self.options.mask)
        self.last_miss: Miss | None = None
        self._run = Run()
        self._open: set[Recorder] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Session({str(self.store.path)!r}, mode={self.mode.value!r}, {len(self.log)} calls)"

    @property
    def mode(self) -> Mode:
        """The mode in force: ``NBREPLAY_MODE``'s, where that is set."""
        return forced_mode() or self.options.mode

    @property
    def interactions(self) -> list[Interaction]:
        """What has happened so far, in the order of starting."""
        return self.log.interactions

    def show(self) -> None:
        """Display the interactions: as cards in a notebook, as text elsewhere."""
        from nbreplay._show import show

        show(self.interactions)

    def start(self) -> None:
        """Switch the session on; what cannot work is said now, before the first request."""
        forced_mode()
        if self.mode is Mode.RECORD:
            self.store.prepare()
        environment_secrets(fresh=True)
        active.enter(self)

    def stop(self) -> None:
        """Switch the session off. Streams that are still open are written as far as they came."""
        active.leave(self)
        self.flush()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    def passes(self, host: str) -> bool:
        """Tell whether the session is off, and log a call to `host` as live where it is: there is nothing to ask."""
        if self.mode is not Mode.OFF:
            return False
        self._add(active.current_run() or self._run, None, None, "live", "", host)
        return True

    def ask(self, call: Call) -> Replay | Recorder | None:
        """Decide what becomes of `call`, once and for all.

        Returns
        -------
        Replay
            Serve this; send nothing.
        Recorder
            Send the call, and tell the recorder what comes back.
        None
            Send the call; it is none of ours.

        Raises
        ------
        RecordingMissing
            There is no answer, and the call must not be sent.
        """
        mode = self.mode
        run = active.current_run() or self._run
        if mode is Mode.OFF or not self._ours(call.host, mode):
            self._refuse_placeholder(call, run, mode, None)
            self._add(run, None, None, "live", "", call.host)
            return None
        started = time.perf_counter()
        try:
            replay = None
            if mode is not Mode.RECORD:
                request = request_of(call, self.normaliser, self.log.issued)
                replay = self._replayed(call, request, run, mode, started)
            if replay is None:
                request = request_of(call, self.normaliser, self.log.issued, fresh=True)
                self.store.find(request.kind, request.key)
                self.store.prepare()
        except NbreplayError as error:
            self._miss(call, None, run, mode, str(error), error)
        if replay is not None:
            return replay
        self._refuse_placeholder(call, run, mode, request)
        slot = (self.store.identity, request.key)
        recorder = Recorder(self, request, call, run, run.place(slot), mode, self.log.start())
        if "parts" in request.fields or "digest" in request.fields:
            recorder.upload()
        with self._lock:
            self._open.add(recorder)
        return recorder

    def _ours(self, host: str, mode: Mode) -> bool:
        if mode is Mode.REPLAY and self.options.allow and host_matches(host, self.options.allow):
            return False
        if not self.options.only or host_matches(host, self.options.only):
            return True
        if mode is Mode.REPLAY:
            only = " ".join(self.options.only)
            text = f"{host} is not among the hosts that are replayed (--only {only}); allow it with --allow {host}"
            self.blocked(host, text)
            raise RecordingMissing(text) from NetworkBlocked(text)
        return False

    def _replayed(self, call: Call, request: Request, run: Run, mode: Mode, started: float) -> Replay | None:
        recording = self._find(request)
        replaying = mode is Mode.REPLAY
        slot = (self.store.identity, request.key)
        if recording is None:
            if replaying:
                self._miss(call, request, run, mode, "")
            return None
        with run.lock:
            left = run.unused(slot, recording, replaying)
            take, foreign = choose(recording.takes, left, call.host, request.ids, run.ref, replaying=replaying)
            if take is not None:
                run.use(slot, take, replaying)
        if take is None:
            if replaying:
                times = len(recording.takes)
                asked = times - len(left) + run.place(slot)  # nothing else takes a place under replay
                self._miss(call, request, run, mode, f"recorded {_times(times)}, asked {_ordinal(asked)} time")
            return None
        self._note_issued(request, take)
        note = f"recorded at {take.host}, asked at {call.host}" if foreign else ""
        place = self._add(run, request, take, "replayed", note, call.host)
        return Replay(take, self.options.speed, self.log, place, started)

    def _find(self, request: Request) -> Recording | None:
        own = self.store.find(request.kind, request.key)
        if not self.normaliser:
            return own
        # Recorded before this --ignore or --mask was given: what it stores is re-keyed, not asked for again.
        rule = (self.normaliser.ignore, self.normaliser.mask)
        names = self.store.healed(
            request.kind, rule, lambda fields: key_of(request.kind, normalised(fields, self.normaliser))
        )
        found = [self.store.read(name) for name in names.get(request.key, ())]
        takes = {id(take): take for recording in (*found, own) if recording for take in recording.takes}
        if not takes:
            return own
        ordered = sorted(takes.values(), key=lambda take: take.recorded_at)
        return Recording(request.key, request.kind, request.fields, tuple(ordered))

    def keep(self, recorder: Recorder, made: Callable[[], Take]) -> None:
        """Make a take of what a recorder has taken down, write and log it. Never raises: the caller has its answer."""
        take: Take | None = None
        outcome, note = "recorded", ""
        try:
            take = made()
            with recorder.run.lock:
                if not self._write(recorder, take):
                    if recorder.mode is Mode.AUTO:
                        outcome = "live"
                    note = "not kept: a failure that may pass does not displace a good answer"
            self._note_issued(recorder.request, take)
        except Exception as error:
            outcome, note = "unsaved", f"{type(error).__name__}: {error}"
            with contextlib.suppress(Warning):  # where warnings are errors, this one is none: the caller has its answer
                warnings.warn(
                    f"nbreplay could not record a call, which has its answer all the same. {error}", stacklevel=2
                )
        self._log(recorder, take, outcome, note)
        if take is None or take.reason not in ("open", "interrupted"):
            self.release(recorder)

    def release(self, recorder: Recorder) -> None:
        """Forget a recorder that has nothing more to take down."""
        with self._lock:
            self._open.discard(recorder)

    def _write(self, recorder: Recorder, take: Take) -> bool:
        """Put a take into the store, and return whether it is there; else it may come with a good one that follows."""
        request, run, order = recorder.request, recorder.run, recorder.order
        slot = (self.store.identity, request.key)
        recording = recorder.mode is Mode.RECORD
        held = sorted(item for item in run.held.get(slot, []) if item[0] != order) if take.good else []
        written = [item for item in run.written[slot] if item[0] != order]
        made: list[Take] | None = None

        def change(takes: list[Take]) -> list[Take]:
            nonlocal made
            rest = takes if recorder.saved is None else without(takes, recorder.saved)
            earlier = [item for _, item in held]
            made = placed(rest, take, order, written, run.started, recording=recording, earlier=earlier)
            return takes if made is None else made

        self.store.write(request.kind, request.key, request.fields, change, recorder.uploads)
        others = [item for item in run.held.get(slot, []) if item[0] != order]
        if made is None:
            run.held[slot] = [*others, (order, take)] if recording else others
            return False
        run.held[slot] = [] if take.good else others
        run.written[slot] = [*written, *held, (order, take)]
        if not recording and recorder.saved is None:
            run.use(slot, take, False)
        elif not recording:
            run.swap(slot, recorder.saved, take)
        recorder.saved = take
        return True

    def drop(self, recorder: Recorder, note: str) -> None:
        """Log a call of which nothing is kept."""
        self._log(recorder, None, "live", note)
        self.release(recorder)

    def _log(self, recorder: Recorder, take: Take | None, outcome: str, note: str) -> None:
        served = time.perf_counter() - recorder.started
        made = Interaction(
            recorder.request, take, outcome, recorder.run.cell, served, note, self.store.name, recorder.call.host
        )
        self.log.finish(recorder.place, made)

    def flush(self, run: Run | None = None, *, interrupted: bool = False) -> None:
        """Write the streams that are still open, of one run or of all."""
        with self._lock:
            recorders = [recorder for recorder in self._open if run is None or recorder.run is run]
        for recorder in recorders:
            recorder.flush(interrupted)

    def blocked(self, host: str, text: str) -> None:
        """Log that something was refused to leave."""
        run = active.current_run() or self._run
        self._add(run, None, None, "blocked", text, host)

    def _miss(
        self, call: Call, request: Request | None, run: Run, mode: Mode, why: str, cause: BaseException | None = None
    ) -> NoReturn:
        from nbreplay.core.explain import explain  # only a miss needs it

        miss = explain(request, call, self.store, run.cell, mode, why)
        self.last_miss = miss
        self._add(run, request, None, "missing", miss.text, call.host)
        raise RecordingMissing(miss.text) from cause

    def _refuse_placeholder(self, call: Call, run: Run, mode: Mode, request: Request | None) -> None:
        if PLACEHOLDER in call.target or any(_PLACEHOLDER in value for _, value in call.headers):
            why = (
                "it is not recorded, and no API key is set: this client was built with nbreplay's placeholder, "
                "which is never sent. Set the key (in the environment or in .env), and build the client anew"
            )
            self._miss(call, request, run, mode, why)

    def _add(self, run: Run, request: Request | None, take: Take | None, outcome: str, note: str, host: str) -> int:
        return self.log.start(Interaction(request, take, outcome, run.cell, None, note, self.store.name, host))

    def _note_issued(self, request: Request, take: Take) -> None:
        if request.kind in _STATELESS:
            return
        for own in issued_by(take.body):
            # The first answer that brings an id has issued it; later ones look it up.
            if own not in request.ids:
                self.log.issued.setdefault(own, request.key)


_PLACEHOLDER = PLACEHOLDER.encode()
# What such calls answer is never referred to by later ones.
_STATELESS = frozenset(
    {"chat", "completion", "embedding", "message", "generate", "converse", "image", "moderation", "rerank"}
)


def _times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{number} times"


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"a {number}{ending}"
