"""What a notebook asks and displays on another day: two runs on one day do not tell that a date varies."""

from __future__ import annotations

import copy
import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from nbreplay.core.recording.recording import Recording
from nbreplay.core.store.store import Store
from nbreplay.core.variable_text import Proposal, apply_masks, propose_masks
from nbreplay.testing.result import Result

_FORMATS = (
    *("{0:%Y-%m-%d}", "{0:%Y/%m/%d}", "{0:%Y%m%d}", "{0:%d/%m/%Y}", "{0:%m/%d/%Y}", "{0:%d.%m.%Y}", "{0:%d-%m-%Y}"),
    *("{0:%B} {0.day}, {0:%Y}", "{0:%B %d, %Y}", "{0:%b} {0.day}, {0:%Y}", "{0:%b %d, %Y}", "{0:%B} {0.day} {0:%Y}"),
    *("{0.day} {0:%B %Y}", "{0:%d %B %Y}", "{0.day} {0:%b %Y}", "{0:%d %b %Y}", "{0:%d %B, %Y}"),
)
"""How programs write a date. A weekday or a month alone is too often part of a text."""
_LATER = datetime.timedelta(days=40)  # another month and another day of the week


class Calendar:
    """Texts of today as they would be on a later day."""

    def __init__(self, today: datetime.date, constant: str = "") -> None:
        """Take the dates in `constant`, such as the source of a notebook, for constants."""
        later = today + _LATER
        # If two formats write a date alike, the first one counts.
        dates = {form.format(today): form.format(later) for form in reversed(_FORMATS)}
        self._dates = {old: new for old, new in dates.items() if old not in constant}
        every = "|".join(map(re.escape, sorted(self._dates, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?<!\d)(?:{every})(?!\d)" if every else "(?!)")

    def later(self, text: str) -> str:
        """Return a text with a later date in place of that of today."""
        return self._pattern.sub(lambda match: self._dates[match[0]], text)

    def later_outputs(self, notebook: NotebookNode) -> NotebookNode:
        """Return a copy of a notebook with later dates in its outputs."""
        changed = copy.deepcopy(notebook)
        for output in (output for cell in changed.cells for output in cell.get("outputs", ())):
            if output["output_type"] == "stream":
                output["text"] = self.later(output["text"])
            for kind, value in output.get("data", {}).items():
                if isinstance(value, str) and not kind.startswith("image/"):
                    output["data"][kind] = self.later(value)
        return changed


def later_request_masks(result: Result, calendar: Calendar, masks: Sequence[Proposal]) -> list[Proposal]:
    """Return the further masks with which the requests of a run are the same on a later day."""
    patterns = [mask.pattern for mask in masks]
    texts = [apply_masks(text, patterns) for recording in _recordings(result) for text in _texts(recording.request)]
    return list(propose_masks(texts, list(map(calendar.later, texts))))


def answers_of(result: Result) -> str:
    """Return the text of the recorded answers of a run, without the dates when they were recorded."""
    files = (Path(store) / name for store, names in result.used.items() for name in names)
    takes = (file.read_text("utf-8", "replace").partition('\n  "takes": [')[2] for file in files if file.is_file())
    return re.sub(r'"recorded_at": ?"[^"]*"', "", "\n".join(takes))


def _recordings(result: Result) -> Iterator[Recording]:
    for store, names in result.used.items():
        for name in names:
            if recording := Store(store).read(name):
                yield recording


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list):
        for item in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(item)
