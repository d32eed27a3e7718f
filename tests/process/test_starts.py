"""Starts of child processes: each way gives a child the variables that are meant for it, and no other process."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.intercept.processes import starts
from nbreplay.intercept.processes.starts import Start

SCRIPT = "echo $ONE,$TWO > seen"
SHELL = ["/bin/sh", "-c", SCRIPT]


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Start]]:
    """Have every child get ONE and lose TWO, in a folder of the test's own; the starts that were seen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWO", "two")
    found: list[Start] = []

    def give(start: Start) -> dict[str, str | None]:
        found.append(start)
        return {"ONE": "one", "TWO": None}

    monkeypatch.setattr(starts, "_givers", [give])
    with nr.session(tmp_path / "recordings", mode="record"):
        yield found


def forked(function: Callable[[], object]) -> None:
    if not (pid := os.fork()):
        try:
            function()
        finally:
            os._exit(1)
    os.waitpid(pid, 0)


def spawned(*, search: bool) -> None:
    spawn = os.posix_spawnp if search else os.posix_spawn
    os.waitpid(spawn("/bin/sh", SHELL, dict(os.environ)), 0)


async def shell() -> None:
    await (await asyncio.create_subprocess_shell(SCRIPT)).wait()


def in_terminal() -> None:
    ptyprocess = pytest.importorskip("ptyprocess")
    ptyprocess.PtyProcess.spawn(SHELL).wait()


WAYS: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run(SHELL),
    "subprocess, with variables": lambda: subprocess.run(SHELL, env={"TWO": "2"}),
    "subprocess, by posix_spawn": lambda: subprocess.run(SHELL, close_fds=False),
    "a shell": lambda: subprocess.run(SCRIPT, shell=True),
    "asyncio": lambda: asyncio.run(shell()),
    "os.popen": lambda: os.popen(SCRIPT).close(),
    "os.system": lambda: os.system(SCRIPT),
    "os.posix_spawn": lambda: spawned(search=False),
    "os.posix_spawnp": lambda: spawned(search=True),
    "os.spawnv": lambda: os.spawnv(os.P_WAIT, "/bin/sh", SHELL),
    "os.spawnlpe": lambda: os.spawnlpe(os.P_WAIT, "sh", *SHELL, {"PATH": os.environ["PATH"], "TWO": "2"}),
    "os.fork and os.execv": lambda: forked(lambda: os.execv("/bin/sh", SHELL)),
    "os.fork and os.execvpe": lambda: forked(lambda: os.execvpe("sh", SHELL, {"PATH": os.environ["PATH"]})),
    "pty.spawn": lambda: pty.spawn(SHELL, lambda _: b""),
    "ptyprocess": in_terminal,
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows starts processes in other ways")
@pytest.mark.parametrize("way", WAYS)
def test_a_child_gets_its_variables(way: str, seen: list[Start], tmp_path: Path) -> None:
    WAYS[way]()
    assert (tmp_path / "seen").read_text() == "one,\n"
    assert "ONE" not in os.environ
    assert os.environ["TWO"] == "two"
    assert subprocess.run(SHELL, env={**os.environ, "TWO": "2"}).returncode == 0
    assert [start.environ.get("TWO") for start in seen[-1:]] == ["2"]


def test_without_a_session_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "_givers", [lambda _: pytest.fail("asked outside of any session")])
    assert starts.find_variables(Start(SHELL, os.environ)) == {}
    assert starts.environ_for(SHELL) is None
