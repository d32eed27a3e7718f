"""What nbreplay costs, against the targets it is held to: ``python -m tests.benchmarks.run [--json FILE] [--quick]``.

How to read it. Everything but the imports is measured in this one process, in rounds in which the sides of a
comparison take turns. A ratio or a difference is made within a round, so that a machine that is slow for a while is
slow for both; *measured* is the median over the rounds, followed by its quartiles. *best* compares the fastest rounds
of each side and is what to look at where other work disturbs: wide quartiles say that it does. Ratios and imports are
of the CPU's clock (``time.process_time``), what waits for the disk is of the clock on the wall
(``time.perf_counter``); *other* is the same median by the other clock.

The floor is the same SDK call over the HTTP library's own MockTransport, which gives the same bytes and headers out of
memory, with no hook but the guard's audit hook, which cannot be taken back (some twenty events in a call of openai's
pass it): what is above 1 is nbreplay's. It is shown itself, since targets in milliseconds are meant for a machine where
it is some 0.6 ms a plain call and 60 us a chunk; *recorded / not* tells the same as a ratio to the unrecorded call,
against the targets that follow from that. *cold*: a session reads a recording for the first time (the operating system
has the file in memory); of a store as small as this one it reads all at its first call, which is timed with the others,
and *none ahead* is of a store that is too large for that. *warm*: it has read it before. Recording is compared with the
same calls over the same transport, unhooked. Of many takes of one key, a file that grows is replaced as often; what the
file system takes for that is shown alone, too. The garbage collector stays on, and collects before each timing. The
recordings lie where TMPDIR says. The exit status says only that it could be run: times are not asserted, and
``--quick`` is too small for its figures to mean anything.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai

import nbreplay
from nbreplay.core.cell import Run, enter_run, leave_run
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import placeholder_keys
from tests.benchmarks import setting
from tests.benchmarks.setting import JSON, LIBRARY, SSE, Body, Call, Memory, answers, ask, read
from tests.benchmarks.timing import Figure, Side, Spent, added, alone, bare, interleaved, ratio

__all__ = ["Size", "main", "measure"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds and calls a round, chunks a stream, recordings in the large store."""

    rounds: int = 24
    calls: int = 50
    streams: int = 2
    chunks: int = 1000
    store: int = 10_000
    children: int = 7


QUICK = Size(rounds=2, calls=5, streams=1, chunks=50, store=200, children=1)


@contextlib.contextmanager
def _replaying(store: Path, body: Body, warm: bool = False) -> Iterator[Body]:
    with nbreplay.session(store, mode="replay"):
        if warm:
            body()
        run = Run()  # as a cell that is run once more: its takes start anew
        enter_run(run)
        try:
            yield body
        finally:
            leave_run(run)


@contextlib.contextmanager
def _recording(body: Body, base: Path) -> Iterator[Body]:
    # A new folder each, which stays to the end: ext4, when it makes a file, passes over every inode that was freed in
    # the last minute, which nobody frees so many of.
    with nbreplay.session(tempfile.mkdtemp(dir=base), mode="record"):
        yield body


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
        yield alone(f"the floor itself, {name}", spent["floor"], 1000 / len(given), None, "ms", "cpu")
        yield ratio(f"replay, {name}, cold / floor", spent["cold"], spent["floor"], 1.10)
        yield ratio(f"replay, {name}, warm / floor", spent["warm"], spent["floor"], 1.10)


def _large(size: Size, base: Path) -> Iterator[Figure]:
    hooked = setting.client()
    small = setting.write_plain(base / "small", min(100, size.store))
    large = setting.write_plain(base / "large", size.store)
    number = min(100, size.store)
    step = size.store // number
    bodies = [setting.plain(index) for index in range(number)]
    spent = interleaved(
        size.rounds,
        floor=functools.partial(bare, answers(ask, setting.floor(JSON, bodies), range(number))),
        small=functools.partial(_replaying, small, answers(ask, hooked, range(number))),
        large=functools.partial(_replaying, large, answers(ask, hooked, range(0, size.store, step))),
    )
    yield ratio("replay, plain call, cold, none ahead / floor", spent["small"], spent["floor"], None)
    name = f"replay, cold, {size.store} recordings / {number}"
    yield ratio(name, spent["large"], spent["small"], 1.2)

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
    yield alone(f"open {size.store} recordings, first call", spent["first"], 1, 0.2, "s")
    yield alone(f"first miss among {size.store} recordings", spent["miss"], 1000, 100, "ms")
    yield alone(f"second miss among {size.store} recordings", spent["again"], 1000, 100, "ms")


