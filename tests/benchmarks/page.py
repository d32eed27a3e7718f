"""How soon text is on the page: ``python -m tests.benchmarks.page [--chunks N] [--gap MS]``; wants the extra `browser`.

A cell in a real JupyterLab records a stream whose every chunk says when it came, in milliseconds since 1970. The page
notes when it sees each of them; kernel and browser have one clock. *late* is the time between the two. The exit status
says only that it could be run: times are not asserted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import chromium, served
from tests.browser.page import Opened

__all__ = ["main"]

_CELL = """
%load_ext nbreplay
import time
from openai import OpenAI
from tests.benchmarks.setting import LIBRARY, SSE
class Stamped(LIBRARY.SyncByteStream):
    def __iter__(self):
        for _ in range({chunks}):
            time.sleep({gap})
            delta = {{"content": f" {{time.time() * 1000:.0f}}"}}
            value = {{"id": "c", "choices": [{{"index": 0, "delta": delta, "finish_reason": None}}]}}
            yield f"data: {{json.dumps(value)}}\\n\\n".encode()
        yield b"data: [DONE]\\n\\n"
class Transport(LIBRARY.BaseTransport):
    def handle_request(self, request):
        return LIBRARY.Response(200, headers=SSE, stream=Stamped())
client = OpenAI(api_key="a-key-of-the-benchmark", http_client=LIBRARY.Client(transport=Transport()))
"""
_STREAM = """%%replay record ../stamped --view stream
messages = [{"role": "user", "content": "what time is it?"}]
for chunk in client.chat.completions.create(model="gpt-4o", messages=messages, stream=True):
    pass
"""
_WATCH = """() => {
  window.seen = []; window.updates = [];
  let known = 0;
  new MutationObserver(() => {
    const busy = document.querySelector('.nbr-card[aria-busy="true"] .nbr-text');
    if (!busy) return;
    const stamps = busy.textContent.trim().split(/\\s+/).filter(Boolean);
    const now = Date.now();
    if (stamps.length > known) window.updates.push(now);
    for (; known < stamps.length; known++) window.seen.push(now - Number(stamps[known]));
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.page", description="How soon text is on the page."
    )
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--gap", type=int, default=5, metavar="MS")
    given = parser.parse_args(arguments)
    cells = ["import json" + _CELL.format(chunks=given.chunks, gap=given.gap / 1000), _STREAM]
    made = [{"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": cell}
            for n, cell in enumerate(cells)]  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        project, folder = Path(name) / "project", Path(name) / "lab"
        (project / "notebooks").mkdir(parents=True)
        folder.mkdir()
        notebook = {"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (project / "notebooks" / "stamped.ipynb").write_text(json.dumps(notebook), "utf-8")
        server = served("jupyterlab", project, folder, "Light")
        address = next(server)
        browser = chromium(playwright)
        page = Opened(browser.new_page(), f"{address}/lab/tree/notebooks/stamped.ipynb").ready()
        page.page.evaluate(_WATCH)
        page.run_all()
        late = page.page.evaluate("window.seen")
        updates = page.page.evaluate("window.updates")
        browser.close()
        server.close()
    pauses = [b - a for a, b in itertools.pairwise(updates)] or [0]
    rows = [
        ("chunks seen while the answer came", float(len(late)), None),
        ("late, median, ms", statistics.median(late or [0]), None),
        ("late, 19 of 20, ms", sorted(late or [0])[len(late) * 19 // 20], 200),
        ("late, the latest, ms", max(late, default=0), 200),
        ("updates a second", 1000 / max(1, statistics.median(pauses)), None),
    ]
    for name, value, target in rows:
        met = "" if target is None else f"   ≤ {target:g}  {'yes' if value <= target else 'no'}"
        print(f"{name:45} {value:10.4g}{met}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
