"""``nbreplay check``: checks that stores and notebooks are readable and unchanged, and that none contains a secret."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import asdict, replace

from nbreplay.cli.output import BAD, GOOD, NAME, is_watched, make_progress, print_json, print_text
from nbreplay.core.audit.audit import Finding, audit
from nbreplay.core.audit.cleaning import clean_store
from nbreplay.core.config import default_store
from nbreplay.core.store.archive import is_archive
from nbreplay.core.store.files import BLOB, PRIVATE, is_member
from nbreplay.core.store.store import Store
from nbreplay.core.words import count_of
from nbreplay.errors import OptionError
from nbreplay.testing.notebook_secrets import audit_notebook, clean_notebook

_EPILOG = """\
Without arguments the store of the working directory and the notebooks below it are checked. A store is a folder or a
.zip; of a folder, every store and notebook below it is checked. Files are named one by one, too, as pre-commit does.

example:
  $ nbreplay check recordings chat.ipynb
  recordings/chat-3f2a9c81d04be77a.json:8: secret: sk-key: sk-p… (51 characters)
  chat.ipynb:31: secret: sk-key in an output of cell 2: sk-p… (51 characters)
  checked 12 recordings and 1 notebook: 2 findings in 2 files
  $ nbreplay check --fix recordings chat.ipynb

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
        description="Check that recordings are readable and unchanged, and that nothing contains a secret.",
        epilog=_EPILOG,
    )
    check.add_argument("paths", nargs="*", metavar="STORE|NOTEBOOK", help="what to check (default: all that is here)")
    check.add_argument("--fix", action="store_true", help="remove the secrets that are found")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.set_defaults(do=_check)


def _check(arguments: argparse.Namespace) -> int:
    targets = _Targets(arguments.paths)
    with _progress(arguments.json) as progress:
        findings, counts = targets.audit(progress)
        if arguments.fix and any(finding.kind == "secret" for finding in findings):
            reasons = targets.fix(findings)
            remaining, counts = targets.audit(progress)
            findings = _after_fix(findings, remaining, reasons)
    failing = [finding.file for finding in findings if not finding.fixed and not finding.is_note]
    if arguments.json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings, counts, failing)
    return 1 if failing else 0


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[], object]]:
    """Count the checked files on a terminal."""
    if not is_watched(quiet):
        yield lambda: None
        return
    with make_progress("checked {task.completed:,}") as bar:
        task = bar.add_task("")
        yield lambda: bar.advance(task)


def _print(findings: Sequence[Finding], counts: Counter[str], failing: Sequence[str]) -> None:
    for finding in findings:
        kind = "note" if finding.is_note else f"fixed {finding.kind}" if finding.fixed else finding.kind
        style = "" if finding.is_note else GOOD if finding.fixed else BAD
        print_text((f"{finding.file}:{finding.line}", NAME), ": ", (kind, style), f": {finding.message}", hang=2)
    *most, last = [count_of(count, noun) for noun, count in counts.items() if count] or ["0 files"]
    checked = f"{', '.join(most)} and {last}" if most else last
    result = (
        f"{count_of(len(failing), 'finding')} in {count_of(len(set(failing)), 'file')}" if failing else "nothing found"
    )
    if fixed := sum(finding.fixed for finding in findings):
        result = f"{count_of(fixed, 'secret')} removed, {result if failing else 'nothing left'}"
    print_text(f"checked {checked}: ", (result, BAD if failing else GOOD))


def _after_fix(before: Sequence[Finding], after: Sequence[Finding], reasons: dict[str, str]) -> list[Finding]:
    """Return the findings before a fix that are gone, marked as fixed, and those that are left, with the reason."""
    left = Counter((finding.file, finding.message) for finding in after)
    findings = []
    for finding in before:
        left[finding.file, finding.message] -= 1
        if finding.kind == "secret" and left[finding.file, finding.message] < 0:
            findings.append(replace(finding, fixed=True))
    for finding in after:
        reason = reasons.get(finding.file) if finding.kind == "secret" else None
        findings.append(replace(finding, message=f"{finding.message}. Not fixed: {reason}") if reason else finding)
    return findings


