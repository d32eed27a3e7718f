"""nbreplay in JupyterLite's own kernel, which awaits its cells and triggers no ``post_run_cell`` after them."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from nbreplay.testing.outputs.compare import compare
from nbreplay.testing.outputs.sanitise import rules_for
from tests.notebook.kernel import Ran
from tests.pyodide.conftest import RECORDINGS, Server
from tests.pyodide.kernel import PyodideKernel

pytestmark = pytest.mark.full

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_quickstart.ipynb"
IMPORTS = """from openai import AsyncOpenAI, OpenAI
client = OpenAI(base_url="http://127.0.0.1:8089/v1")
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
asked = {"model": "smollm2-135m", "messages": QUESTION, "max_tokens": 30, "temperature": 0}
"""
ASK = "client.chat.completions.create(**asked).choices[0].message.content"
ASK_OTHERWISE = "client.chat.completions.create(model='x', messages=QUESTION)"
ANSWER = "'The capital of France is Paris.'"
AWAIT = "import asyncio\nawait asyncio.sleep(0)\n"


def executed(notebook: nbformat.NotebookNode, ran: dict[str, Ran]) -> nbformat.NotebookNode:
    """Return a notebook as a front end would save it after a run."""
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            done = ran[cell.id]
            streams = [
                nbformat.v4.new_output("stream", name=name, text=text)
                for name, text in (("stdout", done.stdout), ("stderr", done.stderr))
                if text
            ]
            displays = [
                nbformat.v4.new_output("display_data", data, metadata=metadata) for data, metadata in done.displays
            ]
            results = [nbformat.v4.new_output("execute_result", {"text/plain": done.result})] if done.result else []
            cell.outputs = [*streams, *results, *displays]
    return notebook


def test_a_notebook_replays_whole_and_again_in_the_same_kernel(page: PyodideKernel) -> None:
    page.run(f"import os\nbefore = os.getcwd()\nos.chdir({str(NOTEBOOK.parent)!r})")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    try:
        for again in (False, True):
            ran = {cell.id: page.run(cell.source, cell.id) for cell in cells}
            if again:
                assert "already loaded" in ran[cells[0].id].stdout
                ran[cells[0].id].stdout = ""
            assert [done.traceback for done in ran.values() if done.traceback] == []
            assert [done.stderr for done in ran.values() if done.stderr] == [], "no library warns on the page"
            assert compare(notebook, executed(notebook, ran), rules_for(NOTEBOOK)) == []
            badges = [text for done in ran.values() for text in done.status if text.startswith("nbreplay: ")]
            assert len(badges) == 6, "each cell that called has its own"
            assert all("missing" not in text for text in badges)
    finally:
        page.run("os.chdir(before)\n%unload_ext nbreplay")


@pytest.mark.parametrize("prefix", ["", AWAIT], ids=["a cell that runs", "a cell that awaits"])
def test_each_run_of_a_cell_replays_anew_and_has_a_badge(kernel: PyodideKernel, prefix: str) -> None:
    assert not kernel.run(IMPORTS).traceback
    for _ in range(3):  # one take is recorded
        ran = kernel.run(prefix + ASK, "a")
        assert ran.result == ANSWER
        assert [text.partition(" · ")[0] for text in ran.status] == ["nbreplay: 1 replayed"]


def test_a_cells_own_mode_ends_with_the_cell(kernel: PyodideKernel) -> None:
    kernel.run("%replay off")
    kernel.run("sessions = get_ipython().magics_manager.registry['ReplayMagics'].cells.sessions")
    ran = kernel.run(f"%%replay replay {RECORDINGS}\n{IMPORTS}{AWAIT}{ASK}")
    assert ran.result == ANSWER
    assert [text.partition(" · ")[0] for text in ran.status] == ["nbreplay: 1 replayed"]
    assert kernel.run("%replay").status[0].splitlines()[1].split() == ["mode", "off"]
    failed = kernel.run(f"%%replay replay {RECORDINGS}\n{AWAIT}1 / 0")
    assert failed.ename == "ZeroDivisionError"
    assert "line 4" in failed.traceback, "lines are counted as in the cell"
    assert kernel.run("get_ipython().magics_manager.registry['ReplayMagics'].cells.sessions").result == "[]"
    wrong = kernel.run(f"%%replay forwards\n{AWAIT}ran_on = True")
    assert "UsageError: %%replay: unknown word forwards" in wrong.stderr
    assert kernel.run("ran_on").ename == "NameError"


@pytest.mark.parametrize("prefix", ["", AWAIT], ids=["a cell that runs", "a cell that awaits"])
def test_a_swallowed_miss_is_told_at_the_end_of_the_cell(kernel: PyodideKernel, prefix: str) -> None:
    kernel.run(IMPORTS)
    ran = kernel.run(f"{prefix}try:\n    {ASK_OTHERWISE}\nexcept BaseException:\n    pass")
    assert not ran.traceback
    (badge,) = ran.status
    assert badge.startswith("nbreplay: 1 missing")
    assert 'model: recorded "smollm2-135m", asked "x"' in badge
    raised = kernel.run(prefix + ASK_OTHERWISE)
    assert raised.ename == "RecordingMissing"
    assert raised.status == [], "the error says it"
    assert kernel.run("%replay diff").status[0] == raised.evalue


def test_the_last_calls_are_shown_as_a_card(kernel: PyodideKernel) -> None:
    kernel.run(IMPORTS)
    kernel.run(AWAIT + ASK)
    ran = kernel.run("%replay last")
    assert [kind for kind, _ in ran.comms][:2] == ["comm_open", "comm_open"]
    assert "The capital of France is Paris." in ran.displays[0][0]["text/plain"]


def test_cards_grow_while_a_cell_awaits(kernel: PyodideKernel) -> None:
    kernel.run(IMPORTS)
    stored = next(cell.source for cell in nbformat.read(NOTEBOOK, 4).cells if "stream = client" in cell.source)
    ask = stored.replace("client.chat", "await AsyncOpenAI().chat").replace("for chunk", "async for chunk")
    kernel.run('MODEL = "smollm2-135m"')
    ran = kernel.run(f"%%replay replay --speed 2 --view stream\n{ask}")
    assert "The sea is a vast" in ran.stdout, ran.traceback
    growth = [content for _, content in ran.comms if "growth" in str(content)]
    assert len(growth) > 2
    assert ran.status[0].startswith("nbreplay: 1 replayed")


REQUESTS = {
    "pyfetch": "from pyodide.http import pyfetch\nawait pyfetch(URL)",
    "open_url": "from pyodide.http import open_url\nopen_url(URL)",
    "pyxhr": "from pyodide.http import pyxhr\npyxhr.get(URL)",
    "fetch": "import js\nawait js.fetch(URL)",
    "fetch, which was imported before": "await fetch(URL)",
    "fetch of a request": "import js\nawait js.fetch(js.Request.new(URL))",
    "XMLHttpRequest": "import js\nrequest = js.XMLHttpRequest.new()\nrequest.open('GET', URL, False)\nrequest.send()",
    "a script of JavaScript's": "from pyodide.code import run_js\nawait run_js(f'fetch({URL!r})')",
    "a task": "import asyncio, js\nasync def ask(): return await js.fetch(URL)\nawait asyncio.create_task(ask())",
}


@pytest.mark.parametrize("code", REQUESTS.values(), ids=[*REQUESTS])
def test_requests_of_the_page_are_refused_and_told(kernel: PyodideKernel, server: Server, code: str) -> None:
    host = server.url.removeprefix("http://")
    kernel.run("%replay off\nfrom js import fetch")
    kernel.run(f"URL = '{server.url}/page.txt'\n%replay replay {RECORDINGS}")
    before = len(server.asked)
    indented = "".join(f"    {line}\n" for line in code.splitlines())
    ran = kernel.run(f"try:\n{indented}except OSError as error: print(type(error).__name__, error)")
    assert ran.stdout.startswith(f"NetworkBlocked nbreplay blocked a connection to {host} during replay")
    assert not ran.traceback + ran.stderr, "what the cell catches is not printed"
    assert ran.status[0].startswith("nbreplay: 1 blocked")
    assert host in ran.status[0]
    assert len(server.asked) == before, "nothing was sent"
    allowed = kernel.run(f"%%replay replay --allow {host}\n{code}")
    assert not allowed.traceback
    assert len(server.asked) == before + 1


def test_a_refused_request_fails_its_cell_and_goes_out_without_replay(kernel: PyodideKernel, server: Server) -> None:
    kernel.run(f"from pyodide.http import pyfetch\nURL = '{server.url}/page.txt'")
    ran = kernel.run("await pyfetch(URL)")
    assert ran.ename == "NetworkBlocked"
    assert ran.status == [], "the error says it"
    assert server.url.removeprefix("http://") in kernel.run("%replay").status[0]
    kernel.run("%replay off")
    assert kernel.run("answer = await pyfetch(URL)\nawait answer.text()").result == "'a page'"


def test_what_has_no_host_and_what_the_page_asks_for_itself_goes_on(kernel: PyodideKernel, server: Server) -> None:
    ran = kernel.run("import js\nanswer = await js.fetch('data:text/plain,here')\nawait answer.text()")
    assert ran.result == "'here'"
    asked = len(server.asked)
    assert kernel.run("import tiny\ntiny.is_here").result == "True", "the kernel loads the packages that a cell imports"
    assert server.asked[asked:] == ["/tiny-1.0-py3-none-any.whl"]


def test_requests_are_replayed_without_sockets(kernel: PyodideKernel) -> None:
    """The library's own way out of a page is not needed for a replay."""
    ran = kernel.run(
        f"{IMPORTS}import requests\n"
        f"answer = requests.post('http://127.0.0.1:8089/v1/chat/completions', json=asked)\n"
        "answer.json()['choices'][0]['message']['content']"
    )
    assert ran.result == ANSWER, ran.traceback


