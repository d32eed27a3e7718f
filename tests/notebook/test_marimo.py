"""Sessions in a marimo notebook, which marimo itself runs: a cell that runs again gets its answers again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbreplay.core.store.store import Store
from tests.provider import Spawned

pytest.importorskip("marimo", reason="marimo is not installed: pip install -e '.[marimo]'")

NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    from concurrent.futures import ThreadPoolExecutor

    import marimo as mo
    import nbreplay as nr
    from openai import OpenAI

    runs, set_runs = mo.state(0)
    client = OpenAI(base_url={url!r}, api_key="a-key-of-the-tests", max_retries=0)

    def ask(text):
        call = client.chat.completions.create(model="test", messages=[{{"role": "user", "content": text}}])
        return call.choices[0].message.content

    return ThreadPoolExecutor, ask, mo, nr, runs, set_runs


@app.cell
def _(nr):
    session = nr.session("recordings")
    session.start()
    return (session,)


@app.cell
def _(ThreadPoolExecutor, ask, runs, session):
    run = runs()
    with ThreadPoolExecutor(1) as pool:
        answers = [ask("hello"), ask("hello"), *pool.map(ask, ["bye"])]
    print(f"RUN {{run}}: {{answers}}")
    return (run,)


@app.cell
def _(run, set_runs):
    if run < {last}:
        set_runs(run + 1)
    return


@app.cell
def _(ask, nr):
    with nr.session("recordings"):
        print("WITH", ask("hello"))
    return
"""


def exported(folder: Path, url: str, mode: str, last: int) -> str:
    """Run a notebook that runs one cell again `last` times, and return what it prints."""
    (folder / "notebook.py").write_text(NOTEBOOK.format(url=url, last=last))
    command = [sys.executable, "-m", "marimo", "export", "html", "notebook.py", "-o", "page.html"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "NBREPLAY_MODE": mode}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "page.html").stat().st_size
    return done.stdout + done.stderr


@pytest.mark.full
def test_a_cell_that_runs_again_gets_its_answers_again(model: Spawned, tmp_path: Path) -> None:
    first = exported(tmp_path, model.url, "record", 0)
    (answers,) = [line.partition(": ")[2] for line in first.splitlines() if line.startswith("RUN 0")]
    (alone,) = [line for line in first.splitlines() if line.startswith("WITH ")]
    hits = model.hits
    again = exported(tmp_path, model.url, "replay", 2).splitlines()
    assert [line for line in again if line.startswith("RUN")] == [f"RUN {run}: {answers}" for run in range(3)]
    assert [line for line in again if line.startswith("WITH")] == [alone]
    assert model.hits == hits
    store = Store(tmp_path / "recordings")
    recordings = [store.read(name) for name in store.names()]
    assert sorted(len(recording.takes) for recording in recordings if recording) == [1, 3]
    assert all(take.cell and take.cell.source for recording in recordings if recording for take in recording.takes)
