"""The documentation site builds without a network, its notebooks are replayed, and no link in it is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from filelock import FileLock

from tests.docs.blocks import ROOT

pytestmark = [pytest.mark.full, pytest.mark.first]
_NEEDED = (
    "sphinx",
    "myst_nb",
    "numpydoc",
    "pydata_sphinx_theme",
    "sphinx_copybutton",
    "anthropic",
    "mcp",
    "matplotlib",
)
if any(find_spec(name) is None for name in _NEEDED):
    pytest.skip("pip install -e '.[docs]'", allow_module_level=True)

from bs4 import BeautifulSoup, Tag  # noqa: E402, which the theme brings

NOBODY = "http://127.0.0.1:9"


def alone(*command: str) -> list[str]:
    """A command with the network taken away, where the system lets us."""
    if shutil.which("unshare") and shutil.which("ip") and not subprocess.call(["unshare", "-n", "true"], stderr=-3):
        return ["unshare", "-n", "bash", "-c", 'ip link set lo up && exec "$@"', "bash", *command]
    return list(command)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once for all workers of pytest-xdist, by the command that CONTRIBUTING names."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "docs-site"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOBODY)
            done = subprocess.run(
                alone(sys.executable, "-m", "docs", "--output", str(folder / "html")),
                cwd=ROOT,
                env={**os.environ, **proxies, "NO_PROXY": "127.0.0.1,localhost"},
                capture_output=True,
                text=True,
                timeout=900,
            )
            (folder / "problem").write_text(done.stderr if done.returncode else "")
    problem = (folder / "problem").read_text()
    assert not problem, problem
    return folder / "html"


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, BeautifulSoup]:
    """Each page of the site, parsed."""
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]  # the theme's own pieces are there
    return {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in paths}


def links(page: BeautifulSoup) -> Iterator[tuple[Tag, str]]:
    """The addresses that a page names, each with its element."""
    for tag in page.find_all(True):
        for name in ("href", "src", "srcset"):
            if address := tag.get(name):
                yield tag, str(address).split(" ")[0]


def test_no_link_in_the_site_is_broken(site: Path, parsed: dict[Path, BeautifulSoup]) -> None:
    anchors = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in parsed.items()}
    broken = []
    for path, page in parsed.items():
        for _, address in links(page):
            parts = urlsplit(address)
            if parts.scheme in ("http", "https"):
                whole = parts.hostname and ("." in parts.hostname or parts.hostname == "localhost" or parts.port)
                problem = "" if whole else "is not an address"
            elif parts.scheme in ("mailto", "data", "javascript"):
                problem = ""
            else:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                target = target / "index.html" if target.is_dir() else target
                problem = "" if target.is_file() else "does not exist"
                if not problem and parts.fragment and target in anchors:
                    problem = "" if unquote(parts.fragment) in anchors[target] else "has no such anchor"
            if problem:
                broken.append(f"{path.relative_to(site)}: {address} {problem}")
    assert len(parsed) > 40
    assert not broken, "\n".join(sorted(set(broken)))


def test_a_page_needs_nothing_from_another_address(site: Path, parsed: dict[Path, BeautifulSoup]) -> None:
    foreign = {
        f"{path.relative_to(site)}: {address}"
        for path, page in parsed.items()
        for tag, address in links(page)
        if tag.name in ("script", "img", "link", "iframe") and urlsplit(address).hostname
        if tag.get("rel") not in (["canonical"], ["author"])
    }
    assert not foreign


def test_every_notebook_is_a_page_with_its_outputs(parsed: dict[Path, BeautifulSoup]) -> None:
    pages = {path.stem: page for path, page in parsed.items() if path.parent.name == "notebooks"}
    assert set(pages) == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert all(page.select(".cell_output") for page in pages.values())
    assert "Paris" in pages["01_quickstart"].select_one(".cell_output").get_text()
    assert "raw chunks" in pages["02_streams_and_tools"].get_text(), "cards are in the page"


def test_every_public_name_command_and_option_is_in_the_reference(parsed: dict[Path, BeautifulSoup]) -> None:
    import nbreplay
    from nbreplay.cli.main import make_parser

    anchors = {tag["id"] for page in parsed.values() for tag in page.find_all(id=True)}
    names = {f"nbreplay.{name}" for name in nbreplay.__all__ if name != "__version__"}
    options = {
        f"cmdoption-nbreplay-{command}-{max(action.option_strings, key=len).lstrip('-')}"
        for command, parser in make_parser().commands.items()
        for action in parser._actions
        if action.option_strings and action.dest != "help"
    }
    assert not names - anchors
    assert not options - anchors
