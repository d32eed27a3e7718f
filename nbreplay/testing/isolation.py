"""Copies of the folder of a notebook: what runs there leaves nothing behind, and finds nothing of another run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nbreplay.core.config import default_store, is_url, project
from nbreplay.core.store.files import PRIVATE
from nbreplay.errors import NbreplayError

_LINKED = frozenset({".git", ".hg", ".tox", ".venv", "node_modules", "venv"})
"""What a notebook reads at most, and is large: the copy has a link to it."""
_LARGE = 50_000_000  # bytes; a larger file is linked, too: data, which notebooks read
_LEFT_OUT = frozenset({".ipynb_checkpoints", "__pycache__"})
_WRITTEN = (".cfg", ".md", ".py", ".rst", ".toml", ".txt", ".yaml", ".yml")
"""The ends of names of files that people write."""
_OWN = frozenset({".github", "pyproject.toml"})
"""What ``nbreplay adopt`` writes, which is not committed at first."""
_SECRETS = frozenset({".env", ".env.local", ".envrc"})
"""Files with keys, which a clone of the project lacks, too."""


class Copy(NamedTuple):
    """A copy of a notebook in a copy of its folder, which is below `root`."""

    original: Path
    path: Path
    root: Path

    def owns(self, path: str) -> bool:
        """Return whether a file or folder is in the copy, and not in the project that links in it lead to."""
        return self.root in Path(path).resolve().parents

    def origin(self, path: str) -> str:
        """Return the path in the project that a path in the copy stands for; any other path as it is."""
        if self.root not in Path(path).parents:
            return path
        return os.path.abspath(self.original.parent / os.path.relpath(path, self.path.parent))


@contextlib.contextmanager
def open_copy(path: Path) -> Iterator[Copy]:
    """Copy the folder of a notebook to a temporary place."""
    with tempfile.TemporaryDirectory(prefix="nbreplay-", ignore_cleanup_errors=True) as folder:
        root = Path(folder).resolve()
        yield Copy(path, copy_folder(path.parent, root) / path.name, root)


def copy_folder(folder: Path, into: Path, *, secrets: bool = True) -> Path:
    """Copy a folder, with all that is in it, below an empty folder. Return the copy.

    What is beside and above it in its project is there as links, so that ``../data`` and pyproject.toml are found.
    Without `secrets`, ``.env`` and what git ignores are left out, as in a clone. Raise `NbreplayError` if it cannot be
    copied.
    """
    folder = folder.resolve()
    names = _LEFT_OUT if secrets else _LEFT_OUT | _SECRETS
    try:
        return _copy_folder(folder, into, names if secrets else {*names, *find_ignored(folder)})
    except OSError as error:
        raise NbreplayError(
            f"Cannot copy {folder} to {into}: {error.strerror or error}. Free the disk, or set TMPDIR"
        ) from error


def _copy_folder(folder: Path, into: Path, left_out: Collection[str]) -> Path:
    root = project_root(folder)
    source, target = root, into / (root.name or "root")
    target.mkdir()
    for step in folder.relative_to(root).parts:
        for entry in list(os.scandir(source)):  # which closes it, whatever happens
            if entry.name != step and entry.name not in left_out:
                with contextlib.suppress(OSError):
                    os.symlink(entry.path, target / entry.name)
        source, target = source / step, target / step
        target.mkdir()
    store = default_store(folder)
    linked = set() if is_url(store) else {os.path.abspath(folder / store)}
    _copy_entries(folder, target, left_out, linked)
    return target


def project_root(folder: Path) -> Path:
    """Return the folder of the repository or of the pyproject.toml, whichever is above, else the folder's parent."""
    repository = find_repository(folder)
    settings = project(folder).file
    roots = [root for root in (repository, settings and settings.parent) if root is not None]
    return min(roots, key=lambda root: len(root.parts), default=folder.parent)


def find_repository(folder: Path) -> Path | None:
    """Return the folder of the git repository that a folder is in."""
    return next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)


def _copy_entries(source: Path, target: Path, left_out: Collection[str], linked: Collection[str]) -> None:
    for entry in list(os.scandir(source)):  # which closes it, whatever happens
        if entry.name in left_out:
            continue
        copy = target / entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if (
            entry.name in _LINKED
            or entry.path in linked
            or (is_folder and not os.access(entry.path, os.R_OK | os.X_OK))
        ):
            os.symlink(entry.path, copy)
        elif entry.path in left_out:
            continue
        elif is_folder:
            copy.mkdir()
            _copy_entries(Path(entry.path), copy, left_out, linked)
        elif entry.is_file() and entry.stat().st_size <= _LARGE and os.access(entry.path, os.R_OK):
            shutil.copy2(entry.path, copy)  # also what a link leads to, so that nothing is written through it
        elif entry.is_file() or entry.is_symlink():  # no pipes or sockets, which block
            # A link that leads out of the folder would lead elsewhere from the copy.
            os.symlink(os.path.realpath(entry.path), copy)


def find_ignored(folder: Path) -> list[str]:
    """Return the files and folders in a folder that git ignores, as absolute paths; none without git.

    Those that any copy leaves out, or has a link to, do not count.
    """
    command = ["git", "-C", str(folder), "ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"]
    try:
        found = _output(command)
    except (OSError, subprocess.CalledProcessError):
        return []
    paths = [folder / name.rstrip("/") for name in found.split("\0") if name]
    return [str(path) for path in paths if path.name not in _LEFT_OUT | _LINKED | _SECRETS | {PRIVATE}]


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the date of each file in a copied folder, by its path there."""
    found: dict[str, tuple[int, int]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT | _LINKED]
        for name in names:
            with contextlib.suppress(OSError):
                state = os.lstat(os.path.join(place, name))
                found[os.path.relpath(os.path.join(place, name), folder)] = (state.st_size, state.st_mtime_ns)
    return found


def find_left_files(folder: Path, names: Collection[str], since: float) -> list[str]:
    """Return what an earlier run seems to have left in the folder of a notebook, such as a database or a cache.

    These are files and folders among `names`, those that were there before the run, which have changed `since` the
    notebook was recorded. Git does not track them; without git, they are not of a kind that people write. A folder that
    contains a tracked file or a notebook is never among them.
    """
    git = ["git", "-C", str(folder)]
    try:
        prefix = _output([*git, "rev-parse", "--show-prefix"]).rstrip("\r\n")
        lines = _output([*git, "status", "--porcelain", "--ignored", "-z", "--", "."]).split("\0")
        paths = [line[3:].removeprefix(prefix) for line in lines if line[:2] in ("??", "!!")]
        found = {path.rstrip("/") for path in paths if "/" not in path.rstrip("/")}
    except (OSError, subprocess.CalledProcessError):
        found = {name for name in names if not name.endswith(_WRITTEN)}
    own = _LEFT_OUT | _LINKED | _SECRETS | _OWN | {os.path.basename(default_store(folder))}
    left = []
    for name in sorted(found.intersection(names) - own):
        with contextlib.suppress(OSError):
            path = folder / name
            is_empty = path.is_dir() and not os.listdir(path)
            has_notebook = name.endswith(".ipynb") or any(path.rglob("*.ipynb"))
            if not is_empty and not has_notebook and os.lstat(path).st_mtime >= since:
                left.append(name)
    return left


def _output(command: Sequence[str]) -> str:
    """Return what git prints, with names of files as `os.listdir` has them: it writes UTF-8 on Windows, too."""
    output = subprocess.run(command, capture_output=True, check=True).stdout
    return output.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
