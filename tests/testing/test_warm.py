"""Kernels that are forked: real ones, each as if it were the first, and gone with whoever wanted them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nbreplay.core.config import Mode
from nbreplay.testing.result import Result, RunOptions
from nbreplay.testing.runner import run, run_all
from nbreplay.testing.warm import process, tree
from nbreplay.testing.warm.imports import imported_modules
from nbreplay.testing.warm.process import WarmProcess
from tests.testing.making import ASK, gone, notebook, recorded

needs_forks = pytest.mark.skipif(not tree.CAN_FORK, reason="kernels are forked on Linux only")

LEAK = """import atexit, builtins, os, random, sys, tempfile, threading, time, warnings
import numpy
os.environ["LEAKED"] = "yes"
os.chdir("/")
os.umask(0o77)
sys.path.insert(0, "/leaked")
sys.modules["leaked"] = sys
builtins.leaked = 1

__import__("textwrap").dedent = print
random.seed(1)
numpy.random.seed(1)
warnings.simplefilter("error")
leaked_file = tempfile.TemporaryFile()
threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
sys.setrecursionlimit(5000)
with open(START + "/leaked", "w") as file:
    print(os.getpid(), file=file)"""

LOOK = """import builtins, json, os, random, sys, threading, warnings
import numpy
seen = {
    "LEAKED": os.environ.get("LEAKED"),
    "cwd": os.getcwd() == START,
    "umask": os.umask(0o22),
    "path": "/leaked" in sys.path,
    "module": "leaked" in sys.modules,
    "builtin": hasattr(builtins, "leaked"),
    "textwrap": __import__("textwrap").dedent is print,
    "warnings": warnings.filters[0][0] == "error",
    "threads": sorted(type(thread).__name__ for thread in threading.enumerate()),
    "limit": sys.getrecursionlimit(),
    "argv": sys.argv[0],
    "main": sys.modules["__main__"].__dict__ is globals(),
    "files": len(os.listdir("/proc/self/fd")),
}
print(json.dumps(seen))
print(random.random(), numpy.random.random(), __import__("secrets").token_hex(4), os.getpid())"""


def printed(result: Result) -> list[str]:
    """What the last cell of a notebook has printed, by line."""
    assert result.errors == []
    return str(result.notebook.cells[-1].outputs[0].text).splitlines()


@pytest.mark.full
@needs_forks
def test_nothing_passes_from_one_notebook_to_the_next(tmp_path: Path) -> None:
    """Nor is a forked kernel told from one that is started the ordinary way, by what a notebook can see."""
    start = "import os\nSTART = os.getcwd()"
    paths = [
        notebook(tmp_path / "a.ipynb", start, LEAK),
        *(notebook(tmp_path / f"{name}.ipynb", start, LOOK) for name in "bcd"),
    ]
    results = run_all(paths, RunOptions(), number=1)
    assert results[0].errors == []
    looks = [printed(result) for result in results[1:]]
    ordinary = printed(run(paths[1]))
    seen = json.loads(ordinary[0])
    assert seen["LEAKED"] is None
    assert seen["cwd"]
    for look in looks:
        forked = json.loads(look[0])
        assert abs(forked.pop("files") - seen["files"]) <= 3
        assert forked == {name: value for name, value in seen.items() if name != "files"}
    drawn = [tuple(look[1].split()) for look in looks]
    assert all(len(set(column)) == len(drawn) for column in zip(*drawn, strict=True)), "each has its own randomness"


@needs_forks
def test_kernels_are_forked_where_there_are_several(tmp_path: Path) -> None:
    source = "import os\nprint(os.getppid(), len(open('/proc/%d/cmdline' % os.getppid()).read().split('warm.server')))"
    paths = [notebook(tmp_path / f"{name}.ipynb", source) for name in "abc"]
    parents = {tuple(printed(result)[0].split()) for result in run_all(paths, RunOptions(), number=3)}
    assert len(parents) == 1, "one process has forked them all"
    ((parent, parts),) = parents
    assert parts == "2"
    with pytest.raises(ProcessLookupError):
        os.kill(int(parent), 0)
    assert printed(run(paths[0]))[0] == f"{os.getpid()} 1"


@pytest.mark.full(quick=1)
@needs_forks
@pytest.mark.parametrize(
    "module",
    [
        "import warnings\nwarnings.warn('look here')",
        "print('look here')",
        "import sys\nprint('look here', file=sys.stderr)",
    ],
    ids=["warns", "prints", "complains"],
)
def test_what_an_import_says_is_said_in_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """A module that would be noticed is not imported ahead, and the others are."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "loud_module.py").write_text(module)
    (tmp_path / "site" / "quiet_module.py").write_text("import os\nPID = os.getpid()")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    paths = [
        notebook(
            tmp_path / f"{name}.ipynb",
            "import quiet_module\nimport loud_module",
            "import os\nprint(quiet_module.PID == os.getpid())",
        )
        for name in "ab"
    ]
    for result in run_all(paths, RunOptions(), number=2):
        assert "look here" in result.notebook.cells[0].outputs[0].text
        assert printed(result) == ["False"]


