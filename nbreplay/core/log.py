"""The log of sessions: their interactions in the order of their start; those of sibling strands in their order."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import warnings
import weakref
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import msgspec

from nbreplay.core.cell import Cell
from nbreplay.core.recording.recording import file_name
from nbreplay.core.recording.take import Take
from nbreplay.core.request.request import Request
from nbreplay.core.request.rules import issued_by
from nbreplay.core.strand import Place, strand_place
from nbreplay.core.variable_text import Proposal
from nbreplay.core.words import Outcome


class Interaction(msgspec.Struct, frozen=True, gc=False):
    """One call as it happened.

    Attributes
    ----------
    request : Request or None
        None if the call was not read: live, or refused.
    take : Take or None
        The answer.
    outcome : str
        ``replayed``, ``recorded``, ``live``, ``missing``, ``unsaved`` (answered,
        but not written) or ``blocked`` (refused by the network guard).
    cell : Cell or None
    served_s : float or None
        Seconds from the request to the end of the answer, as served now.
    note : str
        A remark, such as why it is missing.
    store : str
        The store's absolute path.
    host : str
    masks : tuple of Proposal
        The masks with which another recording would answer a missing call.
    process : str
        The child process that made the call, such as ``python script.py``.

    Examples
    --------
    >>> import nbreplay as nr
    >>> @nr.tool
    ... def get_weather(city: str) -> str:
    ...     return "18 °C and clear"
    >>> with nr.session("recordings", mode="auto") as s:
    ...     get_weather("Oslo")
    '18 °C and clear'
    >>> call = s.interactions[0]
    >>> call.outcome, call.request.model, call.request.body
    ('recorded', 'get_weather', {'city': 'Oslo'})
    """

    request: Request | None
    take: Take | None
    outcome: Outcome
    cell: Cell | None = None
    served_s: float | None = None
    note: str = ""
    store: str = ""
    host: str = ""
    masks: tuple[Proposal, ...] = ()
    process: str = ""

    def __repr__(self) -> str:
        if self.request is None:
            return f"Interaction({self.outcome}, {self.host!r})"
        name = file_name(self.request.kind, self.key)[: len(self.request.kind) + 9]  # as frames name it
        return f"Interaction({self.outcome}, {name!r}, {self.request.model or self.host!r})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        card: dict[str, str] = importlib.import_module("nbreplay.notebook.overview").interaction_overview(self)
        return card

    @property
    def key(self) -> str:
        """The request's key, or ``""``."""
        return self.request.key if self.request else ""

    @property
    def lost(self) -> str:
        """The failure that ``auto`` did not keep, or ``""``: ``429 Too Many Requests``."""
        return self.take.failure if self.take is not None and self.outcome == "live" else ""


_logs: weakref.WeakSet[Log] = weakref.WeakSet()
_collections: dict[object, list[Log]] = {}  # which keep their logs alive
_watchers: dict[object, Callable[[Log, int], None]] = {}
_listeners: list[Callable[[Log, int, Interaction], None]] = []
_collectors: list[Callable[[], None]] = []
_tellers: list[Callable[[Log, str, str], None]] = []
_catchers: list[Callable[[], None]] = []
_reporters: list[Callable[[], None]] = []

UNCOVERED = {
    "child": "child processes are not covered, and what they send is neither replayed nor refused",
    "connection": "connections that were open before replay began are not refused",
    "opened": "connections that code without a hook has opened are not refused",
    "library": "libraries that open their own connections are not covered",
    "native": "functions of the C library that ctypes has looked up are not covered",
}
"""The kinds of events that the guard of a replay cannot see."""

UNSEEN_CALLS = "some calls of forked processes, which are too many to note"
"""Of the kind ``child``: more calls were made than are known, so that recordings may be in use that seem not to be."""


def all_logs() -> list[Log]:
    """Return the logs of this process, the oldest first; that of a session that is gone only after `keep_all_logs`."""
    return sorted(_logs, key=lambda log: log.number)


