"""The results of running notebooks, and their report for a terminal or as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.config import Mode
from nbreplay.core.log import describe_uncovered, format_counts
from nbreplay.notebook.escape import plain
from nbreplay.testing.outputs.diff import Difference, format_difference

_REMEDY = (
    "It does not display what it displayed before. To store what is new: nbreplay run --update, or",
    "pytest --nbreplay-update. What may differ: tag the cell nbreplay-run, or mask it in pyproject.toml,",
    "[tool.nbreplay.outputs].",
)


class RunOptions(msgspec.Struct, frozen=True):
    """How to run notebooks."""

    mode: Mode = Mode.REPLAY  # overrides the magics of the notebooks
    timeout: float | None = 600  # seconds per cell
    keep_going: bool = False  # whether to run the cells after one that fails
    # Whether to compare the displayed outputs with the stored ones. None: in replay mode, unless the project's settings
    # say otherwise.
    compare: bool | None = None
    # JSON values, assigned after the cell with the tag ``parameters``, or before the first cell
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    allow_children: bool = False  # whether network clients may start as child processes


class CallReport(msgspec.Struct, frozen=True):
    """A call that a notebook made, as its kernel reports it."""

    outcome: str
    kind: str
    model: str
    key: str
    cell: str | None
    number: int | None
    note: str
    host: str


class CellRun(msgspec.Struct):
    """The result of a code cell that was reached."""

    index: int  # position among all cells, from 1
    id: str | None
    first: str  # first line of its source
    status: str = "skipped"  # or ``ok`` or ``failed``
    seconds: float = 0.0
    number: int | None = None  # its execution count

    def owns(self, call: CallReport) -> bool:
        """Return whether this cell made a call. Notebooks before format 4.5 have no cell ids."""
        return call.cell == self.id if call.cell and self.id else call.number is not None and call.number == self.number


class Failure(msgspec.Struct, frozen=True):
    """Why a notebook failed."""

    text: str  # one or more lines
    cell: int | None = None  # position of the failing cell, from 1
    difference: Difference | None = None  # set if the cell displays something other than the stored outputs


class Result(msgspec.Struct):
    """The result of running a notebook."""

    path: Path
    notebook: Any = None  # as executed, without nbreplay's own displays
    calls: list[CallReport] = msgspec.field(default_factory=list)
    failures: list[Failure] = msgspec.field(default_factory=list)  # empty if the notebook passed
    used: dict[str, list[str]] = msgspec.field(default_factory=dict)  # names of the recordings that it used, by store
    cells: list[CellRun] = msgspec.field(default_factory=list)  # the code cells that were reached
    seconds: float = 0.0  # duration, including the start of the kernel
    # Kind and name of each thing that replay did not cover; see `nbreplay.core.log.UNCOVERED`.
    uncovered: list[tuple[str, str]] = msgspec.field(default_factory=list)
    updated: bool = False  # whether its new outputs were stored
    note: str = ""  # how equal several runs are

    @property
    def passed(self) -> bool:
        """Whether every cell ran and no recording was missing."""
        return not self.failures

    @property
    def errors(self) -> list[str]:
        """Texts of the failures."""
        return [failure.text for failure in self.failures]

    def count(self, outcome: str) -> int:
        """Return the number of calls with an outcome."""
        return sum(call.outcome == outcome for call in self.calls)

    def calls_of(self, cell: CellRun) -> list[CallReport]:
        """Return the calls that a cell made."""
        return [call for call in self.calls if cell.owns(call)]


def format_failures(failures: Iterable[Failure], *, colour: bool = False) -> list[str]:
    """Return failures as lines for a terminal, with the remedy if outputs differ."""
    lines: list[str] = []
    differ = False
    for failure in failures:
        if failure.difference is not None:
            lines += format_difference(failure.difference, colour).split("\n")
            differ = True
        else:
            lines += map(plain, failure.text.rstrip().split("\n"))
    return [*lines, *(_REMEDY if differ else ())]


def print_results(results: Sequence[Result], *, as_json: bool) -> None:
    """Print the result of each notebook, its failures, and the counts of all calls."""
    if as_json:
        print(json.dumps(list(map(_row, results)), ensure_ascii=False, indent=2))
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for result in results:
        notes = filter(None, (result.note, "outputs stored" if result.updated else ""))
        print(" · ".join((f"{'ok  ' if result.passed else 'FAIL'}  {plain(str(result.path))}", *notes)))
        uncovered = map(plain, describe_uncovered(result.uncovered))
        for line in (*format_failures(result.failures, colour=colour), *uncovered):
            print(f"      {line}")
    if failed := sum(not result.passed for result in results):
        print(f"{failed} of {len(results)} notebook{'s' if len(results) != 1 else ''} failed")
    print(f"nbreplay: {format_counts(_counts(call for result in results for call in result.calls))}")


def _row(result: Result) -> dict[str, object]:
    return {
        "notebook": str(result.path),
        "passed": result.passed,
        "updated": result.updated,
        "errors": result.errors,
        "seconds": round(result.seconds, 3),
        "counts": _counts(result.calls),
        "uncovered": [{"kind": kind, "name": name} for kind, name in result.uncovered],
        "calls": msgspec.to_builtins(result.calls),
        "cells": [msgspec.to_builtins(cell) | {"counts": _counts(result.calls_of(cell))} for cell in result.cells],
    }


def _counts(calls: Iterable[CallReport]) -> dict[str, int]:
    return Counter(call.outcome for call in calls)
