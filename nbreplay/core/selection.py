"""Which take answers a request, and where a new take goes among those that are there. Pure functions, one per rule."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.request.route import is_private


class Asker(msgspec.Struct, frozen=True):
    """Who asks for a take."""

    host: str
    ids: tuple[str, ...] = ()
    cell: CellRef | None = None
    task: int | None = None
    thread: str = ""
    tool: str = ""
    tools: tuple[str, ...] = ()  # all tools of that name, in the order of their first calls


def owns(cell: CellRef | None, take: Take) -> bool:
    """Tell whether `cell` recorded `take`: the same cell id where both have one, else the same source."""
    other = take.cell
    if cell is None or other is None:
        return cell is other
    return cell.id == other.id if cell.id and other.id else cell.source == other.source


def _is_of_notebook(cell: CellRef | None, take: Take) -> bool:
    """Tell whether a take may be of the cell's own notebook: copied notebooks have cells of the same id or source."""
    if cell is None or take.cell is None or cell.notebook is None or take.cell.notebook is None:
        return True
    return cell.notebook == take.cell.notebook


def is_missing_in_auto(take: Take) -> bool:
    """Tell whether ``auto`` records `take` anew: it was cut short, and not by its caller."""
    return not take.complete and take.reason != "closed" and not take.standing


def remove_take(takes: Sequence[Take], gone: Take) -> list[Take]:
    """Return `takes` without `gone`, or without an equal take where another process has written the file since."""
    places = [index for index, take in enumerate(takes) if take is gone]
    places = places or [index for index, take in enumerate(takes) if take == gone]
    return [take for index, take in enumerate(takes) if index not in places[:1]]


def choose_take(
    takes: Sequence[Take],
    left: Sequence[Take],
    asker: Asker,
    *,
    replaying: bool,
) -> tuple[Take | None, bool]:
    """Return the take that answers next, and whether another public host or another tool gave it.

    Equal ids go first, then the cell's own takes, those of its notebook before others, then those of the same task and
    thread, then the rest, in file order. Of all `takes` of the recording, the run has not been given those `left`.
    Unless `replaying`, the mode is ``auto``.
    """
    candidates, foreign = (
        _candidates_of_tool(takes, left, asker) if asker.tool else _candidates(takes, left, asker.host)
    )
    if not replaying:
        candidates = [] if foreign else [take for take in candidates if not is_missing_in_auto(take)]
    if not candidates:
        return None, False

    def order(take: Take) -> tuple[bool, ...]:
        return (
            take.ids != asker.ids,
            not owns(asker.cell, take),
            not _is_of_notebook(asker.cell, take),
            take.task != asker.task,
            take.thread != asker.thread,
        )

    return min(candidates, key=order), foreign


def _same_host(one: str, other: str) -> bool:
    return one == other or (is_private(one) and is_private(other))


def _candidates(takes: Sequence[Take], left: Sequence[Take], host: str) -> tuple[Sequence[Take], bool]:
    """Return the takes of the same host, else all, and whether those are of another public host.

    A loopback or private host (a local model, a gateway) matches any. All takes decide which hosts may answer: when a
    host's own takes are used up, another host's do not follow.
    """
    if any(_same_host(take.host, host) for take in takes):
        return [take for take in left if _same_host(take.host, host)], False
    if is_private(host):
        return left, False
    if any(is_private(take.host) for take in takes):
        return [take for take in left if is_private(take.host)], False
    return left, True


def _candidates_of_tool(takes: Sequence[Take], left: Sequence[Take], asker: Asker) -> tuple[Sequence[Take], bool]:
    """Return the takes of the same tool, else those of tools that are not called here, and whether these are.

    Takes that name no tool are of the first one of that name.
    """
    own = {asker.tool, ""} if asker.tools[:1] in ((), (asker.tool,)) else {asker.tool}
    if any(take.tool in own for take in takes):
        return [take for take in left if take.tool in own], False
    return [take for take in left if take.tool and take.tool not in asker.tools], True


def insert_take(
    takes: Sequence[Take],
    new: Take,
    order: int,
    written: Sequence[tuple[int, Take]],
    started: str,
    *,
    recording: bool,
    keeps_errors: bool = False,
    earlier: Sequence[Take] = (),
) -> list[Take] | None:
    """Return the takes of a file with a new one put in, or None where it must not be, yet.

    `order` is the place, from 1, that was reserved for `new` when its request started; `written` are the takes that the
    same run has written before, each with its place. ``record`` replaces the takes that the cell had before the run
    `started`; unless `recording`, the mode is ``auto``, which adds, and keeps no failure that may pass unless
    `keeps_errors`. `earlier` failures of this run waited for a good take, and are put in front of it.
    """
    run = {id(take): place for place, take in written}
    older = [take for take in takes if id(take) not in run and _same_host(take.host, new.host)]
    own = [
        take
        for take in older
        if owns(new.cell, take) and _is_of_notebook(new.cell, take) and take.recorded_at <= started
    ]
    if recording:
        if not new.good and any(take.good for take in own):
            return None  # failures that may pass never displace a good take
        # The first complete take of a key in a run replaces the cell's own takes for that key and host. A stream that
        # its caller closed early does not replace whole takes: it goes in front of them.
        was_closed = new.good and not new.complete
        gone = [take for take in own if not (was_closed and take.good and take.complete)]
    else:
        if new.transient and not keeps_errors:
            return None
        # It replaces the first take that was cut short, and not by its caller.
        gone = [take for take in older if is_missing_in_auto(take)][:1]
    stay = [take for take in takes if not _is_among(gone, take)]
    positions = (
        _position_in_run([run.get(id(take), 0) for take in stay], order),
        _first(stay, own) if recording else None,
        _first(takes, gone),
        len(stay),
    )
    index = next(position for position in positions if position is not None)
    return [*stay[:index], *earlier, new, *stay[index:]]


def _position_in_run(places: Sequence[int], order: int) -> int | None:
    """Takes of a run stand in the order in which their requests started; a place of 0 is another run's."""
    if (later := next((index for index, place in enumerate(places) if place > order), None)) is not None:
        return later
    return next((index + 1 for index in reversed(range(len(places))) if 0 < places[index] < order), None)


def _first(takes: Sequence[Take], wanted: Sequence[Take]) -> int | None:
    """Return the index of the first of the `wanted` takes; a new take goes there, where the cell's own stood."""
    return next((index for index, take in enumerate(takes) if _is_among(wanted, take)), None)


def _is_among(takes: Sequence[Take], take: Take) -> bool:
    return any(take is other for other in takes)
