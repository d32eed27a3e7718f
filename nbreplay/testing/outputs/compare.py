"""Comparing the outputs of a run with the stored outputs of a notebook, by the meaning of each MIME type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from nbreplay.testing.notebook_file import is_skipped, requested_check
from nbreplay.testing.outputs import diff, images, json_lines
from nbreplay.testing.outputs.diff import Difference
from nbreplay.testing.outputs.sanitise import Rules, mask_markup, mask_text, render_stream

_WIDGET = "application/vnd.jupyter.widget-view+json"


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
        return tuple(sorted((name, self._hash(name, value)) for name, value in bundle.items()))

    def _hash(self, name: str, value: Any) -> int:
        kind = _kind_of(name, value)
        return 0 if kind.diff else hash("\n".join(kind.lines(self, name, value)))

    def _diff_bundles(self, old: dict[str, Any], new: dict[str, Any], number: str) -> list[str]:
        lines = []
        for name in sorted({**old, **new}, key=lambda name: (name.startswith("text/plain"), name)):
            if name not in new:
                lines_of_kind = diff.one_sided_lines("-", self._lines(name, old[name]))
            elif name not in old:
                lines_of_kind = diff.one_sided_lines("+", self._lines(name, new[name]))
            else:
                lines_of_kind = self._diff_values(name, old[name], new[name])
            lines += [f"  [{number}{name}]", *lines_of_kind] if lines_of_kind else []
        return lines

    def _diff_values(self, name: str, old: Any, new: Any) -> list[str]:
        if isinstance(old, str) and old == new:
            return []
        kind = _kind_of(name, old)
        if kind.diff and _kind_of(name, new) is kind:
            return kind.diff(self, name, old, new)
        before, after = self._lines(name, old), self._lines(name, new)
        return [] if before == after else diff.diff_lines(before, after)

    def _lines(self, name: str, value: Any) -> list[str]:
        return _kind_of(name, value).lines(self, name, value)

    def mask(self, text: str) -> str:
        """Return a text without what differs from run to run."""
        return mask_text(text, self.rules)


class _Kind(NamedTuple):
    """How values of some MIME types are compared; `diff` is given where comparing their lines is not enough."""

    pattern: str
    lines: Callable[[_Comparison, str, Any], list[str]]
    diff: Callable[[_Comparison, str, Any, Any], list[str]] | None = None


def _diff_images(comparison: _Comparison, name: str, old: str, new: str) -> list[str]:
    descriptions = images.compare_images(name, old, new, comparison.rules.tolerance)
    return [f"- {descriptions[0]}", f"+ {descriptions[1]}"] if descriptions else []


def _diff_widgets(comparison: _Comparison, _: str, old: Any, new: Any) -> list[str]:
    before, after = json_lines.widget_lines(old, new, comparison.states, comparison.mask)
    return [] if before == after else diff.diff_lines(before, after)


def _join(value: Any) -> str:
    return value if isinstance(value, str) else "".join(value)


_KINDS = (
    _Kind(re.escape(_WIDGET), lambda *_: ["widget"], _diff_widgets),
    _Kind(r"image/(?!svg\+xml$).*", lambda _, name, value: [images.describe_image(name, value)], _diff_images),
    _Kind(
        r"text/html|image/svg\+xml|application/(x-)?javascript|text/javascript|application/xhtml\+xml",
        lambda comparison, _, value: mask_markup(_join(value), comparison.rules).split("\n"),
    ),
    _Kind(r"(?!application/(.*\+)?json$).*", lambda comparison, _, value: comparison.mask(_join(value)).split("\n")),
    _Kind(r".*", lambda comparison, _, value: json_lines.flatten(value, comparison.mask)),
)
"""The kinds of outputs. The first one whose pattern matches counts; a value that is not a text is compared as JSON."""


def _kind_of(name: str, value: Any) -> _Kind:
    is_lines = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if isinstance(value, str) or name == _WIDGET:
        kinds: Sequence[_Kind] = _KINDS
    else:
        kinds = _KINDS[2:] if is_lines else _KINDS[-1:]
    return next(kind for kind in kinds if re.fullmatch(kind.pattern, name, re.DOTALL))


def _stream_text(outputs: Sequence[Mapping[str, Any]], name: str) -> str:
    texts = [
        output.get("text", "")
        for output in outputs
        if output.get("output_type") == "stream" and output.get("name") == name
    ]
    return render_stream("".join(text if isinstance(text, str) else "".join(map(str, text)) for text in texts))


def _diff_texts(old: str, new: str) -> list[str]:
    return diff.diff_lines(old.split("\n") if old else [], new.split("\n") if new else [])
