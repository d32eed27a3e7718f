"""What makes requests of different runs comparable: fields left out, patterns masked, and signs in place of ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from nbreplay.core.config import parse_strings
from nbreplay.core.recording.body import Json
from nbreplay.core.recording.json_text import JsonValue, dicts
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Body
from nbreplay.errors import OptionError, RecordingFormatError

_T = TypeVar("_T")

MASKED = "[masked]"
"""What stands where a mask has matched."""

_SHORTEST_ID = 6  # characters; a shorter text may be anything
# A library makes these up in each run: left as they are, no run would find its own recordings.
_MADE_UP = {
    ("prompt_cache_key",): re.compile(r"(?<=^agents-sdk:run:)[0-9a-f]{32}$"),
    # The machine, the account and the session of Claude Code, as JSON or in its older form.
    ("metadata", "user_id"): re.compile(
        r'^\{"device_id":"[^"]*","account_uuid":"[^"]*","session_id":"[^"]*"(?:,"\w+":"[^"]*")*\}$'
        r"|^user_[0-9a-f]{64}_account_[\w-]*_session_[\w-]+$"
    ),
}
# Names whose values are ids: where the body has none of them, as most have not, it is not walked at all.
_HAS_IDS = re.compile(rb'"(?:\w*_ids?|id|conversation|container)"\s*:')
_REFERENCES = frozenset({"tool_call_id", "tool_use_id", "call_id", "item_id", "id"})
_STANDS_FOR = re.compile(r"@(?:\d+|k1:[0-9a-f]{64})")


class Normaliser:
    """The ``--ignore`` paths and ``--mask`` patterns of a session; raises `OptionError` for one that cannot be used.

    A path is written like ``metadata.run_id``, ``messages[0].name`` or ``messages[*].id``. What a pattern matches in
    any string of the body becomes ``[masked]``.
    """

    def __init__(self, ignore: Iterable[str] = (), mask: Iterable[str] = ()) -> None:
        self.ignore, self.mask = parse_strings("ignore", ignore), parse_strings("mask", mask)
        self._paths = [_path(text) for text in self.ignore]
        self._masks = [_pattern(text) for text in self.mask]
        self.rules = len(self.ignore) + len(self.mask)  # how many paths and patterns there are

    def apply(self, value: _T) -> _T:
        """Return JSON data without ignored fields and with masks; `value` itself is not changed."""
        for path in self._paths:
            value = _without(value, path)
        return self._mask(value) if self._masks else value

    def _mask(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._mask(item) for item in node]
        if isinstance(node, dict):
            return {name: self._mask(item) for name, item in node.items()}
        if isinstance(node, str):
            for pattern in self._masks:
                node = pattern.sub(MASKED, node)
        return node


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise OptionError(f"--mask {text!r} is not a regular expression: {error}") from None


def _path(text: str) -> tuple[str | int, ...]:
    steps = re.findall(r"([^.\[\]]+)|\[([^\]]+)\]", text)
    if not steps:
        raise OptionError(f"--ignore {text!r} is not a path. Write it like metadata.run_id or messages[0].name")
    return tuple(name or (int(index) if re.fullmatch(r"-?\d+", index) else index) for name, index in steps)


def _without(node: Any, path: tuple[str | int, ...]) -> Any:
    step, rest = path[0], path[1:]
    if isinstance(node, dict):
        names = node.keys() if step == "*" else {step}
        kept = ((name, item) for name, item in node.items() if rest or name not in names)
        return {name: _without(item, rest) if name in names else item for name, item in kept}
    if isinstance(node, list) and (isinstance(step, int) or step == "*" or step.isdecimal()):
        places = range(len(node)) if step == "*" else (int(step) + len(node) * (int(step) < 0),)
        items = ((place, item) for place, item in enumerate(node) if rest or place not in places)
        return [_without(item, rest) if place in places else item for place, item in items]
    return node


def issued_by(body: Body) -> list[str]:
    """Return the ids that an answer brings: its own, and those of the items that the service remembers with it."""
    if isinstance(body, Json):
        return list(_ids_of(body.value))
    ids: list[str] = []
    if isinstance(body, Events):
        ids += _ids_of(body.common)
        for number, chunk in enumerate(body.chunks):
            data = chunk.data
            if type(data) is dict and (number == 0 or "response" in data or "item" in data):
                ids += [*_ids_of(data), *_ids_of(data.get("response")), *_ids_of({"output": [data.get("item")]})]
    return list(dict.fromkeys(ids))


def _ids_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for holder in (value, *dicts(value.get("output"))):
            for own in (holder.get("id"), holder.get("call_id")):
                if isinstance(own, str) and len(own) >= _SHORTEST_ID:
                    yield own


def replace_ids(body: JsonValue, raw: bytes, issued: Mapping[str, str], ids: list[str]) -> JsonValue:
    """Replace the ids in a JSON body by signs, and mask the values that a library makes up in each run.

    An id whose content is in the same body, such as a tool call's, becomes ``@1``, ``@2``, … in order of appearance; an
    id that an earlier answer of the session issued becomes ``@`` and the key of the request that it answered. Any other
    stays. `raw` is the body as it was sent; the ids are appended to `ids`, verbatim and in order.
    """
    if type(body) is not dict:
        return body
    for path, pattern in _MADE_UP.items():
        if path[0] in body:
            body = _mask_at(body, path, pattern)
    # Where no answer has issued any, only those count whose content is in the same body: `id` and `call_id`.
    if not (_HAS_IDS.search(raw) if issued else b'id"' in raw):
        return body
    own = {text for name in ("messages", "input", "contents") for text in _ids_with_content(body.get(name))}
    if not own and not issued:
        return body
    signs: dict[str, str] = {}

    def replace(name: str, text: str) -> str:
        if text in own and name in _REFERENCES:
            if text not in signs:
                ids.append(text)
                signs[text] = f"@{len(signs) + 1}"
            return signs[text]
        if text in issued:
            if text not in ids:
                ids.append(text)
            return "@" + issued[text]
        return text

    return _map_ids(body, replace)


def _mask_at(body: dict[str, Any], path: tuple[str, ...], pattern: re.Pattern[str]) -> dict[str, Any]:
    name, *rest = path
    value = body.get(name)
    if rest and isinstance(value, dict):
        return {**body, name: _mask_at(value, tuple(rest), pattern)}
    return {**body, name: pattern.sub(MASKED, value)} if isinstance(value, str) and not rest else body


def _ids_with_content(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        kind, own, call = node.get("type"), node.get("id"), node.get("call_id")
        has_content = isinstance(kind, str) or "function" in node or "role" in node or node.keys() >= {"name", "args"}
        if isinstance(own, str) and kind != "item_reference" and has_content:
            yield own
        if isinstance(call, str) and isinstance(kind, str) and kind.endswith("_call"):
            yield call
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(item, dict | list):
            yield from _ids_with_content(item)


def _map_ids(node: JsonValue, change: Callable[[str, str], str], name: str = "") -> JsonValue:
    """Return JSON data in which `change` was applied to each text that has the name of an id."""
    if isinstance(node, dict):
        # In the order of the names, so that an SDK which sends its fields in another order numbers alike.
        changed = {key: _map_ids(node[key], change, key) for key in sorted(node)}
        return {key: changed[key] for key in node}
    if isinstance(node, list):
        return [_map_ids(item, change, name) for item in node]
    if not isinstance(node, str):
        return node
    is_id = name in _REFERENCES or name.endswith(("_id", "_ids")) or name in ("conversation", "container")
    return change(name, node) if is_id else node


def verbatim(body: JsonValue, ids: tuple[str, ...]) -> JsonValue:
    """Return a canonical body with the ids that its request carried: undo `replace_ids`.

    Raise `RecordingFormatError` if there are more ids than places for them.
    """
    left, originals = list(ids), dict[str, str]()

    def restore(_: str, text: str) -> str:
        if _STANDS_FOR.fullmatch(text) and text not in originals and left:
            originals[text] = left.pop(0)
        return originals.get(text, text)

    restored = _map_ids(body, restore) if ids else body
    if left:
        raise RecordingFormatError("the ids of the request cannot be put back into their places")
    return restored
