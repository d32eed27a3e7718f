"""Short sleeps: where a thread replays calls, who sleeps longer still wakes later, and everybody else sleeps on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run
from tests.testing.making import ASK, notebook, recorded

POLL = """import asyncio, time
for number in range(3):
    ask()
    time.sleep(3600)
async def wake(name, seconds):
    await asyncio.sleep(seconds)
    return name
tasks = [wake(*item) for item in {"c": 7200, "a": 2400, "b": 3600}.items()]
print(*[await task for task in asyncio.as_completed(tasks)])"""

WORK = """import threading
def waits():
    start = time.monotonic()
    time.sleep(0.2)
    return time.monotonic() - start >= 0.2
ask("bye")
seen = []
thread = threading.Thread(target=lambda: seen.append(waits()))
thread.start()
thread.join()
print(*seen, waits())"""


@pytest.mark.full
def test_a_cell_that_polls_does_not_wait_and_a_thread_that_works_does(tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "hello", "bye")
    recording = next(path for path in (tmp_path / "recordings").glob("chat-*") if '"hello"' in path.read_text())
    text = recording.read_text()
    start, end = text.index('    {"recorded_at"'), text.rindex("\n  ]")
    recording.write_text(text[:end] + f",\n{text[start:end]}" * 2 + text[end:])  # three takes
    path = notebook(tmp_path / "a.ipynb", ASK, POLL, WORK, "print(waits())")
    result = run(path, RunOptions(timeout=60, fast_sleep=True))
    assert result.errors == []
    assert [cell.outputs[-1].text for cell in result.notebook.cells[1:]] == ["a b c\n", "True False\n", "True\n"]
