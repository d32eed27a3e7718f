"""Comparing the outputs of a run with the stored outputs of a notebook, by the meaning of each MIME type."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal

import msgspec

from nbreplay.core.variable_text import Proposal, propose_masks, replace_variable
from nbreplay.testing.installs import find_installs
from nbreplay.testing.notebook_file import is_skipped, own_outputs, requested_check
from nbreplay.testing.outputs.diff import Difference, diff_lines, make_difference, one_sided_lines
from nbreplay.testing.outputs.images import compare_images, describe_image
from nbreplay.testing.outputs.sanitise import Rules, mask_markup, mask_text, render_stream

_WIDGET = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_CARDS = ' data-nbreplay="'
_REFERENCE = "IPY_MODEL_"
# They change with the version of a library, or from run to run.
_UNCOMPARED = frozenset({"_css", "_esm", "_model_module_version", "_view_count", "_view_module_version", "msg_id"})
_MARKUP = re.compile(r"text/html|image/svg\+xml|application/(x-)?javascript|text/javascript|application/xhtml\+xml")
_JSON = re.compile(r"application/(.*\+)?json", re.DOTALL)


def compare(stored: Any, executed: Any, rules: Rules, *, replays: bool = False) -> list[Difference]:
    """Return how the outputs of a run differ from the stored ones, per cell, and the masks that would make them equal.

    `replays` tells that both are replays of the same recordings, so that whatever differs varies by itself.
    """
    comparison = _Comparison((widget_states(stored), widget_states(executed)), rules)
    return [
        make_difference(index, old.source, lines, comparison.propose_masks(*outputs, numbers=replays))
        for index, (old, new) in enumerate(zip(stored.cells, executed.cells, strict=False), 1)
        if _is_compared(old, rules)
        and (lines := comparison.diff_cells(*(outputs := (_compared_outputs(old), _compared_outputs(new)))))
    ]


def restore_equal_outputs(stored: Any, executed: Any, rules: Rules) -> None:
    """Give cells of an executed notebook their stored outputs back where these are equal, so that an update keeps them.

    In what is not compared, as stderr or the cell of a tag, dates, durations and the like do not count.
    """
    states = (widget_states(stored), widget_states(executed))
    exact = _Comparison(states, msgspec.structs.replace(rules, ignore=()))
    tolerant = _Comparison(states, msgspec.structs.replace(rules, ignore=(), stderr=True), is_tolerant=True)
    pairs = [(old, new) for old, new in zip(stored.cells, executed.cells, strict=False) if old.cell_type == "code"]
    equal = [
        new.cell_type == "code"
        and not any(_is_replaced(*bundles) for bundles in zip(_bundles(old), _bundles(new), strict=False))
        and tolerant.are_interchangeable(old.outputs, new.outputs)
        and (not _is_compared(old, rules) or not exact.diff_cells(old.outputs, new.outputs))
        for old, new in pairs
    ]
    # All widgets of a notebook share one state, which belongs to the run that displayed them.
    widgets = [
        any(_WIDGET in (output.get("data") or {}) for cell in pair for output in cell.get("outputs", ()))
        for pair in pairs
    ]
    keeps_widgets = "widgets" in stored.metadata and all(
        is_equal for is_equal, has_widget in zip(equal, widgets, strict=True) if has_widget
    )
    for (old, new), is_equal, has_widget in zip(pairs, equal, widgets, strict=True):
        if is_equal and (keeps_widgets or not has_widget):
            new.outputs = old.outputs
    if keeps_widgets and any(widgets):
        executed.metadata["widgets"] = stored.metadata["widgets"]
    elif not _has_widgets(executed):
        executed.metadata.pop("widgets", None)  # those of the stored notebook


def _is_compared(cell: Any, rules: Rules) -> bool:
    if cell.cell_type != "code" or is_skipped(cell):
        return False
    if not cell.get("outputs") and cell.get("execution_count") is None:
        return False  # never run
    check = requested_check(cell)
    return check == "compare" or (check is None and rules.compare and not find_installs(cell.source).are_all)


def _compared_outputs(cell: Any) -> list[Mapping[str, Any]]:
    """Return the outputs of a cell without the streams if it installs packages, since they say what was there."""
    outputs = own_outputs(cell)
    if requested_check(cell) == "compare" or not find_installs(cell.source).commands:
        return outputs
    return [output for output in outputs if output.get("output_type") != "stream"]


class _Change(msgspec.Struct, frozen=True):
    """How one output of a cell differs."""

    label: str  # a stream, or a MIME type
    lines: list[str]  # the diff
    texts: tuple[list[str], list[str]] | None = None  # the lines of both sides; None for an image


class _Comparison(msgspec.Struct, frozen=True):
    """The states of the widgets in two notebooks, and the rules for comparing outputs."""

    states: tuple[Mapping[str, Any], Mapping[str, Any]]
    rules: Rules
    is_tolerant: bool = False  # whether text that varies by itself does not count

    def diff_cells(self, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the differences between the outputs of two cells, as lines."""
        return [line for change in self._changes(old, new) for line in (f"  [{change.label}]", *change.lines)]

    def propose_masks(
        self, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], *, numbers: bool
    ) -> tuple[Proposal, ...]:
        """Return the masks that make the outputs of two cells equal, if there are any."""
        texts = [change.texts for change in self._changes(old, new)]
        if None in texts:
            return ()
        before, after = (["\n".join(lines[side]) for lines in texts if lines] for side in (0, 1))
        masks = propose_masks(before, after, numbers=numbers)
        patterns = (*self.rules.mask, *(mask.pattern for mask in masks))
        masked = _Comparison(self.states, msgspec.structs.replace(self.rules, mask=patterns))
        return () if masked.diff_cells(old, new) else masks

    def _changes(self, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[_Change]:
        for name in ("stdout", "stderr"):
            if not self.rules.ignores(name):
                before, after = (self._mask(_stream_text(outputs, name)) for outputs in (old, new))
                if before != after:
                    first, second = (text.split("\n") if text else [] for text in (before, after))
                    yield _Change(name, diff_lines(first, second), (first, second))
        bundles = self._bundles(old), self._bundles(new)
        many = max(map(len, bundles)) > 1
        for number, (one, other) in enumerate(self._pairs(*bundles), 1):
            for change in self._bundle_changes(one, other):
                yield msgspec.structs.replace(change, label=f"output {number}, {change.label}") if many else change

    def are_interchangeable(self, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether the outputs of two cells are equal, each in the state of the widgets of its own run."""
        rest = ([self._parts_not_compared(output) for output in outputs] for outputs in (old, new))
        return next(rest) == next(rest) and not self.diff_cells(old, new)

    def _parts_not_compared(self, output: Mapping[str, Any]) -> tuple[Any, ...]:
        traceback = self._mask("\n".join(output.get("traceback") or ()))
        return output.get("output_type"), output.get("name"), output.get("metadata"), traceback

    def _bundles(self, outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the displayed outputs other than streams: values by MIME type, and errors."""
        bundles = []
        for output in outputs:
            if output.get("output_type") == "stream":
                continue
            if output.get("output_type") == "error":
                bundle: dict[str, Any] = {"error": f"{output.get('ename', '')}: {output.get('evalue', '')}"}
            else:
                data = output.get("data")
                bundle = dict(data) if isinstance(data, Mapping) else {}
            if _WIDGET in bundle:
                bundle.pop("text/plain", None)  # the text depends on the version of the widget
            bundles.append({kind: value for kind, value in bundle.items() if not self.rules.ignores(kind)})
        return list(filter(None, bundles))

    def _pairs(
        self, old: list[dict[str, Any]], new: list[dict[str, Any]]
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return pairs of outputs to compare; ``{}`` stands for a missing output."""
        if len(old) == len(new):
            return list(zip(old, new, strict=True))
        first, second = ([self._fingerprint(bundle) for bundle in bundles] for bundles in (old, new))
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for _, low, high, other_low, other_high in difflib.SequenceMatcher(None, first, second, False).get_opcodes():
            pairs += zip_longest(old[low:high], new[other_low:other_high], fillvalue={})
        return pairs

    def _fingerprint(self, bundle: dict[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return a key to align outputs by. Images and widgets count by kind only, since similar ones may be equal."""
        return tuple(
            (name, () if _kind(name, value) in ("widget", "image") else tuple(self._lines(name, value)))
            for name, value in sorted(bundle.items(), key=lambda item: item[0])
        )

    def _bundle_changes(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[_Change]:
        if _is_replaced(old, new):
            kept = {"text/markdown"}
            old, new = ({name: value for name, value in one.items() if name in kept} for one in (old, new))
        for name in sorted({**old, **new}, key=lambda name: (name.startswith("text/plain"), name)):
            if name not in new:
                lines = self._lines(name, old[name])
                yield _Change(name, one_sided_lines("-", lines), (lines, []))
            elif name not in old:
                lines = self._lines(name, new[name])
                yield _Change(name, one_sided_lines("+", lines), ([], lines))
            elif (change := self._value_change(name, old[name], new[name])).lines:
                yield change

    def _value_change(self, name: str, old: Any, new: Any) -> _Change:
        if isinstance(old, str) and old == new:
            return _Change(name, [])
        if _kind(name, old) == _kind(name, new) == "image":
            descriptions = compare_images(name, old, new, self.rules.tolerance)
            return _Change(name, [f"- {descriptions[0]}", f"+ {descriptions[1]}"] if descriptions else [])
        if name == _WIDGET:
            texts = widget_lines(old, new, self.states, self._mask)
        else:
            texts = self._lines(name, old), self._lines(name, new)
        return _Change(name, diff_lines(*texts), texts)

    def _lines(self, name: str, value: Any) -> list[str]:
        """Return a value as lines, without what differs from run to run."""
        match _kind(name, value):
            case "widget":
                return ["widget"]
            case "image":
                return [describe_image(name, value)]
            case "markup":
                return mask_markup(_join(value), self.rules).split("\n")
            case "text":
                return self._mask(_join(value)).split("\n")
            case "json":
                return flatten(value, self._mask)

    def _mask(self, text: str) -> str:
        text = mask_text(text, self.rules)
        return replace_variable(text) if self.is_tolerant else text


def _bundles(cell: Any) -> list[Mapping[str, Any]]:
    return [output.get("data") or {} for output in cell.get("outputs", ())]


def _has_widgets(notebook: Any) -> bool:
    """Return whether a notebook shows a widget: as an output of its own, or in the place of HTML."""
    shown = [data for cell in notebook.cells for data in _bundles(cell)]
    pages = "".join(_join(data.get("text/html", "")) for data in shown if _CARDS in str(data.get("text/html", "")))
    places = [model.get("state", {}).get("place") for model in widget_states(notebook).values()]
    return any(_WIDGET in data for data in shown) or any(f'{_CARDS}{place}"' in pages for place in places if place)


def _is_replaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether both are cards of nbreplay, but the old ones a widget, which JupyterLab does not store."""
    html = new.get("text/html", "")
    return _WIDGET in old and _WIDGET not in new and isinstance(html, str | list) and _CARDS in _join(html)


def _kind(name: str, value: Any) -> Literal["widget", "image", "markup", "text", "json"]:
    """Return how a value of a MIME type is compared. One that is neither a text nor its lines is compared as JSON."""
    if name == _WIDGET:
        return "widget"
    if isinstance(value, str) and name.startswith("image/") and name != "image/svg+xml":
        return "image"
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        return "markup" if _MARKUP.fullmatch(name) else "json" if _JSON.fullmatch(name) else "text"
    return "json"


def _stream_text(outputs: Sequence[Mapping[str, Any]], name: str) -> str:
    streams = [output for output in outputs if output.get("output_type") == "stream" and output.get("name") == name]
    return render_stream("".join(_join(output.get("text", "")) for output in streams))


def _join(text: str | list[Any]) -> str:
    return text if isinstance(text, str) else "".join(map(str, text))


def flatten(value: Any, text: Callable[[str], str], path: str = "") -> list[str]:
    """Return one line per JSON value, with its path. `text` is applied to strings."""
    lines: list[str] = []
    pending: list[tuple[str, Any]] = [(path, value)]  # not recursive, since values may be nested deeply
    while pending:
        where, node = pending.pop()
        if isinstance(node, Mapping) and node:
            named = sorted(((str(name), item) for name, item in node.items()), key=lambda item: item[0])
            items = sorted(((_step(text(name)), item) for name, item in named), key=_order)
            pending.extend((where + step, item) for step, item in reversed(items))
        elif isinstance(node, list | tuple) and node:
            pending.extend((f"{where}[{place}]", item) for place, item in reversed(list(enumerate(node))))
        else:
            lines.append(f"{where or '.'}: {_scalar(node, text)}")
    return lines


def _order(item: tuple[str, Any]) -> tuple[str, str]:
    """Return a key to sort steps by. Where a mask made several equal, their scalars decide."""
    step, node = item
    return step, "" if isinstance(node, Mapping | list | tuple) else _scalar(node, str)


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
    first, second = (str(view.get("model_id", "")) if isinstance(view, Mapping) else "" for view in (old, new))
    if first not in states[0]:
        return ["widget"], ["widget"]
    ids: tuple[list[str], list[str]] = ([first], [second])
    lines: tuple[list[str], list[str]] = ([], [])
    place = 0
    while place < max(map(len, ids)):
        models = [_model(side, references, place) for side, references in zip(states, ids, strict=True)]
        names = _compared_names(*(model.get("state", {}) for model in models))
        for side, model in enumerate(models):
            if place < len(ids[side]):
                # A trait without a value is as one that another version of ipywidgets does not have.
                state = {name: item for name, item in model.get("state", {}).items() if name in names}
                value = {
                    "widget": f"{model.get('model_module')}.{model.get('model_name')}" if model else None,
                    "state": {name: item for name, item in state.items() if item is not None},
                    "buffers": model.get("buffers") or [],
                }
                lines[side].extend(flatten(value, _number_references(ids[side], text), f"widget {place + 1}"))
        place += 1
    return lines


def _model(models: Mapping[str, Any], ids: list[str], place: int) -> Mapping[str, Any]:
    model = models.get(ids[place]) if place < len(ids) else None
    return model if isinstance(model, Mapping) and isinstance(model.get("state", {}), Mapping) else {}


def _compared_names(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """Return the names to compare in two states. JupyterLab does not store default values."""
    same_completeness = ("_model_module" in old) == ("_model_module" in new)
    return (set(old) | set(new) if same_completeness else set(old) & set(new)) - _UNCOMPARED


def _number_references(ids: list[str], text: Callable[[str], str]) -> Callable[[str], str]:
    """Return a function that replaces references to models by numbers, and adds new ones to `ids`."""
    places = {name: place for place, name in enumerate(ids)}

    def replace(value: str) -> str:
        if not value.startswith(_REFERENCE):
            return text(value)
        name = value.removeprefix(_REFERENCE)
        if name not in places:
            places[name] = len(ids)
            ids.append(name)
        return f"widget {places[name] + 1}"

    return replace
