"""Badges: Markdown for a README that opens a recorded notebook where a reader can run it."""

from __future__ import annotations

from urllib.parse import quote

PAGES = "https://OWNER.github.io/REPO"
"""Where GitHub Pages serves a repository; the reader fills in owner and name."""

_LITE_PICTURE = "https://jupyterlite.rtfd.io/en/latest/_static/badge.svg"


def format_badge(text: str, picture: str, address: str) -> str:
    """Return the Markdown of a picture that leads to an address."""
    return f"[![{text}]({picture})]({address})"


def format_browser_badge(notebook: str, site: str | None = None) -> str:
    """Return the badge of a notebook on a site of ``nbreplay lite``.

    Parameters
    ----------
    notebook : str
        Its path on the site.
    site : str, optional
        The address of the site.
    """
    address = f"{(site or PAGES).rstrip('/')}/lab/index.html?path={quote(notebook)}"
    return format_badge("Run it in your browser", _LITE_PICTURE, address)
