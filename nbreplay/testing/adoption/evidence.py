"""What the runs of a notebook have shown, and the table of statuses that are read from it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.variable_text import Proposal
from nbreplay.core.words import shorten
from nbreplay.testing.installs import find_installs
from nbreplay.testing.result import Result

_VARIABLE = re.compile(
    r"KeyError: '([A-Z][A-Z0-9_]{2,})'|\b([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b[^\n]{0,40} (?:not set|must be set)"
)
_NO_INPUT = "does not support input requests"
_CHILD = "in another process"


class Evidence(msgspec.Struct):
    """What is known of a notebook that is adopted."""

    path: Path
    notebook: Any = None  # as it is in its file
    record: Result | None = None  # None if it had been recorded before
    replays: list[Result] = msgspec.field(default_factory=list)  # in one copy of its folder, one after the other
    check: Result | None = None  # the last replay, with the proposals, in a copy of its own
    shared_files: list[str] = msgspec.field(default_factory=list)  # made by recordings of notebooks in its folder
    ignored_files: list[str] = msgspec.field(default_factory=list)  # those in its folder that a clone lacks
    files: list[str] = msgspec.field(default_factory=list)  # made or changed by its first replay
    withheld: frozenset[str] = frozenset()  # the variables that a replay does not get
    settings: frozenset[str] = frozenset()  # those of them that it reads, and that hold no secret
    request_masks: list[Proposal] = msgspec.field(default_factory=list)
    output_masks: list[Proposal] = msgspec.field(default_factory=list)
    tags: dict[int, str] = msgspec.field(default_factory=dict)  # by position of the cell, from 1
    reordered: list[int] = msgspec.field(default_factory=list)  # the cells that print the same lines in another order
    differs_again: bool = False  # whether the second replay differs from the first one, with what is proposed
    is_adopted: bool = False  # whether it replayed before anything was done

    @property
    def runs(self) -> list[Result]:
        """Every run of it."""
        return [result for result in (self.record, *self.replays, self.check) if result is not None]

    @property
    def offline(self) -> list[Result]:
        """The runs without keys."""
        return [*self.replays, *([self.check] if self.check else ())]

    @property
    def passes(self) -> bool:
        """Whether it replays, with the proposals."""
        return self.check is not None and self.check.passed


class Status(msgspec.Struct, frozen=True):
    """A status that a notebook may have."""

    name: str
    find: Callable[[Evidence], Iterable[str]]  # yields the details; none if the notebook does not have it
    remedy: str
    remedies: tuple[tuple[str, str], ...] = ()  # others, each after the pattern of the details that it is for
    stops: bool = False  # whether it explains why a notebook does not replay

    def finding(self, details: tuple[str, ...]) -> Finding:
        """Return the finding for a notebook that has this status."""
        fitting = (remedy for pattern, remedy in self.remedies if re.search(pattern, "\n".join(details)))
        return Finding(self.name, details, next(fitting, self.remedy))


class Finding(msgspec.Struct, frozen=True):
    """A status of a notebook, with its details and the remedy."""

    status: str
    details: tuple[str, ...]
    remedy: str


def judge(evidence: Evidence) -> list[Finding]:
    """Return the statuses of a notebook: ``ok`` if there is nothing to say."""
    found = [(status, details) for status in STATUSES if (details := tuple(dict.fromkeys(status.find(evidence))))]
    findings = [status.finding(details) for status, details in found]
    if not evidence.passes and not any(status.stops for status, _ in found):
        failed = next((result for result in evidence.offline if not result.passed), None)
        details = tuple(map(_summary, failed.errors[:3])) if failed else ()
        findings.append(Finding("fails in replay", details, "nbreplay run shows the whole failure"))
    return findings


def _summary(text: str, most: int = 200) -> str:
    """Return the first line of a failure, and the next one if the first only introduces it."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    first = " ".join(lines[:2]) if lines and lines[0].endswith(":") else lines[0] if lines else ""
    return shorten(first, most)


def _difference(miss: str) -> str:
    """Return how the request of a miss differs from the nearest recording, else the first line."""
    found = re.search(r"(?m)^ +differs +(.*(?:\n +recorded  .*\n +asked  .*)?)", miss)
    return _summary(" ".join(found[1].split()) if found else miss)


def _language(evidence: Evidence) -> Iterator[str]:
    for result in evidence.runs:
        yield from (error for error in result.errors if "nbreplay runs Python only" in error)


def _kernel(evidence: Evidence) -> Iterator[str]:
    for result in evidence.runs:
        if not result.cells and not any(_language(evidence)):
            yield from (_summary(error) for error in result.errors if "kernel" in error.casefold())


def _other_kernel(evidence: Evidence) -> Iterator[str]:
    for result in evidence.runs:
        yield from (note for note in result.notes if note.startswith("kernel "))


def _failed_recording(evidence: Evidence) -> Iterator[str]:
    record = evidence.record
    if record is None or any(_kernel(evidence)) or any(_language(evidence)):
        return
    if not any(_asks_input(evidence)) and not any((*_variables(evidence), *_ignored_files(evidence))):
        yield from map(_summary, record.errors)


def _asks_input(evidence: Evidence) -> Iterator[str]:
    for result in evidence.runs:
        for item in result.inputs:
            if item.kind == "input" or (item.kind != "environ" and not item.given):
                yield item.name or item.prompt or item.kind
        yield from (error.split(":")[0] for error in result.errors if _NO_INPUT in error)


