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
    """Import an interceptor and have it hook into its library; return the function that undoes it.

    It is a module of `nbreplay.intercept`, with its function where that is not ``install``: ``http.httpx``. The
    function gets the library, and returns what `put` returns. An unsupported library raises AttributeError.
    """
    name, _, function = interceptor.partition(":")
    module = importlib.import_module(f"nbreplay.intercept.{name}")
    undo: Undo = getattr(module, function or "install")(library)
    return undo


def put(*hooks: tuple[Any, str, Any]) -> Undo:
    """Replace attributes, each given as owner, name and replacement; return the function that undoes it.

    An owner that does not have the attribute raises AttributeError, before any is replaced.
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

    The object's own attributes are not replaced, since another call may run at the same time. Whoever replaces one of
    them once more does so here: put back into the object, it would call itself.
    """

    def __init__(self, original: Any, **attributes: Any) -> None:
        self.__dict__.update(attributes, _original=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.__dict__["_original"], name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__dict__["_original"])


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
        finders = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in finders)), None)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader

        def exec_module(module: ModuleType) -> None:
            loader.exec_module(module)
            # The module keeps its own loader: resources and pickles look at it.
            if module.__spec__ is not None:
                module.__spec__.loader = loader
            module.__loader__ = loader
            if _is_waiting():
                _install(fullname, module, self._libraries[fullname])

        spec.loader = StandIn(loader, exec_module=exec_module)  # type: ignore[assignment]
        return spec
