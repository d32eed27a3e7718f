"""Child processes under replay: known network clients are not started, all others are named.

Python raises audit events for nearly all ways to start one; for the others libraries are hooked.
"""

from __future__ import annotations

import functools
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nbreplay.core.cell import current_run
from nbreplay.intercept.children import forks
from nbreplay.intercept.network import guard
from nbreplay.intercept.patching import Undo, put

if TYPE_CHECKING:  # imported when a child is started
    from nbreplay.intercept.children.children import Child

__all__ = [
    "MULTIPROCESSING",
    "check_child",
    "child_of",
    "install_fork_exec",
    "install_forkserver",
    "install_ptyprocess",
    "is_called_by",
]

MULTIPROCESSING = "a process of multiprocessing"


def check_child(words: Any, folder: Any = None, path: Any = None) -> None:
    """Refuse to start a child process that is a known network client; name any other.

    Parameters
    ----------
    words : sequence or str
        The command line; as a text, a shell's.
    folder, path : path, optional
        Where it is started; and the program, where that is not the first word.

    Raises
    ------
    NetworkBlocked
    """
    session = guard.replaying()
    if session is None:
        return
    child = child_of(words, folder, path)
    if child.kind == "harmless":
        return
    if child.kind == "client":
        # What MCP's own client starts is a server of tools, whose calls are recorded, and in a replay it is asked none.
        allowed = session.options.allow_children or os.environ.get("NBREPLAY_ALLOW_CHILDREN") == "1"
        if not (allowed or is_called_by("mcp.client.stdio")):
            text = (
                f"nbreplay is replaying, and something tried to start {child.name}. That is a network client in a "
                "process of its own, which replay does not cover: it was not started. To let it run, say "
                "%replay replay --allow-children"
            )
            guard.refuse(session, child.name, text)
        session.passed(child.name)
    session.log.uncovered.setdefault(("child", child.name), False)
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


def child_of(words: Any, folder: Any = None, path: Any = None) -> Child:
    """Return what a command line starts; see `check_child`."""
    from nbreplay.intercept.children.children import Child, classify, classify_script

    try:
        if isinstance(words, str | bytes):
            child = classify_script(os.fsdecode(words), folder or ".")
        else:
            line = [os.fsdecode(word) for word in words]
            program = os.fsdecode(path) if path else line[0]
            # A program may be called by another name: a login shell is "-bash".
            child = classify([program, *line[1:]], folder or ".")
        return _by_cell(child) if child.stdin else child
    except Exception:  # whatever it is, it is started; it is named
        return Child("a process", "other")


def _by_cell(child: Child) -> Child:
    """Look into the cell where a program has its script from it, as those of ``%%bash`` and ``%%python`` have."""
    from nbreplay.intercept.children.children import Child, classify_script, imports_network

    run = current_run()
    source = run.cell.source if run is not None and run.cell is not None else ""
    if not source.startswith("%%"):
        return child
    body = source.partition("\n")[2]
    if "py" in child.name:
        library = imports_network(body)
        return Child(f"{child.name} that imports {library}", "client") if library else child
    found = classify_script(body)
    return found if found.kind == "client" else child


def _popen(executable: Any, args: Any, folder: Any, *_: Any) -> None:
    check_child(_split(args), folder, executable)


def _system(command: Any, *_: Any) -> None:
    check_child(command)


def _exec(path: Any, args: Any, *_: Any) -> None:
    check_child(args, None, path)


def _spawn(_: Any, path: Any, args: Any, *__: Any) -> None:
    check_child(args, None, path)


def _pty(args: Any, *_: Any) -> None:
    check_child([args] if isinstance(args, str) else args)


def _create_process(application: Any, line: Any, folder: Any, *_: Any) -> None:
    check_child(_split(line or application), folder)


def _split(line: Any) -> Any:
    """Return the words of a command line of Windows; other systems give words."""
    if not isinstance(line, str):
        return line
    import shlex

    return [word.strip('"') for word in shlex.split(line, posix=False)]


guard.hear(
    subprocess__Popen=_popen,
    os__system=_system,
    os__exec=_exec,
    os__posix_spawn=_exec,
    os__spawn=_spawn,
    os__startfile=_pty,
    pty__spawn=_pty,
    _winapi__CreateProcess=_create_process,
)


def install_fork_exec(module: ModuleType) -> Undo:
    """Hook into what multiprocessing starts its processes with, which raises no audit event; return what undoes it.

    Raises
    ------
    AttributeError
        Where the module no longer has the hook.
    """
    before = module.fork_exec

    @functools.wraps(before)
    def fork_exec(args: Any, executables: Any, *rest: Any) -> Any:
        check_child(args)
        return before(args, executables, *rest)

    return put((module, "fork_exec", fork_exec))


def install_forkserver(module: ModuleType) -> Undo:
    """Hook into processes of multiprocessing that a server forks, which may have been started before."""
    kind = module.Popen
    before = kind._launch

    @functools.wraps(before)
    def _launch(self: Any, process: Any) -> Any:
        if (session := guard.replaying()) is not None:
            session.log.uncovered.setdefault(("child", MULTIPROCESSING), False)
        return before(self, process)

    return put((kind, "_launch", _launch))


def install_ptyprocess(module: ModuleType) -> Undo:
    """Hook into ptyprocess, by which IPython runs ``!command``: it forks, and would be refused in the child only."""
    kind = module.PtyProcess
    before = vars(kind)["spawn"]

    @functools.wraps(before.__func__)
    def spawn(cls: Any, argv: Any, cwd: Any = None, *args: Any, **given: Any) -> Any:
        check_child(argv, cwd)
        return before.__func__(cls, argv, cwd, *args, **given)

    ours = kind.spawn = classmethod(spawn)

    def undo() -> None:
        if vars(kind).get("spawn") is ours:
            kind.spawn = before

    return undo