def _variables(evidence: Evidence) -> Iterator[str]:
    for result in evidence.runs:
        if not result.passed:
            yield from (item.name for item in result.inputs if item.kind == "environ" and not item.given)
        for error in result.errors:
            for match in _VARIABLE.finditer(_summary(error, 10_000)):
                yield match[1] or match[2]
    for result in evidence.offline:
        for error in result.errors:
            words = set(re.findall(r"\w+", _summary(error, 10_000)))
            yield from sorted(words & evidence.withheld)
        if result.count("missing"):  # it may ask something else where they are not set
            yield from sorted(evidence.settings)


def _children(evidence: Evidence) -> Iterator[str]:
    for result in evidence.offline:
        yield from (name for kind, name in result.uncovered if kind == "child")
        for call in result.calls:
            if call.outcome == "blocked" and _CHILD in call.note:
                yield call.host or call.note


def _installs(evidence: Evidence) -> Iterator[str]:
    for index, cell in enumerate(evidence.notebook.cells if evidence.notebook else (), 1):
        if cell.cell_type == "code" and (commands := find_installs(cell.source).commands):
            yield f"cell {index}: {'; '.join(commands)}"


def _no_call(evidence: Evidence) -> Iterator[str]:
    runs = [result for result in evidence.runs if result.cells]
    if runs and all(result.passed for result in runs) and not any(result.calls for result in runs):
        yield "nothing to record"


def _prints_key(evidence: Evidence) -> Iterator[str]:
    for result in evidence.runs:
        yield from (f"cell {key.cell}" for key in result.printed_keys)


def _own_files(evidence: Evidence) -> Iterator[str]:
    """Files count if a replay in a folder that has them differs from one in a folder that does not."""
    if not evidence.files or len(evidence.replays) < 2:
        return
    _, second = evidence.replays
    calls = [Counter((call.key, call.outcome) for call in result.calls) for result in evidence.replays]
    if not second.passed or calls[0] != calls[1] or evidence.differs_again:
        yield from evidence.files[:5]


def _other_files(evidence: Evidence) -> Iterator[str]:
    for result in evidence.offline[:1]:
        for error in result.errors:
            yield from (name for name in evidence.shared_files if os.path.basename(name) in _summary(error, 10_000))


def _ignored_files(evidence: Evidence) -> Iterator[str]:
    for result in evidence.offline[:1]:
        for error in result.errors:
            yield from (name for name in evidence.ignored_files if os.path.basename(name) in _summary(error, 10_000))
        # It may have found answers there when it was recorded.
        if result.count("missing") and not evidence.request_masks:
            yield from evidence.ignored_files[:5]


def _masks(evidence: Evidence) -> Iterator[str]:
    for proposals, where in ((evidence.request_masks, "in a request"), (evidence.output_masks, "in an output")):
        for item in proposals:
            yield f"{item.name} {where}, such as {item.before!r}: {item.pattern}"


def _order(evidence: Evidence) -> Iterator[str]:
    yield from (f"cell {index}" for index in evidence.reordered)


def _other_outputs(evidence: Evidence) -> Iterator[str]:
    yield from (f"cell {index}" for index in evidence.tags if index not in evidence.reordered)


def _misses(evidence: Evidence) -> Iterator[str]:
    for result in evidence.offline[-1:]:
        is_explained = any((*_variables(evidence), *_ignored_files(evidence)))
        if (evidence.record is None or evidence.record.passed) and not is_explained:
            for call in result.calls:
                if call.outcome == "missing":
                    yield _difference(call.note)


_NOT_COMPARED = "the cell is tagged nbreplay-run, so that its outputs may differ"

_CAUSES = (
    ("No module named", "install the module and run adopt again"),
    (r"\b429\b|RateLimit", "wait and run adopt again"),
    (r"\b401\b|AuthenticationError|API key", "set the key and run adopt again"),
    ("timed out", "run adopt again with a greater --timeout"),
)

STATUSES = (
    Status("needs another language", _language, "leave it out. nbreplay runs Python only", stops=True),
    Status("needs another kernel", _kernel, "install the kernel, or choose one with --kernel", stops=True),
    Status(
        "names another kernel",
        _other_kernel,
        "nothing to do. It runs with this Python, and its metadata stays as it is",
    ),
    Status(
        "failed while recording", _failed_recording, "correct the notebook and run adopt again", _CAUSES, stops=True
    ),
    Status("asks for input", _asks_input, "pass the answer with -p NAME=VALUE", stops=True),
    Status(
        "needs a variable",
        _variables,
        "set it wherever the notebook is replayed, or pass -p NAME=VALUE",
        stops=True,
    ),
    Status(
        "starts a child process",
        _children,
        "what it sends is not replayed. Tag the cell skip if it calls a model",
        stops=True,
    ),
    Status("installs packages", _installs, "install them before the notebooks run"),
    Status("makes no call", _no_call, "nothing to do. Only its outputs are compared"),
    Status("prints a key", _prints_key, "a placeholder is stored instead. Better not to print it"),
    Status("writes files it later reads", _own_files, "run it with --isolated, or in a new clone"),
    Status(
        "reads files of another notebook",
        _other_files,
        "commit the files, or make one notebook of both",
        stops=True,
    ),
    Status(
        "needs files that git ignores",
        _ignored_files,
        "commit them, or remove them and run adopt again",
        stops=True,
    ),
    Status("answers in another order", _order, _NOT_COMPARED),
    Status("needs a mask", _masks, "add it to pyproject.toml"),
    Status("outputs differ although nothing varies", _other_outputs, _NOT_COMPARED),
    Status(
        "asks something else in replay",
        _misses,
        "make the request the same in every run. nbreplay run shows the whole difference",
        stops=True,
    ),
)
"""The statuses of a notebook, the one to read first at the top."""
