"""The start of a Python child: it is switched on where it first uses something that a session covers.

`nbreplay.pth` of the wheel calls `begin` while Python still starts, if ``NBREPLAY_CHILD`` is set. This module must
import nothing that a plain program does not, so that a child that calls no model starts as fast as ever.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_VARIABLE = "NBREPLAY_CHILD"
# What a program uses before it calls anyone: an audit event tells when it does.
_LATER = (
    *("_posixsubprocess", "concurrent.futures.thread", "multiprocessing.pool", "os", "socket", "subprocess"),
    "threading",
)
_EVENTS = frozenset((
    *("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname"),
    *("socket.gethostbyaddr", "socket.getnameinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"),
    *("os.spawn", "os.startfile", "pty.spawn", "_winapi.CreateProcess"),
))  # fmt: skip
# Commands that are left alone, with their children: what they load is not a part of a notebook.
_COMMANDS = frozenset(("nbreplay", "conda", "ensurepip", "mamba", "pip", "pip3", "pipx", "poetry", "uv"))
# What is imported here before the process is switched on.
_OWN = "nbreplay.intercept.libraries"

_is_waiting = False


def begin() -> None:
    """Wait for the first use of a library that is hooked."""
    global _is_waiting
    if _is_command(sys.orig_argv):
        os.environ[_VARIABLE] = ""
    elif not _is_waiting and _is_main_interpreter():  # the file may be in two folders of packages
        _is_waiting = True
        # pytest would warn that it cannot rewrite a plugin that is imported already, which fails a run with -W error.
        package = sys.modules["nbreplay"]
        package.__doc__ = f"{package.__doc__}\n\nPYTEST_DONT_REWRITE"
        sys.meta_path.insert(0, _Finder)
        sys.addaudithook(_hook)


def _is_main_interpreter() -> bool:
    """Tell whether this is not another interpreter in a process, whose failure would end it."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # since Python 3.13, and before
        try:
            module = __import__(name)
        except ImportError:
            continue
        return bool(module.get_current() == module.get_main())
    return True


def _is_command(line: list[str]) -> bool:
    words = iter(line[1:])
    for word in words:
        if word == "-m":
            return next(words, "").partition(".")[0] in _COMMANDS
        if word in ("-W", "-X", "--check-hash-based-pycs"):
            next(words, "")
        elif not word.startswith("-"):
            # The adapter by which Jupyter's debugger talks to the kernel connects to the kernel alone.
            is_adapter = word.endswith(os.path.join("debugpy", "adapter"))
            return is_adapter or os.path.basename(word).removesuffix(".exe") in _COMMANDS
        elif "c" in word and word[1] not in "-WX":
            return False  # what comes after the code belongs to that
    return False


def _hook(event: str, _: tuple[Any, ...]) -> None:
    if _is_waiting and event in _EVENTS:
        _switch_on()


class _Finder:
    """Finds nothing itself; switches on before a library is imported that is hooked."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        # Before a module of nbreplay, too: it could not be switched on while half of it is imported.
        if name == _OWN or not (name.startswith("nbreplay.") or _is_hooked(name)):
            return None
        _switch_on()
        # Python goes on with the finder that was behind this one, and the one that hooks libraries is before it now.
        finders = (finder for finder in [*sys.meta_path] if hasattr(finder, "find_spec"))
        return _found_spec(name) or next(filter(None, (each.find_spec(name, path, target) for each in finders)), None)


def _is_hooked(name: str) -> bool:
    from nbreplay.intercept.libraries import LIBRARIES

    return name in LIBRARIES and name not in _LATER


def _found_spec(name: str) -> ModuleSpec | None:
    """Return the specification of a module that has been imported meanwhile, so that it is not imported twice."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is None or spec is None:
        return None
    from importlib.machinery import ModuleSpec

    return ModuleSpec(name, _Loader(module, spec), origin=spec.origin)  # type: ignore[arg-type]


class _Loader:
    def __init__(self, module: ModuleType, spec: ModuleSpec) -> None:
        self._module, self._spec = module, spec

    def create_module(self, _: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def _stop_waiting() -> None:
    global _is_waiting
    _is_waiting = False
    if _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)


def _switch_on() -> None:
    """Follow the session of the parent. A process that cannot ends, since its calls would be live and unnoticed."""
    _stop_waiting()
    try:
        from nbreplay.intercept import registry  # noqa: F401
        from nbreplay.intercept.processes import channel, child, local_server

        local_server.withdraw(os.environ)
        followed, strand = channel.decode_variable(os.environ.get(_VARIABLE, ""))
        try:
            os.stat(followed.folder)
        except FileNotFoundError:  # the parent has ended, and no session is on
            return
        child.follow_parent(followed, strand)
    except Exception as error:
        print(f"nbreplay cannot be switched on in a child process: {type(error).__name__}: {error}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
