"""The command ``nbreplay run``: its options, and how far it is on a terminal.

The command line imports this at every start: it imports nothing that runs notebooks before it is to run some.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbreplay.core.config import Mode, mode_of_run
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from nbreplay.testing.result import Wanted

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command to a parser's."""
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
    parser.add_argument("--json", action="store_true", help="print what happened as JSON")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _run(given: argparse.Namespace) -> int:
    from nbreplay.testing.report import print_results
    from nbreplay.testing.runner import at_once, find_notebooks, run_all, update

    wanted = _wanted(given)
    paths = find_notebooks(given.notebooks)
    with _progress(given, len(paths)) as on_cell:
        results = run_all(paths, wanted, number=given.n or at_once(wanted.mode), on_cell=on_cell)
    saved = [result.path for result in results if given.update and update(result)]
    print_results(results, saved, as_json=given.json)
    return 0 if all(result.passed for result in results) else 1


def _wanted(given: argparse.Namespace) -> Wanted:
    from nbreplay.testing.result import Wanted

    mode = mode_of_run(given.mode, "--mode") or Mode.REPLAY
    # What is stored anew need not be as it was.
    compare = False if given.update else given.compare
    return Wanted(mode, given.timeout, given.keep_going, compare, dict(map(_parameter, given.parameter)))


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
    if given.json or not sys.stderr.isatty():
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
