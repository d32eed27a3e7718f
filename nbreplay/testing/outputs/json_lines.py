"""JSON values as comparable lines of text: of outputs, and of the state of widgets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_STATE = "application/vnd.jupyter.widget-state+json"
_REFERENCE = "IPY_MODEL_"
# They change with the version of a library, or from run to run.
_UNCOMPARED = frozenset({"_css", "_esm", "_model_module_version", "_view_count", "_view_module_version", "msg_id"})


def flatten(value: Any, text: Callable[[str], str], path: str = "") -> list[str]:
    """Return one line per JSON value, with its path. `text` is applied to strings."""
    lines: list[str] = []
    pending: list[tuple[str, Any]] = [(path, value)]  # not recursive, since values may be nested deeply
    while pending:
        where, node = pending.pop()
        if isinstance(node, Mapping) and node:
            items = sorted((_step(text(str(name))), item) for name, item in _sort_items(node))
            pending.extend((where + step, item) for step, item in reversed(items))
        elif isinstance(node, list | tuple) and node:
            pending.extend((f"{where}[{place}]", item) for place, item in reversed(list(enumerate(node))))
        else:
            lines.append(f"{where or '.'}: {_scalar(node, text)}")
    return lines


def _sort_items(node: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(node.items(), key=lambda item: str(item[0]))


def _step(name: str) -> str:
    return f".{name}" if re.fullmatch(r"[\w-]+", name) else f"[{json.dumps(name, ensure_ascii=False)}]"


def _scalar(node: Any, text: Callable[[str], str]) -> str:
    if isinstance(node, str):
        return json.dumps(text(node), ensure_ascii=False)
    # JavaScript, and so JupyterLab, writes 1.0 as 1.
    if isinstance(node, float) and node.is_integer() and abs(node) < 2**53:
        node = int(node)
    return json.dumps(node, default=repr)


def widget_states(notebook: Any) -> Mapping[str, Any]:
    """Return the models of a notebook's widgets, by id."""
    states: Any = notebook.get("metadata", {})
    for name in ("widgets", _STATE, "state"):
        states = states.get(name) if isinstance(states, Mapping) else None
    return states if isinstance(states, Mapping) else {}


def widget_lines(
    old: Any, new: Any, states: tuple[Mapping[str, Any], Mapping[str, Any]], text: Callable[[str], str]
) -> tuple[list[str], list[str]]:
    """Return the states of two widgets as lines: of their models, and of all models they refer to.

    Models are numbered in the order of their references, since ids are random. If the stored notebook has no state of
    the model, there is one line, ``widget``.
    """
    first, second = _id(old), _id(new)
    if first not in states[0]:
        return ["widget"], ["widget"]
    ids: tuple[list[str], list[str]] = ([first], [second])
    lines: tuple[list[str], list[str]] = ([], [])
    place = 0
    while place < max(map(len, ids)):
        models = [_model(side, references, place) for side, references in zip(states, ids, strict=True)]
        names = _names(*(model.get("state", {}) for model in models))
        for side, model in enumerate(models):
            if place < len(ids[side]):
                value = {
                    "widget": f"{model.get('model_module')}.{model.get('model_name')}" if model else None,
                    "state": {name: item for name, item in model.get("state", {}).items() if name in names},
                    "buffers": model.get("buffers") or [],
                }
                lines[side].extend(flatten(value, _number_references(ids[side], text), f"widget {place + 1}"))
        place += 1
    return lines


def _id(view: Any) -> str:
    return str(view.get("model_id", "")) if isinstance(view, Mapping) else ""


def _model(models: Mapping[str, Any], ids: list[str], place: int) -> Mapping[str, Any]:
    model = models.get(ids[place]) if place < len(ids) else None
    return model if isinstance(model, Mapping) and isinstance(model.get("state", {}), Mapping) else {}


def _names(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Return the names to compare in two states. JupyterLab does not store default values."""
    full = [bool(state) and "_model_module" in state for state in (old, new)]
    names = set(old) | set(new) if full[0] == full[1] else set(old) & set(new)
    return names - _UNCOMPARED


def _number_references(ids: list[str], text: Callable[[str], str]) -> Callable[[str], str]:
    def replace(value: str) -> str:
        if not value.startswith(_REFERENCE):
            return text(value)
        name = value.removeprefix(_REFERENCE)
        if name not in places:
            places[name] = len(ids)
            ids.append(name)
        return f"widget {places[name] + 1}"

    places = {name: place for place, name in enumerate(ids)}
    return replace
