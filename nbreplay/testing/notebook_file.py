"""The document that a notebook is: reading its file, and storing outputs, and nothing else, in it."""

from __future__ import annotations

import copy
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import nbformat

from nbreplay.core.store.folder import open_folder
from nbreplay.errors import NbreplayError

__all__ = ["read", "rewrite", "save", "strip"]


def read(path: Path) -> Any:
    """Return a notebook.

    Raises
    ------
    NbreplayError
        Where the file is none; the message names it.
    """
    try:
        if path.exists() and not path.is_file():
            raise NbreplayError("it is not a regular file")  # a pipe keeps its reader waiting
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise NbreplayError(f"{path} cannot be read as a notebook: {error}") from error


def strip(notebook: Any) -> None:
    """Leave out the displays that are nbreplay's own: they tell of the run, not of the notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("metadata", {}).get("nbreplay") != "status"]


def save(path: Path, executed: Any) -> bool:
    """Store the outputs, counts and widgets of an executed notebook in its file; return whether that changed it.

    All else stays byte for byte as it is, where the file is written as a program writes JSON.

    Raises
    ------
    NbreplayError
        Where the file has changed since, is of a format that keeps outputs elsewhere, is a link that leads out of its
        folder, or cannot be written.
    """
    try:
        target = path.resolve()
        if path.is_symlink() and path.parent.resolve() not in target.parents:
            raise NbreplayError(f"{path} is a symbolic link that leads out of its folder. Name {target} to update it")
        return _save(target, executed)
    except OSError as error:
        why = f"{error.strerror or error}. Free the disk or make it writable"
        raise NbreplayError(f"{path} cannot be written: {why}") from error


def _save(path: Path, executed: Any) -> bool:
    before = path.read_bytes().decode("utf-8")
    stored = json.loads(before)
    if stored.get("nbformat") != 4:
        raise NbreplayError(f"{path} is in notebook format {stored.get('nbformat')}: store it in format 4 first")
    known = nbformat.reads(before, as_version=4)
    if [cell.source for cell in known.cells] != [cell.source for cell in executed.cells]:
        raise NbreplayError(f"{path} has changed while it ran: its outputs are not stored")
    changed = False
    for cell, old, new in zip(stored["cells"], known.cells, executed.cells, strict=True):
        if cell["cell_type"] == "code":
            changed |= _store(cell, old, new)
    changed |= _store_widgets(stored, executed)
    if changed:
        rewrite(path, stored, before)
    return changed


def rewrite(path: Path, notebook: Any, before: str) -> None:
    """Replace the file of a notebook in one step, written as `before`, its former text, is.

    Raises
    ------
    OSError
    """
    with open_folder(path.parent) as folder, folder.write(path.name) as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
        file.write(_written(notebook, before).encode("utf-8"))


def _store_widgets(stored: dict[str, Any], executed: Any) -> bool:
    """Keep what the notebook's widgets show, so that they do without a kernel; return whether that changed it."""
    widgets = executed.metadata.get("widgets")
    if not widgets or stored.get("metadata", {}).get("widgets") == widgets:
        return False
    stored.setdefault("metadata", {})["widgets"] = json.loads(json.dumps(widgets))
    return True


def _store(cell: dict[str, Any], old: Any, new: Any) -> bool:
    changed = False
    if _uncounted(old.outputs) != _uncounted(new.outputs):
        alone = nbformat.v4.new_notebook(cells=[copy.deepcopy(new)])
        cell["outputs"] = json.loads(nbformat.writes(alone))["cells"][0]["outputs"]
        changed = True
    counted = [item for item in (cell, *cell["outputs"]) if "execution_count" in item]
    for item in counted:
        changed |= item["execution_count"] != new.execution_count
        item["execution_count"] = new.execution_count
    return changed


def _uncounted(outputs: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in output.items() if name != "execution_count"} for output in outputs]


def _written(stored: Any, before: str) -> str:
    """Return JSON text in the way that `before` is written."""
    body = before.rstrip()
    found = re.match(r"\{(\r?\n)([ \t]*)\"", before)
    indent = found[2] if found else None
    text = json.dumps(
        stored,
        indent=indent,
        ensure_ascii=body.isascii() and "\\u" in body,
        separators=None if indent is not None or '": ' in body[:200] else (",", ":"),
    )
    if found and found[1] == "\r\n":
        text = text.replace("\n", "\r\n")
    return text + before[len(body) :]