def test_a_store_is_fetched_from_its_address(kernel: PyodideKernel, server: Server) -> None:
    kernel.run(IMPORTS)
    (text,) = kernel.run(f"%replay replay {server.url}/store.zip").status
    assert text == f"nbreplay replays; nothing goes out · {server.url}/store.zip (read-only)"
    ran = kernel.run(ASK)
    assert ran.result == ANSWER
    assert f"{server.url}/store.zip" in ran.status[0]
    missing = kernel.run(f"%replay on {server.url}/none.zip")
    assert f"{server.url}/none.zip cannot be fetched: 404 File not found" in missing.stderr
    unreachable = kernel.run("%replay on http://127.0.0.1:9/none.zip")
    assert "cannot be fetched: nothing answers, or the server does not let pages" in unreachable.stderr
    plain = kernel.run("%replay on http://example.com/store.zip")
    assert "only https addresses are fetched" in plain.stderr


def test_the_first_cell_may_install_packages_and_load_the_extension(page: PyodideKernel) -> None:
    ran = page.run(f"{AWAIT}%load_ext nbreplay\n%replay replay {RECORDINGS}\n{IMPORTS}{ASK}")
    try:
        assert ran.result == ANSWER
        assert ran.status[1].startswith("nbreplay: 1 replayed"), "the cell that loads it has a badge, too"
        assert page.run(ASK).status[0].startswith("nbreplay: 1 replayed"), "and the next is no part of it"
    finally:
        page.run("%unload_ext nbreplay")
    assert "run_cell_async" not in (page.run("list(vars(get_ipython()))").result or "")


