"""What replay does not cover is named once, wherever one looks; and what is harmless goes on, unnamed."""

from __future__ import annotations

import contextlib
import json
import logging.handlers
import multiprocessing
import os
import socket
import socketserver
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import nbreplay as nr
from nbreplay.core import log as logs
from nbreplay.core.log import find_uncovered
from nbreplay.core.words import FAILURES
from nbreplay.intercept import registry
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import problems
from nbreplay.intercept.processes.parent import parent
from nbreplay.intercept.processes.programs import classify, classify_script, uncover
from nbreplay.notebook.directive import parse_line
from nbreplay.testing.result import RunOptions
from nbreplay.testing.runner import run
from tests.clients import http, outcomes
from tests.provider import Spawned
from tests.testing.making import recorded

pytest_plugins = ("pytester",)

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
COVER = "child processes are not covered"


@pytest.fixture(autouse=True)
def only_what_the_test_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that cannot be hooked are named as soon as they are loaded, also by another test."""
    for name in registry.UNHOOKED:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture(autouse=True)
def no_libraries_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library is named for the rest of its process, in which other tests have run."""
    monkeypatch.setattr(guard, "_libraries", {})


@pytest.fixture(autouse=True)
def no_connections_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that other tests share are connected to this process for the whole run."""
    peers, others = guard.peers, set(guard.peers())
    monkeypatch.setattr(guard, "peers", lambda: [peer for peer in peers() if peer not in others])


def notebook(*cells: str) -> Path:
    """Write a notebook of these cells into the working folder."""
    Path("recordings").mkdir(exist_ok=True)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(made, "notebook.ipynb")
    return Path("notebook.ipynb")


# Where it is named


def test_a_script_is_warned_once_at_the_end_of_the_session(store: Path) -> None:
    session = nr.session(store, mode="replay")
    with pytest.warns(UserWarning, match=COVER) as caught, session:  # noqa: PT031
        for _ in range(2):
            subprocess.run(["sed", "--version"], **QUIET)
        assert not caught.list, "not where it would break into the program"
    assert len(caught.list) == 1
    assert str(caught.list[0].message).endswith(": sed")
    assert caught.list[0].filename == __file__


def test_a_program_that_makes_warnings_errors_goes_on(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with nr.session(store, mode="replay"):
            subprocess.run(["sed", "--version"], **QUIET)
    assert COVER in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["auto", "record", "off"])
def test_other_modes_refuse_and_name_nothing(mode: str, store: Path) -> None:
    with nr.session(store, mode=mode) as session:
        subprocess.run(["curl", "--noproxy", "x", "--max-time", "1", "http://127.0.0.1:9"], **QUIET)
        subprocess.run(["sed", "--version"], **QUIET)
    assert not find_uncovered([session.log])
    assert not outcomes(session)


def test_a_notebook_names_it_in_the_badge_and_in_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    from nbreplay.cli.report import print_results

    path = notebook(
        "import subprocess",
        "!sed --version > /dev/null",
        "%%bash\ntar --version > /dev/null",
        "%%bash\necho hello",
        "!ls > /dev/null",
    )
    result = run(path, RunOptions(compare=False))
    assert result.passed, result.errors
    assert result.uncovered == [("child", "sed"), ("child", "tar")]
    print_results([result], as_json=False)
    assert f"{COVER}, and what they send is neither replayed nor refused: sed, tar" in capsys.readouterr().out
    print_results([result], as_json=True)
    assert {"kind": "child", "name": "sed"} in json.loads(capsys.readouterr().out)[0]["uncovered"]


@pytest.mark.full(quick=2)
@pytest.mark.parametrize(
    "cell",
    [
        "!curl --noproxy x -s http://127.0.0.1:9",
        "x = !curl --noproxy x -s http://127.0.0.1:9",
        "%%bash\nset -e\ncurl --noproxy x -s http://127.0.0.1:9",
        "%%sh\necho $(curl --noproxy x -s http://127.0.0.1:9)",
        "%%python\nimport urllib.request",
        "%system curl --noproxy x -s http://127.0.0.1:9",
        "try:\n    __import__('os').system('curl --noproxy x -s http://127.0.0.1:9')\nexcept OSError:\n    pass",
        "import os\nos.spawnvp(os.P_WAIT, 'curl', ['curl', '--noproxy', 'x', 'http://127.0.0.1:9'])",
    ],
)
def test_a_notebook_fails_on_a_network_client(cell: str) -> None:
    result = run(notebook(cell), RunOptions(compare=False))
    assert not result.passed
    assert "--allow-children" in str(result.errors)
    assert result.count("blocked") == 1


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("how", ["run", "line", "project"])
def test_a_notebook_may_start_one_where_that_is_allowed(how: str) -> None:
    cells = ["!curl --silent http://127.0.0.1:9"]
    if how == "line":
        cells.insert(0, "%replay replay --allow-children")
    if how == "project":
        Path("pyproject.toml").write_text("[tool.nbreplay]\nallow_children = true\n")
    result = run(notebook(*cells), RunOptions(compare=False, allow_children=how == "run"))
    assert result.passed, result.errors
    assert result.count("live") == 1
    assert result.uncovered == [("child", "curl")]


def test_pytest_names_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os, subprocess, pytest

        def test_named(replay):
            subprocess.run(["sed", "--version"], stdout=subprocess.DEVNULL)

        def test_refused(replay):
            with pytest.raises(OSError):
                os.system("ssh 127.0.0.1")

        @pytest.mark.nbreplay(allow_children=True)
        def test_allowed(replay):
            os.system("curl --silent http://127.0.0.1:9")
    """)
    plugin = ("-p", "nbreplay.testing.plugin", "-p", "no:asyncio")
    done = pytester.runpytest_subprocess(*plugin, "-W", "error")
    done.assert_outcomes(passed=2, failed=1, errors=0)
    done.stdout.fnmatch_lines(["*--allow-children*", f"nbreplay: {COVER}*: sed, curl"])
    done = pytester.runpytest_subprocess(*plugin, "--nbreplay-allow-children", "-k", "refused")
    done.stdout.fnmatch_lines(["*DID NOT RAISE*"])


