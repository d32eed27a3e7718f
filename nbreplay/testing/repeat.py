"""Several runs of one notebook: whether they give the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import nbformat

from nbreplay.testing.outputs.compare import compare
from nbreplay.testing.outputs.sanitise import rules_for
from nbreplay.testing.result import Failure, Result

__all__ = ["repeated"]


def repeated(results: Sequence[Result]) -> tuple[Result, str]:
    """Return the result of a notebook that was run several times, and how alike the runs are.

    Parameters
    ----------
    results : sequence of Result
        Of one notebook, of which all that passed must have the same outputs.

    Returns
    -------
    Result
        That of the first run that failed, else of the first; failed, too, where the runs differ.
    str
    """
    failed = next((result for result in results if not result.passed), None)
    if failed is not None:
        return failed, ""
    first, *others = results
    if all(_text(other.notebook) == _text(first.notebook) for other in others):
        return first, f"{len(results)} runs, byte for byte the same"
    # Cells that are only to run may differ.
    rules = rules_for(first.path.parent)
    failures = [
        Failure(f"run {number} differs from run 1", difference.index, difference)
        for number, other in enumerate(others, 2)
        for difference in compare(first.notebook, other.notebook, rules)
    ]
    return msgspec.structs.replace(
        first, failures=failures
    ), "" if failures else f"{len(results)} runs, the same but for what is masked"


def _text(notebook: Any) -> str:
    return str(nbformat.writes(notebook))
