"""Hooks into libraries, those that are imported already and those that will be.

A hook is undone as a whole. A library that no longer has the attributes that are replaced is reported, never ignored.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import inspect
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

Undo = Callable[[], None]

_undo: dict[str, Undo] = {}
_problems: dict[str, str] = {}


def install(libraries: Mapping[str, str]) -> None:
    """Hook into `libraries`, each given with its interceptor, now or as soon as they are imported."""
    for name, interceptor in libraries.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__spec__", None) is not None:
            _install(name, module, interceptor)
    if not _is_waiting():
        sys.meta_path.insert(0, _Finder(libraries))


def remove() -> None:
    """Undo all hooks."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    while _undo:
        _undo.popitem()[1]()
    _problems.clear()


def problems() -> list[str]:
    """Return a message for each library that could not be hooked, with its version."""
    return list(_problems.values())


def hook(interceptor: str, library: ModuleType) -> Undo:
    """Have an interceptor hook into its library; return the function that undoes it.

    Parameters
    ----------
    interceptor : str
        A module of `nbreplay.intercept`, with its function where that is not ``install``: ``http.httpx``. It is
        imported now. The function gets the library, and returns what `put` returns.
    library : module

    Raises
    ------
    AttributeError
        Where this version of the library is not supported.
    """
    name, _, function = interceptor.partition(":")
    module = importlib.import_module(f"nbreplay.intercept.{name}")
    undo: Undo = getattr(module, function or "install")(library)
    return undo


def put(*hooks: tuple[Any, str, Any]) -> Undo:
    """Replace attributes, each given as owner, name and replacement; return the function that undoes it.

    Raises
    ------
    AttributeError
        Where an owner does not have the attribute.
    """
    originals = [inspect.getattr_static(owner, name) for owner, name, _ in hooks]
    for owner, name, replacement in hooks:
        setattr(owner, name, replacement)

    def undo() -> None:
        for (owner, name, replacement), original in zip(hooks, originals, strict=True):
            # Where somebody has hooked in after us, theirs stays, and ours under it does nothing.
            if inspect.getattr_static(owner, name) is replacement:
                setattr(owner, name, original)

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


def _is_waiting() -> bool:
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)


def _install(name: str, module: ModuleType, interceptor: str) -> None:
    if name in _undo:
        return
    try:
        _undo[name] = hook(interceptor, module)
    except AttributeError as error:
        root = name.partition(".")[0]
        if root in sys.stdlib_module_names:
            version = f"of Python {platform.python_version()}"
        else:
            version = getattr(sys.modules.get(root, module), "__version__", "(unknown version)")
        _problems[name] = (
            f"{name} {version} is not supported ({error}): its calls are neither recorded nor replayed. "
            f"Under replay the network guard refuses them. Install a supported {name}, or a newer nbreplay"
        )
        _undo[name] = lambda: None


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself; has a library hooked right after it is imported."""

    def __init__(self, libraries: Mapping[str, str]) -> None:
        self._libraries = libraries

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._libraries:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, fullname, self._libraries[fullname])
                return spec
        return None


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, name: str, interceptor: str) -> None:
        self._loader, self._name, self._interceptor = loader, name, interceptor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # The module keeps its own loader: resources and pickles look at it.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        if _is_waiting():
            _install(self._name, module, self._interceptor)
