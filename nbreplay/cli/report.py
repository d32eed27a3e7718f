"""The report of a run: the verdict on each notebook, why it failed, what to do, and the counts of all calls."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from nbreplay.cli.output import BAD, GOOD, HEADING, NAME, print_json, print_text
from nbreplay.core.log import describe_uncovered
from nbreplay.core.words import count_of, format_counts
from nbreplay.testing.result import REMEDY, CallReport, Result, format_failures

_INDENT = 6
# The styles of lines by their beginning: of a diff, the cell that failed, and the names of what a miss says.
_STYLES = {
    r"^    - .*": "red",
    r"^    \+ .*": "green",
    r"^cell \d+": HEADING,
    r"(?<=  to fix   )nbreplay .*?(?=  |$)": NAME,
    r"^  (cell|asked|key|store|nearest|differs|to fix|or)(?=  )": HEADING,
}
_LABEL = re.compile(r"  [a-z ]{2,8} {2,}(?=\S)")


def print_results(results: Sequence[Result], *, as_json: bool) -> None:
    """Print the result of each notebook, its failures, and the counts of all calls."""
    if as_json:
        print_json(list(map(_row, results)))
        return
    for result in results:
        verdict = ("ok  ", GOOD) if result.passed else ("FAIL", BAD)
        remarks = filter(None, (result.note, "outputs stored" if result.updated else ""))
        print_text(verdict, "  ", (str(result.path), HEADING), *(f" · {remark}" for remark in remarks))
        _print_failures(result)
        for note in (*result.notes, *describe_uncovered(result.uncovered)):
            print_text(note, indent=_INDENT)
    if failed := sum(not result.passed for result in results):
        print_text((f"{failed} of {count_of(len(results), 'notebook')} failed", BAD))
    print_text(f"nbreplay: {format_counts(_counts(call for result in results for call in result.calls))}")


def _print_failures(result: Result) -> None:
    folder = result.path.parent
    if "JPY_PARENT_PID" in os.environ:
        # What a notebook's "!" prints is stored in it and compared: it stays as it is.
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        for line in format_failures(result.failures, folder, colour=colour):
            print(" " * _INDENT + line)
        return
    lines = format_failures(result.failures, folder)
    if sys.stdout.isatty() and lines[-len(REMEDY) :] == list(REMEDY):
        lines[-len(REMEDY) :] = [" ".join(REMEDY)]
    for line in lines:
        label = _LABEL.match(line)
        text = line.lstrip(" ")
        hang = label.end() if label else len(line) - len(text) + 2 * text.startswith(("- ", "+ "))
        print_text(line, indent=_INDENT, hang=hang, highlights=_STYLES)


def _row(result: Result) -> dict[str, object]:
    return {
        "notebook": str(result.path),
        "passed": result.passed,
        "updated": result.updated,
        "errors": result.errors,
        "notes": result.notes,
        "inputs": msgspec.to_builtins(result.inputs),
        "masks": [mask.pattern for mask in result.masks],
        "printed_keys": msgspec.to_builtins(result.printed_keys),
        "seconds": round(result.seconds, 3),
        "counts": _counts(result.calls),
        "uncovered": [{"kind": kind, "name": name} for kind, name in result.uncovered],
        "calls": msgspec.to_builtins(result.calls),
        "cells": [msgspec.to_builtins(cell) | {"counts": _counts(result.calls_of(cell))} for cell in result.cells],
    }


def _counts(calls: Iterable[CallReport]) -> dict[str, int]:
    return Counter(call.outcome for call in calls)
