"""Changes to the files of a project: the lines, tags, outputs and the workflow that adopting notebooks needs."""

from __future__ import annotations

import ast
import contextlib
import difflib
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import msgspec
import tomlkit
from IPython.core.inputtransformer2 import TransformerManager
from tomlkit.exceptions import TOMLKitError

from nbreplay.core.store.files import open_folder
from nbreplay.errors import NbreplayError

_WIDTH = 200  # characters of a line
_WORDS = 3
_WORKFLOW = """\
name: notebooks
on: [push, pull_request]
jobs:
  replay:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install nbreplay {install}
      - run: {run}
"""


class Change(msgspec.Struct, frozen=True):
    """The present and the proposed text of a file."""

    path: Path
    before: str | None  # None for a new file
    after: str

    def diff(self) -> str:
        """Return the change as a unified diff, in which long lines, such as pictures, are cut."""
        name = Path(os.path.relpath(self.path)).as_posix()
        old, new = ([_cut(line) for line in (text or "").splitlines()] for text in (self.before, self.after))
        names = ("/dev/null" if self.before is None else f"a/{name}", f"b/{name}")
        return "\n".join(difflib.unified_diff(old, new, *names, n=2, lineterm=""))

    def write(self) -> None:
        """Write the file in one step. Raise `NbreplayError` if it has changed meanwhile, or cannot be written."""
        try:
            path = self.path.resolve()  # a link stays one
            if read_text(path) != self.before:
                raise NbreplayError(f"{path} has changed meanwhile. Adopt the notebooks again")
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_folder(path.parent) as folder, folder.write(path.name) as file:
                if self.before is not None and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
                file.write(self.after.encode("utf-8"))
        except OSError as error:
            raise NbreplayError(f"Cannot write {self.path}: {error.strerror or error}. Make it writable") from error


def read_text(path: Path) -> str | None:
    """Return the text of a file with its line ends as they are, or None if there is none."""
    return path.read_bytes().decode("utf-8") if path.exists() else None


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]} … ({len(line):,} characters)"


def add_settings(text: str, settings: Mapping[tuple[str, ...], Sequence[str]]) -> str:
    """Return the text of a pyproject.toml with further items in some lists. Everything else stays the same.

    Raise `NbreplayError` if they cannot be added.

    Parameters
    ----------
    settings : mapping
        The items by the path of their list, such as ``("tool", "nbreplay", "mask")``.
    """
    for path, items in settings.items():
        text = _add_items(text, path, items)
    return text


def _add_items(text: str, path: tuple[str, ...], items: Sequence[str]) -> str:
    *table, name = path
    try:
        wanted = node = tomllib.loads(text)
        for step in table:
            node = node.setdefault(step, {})
        present = node.get(name, [])
        present = [present] if isinstance(present, str) else present
        new = [item for item in dict.fromkeys(items) if item not in present]
        if not new:
            return text
        node[name] = [*present, *new]
    except (ValueError, AttributeError, TypeError) as error:
        raise NbreplayError(f"no setting can be added: {error}. Correct the file") from error
    for edit in (_edit, _append):
        with contextlib.suppress(TOMLKitError, ValueError, TypeError, AttributeError):
            changed = edit(text, path, present, new)
            if tomllib.loads(changed) == wanted:
                return changed
    lines = ", ".join(map(_literal, new))
    raise NbreplayError(f"no setting can be added. Add to {name} in [{'.'.join(table)}]: {lines}")


def _edit(text: str, path: tuple[str, ...], present: Sequence[str], new: Sequence[str]) -> str:
    """Return the text with the items added to a list. A missing list or table is created."""
    *table, name = path
    document: Any = tomlkit.parse(text)
    node = document
    for step in table:
        if step not in node:
            node[step] = tomlkit.table(is_super_table=step != table[-1])
        node = node[step]
    if not isinstance(node.get(name), list):
        every = [*present, *new]
        node[name] = tomlkit.value(_lines(every) if len(every) > 1 else f"[{_literal(new[0])}]")
        return tomlkit.dumps(document)
    indent = re.search(r"\n([ \t]*)['\"]", node[name].as_string())
    for text in new:
        item = tomlkit.value(_literal(text))
        node[name].add_line(item, indent=indent[1]) if indent else node[name].append(item)
    return tomlkit.dumps(document)


def _append(text: str, path: tuple[str, ...], _: Sequence[str], new: Sequence[str]) -> str:
    """Return the text with a new table at its end. Tables with longer names may already be there."""
    blank = "\n" if text.endswith("\n") else "\n\n"
    *table, name = path
    return f"{text}{blank if text else ''}[{'.'.join(table)}]\n{name} = {_lines(new)}\n"


def _lines(items: Sequence[str]) -> str:
    return "".join(["[\n", *(f"    {_literal(item)},\n" for item in items), "]"])


def _literal(text: str) -> str:
    """Return a TOML string, in single quotes if possible, since they keep backslashes."""
    return f"'{text}'" if "'" not in text and text.isprintable() else str(tomlkit.string(text).as_string())


def imported_packages(notebooks: Iterable[Any]) -> list[str]:
    """Return the installed packages whose modules notebooks import, except nbreplay."""
    packages, modules = packages_distributions(), set[str]()
    for cell in (cell for notebook in notebooks for cell in notebook.cells if cell.cell_type == "code"):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell.source))):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.partition(".")[0])
    return sorted({name for module in modules for name in packages.get(module, [])} - {"nbreplay"}, key=str.lower)


def format_workflow(arguments: Sequence[str], requirements: Sequence[str]) -> str:
    """Return the workflow that runs ``nbreplay run`` with some arguments on GitHub, without any secret."""
    words = list(map(shlex.quote, arguments))
    if words == list(arguments) and len(words) <= _WORDS:
        run = " ".join(["nbreplay run", *words])
    else:  # folded, so that nothing in a name counts for YAML
        run = "\n          ".join([">-", "nbreplay run", *words])
    return _WORKFLOW.format(install=" ".join(map(shlex.quote, requirements)), run=run)
