"""The files of a site: notebooks, their stores, and what the notebooks need beside them, all checked for secrets.

Everything keeps its place below one root, so that a notebook finds its store and its files on the site as it does here.
Of a store only its members are taken. Of other files those that a notebook, or a module that it imports, names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nbreplay.core.audit.audit import Finding, audit, find_secrets, line_of
from nbreplay.core.config import default_store, is_url, project
from nbreplay.core.store.files import VARIABLES, is_member
from nbreplay.core.store.store import Store
from nbreplay.core.words import count_of
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.testing.notebook_file import read_notebook
from nbreplay.testing.notebook_secrets import audit_notebook

_WORD = re.compile(r"[^\s\"'`()\[\]{}<>,;=|#!]{1,200}")
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w., \t]+))", re.MULTILINE)
_FRAMES = re.compile(r"\b(?:nr|nbreplay)\.load\(|\bfrom nbreplay import [^\n]*\bload\b|\bpandas\b")
_LARGEST_TEXT = 1 << 26  # bytes; of a larger file no text is searched
_SHOWN = 3  # findings that an error quotes
_STORE = "recordings"


class Contents:
    """What a site is to hold.

    Attributes
    ----------
    root : pathlib.Path
        The folder below which everything is.
    notebooks : list of pathlib.Path
    stores : dict of str to Store
        By the folder of the site that gets its recordings.
    files : list of pathlib.Path
        What the notebooks name beside them.
    modules : dict of str to str
        The modules that the notebooks import, each with a notebook that does.
    """

    def __init__(self, notebooks: Iterable[Path]) -> None:
        self.notebooks = [Path(os.path.abspath(path)) for path in notebooks]
        self.sources = {path: _read_sources(path) for path in self.notebooks}
        self.stores: dict[str, Store] = {}
        self.files: list[Path] = []
        self.modules: dict[str, str] = {}
        self.settings: dict[Path, dict[str, Any]] = {}  # tables of [tool.nbreplay] by the folder of their file
        named = {path: _store_of(path) for path in self.notebooks}
        self.root = Path(os.path.commonpath([_root_of(path, store) for path, store in named.items()]))
        for path, store in named.items():
            self._add_store(path, store)
        for path, source in self.sources.items():
            self._add_named(path, source)

    @property
    def needs_frames(self) -> list[str]:
        """The names of the notebooks that use pandas, themselves or by `nbreplay.load`."""
        return [path.name for path, source in self.sources.items() if _FRAMES.search(source)]

    def place(self, path: Path) -> str:
        """Return the path of a file on the site."""
        return path.relative_to(self.root).as_posix()

    def _add_store(self, notebook: Path, store: Store | None) -> None:
        if store is None:  # an address, from which the notebook reads on the site, too
            return
        folder = project(notebook.parent).file
        folder = folder.parent if folder else self.root
        path = Path(os.path.abspath(store.path))
        is_inside = not store.archive and path.is_relative_to(self.root)
        place = path.relative_to(self.root).as_posix() if is_inside else _STORE
        if self.stores.setdefault(place, store).identity != store.identity:
            raise OptionError(f"{store.shown} and {self.stores[place].shown} would have the same place. Make two sites")
        table = _site_settings(folder)
        if not is_inside:
            table["store"] = os.path.relpath(self.root / place, folder)
        if table:
            self.settings[folder] = table

    def _add_named(self, base: Path, source: str) -> None:
        """Add the stores and files that a source names, and the modules that it imports."""
        for name in _imports(source):
            top = name.split(".")[0]
            for path in (base.parent / f"{top}.py", *sorted((base.parent / top).glob("*.py"))):
                if path.is_file():
                    self._add_file(path)
                    break
            else:
                self.modules.setdefault(top, base.name)
        for word in dict.fromkeys(_WORD.findall(source)):
            path = Path(os.path.normpath(base.parent / word.rstrip(".:")))
            if not path.is_relative_to(self.root) or any(part.startswith(".") for part in self._parts(path)):
                continue
            if "." in path.name and path.is_file() and path.suffix != ".ipynb":
                self._add_file(path)
            elif path != self.root and path.is_dir() and any(map(is_member, os.listdir(path))):
                self.stores.setdefault(self.place(path), Store(path))

    def _parts(self, path: Path) -> tuple[str, ...]:
        return path.relative_to(self.root).parts

    def _add_file(self, path: Path) -> None:
        is_of_store = is_member(path.name) and self.place(path.parent) in self.stores
        if path in self.files or is_of_store or path.resolve() != path.parent.resolve() / path.name:
            return
        self.files.append(path)
        if path.suffix == ".py":
            self._add_named(path, path.read_text(encoding="utf-8", errors="replace"))

    def check(self) -> None:
        """Raise `NbreplayError` where a file has a secret, or a recording cannot be read."""
        findings: list[Finding] = []
        for store in self.stores.values():
            findings += audit(store, None, lambda: None)[0]
        for path in self.notebooks:
            findings += audit_notebook(path, os.path.relpath(path))
        for path in self.files:
            findings += _file_findings(path)
        failing = [finding for finding in findings if not finding.is_note]
        if failing:
            secrets = sum(finding.kind == "secret" for finding in failing)
            reason = f"{count_of(secrets, 'secret')} would be published" if secrets else "a file cannot be read"
            remedy = (
                "nbreplay check --fix removes secrets from recordings and outputs" if secrets else "See nbreplay check"
            )
            lines = [f"{finding.file}:{finding.line}: {finding.kind}: {finding.message}" for finding in failing]
            more = [f"and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
            raise NbreplayError("\n".join([f"no site was made: {reason}. {remedy}", *lines[:_SHOWN], *more]))

    def copy(self, folder: Path) -> int:
        """Copy everything into a folder; return the number of recordings."""
        for path in (*self.notebooks, *self.files):
            _copy(path, folder / self.place(path))
        count = 0
        for place, store in self.stores.items():
            names = [*store.names(), *store.blob_names()]
            count += len(store.names())
            if os.path.isfile(store.identity + VARIABLES):
                names.append(VARIABLES)
            for name in names:
                _copy(Path(store.identity + name), folder / place / name)
        for path, table in self.settings.items():
            import tomlkit

            target = folder / os.path.relpath(path, self.root) / "pyproject.toml"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(tomlkit.dumps({"tool": {"nbreplay": table}}), encoding="utf-8")
        return count


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _read_sources(path: Path) -> str:
    """Return the text of all cells; raise `OptionError` where the notebook is not one of Python."""
    notebook = read_notebook(path)
    metadata = notebook.metadata
    kernel, info = metadata.get("kernelspec") or {}, metadata.get("language_info") or {}
    language = str(info.get("name") or kernel.get("language") or "python")
    if language.lower() not in ("python", "ipython"):
        raise OptionError(f"{path} is a notebook in {language}, and the site has a kernel for Python. Leave it out")
    return "\n".join(cell.source for cell in notebook.cells)


def _store_of(notebook: Path) -> Store | None:
    """Return the store of a notebook, or None where it is an address."""
    name = default_store(notebook.parent)
    if is_url(name):
        return None
    store = Store(name)
    if not store.has_recordings():
        remedy = f"Record them: nbreplay run {os.path.relpath(notebook)} --mode auto"
        raise OptionError(f"{os.path.relpath(notebook)} has no recordings: {os.path.relpath(name)} is empty. {remedy}")
    return store


def _root_of(notebook: Path, store: Store | None) -> Path:
    """Return the folder below which a notebook and its store are, if there is one that is not far above."""
    if file := project(notebook.parent).file:
        return file.parent
    parent = Path(os.path.abspath(store.path)).parent if store and not store.archive else notebook.parent
    return parent if notebook.is_relative_to(parent) else notebook.parent


def _site_settings(folder: Path) -> dict[str, Any]:
    """Return what ``[tool.nbreplay]`` says in a folder, without the store."""
    import tomllib

    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("nbreplay", {})
    return {name: value for name, value in table.items() if name != "store"}


def _imports(source: str) -> Iterator[str]:
    for match in _IMPORT.finditer(source):
        for name in (match[1] or match[2]).split(","):
            if words := name.split():
                yield words[0]


def _file_findings(path: Path) -> Iterator[Finding]:
    shown = os.path.relpath(path)
    if path.stat().st_size > _LARGEST_TEXT:
        yield Finding(shown, 1, "format", message="larger than 64 MB. Leave it out")
        return
    text = path.read_bytes().decode("latin-1")
    for secret in find_secrets(text):
        yield secret.finding(shown, line_of(text, secret.start))
