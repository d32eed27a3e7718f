"""Hooking into libraries, those that are imported already and those that will be.

A hook is taken back as a whole. A library that no longer has what is hooked is reported, never passed by.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import inspect
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

__all__ = ["StandIn", "Undo", "install", "problems", "put", "remove"]

Undo = Callable[[], None]
Hook = Callable[[ModuleType], Undo]

_undo: dict[str, Undo] = {}
_problems: dict[str, str] = {}


def install(libraries: Mapping[str, Hook]) -> None:
    """Hook into `libraries`, now or as soon as they are imported."""
    for name, hook in libraries.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__spec__", None) is not None:
            _hook(name, module, hook)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(libraries))


def remove() -> None:
    """Take all hooks back."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    while _undo:
        _undo.popitem()[1]()
    _problems.clear()


def problems() -> list[str]:
    """Return what could not be hooked, each with library and version: such calls are not seen."""
    return list(_problems.values())


def put(*hooks: tuple[Any, str, Any]) -> Undo:
    """Put something of ours in place of attributes, each given as owner, name and ours; return what undoes it."""
    made = [(owner, name, inspect.getattr_static(owner, name), ours) for owner, name, ours in hooks]
    for owner, name, _, ours in made:
        setattr(owner, name, ours)

    def undo() -> None:
        for owner, name, before, ours in made:
            # Where somebody has hooked in after us, theirs stays, and ours under it does nothing.
            if inspect.getattr_static(owner, name) is ours:
                setattr(owner, name, before)

    return undo


class StandIn:
    """Stands in for a library's object, with some attributes replaced.

    The object's own attributes are not replaced, since another call may run at the same time.
    """

    def __init__(self, original: Any, **attributes: Any) -> None:
        self.__dict__.update(attributes, _original=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_original"], name, value)

    @property
    def __class__(self) -> Any:
        return type(self.__dict__["_original"])

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise AttributeError("__class__")


def _hook(name: str, module: ModuleType, hook: Hook) -> None:
    if name in _undo:
        return
    try:
        _undo[name] = hook(module)
    except AttributeError as error:
        root = sys.modules.get(name.partition(".")[0], module)
        stdlib = name.partition(".")[0] in sys.stdlib_module_names
        version = f"of Python {platform.python_version()}" if stdlib else getattr(root, "__version__", "(unknown)")
        _problems[name] = (
            f"{name} {version} is not what nbreplay knows ({error}): its calls are neither recorded nor replayed. "
            f"Under replay the network guard refuses them. Install a {name} that is supported, or a newer nbreplay"
        )
        _undo[name] = lambda: None


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself; has a library hooked right after it is imported."""

    def __init__(self, libraries: Mapping[str, Hook]) -> None:
        self._libraries = libraries

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        hook = self._libraries.get(fullname)
        if hook is None:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, fullname, hook)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, name: str, hook: Hook) -> None:
        self._loader, self._name, self._hook = loader, name, hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # The module keeps its own loader: resources and pickles look at it.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        if any(isinstance(finder, _Finder) for finder in sys.meta_path):
            _hook(self._name, module, self._hook)
