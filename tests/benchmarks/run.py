"""What nbreplay costs, against the targets it is held to: ``python -m tests.benchmarks.run [--json FILE] [--quick]``.

How to read it. Everything is measured in this one process, in rounds in which the sides of a comparison take turns.
A ratio or a difference is made within a round, so that a machine that is slow for a while is slow for both, and the
median over the rounds is shown. ``cpu`` rows compare processor time and are the steadier; ``wall`` rows have a clock on
the wall, since they wait for the disk; both are in the JSON. The floor is the same SDK call over the HTTP library's own
MockTransport, which gives the same bytes and headers out of memory: what is above 1 is nbreplay's. *cold*: a session
reads the recording for the first time (the operating system has the file in memory); *warm*: it has read it before.
The garbage collector stays on, and collects before each timing. The exit status says only that it could be run; times
differ from machine to machine and are not asserted. ``--quick`` is too small for its figures to mean much.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import openai

import nbreplay
from nbreplay.core import active
from nbreplay.core.cell import Run
from nbreplay.errors import RecordingMissing
from tests.benchmarks import setting
from tests.benchmarks.setting import (
    JSON,
    LIBRARY,
    SSE,
    Body,
    Call,
    Memory,
    Side,
    Spent,
    answers,
    ask,
    bare,
    interleaved,
    read,
)

__all__ = ["Figure", "Size", "main", "measure"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds and calls a round, chunks a stream, recordings in the large store."""

    rounds: int = 30
    calls: int = 50
    streams: int = 3
    chunks: int = 1000
    store: int = 10_000
    children: int = 11


