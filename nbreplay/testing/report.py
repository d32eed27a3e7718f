"""What a run of notebooks says on a terminal, or to a program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from nbreplay.core.log import counted
from nbreplay.notebook.texts import plain
from nbreplay.testing.result import Call, Result

__all__ = ["last_line", "print_results", "told"]


def last_line(results: Sequence[Result]) -> str:
    """Return the one line that a run ends with: ``nbreplay: 12 replayed, 0 recorded, 0 missing``."""
    return f"nbreplay: {counted(Counter(call.outcome for result in results for call in result.calls))}"


def told(errors: Iterable[str]) -> list[str]:
    """Return the lines of errors, fit for a terminal."""
    return [plain(line) for error in errors for line in error.rstrip().split("\n")]


def print_results(results: Sequence[Result], updated: Sequence[Path], *, as_json: bool) -> None:
    """Print what became of each notebook, why it failed, and the last line."""
    if as_json:
        print(json.dumps([_row(result, result.path in updated) for result in results], ensure_ascii=False, indent=2))
        return
    for result in results:
        note = " · outputs stored" if result.path in updated else ""
        print(f"{'ok  ' if result.passed else 'FAIL'}  {result.path}{note}")
        for line in told(result.errors):
            print(f"      {line}")
    failed = sum(not result.passed for result in results)
    if failed:
        print(f"{failed} of {len(results)} notebook{'s' if len(results) != 1 else ''} failed")
    print(last_line(results))


def _row(result: Result, updated: bool) -> dict[str, object]:
    return {
        "notebook": str(result.path),
        "passed": result.passed,
        "updated": updated,
        "errors": result.errors,
        "seconds": round(result.seconds, 3),
        "counts": _counts(result.calls),
        "calls": [asdict(call) for call in result.calls],
        "cells": [asdict(cell) | {"counts": _counts(result.calls_of(cell))} for cell in result.cells],
    }


def _counts(calls: Sequence[Call]) -> dict[str, int]:
    return dict(Counter(call.outcome for call in calls))
