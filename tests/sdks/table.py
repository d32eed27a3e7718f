"""The table of what works: ``python -m tests.sdks.table FILE…``, each file written by ``--sdks-json``.

One row an SDK; the files are runs in different environments. What counts as covered has passed in each of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "table"]

Row = dict[str, str]

_COLUMNS = ("SDK", "version", "HTTP library", "sync", "async", "streamed", "with tools", "what", "cells")


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of some runs."""
    rows: list[Row] = [row for run in runs for row in run["cells"]]
    lines = [_COLUMNS, ["---"] * 3 + ["---:"] * 4 + ["---", "---:"]]
    lines += [_line([row for row in rows if row["sdk"] == name]) for name in _unique(row["sdk"] for row in rows)]
    versions = " and ".join(_unique(f"openai {run['openai']} (Python {run['python']})" for run in runs))
    passed = sum(row["outcome"] == "passed" for row in rows)
    total = f"{passed} of {len(rows)} cells passed, in environments with {versions}."
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{total}"


def _line(rows: list[Row]) -> list[str]:
    kinds = _unique(row["kind"] for row in rows)
    return [
        rows[0]["sdk"],
        ", ".join(_unique(row["version"] for row in rows)),
        ", ".join(_unique(row["library"] for row in rows if row.get("library"))),
        *(_covered(row for row in rows if row["flavour"] == flavour) for flavour in ("sync", "async")),
        _covered(row for row in rows if row["streams"] == "True"),
        _covered(row for row in rows if "tools" in row["kind"]),
        ", ".join(_unique(kind.partition("-")[0] for kind in kinds)),
        _told([row["outcome"] == "passed" for row in rows]),
    ]


def _covered(rows: Iterable[Row]) -> str:
    """Tell how many things it does that passed wherever they were tried."""
    passed: dict[tuple[str, str], bool] = {}
    for row in rows:
        thing = (row["flavour"], row["kind"])
        passed[thing] = passed.get(thing, True) and row["outcome"] == "passed"
    return _told(list(passed.values()))


def _told(passed: list[bool]) -> str:
    """Return how many passed, and of how many where that is not all; a dash where there is none."""
    return "–" if not passed else str(len(passed)) if all(passed) else f"**{sum(passed)} of {len(passed)}**"


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def main(paths: Sequence[str]) -> None:
    """Print the table of the runs that some files tell of."""
    print(table([json.loads(Path(path).read_text("utf-8")) for path in paths]))


if __name__ == "__main__":
    main(sys.argv[1:])
