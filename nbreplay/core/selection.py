"""Which take answers a request, and where a new take goes among those that are there. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from nbreplay.core.frozen import identity
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.request.hosts import is_private

__all__ = ["choose", "owns", "placed", "replaces", "without"]


def _same_host(one: str, other: str) -> bool:
    return one == other or (is_private(one) and is_private(other))


def owns(cell: CellRef | None, take: Take) -> bool:
    """Tell whether `take` was recorded by `cell`: the same id where both have one, else the same source."""
    other = take.cell
    if cell is None or other is None:
        return cell is other
    return cell.id == other.id if cell.id and other.id else cell.source == other.source


def without(takes: Sequence[Take], gone: Take) -> list[Take]:
    """Return `takes` less one: that very take, or one equal to it where another process has written the file since."""
    for same in (lambda take: take is gone, lambda take: take == gone):
        for index, take in enumerate(takes):
            if same(take):
                return [*takes[:index], *takes[index + 1 :]]
    return list(takes)


def replaces(take: Take) -> bool:
    """Tell whether a take is one that ``auto`` treats as missing, and replaces: cut short, and not by its caller."""
    return not take.complete and take.reason != "closed" and not take.standing


def choose(
    takes: Sequence[Take],
    left: Sequence[Take],
    host: str,
    ids: tuple[str, ...],
    cell: CellRef | None,
    task: int | None = None,
    *,
    replaying: bool,
) -> tuple[Take | None, bool]:
    """Return the take that answers next, and whether it came from another public host.

    Parameters
    ----------
    takes : sequence of Take
        All of the recording, in file order.
    left : sequence of Take
        Those of them that the run has not been given yet.
    host : str
        The host asked.
    ids : tuple of str
        The ids in the request, verbatim.
    cell : CellRef or None
    task : int or None
        Which of several tasks made together asks.
    replaying : bool
        Under ``replay``, not ``auto``.
    """
    foreign = False
    # Which hosts may answer is decided by all takes: used up, a host's own are not followed by another's.
    if any(_same_host(take.host, host) for take in takes):
        candidates = [take for take in left if _same_host(take.host, host)]
    elif is_private(host) or any(is_private(take.host) for take in takes):
        candidates = [take for take in left if is_private(host) or is_private(take.host)]
    else:
        candidates, foreign = list(left) if replaying else [], True
    if not replaying:
        candidates = [take for take in candidates if not replaces(take)]
    if not candidates:
        return None, False
    return min(candidates, key=lambda take: (take.ids != ids, not owns(cell, take), take.task != task)), foreign


def placed(
    takes: Sequence[Take],
    new: Take,
    order: int,
    written: Sequence[tuple[int, Take]],
    started: str,
    *,
    recording: bool,
    earlier: Sequence[Take] = (),
) -> list[Take] | None:
    """Return the takes of a file with a new one put in, or None where it must not be, yet.

    Parameters
    ----------
    takes : sequence of Take
        Those in the file.
    new : Take
    order : int
        The place that was reserved for it when its request started.
    written : sequence of (int, Take)
        What the same run has written before, each with its place.
    started : str
        When the run started.
    recording : bool
        Under ``record``, which replaces the cell's own takes; ``auto`` adds.
    earlier : sequence of Take
        Failures of this run that waited for a good take; they go in front of it.
    """
    places = {identity(take): place for place, take in written}
    ordered = [(take, places.get(identity(take), 0)) for take in takes]  # 0: of another run
    old = [
        take
        for take, place in ordered
        if not place and owns(new.cell, take) and _same_host(take.host, new.host) and take.recorded_at <= started
    ]
    if recording:
        if not new.good and any(take.good for take in old):
            return None
        # As much as a caller wanted is no reason to throw the whole away: the new one is put in front of it.
        gone = [take for take in old if not (new.good and not new.complete and take.good and take.complete)]
    else:
        if new.transient:
            return None
        partial = (t for t, place in ordered if not place and replaces(t) and _same_host(t.host, new.host))
        gone = list(itertools.islice(partial, 1))
    left = [(take, place) for take, place in ordered if not _among(take, gone)] if gone else ordered
    after = [index for index, (_, place) in enumerate(left) if place > order]
    before = [index for index, (_, place) in enumerate(left) if 0 < place < order]
    kept = [index for index, (take, _) in enumerate(left) if _among(take, old)] if recording and old else []
    if after:
        index = after[0]
    elif before:
        index = before[-1] + 1
    elif kept:
        index = kept[0]
    elif gone:
        index = next(i for i, take in enumerate(takes) if _among(take, gone))
    else:
        index = len(left)
    stay = [take for take, _ in left]
    return [*stay[:index], *earlier, new, *stay[index:]]


def _among(take: Take, takes: Sequence[Take]) -> bool:
    return any(take is other for other in takes)
