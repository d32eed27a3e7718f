"""Running notebooks: in replay, with nobody to ask, and the verdict."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from nbreplay.core.config import Mode
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.testing.kernels import Kernel
from nbreplay.testing.notebook_file import read_notebook, save_outputs
from nbreplay.testing.result import Result, RunOptions
from nbreplay.testing.runner import find_notebooks, run, run_all
from tests.provider import Provider
from tests.testing.making import ASK, gone, notebook, recorded


def texts(result: Result) -> list[str]:
    """What the cells of a notebook that was run have printed, returned or shown."""
    found = []
    for cell in result.notebook.cells:
        for output in cell.outputs:
            found.append(output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue", ""))
    return found


def test_a_notebook_that_is_recorded_passes(tmp_path: Path) -> None:
    """No server, no key; the notebook is not in the working directory, and finds its own recordings."""
    answers = recorded(tmp_path / "nb" / "recordings", "hello", "bye")
    path = notebook(
        tmp_path / "nb" / "one.ipynb",
        ASK,
        "%load_ext nbreplay\n%replay on",
        "ask()",
        "print(ask('bye'))\nask()",
        "%%replay record\nask()",
        "import openai\nopenai.OpenAI().api_key == os.environ['OPENAI_API_KEY']",
        "print(os.path.basename(os.getcwd()), os.environ['NBREPLAY_NOTEBOOK'])",
    )
    seen: list[tuple[int, int]] = []
    result = run(path, on_cell=lambda _, done, total: seen.append((done, total)))
    assert result.errors == []
    assert result.passed
    hello, bye = repr(answers["hello"]), answers["bye"] + "\n"
    assert texts(result) == [hello, bye, hello, hello, "True", f"nb {path}\n"], "and nothing of ours"
    assert [call.outcome for call in result.calls] == ["replayed"] * 4
    assert [call.cell for call in result.calls] == ["cell-2", "cell-3", "cell-3", "cell-4"]
    assert {(call.kind, call.model) for call in result.calls} == {("chat", "test")}
    assert (result.count("replayed"), result.count("missing")) == (4, 0)
    assert seen == [(number, 7) for number in range(1, 8)]
    assert [cell.execution_count for cell in result.notebook.cells] == list(range(1, 8))
    assert gone(tmp_path / "nb")


def test_a_recording_that_is_gone_is_explained(tmp_path: Path) -> None:
    recorded(tmp_path / "recordings", "hello", "bye")
    (bye,) = [path for path in (tmp_path / "recordings").glob("chat-*") if '"bye"' in path.read_text()]
    bye.unlink()
    path = notebook(tmp_path / "one.ipynb", ASK, "ask()", "# its own\nask('bye')", "print('never')")
    result = run(path)
    assert not result.passed
    (error,) = result.errors
    assert error.startswith("cell 3 (# its own): RecordingMissing: no recorded answer for this chat test call")
    assert 'messages[0].content: recorded "hello", asked "bye"' in error
    assert "[3] # its own  (id cell-2)" in error
    assert (result.count("replayed"), result.count("missing")) == (1, 1)
    assert "never\n" not in texts(result)


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("tag", ["raises-exception", "nbreplay-ignore"])
def test_no_tag_allows_a_miss(tmp_path: Path, tag: str) -> None:
    """A tag allows what the notebook raises; a missing recording fails the run, raised or caught, compared or not."""
    caught = "try:\n    ask('one')\nexcept BaseException: pass\n1 / 0"
    path = notebook(tmp_path / "one.ipynb", ASK, caught, "ask('two')", "print('on')")
    made = nbformat.read(path, as_version=4)
    for cell in made.cells[1:3]:
        cell.metadata["tags"] = [tag]
    nbformat.write(made, path)
    result = run(path, compare=False)
    assert [call.outcome for call in result.calls] == ["missing", "missing"]
    assert texts(result)[-1] == "on\n", "the cells after it run"
    assert [error.partition(" answer")[0] for error in result.errors] == ["no recorded"] * 2
    assert ['"one"' in error for error in result.errors] == [True, False]


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("minor", [5, 4], ids=["ids", "no ids"])
def test_a_tag_allows_a_refused_connection_in_its_cell(tmp_path: Path, minor: int) -> None:
    """It fails as it would offline. A websocket is not replayed, which is a miss. Old notebooks have no cell ids."""
    sources = (
        ASK,
        "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80))\nexcept OSError: pass",
        "from nbreplay.core.session import current_session\ntry:\n"
        "    socket.create_connection(('192.0.2.2', 80))\nexcept OSError: pass\n"
        "current_session().pass_websocket('realtime.connect', 'example.com')",
    )
    path = notebook(tmp_path / "one.ipynb", *sources, tags=("raises-exception",), minor=minor)
    result = run(path)
    assert [call.outcome for call in result.calls] == ["blocked"] * 3
    first, second = result.errors
    assert "192.0.2.1:80" in first
    assert second.startswith("cell 3 (from nbreplay.core.session import current_session): RecordingMissing: realtime.")


def test_a_swallowed_miss_fails_the_run(tmp_path: Path) -> None:
    path = notebook(
        tmp_path / "one.ipynb",
        ASK,
        "import threading\nthread = threading.Thread(target=ask, args=('of a thread',))\nthread.start()",
        "thread.join()",
        "import nbreplay as nr\ndef quiet():\n    with nr.session('other', mode='auto'):\n        try:\n"
        "            ask('of a session')\n        except BaseException:\n            pass\nquiet()",
        "import ipywidgets\nout = ipywidgets.Output()\nbutton = ipywidgets.Button()\n"
        "button.on_click(out.capture()(lambda _: ask('of a click')))\nbutton.click()",
        "import socket\ntry:\n    socket.create_connection(('192.0.2.1', 80))\nexcept OSError: pass",
        "import asyncio\nasync def late():\n    ask('of a task')\ntask = asyncio.create_task(late())",
    )
    result = run(path)
    for what in ("of a thread", "of a session", "of a click", "of a task", "192.0.2.1:80"):
        assert sum(what in error for error in result.errors) == 1, what
    assert len(result.errors) == 5
    assert gone(tmp_path)


def test_a_notebook_sends_nothing_whatever_it_says(tmp_path: Path) -> None:
    with Provider() as provider:
        asking = f"try:\n    ask(url={provider.url!r})\nexcept BaseException as error:\n    print(type(error).__name__)"
        path = notebook(
            tmp_path / "one.ipynb",
            ASK,
            asking,
            f"%load_ext nbreplay\n%replay off\n{asking}",
            f"%%replay record\n{asking}",
            f"%replay record elsewhere\n{asking}",
            f"import nbreplay as nr\nsession = nr.session('x', mode='off')\nsession.start()\n{asking}\nsession.stop()",
        )
        result = run(path)
        assert provider.hits == 0
    assert texts(result) == ["RecordingMissing\n"] * 5
    assert not list(tmp_path.rglob("chat-*"))


def test_record_then_replay_gives_the_stored_outputs(tmp_path: Path) -> None:
    with Provider() as provider:
        path = notebook(
            tmp_path / "one.ipynb",
            ASK,
            f"URL = {provider.url!r}",
            "print(ask(url=URL))\nask('bye', url=URL)",
            "display({'text/plain': ask(url=URL), 'text/html': '<b>é ☃</b>'}, raw=True)",
            "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    print(error)",
        )
        recording = run(path, mode=Mode.RECORD)
        assert recording.errors == []
        assert [call.outcome for call in recording.calls] == ["recorded"] * 3
    assert save_outputs(path, recording.notebook)
    stored = path.read_bytes()
    assert "é ☃".encode() in stored
    assert b"nbreplay" not in stored, "neither badge nor message of ours is stored"
    replay = run(path)
    assert replay.errors == []
    assert [cell.outputs for cell in replay.notebook.cells] == [cell.outputs for cell in read_notebook(path).cells]
    assert not save_outputs(path, replay.notebook)
    assert path.read_bytes() == stored
    (take,) = json.loads(next((tmp_path / "recordings").glob("chat-*")).read_text())["takes"][:1]
    assert take["cell"]["id"] == "cell-2"


def test_a_kernel_that_dies(tmp_path: Path) -> None:
    path = notebook(tmp_path / "one.ipynb", ASK, "x = 1", "os._exit(3)", "print('never')")
    (error,) = run(path).errors
    assert error == "cell 3 (os._exit(3)): the kernel died with exit status 3"
    assert gone(tmp_path)


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("hanging", ["import time\ntime.sleep(300)", "import asyncio\nawait asyncio.sleep(300)"])
def test_a_cell_that_hangs(tmp_path: Path, hanging: str) -> None:
    swallowed = "try:\n    ask('before')\nexcept BaseException: pass"
    path = notebook(tmp_path / "one.ipynb", ASK, swallowed, f"# slow\nprint('on')\n{hanging}", "print('never')")
    result = run(path, timeout=1)
    first, second = result.errors
    assert first.startswith("cell 3 (# slow): cell timed out after 1 s")
    assert "--timeout" in first
    assert '"before"' in second, "what happened until then is told"
    assert gone(tmp_path)


@pytest.mark.full
def test_a_cell_that_hangs_disturbs_no_other_notebook(tmp_path: Path) -> None:
    """They share one event loop. The others looked as if their kernels had died."""
    notebook(tmp_path / "hangs.ipynb", "import time\ntime.sleep(300)")
    notebook(tmp_path / "works.ipynb", *["import time\ntime.sleep(0.5)"] * 16)
    hangs, works = run_all([*sorted(tmp_path.glob("*.ipynb"))], RunOptions(timeout=4), number=2)
    assert "timed out after 4 s" in hangs.errors[0]
    assert works.errors == []


def test_a_timeout_cancels_nothing_of_another_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    other: list[asyncio.Task[None]] = []

    async def execute(*_: Any) -> None:
        other.append(asyncio.create_task(asyncio.sleep(0.01)))
        raise CellTimeoutError("Cell execution timed out")

    async def interrupt() -> None:
        pass

    async def time_out() -> bool:
        kernel = Kernel(nbformat.v4.new_notebook())
        kernel.kc = SimpleNamespace(session=SimpleNamespace(msg=None))
        kernel.km = SimpleNamespace(interrupt_kernel=interrupt)
        with pytest.raises(CellTimeoutError):
            await kernel.async_execute_cell(nbformat.v4.new_code_cell("1"), 0)
        await asyncio.wait(other)
        return other[0].cancelled()

    monkeypatch.setattr(NotebookClient, "async_execute_cell", execute)
    assert not asyncio.run(time_out())


def test_an_error_that_a_notebook_makes_itself(tmp_path: Path) -> None:
    path = notebook(tmp_path / "one.ipynb", ASK, "raise ValueError('mine')", tags=())
    (error,) = run(path).errors
    assert error == "cell 2 (raise ValueError('mine')): ValueError: mine"


def test_a_failing_cell_is_told_from_one_that_may_fail_alike(tmp_path: Path) -> None:
    path = notebook(tmp_path / "one.ipynb", ASK, "1 / 0", "1 / 0  # again")
    made = nbformat.read(path, as_version=4)
    made.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(made, path)
    (error,) = run(path).errors
    assert error.startswith("cell 3 (1 / 0  # again)")


@pytest.mark.parametrize(
    ("given", "why"),
    [({"NBREPLAY_STORE": "a-file"}, "a-file is a file"), ({}, "sped")],
    ids=["store", "project"],
)
def test_where_nbreplay_cannot_be_switched_on_no_cell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], why: str
) -> None:
    """Else the notebook would go live, and pass."""
    (tmp_path / "a-file").write_text("precious")
    if not given:
        (tmp_path / "pyproject.toml").write_text("[tool.nbreplay]\nsped = 2\n")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    (error,) = run(notebook(tmp_path / "one.ipynb", ASK)).errors
    assert "turn nbreplay on" in error
    assert why in error
    assert not (tmp_path / "kernels").exists()


def test_what_is_no_notebook(tmp_path: Path) -> None:
    path = tmp_path / "broken.ipynb"
    for text in ("{", "[]", '{"cells": 1}', "", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}'):
        path.write_text(text)
        with pytest.raises(NbreplayError, match=r"broken\.ipynb as a notebook"):
            run(path)
    with pytest.raises(OptionError, match="does not exist"):
        find_notebooks([tmp_path / "none.ipynb"])


def test_notebooks_are_found(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="contains no notebook"):
        find_notebooks([tmp_path / "empty"])
    paths = [notebook(tmp_path / name) for name in ("b.ipynb", "a/c.ipynb", "a/.ipynb_checkpoints/c.ipynb")]
    assert find_notebooks([tmp_path, paths[0]]) == [paths[1], paths[0]]


def test_several_at_once(tmp_path: Path) -> None:
    """One that cannot be run costs the others nothing, and the order stays."""
    recorded(tmp_path / "recordings", "hello")
    good = notebook(tmp_path / "good.ipynb", ASK, "ask()")
    bad = notebook(tmp_path / "bad.ipynb", ASK, "ask('else')")
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{")
    other = notebook(tmp_path / "other.ipynb", ASK, kernelspec={"name": "ir", "display_name": "R", "language": "R"})
    results = run_all([broken, good, other, bad], RunOptions(), number=3)
    assert [result.path for result in results] == [broken, good, other, bad]
    assert [result.passed for result in results] == [False, True, False, False]
    assert "Cannot read" in results[0].errors[0]
    assert "is for the language R" in results[2].errors[0]
    assert gone(tmp_path)


SCRIPTS = {
    "command": ("import sys; from nbreplay.cli.main import main; sys.exit(main(['run', sys.argv[1]]))", 130),
    "function": ("import sys; from nbreplay.testing.runner import run; run(sys.argv[1])", -signal.SIGINT),
}


@pytest.mark.parametrize("how", SCRIPTS)
def test_an_interrupted_run_leaves_no_kernel(tmp_path: Path, how: str) -> None:
    script, status = SCRIPTS[how]
    path = notebook(tmp_path / "one.ipynb", ASK, "import time\ntime.sleep(300)")
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not (tmp_path / "kernels").exists() and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == status, said
    assert said.endswith("nbreplay: interrupted\n" if how == "command" else "KeyboardInterrupt\n")
    assert how == "function" or "Traceback" not in said
    assert gone(tmp_path)


@pytest.mark.parametrize("lost", [None, DeadKernelError("the kernel died")], ids=["swallowed", "mistaken"])
def test_an_interrupt_that_nbclient_loses(monkeypatch: pytest.MonkeyPatch, lost: Exception | None) -> None:
    async def execute(*_: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if lost:
                raise lost from None

    async def interrupted() -> bool:
        kernel = Kernel(nbformat.v4.new_notebook())
        kernel.kc = SimpleNamespace(session=SimpleNamespace(msg=None))
        task = asyncio.create_task(kernel.async_execute_cell(nbformat.v4.new_code_cell("1"), 0))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    monkeypatch.setattr(NotebookClient, "async_execute_cell", execute)
    assert asyncio.run(interrupted())


def plain(indent: Any = 1, **more: Any) -> str:
    """A notebook's text, with much that must stay as it is."""
    cells = [
        {"cell_type": "markdown", "source": ["# é\n", "text"], "id": "m", "metadata": {"z": 1, "a": 2}},
        {
            "source": "1 + 1",
            "outputs": [
                {"output_type": "execute_result", "metadata": {}, "execution_count": 7, "data": {"text/plain": "2"}}
            ],
            "metadata": {"tags": ["t"], "collapsed": False},
            "id": "c",
            "execution_count": 7,
            "cell_type": "code",
        },
        {
            "cell_type": "code",
            "execution_count": 8,
            "id": "d",
            "metadata": {},
            "outputs": [
                {"output_type": "stream", "text": ["one\n", "two\n"], "name": "stdout"},
                {"output_type": "stream", "text": "three\nfour\n", "name": "stderr"},
            ],
            "source": ["print('one')\n", "print('two')"],
        },
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "vendor": {"é": 1.0},
    }
    whole = {"metadata": metadata, "cells": cells, "nbformat_minor": 5, "nbformat": 4}
    return json.dumps(whole, indent=indent, **more)


