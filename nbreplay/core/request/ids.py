"""Ids in requests and answers: those that answers issue, and what stands in place of an id in a canonical request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.stream import Events
from nbreplay.core.recording.take import Body
from nbreplay.core.request.rules import MASKED
from nbreplay.errors import RecordingFormatError

__all__ = ["issued_by", "replace_ids", "verbatim"]

_SHORTEST = 6  # characters; a shorter one may be anything


def issued_by(body: Body) -> list[str]:
    """Return the ids that an answer brings: its own, and those of the items that the service remembers with it."""
    if isinstance(body, Json):
        return list(_of(body.value))
    if not isinstance(body, Events):
        return []
    found: list[str] = []
    if body.common:
        found += _of(body.common)
    for number, chunk in enumerate(body.chunks):
        data = chunk.data
        if type(data) is dict and (number == 0 or "response" in data or "item" in data):
            found += _of(data)
            found += _of(data.get("response"))
            found += _of({"output": [data.get("item")]})
    return list(dict.fromkeys(found))


def _of(value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    items = value.get("output")
    for holder in (value, *(items if isinstance(items, list) else ())):
        if isinstance(holder, dict):
            for name in ("id", "call_id"):
                own = holder.get(name)
                if isinstance(own, str) and len(own) >= _SHORTEST:
                    yield own


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
