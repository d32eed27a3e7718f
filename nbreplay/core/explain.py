"""The explanation of a miss: the nearest recording, its differences from the request, and the remedy."""

from __future__ import annotations

import json
import os
import re
import shlex

import msgspec

from nbreplay.core.advice import Place, advise
from nbreplay.core.cell import Cell
from nbreplay.core.config import Mode, Options
from nbreplay.core.nearest import MOST, Difference, differences, find_nearest
from nbreplay.core.recording.recording import file_name
from nbreplay.core.recording.take import dumps
from nbreplay.core.request.request import Call, Request, last_user_text
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.store import Store
from nbreplay.core.variable_text import Proposal
from nbreplay.core.words import shorten
from nbreplay.errors import NbreplayError

_LINES = 6  # about differences
_SHORT = 40  # characters; two longer values stand below each other
_LONG = 100
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_AND_LINES = re.compile(f"{_CONTROLS.pattern}+")
_HALVES = re.compile("[\ud800-\udfff]")  # of surrogate pairs, which no terminal can show


class Miss(msgspec.Struct, frozen=True):
    """Why a request has no answer."""

    text: str  # the whole explanation, for people
    nearest: str | None = None  # the file that comes closest
    differences: tuple[Difference, ...] = ()
    masks: tuple[Proposal, ...] = ()  # they alone make it answer, if there are any


def explain(
    request: Request | None,
    call: Call,
    store: Store,
    cell: Cell | None,
    options: Options,
    why: str = "",
    remedy: str = "",
    *,
    search: bool = False,
    most: int = MOST,
    place: Place = Place.PYTHON,
) -> Miss:
    """Return the reason for which a call has no answer, and the remedy.

    Parameters
    ----------
    request : Request or None
        None if the call could not be read.
    call, store, cell, options
        The call, and where it was made; the mode of `options` is the one in force.
    why : str, optional
        The reason; otherwise it is that nothing is recorded, and the nearest recording is looked for.
    remedy : str, optional
        What to do if recording the call is not the remedy.
    search : bool, optional
        Whether to look for the nearest recording although there is a reason.
    most : int, optional
        How many recordings to look at for it.
    place : Place, optional
        Where the user writes options.
    """
    name = f"{request.kind} {request.model}".strip() if request else f"{call.method} {call.host}"
    rows = [("cell", str(cell))] if cell else []
    if request:
        rows += [("asked", f"{name} · {_describe_question(request, call)}"), ("key", request.key)]
    rows.append(("store", f"{store.shown} ({options.mode.value}{', read-only' if store.archive else ''})"))
    rows += [("why", why)] if why else []
    nearest, differing, advice = None, tuple[Difference, ...](), None
    if request and (search or not why):
        if (found := find_nearest(request, store, most)) is None:
            missing = "" if store.path.exists() else ", which does not exist"
            rows.append(("" if why else "why", f"no {request.kind} recording in this store{missing}"))
        else:
            nearest, fields = found
            differing = differences(fields, request.fields)
            rows.append(("nearest", nearest))
            rows += [("" if number else "differs", line) for number, line in enumerate(_describe(differing))]
            if not differing:
                own = file_name(request.kind, request.key)
                rows.append(("why", f"{nearest} holds this very request under another name or key. Rename it to {own}"))
            else:
                upgrade = _describe_upgrade(differing, _sdk_of(store, nearest), call.sdk)
                rows += [("why", upgrade)] if upgrade else []
                advice = advise(fields, request, differing, options)
    rows.append(("to fix", remedy or suggest_recording(cell, store, place)))
    if advice:
        rows += [("" if number else "or", line) for number, line in enumerate(advice.lines(place, options))]
    masks = advice.masks if advice and not advice.ignore else ()
    return Miss(_text(f"no recorded answer for this {name} call", rows), nearest, differing, masks)