KEEPER = """import functools, logging, sys
say = functools.partial(print, file=sys.stderr)
write = sys.stdout.write
log = logging.getLogger("keeper")
log.addHandler(logging.StreamHandler())
def number(stream=sys.stderr):
    return stream.fileno()"""


@needs_forks
def test_a_stream_that_an_import_keeps_is_that_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "keeper_module.py").write_text(KEEPER)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # ipykernel's streams have no file descriptor where it is set
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path[:1], os.environ.get("PYTHONPATH", "")]))
    use = "keeper_module.say('{0} said')\nkeeper_module.log.error('{0} logged')\nkeeper_module.write('{0} written\\n');"
    look = "import sys\nprint(keeper_module.number() == sys.stderr.fileno(), keeper_module.__spec__.parent == '')"
    kept = "print(keeper_module.log.handlers[0].stream is sys.stderr, type(sys.stderr).__name__)"
    paths = [
        notebook(tmp_path / f"{name}.ipynb", "import keeper_module", use.format(name), f"{look}\n{kept}")
        for name in "ab"
    ]
    for name, result in zip("ab", run_all(paths, RunOptions(), number=2), strict=True):
        assert printed(result) == ["True True", "True OutStream"]
        outputs = {output.name: output.text for output in result.notebook.cells[1].outputs}
        assert outputs == {"stderr": f"{name} said\n{name} logged\n", "stdout": f"{name} written\n"}


@pytest.mark.full
@needs_forks
def test_a_client_of_mcp_starts_its_server_in_a_forked_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mcp", reason="pip install -e '.[test-full]'")
    (tmp_path / "server.py").write_text(
        "from mcp.server.mcpserver import MCPServer\n"
        "server = MCPServer('tests', log_level='ERROR')\n"
        "@server.tool()\ndef find(city: str) -> str:\n    return f'18 in {city}'\n"
        "server.run('stdio')\n"
    )
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    connect = "parameters = StdioServerParameters(command=sys.executable, args=['server.py'])"
    ask = """async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
    await session.initialize()
    print((await session.call_tool("find", {"city": "Rome"})).content[0].text)"""
    imports = (
        "import sys\nfrom mcp import ClientSession, StdioServerParameters\nfrom mcp.client.stdio import stdio_client"
    )
    paths = [notebook(tmp_path / f"{name}.ipynb", f"{imports}\n{connect}", ask) for name in "ab"]
    for mode in (Mode.RECORD, Mode.REPLAY):
        for result in run_all(paths, RunOptions(mode), number=1):
            assert printed(result) == ["18 in Rome"]


@needs_forks
def test_a_module_that_leaves_a_thread_is_not_imported_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    code = (
        "import threading, time\nTHREAD = threading.Thread(target=time.sleep, args=(300,), daemon=True)\nTHREAD.start()"
    )
    (tmp_path / "site" / "busy_module.py").write_text(code)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    paths = [
        notebook(tmp_path / f"{name}.ipynb", "import busy_module\nprint(busy_module.THREAD.is_alive())")
        for name in "ab"
    ]
    assert [printed(result) for result in run_all(paths, RunOptions(), number=2)] == [["True"]] * 2


@needs_forks
def test_folders_share_the_processes_of_the_modules_that_they_share(tmp_path: Path) -> None:
    """No notebook finds a module that it does not import, and each its own folder."""
    look = "import os, sys, helpers\nprint(os.getppid(), [n for n in ('numpy', 'openai', 'PIL') if n in sys.modules])"
    look += "\nprint(helpers.FOLDER, os.getcwd(), '' in sys.path)"
    imports = {"a": "import openai", "b": "import openai\nimport numpy", "c": "import numpy, openai", "d": "import PIL"}
    paths = []
    for name, source in imports.items():
        paths.append(
            notebook(tmp_path / name / "one.ipynb", f"{source.split()[0]} os\n{look}" if name == "d" else look)
        )
        notebook(paths[-1], *([look, source] if name == "d" else [source, look]))
        (tmp_path / name / "helpers.py").write_text(f"FOLDER = {name!r}")
    rows = {}
    for name, result in zip(imports, run_all(paths, RunOptions(), number=1), strict=True):
        assert result.errors == []
        cell = result.notebook.cells[0 if name == "d" else 1]
        first, second = "".join(output.text for output in cell.outputs).splitlines()
        parent, _, modules = first.partition(" ")
        assert second == f"{name} {tmp_path / name} True"
        rows[name] = (parent, modules)
    assert rows["b"] == rows["c"]
    assert len({parent for parent, _ in rows.values()}) == 3
    assert [rows[name][1] for name in "abd"] == ["['openai']", "['numpy', 'openai']", "[]"]
    assert str(os.getpid()) not in {parent for parent, _ in rows.values()}


