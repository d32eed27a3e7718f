"""A cell and its runs. A run has the cursors of its takes, and the order of its threads and its concurrent answers.

Outside any cell a session counts as a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.request.request import Call
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.selection import Asker, choose_take, remove_take
from nbreplay.core.strand import Branches, task_rank, thread_path
from nbreplay.core.turns import TurnCounter, Turnstile
from nbreplay.core.words import shorten


class Cell(msgspec.Struct, frozen=True):
    """A notebook's cell."""

    id: str | None  # the cell's id, where the front end tells it
    number: int | None  # its execution count
    source: str  # its text, without its ``%%replay`` line, stripped
    notebook: str | None = None  # the path of its notebook, if it is known
    digest: str = ""  # of its source, in a process that does not have that

    @property
    def ref(self) -> CellRef:
        """The reference that tells cells apart: the id and a digest, never the text."""
        digest = self.digest or hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        return CellRef(self.id, digest)

    def notebook_from(self, folder: str) -> str | None:
        """Return the path of the notebook as seen from a folder; of one outside of it, the name, never a whole path."""
        if not self.notebook:
            return None
        path = Path(os.path.realpath(self.notebook))
        try:
            return path.relative_to(os.path.realpath(folder)).as_posix()
        except ValueError:
            return path.name

    def __str__(self) -> str:
        first = next((line for line in self.source.splitlines() if line.strip()), "")
        number = "[ ]" if self.number is None else f"[{self.number}]"
        return f"{number} {shorten(first, 60)}" + (f"  (id {self.id})" if self.id else "")


