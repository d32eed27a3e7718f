"""A cell, and one run of it: what decides which takes are a caller's own and which come next.

Outside any cell a session counts as one.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict

from nbreplay.core.frozen import frozen, identity
from nbreplay.core.recording.recording import Recording
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.selection import choose, without
from nbreplay.core.tasks import task_rank

__all__ = ["Cell", "Run", "utc"]


@frozen
class Cell:
    """A notebook's cell.

    Attributes
    ----------
    id : str or None
        The cell's id, where the front end tells it.
    number : int or None
        Its execution count.
    source : str
        Its text, without its ``%%replay`` line, stripped.
    """

    id: str | None
    number: int | None
    source: str

    @property
    def ref(self) -> CellRef:
        """What a take keeps of the cell: never its text."""
        return CellRef(self.id, hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:8])

    def __str__(self) -> str:
        first = next((line for line in self.source.splitlines() if line.strip()), "")
        number = "[ ]" if self.number is None else f"[{self.number}]"
        return f"{number} {first[:60]}" + (f"  (id {self.id})" if self.id else "")


def utc(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    whole, millis = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{millis:03}Z"


Slot = tuple[str, str]
"""A store's identity and a key."""


class Run:
    """One run of a cell, or of a session outside any: its cursors, and what it has recorded so far.

    Parameters
    ----------
    cell : Cell or None
    started : float, optional
        Seconds since the epoch; now, if not given. A take recorded before is an older run's.
    """

    def __init__(self, cell: Cell | None = None, started: float | None = None) -> None:
        self.cell = cell
        self.ref = cell.ref if cell else None
        self.started = utc(time.time() if started is None else started)
        self.lock = threading.Lock()
        self._views = -1
        self._order: dict[Slot, int] = defaultdict(int)
        self._used: dict[tuple[bool, Slot], tuple[Take, ...]] = {}
        self.written: dict[Slot, list[tuple[int, Take]]] = defaultdict(list)
        self.held: dict[Slot, list[tuple[int, Take]]] = defaultdict(list)

    def view(self) -> int:
        """Return the number of one more display of calls in this run, from 0: they are told apart by it."""
        self._views += 1
        return self._views

    def place(self, slot: Slot) -> int:
        """Reserve the place of one more take of `slot`: takes are kept in the order in which their requests started."""
        self._order[slot] += 1
        return self._order[slot]

    def next(
        self, slot: Slot, recording: Recording, host: str, ids: tuple[str, ...], *, replaying: bool
    ) -> tuple[Take | None, bool]:
        """Give the take that answers next, None where there is none left, and tell whether it is of a foreign host.

        Parameters
        ----------
        slot : (str, str)
        recording : Recording
        host : str
            The host asked.
        ids : tuple of str
            The ids in the request, verbatim.
        replaying : bool
            Under ``replay``, not ``auto``.
        """
        left, rank = recording.takes, task_rank()
        with self.lock:
            used = self._used.get(key := (replaying, slot), ())
            if used:
                left = self.unused(slot, recording, replaying)
            take: Take | None
            if len(recording.takes) == len(left) == 1 and left[0].host == host and replaying:
                take, foreign = left[0], False  # as it mostly is: there is nothing to choose
            else:
                take, foreign = choose(recording.takes, left, host, ids, self.ref, rank, replaying=replaying)
            if take is not None:
                self._used[key] = (*used, take)
        return take, foreign

    def unused(self, slot: Slot, recording: Recording, replaying: bool) -> tuple[Take, ...]:
        """Return the takes of a recording that this run has not been given yet.

        What ``record`` and ``auto`` have given does not count for ``replay``, so that one cell can record and
        then show that it replays.
        """
        used = self._used.get((replaying, slot))
        if not used:
            return recording.takes
        same = set(map(identity, used))
        left = tuple([take for take in recording.takes if identity(take) not in same])
        if len(left) + len(used) > len(recording.takes):
            # Another process has written the file since, so that equal takes are other objects now.
            left = recording.takes
            for take in used:
                left = tuple(without(left, take))
        return left

    def refused(self, slot: Slot, recording: Recording) -> int:
        """Note that replay had no take to give, and return how many times it has been asked for one."""
        given = len(recording.takes) - len(self.unused(slot, recording, True))
        return given + self.place(slot)  # only such calls take places under replay

    def use(self, slot: Slot, take: Take, replaying: bool) -> None:
        """Note that `take` has been given."""
        self._used[replaying, slot] = (*self._used.get((replaying, slot), ()), take)

    def swap(self, slot: Slot, old: Take | None, new: Take) -> None:
        """Note that a take that was recorded in part is now recorded further."""
        used = self._used.get((False, slot), ())
        self._used[False, slot] = tuple([new if take is old else take for take in used])
