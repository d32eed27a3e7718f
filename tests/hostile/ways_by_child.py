"""Ways out by child processes: how they are started, and what is started."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.outside import Outside
from tests.hostile.ways import NAMED, way

STARTED, PROGRAMS, WORKERS = "Child processes", "Programs that are started", "Workers of multiprocessing"
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def curl(out: Outside) -> list[str]:
    """Return the command line of a network client that there is everywhere."""
    return ["curl", "-s", "-m", "5", "-o", "/dev/null", out.url]


def text(out: Outside) -> str:
    """Return the same as a shell's text."""
    return " ".join(curl(out))


@way(STARTED, "`subprocess.run`", needs="curl")
def _(out: Outside) -> None:
    subprocess.run(curl(out))


@way(STARTED, "`subprocess.run` with a shell", needs="curl")
def _(out: Outside) -> None:
    subprocess.run(f"cd / && FOO=1 {text(out)} | cat", shell=True)


@way(STARTED, "`subprocess.Popen` by `posix_spawn`", needs="curl")
def _(out: Outside) -> None:
    subprocess.run(curl(out), close_fds=False, executable="/usr/bin/curl")


@way(STARTED, "`os.system`", needs="curl")
def _(out: Outside) -> None:
    os.system(text(out))


@way(STARTED, "`os.popen`", needs="curl")
def _(out: Outside) -> None:
    with os.popen(text(out)) as made:
        made.read()


@way(STARTED, "`os.posix_spawn`", needs="curl")
def _(out: Outside) -> None:
    os.waitpid(os.posix_spawnp("curl", curl(out), dict(os.environ)), 0)


@way(STARTED, "`os.fork` and `os.execv`", needs="curl")
def _(out: Outside) -> None:
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            os.execvp("curl", curl(out))
        os._exit(0)
    os.waitpid(pid, 0)


@way(STARTED, "`os.spawnv`", needs="curl")
def _(out: Outside) -> None:
    os.spawnvp(os.P_WAIT, "curl", curl(out))


@way(STARTED, "`pty.spawn`", needs="curl")
def _(out: Outside) -> None:
    pty.spawn(curl(out), lambda _: b"", lambda _: b"")


@way(STARTED, "`os.forkpty`", needs="curl")
def _(out: Outside) -> None:
    pid, descriptor = os.forkpty()
    if not pid:
        with contextlib.suppress(BaseException):
            os.execvp("curl", curl(out))
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(descriptor)


@way(STARTED, "pexpect, by which IPython runs `!command`", needs="pexpect curl")
def _(out: Outside) -> None:
    import pexpect

    child = pexpect.spawn("/bin/sh", ["-c", text(out)])
    child.wait()
    child.close()


@way(STARTED, "asyncio: `create_subprocess_exec`", needs="curl")
def _(out: Outside) -> None:
    async def whole() -> None:
        await (await asyncio.create_subprocess_exec(*curl(out))).wait()

    asyncio.run(whole())


@way(STARTED, "asyncio: `create_subprocess_shell`", needs="curl")
def _(out: Outside) -> None:
    async def whole() -> None:
        await (await asyncio.create_subprocess_shell(text(out))).wait()

    asyncio.run(whole())


@way(STARTED, "uvloop: `create_subprocess_exec`", needs="uvloop curl")
def _(out: Outside) -> None:
    import uvloop

    async def whole() -> None:
        await (await asyncio.create_subprocess_exec(*curl(out))).wait()

    uvloop.run(whole())


@way(STARTED, "uvloop: `create_subprocess_shell`", needs="uvloop curl")
def _(out: Outside) -> None:
    import uvloop

    async def whole() -> None:
        await (await asyncio.create_subprocess_shell(text(out))).wait()

    uvloop.run(whole())


@way(STARTED, "trio: `run_process`", needs="trio curl")
def _(out: Outside) -> None:
    import trio

    async def whole() -> None:
        await trio.run_process(curl(out))

    trio.run(whole)


@way(STARTED, "anyio: `run_process`", needs="anyio curl")
def _(out: Outside) -> None:
    import anyio

    async def whole() -> None:
        await anyio.run_process(curl(out))

    anyio.run(whole)


# Without a session gevent would wait for the signal of its child, which another event loop may have taken.
@way(STARTED, "gevent: `subprocess.run`", needs="gevent curl", reaches=False)
def _(out: Outside) -> None:
    from gevent import subprocess as green

    green.run(curl(out))


@way(PROGRAMS, "`wget`", needs="wget")
def _(out: Outside) -> None:
    subprocess.run(["wget", "-q", "-T", "5", "-t", "1", "-O", "/dev/null", out.url], **QUIET)


@way(PROGRAMS, "`node`", needs="node")
def _(out: Outside) -> None:
    subprocess.run(["node", "-e", f"require('http').get('{out.url}').on('error', () => 0)"], **QUIET)


@way(PROGRAMS, "`npx`", needs="npx", reaches=False)
def _(_: Outside) -> None:
    subprocess.run(["npx", "--yes", "a-package-that-is-not-there"], **QUIET)


@way(PROGRAMS, "`ssh`", needs="ssh")
def _(out: Outside) -> None:
    command = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-p", str(out.port), out.host, "true"]
    subprocess.run(command, **QUIET)


@way(PROGRAMS, "`git ls-remote`", needs="git")
def _(out: Outside) -> None:
    subprocess.run(["git", "-C", "/", "ls-remote", f"git://{out.host}:{out.port}/x"], **QUIET)


@way(PROGRAMS, "an agent's CLI: `aider`", reaches=False)
def _(_: Outside) -> None:
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["aider", "--message", "hello"], **QUIET)


