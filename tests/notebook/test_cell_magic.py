"""``%%replay`` in a real kernel: a mode for one cell, which runs as it would without it."""

from __future__ import annotations

import re
from pathlib import Path

import IPython
import pytest

from tests.notebook.kernel import Kernel, Ran
from tests.provider import Spawned


@pytest.fixture
def replaying(kernel: Kernel) -> Kernel:
    """The kernel, in replay over an empty store: what goes out is seen, and what is not is a miss."""
    kernel.run("%replay replay kept")
    return kernel


def restored(kernel: Kernel) -> bool:
    """Whether the kernel replays from ``kept`` again, and says so."""
    (text,) = kernel.run("%replay").status
    told = re.search(r"mode +replay\n +store +kept,", text) is not None
    sessions = "from nbreplay.core import cell, session; (len(session.active_sessions()), cell.current_run() is None)"
    inside = kernel.run(sessions).result == "(1, False)"
    return told and inside and kernel.run(f"ask('unheard of {kernel!r}')").ename == "RecordingMissing"


def refused(ran: Ran) -> str:
    """What a cell's UsageError says."""
    # IPython 7 shows an error below %%time, and the cell counts as fine.
    assert ran.ename == "UsageError" or (ran.stderr.startswith("UsageError: ") and IPython.version_info < (8,))
    return f"{ran.evalue}\n{ran.stderr}\n{ran.traceback}"


@pytest.mark.parametrize(
    ("line", "outcome", "mode"),
    [
        ("record", "1 recorded", "record, kept"),
        ("auto", "1 recorded", "auto, kept"),
        ("on", "1 recorded", "auto, kept"),
        ("off", "1 answered live, not recorded", "off, kept"),
        ("record elsewhere", "1 recorded", "record, elsewhere"),
    ],
)
def test_the_mode_of_one_cell(replaying: Kernel, line: str, outcome: str, mode: str) -> None:
    ran = replaying.run(f"%%replay {line}\nask()")
    assert ran.result
    (status,) = ran.status
    assert outcome in status
    assert mode in status
    assert restored(replaying)


def test_record_then_replay_then_auto(kernel: Kernel, model: Spawned) -> None:
    """Nothing is on but in these cells."""
    first = kernel.run("%%replay record kept\nask()", "c").result
    hits = model.hits
    assert kernel.run("%%replay replay kept\nask()", "c").result == first
    assert kernel.run("%%replay auto kept\nask()", "c").result == first
    assert model.hits == hits
    live = kernel.run("ask()")
    assert live.result not in (None, first)
    assert not live.displays
    assert model.hits == hits + 1
    assert re.search(r"mode +off", kernel.run("%replay").status[0])


def test_without_a_mode_only_the_options_are_the_cells_own(kernel: Kernel) -> None:
    kernel.run("%replay record kept")
    kernel.run("ask(seed=1)")
    kernel.run("%replay replay")
    assert kernel.run("ask(seed=2)").ename == "RecordingMissing"
    assert kernel.run("%%replay --ignore seed\nask(seed=2)").result
    assert kernel.run("ask(seed=2)").ename == "RecordingMissing"


def test_without_a_mode_and_with_nothing_on(kernel: Kernel, model: Spawned) -> None:
    hits = model.hits
    assert "on, auto, record, replay, off" in refused(kernel.run("%%replay --view off\nprint('ran'); ask()"))
    assert "on, auto, record, replay, off" in refused(kernel.run("%%replay\nprint('ran'); ask()"))
    assert model.hits == hits


def test_view_off_for_one_cell(replaying: Kernel) -> None:
    assert not replaying.run("%%replay record --view off\nask()").displays
    assert replaying.run("ask()").status


def test_top_level_await(replaying: Kernel) -> None:
    cell = "import asyncio\nanswer = await aask()\nawait asyncio.sleep(0)\nanswer"
    recorded = replaying.run(f"%%replay record\n{cell}")
    assert recorded.result, recorded.traceback
    assert "1 recorded" in recorded.status[0]
    assert replaying.run(cell).result == recorded.result
    assert restored(replaying)


