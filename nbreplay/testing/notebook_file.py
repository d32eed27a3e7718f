"""Notebook files: reading them, the tags of their cells, and storing outputs and nothing else."""

from __future__ import annotations

import copy
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import nbformat
from nbformat import NotebookNode

from nbreplay.core.store.files import open_folder
from nbreplay.errors import NbreplayError

KEEPS_ERRORS = "nbreplay-keep-errors"
"""The tag of a cell whose failures are kept in ``auto``, even those that may pass, such as a 401 that it shows."""

_SKIPPED = {"skip", "skip-execution"}
_CHECKS: dict[str, Literal["compare", "run", "ignore"]] = {
    "nbreplay-ignore": "ignore",
    "nbreplay-run": "run",
    "nbreplay-compare": "compare",
    "nbval-ignore-output": "run",
}
"""The check that a tag requests. If a cell has several of these tags, the first one here counts."""


def read_notebook(path: Path) -> NotebookNode:
    """Return a notebook. Raise `NbreplayError`, which names the file, if it is not one."""
    try:
        if path.exists() and not path.is_file():
            raise NbreplayError("not a regular file")  # reading a pipe could block for ever
        notebook: NotebookNode = nbformat.read(path, as_version=4)
    except Exception as error:
        raise NbreplayError(f"Cannot read {path} as a notebook: {error}") from error
    return notebook


def own_outputs(cell: Any) -> list[Mapping[str, Any]]:
    """Return the outputs of a cell without nbreplay's status displays, which belong to a run, not to the notebook."""
    outputs = [output for output in cell.get("outputs") or [] if isinstance(output, Mapping)]
    return [output for output in outputs if (output.get("metadata") or {}).get("nbreplay") != "status"]


def save_outputs(path: Path, executed: Any) -> bool:
    """Store the outputs, counts and widgets of an executed notebook in its file, and return whether the file changed.

    Everything else stays the same, byte for byte, if a program wrote the file. Raise `NbreplayError` if the file has
    changed since, has another notebook format than 4, is a link that leads out of its folder, or cannot be written.
    """
    try:
        target = path.resolve()
        if path.is_symlink() and path.parent.resolve() not in target.parents:
            raise NbreplayError(f"{path} is a symbolic link that leads out of its folder. Pass {target} to update it")
        before = target.read_bytes().decode("utf-8")
        stored = json.loads(before)
        if stored.get("nbformat") != 4:
            raise NbreplayError(f"{target} has notebook format {stored.get('nbformat')}. Convert it to format 4 first")
        known = nbformat.reads(before, as_version=4)
        if [cell.source for cell in known.cells] != [cell.source for cell in executed.cells]:
            raise NbreplayError(f"{target} changed while it ran, so its outputs are not stored. Run it again")
        changed = _store_widgets(stored, executed)
        for cell, old, new in zip(stored["cells"], known.cells, executed.cells, strict=True):
            if cell["cell_type"] == "code":
                changed |= _store_outputs(cell, old, new)
        if changed:
            rewrite_notebook(target, stored, before)
        return changed
    except OSError as error:
        raise NbreplayError(
            f"Cannot write {path}: {error.strerror or error}. Free the disk or make it writable"
        ) from error


def add_tags(path: Path, tags: Mapping[int, str]) -> None:
    """Tag cells of a notebook, by their position from 1. Everything else in its file stays the same."""
    before = path.read_bytes().decode("utf-8")
    notebook = json.loads(before)
    for index, tag in tags.items():
        present = notebook["cells"][index - 1].setdefault("metadata", {}).setdefault("tags", [])
        if tag not in present:
            present.append(tag)
    rewrite_notebook(path, notebook, before)


def rewrite_notebook(path: Path, notebook: Any, before: str) -> None:
    """Replace the file of a notebook in one step, in the same JSON style as `before`, its former text."""
    with open_folder(path.parent) as folder, folder.write(path.name) as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
        file.write(_format_like(notebook, before).encode("utf-8"))


def _store_widgets(stored: dict[str, Any], executed: Any) -> bool:
    """Store the state of the widgets, so that they work without a kernel. Return whether it changed."""
    widgets, metadata = executed.metadata.get("widgets"), stored.setdefault("metadata", {})
    if metadata.get("widgets") == widgets:
        return False
    if widgets:
        metadata["widgets"] = json.loads(json.dumps(widgets))
    else:
        del metadata["widgets"]
    return True


def _store_outputs(cell: dict[str, Any], old: Any, new: Any) -> bool:
    changed = _without_counts(old.outputs) != _without_counts(new.outputs)
    if changed:
        alone = nbformat.v4.new_notebook()
        alone.cells, alone.nbformat_minor = [copy.deepcopy(new)], 5 if "id" in new else 4
        cell["outputs"] = json.loads(nbformat.writes(alone))["cells"][0]["outputs"]
    for item in (cell, *cell["outputs"]):
        if "execution_count" in item:
            changed |= item["execution_count"] != new.execution_count
            item["execution_count"] = new.execution_count
    return changed


def _without_counts(outputs: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in output.items() if name != "execution_count"} for output in outputs]


def _format_like(stored: Any, before: str) -> str:
    """Return JSON text in the style of `before`: indentation, separators, escapes and line ends."""
    body = before.rstrip()
    start = re.match(r"\{(\r?\n)([ \t]*)\"", before)
    indent = start[2] if start else None
    separators = None if start or '": ' in body[:200] else (",", ":")
    escapes = body.isascii() and "\\u" in body
    text = json.dumps(stored, indent=indent, ensure_ascii=escapes, separators=separators)
    if start and start[1] == "\r\n":
        text = text.replace("\n", "\r\n")
    return text + before[len(body) :]


def tags_of(cell: Any) -> set[str]:
    """Return the tags of a cell."""
    tags = cell.get("metadata", {}).get("tags")
    return {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list | tuple) else set()


def is_skipped(cell: Any) -> bool:
    """Return whether a cell has the tag ``skip`` or ``skip-execution``."""
    return not tags_of(cell).isdisjoint(_SKIPPED)


def may_raise(cell: Any) -> bool:
    """Return whether a cell may raise: the tag ``raises-exception``, as everywhere, or ``nbreplay-ignore``.

    It may raise what its code raises; a missing recording fails the run all the same.
    """
    return requested_check(cell) == "ignore" or "raises-exception" in tags_of(cell)


def requested_check(cell: Any) -> Literal["compare", "run", "ignore"] | None:
    """Return the check that the tags of a cell request: to compare its outputs, only to run it, or to let it raise."""
    tags = tags_of(cell)
    return next((check for tag, check in _CHECKS.items() if tag in tags), None)