@needs_forks
def test_a_folder_that_imports_read_has_a_process_of_its_own(tmp_path: Path) -> None:
    """Settings such as .env and matplotlibrc are read while a library is imported; and what it sets is set."""
    site = tmp_path / "site"
    site.mkdir()
    code = "import os\nTEXT = open('.env').read() if os.path.exists('.env') else ''\n"
    code += "os.environ['BY_IMPORT'] = TEXT or 'no'"
    (site / "reads_settings.py").write_text(code)
    source = "import os, reads_settings\nprint(os.getppid(), repr(reads_settings.TEXT), os.environ['BY_IMPORT'])"
    paths = [notebook(tmp_path / f"{name[0]}" / f"{name}.ipynb", source) for name in ("a1", "a2", "b1", "c1", "d1")]
    (tmp_path / "a" / ".env").write_text("X=a")
    (tmp_path / "b" / ".env").write_text("X=b")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(Path(__file__).parents[2])]))
        patch.syspath_prepend(str(site))
        rows = [printed(result)[0].split() for result in run_all(paths, RunOptions(), number=2)]
    assert [row[1:] for row in rows] == [
        ["'X=a'", "X=a"], ["'X=a'", "X=a"], ["'X=b'", "X=b"], ["''", "no"], ["''", "no"],
    ]  # fmt: skip
    first, second, alone, third, fourth = (row[0] for row in rows)
    assert first == second != third == fourth
    assert alone == str(os.getpid())


@needs_forks
def test_a_module_of_a_folder_that_has_the_name_of_a_library(tmp_path: Path) -> None:
    """Such as one that openai imports. A kernel finds the module in its folder, as if started the ordinary way."""
    for name in "ab":
        notebook(
            tmp_path / name / "one.ipynb", "import openai, os\nimport sniffio\nprint(os.getppid(), sniffio.__file__)"
        )
    (tmp_path / "b" / "sniffio.py").write_text("def __getattr__(name): return lambda *_: 'x'\n__file__ = 'own'")
    one, other = run_all([tmp_path / "a" / "one.ipynb", tmp_path / "b" / "one.ipynb"], RunOptions(), number=2)
    assert "site-packages" in printed(one)[0]
    assert printed(other)[0] == f"{os.getpid()} own"


@pytest.mark.parametrize(
    "edit", ["sys.path.insert(0, str(src))", "sys.path[:0] = [str(src)]", "sys.path = ['src', *sys.path]"]
)
def test_modules_of_a_folder_put_before_the_installed_ones_are_imported_from_there(tmp_path: Path, edit: str) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "PIL.py").write_text("Image = 'own'")
    own = notebook(
        tmp_path / "a.ipynb",
        f"import sys\nfrom pathlib import Path\nsrc = Path.cwd() / 'src'\n{edit}\nfrom PIL import Image\nprint(Image)",
    )
    others = [notebook(tmp_path / f"{name}.ipynb", "from PIL import Image\nprint(Image.__name__)") for name in "bc"]
    results = run_all([own, *others], RunOptions(compare=False))
    outputs = [cell.outputs[0].text for result in results for cell in result.notebook.cells]
    assert outputs == ["own\n", "PIL.Image\n", "PIL.Image\n"]


def test_what_notebooks_import(tmp_path: Path) -> None:
    (tmp_path / "local_helpers.py").write_text("import local_helpers\nfrom PIL import Image\nif 0:\n    import yaml")
    sources = (
        "%load_ext nbreplay\nimport json, openai as o  # and not: import nothing\nfrom pandas.api import types",
        "import local_helpers\nimport none_such\nif False:\n    import numpy\nfrom . import x\n!import dask",
        "import json\nimport email.mime.text;import nbformat\n%run -i setup.ipynb\n%run ../none.py",
        "import sys\nsys.path.insert(0, 'lib')\nimport inner\nimport nbclient",
    )
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "inner.py").write_text("import msgspec")
    (tmp_path / "lib" / "nbclient.py").write_text("")  # a version of its own
    notebook(tmp_path / "setup.ipynb", "import pydantic")
    broken = tmp_path / "b.ipynb"
    broken.write_text('{"cells": [3, {}]}')
    assert imported_modules(broken) == imported_modules(tmp_path / "none.ipynb") == []
    found = imported_modules(notebook(tmp_path / "a.ipynb", *sources))
    assert found == ["json", "openai", "pandas.api", "email.mime.text", "PIL", "pydantic", "msgspec"]


