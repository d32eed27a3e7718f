"""What exploring a store costs: ``python -m tests.benchmarks.explorer [--recordings N] [--rounds N]``.

A real kernel shows a store by ``lib.show()`` and, in turns, the same rows as a table of pandas' ``to_html``. Its CPU is
what the process spent from the cell before to the cell after; all that it sends is counted. ``again`` opens the store
by ``%replay recordings``, out of the cache of its frames. A Chromium then filters both by what is typed: a keystroke is
the time from the event to the end of the next frame; the table hides the rows whose text lacks a word. The exit status
says only that it could be run: times are not asserted. Wants the extra `browser`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import sync_playwright

from nbreplay.core.recording.body import Json
from nbreplay.core.recording.recording import Recording, file_name
from nbreplay.core.recording.take import CellRef, Take
from nbreplay.core.request.request import key_of
from nbreplay.notebook.explorer import ExplorerView
from tests.browser.conftest import chromium
from tests.notebook.kernel import Kernel, Ran, started

__all__ = ["main"]

_WORDS = "river stone water light house green music time would could people first paper cloud night story"
_TYPED = "would time water7 "
_SETUP = """
import time
import nbreplay as nr
from IPython.display import HTML
lib = nr.load("store")
rows = lib.interactions.sort_values("recorded_at", ascending=False).reset_index(drop=True)
names = ["recorded_at", "notebook", "kind", "model", "prompt", "answer", "input_tokens", "output_tokens", "duration_s"]
rows = rows.assign(prompt=rows.prompt.str[:120], answer=rows.answer.str[:60])[[*names, "error_type", "file"]]
lib.show()
"""
_CELLS = {
    "explorer": "lib.show()",
    "table": "HTML(rows.to_html(max_rows=None))",
    "again": "%replay recordings",
}
_SAVE = """
import json
from pathlib import Path
from nbreplay.analysis.catalogue import LibraryCatalogue
from nbreplay.notebook.explorer import ExplorerView
view = ExplorerView(LibraryCatalogue(lib))
texts = {"rows": view.rows, "cards": json.dumps(view.cards), "html": rows.to_html(max_rows=None)}
for name, text in texts.items():
    Path(name).write_text(text, "utf-8")