def test_displays_and_results(replaying: Kernel) -> None:
    ran = replaying.run("%%replay record\n1\nprint('printed')\ndisplay('displayed')\n{'last': ask()}['last'] and 42")
    assert ran.result == "42"
    assert ran.stdout == "printed\n"
    assert ran.shown == ["'displayed'"]
    assert replaying.run("%%replay record\n42;").result is None


def test_the_history_holds_the_cell(replaying: Kernel) -> None:
    ran = replaying.run("%%replay off\nx = 1")
    assert replaying.run(f"In[{ran.count}]").result is not None
    raw = replaying.run("get_ipython().history_manager.input_hist_raw[-3]").result
    assert raw == repr("%%replay off\nx = 1")
    assert replaying.run("x").count == (ran.count or 0) + 3


def test_shell_escapes_and_magics(replaying: Kernel) -> None:
    ran = replaying.run("%%replay record\n!echo from the shell\n%timeit -n1 -r1 ask('timed')\n%pwd")
    assert "from the shell" in ran.stdout
    assert "per loop" in ran.stdout
    assert "1 recorded" in ran.status[0]
    assert ran.result
    assert restored(replaying)


def test_time_below(replaying: Kernel) -> None:
    ran = replaying.run("%%replay record\n%%time\nanswer = ask()\nanswer")
    assert ran.result
    assert "Wall time" in ran.stdout
    assert "1 recorded" in ran.status[0]
    assert replaying.run("\n\n%%replay replay\n\n%%time\nask()").result == ran.result
    assert restored(replaying)


def test_time_below_with_await(replaying: Kernel) -> None:
    ran = replaying.run("%%replay record\n%%timeit -n1 -r1\nask('timed')")
    assert "per loop" in ran.stdout
    assert "1 recorded" in ran.status[0]


def test_capture_below(replaying: Kernel, tmp_path: Path) -> None:
    ran = replaying.run("%%replay record\n%%capture out\nprint(ask())\ndisplay('displayed')", "the-cell")
    assert not ran.stdout
    assert not ran.shown
    assert "1 recorded" in ran.status[0]
    told = replaying.run("print(out.stdout, len(out.outputs))").stdout
    assert told.startswith("answer")
    assert told.endswith(" 1\n"), "nothing of ours is captured"
    (path,) = (tmp_path / "work" / "kept").glob("chat-*")
    assert '"id": "the-cell"' in path.read_text(), "what runs inside of a cell is the cell's"
    assert restored(replaying)


def line_of(ran: Ran) -> int:
    # IPython 7 names a file instead of the cell, and the line by its arrow only.
    place = rf"In\[{ran.count}\], line (\d+)" if IPython.version_info >= (8,) else r"-> (\d+) 1 / 0"
    found = re.search(place, ran.traceback)
    assert found, ran.traceback
    return int(found[1])


@pytest.mark.parametrize(
    ("above", "number"),
    [("%%replay record\n", 4), ("%%replay off\n\n", 5), ("%%replay record kept --speed 2\n# comment\n", 5), ("", 3)],
)
def test_tracebacks_have_the_lines_of_the_cell(replaying: Kernel, above: str, number: int) -> None:
    """As many as somebody counts who looks at the cell, its first line among them."""
    replaying.run("%xmode Context")
    ran = replaying.run(f"{above}x = 1\n\n1 / 0\ny = 2")
    assert ran.ename == "ZeroDivisionError"
    assert line_of(ran) == number
    assert re.search(rf"-> {number} 1 / 0", ran.traceback)
    assert restored(replaying)


def test_errors_of_async_cells_have_the_lines_too(replaying: Kernel) -> None:
    replaying.run("%xmode Context")
    ran = replaying.run("%%replay record\nawait aask()\n1 / 0")
    assert ran.ename == "ZeroDivisionError"
    assert line_of(ran) == 3
    assert "1 recorded" in ran.status[0]
    assert restored(replaying)