@pytest.mark.full(quick=1)
@needs_forks
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whoever_wanted_them_is_gone(tmp_path: Path, number: int) -> None:
    """Neither a kernel nor the process that they are forked from stays, however the run ends."""
    for name in "abc":
        notebook(
            tmp_path / f"{name}.ipynb",
            ASK,
            "import os\nprint(os.getppid(), file=open('kernels', 'a'))\nimport time\ntime.sleep(300)",
        )
    script = "import sys; from nbreplay.cli.main import main; sys.exit(main(['run', '-n', '3', sys.argv[1]]))"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "kernels").exists() or len((tmp_path / "kernels").read_text().split()) < 6:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(600)
    deadline = time.monotonic() + 120
    while not gone(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone(tmp_path)


@needs_forks
def test_a_forked_kernel_that_dies_costs_the_others_nothing(tmp_path: Path) -> None:
    answers = recorded(tmp_path / "recordings", "hello")
    dies = [notebook(tmp_path / f"d{n}.ipynb", ASK, "os._exit(3)") for n in range(2)]
    lives = [notebook(tmp_path / f"l{n}.ipynb", ASK, "print(ask())") for n in range(2)]
    results = run_all([*dies, *lives], RunOptions(), number=4)
    assert [result.errors for result in results[:2]] == [
        ["cell 2 (os._exit(3)): the kernel died with exit status 3"]
    ] * 2
    assert [printed(result) for result in results[2:]] == [[answers["hello"]]] * 2
    assert gone(tmp_path)


@needs_forks
def test_without_the_process_they_are_started_the_ordinary_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = process.subprocess.Popen  # type: ignore[attr-defined]

    def broken(command: Any, **given: Any) -> Any:
        return real([sys.executable, "-c", "raise SystemExit(1)"], **given)

    monkeypatch.setattr(process.subprocess, "Popen", broken)  # type: ignore[attr-defined]
    paths = [notebook(tmp_path / f"{name}.ipynb", "import os\nprint(os.getppid())") for name in "ab"]
    assert [printed(result) for result in run_all(paths, RunOptions(), number=2)] == [[str(os.getpid())]] * 2


@needs_forks
def test_a_process_that_has_ended_forks_nothing_more(tmp_path: Path) -> None:
    """A kernel that is wanted then is started the ordinary way; nobody waits for an answer that never comes."""

    async def end() -> None:
        program = WarmProcess(tmp_path, users=1)
        branch = WarmProcess(program, ["openai"], 1)
        assert await branch.ready()
        assert program._program is not None
        os.killpg(program._program.pid, signal.SIGKILL)
        with pytest.raises(BrokenPipeError):
            while True:
                await branch.fork(["false"], {}, str(tmp_path), os.devnull)
        assert not await branch.ready()
        await branch.close()
        await program.close()

    asyncio.run(end())


@needs_forks
def test_what_a_notebook_leaves_for_the_end_is_done(tmp_path: Path) -> None:
    """Handlers of the exit, threads that nobody has joined, files that are to be flushed."""
    source = """import atexit, concurrent.futures, tempfile, threading, time, weakref
atexit.register(lambda: open("handler", "w").close())
pool = concurrent.futures.ThreadPoolExecutor()
pool.submit(lambda: (time.sleep(0.2), open("pool", "w").close()))
threading.Thread(target=lambda: (time.sleep(0.2), open("thread", "w").close())).start()
folder = tempfile.TemporaryDirectory(dir=".")
class Thing: pass
thing = Thing()
weakref.finalize(thing, lambda: open("finalizer", "w").close())"""
    paths = [notebook(tmp_path / f"{name}.ipynb", source) for name in "ab"]
    assert [result.errors for result in run_all(paths, RunOptions(), number=1)] == [[], []]
    names = {path.name for path in tmp_path.iterdir()} - {"work"}  # where the tests themselves are
    assert names == {"a.ipynb", "b.ipynb", "handler", "pool", "thread", "finalizer"}


def test_sets_of_texts_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel hashes texts alike in every run, forked or not, unless the user says otherwise."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    paths = [notebook(tmp_path / f"{name}.ipynb", "print({*map(str, range(40))}, hash('text'))") for name in "ab"]
    warm = [printed(result) for result in run_all(paths, RunOptions())]
    monkeypatch.setattr(tree, "CAN_FORK", False)
    cold = [printed(result) for result in run_all(paths, RunOptions())]
    assert warm[0] == warm[1] == cold[0] == cold[1]
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert printed(run(paths[0])) != cold[0]
