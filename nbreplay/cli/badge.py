"""Badges: lines for a README that open a recorded notebook where a reader can run it, and ``nbreplay badge``."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from urllib.parse import quote

import msgspec

from nbreplay.cli.output import HEADING, print_json, print_text
from nbreplay.core.config import default_store, project
from nbreplay.errors import NbreplayError, OptionError

PAGES = "https://OWNER.github.io/REPO"
"""Where GitHub Pages serves a repository; the reader fills in owner and name."""

_LITE_PICTURE = "https://jupyterlite.rtfd.io/en/latest/_static/badge.svg"
_COLAB_PICTURE = "https://colab.research.google.com/assets/colab-badge.svg"
_BINDER_PICTURE = "https://mybinder.org/badge_logo.svg"
_NAME = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]+"
_REPOSITORY = re.compile(rf"{_NAME}/{_NAME}")
# What comes before the host may be a name and a password, which no badge repeats.
_REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^/@]*@)?|[^/@:]+@)"
    rf"(?P<host>[a-z0-9.-]+)(?::\d+/|[/:])(?P<name>{_NAME}(?:/{_NAME})+)/?"
)
_BINDER_FILES = ("binder", ".binder", "requirements.txt", "environment.yml", "pyproject.toml", "setup.py", "Dockerfile")

_EPILOG = """\
The repository and its branch are those of git: its remote called origin, and the branch that is checked out. Nothing is
asked over the network. Notes say which files a badge needs, and what is not known.

examples:
  $ nbreplay badge notebooks/a.ipynb                     print its badges
  $ nbreplay badge a.ipynb --repo OWNER/REPO             without git
  $ nbreplay badge a.ipynb --format html >> README.html  write HTML

exit status: 0 fine, 1 the notebook is not there, 2 wrong usage
"""


def format_badge(text: str, picture: str, address: str) -> str:
    """Return the Markdown of a picture that leads to an address."""
    return f"[![{text}]({picture})]({address})"


def _format_html(text: str, picture: str, address: str) -> str:
    return f'<a href="{escape(address)}"><img src="{escape(picture)}" alt="{escape(text)}"></a>'


def _format_rst(text: str, picture: str, address: str) -> str:
    return f".. image:: {picture}\n   :target: {address}\n   :alt: {text}\n"


_FORMATS: Mapping[str, Callable[[str, str, str], str]] = {
    "markdown": format_badge,
    "html": _format_html,
    "rst": _format_rst,
}


def format_browser_badge(
    notebook: str, site: str | None = None, formatted: Callable[[str, str, str], str] = format_badge
) -> str:
    """Return the badge of a notebook on a site of ``nbreplay lite``.

    Parameters
    ----------
    notebook : str
        Its path on the site.
    site : str, optional
        The address of the site.
    formatted : callable, optional
        Returns the badge of a text, a picture and an address.
    """
    address = f"{(site or PAGES).rstrip('/')}/lab/index.html?path={quote(notebook)}"
    return formatted("Run it in your browser", _LITE_PICTURE, address)


class Repository(msgspec.Struct, frozen=True):
    """Where a notebook is published, as far as that is known."""

    root: Path  # the folder of the clone, or the one that paths are relative to
    host: str = "github.com"
    name: str = "OWNER/REPO"
    branch: str = "main"
    notes: tuple[str, ...] = ()


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    badge = commands.add_parser(
        "badge",
        description="Print the badges that open a notebook on Colab, on Binder and in the reader's browser. With them "
        "comes the first cell that Colab needs to find the recordings.",
        epilog=_EPILOG,
    )
    badge.add_argument("notebook", type=Path, metavar="NOTEBOOK", help="a notebook")
    badge.add_argument("--repo", metavar="OWNER/REPO", help="the repository on GitHub (default: git's remote origin)")
    badge.add_argument("--branch", help="the branch that Colab opens (default: the one that is checked out)")
    site = "the address of a site of nbreplay lite (default: the repository's GitHub Pages)"
    badge.add_argument("--site", metavar="URL", help=site)
    form = "how to write them (default: markdown)"
    badge.add_argument("--format", choices=list(_FORMATS), default="markdown", help=form)
    badge.add_argument("--json", action="store_true", help="print JSON")
    badge.set_defaults(do=_badge)


def _badge(arguments: argparse.Namespace) -> int:
    notebook = Path(os.path.abspath(arguments.notebook))
    if notebook.suffix != ".ipynb":
        raise OptionError(f"{arguments.notebook} is not a notebook. Pass the path of an .ipynb file")
    if not notebook.is_file():
        raise NbreplayError(f"{arguments.notebook} does not exist. Pass the path of a notebook")
    if arguments.repo is not None and not _REPOSITORY.fullmatch(arguments.repo):
        raise OptionError(f"--repo {arguments.repo} is not the name of a repository. Write OWNER/REPO")
    if arguments.site is not None and not arguments.site.startswith(("http://", "https://")):
        raise OptionError(f"--site {arguments.site} is not an address. Write https://OWNER.github.io/REPO")
    repository = find_repository(notebook, arguments.repo, arguments.branch)
    store, notes = _store_of(notebook, repository.root)
    badges = dict(_badges(notebook, repository, arguments.site, _FORMATS[arguments.format]))
    cell = _first_cell(repository, store)
    notes = [*repository.notes, *notes, *_missing_files(repository, badges, arguments.site)]
    if arguments.json:
        print_json({"badges": badges, "first_cell": cell, "notes": notes})
        return 0
    for badge in badges.values():
        print(badge)  # as it is, since it is copied
    if cell:
        print_text("\n", ("The first cell on Colab, which gets the recordings:", HEADING))
        print(cell)
    for place, note in enumerate(notes):
        print_text("\n" * (place == 0), f"note: {note}", hang=2)
    return 0


def find_repository(notebook: Path, name: str | None, branch: str | None) -> Repository:
    """Return the repository of a notebook, by name or else as git knows it; what is not known has a note."""
    notes = []
    root = next((folder for folder in notebook.parents if (folder / ".git").exists()), None)
    host = "github.com"
    if name is None:
        found = _REMOTE.fullmatch(_ask_git(notebook.parent, "remote", "get-url", "origin") if root else "")
        if found:
            host, name = found["host"], found["name"].removesuffix(".git")
        else:
            notes.append("git has no remote called origin with a known address. Pass --repo OWNER/REPO")
    if branch is None:
        branch = _ask_git(notebook.parent, "branch", "--show-current") if root else ""
        if not branch:
            notes.append("the branch is not known, and taken to be main. Pass --branch for another one")
    if root is None:
        root = project(notebook.parent).file
        root = root.parent if root else Path(os.path.commonpath([notebook.parent, _store_folder(notebook).parent]))
        notes.append(f"{root} is taken to be the folder of the repository, since no folder above the notebook has .git")
    return Repository(root, host, name or "OWNER/REPO", branch or "main", tuple(notes))


def _ask_git(folder: Path, *command: str) -> str:
    """Return the line that git prints; ``""`` if there is none, or no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *command], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    line = done.stdout.strip()
    return line if done.returncode == 0 and line.isprintable() else ""