def _record(size: Size, base: Path) -> Iterator[Figure]:
    sdk = setting.client(Memory(JSON, [setting.plain(0)]))
    streaming = setting.client(Memory(SSE, setting.events(0, size.chunks)))
    number = size.calls * 2
    distinct, same = answers(ask, sdk, range(number)), answers(ask, sdk, [0] * number)
    stream = answers(read, streaming, range(size.streams))
    cases: tuple[tuple[str, Body, float, float, str, float], ...] = (
        ("a plain call, new keys", distinct, 1000 / number, 1.0, "ms", 0.6),
        (f"a plain call, one key, {number} takes", same, 1000 / number, 1.0, "ms", 0.6),
        (f"a chunk of {size.chunks}", stream, 1e6 / size.streams / size.chunks, 10.0, "us", 60),
    )
    for name, body, factor, target, unit, floor in cases:
        off: Side = functools.partial(bare, body)
        spent = interleaved(size.rounds, off=off, on=functools.partial(_recording, body, base))
        yield added(f"recording adds to {name}", spent["on"], spent["off"], factor, target, unit)
        yield ratio(f"recorded / not, {name}", spent["on"], spent["off"], 1 + target / floor, "wall")
    disk: Side = functools.partial(bare, functools.partial(_replaced, base / "alone.json", number))
    spent = interleaved(size.rounds, disk=disk)
    yield alone(f"a file replaced {number} times, without nbreplay", spent["disk"], 1000 / number, None, "ms")
    yield from _on_disk(size, base / "new", sdk, streaming)


def _replaced(path: Path, number: int) -> None:
    """Replace a file by one that is a take longer, again and again: what the file system asks of any recorder."""
    beside = path.with_suffix(".new")
    for takes in range(1, number + 1):
        beside.write_bytes(b"x" * 2000 * takes)
        beside.replace(path)


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
    yield Figure("not on disk when the call returns, of 5", there.count(False), 0, "files")
    yield Figure(f"file of a stream of {size.chunks}, a chunk", length, 160, "bytes")


def _off(size: Size, base: Path) -> Iterator[Figure]:
    calls = answers(ask, setting.client(Memory(JSON, [setting.plain(0)])), range(size.calls * 2))

    @contextlib.contextmanager
    def hooked() -> Iterator[Body]:
        with nbreplay.session(base / "off", mode="off"):
            yield calls

    spent = interleaved(size.rounds, off=hooked, bare=functools.partial(bare, calls))
    after = ", after a replay without keys" if placeholder_keys.was_placed() else ""
    yield ratio(f"mode off / not installed{after}", spent["off"], spent["bare"], 1.02)


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
                spent[name].append(Spent(float(wall), float(cpu)))
    for name in names:
        yield alone(f"import nbreplay.{name} after openai", spent[name], 1000, 30, "ms", "cpu")


def measure(size: Size) -> Iterator[Figure]:
    """Yield the figures, each as soon as it is known."""
    # What is set outside must not decide what is measured. The folder is in memory or on disk as TMPDIR says.
    for name in [name for name in os.environ if name.startswith("NBREPLAY_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="nbreplay-benchmarks-") as name:
        # Twice: once there were placeholders for keys, every call is looked at for them.
        for group in (_imports, _off, _replay, _large, _record, _off):
            yield from group(size, Path(name))


_LINE = "{:55} {:>8} {:>17} {:>8} {:>8} {:5} {:>7} {:5} {}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print a table as it grows."""
    about = "Measure what nbreplay costs, against the targets it is held to."
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=about)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="a few small rounds: whether it runs, not how fast")
    given = parser.parse_args(arguments)
    where = {"python": platform.python_version(), "openai": openai.__version__, LIBRARY.__name__: LIBRARY.__version__}
    print(" · ".join(f"{name} {version}" for name, version in where.items()))
    print(_LINE.format("figure", "measured", "quartiles", "best", "other", "clock", "target", "unit", "met"))
    figures = []
    for figure in measure(QUICK if given.quick else Size()):
        figures.append(figure)
        low, high, best, other = (_number(value) for value in (figure.low, figure.high, figure.best, figure.other))
        spread = f"{low} – {high}" if low else ""
        target = "" if figure.target is None else f"≤ {figure.target:g}"
        met = {True: "yes", False: "no", None: ""}[figure.met]
        measured = _number(figure.measured)
        print(_LINE.format(figure.name, measured, spread, best, other, figure.clock, target, figure.unit, met))
    if given.json:
        content = {"with": where, "quick": given.quick, "figures": [figure.row() for figure in figures]}
        given.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
