"""A call that has no answer, in a real kernel: the cell's error, or told below it where something swallowed that."""

from __future__ import annotations

import pytest

from tests.notebook.kernel import Kernel
from tests.provider import Spawned

SWALLOWED = {
    "except": "try:\n    ask('unheard of')\nexcept BaseException:\n    pass",
    "gather": "await asyncio.gather(aask('unheard of'), return_exceptions=True);",
    "thread": "t = threading.Thread(target=ask, args=('unheard of',)); t.start(); t.join()",
    "task": "task = asyncio.create_task(aask('unheard of'))\nwhile not task.done():\n    await asyncio.sleep(0.01)",
    "pool": "from concurrent.futures import *\nwith ThreadPoolExecutor() as pool:\n    pool.submit(ask, 'unheard of')",
    "capture": "%%capture\nask('unheard of')",
    "output": "import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    ask('unheard of')",
}
"""Cells that go on as if nothing had happened, by what makes them."""


@pytest.fixture
def replaying(kernel: Kernel) -> Kernel:
    """The kernel, in replay over an empty store."""
    kernel.run("%replay replay kept")
    return kernel


def test_a_miss_is_the_error_of_its_cell(replaying: Kernel, model: Spawned) -> None:
    hits = model.hits
    for cell in ("ask('unheard of')", "await aask('unheard of')", "text_of(stream('unheard of'))"):
        ran = replaying.run(cell)
        assert ran.ename == "RecordingMissing"
        assert "unheard of" in ran.evalue
        assert "kept (replay)" in ran.evalue
        assert not ran.status, "the error says everything"
    assert model.hits == hits


def test_an_agents_except_does_not_swallow_it(replaying: Kernel) -> None:
    ran = replaying.run("for _ in range(3):\n    try:\n        ask('unheard of')\n    except Exception:\n        pass")
    assert ran.ename == "RecordingMissing"


@pytest.mark.parametrize("how", SWALLOWED)
def test_a_swallowed_miss_is_told_below_its_cell(replaying: Kernel, model: Spawned, how: str) -> None:
    hits = model.hits
    ran = replaying.run(SWALLOWED[how], "the-cell")
    (status,) = ran.status
    assert status.startswith("nbreplay: 1 missing")
    assert status.count("no recorded answer for this chat test call") == 1
    assert "unheard of" in status
    assert "the-cell" in status
    assert not replaying.run("1").status, "it is told once"
    assert model.hits == hits


def test_a_miss_of_a_session_in_a_function(replaying: Kernel) -> None:
    """Nothing holds the session any more when the cell has ended."""
    cell = """
import nbreplay as nr
def work():
    with nr.session("other", mode="replay"):
        try:
            ask("unheard of")
        except BaseException:
            pass
work()
"""
    (status,) = replaying.run(cell).status
    assert "no recorded answer" in status


def test_a_miss_that_comes_after_its_cell(replaying: Kernel) -> None:
    cell = """
go = threading.Event()
def late():
    go.wait()
    try:
        ask("unheard of")
    except BaseException:
        pass
t = threading.Thread(target=late)
t.start()
"""
    assert not replaying.run(cell).status
    (status,) = replaying.run("go.set()\nt.join()").status
    assert "no recorded answer" in status


def test_a_miss_between_two_cells(replaying: Kernel) -> None:
    replaying.run(
        "loop = asyncio.get_running_loop()\nloop.call_later(0.05, lambda: loop.create_task(aask('unheard of')))\n0;"
    )
    waiting = "import time\ntime.sleep(0.2)\nawait asyncio.sleep(0.2)"
    status = replaying.run(waiting).status + replaying.run("1").status
    assert sum("no recorded answer" in text for text in status) == 1


def test_what_the_guard_refused_is_told(replaying: Kernel) -> None:
    ran = replaying.run(
        "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80))\nexcept OSError:\n    pass"
    )
    (status,) = ran.status
    assert "1 blocked" in status
    assert "192.0.2.1:80" in status
    assert "192.0.2.1" in replaying.run("%replay").status[0]


BUTTON = """
import ipywidgets
button = ipywidgets.Button()
clicked = []
def click(_):
    clicked.append("before")
    clicked.append({ask})
    clicked.append("after")
button.on_click(click)
print(button.comm.comm_id)
"""
CLICK = {"method": "custom", "content": {"event": "click"}}


def test_a_miss_in_a_widgets_callback(replaying: Kernel, model: Spawned) -> None:
    """It is no error of a cell; the kernel must go on, and somebody must see it."""
    hits = model.hits
    comm = replaying.run(BUTTON.format(ask="ask('unheard of')")).stdout.strip()
    click = replaying.comm(comm, CLICK)
    assert click.ename == "RecordingMissing"
    after = replaying.run("clicked")
    assert after.result == "['before']"
    (status,) = after.status
    assert "no recorded answer" in status
    assert "unheard of" in status
    assert model.hits == hits


def test_a_swallowed_miss_in_a_widgets_callback(replaying: Kernel) -> None:
    comm = replaying.run(
        "def quiet():\n    try:\n        ask('unheard of')\n    except BaseException:\n        pass\n"
        + BUTTON.format(ask="quiet()")
    ).stdout.strip()
    assert not replaying.comm(comm, CLICK).ename
    after = replaying.run("clicked")
    assert after.result == "['before', None, 'after']"
    assert "no recorded answer" in after.status[0]


def test_a_click_by_code(replaying: Kernel) -> None:
    replaying.run(BUTTON.format(ask="ask('unheard of')"))
    assert replaying.run("button.click()").ename == "RecordingMissing"


def test_a_widgets_callback_is_recorded_and_replayed(kernel: Kernel, model: Spawned) -> None:
    kernel.run("%replay record kept")
    comm = kernel.run(BUTTON.format(ask="ask()")).stdout.strip()
    kernel.comm(comm, CLICK)
    recorded = kernel.run("clicked")
    assert not recorded.status, "the calls of others are no calls of this cell"
    hits = model.hits
    kernel.run("%replay replay\nclicked.clear()")
    assert not kernel.comm(comm, CLICK).ename
    assert kernel.run("clicked").result == recorded.result
    assert model.hits == hits


def test_a_widget_whose_callback_fails_otherwise(replaying: Kernel) -> None:
    """Other errors are shown as they were before."""
    comm = replaying.run(BUTTON.format(ask="1 / 0")).stdout.strip()
    assert replaying.comm(comm, CLICK).ename == "ZeroDivisionError"


def test_a_failure_that_auto_did_not_keep_is_told_below_its_cell(kernel: Kernel) -> None:
    """With the way to keep it, which works."""
    kernel.run("%replay auto kept-errors")
    failing = "client().chat.completions.create(model='test/status=401', messages=[])"
    ran = kernel.run(failing)
    assert ran.ename == "AuthenticationError"
    (status,) = ran.status
    assert "1 answered live, not recorded: 401 Unauthorized · auto, kept-errors\nauto does not keep" in status
    kernel.run(f"%%replay record\n{failing}")
    ran = kernel.run(f"%%replay replay\n{failing}")
    assert ran.ename == "AuthenticationError"
