"""What foreign notebooks in many folders cost: ``python -m tests.benchmarks.folders [--rounds N] [--against PATH]``.

Wants the extra `bench`. Whole processes over notebooks of `tests.cookbook` and copies of them, 40 in 20 folders:
``nbreplay run``, nbmake, whose notebooks call the cookbook's services, and another version of nbreplay. A notebook that
fails under one of them is left out. The rounds alternate; the figures are medians of CPU and wall time, and ratios to
those of this version in the same run. CPU time is that of every process that a run starts.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.timing import Spent
from tests.cookbook.server import SECRETS, Services
from tests.cookbook.table import copy_cookbook, nbreplay, read_rows

__all__ = ["Side", "find_failures", "main", "measure"]

_HERE = Path(__file__).parents[2]
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_TARGET = 5.0  # how many times less CPU than nbmake
_SLOW = ("installs/",)  # pip would be most of what they cost
_RUN = (sys.executable, "-m", "nbreplay", "run", ".")
_NBMAKE = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbmake", "-n", "2", ".")


@dataclass(frozen=True, slots=True)
class Side:
    """A way of running notebooks: a command, the checkout that it uses, and variables."""

    command: tuple[str, ...]
    package: Path
    variables: Mapping[str, str]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print what came of it; the exit status says only whether every notebook passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.folders", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--notebooks", type=int, default=40, metavar="N", help="at least so many")
    parser.add_argument("--against", type=Path, metavar="PATH", help="the checkout of another version of nbreplay")
    parser.add_argument("--without-nbmake", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args(arguments)
    with Services() as services, tempfile.TemporaryDirectory() as name:
        sides = {"nbreplay": Side(_RUN, _HERE, services.addresses())}
        if not given.without_nbmake:
            sides["nbmake"] = Side(_NBMAKE, _HERE, services.addresses() | SECRETS)
        if given.against:
            sides["against"] = Side(_RUN, given.against.resolve(), services.addresses())
        folder, notebooks, folders = _make_folders(Path(name), services, sides, given.notebooks)
        spent: dict[str, list[Spent]] = {side: [] for side in sides}
        passed = True
        for _ in range(given.rounds):
            for label, side in sides.items():
                figures, output = measure(side, folder)
                spent[label].append(figures)
                if failures := find_failures(output):
                    passed = False
                    print(f"{label}: {', '.join(sorted(failures))} failed", file=sys.stderr)
    rows = {label: Spent(_median(every, "wall"), _median(every, "cpu")) for label, every in spent.items()}
    print(f"{notebooks} notebooks in {folders} folders, median of {given.rounds}")
    for label, row in rows.items():
        ratio, wall = row.cpu / rows["nbreplay"].cpu, row.wall / rows["nbreplay"].wall
        met = f"   ≥ {_TARGET:g}  {'yes' if ratio >= _TARGET else 'no'}" if label == "nbmake" else ""
        print(f"  {label:10} wall {row.wall:7.2f} s  {wall:5.2f} x   CPU {row.cpu:7.2f} s  {ratio:5.2f} x{met}")
    if given.json:
        given.json.write_text(json.dumps({label: asdict(row) for label, row in rows.items()}, indent=2) + "\n", "utf-8")
    return 0 if passed else 1


def _median(every: list[Spent], clock: str) -> float:
    return statistics.median(getattr(one, clock) for one in every)


def _make_folders(base: Path, services: Services, sides: Mapping[str, Side], number: int) -> tuple[Path, int, int]:
    """Record the cookbook, leave out what fails, and copy the folders of the rest until there are enough notebooks.

    Return the folder with them, the number of notebooks and the number of folders.
    """
    good = [row.notebook for row in read_rows() if (row.record, row.replay) == ("ok", "ok")]
    source = copy_cookbook(base / "cookbook", [name for name in good if not name.startswith(_SLOW)])
    nbreplay(source, services, "run", "--mode", "record", "--update", ".", keys=True)
    for side in sides.values():
        for name in find_failures(measure(side, source)[1]):
            (source / name).unlink()
    groups = {path.parent: len([*path.parent.glob("*.ipynb")]) for path in sorted(source.rglob("*.ipynb"))}
    total, folders = 0, 0
    for folder in itertools.cycle(groups):
        if total >= number:
            break
        shutil.copytree(folder, base / "measured" / f"{folders:02}-{folder.name}")
        total, folders = total + groups[folder], folders + 1
    return base / "measured", total, folders


def find_failures(output: str) -> set[str]:
    """Return the notebooks that failed, by what ``nbreplay run`` or nbmake printed."""
    return set(re.findall(r"^(?:FAIL  |FAILED |ERROR )(\S+?\.ipynb)", output, re.MULTILINE))


def measure(side: Side, folder: Path) -> tuple[Spent, str]:
    """Run the notebooks in a folder. Return the time of all processes, and what was printed."""
    if sys.platform == "linux":
        # Processes whose parent has ended become children of this one, so that their CPU time is counted.
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environment |= {**side.variables, "PYTHONPATH": str(side.package)}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        side.command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - started
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall, cpu), done.stdout


if __name__ == "__main__":
    sys.exit(main())
