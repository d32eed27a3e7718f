"""``python -m docs`` builds the site into ``docs/_build/html``, without a network; ``--serve`` shows it.

``--lite`` adds a copy of the notebooks that runs in the reader's browser. What that needs is downloaded.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
HTML = DOCS / "_build" / "html"


def main() -> int:
    """Build the site; return the status of Sphinx."""
    parser = argparse.ArgumentParser(prog="python -m docs", description="Build the documentation site.")
    parser.add_argument("--output", type=Path, default=HTML, metavar="FOLDER", help="where to (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="read every page again")
    lite = "also build the notebooks for the reader's browser, and link to them; it needs '.[lite]' and a network"
    parser.add_argument("--lite", action="store_true", help=lite)
    parser.add_argument("--serve", action="store_true", help="show the site at http://127.0.0.1:8000 after it is built")
    options = parser.parse_args()
    cache = options.output.parent / "doctrees"
    flags = [
        "-W",
        "--keep-going",
        "-q",
        *(["-E", "-a"] if options.fresh else []),
        *(["-t", "lite"] if options.lite else []),
    ]
    status = subprocess.call([sys.executable, "-m", "sphinx", *flags, "-d", cache, DOCS, options.output])
    if status == 0 and options.lite:
        from docs.conf import IN_BROWSER

        notebooks = [str(DOCS.parent / "notebooks" / f"{name}.ipynb") for name in IN_BROWSER]
        lite = options.output / "lite"
        status = subprocess.call([sys.executable, "-m", "nbreplay", "lite", *notebooks, "--output", lite])
    if status == 0:
        print(options.output / "index.html")
        if options.serve:
            handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=options.output)
            http.server.ThreadingHTTPServer(("127.0.0.1", 8000), handler).serve_forever()
    return status


if __name__ == "__main__":
    sys.exit(main())