def utc(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    whole, millis = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{millis:03}Z"


Slot = tuple[str, str]
"""A store's identity and a key."""


class Claims(Protocol):
    """The takes that the processes of one run have been given: each take is given to one of them."""

    def claim(self, slot: Slot, take: Take, copies: int, *, replaying: bool) -> bool:
        """Claim a take, of which the recording has so many `copies`; return False if other processes have them all."""

    def release(self, slot: Slot, take: Take, copies: int, *, replaying: bool) -> None:
        """Give a claimed take back."""


class Run:
    """One run of a cell, or of a session outside any cell: its cursors and the takes that it has recorded.

    It `started` so many seconds after the epoch, or now. A take that was recorded before is an older run's.
    """

    def __init__(self, cell: Cell | None = None, started: float | None = None) -> None:
        self.cell = cell
        self.ref = cell.ref if cell else None
        self.started = utc(time.time() if started is None else started)
        self.lock = threading.Lock()
        self.views = itertools.count()  # numbers the displays of calls
        self.keeps_errors = False  # whether a tag has ``auto`` keep failures that may pass
        self.branches = Branches()
        self.turns = TurnCounter()
        self.turnstile = Turnstile(self.turns)
        self._claims: Claims | None = None  # while other processes take part in the run
        self._refs: dict[str, CellRef] = {}
        self._order: dict[Slot, int] = defaultdict(int)
        self._used: dict[tuple[bool, Slot], tuple[Take, ...]] = defaultdict(tuple)
        # The takes that are in the store, and the failures that wait for a good take, each with its place.
        self.written: dict[Slot, list[tuple[int, Take]]] = defaultdict(list)
        self.waiting: dict[Slot, list[tuple[int, Take]]] = defaultdict(list)
        self.websockets: dict[Slot, Any] = {}  # the open sessions, which `nbreplay.core.websocket` keeps

    def ref_in(self, store: str) -> CellRef | None:
        """Return the reference to the cell, with its notebook as seen from the folder that a store is in."""
        if self.cell is None or self.ref is None:
            return None
        if store not in self._refs:
            notebook = self.cell.notebook_from(os.path.dirname(os.path.dirname(store)))
            notebook = notebook and Redactor().text(notebook)
            self._refs[store] = msgspec.structs.replace(self.ref, notebook=notebook)
        return self._refs[store]

    def place(self, slot: Slot) -> int:
        """Reserve the place of one more take of `slot`: takes are kept in the order in which their requests started."""
        self._order[slot] += 1
        return self._order[slot]

    def next(
        self, slot: Slot, recording: Recording, call: Call, ids: tuple[str, ...], *, replaying: bool
    ) -> tuple[Take | None, bool]:
        """Use the take that answers a call next, and return it as `choose_take` does."""
        asker = Asker(call.host, ids, self.ref_in(slot[0]), task_rank(), thread_path(), call.origin, call.origins)
        with self.lock:
            while True:
                left = self.unused_takes(slot, recording, replaying)
                take, foreign = choose_take(recording.takes, left, asker, replaying=replaying)
                if take is None or self.use(slot, take, replaying, recording=recording):
                    return take, foreign

    def share(self, claims: Claims) -> None:
        """Share the takes with other processes from now on; those that have been given are claimed."""
        with self.lock:
            if self._claims is None:
                self._claims = claims
                for (replaying, slot), takes in self._used.items():
                    for take in takes:
                        claims.claim(slot, take, len(takes), replaying=replaying)

    def change(
        self, slot: Slot, take: Take, replaying: bool, *, instead_of: Take, recording: Recording | None = None
    ) -> bool:
        """Give `take` instead of another one, which is given back; return False where another process has it."""
        copies = _count_copies(recording, take)
        if self._claims is not None and not self._claims.claim(slot, take, copies, replaying=replaying):
            return False
        used = self._used[replaying, slot]
        self._used[replaying, slot] = tuple(take if other is instead_of else other for other in used)
        if self._claims is not None:
            self._claims.release(slot, instead_of, len(used), replaying=replaying)
        return True

    def unused_takes(self, slot: Slot, recording: Recording, replaying: bool) -> tuple[Take, ...]:
        """Return the takes of a recording that this run has not been given yet.

        Takes that ``record`` and ``auto`` have given do not count for ``replay``, so that one cell can record and then
        show that it replays.
        """
        if not (used := self._used[replaying, slot]):
            return recording.takes
        used_ids = {id(take) for take in used}
        left = tuple(take for take in recording.takes if id(take) not in used_ids)
        if len(left) + len(used) > len(recording.takes):
            # Another process has written the file since, so that equal takes are other objects now.
            left = recording.takes
            for take in used:
                left = tuple(remove_take(left, take))
        return left

    def count_refusal(self, slot: Slot, recording: Recording) -> int:
        """Note that replay had no take to give, and return how many times it has been asked for one."""
        takes = len(recording.takes) - len(self.unused_takes(slot, recording, True))
        return takes + self.place(slot)  # only such calls take places under replay

    def reserve(self, slot: Slot, take: Take) -> None:
        """Claim a take that is about to be written, so that no other process of the run is given it meanwhile."""
        if self._claims is not None:
            self._claims.claim(slot, take, 1, replaying=False)

    def use(
        self,
        slot: Slot,
        take: Take,
        replaying: bool,
        *,
        instead_of: Take | None = None,
        recording: Recording | None = None,
    ) -> bool:
        """Note that `take` has been given, or that another process has it, and return False.

        `instead_of` is the same take, when it was recorded only in part, or one that is given back for it; `recording`
        has it, unless it is new.
        """
        used = self._used[replaying, slot]
        if instead_of is None:
            self._used[replaying, slot] = (*used, take)
        else:
            self._used[replaying, slot] = tuple(take if other is instead_of else other for other in used)
            if self._claims is not None:
                self._claims.release(slot, instead_of, len(used), replaying=replaying)
        return self._claims is None or self._claims.claim(
            slot, take, _count_copies(recording, take), replaying=replaying
        )


def _count_copies(recording: Recording | None, take: Take) -> int:
    return sum(other == take for other in recording.takes) if recording is not None else 1


# Not a context variable: worker threads and callbacks do not inherit one.
_runs: list[Run] = []
_listeners: list[Callable[[], None]] = []
_find_run: Callable[[], Run | None] | None = None


def current_run() -> Run | None:
    """Return the run of the cell that is running, or None outside any."""
    try:
        return _runs[-1]  # in one step, since another thread may end a cell meanwhile
    except IndexError:
        return None if _find_run is None else _find_run()


def set_run_finder(find: Callable[[], Run | None]) -> None:
    """Have `find` return the run where nobody enters one: of a notebook that does not say when its cells start."""
    global _find_run
    _find_run = find


def enter_run(run: Run) -> None:
    """Make `run` the current one."""
    _runs.append(run)
    _notify()


def leave_run(run: Run) -> None:
    """End `run`; cells may end in any order."""
    with contextlib.suppress(ValueError):
        _runs.remove(run)
    _notify()


def follow_run(old: Sequence[Run], new: Run | None) -> None:
    """Replace runs of another process, which are the outermost ones, by the one that it runs now."""
    _runs[:] = [*([new] if new is not None else []), *(run for run in _runs if run not in old)]


def current_runs() -> tuple[Run, ...]:
    """Return the runs of all cells that are running, outermost first."""
    return tuple(_runs)


def on_run(listener: Callable[[], None]) -> None:
    """Have `listener` called whenever a run of this process starts or ends."""
    _listeners.append(listener)


def _notify() -> None:
    for listener in _listeners:
        listener()