WRITTEN = {
    "as nbformat does": plain(ensure_ascii=False) + "\n",
    "without a last newline": plain(ensure_ascii=False),
    "indented by two": plain(2, ensure_ascii=False) + "\n",
    "indented by tabs": plain("\t", ensure_ascii=False) + "\n",
    "escaped": plain() + "\n",
    "on one line": plain(None) + "\n",
    "compact": plain(None, separators=(",", ":")),
    "with CRLF": plain(ensure_ascii=False).replace("\n", "\r\n") + "\r\n",
    "with blank lines at the end": plain(ensure_ascii=False) + "\n\n",
}


@pytest.mark.parametrize("how", WRITTEN)
def test_update_changes_outputs_only(tmp_path: Path, how: str) -> None:
    path = tmp_path / "one.ipynb"
    path.write_bytes(WRITTEN[how].encode())
    executed = read_notebook(path)
    assert not save_outputs(path, executed)
    assert path.read_bytes() == WRITTEN[how].encode(), "what is up to date is not written"
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", text="three ☃\n")]
    assert save_outputs(path, executed)
    text = path.read_bytes().decode()
    one, three = json.loads(WRITTEN[how]), json.loads(text)
    assert three["cells"][2]["outputs"] == [{"name": "stdout", "output_type": "stream", "text": ["three ☃\n"]}]
    three["cells"][2]["outputs"] = one["cells"][2]["outputs"]
    assert three == one
    # Byte for byte: what is before the outputs, and what is after them.
    start = WRITTEN[how].rindex('"outputs"')
    end = len(WRITTEN[how]) - WRITTEN[how].rindex('"source"')
    assert text[:start] == WRITTEN[how][:start]
    assert text[-end:] == WRITTEN[how][-end:]


