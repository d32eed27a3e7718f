"""Which installed modules notebooks import."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

__all__ = ["imported"]


def imported(notebooks: Iterable[Any], folder: Path) -> list[str]:
    """Return the modules that cells of notebooks import, in the order of the cells.

    Modules of the notebooks' own folder are left out, and those that are not installed: whether they can be imported is
    the notebook's own affair.
    """
    names = dict.fromkeys(name for notebook in notebooks for name in _names(notebook))
    installed = [entry for entry in sys.path if entry and Path(entry).resolve() != folder.resolve()]
    found = []
    for name in names:
        top = name.partition(".")[0]
        if PathFinder.find_spec(top, [str(folder)]) is None and PathFinder.find_spec(top, installed) is not None:
            found.append(name)
    return found


def _names(notebook: Any) -> Iterator[str]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # By line, and not parsed: cells have magics, and what is indented may never be imported.
            for first, several in re.findall(
                r"^(?:from +([\w.]+) +import|import +([^#;\n]+))", cell.source, re.MULTILINE
            ):
                for name in [first] if first else several.split(","):
                    yield from re.findall(r"^ *(\w[\w.]*)", name)
