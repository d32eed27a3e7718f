"""What happened: the interactions of sessions, in the order in which they started."""

from __future__ import annotations

import contextlib
import itertools
import sys
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from nbreplay.core.cell import Cell
from nbreplay.core.recording.take import Take
from nbreplay.core.request.ids import issued_by
from nbreplay.core.request.request import Request

__all__ = [
    "FAILURES",
    "OUTCOMES",
    "STATELESS",
    "UNCOVERED",
    "Interaction",
    "Log",
    "counted",
    "describe_uncovered",
    "every",
    "keep_all",
    "keeping",
    "on_read",
    "summary",
    "uncovered",
    "used",
    "warn_uncovered",
    "watch",
]

OUTCOMES = ("replayed", "recorded", "live", "missing", "unsaved", "blocked")
"""What may become of a call; ``unsaved``: answered, and not written; ``blocked``: refused by the guard."""

FAILURES = ("missing", "blocked", "unsaved")
"""The outcomes that fail a test, whatever has become of their exceptions."""


class Interaction(msgspec.Struct, frozen=True, gc=False):
    """One call as it happened.

    Attributes
    ----------
    request : Request or None
        None where the call was not looked at: live, or refused.
    take : Take or None
        The answer.
    outcome : str
        One of `OUTCOMES`.
    cell : Cell or None
    served_s : float or None
        Seconds from the request to the end of the answer, as served now.
    note : str
        What else there is to say: why it is missing, where it comes from.
    store : str
        The store's absolute path.
    host : str
    """

    request: Request | None
    take: Take | None
    outcome: str
    cell: Cell | None = None
    served_s: float | None = None
    note: str = ""
    store: str = ""
    host: str = ""

    @property
    def key(self) -> str:
        """The request's key, or ``""``."""
        return self.request.key if self.request else ""


_logs: weakref.WeakSet[Log] = weakref.WeakSet()
_kept: set[Log] | None = None
_keeping: list[list[Log]] = []
_watchers: tuple[Callable[[Log, int], None], ...] = ()
_collectors: list[Callable[[], None]] = []

UNCOVERED = {
    "child": "child processes are not covered: what they send is neither replayed nor refused",
    "connection": "connections that were open before replay began are not refused",
    "library": "libraries that open their own connections: what they send is neither replayed nor refused",
    "native": "functions of the C library that ctypes has looked up: what they send is neither replayed nor refused",
}
"""What the guard of a replay cannot see, by kind."""


def every() -> list[Log]:
    """Return the logs of this process, the oldest first; of a session that is gone only where `keep_all` was said."""
    return sorted(_logs, key=lambda log: log.number)


def keep_all() -> None:
    """Forget no log from now on: a run of a notebook reports on every session in it."""
    global _kept
    if _kept is None:
        _kept = set(_logs)


def watch(watcher: Callable[[Log, int], None]) -> Callable[[], None]:
    """Have `watcher` called with the log and the place of every call that starts; return what ends that.

    It is called where the call is made, before it goes on, and must not raise.
    """
    global _watchers
    _watchers = (*_watchers, watcher)

    def end() -> None:
        global _watchers
        _watchers = tuple(known for known in _watchers if known is not watcher)

    return end


def on_read(collector: Callable[[], None]) -> None:
    """Have `collector` called before a log is read: it adds what was logged elsewhere."""
    _collectors.append(collector)


@contextlib.contextmanager
def keeping() -> Iterator[list[Log]]:
    """Forget no log that is made meanwhile: a test is to be told of every session in it."""
    made: list[Log] = []
    _keeping.append(made)
    try:
        yield made
    finally:
        # By identity: two lists that are equal are not the same test's.
        _keeping[:] = [known for known in _keeping if known is not made]


