"""Ids in requests and answers: those that answers issue, and the signs that stand for ids in a canonical request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.json_text import dicts
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Body
from nbreplay.core.request.rules import MASKED
from nbreplay.errors import RecordingFormatError

_SHORTEST = 6  # characters; a shorter one may be anything


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
    if not isinstance(value, dict):
        return
    for holder in (value, *dicts(value.get("output"))):
        for name in ("id", "call_id"):
            own = holder.get(name)
            if isinstance(own, str) and len(own) >= _SHORTEST:
                yield own


# A library makes these up in each run: left as they are, no run would find its own recordings.
_MADE_UP, _OF_A_RUN = "prompt_cache_key", re.compile(r"(?<=^agents-sdk:run:)[0-9a-f]{32}$")

# Names whose values are ids: where the body has none of them, as most have not, it is not walked at all.
_HAS_IDS = re.compile(rb'"(?:\w*_ids?|id|conversation|container)"\s*:')
_CONTENT = ("messages", "input", "contents")
_REFERENCES = frozenset({"tool_call_id", "tool_use_id", "call_id", "item_id", "id"})


def replace_ids(body: Any, raw: bytes, issued: Mapping[str, str], ids: list[str]) -> Any:
    """Replace the ids in a JSON body by signs, and mask a value that a library makes up in each run.

    An id whose content is in the same body, such as a tool call's, becomes ``@1``, ``@2``, … in order
    of appearance; an id that an earlier answer of the session issued becomes ``@`` and the key of the
    request that it answered. Any other stays.

    Parameters
    ----------
    body : JSON value
    raw : bytes
        The body as it was sent, in which ids are looked for quickly.
    issued : mapping of str to str
    ids : list of str
        The replaced ids are appended to it, verbatim and in order.
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
    numbers: dict[str, str] = {}

    def stand_in(name: str, text: str) -> str:
        if text in defined and name in _REFERENCES:
            if text not in numbers:
                ids.append(text)
                numbers[text] = f"@{len(numbers) + 1}"
            return numbers[text]
        if text in issued:
            if text not in ids:
                ids.append(text)
            return "@" + issued[text]
        return text

    return _map_ids(body, stand_in)


def _collect(node: Any, defined: set[str]) -> None:
    """Add the ids to `defined` whose content is in a body."""
    if isinstance(node, list):
        for item in node:
            _collect(item, defined)
    elif isinstance(node, dict):
        kind, own, call = node.get("type"), node.get("id"), node.get("call_id")
        has_content = (
            isinstance(kind, str) or "function" in node or "role" in node or ("name" in node and "args" in node)
        )
        if isinstance(own, str) and kind != "item_reference" and has_content:
            defined.add(own)
        if isinstance(call, str) and isinstance(kind, str) and kind.endswith("_call"):
            defined.add(call)
        for item in node.values():
            if isinstance(item, dict | list):
                _collect(item, defined)


def _map_ids(node: Any, change: Callable[[str, str], str], name: str = "") -> Any:
    """Return JSON data in which `change` was applied to each text that has the name of an id."""
    if isinstance(node, dict):
        # In the order of the names, so that an SDK which sends its fields in another order numbers alike.
        changed = {key: _map_ids(node[key], change, key) for key in sorted(node)}
        return {key: changed[key] for key in node}
    if isinstance(node, list):
        return [_map_ids(item, change, name) for item in node]
    return change(name, node) if isinstance(node, str) and _names_id(name) else node


def _names_id(name: str) -> bool:
    return name in _REFERENCES or name.endswith(("_id", "_ids")) or name in ("conversation", "container")


_STANDS_FOR = re.compile(r"@(?:\d+|k1:[0-9a-f]{64})")


def verbatim(body: Any, ids: tuple[str, ...]) -> Any:
    """Return a canonical body with the ids that its request carried: undo `replace_ids`.

    Raises
    ------
    RecordingFormatError
        If there are more ids than places for them.
    """
    left, originals = list(ids), dict[str, str]()

    def restore(_: str, text: str) -> str:
        if not _STANDS_FOR.fullmatch(text):
            return text
        if text not in originals and left:
            originals[text] = left.pop(0)
        return originals.get(text, text)

    restored = _map_ids(body, restore) if ids else body
    if left:
        raise RecordingFormatError("the ids of the request cannot be put back into their places")
    return restored
