"""How the site is built: ``python -m docs``, or ``sphinx-build docs FOLDER``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from docs import commands  # noqa: E402
from nbreplay import __version__  # noqa: E402

IN_BROWSER = ("01_quickstart", "02_streams_and_tools", "03_analysis")
"""The notebooks that a reader may run in JupyterLite: 05 and 06 start processes, and 04 and 07 were not tried there."""

REPOSITORY = os.environ.get("GITHUB_REPOSITORY", "OWNER/REPO")

project = "nbreplay"
author = "the nbreplay developers"
copyright = author  # noqa: A001
version = release = __version__
extensions = [
    "myst_nb",
    "nbreplay.sphinx",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "notebooks/README.md"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures; links in pages are checked

# Notebooks
nb_execution_mode = "off"  # nbreplay.sphinx executes them
nb_merge_streams = True
nbreplay_folders = {"notebooks": "../notebooks"}

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type", "toc.empty_glob"]

# API
autodoc_typehints = "none"
default_role = "py:obj"
autosummary_generate = True
autosummary_filename_map = {  # some systems do not tell nbreplay.session from nbreplay.Session
    "nbreplay.Session": "nbreplay.Session-class",
    "nbreplay.Transport": "nbreplay.Transport-class",
}
numpydoc_show_class_members = False  # the page of a class has each in full
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Looks
html_theme = "pydata_sphinx_theme"
html_title = "nbreplay"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = html_logo = "_static/logo.svg"
html_theme_options = {
    "logo": {"text": "nbreplay"},
    "show_prev_next": True,
    "article_header_end": ["run"],
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    **({"github_url": f"https://github.com/{REPOSITORY}"} if "GITHUB_REPOSITORY" in os.environ else {}),
}
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
templates_path = ["_templates"]

_LINK = re.compile(r"(\]\()(\.\.?/[^)\s#]*)")


def setup(app: Sphinx) -> None:
    """Complete each page as it is read."""
    app.connect("env-get-outdated", lambda *_: ["reference/cli"])  # the parsers may have changed
    app.connect("source-read", _complete)
    app.connect("html-page-context", _offer_to_run)


def _complete(_: Sphinx, name: str, content: list[str]) -> None:
    """Write the commands into their page, and make links between files of the repository links of the site."""
    text = content[0].replace("<!-- commands -->", commands.markdown()) if name == "reference/cli" else content[0]
    page = PurePosixPath("docs", name)
    file = page.relative_to("docs") if page.is_relative_to("docs/notebooks") else page

    def lead(match: re.Match[str]) -> str:
        target = PurePosixPath(os.path.normpath(file.parent / match[2]))
        if target.parts[0] == "notebooks" and target.suffix in (".ipynb", ".png"):
            target = "docs" / target
        elif not (ROOT / target).is_file():
            return match[0]  # which Sphinx reports
        if target.parts[0] == "docs":
            return match[1] + os.path.relpath(target, page.parent)
        return f"{match[1]}https://github.com/{REPOSITORY}/blob/HEAD/{target}"

    content[0] = _LINK.sub(lead, text)


def _offer_to_run(app: Sphinx, name: str, _: str, context: dict[str, Any], *__: object) -> None:
    """Offer to run the page of a notebook: on the site's JupyterLite, if ``--lite`` adds it, and on Binder."""
    if not name.startswith("notebooks/"):
        return
    links = []
    if app.tags.has("lite") and name.removeprefix("notebooks/") in IN_BROWSER:
        links.append(("▶ Run it in your browser", context["pathto"](f"lite/lab/index.html?path={name}.ipynb", 1)))
    if "GITHUB_REPOSITORY" in os.environ:
        links.append(
            ("Open it on Binder", f"https://mybinder.org/v2/gh/{REPOSITORY}/HEAD?urlpath=lab/tree/{name}.ipynb")
        )
    context["run_links"] = links