class _Targets:
    """The stores and notebooks to check."""

    def __init__(self, paths: Sequence[str]) -> None:
        # By the folder; with the names of the files to check, else all of them.
        self.stores: dict[str, tuple[Store, set[str] | None]] = {}
        self.notebooks: dict[Path, None] = {}
        for path in paths:
            self._add(path)
        if not paths:
            self._add_defaults()

    def _add_defaults(self) -> None:
        store = default_store()
        if is_archive(store) or Path(store).exists():
            inside = not is_archive(store) and Path(store).is_relative_to(Path.cwd())
            self._add_store(os.path.relpath(store) if inside else os.fspath(store))
        self._add_folder(Path("."), stores=False)
        if not self.stores and not self.notebooks:
            raise OptionError(
                f"no store and no notebook was found below the working directory, and {store} does not exist. Name one"
            )

    def _add(self, text: str) -> None:
        path = Path(text)
        if is_archive(text):
            self._add_store(text)
        elif path.is_dir():
            before = len(self.stores), len(self.notebooks)
            self._add_folder(path)
            if before == (len(self.stores), len(self.notebooks)):
                if any(name != PRIVATE for name in os.listdir(path)):
                    remedy = "If they are recordings of another tool, read them with nbreplay import"
                    raise OptionError(f"{path} is not a store: no recordings of nbreplay and no notebooks. {remedy}")
                self._add_store(str(path))
        elif not path.exists():
            raise OptionError(f"{text} does not exist. Name a store (a folder or a .zip) or a notebook")
        elif path.suffix == ".ipynb":
            self.notebooks[path] = None
        elif path.suffix == ".json" or BLOB.fullmatch(path.name):
            self._add_store(str(path.parent), path.name)
        else:
            raise OptionError(f"{text} is not a recording and not a notebook. Name a store, a .json or an .ipynb file")

    def _add_store(self, path: str, name: str | None = None) -> None:
        store = Store(path)
        first, names = self.stores.get(store.identity, (store, set[str]()))
        self.stores[store.identity] = first, None if name is None or names is None else {name, *names}

    def _add_folder(self, path: Path, *, stores: bool = True) -> None:
        """Add the notebooks below a folder, and the stores."""
        for folder, folders, files in os.walk(path):
            if "pyvenv.cfg" in files:
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
            folder = os.path.normpath(folder)
            if stores and any(map(is_member, files)):
                self._add_store(folder)
            self.notebooks |= {Path(folder, name): None for name in sorted(files) if name.endswith(".ipynb")}

    def audit(self, progress: Callable[[], object]) -> tuple[list[Finding], Counter[str]]:
        """Return all findings, and the number of files of each kind that were checked."""
        findings: list[Finding] = []
        counts = Counter(recording=0, blob=0, notebook=len(self.notebooks))
        for store, only in self.stores.values():
            new, recordings, blobs = audit(store, only, progress)
            findings += new
            counts.update(recording=recordings, blob=blobs)
        for path in self.notebooks:
            findings += audit_notebook(path, str(path))
            progress()
        return findings, counts

    def fix(self, findings: Sequence[Finding]) -> dict[str, str]:
        """Remove the secrets; return for each file that was left the reason."""
        files = {finding.file for finding in findings if finding.kind == "secret"}
        reasons: dict[str, str] = {}
        for root, (store, only) in list(self.stores.items()):
            names = {os.path.basename(file) for file in files if os.path.dirname(file) == store.shown.rstrip(os.sep)}
            failures = dict.fromkeys(names, f"unzip {store.shown} and check the folder")
            if names and not store.archive:
                renamed, failures = clean_store(store, names)
                if only is not None:
                    self.stores[root] = store, {renamed.get(name, name) for name in only} - {""}
            reasons |= {os.path.join(store.shown, name): reason for name, reason in failures.items()}
        for path in self.notebooks:
            if str(path) in files:
                reasons[str(path)] = clean_notebook(path)
        return reasons
