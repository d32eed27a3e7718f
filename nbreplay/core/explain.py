"""Why a request has no answer: the nearest recording, what differs from it, and what to do."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from nbreplay.core.cell import Cell
from nbreplay.core.config import Mode
from nbreplay.core.frozen import frozen
from nbreplay.core.recording.recording import file_name
from nbreplay.core.request.request import Call, Request
from nbreplay.core.request.rules import MASKED
from nbreplay.core.secrets.redact import redact_url
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError
from nbreplay.providers.answer import last_user_text

__all__ = ["Difference", "Miss", "differences", "explain", "used_up"]

_NEAREST_AMONG = 300
_SHOWN = 6
_ABSENT = "(absent)"
_CHANGING = (
    ("a uuid", r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"),
    ("a date", r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?([.,]\d+)?(Z|[+-]\d\d:?\d\d)?)?"),
    ("a date", r"\d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d{4}"),
    ("a date", r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d{1,2},? \d{4}"),
    ("a time", r"\d\d:\d\d(:\d\d)?([.,]\d+)?"),
    ("a timestamp", r"\b1\d{9}(\d{3})?\b"),
    ("a random id", r"\b[0-9a-f]{16,64}\b"),
)


@frozen
class Difference:
    """A field that differs; a side that lacks it has None."""

    path: str
    recorded: str | None
    asked: str | None


@frozen
class Miss:
    """Why a request has no answer.

    Attributes
    ----------
    text : str
        The whole explanation, for people.
    nearest : str or None
        The file that comes closest.
    differences : tuple of Difference
    """

    text: str
    nearest: str | None = None
    differences: tuple[Difference, ...] = ()


def explain(request: Request | None, call: Call, store: Store, cell: Cell | None, mode: Mode, why: str) -> Miss:
    """Return why `request` has no answer.

    Parameters
    ----------
    request : Request or None
        None where the call could not even be looked at.
    call : Call
    store : Store
    cell : Cell or None
    mode : Mode
    why : str
        What is known already, or ``""``: then the nearest recording is sought.
    """
    what = f"{request.kind} {request.model}".strip() if request else f"{call.method} {call.host}"
    rows = [("cell", str(cell))] if cell else []
    if request:
        said = last_user_text(request)
        rows.append(
            (
                "asked",
                what
                + (
                    f" · {_short(said, 80)}"
                    if said
                    else f" · {call.method} {call.host}{redact_url(call.target).partition('?')[0]}"
                ),
            )
        )
        rows.append(("key", request.key))
    rows.append(("store", f"{store.shown} ({mode.value}{', read-only' if store.archive else ''})"))
    nearest: str | None = None
    found: tuple[Difference, ...] = ()
    heal = ""
    if why:
        rows.append(("why", why))
    elif request:
        nearest, found = _nearest(request, store)
        if nearest is None:
            rows.append(
                (
                    "why",
                    f"there is no {request.kind} recording in this store"
                    + ("" if store.path.exists() else ", which does not exist"),
                )
            )
        else:
            rows.append(("nearest", nearest))
            rows += [("differs" if i == 0 else "", line) for i, line in enumerate(_lines(found))]
            if not found:
                name = file_name(request.kind, request.key)
                rows.append(
                    ("why", f"{nearest} holds this very request under another name or key: rename it to {name}")
                )
            upgrade = _upgrade(found, _recorded_by(store, nearest), call.sdk)
            if upgrade:
                rows.append(("why", upgrade))
            heal = _heal(found, request, cell)
    rows.append(("to fix", _fix(cell, why, store)))
    if heal:
        rows.append(("or", heal))
    width = max(len(name) for name, _ in rows)
    text = f"no recorded answer for this {what} call\n" + "\n".join(
        f"  {name:<{width}}  {value}".rstrip() for name, value in rows
    )
    return Miss(_HALVES.sub("�", text), nearest, found)


def _recorded_by(store: Store, name: str) -> str:
    try:
        recording = store.read(name)
    except NbreplayError:
        return ""
    return recording.takes[-1].sdk if recording and recording.takes else ""


def _upgrade(found: tuple[Difference, ...], recorded: str, asked: str) -> str:
    """Return that another version of the SDK sends other fields, where nothing else differs."""
    if not found or recorded == asked or recorded.partition(" ")[0] != asked.partition(" ")[0]:
        return ""
    added = [item.path for item in found if item.recorded is None]
    gone = [item.path for item in found if item.asked is None]
    if len(added) + len(gone) < len(found):
        return ""
    parts = [f"sends {', '.join(added)}"] if added else []
    parts += [f"no longer sends {', '.join(gone)}"] if gone else []
    changed = " and ".join(parts)
    return f"{asked} {changed}; {recorded}, which recorded it, did {'not' if added else 'so'}. All else is equal"


def _fix(cell: Cell | None, why: str, store: Store) -> str:
    if "API key" in why or "cannot be" in why:
        return "as said above, then run this again"
    if store.archive:
        return "unzip this store, which is read-only, and name the folder with auto   (with an API key set)"
    notebook = os.environ.get("NBREPLAY_NOTEBOOK")
    if notebook:
        return f"nbreplay run {shlex.quote(notebook)} --mode auto --update   (with an API key set)"
    if cell:
        return "put %%replay auto as the first line of this cell and run it   (with an API key set)"
    return 'run this once with mode="auto" (or NBREPLAY_MODE=auto), and an API key set'


def _option(cell: Cell | None, name: str, *values: str) -> str:
    if cell:
        return " ".join(["%replay replay", *(f"--{name} {shlex.quote(value)}" for value in values)])
    literals = [f"r'{value}'" if name == "mask" and "'" not in value else repr(value) for value in values]
    return f"nbreplay.session(..., {name}=[{', '.join(literals)}])"


def _nearest(request: Request, store: Store) -> tuple[str | None, tuple[Difference, ...]]:
    best: tuple[int, str, tuple[Difference, ...]] | None = None
    try:
        recordings = store.newest(request.kind, _NEAREST_AMONG)
    except NbreplayError:
        recordings = []
    asked = dict(_leaves(request.fields))
    for name, fields in recordings:
        recorded = dict(_leaves(fields))
        paths = [
            path
            for path in dict.fromkeys([*asked, *recorded])
            if _differ(asked.get(path, _GONE), recorded.get(path, _GONE))
        ]
        # Another model or another question is farther away than many changed settings.
        weight = sum(20 if path in _HEAVY or path.endswith(("content", "text")) else 1 for path in paths)
        if best is None or weight < best[0]:
            best = (weight, name, tuple(Difference(p, _value(recorded, p), _value(asked, p)) for p in paths))
    return (best[1], best[2]) if best else (None, ())


_GONE = object()
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs, which no terminal can show
_HEAVY = ("model", "endpoint", "host", "path", "input", "prompt")


def _differ(one: Any, other: Any) -> bool:
    return type(one) is not type(other) or bool(one != other)


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return the fields in which two canonical requests differ."""
    one, other = dict(_leaves(recorded)), dict(_leaves(asked))
    paths = [path for path in dict.fromkeys([*other, *one]) if _differ(one.get(path, _GONE), other.get(path, _GONE))]
    return tuple(Difference(path, _value(one, path), _value(other, path)) for path in paths)