def _store_folder(notebook: Path) -> Path:
    """Return the folder of a notebook's store; of a store at an address, the folder of the notebook."""
    store = default_store(notebook.parent, project(notebook.parent))
    return Path(os.path.abspath(store)) if isinstance(store, Path) else notebook.parent / "recordings"


def _store_of(notebook: Path, root: Path) -> tuple[str, list[str]]:
    """Return the path of the store in the repository, ``""`` if it has none, and why."""
    store = _store_folder(notebook)
    if not store.is_dir():
        return "", [f"{store} does not have recordings yet. Record them, and commit them"]
    if not store.is_relative_to(root):
        return "", [f"the recordings in {store} are not in the repository. Keep them below {root}"]
    return store.relative_to(root).as_posix(), []


def _badges(
    notebook: Path,
    repository: Repository,
    site: str | None,
    formatted: Callable[[str, str, str], str],
) -> Iterator[tuple[str, str]]:
    path = quote(notebook.relative_to(repository.root).as_posix())
    name, branch = repository.name, quote(repository.branch)
    if repository.host == "github.com":
        colab = f"https://colab.research.google.com/github/{name}/blob/{branch}/{path}"
        yield "colab", formatted("Open in Colab", _COLAB_PICTURE, colab)
    if repository.host in ("github.com", "gitlab.com"):
        place = f"gh/{name}" if repository.host == "github.com" else f"gl/{quote(name, safe='')}"
        binder = f"https://mybinder.org/v2/{place}/HEAD?urlpath=lab/tree/{path}"
        yield "binder", formatted("Open in Binder", _BINDER_PICTURE, binder)
    if repository.host == "github.com" or site:
        owner, _, short = name.partition("/")
        pages = f"https://{owner.lower() if owner != 'OWNER' else owner}.github.io/{short}"
        yield "browser", format_browser_badge(_place_on_site(notebook), site or pages, formatted)


def _place_on_site(notebook: Path) -> str:
    """Return the path that ``nbreplay lite`` gives a notebook."""
    file, above = project(notebook.parent).file, _store_folder(notebook).parent
    root = file.parent if file else above if notebook.is_relative_to(above) else notebook.parent
    return notebook.relative_to(root).as_posix()


def _first_cell(repository: Repository, store: str) -> str | None:
    if not store or repository.host != "github.com":
        return None
    # Other folders of the repository may have recordings, too; "." is its root.
    archive = f"https://github.com/{repository.name}/archive/HEAD.zip#{quote(store)}"
    return f"%pip install nbreplay\n%load_ext nbreplay\n%replay on {archive}"


def _missing_files(repository: Repository, badges: Mapping[str, str], site: str | None) -> Iterator[str]:
    if "colab" not in badges:
        yield f"Colab opens notebooks of GitHub only, and this repository is on {repository.host}"
    if "binder" not in badges:
        yield f"Binder has no short address for repositories on {repository.host}"
    elif not any((repository.root / name).exists() for name in _BINDER_FILES):
        yield "Binder installs what binder/requirements.txt names. Add that file, with nbreplay in it"
    if "browser" not in badges:
        yield "the address of a site of nbreplay lite is not known. Pass --site URL"
    elif site is None:
        yield "the browser badge needs the site of nbreplay lite there. Pass --site for another address"
