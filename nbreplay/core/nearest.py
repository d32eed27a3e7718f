"""The recording that comes nearest to a request, and how the two differ."""

from __future__ import annotations

import difflib
import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from nbreplay.core.recording.recording import parse_head
from nbreplay.core.request.request import Request, last_user_text
from nbreplay.core.store.store import Store
from nbreplay.core.variable_text import replace_variable
from nbreplay.errors import NbreplayError, RecordingFormatError

# A miss in a store of 10,000 recordings is to be explained within some hundred milliseconds.
MOST = 10_000  # recordings to look at
_CHARACTERS = 30_000_000  # of their requests
_PARSED = 40  # those that have the most words in common
_ALIGNED = 8  # the nearest of them, which are aligned word by word
_COMPARED = 4000  # characters of a request's text
_PROBES = 24  # words to look for
_SETTING = 60  # characters; a longer value is not looked for

_ABSENT = object()
_HEAVY = frozenset({"model", "endpoint", "host", "path", "tool"})
# Expressions are compiled when they are needed, that is after a miss: it takes as long as importing all else here.
# The fields that ask something, whichever the provider; in lower case, without underscores.
_PROMPTS = (
    "chathistory|contents?|context|documents|images?|inputs?|inputtext|instructions?|messages?|parts|preamble|prompts?"
    "|queries|query|question|requests|system|systeminstruction|texts?"
)
# One character of a language that is written without spaces counts as a word.
_WORD = r"[\u3040-\u9fff\uac00-\ud7af]|[^\W\u3040-\u9fff\uac00-\ud7af]+|[^\w\s]"


class Difference(msgspec.Struct, frozen=True):
    """A field that differs. A side without the field has None."""

    path: str
    recorded: str | None
    asked: str | None


def differences(recorded: Mapping[str, Any], sent: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return the fields in which two canonical requests differ."""
    one, other = _leaves(recorded), _leaves(sent)
    return tuple(Difference(path, _value(one, path), _value(other, path)) for path in _differing(one, other))


def is_prompt(path: str) -> bool:
    """Tell whether a field belongs to what is asked, and is not a setting."""
    return re.fullmatch(_PROMPTS, re.split(r"[.\[]", path)[0].lower().replace("_", "")) is not None


def find_nearest(request: Request, store: Store, most: int = MOST) -> tuple[str, dict[str, Any]] | None:
    """Return name and request of the nearest among so many recordings, or None if the store has no such recordings.

    Text that varies by itself and numbers count little, then settings, then the words of what is asked; another model
    or endpoint counts as much as another question.
    """
    asked = _Side(request.fields)
    nearest = heapq.nsmallest(
        _ALIGNED,
        (
            (asked.distance(side := _Side(fields), exact=False), place, name, side)
            for place, (name, fields) in enumerate(_similar(request, store, most))
        ),
    )
    found = min(((asked.distance(side), place, name, side) for _, place, name, side in nearest), default=None)
    return (found[2], dict(found[3].fields)) if found else None


def _similar(request: Request, store: Store, most: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the requests that have the most words and settings in common with this one."""
    probes = _probes(request)

    def rank() -> Iterator[tuple[int, int, str, str]]:
        size = 0
        for place, (name, head) in enumerate(store.heads(request.kind, most)):
            yield sum(probe in head for probe in probes), -place, name, head
            if (size := size + len(head)) > _CHARACTERS:
                return

    try:
        best = heapq.nlargest(_PARSED, rank())
    except NbreplayError:
        return
    for _, _, name, head in best:
        try:
            yield name, parse_head(head)[2]
        except RecordingFormatError:
            continue


def _probes(request: Request) -> list[str]:
    """Return texts that a file with a similar request has: its longest words, which are rare, and its settings."""
    leaves = _leaves(request.fields)
    texts = [last_user_text(request.fields), *(value for value in leaves.values() if isinstance(value, str))]
    words: dict[str, None] = {}
    for text in texts:
        found = set(re.findall(_WORD, replace_variable(text[-_COMPARED:], numbers=True)))
        words.update(dict.fromkeys(sorted(found, key=lambda word: (-len(word), word))[:_PROBES]))
        if len(words) >= _PROBES:
            break
    settings = []
    for path, value in leaves.items():
        text = f'"{path.rpartition(".")[2]}": {json.dumps(value, ensure_ascii=False)}'
        if not is_prompt(path) and len(text) <= _SETTING:
            settings.append(text)
    return [*list(words)[:_PROBES], *settings[:_PROBES]]


class _Side:
    """A request, as far as the distance of two is measured by it."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        leaves = _leaves(fields)
        self.settings = {path: value for path, value in leaves.items() if not is_prompt(path)}
        self.prompt = [(path, value) for path, value in leaves.items() if is_prompt(path)]
        text = "\n".join(str(value) for _, value in self.prompt)
        self.text = text if len(text) <= _COMPARED else text[: _COMPARED // 2] + text[-_COMPARED // 2 :]
        self.words = re.findall(_WORD, replace_variable(self.text, numbers=True))

    def distance(self, other: _Side, *, exact: bool = True) -> float:
        """Return how far another request is away; without `exact` from a quick estimate of its text."""
        differing = _differing(self.settings, other.settings)
        return sum(map(_weight, differing)) + self._text_distance(other, exact)

    def _text_distance(self, other: _Side, exact: bool) -> float:
        if self.prompt == other.prompt:
            return 0.0
        if self.words == other.words:
            return 0.2 if replace_variable(self.text) == replace_variable(other.text) else 0.5
        matcher = difflib.SequenceMatcher(None, self.words, other.words, autojunk=False)
        return 5 + 20 * (1 - (matcher.ratio() if exact else matcher.quick_ratio()))


def _weight(path: str) -> int:
    return 15 if path in _HEAVY else 1


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterable[str]:
    paths = dict.fromkeys([*other, *one])
    return [path for path in paths if _differ(one.get(path, _ABSENT), other.get(path, _ABSENT))]


def _differ(one: Any, other: Any) -> bool:
    return type(one) is not type(other) or bool(one != other)  # 1, 1.0 and True are different


def _leaves(fields: Mapping[str, Any]) -> dict[str, Any]:
    roots = {"body": "", "arguments": ""}
    return {path: leaf for name, value in fields.items() for path, leaf in _walk(roots.get(name, name), value)}


def _walk(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, item in node.items():
            yield from _walk(f"{path}.{name}" if path else name, item)
    elif isinstance(node, list) and node:
        for index, item in enumerate(node):
            yield from _walk(f"{path}[{index}]", item)
    else:
        yield path, node


def _value(leaves: dict[str, Any], path: str) -> str | None:
    return json.dumps(leaves[path], ensure_ascii=False) if path in leaves else None
