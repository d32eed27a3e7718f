"""What of a request is left out or replaced before it is keyed: fields, patterns and ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nbreplay.errors import OptionError, RecordingFormatError

__all__ = ["MASKED", "Normaliser", "replace_ids", "verbatim"]

MASKED = "[masked]"
"""What stands where a mask has matched."""


class Normaliser:
    """The ``--ignore`` paths and ``--mask`` patterns of a session.

    Parameters
    ----------
    ignore : iterable of str
        Fields of the body to leave out: ``metadata.run_id``, ``messages[0].name``, ``messages[*].id``.
    mask : iterable of str
        Regular expressions; what they match in any string of the body becomes ``[masked]``.

    Attributes
    ----------
    rules : int
        How many of both there are.

    Raises
    ------
    OptionError
        For a pattern that does not compile or a path that is none.
    """

    __slots__ = ("_masks", "_paths", "ignore", "mask", "rules")

    def __init__(self, ignore: Iterable[str] = (), mask: Iterable[str] = ()) -> None:
        self.ignore = _texts(ignore, "ignore")
        self.mask = _texts(mask, "mask")
        self._paths = [_path(text) for text in self.ignore]
        self._masks = [_pattern(text) for text in self.mask]
        self.rules = len(self.ignore) + len(self.mask)

    def apply(self, body: Any) -> Any:
        """Return `body` without what is ignored and masked; `body` itself is left alone where nothing is."""
        for path in self._paths:
            body = _without(body, path)
        return self._masked(body) if self._masks else body

    def mask_text(self, text: str) -> str:
        """Return `text` with what the patterns match masked."""
        for pattern in self._masks:
            text = pattern.sub(MASKED, text)
        return text

    def _masked(self, node: Any) -> Any:
        if isinstance(node, str):
            return self.mask_text(node)
        if isinstance(node, list):
            return [self._masked(item) for item in node]
        if isinstance(node, dict):
            return {name: self._masked(item) for name, item in node.items()}
        return node


def _texts(given: Iterable[str] | str, option: str) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(given)
    for text in texts:
        if not isinstance(text, str) or not text:
            raise OptionError(f"{option} takes texts such as 'metadata.run_id', not {text!r}")
    return texts


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise OptionError(f"--mask {text!r} is no regular expression: {error}") from None


def _path(text: str) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    for name, index in re.findall(r"([^.\[\]]+)|\[([^\]]+)\]", text):
        steps.append(name or ("*" if index == "*" else int(index) if index.lstrip("-").isdigit() else index))
    if not steps:
        raise OptionError(f"--ignore {text!r} is no path; write it like metadata.run_id or messages[0].name")
    return tuple(steps)


def _without(node: Any, path: tuple[str | int, ...]) -> Any:
    step, rest = path[0], path[1:]
    if isinstance(node, dict):
        if step == "*":
            return {name: _without(item, rest) for name, item in node.items()} if rest else {}
        if step not in node:
            return node
        if not rest:
            return {name: item for name, item in node.items() if name != step}
        return {name: _without(item, rest) if name == step else item for name, item in node.items()}
    if isinstance(node, list):
        if isinstance(step, str) and step != "*" and not step.isdigit():
            return node
        chosen = range(len(node)) if step == "*" else (int(step) + len(node) * (int(step) < 0),)
        if rest:
            return [_without(item, rest) if index in chosen else item for index, item in enumerate(node)]
        return [item for index, item in enumerate(node) if index not in chosen]
    return node


# What a library makes up in each run, and what does not change the answer: left as it is, no run would find its own.
_MADE_UP, _OF_A_RUN = "prompt_cache_key", re.compile(r"(?<=^agents-sdk:run:)[0-9a-f]{32}$")

# Names whose values are ids: where the body has none of them, as most have not, it is not walked at all.
_HAS_IDS = re.compile(rb'"(?:\w*_ids?|id|conversation|container)"\s*:')
_CONTENT = ("messages", "input", "contents")
_REFERENCES = frozenset({"tool_call_id", "tool_use_id", "call_id", "item_id", "id"})


def replace_ids(body: Any, raw: bytes, issued: Mapping[str, str], ids: list[str]) -> Any:
    """Replace the ids in a JSON body by what they stand for, and what is known to be made up in each run.

    An id whose content is in the same body, such as a tool call's, becomes ``@1``, ``@2``, … in order
    of appearance; an id that an earlier answer of the session issued becomes ``@`` and the key of the
    request that it answered. Any other stays.

    Parameters
    ----------
    body : JSON value
    raw : bytes
        The body as it was sent, to see quickly whether there are ids at all.
    issued : mapping of str to str
    ids : list of str
        Takes the replaced ids, verbatim and in order; appended to.
    """
    if type(body) is not dict:
        return body
    if _MADE_UP in body and isinstance(body[_MADE_UP], str):
        body = {**body, _MADE_UP: _OF_A_RUN.sub(MASKED, body[_MADE_UP])}
    # Where no answer has issued any, only those count whose content is in the same body: `id` and `call_id`.
    if not (_HAS_IDS.search(raw) if issued else b'id"' in raw):
        return body
    defined: set[str] = set()
    for name in _CONTENT:
        _collect(body.get(name), defined)
    if not defined and not issued:
        return body
    return _replaced(body, defined, issued, {}, ids)


def _collect(node: Any, defined: set[str]) -> None:
    if isinstance(node, list):
        for item in node:
            _collect(item, defined)
    elif isinstance(node, dict):
        kind = node.get("type")
        own = node.get("id")
        if (
            isinstance(own, str)
            and kind != "item_reference"
            and (isinstance(kind, str) or "function" in node or "role" in node or ("name" in node and "args" in node))
        ):
            defined.add(own)
        call = node.get("call_id")
        if isinstance(call, str) and isinstance(kind, str) and kind.endswith("_call"):
            defined.add(call)
        for item in node.values():
            if isinstance(item, dict | list):
                _collect(item, defined)


def _replaced(
    node: Any, defined: set[str], issued: Mapping[str, str], numbers: dict[str, str], ids: list[str], name: str = ""
) -> Any:
    if isinstance(node, dict):
        # In the order of the names, so that an SDK which sends its fields in another order numbers alike.
        done = {
            key: _replaced(node[key], defined, issued, numbers, ids, key if key in _REFERENCES or _refers(key) else "")
            for key in sorted(node)
        }
        return {key: done[key] for key in node}
    if isinstance(node, list):
        return [_replaced(item, defined, issued, numbers, ids, name) for item in node]
    if isinstance(node, str) and name:
        if node in defined and name in _REFERENCES:
            if node not in numbers:
                ids.append(node)
                numbers[node] = f"@{len(numbers) + 1}"
            return numbers[node]
        if node in issued:
            if node not in ids:
                ids.append(node)
            return "@" + issued[node]
    return node


def _refers(name: str) -> bool:
    return name.endswith(("_id", "_ids")) or name in ("conversation", "container")


_STANDS_FOR = re.compile(r"@(?:\d+|k1:[0-9a-f]{64})")


def verbatim(body: Any, ids: tuple[str, ...]) -> Any:
    """Return a canonical body with the ids that its request carried: undo `replace_ids`.

    Raises
    ------
    RecordingFormatError
        Where there are others than it has places for.
    """
    left, found = list(ids), dict[str, str]()

    def restored(node: Any, name: str = "") -> Any:
        if isinstance(node, dict):
            # In the order in which they were replaced.
            done = {key: restored(node[key], key) for key in sorted(node)}
            return {key: done[key] for key in node}
        if isinstance(node, list):
            return [restored(item, name) for item in node]
        known = name in _REFERENCES or _refers(name)
        if ids and known and isinstance(node, str) and _STANDS_FOR.fullmatch(node):
            if node not in found and left:
                found[node] = left.pop(0)
            return found.get(node, node)
        return node

    made = restored(body)
    if left:
        raise RecordingFormatError("the ids of its request cannot be put back into their places")
    return made
