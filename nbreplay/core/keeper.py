"""Keeper: what is being recorded, and how a take that is whole comes into the store and the log."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable

from nbreplay.core.cell import Run
from nbreplay.core.config import Mode
from nbreplay.core.log import Interaction, Log
from nbreplay.core.recorder import Recorder
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Call, Request
from nbreplay.core.selection import placed, without
from nbreplay.core.store.files import failed_path, write_error
from nbreplay.core.store.store import Store

__all__ = ["Keeper"]

# Seconds. An interrupt between two pieces of a stream frees it while the cell unwinds, which looks as if the program
# had closed it; the front end then takes a moment to show the traceback, before the cell has ended.
_UNWINDING = 1.0


class Keeper:
    """Writes what the recorders of a session take down.

    Parameters
    ----------
    store : Store
    log : Log
    """

    def __init__(self, store: Store, log: Log) -> None:
        self.store, self.log = store, log
        self._open: set[Recorder] = set()
        self._closed: tuple[Recorder, float] | None = None
        self._lock = threading.Lock()

    def recorder(self, request: Request, call: Call, run: Run, mode: Mode) -> Recorder:
        """Return what takes the answer to a call down; its place among the takes is reserved now."""
        place = run.place((self.store.identity, request.key))
        recorder = Recorder(self, request, call, run, place, mode, self.log.start())
        if "parts" in request.fields or "digest" in request.fields:
            recorder.upload()
        with self._lock:
            self._open.add(recorder)
        return recorder

    def keep(self, recorder: Recorder, made: Callable[[], Take]) -> None:
        """Make a take of what a recorder has taken down, write and log it. Never raises: the caller has its answer."""
        take: Take | None = None
        outcome, note = "recorded", ""
        try:
            take = made()
            self.log.learn_secrets(recorder.secrets)
            with recorder.run.lock:
                if not self._write(recorder, take):
                    if recorder.mode is Mode.AUTO:
                        outcome = "live"
                    note = "not kept: a failure that may pass does not displace a good answer"
            self.log.note(recorder.request, take)
        except Exception as found:
            error = found
            if isinstance(found, OSError):
                error = write_error(failed_path(self.store.path, found), found)
            outcome, note = "unsaved", f"{type(error).__name__}: {error}"
            with contextlib.suppress(Warning):  # where warnings are errors, this one is none: the caller has its answer
                warnings.warn(
                    f"nbreplay could not record a call, which has its answer all the same. {error}", stacklevel=2
                )
        self._log(recorder, take, outcome, ". ".join([*filter(None, [note]), *recorder.notes]))
        if take is None or take.reason not in ("open", "interrupted"):
            self.release(recorder)

    def release(self, recorder: Recorder) -> None:
        """Forget a recorder that has nothing more to take down."""
        with self._lock:
            self._open.discard(recorder)

    def recording(self, place: int) -> Recorder | None:
        """Return what takes down the call that has `place` in the log, while its answer comes."""
        with self._lock:
            return next((recorder for recorder in self._open if recorder.place == place), None)

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

    def closed(self, recorder: Recorder, at: float) -> None:
        """Note which answer was closed last before its end, and when, in seconds of `time.perf_counter`."""
        self._closed = recorder, at

    def flush(self, run: Run | None = None, *, interrupted: bool = False) -> None:
        """Write the streams that are still open, of one run or of all."""
        last, self._closed = self._closed, None
        if interrupted and last is not None and last[0].run is run and time.perf_counter() - last[1] < _UNWINDING:
            last[0].correct()
        with self._lock:
            recorders = [recorder for recorder in self._open if run is None or recorder.run is run]
        for recorder in recorders:
            recorder.flush(interrupted)
            if run is None and recorder.status is None:
                # It may still come, and is recorded then; until it does nobody is to think that all is there.
                self._log(recorder, None, "unsaved", "its answer had not come when the session ended")
