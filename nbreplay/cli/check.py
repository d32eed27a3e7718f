"""``nbreplay check``: whether stores and notebooks can be read, are what their keys say, and are free of secrets."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec.structs import asdict, replace

from nbreplay.core.audit.audit import audit
from nbreplay.core.audit.cleaning import clean_store
from nbreplay.core.audit.findings import Finding
from nbreplay.core.config import default_store
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.files import BLOB, PRIVATE, RECORDING
from nbreplay.core.store.store import Store
from nbreplay.errors import NbreplayError, OptionError

__all__ = ["add"]

_EPILOG = """\
Without arguments the store of the working directory and the notebooks below it are checked. A store is a folder or a
.zip; of a folder, every store and notebook below it is checked. Files are named one by one, too, as pre-commit does.

example:
  $ nbreplay check recordings notebooks/chat.ipynb
  recordings/chat-3f2a9c81d04be77a.json:8: secret: sk-key: sk-p… (51 characters)
  notebooks/chat.ipynb:31: secret: sk-key in an output of cell 2: sk-p… (51 characters)
  checked 12 recordings and 1 notebook: 2 findings in 2 files
  $ nbreplay check --fix recordings notebooks/chat.ipynb

--fix replaces secrets by [secret:N] in recordings, in the files beside them, and in the outputs, the widgets' state and
the metadata of notebooks. A recording whose request changes gets a new key and name, under which a program that sends
the same request finds it. Sources of cells, .zip files and files that cannot be read stay as they are. Revoke a secret
that was committed: it is still in the history.