def keep_all_logs() -> None:
    """Forget no log from now on, since a run of a notebook reports on every session in it."""
    _collections.setdefault("all", all_logs())


@contextlib.contextmanager
def collect_logs() -> Iterator[list[Log]]:
    """Collect the logs that are made meanwhile; a test reports on every session in it."""
    key = object()
    logs = _collections[key] = []
    try:
        yield logs
    finally:
        del _collections[key]


def watch_calls(watcher: Callable[[Log, int], None]) -> Callable[[], object]:
    """Have `watcher` called with the log and the place of every call that starts; return the function that ends it.

    `watcher` is called where the call is made, before it goes on, and must not raise.
    """
    key = object()
    _watchers[key] = watcher
    return lambda: _watchers.pop(key, None)


def on_outcome(listener: Callable[[Log, int, Interaction], None]) -> None:
    """Have `listener` called whenever the outcome of a call is known, or changes."""
    _listeners.append(listener)


def on_read(collector: Callable[[], None]) -> None:
    """Have `collector` called before a log is read. It adds the calls of other processes."""
    _collectors.append(collector)


def on_learn(tell: Callable[[Log, str, str], None], catch_up: Callable[[], None]) -> None:
    """Have `tell` called with each new secret, or id and key of its request; `catch_up` before a call is looked up.

    These pass on to other processes what this one learns, and learn what they have learned.
    """
    _tellers.append(tell)
    _catchers.append(catch_up)


def on_report(reporter: Callable[[], None]) -> None:
    """Have `reporter` called before the events of a log that the guard could not see are listed. It adds to them."""
    _reporters.append(reporter)