def test_syntax_errors(replaying: Kernel) -> None:
    replaying.run("%xmode Context")
    ran = replaying.run("%%replay record\nx = 1\nthis is no python\n")
    assert ran.ename == "SyntaxError"
    assert "line 3" in ran.traceback
    assert restored(replaying)
    assert replaying.run("%%replay record\n  def f(:\n").ename in ("SyntaxError", "IndentationError")
    assert restored(replaying)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("raise ValueError('mine')", "ValueError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('deep')", "BaseException"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
        ("await asyncio.sleep(0)\nraise RuntimeError", "RuntimeError"),
        ("raise SystemExit(3)", "SystemExit"),
    ],
)
def test_the_mode_is_restored_after_errors(replaying: Kernel, code: str, name: str) -> None:
    ran = replaying.run(f"%%replay record\nask()\n{code}")
    assert ran.ename == name
    assert "1 recorded" in ran.status[0]
    assert restored(replaying)


@pytest.mark.parametrize("sleep", ["time.sleep(0.01)", "await asyncio.sleep(0.01)"])
def test_the_mode_is_restored_after_an_interrupt(replaying: Kernel, sleep: str) -> None:
    cell = f"import time\nprint('on', flush=True)\nfor _ in range(3000):\n    {sleep}"
    ran = replaying.run(f"%%replay record\n{cell}", when_printed={"on": replaying.interrupt})
    assert ran.ename in ("KeyboardInterrupt", "CancelledError")
    assert restored(replaying)


def test_future_imports_come_first(replaying: Kernel) -> None:
    ran = replaying.run(
        "%%replay record\nfrom __future__ import annotations\ndef f(x: Unknown): ...\nf.__annotations__['x']"
    )
    assert ran.result == "'Unknown'", ran.traceback


@pytest.mark.parametrize("body", ["", "\n", "\n   \n\n"])
def test_an_empty_body(replaying: Kernel, body: str) -> None:
    said = refused(replaying.run(f"%%replay record{body}"))
    assert "nothing below %%replay" in said or "the cell body is empty" in said
    assert restored(replaying)


@pytest.mark.parametrize(
    "cell",
    [
        "\n\n  \n%%replay record\nask()",
        "%%replay record\r\nanswer = ask()\r\nanswer\r\n",
        "%%replay record   \n\n\nask()\n\n",
        "%%replay\trecord\nask()",
        "  %%replay record\n  ask()",
        "In [7]: %%replay record\n   ...: ask()",
        ">>> %%replay record\n>>> ask()",
        "%%replay record\n# only a comment, and a call\nask()",
    ],
)
def test_how_a_cell_may_be_written(replaying: Kernel, cell: str, model: Spawned) -> None:
    """What IPython takes for a cell magic is one: pasted prompts and indentation come off before."""
    hits = model.hits
    ran = replaying.run(cell)
    assert ran.result, ran.traceback
    assert "1 recorded" in ran.status[0]
    assert model.hits == hits + 1
    assert restored(replaying)


def test_the_source_is_the_cell_without_its_line(replaying: Kernel) -> None:
    first = replaying.run("%%replay record\n\nask()\n").result
    second = replaying.run("%%replay record\nx = 1\nask()").result
    assert replaying.run("x = 1\nask()").result == second
    assert replaying.run("ask()").result == first


@pytest.mark.parametrize("end", ["", "\n1 / 0", "\nraise KeyboardInterrupt"])
def test_a_nested_run_restores_its_own(replaying: Kernel, model: Spawned, end: str) -> None:
    cell = f"""%%replay record
first = ask('outer')
inner = get_ipython().run_cell({("%%replay off" + chr(10) + "ask('inner')" + end)!r})
before = len(__import__("nbreplay").core.session.active_sessions())
last = ask('outer again')
"""
    ran = replaying.run(cell)
    assert not ran.evalue.startswith("no recorded"), ran.traceback
    assert "2 recorded · 1 answered live, not recorded" in ran.status[-1]
    assert len(ran.status) == 1
    assert replaying.run("before").result == "2"
    assert restored(replaying)


def test_a_nested_run_in_a_cell_of_no_mode(replaying: Kernel, tmp_path: Path) -> None:
    assert replaying.run("get_ipython().run_cell('%%replay record other\\nask()').result").result
    assert list((tmp_path / "work" / "other").glob("chat-*"))
    assert restored(replaying)
    assert replaying.run("get_ipython().run_cell('ask()').success").result == "False"


