"""What frames cost: `nbreplay.load` and all four, against json.load of every file and `pandas.json_normalize`.

``python -m tests.benchmarks.frames``; ``--recordings 20000 --rounds 3`` are the defaults.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd  # type: ignore[import-untyped]

import nbreplay
from tests.benchmarks.setting import write_plain, write_streams
from tests.benchmarks.timing import bare, interleaved

__all__ = ["main"]


def frames(folder: Path) -> Callable[[], None]:
    """Load a store, build all four frames and sum a column of each."""

    def body() -> None:
        lib = nbreplay.load(folder)
        lib.interactions.input_tokens.sum()
        lib.messages.chars.sum()
        lib.chunks.chars.sum()
        lib.tool_calls.answered.sum()

    return body


def interactions(folder: Path) -> Callable[[], None]:
    """Load a store and sum a column of the interactions, which is all that many ask for."""

    def body() -> None:
        nbreplay.load(folder).interactions.input_tokens.sum()

    return body


def normalized(folder: Path) -> Callable[[], None]:
    """Do what anybody would with pandas alone: parse, normalise and drop, file by file."""

    def body() -> None:
        rows = 0
        for path in sorted(folder.glob("*.json")):
            with path.open(encoding="utf-8") as file:
                rows += len(pd.json_normalize(json.load(file)))
        assert rows

    return body


def main(arguments: list[str] | None = None) -> None:
    """Print a row a store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    number, rounds = options.recordings, options.rounds
    with tempfile.TemporaryDirectory() as temporary:
        plain, mixed = Path(temporary) / "plain", Path(temporary) / "mixed"
        write_plain(plain, number)
        write_plain(mixed, number - number // 10)
        write_streams(Path(temporary) / "streams", number // 10, 50)
        for path in (Path(temporary) / "streams").glob("*.json"):
            path.rename(mixed / path.name)
        for name, folder in (("plain calls", plain), ("one in ten a stream of 50 chunks", mixed)):
            spent = interleaved(
                rounds,
                theirs=lambda folder=folder: bare(normalized(folder)),  # type: ignore[misc]
                ours=lambda folder=folder: bare(frames(folder)),  # type: ignore[misc]
                some=lambda folder=folder: bare(interactions(folder)),  # type: ignore[misc]
            )
            best = {side: min(one.cpu for one in times) for side, times in spent.items()}
            print(
                f"{number:,} recordings, {name}: json_normalize {best['theirs']:.2f} s of CPU; "
                f"all four frames {best['ours']:.2f} s, {best['theirs'] / best['ours']:.1f} times as fast; "
                f"interactions alone {best['some']:.2f} s, {best['theirs'] / best['some']:.1f} times"
            )


if __name__ == "__main__":
    main()
