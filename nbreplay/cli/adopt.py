"""The command ``nbreplay adopt``: makes a folder of notebooks replay without a key.

The command line imports this at every start, so it imports what runs notebooks only when it runs some.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nbreplay.cli.notebooks import add_common_options, add_notebooks_argument, add_parameter_option, run_options
from nbreplay.cli.output import BAD, GOOD, HEADING, is_terminal, is_watched, make_progress, print_json, print_text
from nbreplay.core.config import forced_mode
from nbreplay.core.words import count_of
from nbreplay.errors import OptionError
from nbreplay.notebook.escape import plain

if TYPE_CHECKING:
    from nbreplay.testing.adoption.adoption import Adoption, Watcher
    from nbreplay.testing.adoption.evidence import Evidence

_EPILOG = """\
examples:
  $ nbreplay adopt notebooks/        record, replay, ask, write
  $ nbreplay adopt notebooks/ --yes  write the changes without asking

exit status: 0 all notebooks replay and no change is left to write, 1 otherwise, 2 wrong usage
"""

_DIFF_STYLES = {r"(?m)^(---|\+\+\+) .*": HEADING, r"(?m)^-(?!-- ).*": "red", r"(?m)^\+(?!\+\+ ).*": "green"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    parser = commands.add_parser("adopt", epilog=_EPILOG)
    parser.description = (
        "Record each notebook with your keys, replay it without keys in clean copies of its folder, and explain why a "
        "notebook does not replay. Show the changes that it needs as a diff, and write them after you confirm: masks "
        "in pyproject.toml, cell tags, the outputs of the replay, and a workflow for CI. Recordings from an earlier "
        "run are reused."
    )
    add_notebooks_argument(parser)
    parser.add_argument("--yes", action="store_true", help="write the changes without asking")
    add_parameter_option(parser)
    add_common_options(parser)
    parser.set_defaults(do=_adopt, mode="record", update=False, compare=False, keep_going=False, keep_errors=False)


def _adopt(arguments: argparse.Namespace) -> int:
    from nbreplay.testing.adoption.adoption import adopt
    from nbreplay.testing.runner import find_notebooks

    if (mode := forced_mode()) is not None:
        raise OptionError(f"NBREPLAY_MODE is {mode.value}, and adopt records and replays. Unset it")
    paths = find_notebooks(arguments.notebooks)
    options = run_options(arguments)
    with _watcher(arguments) as watcher:
        try:
            adoption = adopt(paths, options, number=arguments.n, watcher=watcher)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Run adopt again to go on: what was recorded is not recorded again") from None
        changes = adoption.changes()
    diffs = [change.diff() for change in changes]
    if not arguments.json:
        _print_findings(adoption)
        _print_diffs(adoption, diffs)
    is_written = bool(changes) and (arguments.yes or (not arguments.json and _ask(len(changes))))
    if is_written:
        for change in changes:
            change.write()
    if arguments.json:
        rows = list(map(_row, adoption.evidence))
        files = [{"file": str(change.path), "diff": diff} for change, diff in zip(changes, diffs, strict=True)]
        print_json({"notebooks": rows, "changes": files, "written": is_written})
    elif is_written:
        print_text(f"{count_of(len(changes), 'file')} written")
    elif changes:
        print_text("Nothing was written. To write the changes, run adopt again with --yes. It does not record again")
    return 0 if all(item.passes for item in adoption.evidence) and (is_written or not changes) else 1


def _row(item: Evidence) -> dict[str, Any]:
    from nbreplay.testing.adoption.evidence import judge

    return {
        "notebook": str(item.path),
        "ok": item.passes,
        "adopted": item.is_adopted,
        "recorded": item.record.count("recorded") if item.record else 0,
        "statuses": msgspec.to_builtins(judge(item)),
    }


def _print_findings(adoption: Adoption) -> None:
    """Print whether each notebook replays, and below it its statuses with what to do."""
    from nbreplay.testing.adoption.evidence import judge

    for item in adoption.evidence:
        verdict = ("ok  ", GOOD) if item.passes else ("FAIL", BAD)
        print_text(verdict, "  ", (os.path.relpath(item.path), HEADING))
        for finding in judge(item):
            print_text((f"{finding.status}:", HEADING), f" {finding.remedy}", indent=6)
            for detail in finding.details:
                print_text(detail, indent=8)
    every = len(adoption.evidence)
    good = sum(item.passes for item in adoption.evidence)
    recorded = sum(item.record.count("recorded") for item in adoption.evidence if item.record)
    replays = "replays" if every == 1 else "replay"
    summary = f"{good} of {count_of(every, 'notebook')} {replays} without a key"
    print_text((summary, GOOD if good == every else BAD), f", {count_of(recorded, 'call')} recorded")


def _print_diffs(adoption: Adoption, diffs: Sequence[str]) -> None:
    if not diffs:
        if all(item.is_adopted for item in adoption.evidence):
            print_text("Nothing to change")
        return
    if requirements := adoption.requirements():
        print_text(f"The notebooks import {', '.join(requirements)}")
    for diff in diffs:
        print_text("\n" + diff, highlights=_DIFF_STYLES)
    print()


def _ask(number: int) -> bool:
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return False
    return input(f"Write these changes to {count_of(number, 'file')}? [y/N] ").strip().lower() in ("y", "yes")


@contextmanager
def _watcher(arguments: argparse.Namespace) -> Iterator[Watcher]:
    """Yield a watcher that shows progress on stderr: bars on a terminal, else one line per result."""
    from nbreplay.testing.adoption.adoption import Watcher

    class Lines(Watcher):
        name = ""

        def stage(self, name: str, paths: Sequence[Path]) -> None:  # noqa: ARG002
            self.name = name

        def result(self, result: Any) -> None:
            verdict = "ok" if result.passed else "failed"
            calls = count_of(len(result.calls), "call")
            print(plain(f"{self.name} {result.path}: {verdict}, {calls}"), file=sys.stderr)

    if arguments.json:
        yield Watcher()
        return
    if not is_watched():
        yield Lines()
        return
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID

    class Bars(Watcher):
        def __init__(self, progress: Progress) -> None:
            self.progress, self.tasks = progress, dict[Path, TaskID]()

        def stage(self, name: str, paths: Sequence[Path]) -> None:
            for path in paths:
                self.result_of(path)
                text = f"{name} {escape(plain(path.name))}"
                self.tasks[path] = self.progress.add_task(text, total=None, visible=False)

        def cell(self, path: Path, cell: int, cells: int) -> None:
            self.progress.update(self.tasks[path], completed=cell, total=cells, visible=True)

        def result(self, result: Any) -> None:
            self.result_of(result.path)

        def result_of(self, path: Path) -> None:
            if path in self.tasks:
                self.progress.remove_task(self.tasks.pop(path))

    columns = ("{task.description}", BarColumn(), "cell {task.completed} of {task.total}")
    with make_progress(*columns) as progress:
        yield Bars(progress)
