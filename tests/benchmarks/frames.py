"""What frames cost: `nbreplay.load` and all four, against json.load of every file and `pandas.json_normalize`.

``python -m tests.benchmarks.frames``; ``--recordings 20000 --rounds 3`` are the defaults. ``--memory`` makes all four,
once, and says how much memory the process had at most.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]

import nbreplay
from nbreplay.analysis.frame_cache import YOUNG_NS
from tests.benchmarks.setting import write_plain, write_streams
from tests.benchmarks.timing import bare, interleaved

__all__ = ["main"]

Body = Callable[[], None]


def _summed(folder: Path) -> None:
    lib = nbreplay.load(folder)
    lib.interactions.input_tokens.sum()
    lib.messages.chars.sum()
    lib.chunks.chars.sum()
    lib.tool_calls.answered.sum()


@contextlib.contextmanager
def first(folder: Path, body: Callable[[Path], None] = _summed) -> Iterator[Body]:
    """Load a store for the first time: nothing of it is kept."""
    shutil.rmtree(folder / ".nbreplay", ignore_errors=True)
    with bare(lambda: body(folder)) as made:
        yield made


@contextlib.contextmanager
def second(folder: Path) -> Iterator[Body]:
    """Load a store of which all is kept."""
    _summed(folder)
    with bare(lambda: _summed(folder)) as made:
        yield made


def _interactions(folder: Path) -> None:
    nbreplay.load(folder).interactions.input_tokens.sum()


def _normalized(folder: Path) -> None:
    """Do what anybody would with pandas alone: parse, normalise and drop, file by file."""
    rows = 0
    for path in sorted(folder.glob("*.json")):
        with path.open(encoding="utf-8") as file:
            rows += len(pd.json_normalize(json.load(file)))
    assert rows


def _written(base: Path, number: int) -> Iterator[tuple[str, Path]]:
    plain, mixed = base / "plain", base / "mixed"
    write_plain(plain, number)
    write_plain(mixed, number - number // 10)
    write_streams(base / "streams", number // 10, 50)
    for path in (base / "streams").glob("*.json"):
        path.rename(mixed / path.name)
    time.sleep(YOUNG_NS / 1e9)  # what is younger is not kept
    yield "plain calls", plain
    yield "one in ten a stream of 50 chunks", mixed


def main(arguments: list[str] | None = None) -> None:
    """Print a row a store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        for name, folder in _written(Path(temporary), options.recordings):
            head = f"{options.recordings:,} recordings, {name}: "
            if options.memory:
                _summed(folder)
                most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                print(f"{head}{most / 2**30:.2f} GiB at most")
                continue
            spent = interleaved(
                options.rounds,
                theirs=lambda folder=folder: bare(lambda: _normalized(folder)),  # type: ignore[misc]
                first=lambda folder=folder: first(folder),  # type: ignore[misc]
                second=lambda folder=folder: second(folder),  # type: ignore[misc]
                some=lambda folder=folder: first(folder, _interactions),  # type: ignore[misc]
            )
            for clock in ("wall", "cpu"):
                best = {side: min(getattr(one, clock) for one in times) for side, times in spent.items()}
                told = ", ".join(
                    f"{label} {best[side]:.2f} s, {best['theirs'] / best[side]:.1f} times as fast"
                    for label, side in (
                        ("first load, all four frames", "first"),
                        ("second load, all four", "second"),
                        ("first load, interactions alone", "some"),
                    )
                )
                print(f"{head}({clock}) json_normalize {best['theirs']:.2f} s; {told}")


if __name__ == "__main__":
    main()
