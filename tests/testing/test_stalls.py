"""A miss whose exception is lost, in a cell that then waits for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbreplay.testing.runner import run
from tests.testing.making import ASK, notebook, recorded

LOST_IN_A_TASK = """
import asyncio
answer = asyncio.get_running_loop().create_future()
async def fetch():
    try:
        answer.set_result(await asyncio.to_thread(ask, "missing"))
    except Exception as error:
        answer.set_exception(error)
task = asyncio.create_task(fetch())
await answer
"""
LOST_IN_A_THREAD = """
import queue, threading
answers = queue.Queue()
def fetch():
    try:
        answers.put(ask("missing"))
    except Exception as error:
        answers.put(error)
threading.Thread(target=fetch).start()
answers.get()
"""
LOST_IN_A_LOOP = """
import asyncio, threading
def main():
    async def wait():
        answer = asyncio.get_running_loop().create_future()
        threading.Thread(target=ask, args=("missing",)).start()
        await answer
    asyncio.run(wait())
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""

LOST_IN_A_FORK = """
import multiprocessing
fork = multiprocessing.get_context("fork")
answers = fork.Queue()
def fetch():
    answers.put(ask("missing"))
fork.Process(target=fetch).start()
answers.get()
"""

IN_A_POOL = """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(ask, ["hello", "missing"])
"""


@pytest.mark.full(quick=["task"])
@pytest.mark.parametrize(
    "source",
    [LOST_IN_A_TASK, LOST_IN_A_THREAD, LOST_IN_A_LOOP, LOST_IN_A_FORK],
    ids=["task", "thread", "loop in a thread", "fork"],
)
def test_a_cell_that_waits_for_ever_fails_with_the_miss(source: str, tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "hello")
    path = notebook(tmp_path / "one.ipynb", ASK, source.strip(), "print('never')")
    result = run(path, timeout=300)
    (error,) = result.errors
    assert error.startswith(f"cell 2 ({source.split()[0]}")
    assert "RecordingMissing: no recorded answer" in error
    assert "After this the cell waited for ever, so it was interrupted" in error
    assert [cell.status for cell in result.cells] == ["ok", "failed"]
    assert result.notebook.cells[1].outputs[-1].ename in ("CancelledError", "KeyboardInterrupt"), "it did not time out"


@pytest.mark.full
def test_a_miss_in_a_worker_of_a_pool_reaches_its_caller(tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "hello")
    (error,) = run(notebook(tmp_path / "one.ipynb", ASK, IN_A_POOL.strip()), timeout=300).errors
    assert "RecordingMissing: no recorded answer" in error
    assert "waited for ever" not in error


SLEEPS = """
import asyncio, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
def swallow():
    try:
        ask("missing")
    except BaseException:
        pass
swallow()
"""


@pytest.mark.full
@pytest.mark.parametrize(
    "work",
    {
        "sleep": "time.sleep(8)",
        "asyncio": "await asyncio.sleep(8)",
        "child": "subprocess.run([sys.executable, '-c', 'import time; time.sleep(8)'])",
        "thread": "ThreadPoolExecutor(1).submit(time.sleep, 8).result()",
        "work": "end = time.monotonic() + 8\nwhile time.monotonic() < end: sum(range(1000))",
    }.items(),
    ids=lambda item: item[0],
)
def test_a_cell_that_goes_on_after_a_miss_is_left_alone(work: tuple[str, str], tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "hello")
    path = notebook(tmp_path / "one.ipynb", ASK, SLEEPS + work[1] + "\nprint('done')")
    result = run(path, timeout=300)
    assert [cell.status for cell in result.cells] == ["ok", "ok"]
    assert "interrupted" not in str(result.errors)
