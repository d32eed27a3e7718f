"""``nbreplay lite``: a static site on which notebooks replay in the reader's browser."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nbreplay.cli.badge import format_browser_badge
from nbreplay.cli.notebooks import add_notebooks_argument
from nbreplay.cli.output import GOOD, HEADING, NAME, is_watched, make_progress, print_json, print_text
from nbreplay.core.words import count_of
from nbreplay.errors import OptionError

if TYPE_CHECKING:
    from nbreplay.lite.site import Site

_EPILOG = """\
The site has the notebooks, their recordings, the files beside them that they name, nbreplay and the packages that they
import. It works on GitHub Pages and any other server of files, below any path. Nothing with a secret is published.
Wheels are downloaded with pip, and the core of Pyodide with npm, as they are configured here.

examples:
  $ nbreplay lite notebooks/ --output site         make a site
  $ python -m http.server -d site                  look at it
  $ nbreplay lite a.ipynb --output site --offline  use no other address

exit status: 0 fine, 1 a secret was found, or the site cannot be built, 2 wrong usage
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of the command line."""
    lite = commands.add_parser(
        "lite",
        description=(
            "Make a static site on which recorded notebooks run in the reader's browser, without a key and without a "
            "server of Jupyter's (JupyterLite). It needs pip install 'nbreplay[lite]'."
        ),
        epilog=_EPILOG,
    )
    add_notebooks_argument(lite)
    output = "the folder of the site: a new one, or a site that is made again"
    lite.add_argument("--output", type=Path, required=True, metavar="SITE", help=output)
    offline = "a site that names no other address; packages that only Pyodide's server has are left out"
    lite.add_argument("--offline", action="store_true", help=offline)
    pyodide = "a distribution of Pyodide, as a folder or an archive (default: the core, from npm)"
    lite.add_argument("--pyodide", metavar="PATH", help=pyodide)
    lite.add_argument("--url", help="where the site will be, for the badge (default: a place to fill in)")
    lite.add_argument("--json", action="store_true", help="print JSON")
    lite.set_defaults(do=_lite)


def _lite(arguments: argparse.Namespace) -> int:
    from nbreplay.lite.contents import Contents
    from nbreplay.lite.site import build_site, require_empty_or_site, require_tools
    from nbreplay.testing.runner import find_notebooks

    if arguments.url is not None and not arguments.url.startswith(("http://", "https://")):
        raise OptionError(f"--url {arguments.url} is not an address. Write https://OWNER.github.io/REPO")
    notebooks = find_notebooks(arguments.notebooks)
    require_empty_or_site(arguments.output)
    require_tools()
    contents = Contents([path for path in notebooks if not path.resolve().is_relative_to(arguments.output.resolve())])
    with _progress(arguments.json) as progress:
        site = build_site(
            contents, arguments.output, offline=arguments.offline, pyodide=arguments.pyodide, progress=progress
        )
    badge = format_browser_badge(site.notebooks[0], arguments.url)
    if arguments.json:
        fields = {name: getattr(site, name) for name in ("notebooks", "files", "recordings", "size", "notes")}
        print_json({"site": str(site.folder), **fields, "badge": badge})
    else:
        _print(site, badge)
    return 0


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], object]]:
    """Show on a terminal what is being done."""
    if not is_watched(quiet):
        yield str
        return
    from rich.progress import SpinnerColumn

    with make_progress(SpinnerColumn(), "{task.description}") as bar:
        task = bar.add_task("")
        yield lambda text: bar.update(task, description=text)


def _print(site: Site, badge: str) -> None:
    count = f"{count_of(len(site.notebooks), 'notebook')}, {count_of(site.recordings, 'recording')}"
    size = f"{site.size / 1_000_000:,.0f} MB"
    print_text((str(site.folder), HEADING), ": ", ("made", GOOD), f", {count}, {size}", hang=2)
    for place in (*site.notebooks, *site.files):
        print_text((place, NAME), indent=2)
    for note in site.notes:
        print_text(f"note: {note}", hang=2)
    print_text("Look at it: ", (f"python -m http.server -d {site.folder}", NAME), ", then http://localhost:8000")
    print_text("Badge for a README:")
    print(badge)  # as it is, since it is copied