def explain_message(
    recorded: object,
    sent: object,
    number: int,
    total: int,
    call: Call,
    store: Store,
    cell: Cell | None,
    options: Options,
    *,
    place: Place = Place.PYTHON,
) -> Miss:
    """Return why a message of a websocket, the `number`-th of `total`, has no answer.

    Messages are JSON or text. None for `recorded` means that no further one was, for `sent` that the client waits.
    """
    rows = [("cell", str(cell))] if cell else []
    rows.append(("asked", f"GET {call.host}{call.target.partition('?')[0]} · message {number} of {total}"))
    rows.append(("store", f"{store.shown} ({options.mode.value}{', read-only' if store.archive else ''})"))
    differing = tuple[Difference, ...]()
    if sent is None and recorded is None:
        rows.append(("why", "the client waits for a message, and no more came when this was recorded"))
    elif sent is None:
        rows.append(("why", "the client waits for an answer to a message that it has not sent"))
    elif recorded is None:
        rows.append(("why", "the recorded client sent no more messages"))
    else:
        if isinstance(recorded, dict | list) and isinstance(sent, dict | list):
            differing = differences({"body": recorded}, {"body": sent})
        rows += [("" if count else "differs", line) for count, line in enumerate(_describe(differing))]
    # The fields that differ show both texts already.
    texts = [
        None if differing or each is None else each if isinstance(each, str) else dumps(each)
        for each in (recorded, sent)
    ]
    rows += [
        (label, text)
        for label, text, value in zip(("recorded", "sent"), _cut(*texts), texts, strict=True)
        if value is not None
    ]
    runs_again = cell and place is Place.MAGIC and options.mode is Mode.AUTO and "NBREPLAY_NOTEBOOK" not in os.environ
    again = "run this cell again, which records the session anew   (with an API key set)"
    rows.append(("to fix", again if runs_again else suggest_recording(cell, store, place, anew=True)))
    return Miss(_text("no recorded answer for this websocket message", rows), None, differing)


def _text(first: str, rows: list[tuple[str, str]]) -> str:
    width = max(len(label) for label, _ in rows)
    lines = [f"  {label:<{width}}  {value}".rstrip() for label, value in rows]
    return _HALVES.sub("�", "\n".join([first, *lines]))


def _describe_question(request: Request, call: Call) -> str:
    if request.kind == "tool":
        arguments = json.dumps(request.body, ensure_ascii=False)
        return shorten(_CONTROLS_AND_LINES.sub(" ", arguments), 80)
    if text := last_user_text(request.fields):
        return json.dumps(shorten(_CONTROLS_AND_LINES.sub(" ", text).strip(), 80), ensure_ascii=False)
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


def suggest_recording(
    cell: Cell | None, store: Store, place: Place, *, keeps_errors: bool = False, anew: bool = False
) -> str:
    """Return how to record a call; one that failed, and may again, if `keeps_errors`; one that is there, if `anew`."""
    mode = "record" if anew else "auto"
    if keeps_errors and not store.archive:
        if notebook := os.environ.get("NBREPLAY_NOTEBOOK"):
            return f"nbreplay run {shlex.quote(notebook)} --mode auto --update --keep-errors, which keeps the failure"
        if cell and place is Place.MAGIC:
            return "put %%replay record as the first line of this cell and run it, which keeps the failure"
        if place is Place.SERVER:
            return f"nbreplay serve {shlex.quote(store.shown)} --mode record, which keeps the failure"
        return 'run this once with mode="record", which keeps the failure'
    if store.archive:
        return f"unzip this store, which is read-only, and name the folder with {mode}   (with an API key set)"
    if notebook := os.environ.get("NBREPLAY_NOTEBOOK"):
        return f"nbreplay run {shlex.quote(notebook)} --mode {mode} --update   (with an API key set)"
    if cell and place is Place.MAGIC:
        return f"put %%replay {mode} as the first line of this cell and run it   (with an API key set)"
    if place is Place.SERVER:
        return f"nbreplay serve {shlex.quote(store.shown)} --mode {mode}   (with an API key set)"
    return f'run this once with mode="{mode}" (or NBREPLAY_MODE={mode}), and an API key set'


def _describe(differing: tuple[Difference, ...]) -> list[str]:
    """Return lines about the fields that differ: as many fields as have room, and the number of the others."""
    lines: list[str] = []
    for number, item in enumerate(differing):
        path, (old, new) = shorten(_CONTROLS.sub("�", item.path), _LONG), _cut(item.recorded, item.asked)
        if len(path) + len(old) + len(new) <= 2 * _SHORT:
            about = [f"{path}: recorded {old}, asked {new}"]
        else:
            about = [path, f"  recorded  {old}", f"  asked     {new}"]
        if lines and len(lines) + len(about) > _LINES:
            return [*lines, f"and {len(differing) - number} more"]
        lines += about
    return lines


def _cut(one: str | None, other: str | None) -> tuple[str, str]:
    """Cut two long texts to the surroundings of their first difference."""
    start = 0
    if one is not None and other is not None and max(len(one), len(other)) > _LONG:
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        start = max(0, same - 30)
        word = one.rfind(" ", max(0, start - 20), start) + 1
        start = word or start
    ellipsis = "…" if start else ""

    def cut(text: str | None) -> str:
        return "(absent)" if text is None else ellipsis + shorten(_CONTROLS.sub("�", text[start:]), _LONG)

    return cut(one), cut(other)


def describe_used_up(takes: int, count: int) -> str:
    """Return that all takes are used up, such as ``recorded twice, asked a 3rd time``."""
    times = {1: "once", 2: "twice"}.get(takes, f"{takes} times")
    ending = "th" if 10 < count % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"recorded {times}, asked a {count}{ending} time"
