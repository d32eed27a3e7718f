"""The commands ``nbreplay run`` and ``trim``.

The command line imports this at every start, so it imports what runs notebooks only when it runs some.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbreplay.cli.output import HEADING, NAME, is_watched, make_progress, print_error, print_json, print_text
from nbreplay.core.config import Mode, mode_of_run
from nbreplay.core.log import UNSEEN_CALLS
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.store import Store, format_makers
from nbreplay.errors import OptionError
from nbreplay.notebook.escape import plain
from nbreplay.testing import FLAGS, KERNEL, NO_COMPARE, NUMBER, option_name

if TYPE_CHECKING:
    from nbreplay.testing.result import Result, RunOptions


_RUN_EPILOG = """\
examples:
  $ nbreplay run notebooks/                       replay a folder
  $ nbreplay run chat.ipynb --mode auto --update  record what is new
  $ nbreplay run chat.ipynb -p city=Rome          assign a parameter

exit status: 0 all notebooks passed, 1 one failed, 2 wrong usage
"""
_TRIM_EPILOG = """\
A recording that no notebook asks for may belong to another program: name every notebook that uses the store.

examples:
  $ nbreplay trim notebooks/        list what the notebooks do not use
  $ nbreplay trim notebooks/ --yes  remove it

exit status: 0 fine, 1 a notebook failed, so that nothing is trimmed, 2 wrong usage
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to those of the command line."""
    run = commands.add_parser(
        "run",
        description=(
            "Run notebooks, each in a kernel of its own. Every model call is replayed from the recordings, and every "
            "output is compared with the one that the notebook stores."
        ),
        epilog=_RUN_EPILOG,
    )
    add_notebooks_argument(run)
    run.add_argument(
        "--mode",
        choices=("replay", "auto", "record"),
        help="replay sends nothing; auto records what is missing; record records every call again (default: replay)",
    )
    run.add_argument("--update", action="store_true", help="store the outputs of the replay in the notebooks that pass")
    errors = "with --mode auto, also keep failures that may pass, such as 401 and 429; record always does"
    run.add_argument("--keep-errors", action="store_true", help=errors)
    run.add_argument("--no-compare", dest="compare", action="store_const", const=False, help=NO_COMPARE)
    run.add_argument("--keep-going", action="store_true", help="also run the cells after one that fails")
    times = "run each notebook N times, and compare the outputs (default: 1)"
    run.add_argument("--times", type=_positive, default=1, metavar="N", help=times)
    run.add_argument("--output", type=Path, metavar="FOLDER", help="write the executed notebooks into this folder")
    add_parameter_option(run)
    add_common_options(run)
    run.set_defaults(do=_run)

    trim = commands.add_parser(
        "trim",
        description="Replay notebooks, and list the recordings of their stores that they do not use.",
        epilog=_TRIM_EPILOG,
    )
    add_notebooks_argument(trim)
    trim.add_argument("--yes", action="store_true", help="remove those recordings")
    add_common_options(trim)
    defaults = {"update": False, "compare": False, "keep_going": False, "keep_errors": False, "parameter": []}
    trim.set_defaults(do=_trim, mode="replay", **defaults)


def add_notebooks_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names notebooks."""
    text = "notebooks, or folders with notebooks in them"
    parser.add_argument("notebooks", nargs="+", metavar="NOTEBOOK|FOLDER", help=text)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that runs notebooks."""
    parser.add_argument("-n", type=_positive, metavar="N", help=NUMBER)
    timeout = "seconds per cell (default: 600)"
    parser.add_argument("--timeout", type=_positive, default=600, metavar="S", help=timeout)
    for flag, text in FLAGS.items():
        parser.add_argument(option_name(flag), action="store_true", help=text)
    parser.add_argument("--kernel", metavar="NAME", help=KERNEL)
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_parameter_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that sets the parameters of notebooks."""
    parameter = (
        "assign NAME after the cell tagged 'parameters', else before the first cell; VALUE is JSON or plain text. "
        "It also answers a cell that asks for NAME with input, getpass or os.environ"
    )
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help=parameter)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from nbreplay.cli.report import print_results
    from nbreplay.testing.runner import compare_runs, find_notebooks, update, write

    options = run_options(arguments)
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
    from nbreplay.cli.report import print_results
    from nbreplay.testing.runner import find_notebooks

    options = run_options(arguments)
    if options.mode is not Mode.REPLAY:
        raise OptionError(f"NBREPLAY_MODE is {options.mode.value}, and trim replays. Unset it")
    paths = find_notebooks(arguments.notebooks)
    results = _run_all(arguments, paths, options)
    if not all(result.passed for result in results):
        # A failed notebook has not used all of its recordings.
        print_results(results, as_json=arguments.json)
        print_error("nothing is trimmed: a notebook failed")
        return 1
    if any(name == UNSEEN_CALLS for result in results for _, name in result.uncovered):
        print_results(results, as_json=arguments.json)
        print_error("nothing is trimmed: it is not known what all forked processes use")
        return 1
    children = dict.fromkeys(name for result in results for kind, name in result.uncovered if kind == "child")
    if children:
        print_error(f"trim does not see what child processes use: {', '.join(children)}")
    used: dict[str, set[str]] = defaultdict(set)
    for path, names in (item for result in results for item in result.used.items()):
        used[path].update(names)
    rows: list[dict[str, Any]] = []
    for path, in_use in sorted(used.items()):
        if is_archive(path):
            raise OptionError(f"{path} is a zip, which is read only. Unzip it and name the folder")
        store = Store(path)
        unused = store.find_unused(in_use)
        by_notebook = {name: makers for name in unused if (makers := store.makers(name))}
        removed = store.remove(unused) if arguments.yes else []
        rows.append({"store": path, "used": len(in_use), "unused": unused, "made_by": by_notebook, "removed": removed})
    if arguments.json:
        print_json(rows)
        return 0
    by = "these notebooks" if len(paths) > 1 else "this notebook"
    for row in rows:
        print_text((row["store"], HEADING), f": {row['used']:,} used by {by}, {len(row['unused']):,} unused")
        for name in row["removed"] if arguments.yes else row["unused"]:
            made_by = format_makers(row["made_by"].get(name, ()))
            print_text("removed " if arguments.yes else "", (name, NAME), made_by, indent=2)
        if row["unused"] and not arguments.yes:
            print_text("trim --yes removes them. Name every notebook that uses the store first: trim sees no others.")
    return 0


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """Return how to run notebooks, as the options of the command line say."""
    from nbreplay.testing.result import RunOptions

    mode = mode_of_run(arguments.mode, "--mode") or Mode.REPLAY
    if arguments.keep_errors and mode is Mode.REPLAY:
        raise OptionError("--keep-errors keeps failures while recording. Pass --mode auto")
    # Outputs that are about to be stored may differ from the stored ones.
    compare = False if arguments.update else arguments.compare
    parameters = dict(map(_parameter, arguments.parameter))
    return RunOptions(
        mode,
        arguments.timeout,
        arguments.keep_going,
        compare,
        parameters,
        kernel=arguments.kernel,
        update=arguments.update,
        keep_errors=arguments.keep_errors,
        **{flag: getattr(arguments, flag) for flag in FLAGS},
    )


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

    if not is_watched(arguments.json):
        return run_all(paths, options, number=arguments.n)
    from rich.markup import escape
    from rich.progress import TimeElapsedColumn

    columns = ("{task.completed} of {task.total} notebooks", TimeElapsedColumn(), "{task.description}")
    with make_progress(*columns) as bar:
        task = bar.add_task("starting", total=len(paths))

        def show(path: Path, cell: int, cells: int) -> None:
            text = f"{escape(plain(path.name))}: cell {cell} of {cells}"
            bar.update(task, advance=cell == cells, description=text)

        return run_all(paths, options, number=arguments.n, on_cell=show)