class Log:
    """The interactions of one or more sessions."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(Log._numbers)
        _logs.add(self)
        for logs in list(_collections.values()):
            logs.append(self)
        self._places = itertools.count()  # atomic, so that threads get different places
        self._slots: dict[int, Interaction | None] = {}
        self._strands: dict[int, Place] = {}
        self.issued: dict[str, str] = {}  # ids that answers brought, each with the key of the request that issued it
        # Store and file of recordings that an ``--ignore`` or ``--mask`` made equal to a request of another key.
        self.healed: set[tuple[str, str]] = set()
        # The hash of the first request's secrets, by key; good for this process alone.
        self.secrets: dict[str, int] = {}
        # Secrets that were found so far, such as a token that an answer issued. They are redacted wherever they come
        # next, whatever name is beside them.
        self.known_secrets: tuple[str, ...] = ()
        # Events under replay that the guard cannot see, by kind (see `UNCOVERED`) and name; True once reported.
        self.uncovered: dict[tuple[str, str], bool] = {}

    def start(self, interaction: Interaction | None = None) -> int:
        """Reserve a place for a call that has just started. Its outcome is put there now, or by `finish`."""
        place = next(self._places)
        self._slots[place] = interaction
        if (strand := strand_place()) is not None:
            self._strands[place] = strand
        for watcher in list(_watchers.values()):
            watcher(self, place)
        if interaction is not None:
            self._tell(place, interaction)
        return place

    def finish(self, place: int, interaction: Interaction) -> None:
        """Put the outcome of a call into its place."""
        self._slots[place] = interaction
        self._tell(place, interaction)

    def _tell(self, place: int, interaction: Interaction) -> None:
        for listener in _listeners:
            listener(self, place, interaction)

    def note(self, request: Request, take: Take) -> None:
        """Note the ids that an answer has issued; the first answer that brings one has issued it."""
        if request.kind in STATELESS:
            return
        for own in issued_by(take.body):
            if own not in request.ids and own != request.rpc_id and own not in self.issued:
                self.issued[own] = request.key
                self._share(own, request.key)

    def learn_secrets(self, secrets: Iterable[str]) -> None:
        """Add secrets to the known ones, of which the last hundred are kept."""
        new = [item for item in secrets if len(item) >= _SHORTEST_SECRET and item not in self.known_secrets]
        if not all(item.startswith("[secret:") for item in new):
            self.known_secrets = (*self.known_secrets, *new)[-100:]
            for item in new:
                self._share(item)

    def _share(self, value: str, key: str = "") -> None:
        for tell in _tellers:
            tell(self, value, key)

    def catch_up(self) -> None:
        """Learn the secrets and ids that other processes of this session have learned."""
        for catch_up in _catchers:
            catch_up()

    def has_other_secrets(self, key: str, secrets: Iterable[str]) -> bool:
        """Tell whether a request of this key was asked before with other secrets, which its key does not tell apart."""
        digest = hash(tuple(secrets))
        return self.secrets.setdefault(key, digest) != digest

    def at(self, place: int) -> Interaction | None:
        """Return the interaction at `place`, or None while its call goes on."""
        return self._slots.get(place)

    def since(self, place: int) -> list[Interaction]:
        """Return the interactions that have ended, of the calls that started at `place` or after."""
        _collect()
        places = self.by_strand(range(place, len(self._slots)))
        return [item for place in places if (item := self.at(place)) is not None]

    def by_strand(self, places: Sequence[int]) -> list[int]:
        """Return places so that calls of sibling strands, which start in any order, are in the order of the strands."""
        families: dict[Hashable, list[int]] = defaultdict(list)
        for place in places:
            if place in self._strands:
                families[self._strands[place][0]].append(place)
        moved: dict[int, int] = {}
        for family in families.values():
            moved.update(zip(family, sorted(family, key=lambda place: (self._strands[place][1], place)), strict=True))
        return [moved.get(place, place) for place in places]

    @property
    def interactions(self) -> list[Interaction]:
        """The interactions that have ended, in the order of their start; those of sibling strands in their order."""
        return self.since(0)

    def __len__(self) -> int:
        _collect()
        return len(self._slots)


def _collect() -> None:
    for collector in _collectors:
        collector()


_SHORTEST_SECRET = 12  # characters; a shorter value may be an ordinary word elsewhere

STATELESS = frozenset(
    {"chat", "completion", "embedding", "message", "generate", "converse", "image", "moderation", "rerank"}
)
"""The kinds of calls whose answers no later call refers to."""


def used_recordings(logs: Iterable[Log]) -> dict[str, list[str]]:
    """Return the names of the recordings that were asked for, by store."""
    names: dict[str, set[str]] = defaultdict(set)
    for log in logs:
        for item in log.interactions:
            if item.request is not None:
                names[item.store].add(file_name(item.request.kind, item.key))
        for store, name in log.healed:
            names[store].add(name)
    return {store: sorted(files) for store, files in names.items()}


def find_uncovered(logs: Iterable[Log], *, new: bool = False) -> list[tuple[str, str]]:
    """Return the events that the guard could not see, each by kind and name; if `new`, each of them only once."""
    _collect()
    for reporter in _reporters:
        reporter()
    events = [(log, event) for log in logs for event, reported in [*log.uncovered.items()] if not (new and reported)]
    if new:
        for log, event in events:
            log.uncovered[event] = True
    return list(dict.fromkeys(event for _, event in events))


def describe_uncovered(events: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each kind of event that the guard could not see."""
    names: dict[str, list[str]] = defaultdict(list)
    for kind, name in dict.fromkeys(events):
        names[kind].append(name)
    return [f"{text}: {', '.join(names[kind])}" for kind, text in UNCOVERED.items() if kind in names]


def warn_uncovered(log: Log) -> None:
    """Warn of events that the guard could not see, where no collection of logs reports them."""
    if any(log is other for logs in list(_collections.values()) for other in logs):
        return
    for line in describe_uncovered(find_uncovered([log], new=True)):
        try:
            warnings.warn(f"nbreplay: {line}", stacklevel=3)
        except Warning:  # under -W error
            print(f"nbreplay: {line}", file=sys.stderr)