def test_update_counts_anew(tmp_path: Path) -> None:
    path = tmp_path / "one.ipynb"
    path.write_text(plain(ensure_ascii=False), encoding="utf-8")
    executed = read_notebook(path)
    executed.cells[1].execution_count, executed.cells[2].execution_count = 1, 2
    assert save_outputs(path, executed)
    expected = plain(ensure_ascii=False).replace('"execution_count": 7', '"execution_count": 1')
    assert path.read_text(encoding="utf-8") == expected.replace('"execution_count": 8', '"execution_count": 2')


def test_update_follows_a_link_and_keeps_the_mode(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "one.ipynb", tmp_path / "link.ipynb"
    real.write_text(plain())
    real.chmod(0o640)
    link.symlink_to(real)
    executed = read_notebook(link)
    executed.cells[2].outputs = []
    assert save_outputs(link, executed)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert read_notebook(real).cells[2].outputs == []
    assert sorted(os.listdir(real.parent)) == ["one.ipynb"]


def test_update_of_what_cannot_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "one.ipynb"
    path.write_text(plain())
    executed = read_notebook(path)
    executed.cells[0].source = "changed in between"
    with pytest.raises(NbreplayError, match="changed while it ran"):
        save_outputs(path, executed)
    path.write_text(json.dumps({"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": []}]}))
    with pytest.raises(NbreplayError, match="format 3"):
        save_outputs(path, read_notebook(path))


