"""Child processes during replay: known network clients are refused, all others are named.

Python raises audit events for nearly all ways to start a process; for the others libraries are hooked.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbreplay.core.cell import current_run
from nbreplay.intercept.children import forks
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import Undo, put

if TYPE_CHECKING:  # imported when a child is started
    from nbreplay.intercept.children.classify import Child

_MULTIPROCESSING = "a process of multiprocessing"


def check_child(words: Any, folder: Any = None, program: Any = None) -> None:
    """Raise `NetworkBlocked` for a child process that is a known network client; name any other.

    `words` is the command line, or as a str a shell's script; `folder` the working directory; `program` is given where
    it is not the first word.
    """
    session = guard.replay_session()
    if session is None:
        return
    child = _classify(words, folder, program)
    if child.kind == "harmless":
        return
    if child.kind == "client":
        # MCP's own client starts a server of tools. Calls of these are recorded, so a replay sends it none.
        allowed = session.options.allow_children or os.environ.get("NBREPLAY_ALLOW_CHILDREN") == "1"
        if not (allowed or is_called_by("mcp.client.stdio")):
            text = (
                f"nbreplay did not start {child.name} during replay: it is a network client in another process, which "
                "replay does not cover. To start it anyway, run %replay replay --allow-children"
            )
            guard.refuse(session, child.name, text)
        session.log_live(child.name)
    guard.name_uncovered("child", child.name)
    forks.send(session.log, child.name, "")


def is_called_by(*modules: str) -> bool:
    """Tell whether one of these modules, or a module of these packages, is among the callers."""
    frame = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if any(name == module or name.startswith(f"{module}.") for module in modules):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def name_existing() -> None:
    """Name children that were started before the session: workers of multiprocessing, and known network clients."""
    with contextlib.suppress(Exception):  # must not keep a session from starting
        process = sys.modules.get("multiprocessing.process")
        if process is not None and any(child.is_alive() for child in list(process.__dict__["_children"])):
            guard.name_uncovered("child", f"{_MULTIPROCESSING} that was started before")
    for pid in _child_pids():
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            child = _classify(line, f"/proc/{pid}/cwd")
            # A Python is more often a server of the program's own, and what connects to it is refused.
            if child.kind == "client" and "python" not in child.name:
                guard.name_uncovered("child", f"{child.name} that was started before")


def _child_pids() -> Iterator[str]:
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):
                yield from Path(f"/proc/self/task/{task}/children").read_text().split()


def _classify(words: Any, folder: Any = None, program: Any = None) -> Child:
    from nbreplay.intercept.children.classify import Child, classify, classify_script

    try:
        if isinstance(words, str | bytes):
            child = classify_script(os.fsdecode(words), folder or ".")
        else:
            line = [os.fsdecode(word) for word in words]
            # The first word may be another name: a login shell is "-bash".
            child = classify([os.fsdecode(program) if program else line[0], *line[1:]], folder or ".")
        return _classify_by_cell(child) if child.stdin else child
    except Exception:  # an odd command line must not keep a program from starting
        return Child("a process", "other")


def _classify_by_cell(child: Child) -> Child:
    """Classify a program that reads its script from the cell, as ``%%bash`` and ``%%python`` do."""
    from nbreplay.intercept.children.classify import Child, classify_script, imported_library

    run = current_run()
    source = run.cell.source if run is not None and run.cell is not None else ""
    if not source.startswith("%%"):
        return child
    body = source.partition("\n")[2]
    if "py" in child.name:
        library = imported_library(body)
        return Child(f"{child.name} that imports {library}", "client") if library else child
    command = classify_script(body)
    return command if command.kind == "client" else child


def _split_line(line: Any) -> Any:
    """Return the words of a command line, which is a str on Windows only."""
    if not isinstance(line, str):
        return line
    import shlex

    return [word.strip('"') for word in shlex.split(line, posix=False)]


guard.add_handlers(
    {
        "subprocess.Popen": lambda program, args, folder, *_: check_child(_split_line(args), folder, program),
        "os.system": check_child,
        "os.exec": lambda path, args, *_: check_child(args, program=path),
        "os.posix_spawn": lambda path, args, *_: check_child(args, program=path),
        "os.spawn": lambda _, path, args, *__: check_child(args, program=path),
        "os.startfile": lambda path, *_: check_child([path]),
        "pty.spawn": check_child,
        "_winapi.CreateProcess": lambda program, line, folder, *_: check_child(_split_line(line or program), folder),
    }
)


def install_fork_exec(module: ModuleType) -> Undo:
    """Hook into the function by which multiprocessing starts its processes, which raises no audit event."""
    before = module.fork_exec

    @functools.wraps(before)
    def fork_exec(args: Any, executables: Any, *rest: Any) -> Any:
        check_child(args)
        return before(args, executables, *rest)

    return put((module, "fork_exec", fork_exec))


def install_forkserver(module: ModuleType) -> Undo:
    """Hook into processes of multiprocessing that are forked by a server, which may run already."""
    kind = module.Popen
    before = kind._launch

    @functools.wraps(before)
    def _launch(self: Any, process: Any) -> Any:
        guard.name_uncovered("child", _MULTIPROCESSING)
        return before(self, process)

    return put((kind, "_launch", _launch))


def install_ptyprocess(module: ModuleType) -> Undo:
    """Hook into ptyprocess, by which IPython runs ``!command``: it forks, so its child alone would be refused."""
    kind = module.PtyProcess
    before = kind.spawn.__func__

    @functools.wraps(before)
    def spawn(cls: Any, argv: Any, cwd: Any = None, *args: Any, **kwargs: Any) -> Any:
        check_child(argv, cwd)
        return before(cls, argv, cwd, *args, **kwargs)

    return put((kind, "spawn", classmethod(spawn)))