QUICK = Size(rounds=2, calls=5, streams=1, chunks=50, store=200, children=1)


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what was measured by the clock named, its quartiles, and what is wanted."""

    name: str
    measured: float
    target: float
    unit: str = "x"
    clock: str = "cpu"
    low: float = 0.0
    high: float = 0.0
    other: float | None = None  # the same by the other clock
    least: bool = False  # the target is a least, not a most

    @property
    def met(self) -> bool:
        return self.measured >= self.target if self.least else self.measured <= self.target

    def row(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def _figure(name: str, values: list[Spent], target: float, unit: str = "x", clock: str = "cpu") -> Figure:
    """Return the median over the rounds."""
    by = {which: [getattr(value, which) for value in values] for which in ("cpu", "wall")}
    low, _, high = statistics.quantiles(by[clock], n=4) if len(values) > 1 else by[clock] * 3
    other = statistics.median(by["wall" if clock == "cpu" else "cpu"])
    return Figure(name, statistics.median(by[clock]), target, unit, clock, low, high, other)


def _ratios(over: list[Spent], under: list[Spent]) -> list[Spent]:
    return [Spent(a.wall / b.wall, a.cpu / b.cpu) for a, b in zip(over, under, strict=True)]


def _added(over: list[Spent], under: list[Spent], factor: float) -> list[Spent]:
    pairs = zip(over, under, strict=True)
    return [Spent((a.wall - b.wall) * factor, (a.cpu - b.cpu) * factor) for a, b in pairs]


@contextlib.contextmanager
def _replaying(store: Path, body: Body, warm: bool = False) -> Iterator[Body]:
    with nbreplay.session(store, mode="replay"):
        if warm:
            body()
        run = Run()  # as a cell that is run once more: its takes start anew
        active.enter_run(run)
        try:
            yield body
        finally:
            active.leave_run(run)


@contextlib.contextmanager
def _recording(body: Body, folder: Path) -> Iterator[Body]:
    with nbreplay.session(folder, mode="record"):
        yield body
    shutil.rmtree(folder)


def _replay(size: Size, base: Path) -> Iterator[Figure]:
    hooked = setting.client()
    plain = setting.write_plain(base / "plain", size.calls)
    streams = setting.write_streams(base / "streams", size.streams, size.chunks)
    bodies = [setting.plain(number) for number in range(size.calls)]
    joined = [b"".join(setting.events(number, size.chunks)) for number in range(size.streams)]
    cases: tuple[tuple[str, Call, list[bytes], dict[str, str], Path], ...] = (
        ("plain call", ask, bodies, JSON, plain),
        (f"stream of {size.chunks} chunks", read, joined, SSE, streams),
    )
    for name, call, given, headers, store in cases:
        under = answers(call, setting.floor(headers, given), range(len(given)))
        over = answers(call, hooked, range(len(given)))
        spent = interleaved(
            size.rounds,
            floor=functools.partial(bare, under),
            cold=functools.partial(_replaying, store, over),
            warm=functools.partial(_replaying, store, over, warm=True),
        )
        yield _figure(f"replay, {name}, cold / floor", _ratios(spent["cold"], spent["floor"]), 1.10)
        yield _figure(f"replay, {name}, warm / floor", _ratios(spent["warm"], spent["floor"]), 1.10)


def _large(size: Size, base: Path) -> Iterator[Figure]:
    hooked = setting.client()
    small = setting.write_plain(base / "small", min(100, size.store))
    large = setting.write_plain(base / "large", size.store)
    number = min(100, size.store)
    step = size.store // number
    spent = interleaved(
        size.rounds,
        small=functools.partial(_replaying, small, answers(ask, hooked, range(number))),
        large=functools.partial(_replaying, large, answers(ask, hooked, range(0, size.store, step))),
    )
    name = f"replay, cold, {size.store} recordings / {number}"
    yield _figure(name, _ratios(spent["large"], spent["small"]), 1.2)

    def first() -> None:
        with nbreplay.session(large, mode="replay"):
            ask(hooked, size.store // 2)

    def miss() -> None:
        with contextlib.suppress(RecordingMissing):
            ask(hooked, size.store + 1)
            raise AssertionError("answered what was not recorded")

    spent = interleaved(
        max(3, size.rounds // 3),
        first=functools.partial(bare, first),
        miss=functools.partial(_replaying, large, miss),
        again=functools.partial(_replaying, large, miss, warm=True),
    )
    yield _figure(f"open {size.store} recordings, first call", spent["first"], 0.2, "s", "wall")
    for name, side in (("first", "miss"), ("second", "again")):
        values = [Spent(value.wall * 1000, value.cpu * 1000) for value in spent[side]]
        yield _figure(f"{name} miss among {size.store} recordings", values, 100, "ms", "wall")


def _record(size: Size, base: Path) -> Iterator[Figure]:
    folder = base / "new"
    sdk = setting.client(Memory(JSON, [setting.plain(0)]))
    streaming = setting.client(Memory(SSE, setting.events(0, size.chunks)))
    number = size.calls * 2
    distinct, same = answers(ask, sdk, range(number)), answers(ask, sdk, [0] * number)
    stream = answers(read, streaming, range(size.streams))
    cases: tuple[tuple[str, Body, float, float, str], ...] = (
        ("a plain call, new keys", distinct, 1000 / number, 1.0, "ms"),
        (f"a plain call, one key, {number} takes", same, 1000 / number, 1.0, "ms"),
        (f"a chunk of {size.chunks}", stream, 1e6 / size.streams / size.chunks, 10.0, "us"),
    )
    for name, body, factor, target, unit in cases:
        rounds = max(2, size.rounds * 2 // 3)
        off: Side = functools.partial(bare, body)
        spent = interleaved(rounds, off=off, on=functools.partial(_recording, body, folder))
        yield _figure(f"recording adds to {name}", _added(spent["on"], spent["off"], factor), target, unit, "wall")
    yield from _on_disk(size, folder, sdk, streaming)


def _on_disk(size: Size, folder: Path, sdk: openai.OpenAI, streaming: openai.OpenAI) -> Iterator[Figure]:
    """Check that what was recorded is in its file when the call returns, and how long a stream's file is."""
    there = []
    with nbreplay.session(folder, mode="record"):
        for number in (0, 1, 1, 2):
            before = sum(path.stat().st_size for path in folder.glob("*.json"))
            ask(sdk, number)
            there.append(sum(path.stat().st_size for path in folder.glob("*.json")) > before)
        files = set(folder.glob("*.json"))
        read(streaming, 0)
        (made,) = set(folder.glob("*.json")) - files
        there.append(len(made.read_text("utf-8").splitlines()) > size.chunks)
        length = made.stat().st_size / size.chunks
    shutil.rmtree(folder)
    yield Figure("recordings on disk when the call returns", sum(there) / len(there), 1.0, "of 1", "", least=True)
    yield Figure(f"file of a stream of {size.chunks}, a chunk", length, 160, "bytes", "")


