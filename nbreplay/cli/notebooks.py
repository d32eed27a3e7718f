"""The commands ``nbreplay run`` and ``trim``: their options, and how far they are on a terminal.

The command line imports this at every start: it imports nothing that runs notebooks before it is to run some.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbreplay.core.config import Mode, mode_of_run
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from nbreplay.testing.result import RunOptions

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the commands to a parser's."""
    run = commands.add_parser("run", help="execute notebooks, compare their outputs, say what they exchanged")
    _common(run)
    run.add_argument("--mode", choices=("replay", "auto", "record"), help="replay (the default) sends nothing")
    run.add_argument("--update", action="store_true", help="store the new outputs in the notebooks that pass")
    run.add_argument(
        "--no-compare",
        dest="compare",
        action="store_const",
        const=False,
        help="do not compare what they display with what they have stored",
    )
    run.add_argument("--keep-going", action="store_true", help="run the cells after one that fails, too")
    run.add_argument(
        "--times", type=_positive, default=1, metavar="N", help="run each N times, and compare the outputs of the runs"
    )
    run.add_argument("--output", type=Path, metavar="FOLDER", help="write the notebooks there, as they were executed")
    run.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a name after the cell tagged 'parameters', else before the first; a VALUE is JSON, or a text",
    )
    run.set_defaults(do=_run)

    trim = commands.add_parser("trim", help="replay notebooks, and show the recordings that none of them asked for")
    _common(trim)
    trim.add_argument("--yes", action="store_true", help="remove those recordings")
    trim.set_defaults(do=_trim, mode="replay", update=False, compare=False, keep_going=False, parameter=[])


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", metavar="NOTEBOOK|FOLDER")
    parser.add_argument(
        "-n",
        type=_positive,
        metavar="N",
        help="how many at a time (twice the processors; 1, where calls are recorded)",
    )
    parser.add_argument(
        "--timeout", type=_positive, default=600, metavar="S", help="seconds that one cell may take (600)"
    )
    parser.add_argument(
        "--allow-children", action="store_true", help="let curl, node, … start under replay, which does not cover them"
    )
    parser.add_argument("--json", action="store_true", help="print what happened as JSON")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _run(given: argparse.Namespace) -> int:
    from nbreplay.testing.report import print_results
    from nbreplay.testing.runner import compare_runs, default_concurrency, find_notebooks, run_all, update, write

    wanted = _wanted(given)
    if given.times > 1 and wanted.mode is not Mode.REPLAY:
        raise OptionError("--times shows that replays are alike: leave --mode out")
    paths = find_notebooks(given.notebooks)
    with _progress(given, len(paths)) as on_cell:
        runs = run_all(paths * given.times, wanted, number=given.n or default_concurrency(wanted.mode), on_cell=on_cell)
    results, notes = runs, dict[Path, str]()
    if given.times > 1:
        results = []
        for place, path in enumerate(paths):
            result, notes[path] = compare_runs(runs[place :: len(paths)])
            results.append(result)
    saved = [result.path for result in results if given.update and update(result)]
    if given.output:
        for result in results:
            write(result, given.output)
    print_results(results, saved, notes, as_json=given.json)
    return 0 if all(result.passed for result in results) else 1


def _trim(given: argparse.Namespace) -> int:
    from nbreplay.core.store.archive import is_archive
    from nbreplay.core.store.store import Store
    from nbreplay.testing.report import print_results
    from nbreplay.testing.runner import default_concurrency, find_notebooks, run_all

    wanted = _wanted(given)
    if wanted.mode is not Mode.REPLAY:
        raise OptionError(f"NBREPLAY_MODE is {wanted.mode.value}, and trim replays: take it away")
    paths = find_notebooks(given.notebooks)
    with _progress(given, len(paths)) as on_cell:
        results = run_all(paths, wanted, number=given.n or default_concurrency(wanted.mode), on_cell=on_cell)
    if not all(result.passed for result in results):
        # What a failed notebook did not come to is not unused.
        print_results(results, [], as_json=given.json)
        print("nothing is trimmed: a notebook failed", file=sys.stderr)
        return 1
    used: dict[str, set[str]] = {}
    for result in results:
        for store, names in result.used.items():
            used.setdefault(store, set()).update(names)
    rows = []
    for store, asked in sorted(used.items()):
        if is_archive(store):
            raise OptionError(f"{store} is a zip, and nothing is taken out of it: unzip it, and name the folder")
        left = Store(store).find_unused(asked)
        removed = Store(store).remove(left) if given.yes else []
        rows.append({"store": store, "used": len(asked), "unused": left, "removed": removed})
    if given.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    for row in rows:
        _print_trimmed(row, len(paths), yes=given.yes)
    return 0


def _print_trimmed(row: dict[str, Any], notebooks: int, *, yes: bool) -> None:
    from nbreplay.notebook.escape import plain

    these = f"{'these' if notebooks > 1 else 'this'} notebook{'s' if notebooks > 1 else ''}"
    print(plain(f"{row['store']}: {row['used']} asked for by {these}, {len(row['unused'])} not"))
    for name in row["removed"] if yes else row["unused"]:
        print(plain(f"  {'removed ' if yes else ''}{name}"))
    if row["unused"] and not yes:
        print("trim --yes removes them. Name every notebook that uses the store: it knows of no others.")


def _wanted(given: argparse.Namespace) -> RunOptions:
    from nbreplay.testing.result import RunOptions

    mode = mode_of_run(given.mode, "--mode") or Mode.REPLAY
    # What is stored anew need not be as it was.
    compare = False if given.update else given.compare
    parameters = dict(map(_parameter, given.parameter))
    return RunOptions(mode, given.timeout, given.keep_going, compare, parameters, given.allow_children)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"--parameter {text}: write it as NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@contextlib.contextmanager
def _progress(given: argparse.Namespace, total: int) -> Iterator[Callable[[Path, int, int], None] | None]:
    """Show how far the notebooks are, where somebody watches, and take that away again."""
    # The terminal of a notebook's "!" is nobody's to watch, and all that is written to it is kept.
    if given.json or not sys.stderr.isatty() or "JPY_PARENT_PID" in os.environ:
        yield None
        return
    done: set[Path] = set()

    def show(path: Path, cell: int, cells: int) -> None:
        if cell == cells:
            done.add(path)
        sys.stderr.write(f"\r\x1b[K{len(done)} of {total} · {path.name}: cell {cell} of {cells}")
        sys.stderr.flush()

    sys.stderr.write(f"\r\x1b[K0 of {total}")
    sys.stderr.flush()
    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
