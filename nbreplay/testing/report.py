"""The report of a run of notebooks, for a terminal or as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from nbreplay.core.log import describe_uncovered, format_counts
from nbreplay.notebook.escape import plain
from nbreplay.testing.outputs.diff import format_difference
from nbreplay.testing.result import CallReport, Failure, Result

_REMEDY = (
    "It does not display what it displayed before. To store what is new: nbreplay run --update, or",
    "pytest --nbreplay-update. What may differ: tag the cell nbreplay-run, or mask it in pyproject.toml,",
    "[tool.nbreplay.outputs].",
)


def last_line(results: Sequence[Result]) -> str:
    """Return the last line of a run: ``nbreplay: 12 replayed, 0 recorded, 0 missing``."""
    return f"nbreplay: {format_counts(Counter(call.outcome for result in results for call in result.calls))}"


def format_failures(failures: Iterable[Failure], *, colour: bool = False) -> list[str]:
    """Return failures as lines for a terminal, with the remedy if outputs differ."""
    lines = []
    differ = False
    for failure in failures:
        if failure.difference is not None:
            lines += format_difference(failure.difference, colour).split("\n")
            differ = True
        else:
            lines += [plain(line) for line in failure.text.rstrip().split("\n")]
    return [*lines, *(_REMEDY if differ else ())]


def print_results(
    results: Sequence[Result],
    updated: Sequence[Path] = (),
    notes: Mapping[Path, str] | None = None,
    *,
    as_json: bool,
) -> None:
    """Print the result of each notebook, its failures, and the last line.

    Parameters
    ----------
    results : sequence of Result
    updated : sequence of Path
        Notebooks whose new outputs were stored.
    notes : mapping of Path to str
        Additional notes on notebooks.
    as_json : bool
    """
    if as_json:
        print(json.dumps([_row(result, result.path in updated) for result in results], ensure_ascii=False, indent=2))
        return
    for result in results:
        note = f" · {notes[result.path]}" if notes and notes.get(result.path) else ""
        note += " · outputs stored" if result.path in updated else ""
        print(f"{'ok  ' if result.passed else 'FAIL'}  {plain(str(result.path))}{note}")
        for line in format_failures(result.failures, colour=_coloured()):
            print(f"      {line}")
        for line in describe_uncovered(result.uncovered):
            print(f"      {plain(line)}")
    failed = sum(not result.passed for result in results)
    if failed:
        print(f"{failed} of {len(results)} notebook{'s' if len(results) != 1 else ''} failed")
    print(last_line(results))


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _row(result: Result, updated: bool) -> dict[str, object]:
    return {
        "notebook": str(result.path),
        "passed": result.passed,
        "updated": updated,
        "errors": result.errors,
        "seconds": round(result.seconds, 3),
        "counts": _counts(result.calls),
        "uncovered": [{"kind": kind, "name": name} for kind, name in result.uncovered],
        "calls": [msgspec.to_builtins(call) for call in result.calls],
        "cells": [msgspec.to_builtins(cell) | {"counts": _counts(result.calls_of(cell))} for cell in result.cells],
    }


def _counts(calls: Sequence[CallReport]) -> dict[str, int]:
    return dict(Counter(call.outcome for call in calls))
