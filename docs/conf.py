"""How the site is built: ``python -m docs``, or ``sphinx-build docs FOLDER``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from docs import commands  # noqa: E402
from nbreplay import __version__  # noqa: E402

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
suppress_warnings = ["mystnb.unknown_mime_type"]

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
    app.connect("source-read", _complete)


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
