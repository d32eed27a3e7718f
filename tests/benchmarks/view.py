"""What watching a stream costs: ``python -m tests.benchmarks.view [--rounds N] [--chunks N] [--gap MS]``.

A real kernel records a stream of the shape that OpenAI sends, which comes at a pace: in turns with ``--view stream``
and with ``--view badge``. What the kernel sends is counted by who listens to it; its CPU is what the process spent from
the cell before to the cell after. *own* is the CPU of the view's own functions by the clock of their thread, without
what sends its messages; *pause* is the time between two updates. The exit status says only that it could be run: times
are not asserted. The target for CPU is meant for a machine on which the SDK needs some 60 us a chunk, 120 ms for the
stream; *watched / not* holds the same against what the stream costs here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.notebook.kernel import Kernel, Ran, started

__all__ = ["main"]

_WATCHED = """
import time
from nbreplay.notebook import display, widget
own = [0.0]
sent = []
def counted(kind, name):
    inner = getattr(kind, name)
    def outer(*given, **more):
        began = time.thread_time()
        try:
            return inner(*given, **more)
        finally:
            own[0] += time.thread_time() - began
    setattr(kind, name, outer)
for name in ("_on_start", "_update", "end"):
    counted(display.Live, name)
update = widget.WidgetScreen.update
def noted(self, what):
    sent.append(time.perf_counter())
    return update(self, what)
widget.WidgetScreen.update = noted

from openai import OpenAI
from tests.benchmarks.setting import LIBRARY, SSE, events
class Paced(LIBRARY.SyncByteStream):
    def __iter__(self):
        for event in events(1, CHUNKS):
            time.sleep(GAP)
            yield event
def answer(request):
    return LIBRARY.Response(200, headers=SSE, stream=Paced())
class Transport(LIBRARY.BaseTransport):
    def handle_request(self, request):
        return answer(request)
paced = OpenAI(api_key="a-key-of-the-benchmark", http_client=LIBRARY.Client(transport=Transport()))
def told(text):
    messages = [{"role": "user", "content": text}]
    return paced.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
"""
_CELL = "%%replay record kept --view {view}\nfor chunk in told({text!r}): pass"
_READ = "[time.process_time(), own[0]]"


def _figures(kernel: Kernel, view: str, number: int) -> tuple[Ran, float, float, float]:
    kernel.run("sent.clear()", silent=True)
    before = _numbers(kernel.run(_READ))
    began = time.perf_counter()
    ran = kernel.run(_CELL.format(view=view, text=f"{view} {number}"))
    wall = time.perf_counter() - began
    after = _numbers(kernel.run(_READ))
    assert not ran.ename, ran.traceback
    return ran, wall, after[0] - before[0], after[1] - before[1]


def _numbers(ran: Ran) -> list[float]:
    assert ran.result is not None, ran.traceback
    return [float(part) for part in ran.result.strip("[]").split(",")]


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.view", description="What watching costs.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--gap", type=int, default=1, metavar="MS")
    given = parser.parse_args(arguments)
    around = {name: value for name, value in os.environ.items() if not name.startswith("NBREPLAY_")}
    around["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    seen: list[tuple[Ran, float, float, float]] = []
    unseen: list[tuple[Ran, float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), around) as kernel:
        for code in ("%load_ext nbreplay", f"CHUNKS, GAP = {given.chunks}, {given.gap / 1000}", _WATCHED):
            ran = kernel.run(code)
            assert not ran.ename, ran.traceback
        pauses: list[float] = []
        for number in range(-1, given.rounds):
            for view, kept in (("stream", seen), ("badge", unseen))[:: 1 if number % 2 else -1]:
                made = _figures(kernel, view, number)
                if number >= 0:
                    kept.append(made)
                if view == "stream":
                    gaps = kernel.run("[round(b - a, 3) for a, b in zip(sent, sent[1:])]").result or "[]"
                    pauses += [float(gap) for gap in gaps.strip("[]").split(",") if gap.strip()]
    middle = statistics.median
    extra = middle(ran.bytes_sent for ran, *_ in seen) - middle(ran.bytes_sent for ran, *_ in unseen)
    pairs = list(zip(seen, unseen, strict=True))
    rows = [
        ("MB sent", middle(ran.bytes_sent for ran, *_ in seen) / 1e6, 0.12),
        ("  without a view", (middle(ran.bytes_sent for ran, *_ in seen) - extra) / 1e6, None),
        ("messages sent", middle(ran.messages_sent for ran, *_ in seen), 150),
        (
            "CPU of the kernel that the view adds, ms",
            1000 * (middle(r[2] for r in seen) - middle(r[2] for r in unseen)),
            20,
        ),
        ("  own", 1000 * middle(r[3] for r in seen), None),
        ("  not watched, us a chunk", 1e6 / given.chunks * middle(r[2] for r in unseen), None),
        ("CPU of the kernel, watched / not", middle(a[2] / b[2] for a, b in pairs), 1 + 20 / 120),
        ("wall, watched / not", middle(a[1] / b[1] for a, b in pairs), 1.05),
        ("  wall not watched, s", middle(r[1] for r in unseen), None),
        ("pause between updates, 19 of 20, s", sorted(pauses)[len(pauses) * 19 // 20] if pauses else 0.0, 0.2),
        ("  the longest, s", max(pauses, default=0.0), 0.2),
        ("updates a second", 1 / middle(pauses) if pauses else 0.0, None),
    ]
    for name, value, target in rows:
        print(
            f"{name:45} {value:10.4g}"
            + ("" if target is None else f"   ≤ {target:g}  {'yes' if value <= target else 'no'}")
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
