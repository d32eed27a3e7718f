"""Pyodide's kernel, and a server on this machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.archives import exported
from tests.pyodide.kernel import PyodideKernel, start_pyodide
from tests.pyodide.wheels import tiny_wheel

RECORDINGS = Path(__file__).parents[2] / "recordings"


class Server(http.server.ThreadingHTTPServer):
    """A server of files; `asked` has the paths that were asked for, `packages` what a lock file says of its wheel."""

    def __init__(self, folder: Path) -> None:
        asked: list[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def send_head(self) -> Any:
                asked.append(self.path)
                return super().send_head()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.packages = asked, tiny_wheel(folder)
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a store, ``store.zip``, and the wheel of a package."""
    folder = tmp_path_factory.mktemp("served")
    exported(RECORDINGS, folder / "store.zip")
    (folder / "page.txt").write_text("a page")
    with Server(folder) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield started
        started.shutdown()


@pytest.fixture(scope="module")
def page(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PyodideKernel]:
    """The kernel of a page, in a folder of its own."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "work").mkdir()
    with start_pyodide([folder], server=f"{server.url}/", packages=server.packages) as kernel:
        kernel.run(f"import os\nos.chdir({str(folder / 'work')!r})")
        yield kernel


@pytest.fixture
def kernel(page: PyodideKernel) -> Iterator[PyodideKernel]:
    """The kernel with nbreplay loaded, which replays the recordings of the repository."""
    ran = page.run(f"%load_ext nbreplay\n%replay replay {RECORDINGS}")
    assert ran.status, ran
    assert not ran.stderr + ran.traceback
    yield page
    page.run("%unload_ext nbreplay")
