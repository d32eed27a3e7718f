"""The outputs of a notebook's cells: whether a run displays what is stored."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from nbreplay.testing.outputs import diff, images, json_lines
from nbreplay.testing.outputs.diff import Difference
from nbreplay.testing.outputs.sanitise import Rules, masked, masked_markup, printed
from nbreplay.testing.tags import skipped, wanted

__all__ = ["compare"]

_WIDGET = "application/vnd.jupyter.widget-view+json"
_MARKUP = re.compile(r"text/html|image/svg\+xml|application/(x-)?javascript|text/javascript|application/xhtml\+xml")
_JSON = re.compile(r"application/(.*\+)?json")


def compare(stored: Any, executed: Any, rules: Rules) -> list[Difference]:
    """Return how the outputs of a run differ from those that are stored, by cell.

    Parameters
    ----------
    stored, executed : nbformat.NotebookNode
        The same notebook, before and after.
    rules : Rules
    """
    found = []
    both = _Both((json_lines.widget_states(stored), json_lines.widget_states(executed)), rules)
    for index, (old, new) in enumerate(zip(stored.cells, executed.cells, strict=False), 1):
        if not _compared(old, rules):
            continue
        lines = both.unlike(_shown(old), _shown(new))
        if lines:
            found.append(diff.difference(index, old.source, lines))
    return found


def _compared(cell: Any, rules: Rules) -> bool:
    if cell.cell_type != "code" or skipped(cell):
        return False
    if not cell.get("outputs") and cell.get("execution_count") is None:
        return False  # it was never run
    choice = wanted(cell)
    return choice == "compare" or (choice is None and rules.compare)


def _shown(cell: Any) -> list[Mapping[str, Any]]:
    """Return the outputs of a cell but nbreplay's own, which tell of the run."""
    outputs = [output for output in cell.get("outputs") or [] if isinstance(output, Mapping)]
    return [output for output in outputs if (output.get("metadata") or {}).get("nbreplay") != "status"]


class _Both(msgspec.Struct, frozen=True):
    """Two notebooks' outputs, under the rules."""

    states: tuple[Mapping[str, Any], Mapping[str, Any]]
    rules: Rules

    def unlike(self, old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the lines of how the outputs of two cells differ."""
        lines = []
        for name in ("stdout", "stderr"):
            if not self.rules.ignores(name):
                before, after = (masked(_streamed(outputs, name), self.rules) for outputs in (old, new))
                if before != after:
                    lines += [f"  [{name}]", *_unlike(before, after)]
        first, second = self._bundles(old), self._bundles(new)
        many = max(len(first), len(second)) > 1
        for number, (one, other) in enumerate(self._pairs(first, second), 1):
            lines += self._unlike_bundles(one, other, f"output {number}, " if many else "")
        return lines

    def _bundles(self, outputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return what is displayed besides streams: values by MIME type, and errors."""
        found = []
        for output in outputs:
            if output.get("output_type") == "stream":
                continue
            if output.get("output_type") == "error":
                bundle: dict[str, Any] = {"error": f"{output.get('ename', '')}: {output.get('evalue', '')}"}
            else:
                data = output.get("data")
                bundle = dict(data) if isinstance(data, Mapping) else {}
            if _WIDGET in bundle:
                bundle.pop("text/plain", None)  # the names and values of the widget, as its version writes them
            bundle = {kind: value for kind, value in bundle.items() if not self.rules.ignores(kind)}
            if bundle:
                found.append(bundle)
        return found

    def _pairs(
        self, old: list[dict[str, Any]], new: list[dict[str, Any]]
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Return which output is to be compared with which; ``{}`` stands for none."""
        if len(old) == len(new):
            return list(zip(old, new, strict=True))
        first, second = ([self._print(bundle) for bundle in bundles] for bundles in (old, new))
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        codes = difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()
        for _, low, high, other_low, other_high in codes:
            for place in range(max(high - low, other_high - other_low)):
                one = old[low + place] if low + place < high else {}
                other = new[other_low + place] if other_low + place < other_high else {}
                pairs.append((one, other))
        return pairs

    def _print(self, bundle: dict[str, Any]) -> tuple[tuple[str, int], ...]:
        """Return what outputs are aligned by; pictures and widgets that are alike need not be the same."""
        texts = [
            (kind, "" if _picture(kind, value) else "\n".join(self._lines(kind, value)))
            for kind, value in bundle.items()
        ]
        return tuple(sorted((kind, 0 if kind == _WIDGET else hash(text)) for kind, text in texts))

    def _unlike_bundles(self, old: dict[str, Any], new: dict[str, Any], number: str) -> list[str]:
        lines = []
        for kind in sorted({**old, **new}, key=lambda kind: (kind.startswith("text/plain"), kind)):
            if kind not in new:
                found = diff.gone("-", self._lines(kind, old[kind]))
            elif kind not in old:
                found = diff.gone("+", self._lines(kind, new[kind]))
            else:
                found = self._unlike_values(kind, old[kind], new[kind])
            lines += [f"  [{number}{kind}]", *found] if found else []
        return lines

    def _unlike_values(self, kind: str, old: Any, new: Any) -> list[str]:
        if isinstance(old, str) and old == new:
            return []
        if _picture(kind, old) and _picture(kind, new):
            apart = images.apart(kind, old, new, self.rules.tolerance)
            return [f"- {apart[0]}", f"+ {apart[1]}"] if apart else []
        if kind == _WIDGET:
            before, after = json_lines.widget(old, new, self.states, self._text)
        else:
            before, after = self._lines(kind, old), self._lines(kind, new)
        return [] if before == after else diff.unlike(before, after)

    def _lines(self, kind: str, value: Any) -> list[str]:
        if kind == _WIDGET:
            return ["widget"]
        if _picture(kind, value):
            return [images.described(kind, value)]
        if isinstance(value, list) and not _JSON.fullmatch(kind) and all(isinstance(item, str) for item in value):
            value = "".join(value)
        if not isinstance(value, str) or _JSON.fullmatch(kind):
            return json_lines.flattened(value, self._text)
        return (masked_markup if _MARKUP.fullmatch(kind) else masked)(value, self.rules).split("\n")

    @property
    def _text(self) -> Callable[[str], str]:
        return functools.partial(masked, rules=self.rules)


def _picture(kind: str, value: Any) -> bool:
    return kind.startswith("image/") and kind != "image/svg+xml" and isinstance(value, str)


def _streamed(outputs: Sequence[Mapping[str, Any]], name: str) -> str:
    texts = [
        output.get("text", "")
        for output in outputs
        if output.get("output_type") == "stream" and output.get("name") == name
    ]
    return printed("".join(text if isinstance(text, str) else "".join(map(str, text)) for text in texts))


def _unlike(old: str, new: str) -> list[str]:
    return diff.unlike(old.split("\n") if old else [], new.split("\n") if new else [])
