"""Child processes during replay: a Python is switched on, known network clients are refused, others are named.

Python raises audit events for nearly all ways to start a process; for the others libraries are hooked, see
`nbreplay.intercept.network.libraries`. The guard does not see what another program sends, so it is judged by its
command line.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbreplay.core.cell import current_run
from nbreplay.core.config import Mode
from nbreplay.core.session import Session, current_session
from nbreplay.intercept.network import guard
from nbreplay.intercept.processes import local_server, workers
from nbreplay.intercept.processes.channel import VARIABLE
from nbreplay.intercept.processes.parent import parent
from nbreplay.intercept.processes.programs import (
    SENDING,
    Child,
    calls_server,
    classify,
    classify_script,
    classify_source,
    uncover,
)


class Start(NamedTuple):
    """A process that is about to be started."""

    words: Any  # its command line, or as a str a shell's script
    environ: Mapping[str, str]
    folder: Any = None
    program: Any = None  # where it is not the first word
    is_exec: bool = False  # whether it takes the place of this process


def check_child(
    words: Any, folder: Any = None, program: Any = None, environ: Any = None, *, is_exec: bool = False
) -> None:
    """Raise `NetworkBlocked` for a child process that is a known network client; name others that are not covered.

    `words` is the command line, or as a str a shell's script; `folder` the working directory; `program` is given where
    it is not the first word, and `environ` where it is not that of this process.
    """
    is_covering = (parent.is_covering() or parent.is_child) and (environ is None or _has_variable(environ))
    session = guard.replay_session()
    if session is None:
        _name_python(words, folder, program)
        return
    child = _classify_child(words, folder, program)
    if child.kind == "covered" and not is_covering:
        child = uncover(child)
    if child.kind in ("harmless", "covered"):
        return
    name = child.name
    if child.kind == "proxied" and not _is_allowed(session) and local_server.has_server(session, is_exec=is_exec):
        if not child.unknown:
            return
        name = child.unknown
    elif child.kind in SENDING:
        # MCP's own client starts a server of tools. Calls of these are recorded, so a replay sends it none.
        if not (_is_allowed(session) or is_called_by("mcp.client.stdio")):
            guard.refuse(session, name, _explain_refusal(child))
        if not parent.is_child:  # its parent has logged what it forks a process for, such as a notebook's "!"
            session.log_live(name)
    guard.name_uncovered("child", name)


def _name_python(words: Any, folder: Any, program: Any) -> None:
    """Name a Python that sends something and is not switched on, where its calls should be recorded."""
    session = current_session()
    if session is not None and session.mode in (Mode.RECORD, Mode.AUTO):
        child = _classify_child(words, folder, program)
        if child.kind == "client" and child.name.startswith("python"):
            session.log.uncovered.setdefault(("child", child.name), False)
            parent.tell("child", child.name)


def find_variables(start: Start) -> Mapping[str, str | None]:
    """Return the variables by which a child that is not Python calls the server of the session."""
    session = current_session()
    if session is None or session.mode is Mode.OFF or _is_allowed(session):
        return {}
    child = _classify_child(start.words, start.folder, start.program)
    if not calls_server(child):
        return {}
    return local_server.find_variables(session, child, start.environ, is_exec=start.is_exec)


def _check_forked(words: Any, program: Any = None) -> None:
    """Check a child that is forked and then calls `exec`, when it is too late to start a server."""
    check_child(words, program=program)
    find_variables(Start(words, os.environ, program=program))


def _is_allowed(session: Session) -> bool:
    return bool(session.options.allow_children) or os.environ.get("NBREPLAY_ALLOW_CHILDREN") == "1"


def _explain_refusal(child: Child) -> str:
    # `nbreplay run` and pytest name the notebook that they run.
    by_runner = "pass --allow-children (to pytest: --nbreplay-allow-children)"
    remedy = by_runner if "NBREPLAY_NOTEBOOK" in os.environ else "run %replay replay --allow-children"
    text = f"nbreplay did not start {child.name} during replay: it is a network client in another process, "
    if child.kind == "proxied" and not local_server.is_installed():
        return f"{text}which a local server can answer: pip install 'nbreplay[serve]'. To start it without, {remedy}"
    return f"{text}which replay does not cover. To start it anyway, {remedy}"


def _has_variable(environ: Any) -> bool:
    return any(os.fsdecode(name) == VARIABLE and environ[name] for name in environ)


def is_called_by(*modules: str) -> bool:
    """Tell whether one of these modules, or a module of these packages, is among the callers."""
    prefixes = tuple(f"{module}." for module in modules)
    frames = traceback.walk_stack(sys._getframe(1))
    return any(f"{frame.f_globals.get('__name__')}.".startswith(prefixes) for frame, _ in frames)


def name_existing() -> None:
    """Name children that were started before the session: workers of multiprocessing, and known network clients."""
    with contextlib.suppress(Exception):  # must not keep a session from starting
        workers.name_workers()
    for pid in _child_pids():
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
            child = _classify_child(line, f"/proc/{pid}/cwd")
            # A Python is more often a server of the program's own, and what connects to it is refused. One that reads
            # from a pipe may be asked by it.
            is_python = "python" in child.name
            is_asked = not workers.has_variable(pid) and _reads_from_here(pid)
            if is_asked if is_python else child.kind in SENDING:
                guard.name_uncovered("child", f"{child.name} that was started before")


def _reads_from_here(pid: str) -> bool:
    """Tell whether the standard input of a child is a pipe or a socket, and not that of this process."""
    source = os.readlink(f"/proc/{pid}/fd/0")
    return source.startswith(("pipe:", "socket:")) and source != os.readlink("/proc/self/fd/0")


def _child_pids() -> Iterator[str]:
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from path.read_text().split()


guard.handlers |= {
    "subprocess.Popen": lambda program, args, folder, *_: check_child(_split_line(args), folder, program),
    "os.system": check_child,
    "os.exec": lambda path, args, env, *_: check_child(args, program=path, environ=env, is_exec=True),
    "os.posix_spawn": lambda path, args, env, *_: check_child(args, program=path, environ=env),
    "os.spawn": lambda _, path, args, *__: _check_forked(args, path),
    "os.startfile": lambda path, *_: check_child([path]),
    "pty.spawn": lambda words: _check_forked(words),
    "_winapi.CreateProcess": lambda program, line, folder, *_: check_child(_split_line(line or program), folder),
}


def _split_line(line: Any) -> Any:
    """Return the words of a command line, which is a str on Windows only."""
    return [word.strip('"') for word in shlex.split(line, posix=False)] if isinstance(line, str) else line


def _classify_child(words: Any, folder: Any = None, program: Any = None) -> Child:
    try:
        if isinstance(words, str | bytes):
            child = classify_script(os.fsdecode(words), folder or ".")
        else:
            line = [os.fsdecode(word) for word in words]
            # The first word may be another name: a login shell is "-bash".
            child = classify([os.fsdecode(program or line[0]), *line[1:]], folder or ".")
        return _classify_by_cell(child) if child.stdin else child
    except Exception:  # an odd command line must not keep a program from starting
        return Child("a process", "other")


def _classify_by_cell(child: Child) -> Child:
    """Classify a program that reads its script from the cell, as ``%%bash`` and ``%%python`` do."""
    run = current_run()
    magic, _, body = run.cell.source.partition("\n") if run and run.cell else ("", "", "")
    if not magic.startswith("%%"):
        return child
    script = classify_source(child.name, body) if "py" in child.name else classify_script(body)
    # Of other magics, such as ``%%time``, the cell may hold the script or not.
    return script if script.kind in SENDING or magic.split()[0] == f"%%{child.name}" else child