def test_a_mode_that_is_changed_inside(replaying: Kernel, model: Spawned) -> None:
    """``%replay`` is about what is on from here on; the cell's own mode stays on top until the cell ends."""
    hits = model.hits
    ran = replaying.run("%%replay record\n%replay off\nask()")
    assert ran.result
    assert "1 recorded" in ran.status[-1]
    assert model.hits == hits + 1
    assert re.search(r"mode +off", replaying.run("%replay").status[0])
    assert not replaying.run("ask()").status
    assert model.hits == hits + 2


@pytest.mark.parametrize(
    "cell",
    [
        "print('ran')\n%%replay record\nask()",
        "# a comment\n%%replay record\nprint('ran')",
        "%%time\n%%replay record\nprint('ran')",
        "%%capture\n%%replay record\nprint('ran'); ask()",
        "%%time\n\n%%replay off\nask()",
        "%%time\nprint('ran')\n%%replay record\nask()",
        "%%prun\n%%replay off\nask()",
        "%replay off\n%%replay record\nask()",
        "s = '''\n%%replay x\n'''\n%%replay record\nprint('ran')",
    ],
)
def test_it_must_come_first(replaying: Kernel, model: Spawned, cell: str) -> None:
    hits = model.hits
    ran = replaying.run(cell)
    assert "must be the first line" in refused(ran)
    assert "ran" not in ran.stdout
    assert model.hits == hits
    assert restored(replaying)


@pytest.mark.parametrize(
    ("cell", "result"),
    [
        ('text = """\n%%replay record\nask()\n"""\ntext', repr("\n%%replay record\nask()\n")),
        ("text = '''\n%%replay off\n'''\nlen(text)", "14"),
        ("x = 7 #\nx  # %%replay record", "7"),
        ("'%%replay record'", repr("%%replay record")),
    ],
)
def test_it_is_left_alone_in_a_string(replaying: Kernel, cell: str, result: str) -> None:
    assert replaying.run(cell).result == result
    assert restored(replaying)


@pytest.mark.parametrize("above", ["", "import nbreplay\n"])
def test_it_is_left_alone_in_a_file_that_is_written(replaying: Kernel, tmp_path: Path, above: str) -> None:
    body = f"{above}%%replay record\nask()\n"
    assert not replaying.run(f"%%writefile a-cell.py\n{body}").ename
    assert (tmp_path / "work" / "a-cell.py").read_text() == body
    assert replaying.run(f"%%bash\ncat <<'END'\n{body}END").stdout == body


def test_other_magics_are_left_alone(replaying: Kernel) -> None:
    assert "not found" in refused(replaying.run("%%replayed record\nask()"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("record a-file", "a-file is a file, and a store is a folder. Name another store, or move the file away"),
        ("record a-file/below", "a-file"),
        ("sideways", "unknown word sideways. The words are"),
        ("record --colour red", "--colour"),
        ("last", "takes no arguments"),
        ("--speed slow", "speed must be a positive number"),
        ("record 'half", "quotation"),
    ],
)
def test_a_cell_that_cannot_have_its_mode_does_not_run(
    replaying: Kernel, model: Spawned, tmp_path: Path, line: str, why: str
) -> None:
    (tmp_path / "work" / "a-file").write_text("precious")
    hits = model.hits
    for body in ("print('ran'); ask()", "print('ran'); await aask()", "%%time\nprint('ran')", "!echo ran"):
        ran = replaying.run(f"%%replay {line}\n{body}")
        assert why in refused(ran)
        assert "%%replay: " in refused(ran)
        assert "ran" not in ran.stdout
    assert model.hits == hits
    assert (tmp_path / "work" / "a-file").read_text() == "precious"
    assert restored(replaying)
    assert replaying.run("%%replay record\nask()").result, "and the next one runs"


def test_a_cell_that_cannot_have_its_mode_and_is_no_python(replaying: Kernel, tmp_path: Path) -> None:
    (tmp_path / "work" / "a-file").write_text("precious")
    assert replaying.run("%%replay record a-file\nno python").ename in ("SyntaxError", "UsageError")
    assert replaying.run("1 + 1").result == "2"
    assert restored(replaying)
