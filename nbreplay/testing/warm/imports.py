"""Finding the installed modules that notebooks import."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["imported_modules"]


def imported_modules(paths: Iterable[Path], folder: Path) -> list[str]:
    """Return the installed modules that the cells of notebooks import, in order.

    Modules in the folder of the notebooks are left out: they may change between runs.
    """
    names = dict.fromkeys(name for path in paths for source in _sources(path) for name in _names(source))
    installed = [entry for entry in sys.path if entry and Path(entry).resolve() != folder.resolve()]
    modules = []
    for name in names:
        top = name.partition(".")[0]
        if PathFinder.find_spec(top, [str(folder)]) is None and PathFinder.find_spec(top, installed) is not None:
            modules.append(name)
    return modules


def _sources(path: Path) -> Iterator[str]:
    """Yield the sources of the code cells. An invalid notebook is reported when it is run."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])


def _names(source: str) -> Iterator[str]:
    # A regular expression, since cells contain magics. Indented imports may never run.
    for first, several in re.findall(r"^(?:from +([\w.]+) +import|import +([^#;\n]+))", source, re.MULTILINE):
        for name in [first] if first else several.split(","):
            yield from re.findall(r"^ *(\w[\w.]*)", name)
