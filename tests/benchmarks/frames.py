"""What frames cost, against json, msgspec and duckdb over the same files: cold, again, and in memory, as ratios.

``python -m tests.benchmarks.frames``; ``--recordings 20000 --rounds 3`` are the defaults. All sides of a row take turns
in one run. ``--memory`` loads once with each engine, in a process of its own, and says what memory that took at most.
TMPDIR=/dev/shm keeps the disk out of it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

import nbreplay
from nbreplay.analysis.frame_cache import YOUNG_NS
from tests.benchmarks.setting import write_plain, write_streams
from tests.benchmarks.timing import Body, Side, bare, interleaved, ratio

__all__ = ["main"]

Work = Callable[[Path], object]
_JSON, _SLOW = "json.load of each file", "duckdb's read_json"
ENGINES = ["pandas", *(name for name in ("polars", "duckdb") if find_spec(name))]


def _json(folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        with path.open(encoding="utf-8") as file:
            json.load(file)


def _msgspec(folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        msgspec.json.decode(path.read_bytes())


def _read_json(folder: Path) -> None:
    import duckdb

    files = [str(path) for path in folder.glob("*.json")]
    assert duckdb.read_json(files).aggregate("sum(len(takes))").fetchall()


def _tokens(folder: Path, engine: Any = "pandas") -> int:
    """Load a store and answer a question with one frame."""
    calls = nbreplay.load(folder, engine=engine).interactions
    if engine == "polars":
        return int(calls.select("output_tokens").sum().collect().item())
    if engine == "duckdb":
        return int(calls.aggregate("sum(output_tokens)").fetchall()[0][0])
    return int(calls.output_tokens.sum())


def _all_frames(folder: Path) -> None:
    lib = nbreplay.load(folder)
    assert len(lib.messages) > len(lib.interactions)
    assert len(lib.chunks) >= len(lib.tool_calls)


@contextlib.contextmanager
def first(folder: Path, body: Work = _all_frames) -> Iterator[Body]:
    """Load a store for the first time: nothing of it is kept."""
    shutil.rmtree(folder / ".nbreplay", ignore_errors=True)
    with bare(functools.partial(body, folder)) as made:
        yield made


@contextlib.contextmanager
def second(folder: Path, body: Work = _all_frames) -> Iterator[Body]:
    """Load a store of which all is kept."""
    body(folder)
    with bare(functools.partial(body, folder)) as made:
        yield made


def _rows() -> dict[str, tuple[Callable[[Path], contextlib.AbstractContextManager[Body]], float | None]]:
    """Return the sides that are compared with json, and the most that each may take, by its name."""

    def of(entry: Callable[..., Any], work: Work) -> Callable[[Path], contextlib.AbstractContextManager[Body]]:
        return lambda folder: entry(folder, work)

    rows = {
        _JSON: (of(first, _json), None),
        "msgspec of each file": (of(first, _msgspec), None),
        "load, interactions, cold": (of(first, _tokens), 1.5),
        "load, all four frames, cold": (of(first, _all_frames), None),
        "load, interactions, again": (of(second, _tokens), 0.25),
        "load, all four frames, again": (of(second, _all_frames), None),
    }
    for name in ENGINES[1:]:
        rows[f"load, {name}, cold"] = of(first, functools.partial(_tokens, engine=name)), 1.5
        rows[f"load, {name}, again"] = of(second, functools.partial(_tokens, engine=name)), 0.25
    if "duckdb" in ENGINES:
        rows[_SLOW] = of(first, _read_json), None
    return rows


def _stores(base: Path, number: int) -> Iterator[tuple[str, Path]]:
    plain, mixed = base / "plain", base / "mixed"
    write_plain(plain, number)
    write_plain(mixed, number - number // 10)
    write_streams(base / "streams", number // 10, 50)
    for path in (base / "streams").glob("*.json"):
        path.rename(mixed / path.name)
    time.sleep(YOUNG_NS / 1e9)  # what is younger is not kept
    yield "plain calls", plain
    yield "one in ten a stream of 50 chunks", mixed


def _time(folder: Path, rounds: int, title: str) -> Table:
    table = Table("side", title=f"{title}: times json.load, medians and quartiles", title_justify="left")
    for name in ("CPU s", "CPU ratio", "quartiles", "wall ratio", "at most"):
        table.add_column(name, justify="right")
    rows = _rows()
    sides: dict[str, Side] = {name: functools.partial(side, folder) for name, (side, _) in rows.items()}
    # It takes ten times as long as any other side: once is enough.
    slow = {_JSON: sides[_JSON], _SLOW: sides.pop(_SLOW)} if _SLOW in sides else {}
    spent, once = interleaved(rounds, **sides), interleaved(1, **slow) if slow else {}
    for name, (_, target) in rows.items():
        times = once if name == _SLOW else spent
        found = ratio(name, times[name], times[_JSON], target)
        limit = "" if target is None else f"{target:.2f} {'✓' if found.met else '✗'}"
        seconds = min(one.cpu for one in times[name])
        quartiles = f"{found.low:.2f}–{found.high:.2f}"
        table.add_row(name, f"{seconds:.2f}", f"{found.measured:.2f}", quartiles, f"{found.other:.2f}", limit)
    return table


_MEASURED = """
import resource, sys
from pathlib import Path
from tests.benchmarks import frames
most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
folder, engine = Path(sys.argv[1]), sys.argv[2]
import numpy, pandas, pyarrow.parquet, pyarrow.compute
for name in frames.ENGINES: __import__(name)
before = most()
frames._tokens(folder, engine)
print(most() - before)
"""


def _weigh(stores: list[tuple[str, Path]], title: str) -> Table:
    table = Table("engine", title=f"{title}: MB that a load takes at most, besides the imports", title_justify="left")
    for name, _ in stores:
        table.add_column(name, justify="right")
    for when in ("cold", "again"):
        for engine in ENGINES:
            row = []
            for _, folder in stores:
                if when == "cold":
                    shutil.rmtree(folder / ".nbreplay", ignore_errors=True)
                command = [sys.executable, "-c", _MEASURED, str(folder), engine]
                row.append(f"{float(subprocess.run(command, check=True, capture_output=True, text=True).stdout):,.0f}")
            table.add_row(f"{engine}, {when}", *row)
    return table


def main(arguments: list[str] | None = None) -> None:
    """Print a table for each store, or one of the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 100)
    title = f"{options.recordings:,} recordings"
    with tempfile.TemporaryDirectory() as temporary:
        stores = list(_stores(Path(temporary), options.recordings))
        if options.memory:
            console.print(_weigh(stores, title))
            return
        for name, folder in stores:
            console.print(_time(folder, options.rounds, f"{title}, {name}"))


if __name__ == "__main__":
    main()
