"""Which answers a cell gets in a real kernel: its own first, in their order, from the first again at each run."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernel import Kernel
from tests.provider import Spawned

THREE = "[ask() for _ in range(3)]"


@pytest.fixture(params=["ids", "no ids"])
def ids(request: pytest.FixtureRequest) -> tuple[str | None, str | None]:
    """The ids of two cells, as JupyterLab tells them, or as nbclient does not."""
    return ("first-cell", "other-cell") if request.param == "ids" else (None, None)


def takes(folder: Path) -> list[dict[str, Any]]:
    """The takes of the only recording."""
    (path,) = (folder / "work" / "kept").glob("chat-*")
    return list(json.loads(path.read_text())["takes"])


def test_identical_requests_of_a_cell(kernel: Kernel, model: Spawned, ids: tuple[str | None, str | None]) -> None:
    kernel.run("%replay record kept")
    recorded = kernel.run(THREE, ids[0])
    assert recorded.result
    assert len(set(json.loads(recorded.result.replace("'", '"')))) == 3
    hits = model.hits
    kernel.run("%replay replay")
    for _ in range(2):
        assert kernel.run(THREE, ids[0]).result == recorded.result, "each run starts anew"
    four = kernel.run("answers = []\nfor _ in range(4):\n    answers.append(ask())", ids[0])
    assert four.ename == "RecordingMissing"
    assert "recorded 3 times, asked a 4th time" in four.evalue
    assert kernel.run("answers").result == recorded.result
    assert model.hits == hits


def test_another_cell_starts_at_the_first_take(kernel: Kernel, ids: tuple[str | None, str | None]) -> None:
    kernel.run("%replay record kept")
    first = kernel.run("ask()", ids[0]).result
    kernel.run("%replay replay")
    assert kernel.run("ask()", ids[0]).result == first
    assert kernel.run("x = 1\nask()", ids[1]).result == first


def test_a_cells_own_takes_come_first(kernel: Kernel, ids: tuple[str | None, str | None]) -> None:
    kernel.run("%replay record kept")
    first = kernel.run("ask()", ids[0]).result
    second = kernel.run("y = 2\nask()", ids[1]).result
    assert first != second
    kernel.run("%replay replay")
    assert kernel.run("y = 2\nask()", ids[1]).result == second
    assert kernel.run("ask()", ids[0]).result == first
    both = kernel.run("y = 2\nask(); [ask()]", ids[1])
    assert both.result == f"[{first if ids[0] else second}]", "then the others', in their order"


def test_a_cell_that_was_changed_keeps_its_takes_by_its_id(kernel: Kernel) -> None:
    kernel.run("%replay record kept")
    kernel.run("ask()", "one")
    mine = kernel.run("y = 2\nask()", "two").result
    kernel.run("%replay replay")
    assert kernel.run("y = 3\nask()", "two").result == mine
    assert kernel.run("ask()", "two").result == mine, "by its id, whatever its source"


@pytest.mark.parametrize("told", ["vscode-notebook-cell:/home/me/secret/a.ipynb#W0sZmlsZQ%3D%3D", "x" * 65, "a b"])
def test_what_is_no_cell_id_is_not_taken_for_one(kernel: Kernel, tmp_path: Path, told: str) -> None:
    """What another front end says is neither kept nor needed: the cell is known by its source."""
    kernel.run("%replay record kept")
    kernel.run("ask()", "first-cell")
    second = kernel.run("y = 2\nask()", told).result
    assert [take["cell"].get("id") for take in takes(tmp_path)] == ["first-cell", None]
    kernel.run("%replay replay")
    assert kernel.run("y = 2\nask()", "another").result == second


def test_record_replaces_a_cells_own(kernel: Kernel, tmp_path: Path, ids: tuple[str | None, str | None]) -> None:
    kernel.run("%replay record kept")
    kernel.run(THREE, ids[0])
    other = kernel.run("other = 1\nask()", ids[1]).result
    assert len(takes(tmp_path)) == 4
    again = kernel.run(THREE, ids[0]).result
    assert len(takes(tmp_path)) == 4
    # With no id to tell it by, a changed cell is another.
    kernel.run("ask()", ids[0])
    assert len(takes(tmp_path)) == (2 if ids[0] else 5)
    kernel.run("%replay replay")
    assert kernel.run("other = 1\nask()", ids[1]).result == other
    if not ids[0]:
        assert kernel.run(THREE).result == again


def test_record_for_one_cell_is_the_same_cell(
    kernel: Kernel, tmp_path: Path, ids: tuple[str | None, str | None]
) -> None:
    kernel.run("%replay record kept")
    kernel.run("ask()", ids[0])
    again = kernel.run("%%replay record\nask()", ids[0]).result
    assert len(takes(tmp_path)) == 1
    kernel.run("%replay replay")
    assert kernel.run("ask()", ids[0]).result == again


def test_auto_adds(kernel: Kernel, model: Spawned, tmp_path: Path) -> None:
    kernel.run("%replay auto kept")
    first = kernel.run("[ask()]", "c").result
    three = kernel.run(THREE, "c")
    assert "1 replayed, 2 recorded" in three.status[0]
    assert (three.result or "").startswith((first or "")[:-1])
    assert len(takes(tmp_path)) == 3
    hits = model.hits
    again = kernel.run(THREE, "c")
    assert again.result == three.result
    assert "3 replayed" in again.status[0]
    assert model.hits == hits


def test_calls_at_once_are_not_permuted(kernel: Kernel) -> None:
    cell = "await asyncio.gather(*[aask(model='test/delays=300,200,100') for _ in range(3)])"
    kernel.run("%replay record kept")
    recorded = kernel.run(cell, "c")
    assert recorded.result, recorded.traceback
    assert len(set(json.loads(recorded.result.replace("'", '"')))) == 3
    kernel.run("%replay replay")
    for _ in range(2):
        assert kernel.run(cell, "c").result == recorded.result


@pytest.mark.parametrize("model_name", ["test", "test/hold"])
def test_a_stream_made_in_one_cell_and_read_in_the_next(
    kernel: Kernel, model: Spawned, tmp_path: Path, model_name: str
) -> None:
    making, reading = f"s = stream(model={model_name!r})\nfirst = next(s).choices[0].delta.role", "first, text_of(s)"
    acknowledge = (
        f"import socket\nwith socket.create_connection(('127.0.0.1', {model.port})) as c:\n"
        "    c.sendall(b'POST /_/ack HTTP/1.0\\r\\ncontent-length: 0\\r\\n\\r\\n')\n    c.recv(100)\n"
    )
    kernel.run("%replay record kept")
    made = kernel.run(making, "making")
    assert not made.ename, made.traceback
    assert "1 recorded" in made.status[0]
    (open_,) = takes(tmp_path)
    assert not open_["complete"]
    assert open_["reason"] == "open"
    if "hold" in model_name:
        assert not kernel.run(f"%%replay off\n{acknowledge}").ename
    recorded = kernel.run(reading, "reading")
    assert "answer" in (recorded.result or ""), recorded.traceback
    (take,) = takes(tmp_path)
    assert take["complete"]
    kernel.run("%replay replay")
    assert not kernel.run(making, "making").ename
    assert kernel.run(reading, "reading").result == recorded.result


def test_an_interrupt_in_the_middle_of_a_stream(kernel: Kernel, model: Spawned, tmp_path: Path) -> None:
    reading = "for chunk in stream(model='test/hold'):\n    print(chunk.choices[0].delta.content, flush=True)"
    kernel.run("%replay record kept")
    recorded = kernel.run(reading, "c", when_printed={"answer": kernel.interrupt})
    assert recorded.ename == "KeyboardInterrupt"
    (take,) = takes(tmp_path)
    assert (take["complete"], take["reason"]) == (False, "interrupted")
    assert "1 recorded" in recorded.status[0]
    kernel.run("%replay replay")
    replayed = kernel.run(reading, "c")
    assert replayed.ename == "RecordingIncomplete"
    assert replayed.stdout == recorded.stdout
    kernel.run("%replay auto")
    hits = model.hits

    def model_acknowledges() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{model.port}/_/ack", data=b"") as answer:
            answer.read()

    anew = kernel.run(reading, "c", when_printed={"answer": model_acknowledges})
    assert model.hits == hits + 1, (anew.ename, anew.stdout, anew.status)
    assert not anew.ename
    (take,) = takes(tmp_path)
    assert take["complete"]


def test_an_interrupt_in_the_middle_of_an_async_stream(kernel: Kernel, tmp_path: Path) -> None:
    reading = """
