"""Starts of child processes: each is shown to the guard of a replay, and gets the variables that are meant for it.

They start by `fork_exec`, `posix_spawn`, `exec` after a fork, the `system` of C, and ptyprocess, which IPython uses for
``!command``. The variables of this process itself are never changed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from nbreplay.core import pyodide
from nbreplay.core.session import current_session
from nbreplay.intercept.patching import Undo, put
from nbreplay.intercept.processes.children import Start, check_child

_givers: list[Callable[[Start], Mapping[str, str | None]]] = []
_lock = threading.Lock()
_putting = 0  # calls of `system` under way


def on_start(giver: Callable[[Start], Mapping[str, str | None]]) -> None:
    """Have `giver` called before a process is started while a session is on.

    It returns the variables that the process gets; None for one that it does not get.
    """
    _givers.append(giver)


def find_variables(start: Start) -> dict[str, str | None]:
    """Return the variables that are meant for a process."""
    given: dict[str, str | None] = {}
    if current_session() is not None:
        for giver in _givers:
            given |= giver(start)
    return given


def environ_for(
    words: Any,
    environ: Mapping[Any, Any] | None = None,
    folder: Any = None,
    program: Any = None,
    *,
    is_exec: bool = False,
) -> dict[str, str] | None:
    """Return the variables with which a process is started; None if it gets those of this process unchanged."""
    before = os.environ if environ is None else {os.fsdecode(name): os.fsdecode(environ[name]) for name in environ}
    given = find_variables(Start(words, before, folder, program, is_exec))
    if not given:
        return None if environ is None else dict(before)
    return {name: value for name, value in {**before, **given}.items() if value is not None}


def install(module: ModuleType) -> Undo:
    """Hook into the function of C that starts processes, where `subprocess` and where multiprocessing has it."""
    if pyodide.IS_PYODIDE:  # it has none
        return put()
    name = "fork_exec" if hasattr(module, "fork_exec") else "_fork_exec"
    before = getattr(module, name)

    @functools.wraps(before)
    def fork_exec(
        words: Any, programs: Any, close_fds: Any, pass_fds: Any, folder: Any, environ: Any, *more: Any
    ) -> Any:
        if name == "fork_exec":  # of subprocess, Python itself tells the guard
            check_child(words, folder)
        items = None if environ is None else dict(os.fsdecode(item).split("=", 1) for item in environ)
        changed = environ_for(words, items, folder, programs[0] if len(programs) == 1 else None)
        if changed is not None:
            environ = [os.fsencode(f"{key}={value}") for key, value in changed.items()]
        return before(words, programs, close_fds, pass_fds, folder, environ, *more)

    return put((module, name, fork_exec))


def install_os(module: Any) -> Undo:
    """Hook into the functions of `os`; those that are not here call these."""
    before_execv, before_execve, before_system = module.execv, module.execve, module.system

    @functools.wraps(before_execv)
    def execv(path: Any, argv: Any, /) -> Any:
        changed = environ_for(argv, program=path, is_exec=True)
        return before_execv(path, argv) if changed is None else before_execve(path, argv, changed)

    @functools.wraps(before_system)
    def system(command: Any) -> int:
        with _putenv(find_variables(Start(os.fsdecode(command), os.environ))):
            return int(before_system(command))

    def with_environ(name: str) -> tuple[Any, str, Any]:
        before = getattr(module, name)

        @functools.wraps(before)
        def start(path: Any, argv: Any, env: Any, **kwargs: Any) -> Any:
            return before(path, argv, environ_for(argv, env, program=path, is_exec=name == "execve"), **kwargs)

        return module, name, start

    names = [name for name in ("execve", "posix_spawn", "posix_spawnp") if hasattr(module, name)]
    return put((module, "execv", execv), (module, "system", system), *map(with_environ, names))


@contextlib.contextmanager
def _putenv(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables for functions of C, which do not see Python's mapping; the last of several threads ends it."""
    global _putting
    if not variables:
        yield
        return
    with _lock:
        _putting += 1
        _put_all(variables)
    try:
        yield
    finally:
        with _lock:
            _putting -= 1
            if not _putting:
                _put_all({name: os.environ.get(name) for name in variables})


def _put_all(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.unsetenv(name)
        else:
            os.putenv(name, value)


def install_ptyprocess(module: Any) -> Undo:
    """Hook into ptyprocess: what it forks inherits this process, so that its start is seen only here."""
    before = module.PtyProcess.__dict__["spawn"].__func__

    @functools.wraps(before)
    def spawn(cls: Any, argv: Any, cwd: Any = None, env: Any = None, *args: Any, **kwargs: Any) -> Any:
        check_child(argv, cwd)
        return before(cls, argv, cwd, environ_for(argv, env, cwd), *args, **kwargs)

    return put((module.PtyProcess, "spawn", classmethod(spawn)))


def uvloop_hooks(module: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yield the hooks into the methods by which uvloop starts processes itself, as `put` takes them."""
    for name in ("subprocess_exec", "subprocess_shell"):
        before = getattr(module.Loop, name)

        @functools.wraps(before)
        def start(
            self: Any, factory: Any, *words: Any, _before: Any = before, cwd: Any = None, env: Any = None, **kwargs: Any
        ) -> Any:
            line = words[0] if _before.__name__ == "subprocess_shell" else words
            check_child(line, cwd)
            return _before(self, factory, *words, cwd=cwd, env=environ_for(line, env, cwd), **kwargs)

        yield module.Loop, name, start