@pytest.mark.full(quick=1)
@pytest.mark.parametrize(("falls", "passes"), [(2, True), (9, False)])
def test_a_kernel_that_ends_before_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, falls: int, passes: bool
) -> None:
    """Another process may have taken its port: it is started again, and not for ever."""
    (tmp_path / "site").mkdir()
    code = f"""
import os, sys
if "-m" in sys.orig_argv and "ipykernel_launcher" in sys.orig_argv:
    with open({str(tmp_path / "starts")!r}, "a+") as file:
        print("start", file=file)
        file.seek(0)
        if len(file.readlines()) <= {falls}:
            os._exit(1)
"""
    (tmp_path / "site" / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    result = run(notebook(tmp_path / "one.ipynb", "print('here')"))
    assert result.passed is passes
    if not passes:
        assert "the kernel died" in result.errors[0]
    assert len((tmp_path / "starts").read_text().split()) == (3 if passes else 4)


def test_a_kernel_that_is_started_in_a_test_has_streams_with_descriptors(tmp_path: Path) -> None:
    """Programs give them to their children, such as servers of MCP."""
    assert "PYTEST_CURRENT_TEST" in os.environ
    result = run(notebook(tmp_path / "one.ipynb", "import sys\nassert sys.stderr.fileno() > 0"))
    assert result.passed, result.errors


INTERRUPTED = """
import asyncio
from nbreplay.testing import runner

def close(self):
    self._remove_reader(self._ssock.fileno())
    self._ssock = None
    raise KeyboardInterrupt

asyncio.selector_events.BaseSelectorEventLoop._close_self_pipe = close
runner.serve()
"""


@pytest.mark.full
def test_an_interrupt_after_the_last_notebook_prints_nothing(tmp_path: Path) -> None:
    """Pytest interrupts the process as soon as it has all results, while this may still close its event loop."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        pickle.dump(([notebook(tmp_path / "one.ipynb", "1")], RunOptions(), 1, False), process.stdin)
        process.stdin.flush()
        assert pickle.load(process.stdout).passed
        assert process.stderr.read() == b""