# What lets it through


def test_children_are_allowed(store: Path) -> None:
    with pytest.warns(UserWarning, match="curl"), nr.session(store, mode="replay", allow_children=True) as session:
        subprocess.run(["curl", "--max-time", "1", "http://127.0.0.1:9"], **QUIET)
    assert outcomes(session) == ["live"]


def test_the_line_takes_the_option() -> None:
    assert parse_line("replay --allow-children").options == {"allow_children": True}
    assert parse_line("replay").options == {}


@pytest.mark.parametrize("value", ["yes", 1, ["curl"]])
def test_the_option_is_true_or_false(value: Any, store: Path) -> None:
    with pytest.raises(nr.OptionError, match="allow_children must be true or false"):
        nr.session(store, mode="replay", allow_children=value)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """A Unix socket of another process."""
    path = str(tmp_path / "service")
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(); s.accept()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield path
        process.kill()


@pytest.mark.parametrize("allowed", ["{}", "unix:{}"])
def test_a_unix_socket_is_allowed_by_its_path(allowed: str, service: str, store: Path) -> None:
    session = nr.session(store, mode="replay", allow=[allowed.format(service)])
    with session, socket.socket(socket.AF_UNIX) as made:
        made.connect(service)
    assert not outcomes(session)


def test_the_refusal_of_a_unix_socket_says_how_to_allow_it(service: str, store: Path) -> None:
    refused = pytest.raises(nr.NetworkBlocked, match=f"--allow unix:{service}")
    with nr.session(store, mode="replay"), socket.socket(socket.AF_UNIX) as made, refused:
        made.connect(service)


def test_an_allowed_connection_from_before_is_not_named(spawned: Spawned, store: Path) -> None:
    session = nr.session(store, mode="replay", allow=[f"127.0.0.1:{spawned.port}"])
    with socket.create_connection(("127.0.0.1", spawned.port)), session:
        pass
    assert not find_uncovered([session.log])


def test_a_pool_of_a_hooked_client_is_not_named(spawned: Spawned, store: Path) -> None:
    import requests

    with requests.Session() as client:
        with nr.session(store, mode="record"):
            client.get(f"{spawned.url}/echo")
        with nr.session(store, mode="replay") as session:
            client.get(f"{spawned.url}/echo")
    assert not find_uncovered([session.log])
    assert outcomes(session) == ["replayed"]


# What goes on, unnamed


def find_library() -> None:
    import ctypes.util

    ctypes.util.find_library("m")


def own_http_server() -> None:
    import http.server

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        socket.create_connection(server.server_address[:2]).close()