def _off(size: Size, base: Path) -> Iterator[Figure]:
    calls = answers(ask, setting.client(Memory(JSON, [setting.plain(0)])), range(size.calls * 2))

    @contextlib.contextmanager
    def hooked() -> Iterator[Body]:
        with nbreplay.session(base / "off", mode="off"):
            yield calls

    spent = interleaved(size.rounds, off=hooked, bare=functools.partial(bare, calls))
    yield _figure("mode off / not installed", _ratios(spent["off"], spent["bare"]), 1.02)


_CHILD = """
import time
import openai
wall, cpu = time.perf_counter(), time.process_time()
import nbreplay
nbreplay.{name}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def _imports(size: Size, base: Path) -> Iterator[Figure]:
    # Bytecode is kept, as it is where packages are installed, and out of the way.
    around = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    around["PYTHONPYCACHEPREFIX"] = str(base / "bytecode")
    names = ("session", "load_ipython_extension")
    spent: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(-1, size.children):  # the first one compiles
        for name in names:
            code = [sys.executable, "-c", _CHILD.format(name=name)]
            done = subprocess.run(code, env=around, stdout=subprocess.PIPE, text=True, check=True)
            wall, cpu = done.stdout.split()
            if number >= 0:
                spent[name].append(Spent(float(wall) * 1000, float(cpu) * 1000))
    for name in names:
        yield _figure(f"import nbreplay.{name} after openai", spent[name], 30, "ms", "cpu")


def measure(size: Size) -> Iterator[Figure]:
    """Yield the figures, each as soon as it is known."""
    # What is set outside must not decide what is measured. The folder is in memory or on disk as TMPDIR says.
    for name in [name for name in os.environ if name.startswith("NBREPLAY_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="nbreplay-benchmarks-") as name:
        for group in (_imports, _replay, _large, _record, _off):
            yield from group(size, Path(name))


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print a table as it grows."""
    about = "Measure what nbreplay costs, against the targets it is held to."
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=about)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="a few small rounds: whether it runs, not how fast")
    given = parser.parse_args(arguments)
    where = {"python": platform.python_version(), "openai": openai.__version__, LIBRARY.__name__: LIBRARY.__version__}
    print(" · ".join(f"{name} {version}" for name, version in where.items()))
    print(f"{'figure':52} {'measured':>9} {'quartiles':>15} {'target':>10} {'':5} {'clock':5} met")
    figures = []
    for figure in measure(QUICK if given.quick else Size()):
        figures.append(figure)
        spread = f"{figure.low:.4g}–{figure.high:.4g}" if figure.clock else ""
        limit = ("≥ " if figure.least else "≤ ") + f"{figure.target:g}"
        met = "yes" if figure.met else "no"
        print(
            f"{figure.name:52} {figure.measured:9.4g} {spread:>15} {limit:>10} {figure.unit:5} {figure.clock:5} {met}",
            flush=True,
        )
    if given.json:
        content = {"with": where, "quick": given.quick, "figures": [figure.row() for figure in figures]}
        given.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