exit status: 0 nothing found, 1 something found, 2 wrong usage
"""
_SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__"})


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    check = commands.add_parser(
        "check",
        help="check the format, the hashes and the secrets of stores and notebooks",
        description="Check that recordings are readable and unchanged, and that nothing contains a secret.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("paths", nargs="*", metavar="STORE|NOTEBOOK")
    check.add_argument("--fix", action="store_true", help="remove the secrets that are found")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.set_defaults(do=_check)


def _check(given: argparse.Namespace) -> int:
    targets = _Targets(given.paths)
    progress = _Progress(given.json)
    found, counts = targets.audit(progress)
    if given.fix and any(finding.kind == "secret" for finding in found):
        reasons = targets.fix(found)
        left, counts = targets.audit(progress)
        found = _compared(found, left, reasons)
    progress.end()
    left = [finding for finding in found if not finding.fixed and not finding.is_note]
    if given.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        _print(found, counts)
    return 1 if left else 0


def _print(found: Sequence[Finding], counts: Counter[str]) -> None:
    from nbreplay.notebook.escape import plain

    for finding in found:
        kind = "note" if finding.is_note else f"fixed {finding.kind}" if finding.fixed else finding.kind
        print(plain(f"{finding.file}:{finding.line}: {kind}: {finding.message}"))
    looked = [_counted(count, what) for what, count in counts.items() if count] or ["0 files"]
    fixed = sum(finding.fixed for finding in found)
    left = [finding for finding in found if not finding.fixed and not finding.is_note]
    files = len({finding.file for finding in left})
    result = f"{_counted(len(left), 'finding')} in {_counted(files, 'file')}" if left else "nothing found"
    if fixed:
        result = f"{_counted(fixed, 'secret')} removed, {result if left else 'nothing left'}"
    print(f"checked {', '.join(looked[:-1])}{' and ' if len(looked) > 1 else ''}{looked[-1]}: {result}")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _compared(before: Sequence[Finding], after: Sequence[Finding], reasons: dict[str, str]) -> list[Finding]:
    """Return what was found before a fix and what is left after it, the former marked where it is gone."""
    left = Counter(_identity(finding) for finding in after)
    made = []
    for finding in before:
        if left[_identity(finding)]:
            left[_identity(finding)] -= 1
        elif finding.kind == "secret":
            made.append(replace(finding, fixed=True))
    for finding in after:
        reason = reasons.get(finding.file) if finding.kind == "secret" else None
        made.append(replace(finding, message=f"{finding.message}. Not fixed: {reason}") if reason else finding)
    return made


def _identity(finding: Finding) -> tuple[str, ...]:
    return finding.file, finding.rule, finding.message


class _Progress:
    """Says how many files have been checked, where somebody watches."""

    def __init__(self, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()
        self._number = 0

    def __call__(self) -> None:
        self._number += 1
        if self._shown and self._number % 100 == 0:
            print(f"\r\x1b[Kchecked {self._number:,}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class _Targets:
    """The stores and notebooks to check.

    Attributes
    ----------
    stores : dict of str to (Store, set of str or None)
        By the folder; with the files to check, else all of them.
    notebooks : dict of Path to None
    """

    def __init__(self, given: Sequence[str]) -> None:
        self.stores: dict[str, tuple[Store, set[str] | None]] = {}
        self.notebooks: dict[Path, None] = {}
        for path in given:
            self._add(path)
        if not given:
            self._add_defaults()

    def _add_defaults(self) -> None:
        store = default_store()
        if is_archive(store) or Path(store).exists():
            here = Path.cwd()
            inside = not is_archive(store) and Path(store).is_relative_to(here)
            self._add_store(os.fspath(Path(store).relative_to(here) if inside else store), None)
        for folder, files in _walk("."):
            self._add_notebooks(Path(folder), files)
        if not self.stores and not self.notebooks:
            raise OptionError(f"there is no store {store} and no notebook below the working directory. Name one")

    def _add_store(self, path: str, name: str | None) -> None:
        store = Store(path)
        known = self.stores.get(store.identity)
        only = (
            None
            if name is None or (known is not None and known[1] is None)
            else {name, *(known[1] or () if known else ())}
        )
        self.stores[store.identity] = (known[0] if known else store), only

    def _add_notebooks(self, folder: Path, files: Sequence[str]) -> None:
        self.notebooks.update(dict.fromkeys(folder / name for name in files if name.endswith(".ipynb")))

    def _add(self, given: str) -> None:
        path = Path(given)
        if is_archive(given):
            self._add_store(given, None)
        elif path.is_dir():
            self._add_folder(path)
        elif not path.exists():
            raise OptionError(f"there is no store and no notebook {given}. Name a folder, a .zip or a file")
        elif path.suffix == ".ipynb":
            self.notebooks[path] = None
        elif path.suffix == ".json" or BLOB.fullmatch(path.name):
            self._add_store(str(path.parent), path.name)
        else:
            raise OptionError(f"{given} is not a recording and not a notebook. Name a store, a .json or an .ipynb file")

    def _add_folder(self, path: Path) -> None:
        before = len(self.stores), len(self.notebooks)
        for folder, files in _walk(path):
            if any(RECORDING.fullmatch(name) or BLOB.fullmatch(name) for name in files):
                self._add_store(folder, None)
            self._add_notebooks(Path(folder), files)
        if before == (len(self.stores), len(self.notebooks)):
            if any(name != PRIVATE for name in os.listdir(path)):
                remedy = "If they are recordings of another tool, read them with nbreplay import"
                raise OptionError(
                    f"{path} is not a store: it has neither recordings of nbreplay nor notebooks. {remedy}"
                )
            self._add_store(str(path), None)

    def audit(self, progress: _Progress) -> tuple[list[Finding], Counter[str]]:
        """Return all that is found, and how many files of each kind were looked at."""
        found: list[Finding] = []
        counts = Counter(dict.fromkeys(("recording", "blob", "notebook"), 0))
        for store, only in self.stores.values():
            made = audit(store, only, progress)
            found += made.findings
            counts.update(recording=made.recordings, blob=made.blobs)
        if self.notebooks:
            from nbreplay.testing.notebook_secrets import audit_notebook

            for path in self.notebooks:
                found += audit_notebook(path, str(path))
                counts.update(notebook=1)
                progress()
        return found, counts

    def fix(self, found: Sequence[Finding]) -> dict[str, str]:
        """Remove the secrets that were found; return for each file that was left the reason."""
        secret = {finding.file for finding in found if finding.kind == "secret"}
        reasons: dict[str, str] = {}
        for root, (store, only) in list(self.stores.items()):
            names = {os.path.basename(file) for file in secret if os.path.dirname(file) == store.shown.rstrip(os.sep)}
            if store.archive:
                reasons |= {
                    os.path.join(store.shown, name): f"unzip {store.shown} and check the folder" for name in names
                }
                continue
            if not names:
                continue
            done = clean_store(store, names)
            reasons |= {os.path.join(store.shown, name): reason for name, reason in done.failures.items()}
            if only is not None:
                self.stores[root] = store, {done.files.get(name, name) for name in only} - {""}
        for path in self.notebooks:
            if str(path) in secret:
                reasons |= _fix_notebook(path)
        return reasons


def _fix_notebook(path: Path) -> dict[str, str]:
    from nbreplay.testing.notebook_secrets import clean_notebook

    try:
        clean_notebook(path)
    except NbreplayError as error:
        return {str(path): str(error)}
    return {str(path): "only outputs, widgets and metadata are changed. Edit the cell by hand"}


def _walk(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders below one with their files, without those of tools and environments."""
    for place, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        yield (os.path.normpath(place), sorted(files))