def test_a_call_is_recorded_in_the_page(kernel: PyodideKernel) -> None:
    code = "import nbreplay as nr\n@nr.tool\ndef double(number):\n    return 2 * number\n"
    assert not kernel.run(f"{code}%replay record recorded").traceback
    assert kernel.run("double(4)").status[0].startswith("nbreplay: 1 recorded")
    kernel.run("%replay replay recorded")
    ran = kernel.run("double(4)")
    assert (ran.result, ran.status[0].partition(" · ")[0]) == ("8", "nbreplay: 1 replayed")


def test_recordings_are_loaded_and_compared_without_pandas(kernel: PyodideKernel) -> None:
    kernel.run(f"import nbreplay as nr\nlib = nr.load({str(RECORDINGS)!r})")
    assert kernel.run("len(lib) > 20").result == "True"
    ran = kernel.run("nr.compare(lib, lib).show()")
    assert not ran.traceback
    assert "same" in ran.displays[0][0]["text/plain"]
    ran = kernel.run("one, other = (lib.row(name).call for name in ('chat-19e73183#1', 'chat-8e52cb3b#1'))")
    assert not ran.traceback
    ran = kernel.run("nr.compare(one, other).show()")
    assert not ran.traceback
    assert "Paris" in str(ran.displays) + str(ran.comms)
    assert "changed" in str(ran.displays[0])
    missing = kernel.run("lib.interactions")
    assert missing.ename == "ModuleNotFoundError"
    assert missing.evalue.startswith("pandas is not installed, and frames need it. In JupyterLite, run a cell with")