def _leaves(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        yield from _walk("" if name in ("body", "arguments") else name, value)


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


def _short(text: str, most: int) -> str:
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+", " ", text).strip()
    return json.dumps(text if len(text) <= most else text[: most - 1] + "…", ensure_ascii=False)


def _lines(found: tuple[Difference, ...]) -> list[str]:
    lines = []
    for item in found[:_SHOWN]:
        recorded, asked = _around(item.recorded, item.asked)
        lines += [item.path, f"  recorded  {recorded}", f"  asked     {asked}"]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more; nbreplay diff shows all")
    return lines


def _around(one: str | None, other: str | None) -> tuple[str, str]:
    """Cut two long texts to what surrounds their first difference."""
    if one is None or other is None or max(len(one), len(other)) <= 100:
        return _cut(one), _cut(other)
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - 30)
    return ("…" if start else "") + _cut(one[start:]), ("…" if start else "") + _cut(other[start:])


def _cut(text: str | None) -> str:
    if text is None:
        return _ABSENT
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", "�", text)
    return text if len(text) <= 100 else text[:99] + "…"


def _heal(found: tuple[Difference, ...], request: Request, cell: Cell | None) -> str:
    """Return the option that makes the nearest recording answer, where what differs changes by itself."""
    texts = [(item.recorded, item.asked) for item in found]
    outside = request.fields.keys() - {"body", "arguments"}
    if any(re.split(r"[.\[]", item.path)[0] in outside for item in found):
        return ""  # options reach bodies only
    if any(side and side.startswith('"@') for pair in texts for side in pair):
        return ""  # an id that stands for another request: no option is looked at before that is known
    if found and all(one and other and one[0] == other[0] == '"' for one, other in texts):
        for name, pattern in _CHANGING:
            if all(re.sub(pattern, MASKED, one or "") == re.sub(pattern, MASKED, other or "") for one, other in texts):
                return f"only {name} differs: {_option(cell, 'mask', pattern)} makes that recording answer"
    paths = [item.path for item in found]
    if len(found) == 1 or (len(found) <= _SHOWN and all(None in pair for pair in texts)):
        return f"if {', '.join(paths)} does not matter: {_option(cell, 'ignore', *paths)} makes that recording answer"
    return ""


def used_up(times: int, asked: int) -> str:
    """Return why there is no answer though some are recorded: ``recorded twice, asked a 3rd time``."""
    return f"recorded {_times(times)}, asked {_ordinal(asked)} time"


def _times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{number} times"


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"a {number}{ending}"
