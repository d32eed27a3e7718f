"""The explanation of a miss: the nearest recording, its differences from the request, and the remedy."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nbreplay.core.cell import Cell
from nbreplay.core.config import Mode
from nbreplay.core.recording.recording import file_name
from nbreplay.core.request.request import Call, Request, last_user_text
from nbreplay.core.request.rules import MASKED
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError

_NEAREST_AMONG = 300
_SHOWN = 6
_ABSENT = object()
_HEAVY = ("model", "endpoint", "host", "path", "input", "prompt")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_AND_LINES = re.compile(f"{_CONTROLS.pattern}+")
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs, which no terminal can show
_CHANGING = (
    ("a uuid", r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"),
    ("a date", r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?([.,]\d+)?(Z|[+-]\d\d:?\d\d)?)?"),
    ("a date", r"\d{1,2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d{4}"),
    ("a date", r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* \d{1,2},? \d{4}"),
    ("a time", r"\d\d:\d\d(:\d\d)?([.,]\d+)?"),
    ("a timestamp", r"\b1\d{9}(\d{3})?\b"),
    ("a random id", r"\b[0-9a-f]{16,64}\b"),
)


class Difference(msgspec.Struct, frozen=True):
    """A field that differs. A side without the field has None."""

    path: str
    recorded: str | None
    asked: str | None


class Miss(msgspec.Struct, frozen=True):
    """Why a request has no answer."""

    text: str  # the whole explanation, for people
    nearest: str | None = None  # the file that comes closest
    differences: tuple[Difference, ...] = ()


def explain(
    request: Request | None, call: Call, store: Store, cell: Cell | None, mode: Mode, why: str, remedy: str = ""
) -> Miss:
    """Return the reason for which a call has no answer, and the remedy.

    `request` is None where the call could not be read. If `why` gives no reason, the nearest recording is searched for.
    `remedy` is what to do where recording the call is not the remedy.
    """
    name = f"{request.kind} {request.model}".strip() if request else f"{call.method} {call.host}"
    rows = [("cell", str(cell))] if cell else []
    if request:
        rows += [("asked", f"{name} · {_describe_question(request, call)}"), ("key", request.key)]
    rows.append(("store", f"{store.shown} ({mode.value}{', read-only' if store.archive else ''})"))
    nearest, option, differing = None, "", tuple[Difference, ...]()
    if why:
        rows.append(("why", why))
    elif request:
        nearest, differing = _find_nearest(request, store)
        if nearest is None:
            missing = "" if store.path.exists() else ", which does not exist"
            rows.append(("why", f"no {request.kind} recording in this store{missing}"))
        else:
            rows.append(("nearest", nearest))
            rows += [("" if number else "differs", line) for number, line in enumerate(_describe(differing))]
            if not differing:
                own = file_name(request.kind, request.key)
                rows.append(("why", f"{nearest} holds this very request under another name or key. Rename it to {own}"))
            else:
                upgrade = _describe_upgrade(differing, _sdk_of(store, nearest), call.sdk)
                rows += [("why", upgrade)] if upgrade else []
                option = _suggest_option(differing, request, cell)
    rows.append(("to fix", remedy or _suggest_recording(cell, store)))
    rows += [("or", option)] if option else []
    width = max(len(label) for label, _ in rows)
    lines = [f"  {label:<{width}}  {value}".rstrip() for label, value in rows]
    text = "\n".join([f"no recorded answer for this {name} call", *lines])
    return Miss(_HALVES.sub("�", text), nearest, differing)


def _describe_question(request: Request, call: Call) -> str:
    if text := last_user_text(request.fields):
        return json.dumps(_shorten(_CONTROLS_AND_LINES.sub(" ", text).strip(), 80), ensure_ascii=False)
    return f"{call.method} {call.host}{Redactor().url(call.target).partition('?')[0]}"


def _sdk_of(store: Store, name: str) -> str:
    try:
        recording = store.read(name)
    except NbreplayError:
        return ""
    return recording.takes[-1].sdk if recording and recording.takes else ""


def _describe_upgrade(differing: tuple[Difference, ...], old: str, new: str) -> str:
    """Return that another version of the SDK sends other fields, where nothing else differs."""
    if old == new or old.partition(" ")[0] != new.partition(" ")[0]:
        return ""
    added = [item.path for item in differing if item.recorded is None]
    dropped = [item.path for item in differing if item.asked is None]
    if len(added) + len(dropped) < len(differing):
        return ""
    parts = [f"sends {', '.join(added)}"] if added else []
    parts += [f"no longer sends {', '.join(dropped)}"] if dropped else []
    verb = "not" if added else "so"
    return f"{new} {' and '.join(parts)}; {old}, which recorded it, did {verb}. All else is equal"


def _suggest_recording(cell: Cell | None, store: Store) -> str:
    if store.archive:
        return "unzip this store, which is read-only, and name the folder with auto   (with an API key set)"
    if notebook := os.environ.get("NBREPLAY_NOTEBOOK"):
        return f"nbreplay run {shlex.quote(notebook)} --mode auto --update   (with an API key set)"
    if cell:
        return "put %%replay auto as the first line of this cell and run it   (with an API key set)"
    return 'run this once with mode="auto" (or NBREPLAY_MODE=auto), and an API key set'


def _find_nearest(request: Request, store: Store) -> tuple[str | None, tuple[Difference, ...]]:
    try:
        recordings = store.newest(request.kind, _NEAREST_AMONG)
    except NbreplayError:
        recordings = []
    candidates = ((name, differences(fields, request.fields)) for name, fields in recordings)
    return min(candidates, key=lambda candidate: sum(map(_weight, candidate[1])), default=(None, ()))


def _weight(item: Difference) -> int:
    """Another model or another question is farther away than many changed settings."""
    return 20 if item.path in _HEAVY or item.path.endswith(("content", "text")) else 1


def differences(recorded: Mapping[str, Any], sent: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return the fields in which two canonical requests differ."""
    one, other = _leaves(recorded), _leaves(sent)
    return tuple(
        Difference(path, _value(one, path), _value(other, path))
        for path in dict.fromkeys([*other, *one])
        if _differ(one.get(path, _ABSENT), other.get(path, _ABSENT))
    )


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