class Log:
    """The interactions of one or more sessions.

    Attributes
    ----------
    served : dict of int to float
        Of calls that have been replayed to their end, by their places, how many seconds that took.
    issued : dict of str to str
        Ids that answers brought, each with the key of the request that issued it.
    healed : set of (str, str)
        Store and file of recordings that were looked at for a request of another key: an ``--ignore`` or ``--mask``
        is newer than they are.
    secrets : dict of str to int
        Of keys whose requests had secrets in them: the hash, good for this process alone, of the first one's.
    known_secrets : tuple of str
        Secrets that were found so far, such as a token that an answer issued: they are secret wherever they come next,
        also where no name beside them says so.
    uncovered : dict of (str, str) to bool
        What happened under replay that the guard cannot see, by kind (see `UNCOVERED`) and name; and whether the user
        has been told.
    """

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(Log._numbers)
        _logs.add(self)
        if _kept is not None:
            _kept.add(self)
        for made in _keeping:
            made.append(self)
        self._places = itertools.count()  # no two threads are given one place, and none waits for another
        self._slots: dict[int, Interaction | None] = {}
        # Apart from the interactions: making each of them twice would cost a replay more than all else that is logged.
        self.served: dict[int, float] = {}
        self.issued: dict[str, str] = {}
        self.healed: set[tuple[str, str]] = set()
        self.secrets: dict[str, int] = {}
        self.known_secrets: tuple[str, ...] = ()
        self.uncovered: dict[tuple[str, str], bool] = {}

    def start(self, interaction: Interaction | None = None) -> int:
        """Reserve a place for a call that has just started; what became of it is put there now, or by `finish`."""
        place = next(self._places)
        self._slots[place] = interaction
        if _watchers:
            for watcher in _watchers:
                watcher(self, place)
        return place

    def finish(self, place: int, interaction: Interaction) -> None:
        """Put what became of the call into its place."""
        self._slots[place] = interaction

    def note(self, request: Request, take: Take) -> None:
        """Note the ids that an answer has issued; the first answer that brings one has issued it."""
        if request.kind in STATELESS:
            return
        for own in issued_by(take.body):
            if own not in request.ids and own != request.rpc_id:
                self.issued.setdefault(own, request.key)

    def learn_secrets(self, secrets: Iterable[str]) -> None:
        """Take note of secrets that were found; the last hundred are known."""
        new = [item for item in secrets if len(item) >= _TELLING and item not in self.known_secrets]
        if new and not all(item.startswith("[secret:") for item in new):
            self.known_secrets = (*self.known_secrets, *new)[-100:]

    def has_other_secrets(self, key: str, secrets: Iterable[str]) -> bool:
        """Tell whether a request of this key was asked before with other secrets, which its key does not tell apart."""
        asked = hash(tuple(secrets))
        return self.secrets.setdefault(key, asked) != asked

    def at(self, place: int) -> Interaction | None:
        """What became of the call that has `place`, so far."""
        item = self._slots.get(place)
        if item is None or item.served_s is not None or place not in self.served:
            return item
        return msgspec.structs.replace(item, served_s=self.served[place])

    @property
    def interactions(self) -> list[Interaction]:
        """What has ended so far, in the order of starting."""
        return self.since(0)

    def __len__(self) -> int:
        _collect()
        return len(self._slots)

    def since(self, place: int) -> list[Interaction]:
        """What has ended among the calls that started at `place` or after."""
        _collect()
        return [item for at in range(place, len(self._slots)) if (item := self.at(at)) is not None]


def _collect() -> None:
    for collector in _collectors:
        collector()


_TELLING = 12  # characters; a shorter value may be an ordinary word elsewhere


STATELESS = frozenset(
    {"chat", "completion", "embedding", "message", "generate", "converse", "image", "moderation", "rerank"}
)
"""The kinds of calls whose answers are never referred to by later ones."""


def summary(interactions: Iterable[Interaction]) -> str:
    """Return the counts as ``3 replayed, 0 recorded, 0 missing``, other outcomes where there are any."""
    return counted(Counter(item.outcome for item in interactions))


def counted(counts: Mapping[str, int]) -> str:
    """Return what `summary` does, of what is counted already."""
    always = ("replayed", "recorded", "missing")
    parts = [f"{counts.get(outcome, 0)} {outcome}" for outcome in always]
    parts += [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if outcome not in always and counts.get(outcome)]
    return ", ".join(parts)


def used(logs: Iterable[Log]) -> dict[str, list[str]]:
    """Return the stores that were asked, and of each the names of the recordings that were asked for."""
    from nbreplay.core.recording.recording import file_name

    found: dict[str, set[str]] = {}
    for log in logs:
        for item in log.interactions:
            if item.request is not None:
                found.setdefault(item.store, set()).add(file_name(item.request.kind, item.key))
        for store, name in log.healed:
            found.setdefault(store, set()).add(name)
    return {store: sorted(names) for store, names in found.items()}


def uncovered(logs: Iterable[Log], *, new: bool = False) -> list[tuple[str, str]]:
    """Return what the guard could not see, each by kind and name.

    Parameters
    ----------
    logs : iterable of Log
    new : bool
        Return only what this has not returned as new before.
    """
    _collect()
    found: dict[tuple[str, str], None] = {}
    for log in logs:
        for item, told in list(log.uncovered.items()):
            if not (new and told):
                found[item] = None
            if new:
                log.uncovered[item] = True
    return list(found)


def describe_uncovered(items: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each kind of what the guard could not see."""
    names: dict[str, dict[str, None]] = {}
    for kind, name in items:
        names.setdefault(kind, {})[name] = None
    return [f"{UNCOVERED[kind]}: {', '.join(names[kind])}" for kind in UNCOVERED if kind in names]


def warn_uncovered(log: Log) -> None:
    """Warn of what the guard could not see, where nobody else reports it; where warnings are errors, print it."""
    if _kept is not None or any(log is known for made in _keeping for known in made):
        return
    for line in describe_uncovered(uncovered([log], new=True)):
        try:
            warnings.warn(f"nbreplay: {line}", stacklevel=3)
        except Warning:
            print(f"nbreplay: {line}", file=sys.stderr)
