"""Which installed modules notebooks import."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path

__all__ = ["imported"]


def imported(paths: Iterable[Path], folder: Path) -> list[str]:
    """Return the modules that cells of notebooks import, in the order of the cells.

    Modules of the notebooks' own folder are left out, and those that are not installed: whether they can be imported is
    the notebook's own affair.
    """
    names = dict.fromkeys(name for path in paths for source in _sources(path) for name in _names(source))
    installed = [entry for entry in sys.path if entry and Path(entry).resolve() != folder.resolve()]
    found = []
    for name in names:
        top = name.partition(".")[0]
        if PathFinder.find_spec(top, [str(folder)]) is None and PathFinder.find_spec(top, installed) is not None:
            found.append(name)
    return found


def _sources(path: Path) -> Iterator[str]:
    """Yield what the code cells hold. Read as JSON: a notebook that is none is told of when it is run."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])


def _names(source: str) -> Iterator[str]:
    # By line, and not parsed: cells have magics, and what is indented may never be imported.
    for first, several in re.findall(r"^(?:from +([\w.]+) +import|import +([^#;\n]+))", source, re.MULTILINE):
        for name in [first] if first else several.split(","):
            yield from re.findall(r"^ *(\w[\w.]*)", name)
