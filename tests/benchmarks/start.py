"""What a start of Python costs with the file of the wheel: ``python -m tests.benchmarks.start [--rounds N]``.

Two fresh environments differ in that file alone, and their processes take turns. Then a child of a session, which is
switched on, takes turns with one that is left alone. Prints medians of the seconds of CPU, which a busy machine changes
less, and the ratios of pairs: the 10th, 25th, 50th, 75th and 90th of a hundred.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbreplay as nr
from nbreplay.intercept.processes.child import left_alone

__all__ = ["main", "measure"]

_PTH = Path(__file__).parents[2] / "nbreplay.pth"
_CODES = {"a plain child": "pass", "a child that imports http.client": "import http.client"}

# How many other files there are. Python itself takes longer for the first one.
_FILES = {"a start with the file alone": 0, "a start with the file and another": 1}

Side = tuple[str, str, Mapping[str, str]]
"""An interpreter, its code and its environment."""


def _seconds(side: Side) -> float:
    python, code, environment = side
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-c", code], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(rounds: int, one: Side, other: Side) -> list[tuple[float, float]]:
    """Return the seconds of pairs of starts, of which either side comes first in turn."""
    pairs = []
    for number in range(-1, rounds):
        if number % 2:
            second, first = _seconds(other), _seconds(one)
        else:
            first, second = _seconds(one), _seconds(other)
        if number >= 0:
            pairs.append((first, second))
    return pairs


def _environment(home: Path, files: int) -> str:
    """Make an environment with the file, so many times; return its Python."""
    venv.create(home, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    for number in range(files):
        (packages / f"{number}{_PTH.name}").write_bytes(_PTH.read_bytes())
    return str(home / "bin" / "python")


def _show(name: str, pairs: Sequence[tuple[float, float]]) -> None:
    one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(second / first for first, second in pairs)
    spread = " ".join(f"{ratios[int(part * (len(ratios) - 1))]:.3f}" for part in (0.1, 0.25, 0.5, 0.75, 0.9))
    print(f"{name:34} {one * 1000:7.2f} {other * 1000:7.2f} ms   ratio of medians {other / one:.3f}   pairs {spread}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="the cost of a start of Python")
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args(arguments).rounds
    with tempfile.TemporaryDirectory() as folder:
        plain = left_alone()
        del plain["NBREPLAY_CHILD"]
        for name, others in _FILES.items():
            one, other = (_environment(Path(folder, f"{name} {each}"), others + each) for each in (0, 1))
            _show(name, measure(rounds, (one, "pass", plain), (other, "pass", plain)))
        with nr.session(Path(folder, "recordings"), mode="auto"):
            for name, code in _CODES.items():
                alone, switched = (sys.executable, code, left_alone()), (sys.executable, code, dict(os.environ))
                _show(name, measure(max(1, rounds // 10), alone, switched))


if __name__ == "__main__":
    main()
