"""A browser, servers of JupyterLab and Notebook 7, and a project for them to open."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # the extra may not be installed; the tests then say so
    from playwright.sync_api import Browser, Playwright

    from tests.browser.page import Opened

ROOT = Path(__file__).resolve().parents[2]
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
_ARGUMENTS += ["--disable-background-networking", "--disable-component-update"]
_SETTINGS = {
    "apputils-extension/themes": '{"theme": "JupyterLab %s"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--screenshots``."""
    parser.addoption("--screenshots", metavar="DIR", help="keep the pictures that the browser tests take there")


@pytest.fixture(scope="session")
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    given = request.config.getoption("--screenshots", None)
    folder = Path(given).resolve() if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks and of what they recorded."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("notebooks", "recordings"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "pyproject.toml").write_text("")
    return folder


def chromium(playwright: Playwright) -> Browser:
    """Return a Chromium that runs; skip where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no chromium here")
    return playwright.chromium.launch(executable_path=found, args=_ARGUMENTS)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium, for the tests here only: as long as it is there, a loop runs, and others could run none of theirs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = chromium(playwright)
        yield made
        made.close()


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served(application: str, project: Path, folder: Path, theme: str) -> Iterator[str]:
    """Have a server that shows a project, and yield its address; what it keeps for itself is in `folder`."""
    settings = folder / "settings" / "@jupyterlab"
    for name, text in _SETTINGS.items():
        path = (settings / name).with_suffix(".jupyterlab-settings")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text % theme if "%s" in text else text)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NBREPLAY_")}
    clean = {name: value for name, value in clean.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    clean |= {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_DATA_DIR": str(project.parent / "jupyter-data"),  # where notebooks are signed
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "PYTHONPATH": str(ROOT),
    }
    port = _port()
    command = [sys.executable, "-m", application, "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={project}", "--ServerApp.port_retries=0"]
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(command, env=clean, stdout=log, stderr=subprocess.STDOUT, cwd=project) as server,
    ):
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api"):
                        break
                except OSError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise AssertionError((folder / "server.log").read_text()) from None
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="session")
def lab(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab."""
    yield from served("jupyterlab", project, tmp_path_factory.mktemp("lab"), "Light")


@pytest.fixture(scope="session")
def dark_lab(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab with the dark theme."""
    yield from served("jupyterlab", project, tmp_path_factory.mktemp("dark"), "Dark")


@pytest.fixture(scope="session")
def classic(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Notebook 7."""
    yield from served("notebook", project, tmp_path_factory.mktemp("classic"), "Light")


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Open an address in a page of its own."""
    from tests.browser.page import Opened

    pages: list[Opened] = []

    def open_(address: str, **given: Any) -> Opened:
        # A workspace of its own: JupyterLab would else open what it had open before.
        address = address.replace("/lab/tree/", f"/lab/workspaces/{uuid.uuid4().hex}/tree/")
        pages.append(Opened(browser.new_page(**{"viewport": {"width": 1060, "height": 1400}, **given}), address))
        return pages[-1]

    yield open_
    for page in pages:
        page.page.close()


@pytest.fixture
def notebook(project: Path) -> Iterator[Callable[..., str]]:
    """Write a notebook with these cells beside the others; its name is returned."""
    import nbformat

    made: list[Path] = []

    def write(name: str, *cells: str) -> str:
        path = project / "notebooks" / f"{name}.ipynb"
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        for number, cell in enumerate(book.cells):
            cell.id = f"{name}-{number}"
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, path)
        made.append(path)
        return path.name

    yield write
    for path in made:
        path.unlink()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that a page's address can name without anything to be escaped."""
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        assert re.fullmatch(r"[\w/.-]+", folder)
        yield Path(folder)
