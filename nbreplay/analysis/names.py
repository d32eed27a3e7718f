"""Names of interactions, short as git's are: ``chat-3f2a9c81#1``. Imports no pandas.

They begin with those of the files of the recordings, cut after 8 digits; where that is the same for two recordings,
after as many as tell these apart. So the names of the files alone determine them, whichever part of a store is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from nbreplay.core.recording.recording import file_name
from nbreplay.core.request.request import ALGORITHM
from nbreplay.errors import OptionError, StoreError

_DIGITS = 8


class ShortNames:
    """The short names of recordings, without the number of a take.

    Parameters
    ----------
    names : iterable of str
        Those of all files of the stores that are loaded together.
    """

    __slots__ = ("_longer",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        stems = {name.removesuffix(".json") for name in names}
        self._longer: dict[str, str] = {}  # only those that need more digits than most
        if len(set(map(_cut, stems))) == len(stems):
            return
        alike = defaultdict[str, set[str]](set)
        for stem in stems:
            alike[_cut(stem)].add(stem)
        for group in alike.values():
            if len(group) > 1:
                self._longer.update(_tell_apart(group))

    def short(self, kind: str, key: str) -> str:
        """Return the short name of the recording with a key."""
        stem = file_name(kind, key).removesuffix(".json")
        return self._longer.get(stem) or _cut(stem) if self._longer else _cut(stem)


def _cut(stem: str) -> str:
    return stem[: stem.rfind("-") + 1 + _DIGITS]


def _tell_apart(stems: set[str]) -> Iterator[tuple[str, str]]:
    """Yield each stem with its shortest beginning that no other one has."""
    before = ""
    for stem, after in pairwise([*sorted(stems), ""]):
        length = max(_common(stem, before), _common(stem, after))
        yield stem, stem[: length + 1]
        before = stem


def _common(one: str, other: str) -> int:
    """Return how many characters two names begin with in common."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))


class NameIndex:
    """The interactions of a library, to be found by name.

    Parameters
    ----------
    interactions : sequence of str
        Their short names.
    keys : sequence of str or None
        The keys of their requests.
    """

    __slots__ = ("_keys", "_places")

    def __init__(self, interactions: Sequence[str], keys: Sequence[str | None]) -> None:
        self._places, self._keys = {name: place for place, name in enumerate(interactions)}, keys

    def find(self, name: str) -> int:
        """Return the place of an interaction; raise `StoreError` where there is none, `OptionError` for several.

        `name` is the short name, or has more or fewer digits, or is the key of the request, ``#`` and the number.
        """
        if name in self._places:
            return self._places[name]
        recording, _, number = name.rpartition("#")
        kind, dash, digits = recording.rpartition("-")
        start = digits if ":" in digits else f"{ALGORITHM}:{digits}"
        found = {
            other: place
            for (other, place), key in zip(self._places.items(), self._keys, strict=True)
            if digits and key and key.startswith(start)
            and other.startswith(kind + dash) and other.endswith(f"#{number}")
        }  # fmt: skip
        if len(found) > 1:
            raise OptionError(f"{name} may be any of {', '.join(list(found)[:5])}. Give more digits")
        if not found:
            raise StoreError(f"{name} is not among these interactions. lib.interactions.index lists them")
        return next(iter(found.values()))
