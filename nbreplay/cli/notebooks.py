"""The commands ``nbreplay run`` and ``trim``.

The command line imports this at every start, so it imports what runs notebooks only when it runs some.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbreplay.core.config import Mode, mode_of_run
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store
from nbreplay.errors import OptionError
from nbreplay.notebook.escape import plain

if TYPE_CHECKING:
    from nbreplay.testing.result import Result, RunOptions


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to those of the command line."""
    run = commands.add_parser("run", help="run notebooks, compare their outputs, and report their calls")
    _add_common_options(run)
    run.add_argument("--mode", choices=("replay", "auto", "record"), help="replay (the default) sends nothing")
    run.add_argument("--update", action="store_true", help="store the new outputs in the notebooks that pass")
    no_compare = "do not compare displayed outputs with stored outputs"
    run.add_argument("--no-compare", dest="compare", action="store_const", const=False, help=no_compare)
    run.add_argument("--keep-going", action="store_true", help="also run the cells after one that fails")
    times = "run each notebook N times, and compare the outputs"
    run.add_argument("--times", type=_positive, default=1, metavar="N", help=times)
    run.add_argument("--output", type=Path, metavar="FOLDER", help="write the executed notebooks into this folder")
    parameter = "assign NAME after the cell tagged 'parameters', else before the first cell; VALUE is JSON, or a text"
    run.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help=parameter)
    run.set_defaults(do=_run)

    trim = commands.add_parser("trim", help="replay notebooks, and list the recordings that they do not use")
    _add_common_options(trim)
    trim.add_argument("--yes", action="store_true", help="remove those recordings")
    trim.set_defaults(do=_trim, mode="replay", update=False, compare=False, keep_going=False, parameter=[])


def _add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", metavar="NOTEBOOK|FOLDER")
    number = "number of notebooks that run at a time (default: twice the processors; 1 while recording)"
    parser.add_argument("-n", type=_positive, metavar="N", help=number)
    timeout = "seconds per cell (default: 600)"
    parser.add_argument("--timeout", type=_positive, default=600, metavar="S", help=timeout)
    children = "let curl, node and other network clients start; replay does not cover them"
    parser.add_argument("--allow-children", action="store_true", help=children)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _run(arguments: argparse.Namespace) -> int:
    from nbreplay.testing.result import print_results
    from nbreplay.testing.runner import compare_runs, find_notebooks, update, write

    options = _run_options(arguments)
    if arguments.times > 1 and options.mode is not Mode.REPLAY:
        raise OptionError("--times compares replays. Leave --mode out")
    paths = find_notebooks(arguments.notebooks)
    results = _run_all(arguments, paths * arguments.times, options)
    if arguments.times > 1:
        results = [compare_runs(results[place :: len(paths)]) for place in range(len(paths))]
    for result in results if arguments.update else ():
        update(result)
    for result in results if arguments.output else ():
        write(result, arguments.output)
    print_results(results, as_json=arguments.json)
    return 0 if all(result.passed for result in results) else 1


def _trim(arguments: argparse.Namespace) -> int:
    from nbreplay.testing.result import print_results
    from nbreplay.testing.runner import find_notebooks

    options = _run_options(arguments)
    if options.mode is not Mode.REPLAY:
        raise OptionError(f"NBREPLAY_MODE is {options.mode.value}, and trim replays. Unset it")
    paths = find_notebooks(arguments.notebooks)
    results = _run_all(arguments, paths, options)
    if not all(result.passed for result in results):
        # A failed notebook has not used all of its recordings.
        print_results(results, as_json=arguments.json)
        print("nothing is trimmed: a notebook failed", file=sys.stderr)
        return 1
    used: dict[str, set[str]] = defaultdict(set)
    for path, names in (item for result in results for item in result.used.items()):
        used[path].update(names)
    rows: list[dict[str, Any]] = []
    for path, in_use in sorted(used.items()):
        if is_archive(path):
            raise OptionError(f"{path} is a zip, which is read only. Unzip it and name the folder")
        store = Store(path)
        unused = store.find_unused(in_use)
        removed = store.remove(unused) if arguments.yes else []
        rows.append({"store": path, "used": len(in_use), "unused": unused, "removed": removed})
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return 0
    by = "these notebooks" if len(paths) > 1 else "this notebook"
    for row in rows:
        print(plain(f"{row['store']}: {row['used']} used by {by}, {len(row['unused'])} unused"))
        for name in row["removed"] if arguments.yes else row["unused"]:
            print(plain(f"  {'removed ' if arguments.yes else ''}{name}"))
        if row["unused"] and not arguments.yes:
            print("trim --yes removes them. Name every notebook that uses the store first: trim sees no others.")
    return 0


def _run_options(arguments: argparse.Namespace) -> RunOptions:
    from nbreplay.testing.result import RunOptions

    mode = mode_of_run(arguments.mode, "--mode") or Mode.REPLAY
    # Outputs that are about to be stored may differ from the stored ones.
    compare = False if arguments.update else arguments.compare
    parameters = dict(map(_parameter, arguments.parameter))
    return RunOptions(mode, arguments.timeout, arguments.keep_going, compare, parameters, arguments.allow_children)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise OptionError(f"--parameter {text} has no value. Write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _run_all(arguments: argparse.Namespace, paths: list[Path], options: RunOptions) -> list[Result]:
    """Run notebooks, and show on a terminal how far they are."""
    from nbreplay.testing.runner import run_all

    # Nobody watches the terminal of a notebook's "!", and all that is written to it is kept.
    if arguments.json or not sys.stderr.isatty() or "JPY_PARENT_PID" in os.environ:
        return run_all(paths, options, number=arguments.n)
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    columns = "{task.completed} of {task.total} · {task.description}"
    with Progress(columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(paths))

        def show(path: Path, cell: int, cells: int) -> None:
            text = f"{escape(plain(path.name))}: cell {cell} of {cells}"
            bar.update(task, advance=cell == cells, description=text)

        return run_all(paths, options, number=arguments.n, on_cell=show)