def own_unix_server() -> None:
    with socketserver.UnixStreamServer("served", socketserver.BaseRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with socket.socket(socket.AF_UNIX) as made:
            made.connect("served")
        thread.join(10)


def own_names() -> None:
    socket.getfqdn()
    socket.getfqdn("127.0.0.1")
    socket.gethostbyaddr("127.0.0.1")
    socket.getnameinfo(("127.0.0.1", 80), 0)
    socket.getnameinfo(("192.0.2.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)


def system_log() -> None:
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        logging.handlers.SysLogHandler("/dev/log").close()


def manager() -> None:
    import multiprocessing

    with multiprocessing.get_context("fork").Manager() as made:
        assert made.list([1])[0] == 1


def own_sockets_of_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    import asyncio

    async def whole() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        server.close()

    uvloop.run(whole())


def own_sockets_of_zmq() -> None:
    zmq = pytest.importorskip("zmq")
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        push.connect(f"tcp://127.0.0.1:{pull.bind_to_random_port('tcp://127.0.0.1')}")
        push.send(b"hello")
        assert pull.recv() == b"hello"


def own_server_of_grpc() -> None:
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(10)
    server.stop(None).wait(10)


@pytest.mark.parametrize(
    "attempt",
    [
        find_library,
        own_http_server,
        own_unix_server,
        own_names,
        system_log,
        manager,
        own_sockets_of_uvloop,
        own_sockets_of_zmq,
        own_server_of_grpc,
        lambda: subprocess.run(["uname"], **QUIET),
        lambda: subprocess.run("cd / && test -d tmp", shell=True),
        lambda: socket.socketpair()[0].close(),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_this_machine_s_own_goes_on(attempt: Callable[[], Any], store: Path) -> None:
    with nr.session(store, mode="replay") as session:
        attempt()
    assert not outcomes(session)
    assert not find_uncovered([session.log])
    assert not problems()


def test_jupyter_talks_to_a_kernel_that_a_replay_starts(store: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    with nr.session(store, mode="replay") as session:
        manager, client = start_new_kernel(extra_arguments=["--IPKernelApp.log_level=40"])
        try:
            assert client.execute("1 + 1", reply=True, timeout=60)["content"]["status"] == "ok"
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    assert not outcomes(session)


def test_what_a_forked_child_is_refused_fails_the_run_of_its_parent(store: Path) -> None:
    with nr.session(store, mode="replay") as session:
        for number in range(3):
            if not (pid := os.fork()):
                os.closerange(3, 1000)
                with contextlib.suppress(BaseException):
                    socket.create_connection(("192.0.2.1", number + 1), timeout=1)
                os._exit(0)
            os.waitpid(pid, 0)
        assert [item.host for item in session.interactions] == [f"192.0.2.1:{number}" for number in (1, 2, 3)]
    assert set(outcomes(session)) <= set(FAILURES)


def test_the_calls_of_forked_children_are_logged_by_their_parent(store: Path) -> None:
    """Those of a pool, whose workers are killed, and of a child that catches a miss, too."""
    said = [str(number) for number in range(6)]
    answers = recorded(store, *said)
    with nr.session(store, mode="replay") as session:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_asked, said, chunksize=1) == list(answers.values())
        if not (pid := os.fork()):
            os.closerange(3, 1000)
            with contextlib.suppress(BaseException):
                _asked("never asked")
            os._exit(0)
        os.waitpid(pid, 0)
        assert sorted(outcomes(session)) == ["missing", *["replayed"] * 6]
        assert {item.request.model for item in session.interactions if item.request} == {"test"}
    (used,) = logs.used_recordings([session.log]).values()
    assert set(used) >= {path.name for path in store.glob("chat-*.json")}


def test_a_report_of_a_child_that_cannot_be_read_is_reported(store: Path) -> None:
    with nr.session(store, mode="replay") as session:
        assert parent.channel is not None
        with open(os.path.join(parent.channel.folder, "reports"), "ab") as file:
            file.write(b'["half a line\n')
        assert logs.find_uncovered([session.log], new=True) == [("child", logs.UNSEEN_CALLS)]


def _asked(text: str) -> str:
    body = {"model": "test", "messages": [{"role": "user", "content": text}]}
    answer = http.post("http://127.0.0.1:1/v1/chat/completions", json=body)
    return str(answer.json()["choices"][0]["message"]["content"])


# Command lines


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("curl x", "proxied"),
        ("ls | grep a && /usr/bin/wget b", "proxied"),
        ("echo 'a; curl b'", "harmless"),
        ('echo "$(curl b)"', "proxied"),
        ("echo `curl b`", "proxied"),
        ("if true; then\n  curl x\nfi", "proxied"),
        ("for i in 1 2; do curl $i; done", "proxied"),
        ("A=b C=d curl x", "proxied"),
        ("sudo -u me env A=b timeout 5 curl x", "proxied"),
        ("find . | xargs -n 1 curl", "proxied"),
        ("true && \\\n curl x", "proxied"),
        ("# curl x\nls", "harmless"),
        ("ls # don't curl", "harmless"),
        ("cat <<EOF\ncurl x\nEOF\nls", "harmless"),
        ("bash -lc 'ssh host'", "client"),
        ("git status", "other"),
        ("git -C x -c a=b fetch", "client"),
        ("git remote -v", "other"),
        ("git remote update", "client"),
        ("node --version", "other"),
        ("npm install", "other"),
        ("npm run build", "proxied"),
        ("rsync -a here there", "other"),
        ("rsync -a here host:there", "client"),
        ("pip install x", "other"),
        ("python -m pip install x", "other"),
        ("conda install x", "other"),
        ("uv run python -c 'import openai'", "client"),
        ("uvx aider", "client"),
        ("python -c 'import sys'", "other"),
        ("python -c 'from mcp.server import Server'", "other"),
        ("python3.12 -u -c 'if 1: import os, requests as r'", "client"),
        ("python -c 'import requestsomething'", "other"),
        ("python -c 'from google import genai'", "client"),
        ("python -c 'import nbreplay, openai'", "other"),
        ("python -m httpx", "client"),
        ("python -mcohere", "client"),
        ("python -m nbreplay run x.ipynb", "harmless"),
        ("nbreplay run x.ipynb", "harmless"),
        ("cd / && uname -a", "harmless"),
        ("'unbalanced; curl x", "proxied"),
        ("curl -sS x | jq . && ssh host", "client"),
        ("curl -x '' y", "client"),
        ("curl -sLx '' y", "client"),
        ("curl -X POST -d '{}' y", "proxied"),
        ("curl --noproxy '*' y", "client"),
        ("curl --unix-socket /var/run/docker.sock y", "client"),
        ("wget -e use_proxy=no y", "client"),
        ("unset HTTPS_PROXY; curl y", "client"),
        ("env -u https_proxy curl y", "client"),
        ("env -i curl y", "client"),
        ("node -e 'fetch(1)'", "proxied"),
        ("npx -y some-server", "proxied"),
        ("claude -p hello", "proxied"),
        ("", "harmless"),
    ],
)
def test_scripts(script: str, kind: str) -> None:
    assert uncover(classify_script(script)).kind == kind


@pytest.mark.parametrize(
    "words", [[], [""], ["\0"], ["bash"] * 50, ["env"] * 50, ["python", "-c"], ["python", "-m"], ["sh", "-c"], ["/"]]
)
def test_odd_command_lines_are_named_at_least(words: list[str]) -> None:
    assert uncover(classify(words)).kind in ("other", "harmless")


@pytest.mark.parametrize(("last", "kind"), [("./x", "other"), ("curl x", "proxied")])
def test_a_script_that_calls_itself_is_examined_once(last: str, kind: str, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n" + "./run.sh again\nsh run.sh\n" * 20 + last)
    script.chmod(0o755)
    assert classify(["./run.sh"], tmp_path).kind == kind


def test_an_mcp_server_over_stdio_starts_whatever_it_imports(store: Path) -> None:
    pytest.importorskip("mcp")
    import asyncio

    from mcp import StdioServerParameters, stdio_client

    Path("server.py").write_text("import sys, urllib.request\nsys.stdin.read()\n")

    async def whole() -> None:
        with open(os.devnull, "w") as quiet:
            async with stdio_client(
                StdioServerParameters(command=sys.executable, args=["-S", "server.py"]), errlog=quiet
            ):
                pass

    with pytest.warns(UserWarning, match=r"server\.py"), nr.session(store, mode="replay") as session:
        asyncio.run(whole())
    assert "blocked" not in outcomes(session)


@pytest.mark.full
def test_jupyter_s_debugger_goes_on_in_a_kernel_that_replays() -> None:
    """Its adapter is a child process, and pydevd connects to it."""
    from jupyter_client.manager import start_new_kernel

    Path("recordings").mkdir()
    manager, client = start_new_kernel(extra_arguments=["--IPKernelApp.log_level=40"])

    def debug(command: str, **arguments: Any) -> Any:
        content = {"type": "request", "seq": 1, "command": command, "arguments": arguments}
        asked = client.session.msg("debug_request", content)
        client.control_channel.send(asked)
        while (reply := client.get_control_msg(timeout=60))["parent_header"].get("msg_id") != asked["header"]["msg_id"]:
            pass
        return reply["content"]

    try:
        client.execute("%load_ext nbreplay\n%replay replay", reply=True, timeout=60)
        assert debug("initialize", clientID="x", adapterID="debugpy", pathFormat="path")["success"]
        assert debug("attach")["success"]
        code = "from nbreplay.core.log import *\nassert not [*all_logs()[0].interactions, *find_uncovered(all_logs())]"
        assert client.execute(code, reply=True, timeout=60)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
