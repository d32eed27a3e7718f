"""The table of what works: ``python -m tests.sdks.table FILE…``, each file written by ``--sdks-json``.

One row an SDK; the files are runs in different environments. What counts as covered has passed in each of them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["lacking", "main", "table", "written"]

_START, _END = "<!-- clients -->", "<!-- end of clients -->"
Row = dict[str, str]

_COLUMNS = ("client", "version", "over", "sync", "async", "streamed", "with tools", "what")


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of some runs."""
    rows: list[Row] = [row for run in runs for row in run["cells"]]
    lines = [_COLUMNS, ["---"] * 3 + ["---:"] * 4 + ["---"]]
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


def written(text: str, made: str) -> str:
    """Return a page with the table that stands between its marks replaced."""
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise SystemExit(f"the page has no {_START} and {_END}")
    return f"{before}{start}\n{made}\n{end}{after}"


def lacking(text: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a page tells that some runs do not show, and the other way round; versions may move."""
    rows = [row for run in runs for row in run["cells"]]
    told = set(re.findall(r"(?m)^\| ([\w.-]+) \| [\d–]", text.partition(_START)[2].partition(_END)[0]))
    shown = {row["sdk"] for row in rows}
    failed = [
        f"{row['sdk']} {row['flavour']} {row['kind']}: {row['outcome']}" for row in rows if row["outcome"] != "passed"
    ]
    return [
        *(f"{name} is in the page and was not run" for name in sorted(told - shown)),
        *(f"{name} was run and is not in the page" for name in sorted(shown - told)),
        *failed,
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the table of some runs; write it into a page, or see that a page tells what they show."""
    parser = argparse.ArgumentParser(prog="python -m tests.sdks.table", description="The table of what works.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="FILE", help="written by --sdks-json")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="write the table between the page's marks")
    parser.add_argument("--check", type=Path, metavar="PAGE", help="fail where the page tells something else")
    given = parser.parse_args(arguments)
    runs = [json.loads(path.read_text("utf-8")) for path in given.runs]
    print(table(runs))
    if given.into:
        page = written(given.into.read_text("utf-8"), table(runs))
        given.into.write_text(page, encoding="utf-8", newline="\n")
    if given.check and (wrong := lacking(given.check.read_text("utf-8"), runs)):
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