"""
_READ = "time.process_time()"
# Both sides stand alone in a page, with what a kernel sends them.
_OPEN_EXPLORER = """async ({ esm, css, rows, cards }) => {
  const style = document.createElement("style");
  style.textContent = css;
  document.head.append(style);
  const source = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
  const model = { get: (name) => ({ rows, cards: JSON.parse(cards) })[name], on() {}, off() {} };
  const { default: view } = await import(source);
  view.render({ model, el: document.body });
}"""
_OPEN_TABLE = """({ html }) => {
  document.body.innerHTML = '<input type="search">' + html;
  const lines = [...document.querySelectorAll("tbody tr")].map((node) => [node, node.textContent.toLowerCase()]);
  document.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const [node, text] of lines) node.hidden = !words.every((word) => text.includes(word));
  });
}"""
_KEYSTROKE = """(value) => new Promise((done) => {
  const input = document.querySelector("input[type=search]"), begun = performance.now();
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => {
    const channel = new MessageChannel();  // a message comes after the frame is painted
    channel.port1.onmessage = () => done(performance.now() - begun);
    channel.port2.postMessage(0);
  });
})"""


def write_store(folder: Path, count: int) -> None:
    """Fill a store with recordings whose prompts and answers are all different."""
    folder.mkdir()
    draw = random.Random(7)

    def text(size: int) -> str:
        return " ".join(draw.choices(_WORDS.split(), k=size))

    for number in range(count):
        model = f"model-{number % 5}"
        body = {"model": model, "messages": [{"role": "user", "content": f"{text(60)} {number}"}]}
        fields = {"method": "POST", "endpoint": "chat/completions", "body": body}
        usage = {"prompt_tokens": number % 977, "completion_tokens": number % 313}
        answer = Json({"model": model, "choices": [{"message": {"content": text(80)}}], "usage": usage})
        at = f"2026-11-{1 + number // 1440 % 28:02}T{number // 60 % 24:02}:{number % 60:02}:00Z"
        cell = CellRef(id=f"cell-{number}", notebook=f"notebooks/{number % 12}.ipynb")
        take = Take(
            at, "api.example.com", "/v1/chat/completions", "bench", body=answer, elapsed_ms=number % 4000, cell=cell
        )
        made = Recording(key_of("chat", fields), "chat", fields, (take,))
        (folder / file_name(made.kind, made.key)).write_text(made.text(), "utf-8")


def _run(kernel: Kernel, code: str) -> tuple[Ran, float]:
    """Run a cell; return what came of it, and the CPU seconds that it took."""
    before = float(kernel.run(_READ).result or 0)
    ran = kernel.run(code)
    assert not ran.ename, ran.traceback
    return ran, float(kernel.run(_READ).result or 0) - before


def _spread(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:9.4g}   ({low:.4g} to {high:.4g})"


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.explorer", description="What exploring costs.")
    parser.add_argument("--recordings", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    around = {name: value for name, value in os.environ.items() if not name.startswith("NBREPLAY_")}
    around["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    cpu: dict[str, list[float]] = {name: [] for name in _CELLS}
    sent: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        write_store(Path(name) / "store", given.recordings)
        with started(Path(name), around) as kernel:
            for code in ("%load_ext nbreplay\n%replay replay store", "import time; time.sleep(2)", _SETUP):
                ran = kernel.run(code)
                assert not ran.ename, ran.traceback
            for number in range(-1, given.rounds):
                for side in list(_CELLS)[:: 1 if number % 2 else -1]:
                    ran, seconds = _run(kernel, _CELLS[side])
                    sent[side] = ran.bytes_sent
                    if number >= 0:
                        cpu[side].append(seconds)
            _run(kernel, _SAVE)
        rows, cards, html = ((Path(name) / part).read_text("utf-8") for part in ("rows", "cards", "html"))
        browser = chromium(playwright)
        explorer, table = browser.new_page(), browser.new_page()
        assets = {"esm": ExplorerView._esm, "css": ExplorerView._css}
        explorer.evaluate(_OPEN_EXPLORER, {**assets, "rows": rows, "cards": cards})
        table.evaluate(_OPEN_TABLE, {"html": html})
        strokes: dict[str, list[float]] = {"explorer": [], "table": []}
        for number in range(-1, given.rounds):
            for side, page in (("explorer", explorer), ("table", table)):
                if side == "table" and number != 0:  # once: a keystroke may take seconds there
                    continue
                page.bring_to_front()
                for size in range(1, len(_TYPED) + 1):
                    took = page.evaluate(_KEYSTROKE, _TYPED[:size])
                    if number >= 0:
                        strokes[side].append(took)
        browser.close()
    ratios = [a / b for a, b in zip(cpu["explorer"], cpu["table"], strict=True)]
    faster = [a / b for a, b in zip(strokes["explorer"], strokes["table"] * given.rounds, strict=True)]
    worst = {side: sorted(times)[len(times) * 19 // 20] for side, times in strokes.items()}
    keys = [strokes["explorer"][key :: len(_TYPED)] for key in range(len(_TYPED))]
    print(f"{given.recordings:,} recordings, {given.rounds} rounds: median (quartiles)")
    for title, text in (
        ("opened: CPU of the kernel, s               ≤ 1", _spread(cpu["explorer"])),
        ("  as a table, s", _spread(cpu["table"])),
        ("  explorer / table", _spread(ratios)),
        ("  %replay recordings, the frames kept, s", _spread(cpu["again"])),
        ("sent, MB                                 ≤ 2", f"{sent['explorer'] / 1e6:9.4g}"),
        ("  of these, rows and cards", f"{(len(rows.encode()) + len(cards.encode())) / 1e6:9.4g}"),
        ("  as a table", f"{sent['table'] / 1e6:9.4g}"),
        ("  explorer / table", f"{sent['explorer'] / sent['table']:9.4g}"),
        ("a keystroke in the browser, ms          ≤ 50", _spread(strokes["explorer"])),
        ("  19 of 20, ms                          ≤ 50", f"{worst['explorer']:9.4g}"),
        ("  the slowest key, in its fastest round, ms", f"{max(map(min, keys)):9.4g}"),
        ("  in a table, ms", _spread(strokes["table"])),
        ("  19 of 20, ms", f"{worst['table']:9.4g}"),
        ("  explorer / table", _spread(faster)),
    ):
        print(f"{title:47} {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
