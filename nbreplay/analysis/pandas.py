"""Pandas and numpy; where they are not installed, as in JupyterLite, stand-ins that say so when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["has_pandas", "np", "pd", "register_accessor"]

_Kind = TypeVar("_Kind", bound=type)
_accessors: list[tuple[str, type]] = []


def has_pandas() -> bool:
    """Return whether pandas is installed, perhaps since a moment ago."""
    return find_spec("pandas") is not None


class _StandIn:
    """A library that may be installed later."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            library = importlib.import_module(self._name)
            _register_all()
        except ImportError:
            remedy = "In JupyterLite, run a cell with: import pandas. A site that was made with --offline has none"
            text = f"{self._name} is not installed, and frames need it. {remedy}"
            raise ModuleNotFoundError(text, name=self._name) from None
        return getattr(library, attribute)


def register_accessor(name: str) -> Callable[[_Kind], _Kind]:
    """Return a decorator that makes a class an accessor of frames, now or once pandas is there."""

    def register(kind: _Kind) -> _Kind:
        _accessors.append((name, kind))
        if has_pandas():
            _register_all()
        return kind

    return register


def _register_all() -> None:
    while _accessors:
        importlib.import_module("pandas").api.extensions.register_dataframe_accessor(_accessors[0][0])(_accessors[0][1])
        _accessors.pop(0)


if TYPE_CHECKING or has_pandas():
    import numpy as np
    import pandas as pd
else:
    np, pd = _StandIn("numpy"), _StandIn("pandas")
