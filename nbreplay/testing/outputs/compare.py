"""Comparing the outputs of a run with the stored outputs of a notebook, by the meaning of each MIME type."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from nbreplay.testing.notebook_file import is_skipped, requested_check
from nbreplay.testing.outputs import diff, images, json_lines
from nbreplay.testing.outputs.diff import Difference
from nbreplay.testing.outputs.sanitise import Rules, mask_markup, mask_text, render_stream

__all__ = ["compare"]

_WIDGET = "application/vnd.jupyter.widget-view+json"
_MARKUP = re.compile(r"text/html|image/svg\+xml|application/(x-)?javascript|text/javascript|application/xhtml\+xml")
_JSON = re.compile(r"application/(.*\+)?json")


def compare(stored: Any, executed: Any, rules: Rules) -> list[Difference]:
    """Return how the outputs of a run differ from the stored ones, per cell.

    Parameters
    ----------
    stored, executed : nbformat.NotebookNode
        The same notebook before and after the run.
    rules : Rules
    """
    differences = []
    comparison = _Comparison((json_lines.widget_states(stored), json_lines.widget_states(executed)), rules)
    for index, (old, new) in enumerate(zip(stored.cells, executed.cells, strict=False), 1):
        if not _is_compared(old, rules):
            continue
        lines = comparison.diff_cells(_own_outputs(old), _own_outputs(new))
        if lines:
            differences.append(diff.make_difference(index, old.source, lines))
    return differences


def _is_compared(cell: Any, rules: Rules) -> bool:
    if cell.cell_type != "code" or is_skipped(cell):
        return False
    if not cell.get("outputs") and cell.get("execution_count") is None:
        return False  # never run
    check = requested_check(cell)
    return check == "compare" or (check is None and rules.compare)


def _own_outputs(cell: Any) -> list[Mapping[str, Any]]:
    """Return the outputs of a cell without nbreplay's status display."""
    outputs = [output for output in cell.get("outputs") or [] if isinstance(output, Mapping)]
    return [output for output in outputs if (output.get("metadata") or {}).get("nbreplay") != "status"]


class _Comparison(msgspec.Struct, frozen=True):
    """The outputs of two notebooks, and the rules for comparing them."""

    states: tuple[Mapping[str, Any], Mapping[str, Any]]
    rules: Rules

    def diff_cells(self, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the differences between the outputs of two cells, as lines."""
        lines = []
        for name in ("stdout", "stderr"):
            if not self.rules.ignores(name):
                before, after = (mask_text(_stream_text(outputs, name), self.rules) for outputs in (old, new))
                if before != after:
                    lines += [f"  [{name}]", *_diff_texts(before, after)]
        first, second = self._bundles(old), self._bundles(new)
        many = max(len(first), len(second)) > 1
        for number, (one, other) in enumerate(self._pairs(first, second), 1):
            lines += self._diff_bundles(one, other, f"output {number}, " if many else "")
        return lines

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
            bundle = {kind: value for kind, value in bundle.items() if not self.rules.ignores(kind)}
            if bundle:
                bundles.append(bundle)
        return bundles

    def _pairs(
        self, old: list[dict[str, Any]], new: list[dict[str, Any]]
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return pairs of outputs to compare; ``{}`` stands for a missing output."""
        if len(old) == len(new):
            return list(zip(old, new, strict=True))
        first, second = ([self._fingerprint(bundle) for bundle in bundles] for bundles in (old, new))
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        codes = difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
        for _, low, high, other_low, other_high in codes:
            for place in range(max(high - low, other_high - other_low)):
                one = old[low + place] if low + place < high else {}
                other = new[other_low + place] if other_low + place < other_high else {}
                pairs.append((one, other))
        return pairs

    def _fingerprint(self, bundle: dict[str, Any]) -> tuple[tuple[str, int], ...]:
        """Return a key to align outputs by. Images and widgets count by kind only, since similar ones may be equal."""
        texts = [
            (kind, "" if _is_image(kind, value) else "\n".join(self._lines(kind, value)))
            for kind, value in bundle.items()
        ]
        return tuple(sorted((kind, 0 if kind == _WIDGET else hash(text)) for kind, text in texts))

    def _diff_bundles(self, old: dict[str, Any], new: dict[str, Any], number: str) -> list[str]:
        lines = []
        for kind in sorted({**old, **new}, key=lambda kind: (kind.startswith("text/plain"), kind)):
            if kind not in new:
                lines_of_kind = diff.one_sided_lines("-", self._lines(kind, old[kind]))
            elif kind not in old:
                lines_of_kind = diff.one_sided_lines("+", self._lines(kind, new[kind]))
            else:
                lines_of_kind = self._diff_values(kind, old[kind], new[kind])
            lines += [f"  [{number}{kind}]", *lines_of_kind] if lines_of_kind else []
        return lines

    def _diff_values(self, kind: str, old: Any, new: Any) -> list[str]:
        if isinstance(old, str) and old == new:
            return []
        if _is_image(kind, old) and _is_image(kind, new):
            descriptions = images.compare_images(kind, old, new, self.rules.tolerance)
            return [f"- {descriptions[0]}", f"+ {descriptions[1]}"] if descriptions else []
        if kind == _WIDGET:
            before, after = json_lines.widget_lines(old, new, self.states, self._text)
        else:
            before, after = self._lines(kind, old), self._lines(kind, new)
        return [] if before == after else diff.diff_lines(before, after)

    def _lines(self, kind: str, value: Any) -> list[str]:
        if kind == _WIDGET:
            return ["widget"]
        if _is_image(kind, value):
            return [images.describe_image(kind, value)]
        if isinstance(value, list) and not _JSON.fullmatch(kind) and all(isinstance(item, str) for item in value):
            value = "".join(value)
        if not isinstance(value, str) or _JSON.fullmatch(kind):
            return json_lines.flatten(value, self._text)
        return (mask_markup if _MARKUP.fullmatch(kind) else mask_text)(value, self.rules).split("\n")

    @property
    def _text(self) -> Callable[[str], str]:
        return functools.partial(mask_text, rules=self.rules)


def _is_image(kind: str, value: Any) -> bool:
    return kind.startswith("image/") and kind != "image/svg+xml" and isinstance(value, str)


def _stream_text(outputs: Sequence[Mapping[str, Any]], name: str) -> str:
    texts = [
        output.get("text", "")
        for output in outputs
        if output.get("output_type") == "stream" and output.get("name") == name
    ]
    return render_stream("".join(text if isinstance(text, str) else "".join(map(str, text)) for text in texts))


def _diff_texts(old: str, new: str) -> list[str]:
    return diff.diff_lines(old.split("\n") if old else [], new.split("\n") if new else [])