@way(PROGRAMS, "a wrapper: `env`, `timeout`, `nohup`", needs="curl")
def _(out: Outside) -> None:
    subprocess.run(["env", "A=b", "timeout", "5", "nohup", *curl(out)], **QUIET)


@way(PROGRAMS, "a shell's substitution: `$(curl …)`", needs="curl")
def _(out: Outside) -> None:
    subprocess.run(["bash", "-c", f'echo "got $({text(out)})"'], **QUIET)


@way(PROGRAMS, "a shell's script in a file", needs="curl")
def _(out: Outside) -> None:
    Path("fetch.sh").write_text(f"#!/bin/sh\n# fetches\nif true; then\n  {text(out)}\nfi\n")
    subprocess.run(["sh", "fetch.sh"])


@way(PROGRAMS, "a shell's script in a file that is executable", needs="curl")
def _(out: Outside) -> None:
    Path("fetch").write_text(f"#!/bin/sh\n{text(out)}\n")
    Path("fetch").chmod(0o755)
    subprocess.run(["./fetch"])


@way(PROGRAMS, "a shell's script from its standard input", needs="curl uvicorn")  # it is named without a local server
def _(out: Outside) -> None:
    subprocess.run(["bash"], input=text(out).encode())


@way(PROGRAMS, "Python: `-c` with a hooked library")
def _(out: Outside) -> None:
    code = f"import os, urllib.request as r; r.urlopen('{out.url}', timeout=5).read()"
    subprocess.run([sys.executable, "-c", code], **QUIET)


@way(PROGRAMS, "Python: a script with a hooked library", needs="requests")
def _(out: Outside) -> None:
    Path("agent.py").write_text(f"import requests\nrequests.get('{out.url}', timeout=5)\n")
    subprocess.run([sys.executable, "-X", "utf8", "agent.py"], **QUIET)


@way(PROGRAMS, "Python: a script whose own module has a hooked library")
def _(out: Outside) -> None:
    Path("bot.py").write_text(
        f"from http.client import HTTPConnection\nHTTPConnection('{out.host}:{out.port}').connect()\n"
    )
    Path("main.py").write_text("import bot\n")
    subprocess.run([sys.executable, "main.py"], **QUIET)


@way(PROGRAMS, "Python: `-m` with a hooked library")
def _(out: Outside) -> None:
    Path("tool.py").write_text(f"from urllib.request import urlopen\nurlopen('{out.url}', timeout=5)\n")
    subprocess.run([sys.executable, "-m", "tool"], **QUIET)


@way(PROGRAMS, "Python: an installed command of a hooked library", needs="httpx2")
def _(out: Outside) -> None:
    Path("ask").write_text(f"#!{sys.executable}\nimport httpx2\nhttpx2.get('{out.url}')\n")
    Path("ask").chmod(0o755)
    subprocess.run(["./ask"], **QUIET)


@way(PROGRAMS, "Python: a script with sockets alone")
def _(out: Outside) -> None:
    code = f"import socket; socket.create_connection({out.address!r}, timeout=5)"
    subprocess.run([sys.executable, "-c", code])


@way(PROGRAMS, "an installer: `pip install`", NAMED)
def _(out: Outside) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--retries", "0", "--timeout", "5"]
    options = ["--disable-pip-version-check", "--index-url", out.url, "--trusted-host", out.host]
    subprocess.run([*command, *options, "a-package-that-is-not-there"], **QUIET)


@way(PROGRAMS, "an unknown command: `sed`", NAMED, reaches=False)
def _(_: Outside) -> None:
    subprocess.run(["sed", "--version"], **QUIET)


@way(PROGRAMS, "a client that was started before", NAMED, needs="node")
def _(out: Outside) -> Iterator[None]:
    get = f"require('http').get('{out.url}', () => process.exit())"
    code = f"process.stdin.once('data', () => {get}); console.log('ready')"
    with subprocess.Popen(["node", "-e", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdin is not None
        assert made.stdout is not None
        made.stdout.readline()
        yield
        made.stdin.write(b"go\n")
        made.stdin.close()


@way(PROGRAMS, "a Python that was started before, and is asked by a pipe", NAMED)
def _(out: Outside) -> Iterator[None]:
    code = f"import socket; print(flush=True); input(); socket.create_connection({out.address!r}, timeout=5)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as made:
        assert made.stdin is not None
        assert made.stdout is not None
        made.stdout.readline()
        yield
        made.stdin.write(b"go\n")
        made.stdin.close()


def connect(address: tuple[str, int]) -> None:
    """Connect; in a worker."""
    with contextlib.suppress(OSError):
        socket.create_connection(address, timeout=5).close()


def _process(out: Outside, method: str) -> None:
    process = multiprocessing.get_context(method).Process(target=connect, args=(out.address,))
    process.start()
    process.join(30)


@way(WORKERS, "fork")
def _(out: Outside) -> None:
    _process(out, "fork")


@way(WORKERS, "spawn")
def _(out: Outside) -> None:
    _process(out, "spawn")


@way(WORKERS, "forkserver")
def _(out: Outside) -> None:
    _process(out, "forkserver")


@way(WORKERS, "`ProcessPoolExecutor`, spawn")
def _(out: Outside) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(connect, out.address).result(30)


@way(WORKERS, "a pool of forks that was started before", NAMED)
def _(out: Outside) -> Iterator[None]:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        yield
        pool.apply(connect, (out.address,))


@way(WORKERS, "joblib's pool (loky)", needs="joblib")
def _(out: Outside) -> None:
    import joblib

    joblib.Parallel(n_jobs=2)(joblib.delayed(connect)(out.address) for _ in range(2))