def _describe(differing: tuple[Difference, ...]) -> list[str]:
    lines = []
    for item in differing[:_SHOWN]:
        old, new = _cut(item.recorded, item.asked)
        lines += [item.path, f"  recorded  {old}", f"  asked     {new}"]
    if len(differing) > _SHOWN:
        lines.append(f"and {len(differing) - _SHOWN} more; nbreplay diff shows all")
    return lines


def _cut(one: str | None, other: str | None) -> tuple[str, str]:
    """Cut two long texts to the surroundings of their first difference."""
    start = 0
    if one is not None and other is not None and max(len(one), len(other)) > 100:
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        start = max(0, same - 30)
    ellipsis = "…" if start else ""

    def cut(text: str | None) -> str:
        return "(absent)" if text is None else ellipsis + _shorten(_CONTROLS.sub("�", text[start:]), 100)

    return cut(one), cut(other)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _suggest_option(differing: tuple[Difference, ...], request: Request, cell: Cell | None) -> str:
    """Return the option that makes the nearest recording answer, where the difference changes from run to run."""
    texts = [(item.recorded, item.asked) for item in differing]
    outside = request.fields.keys() - {"body", "arguments"}
    if any(re.split(r"[.\[]", item.path)[0] in outside for item in differing):
        return ""  # options reach bodies only
    if any(side and side.startswith('"@') for pair in texts for side in pair):
        return ""  # an id that stands for another request is replaced before an option applies
    if all(one and other and one[0] == other[0] == '"' for one, other in texts):
        for name, pattern in _CHANGING:
            if all(re.sub(pattern, MASKED, one or "") == re.sub(pattern, MASKED, other or "") for one, other in texts):
                return f"only {name} differs: {_format_option(cell, 'mask', pattern)} makes that recording answer"
    paths = [item.path for item in differing]
    if len(differing) == 1 or (len(differing) <= _SHOWN and all(None in pair for pair in texts)):
        option = _format_option(cell, "ignore", *paths)
        return f"if {', '.join(paths)} does not matter: {option} makes that recording answer"
    return ""


def _format_option(cell: Cell | None, name: str, *values: str) -> str:
    if cell:
        return " ".join(["%replay replay", *(f"--{name} {shlex.quote(value)}" for value in values)])
    literals = [f"r'{value}'" if name == "mask" and "'" not in value else repr(value) for value in values]
    return f"nbreplay.session(..., {name}=[{', '.join(literals)}])"


def describe_used_up(takes: int, count: int) -> str:
    """Return that all takes are used up, such as ``recorded twice, asked a 3rd time``."""
    times = {1: "once", 2: "twice"}.get(takes, f"{takes} times")
    ending = "th" if 10 < count % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"recorded {times}, asked a {count}{ending} time"