async def tick():  # a signal that reaches another thread does not wake a loop that sleeps
    while True:
        await asyncio.sleep(0.01)
ticking = asyncio.create_task(tick())
async with AsyncOpenAI(base_url=str(client().base_url), api_key="k", max_retries=0) as asking:
    async for chunk in await asking.chat.completions.create(model="test/hold", messages=said("x"), stream=True):
        print(chunk.choices[0].delta.content, flush=True)
"""
    kernel.run("%replay record kept")
    recorded = kernel.run(reading, "c", when_printed={"answer": kernel.interrupt})
    assert recorded.ename in ("KeyboardInterrupt", "CancelledError")
    (take,) = takes(tmp_path)
    assert (take["complete"], take["reason"]) == (False, "interrupted")
    kernel.run("%replay replay")
    replayed = kernel.run(reading, "c")
    assert replayed.ename == "RecordingIncomplete"
    assert replayed.stdout == recorded.stdout


def test_a_thread_of_a_cell_is_the_cells(kernel: Kernel, tmp_path: Path) -> None:
    cell = "answers = []\nt = threading.Thread(target=lambda: answers.append(ask())); t.start(); t.join()\nanswers"
    kernel.run("%replay record kept")
    recorded = kernel.run(cell, "c")
    assert takes(tmp_path)[0]["cell"]["id"] == "c"
    assert "1 recorded" in recorded.status[0]
    kernel.run("%replay replay")
    assert kernel.run(cell, "c").result == recorded.result
