"""Colab: its versions, which an install leaves alone, and a notebook that is opened there without its recordings.

It runs in an environment of `pins.txt` only, into which nbreplay has been installed; `.ci/run` makes one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import IPython
import pytest

from tests.archives import certificate, served
from tests.notebook.kernel import Kernel, started

if IPython.version_info >= (8,):
    pytest.skip("this is not an environment of tests/colab/pins.txt", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ("01_quickstart", "02_streams_and_tools", "03_analysis", "04_agents", "05_tests_and_ci", "07_any_client")
ALONE = ("01_quickstart", "07_any_client")  # the others read files of the repository
FIRST = "%load_ext nbreplay\n%replay on {url}#recordings"


def test_nothing_that_colab_has_is_another_version() -> None:
    pins = dict(line.split("==") for line in (Path(__file__).parent / "pins.txt").read_text().splitlines() if line)
    assert {"ipython", "ipykernel", "ipywidgets", "pandas", "tornado", "traitlets"} <= set(pins)
    assert {name: version(name) for name in pins} == pins


def test_the_notebooks_replay() -> None:
    """They display the same, except for tables and plots, which pandas and matplotlib make in other ways there."""
    for options in (["--no-compare", "03", "04"], ["01", "02", "05", "07"]):
        names = [f"notebooks/{name}.ipynb" for name in NOTEBOOKS if name[:2] in options]
        command = [sys.executable, "-m", "nbreplay", "run", *options[: len(options) - len(names)], *names, "-n", "2"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert " 0 recorded, 0 missing" in done.stdout
        assert not done.stderr, "no warning of old versions"


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An address like GitHub's for the archive of this repository, which redirects to another host; its certificate."""
    folder = tmp_path_factory.mktemp("github")
    with zipfile.ZipFile(folder / "zip", "w", zipfile.ZIP_DEFLATED) as made:
        for name in ("recordings", "notebooks", "tests"):
            for path in (ROOT / name).rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    made.write(path, f"nbreplay-HEAD/{path.relative_to(ROOT).as_posix()}")
        made.comment = b"0123456789abcdef0123456789abcdef01234567"
    pem = certificate(folder)
    with served(folder, pem) as url:
        yield f"{url}/away?{url.replace('localhost', '127.0.0.1')}/zip", pem


@pytest.fixture
def colab(tmp_path: Path, github: tuple[str, Path]) -> Iterator[Kernel]:
    """A kernel in a folder that has no recordings, without a key."""
    (tmp_path / "content").mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_AUTH_TOKEN"))}
    with started(tmp_path / "content", {**clean, "SSL_CERT_FILE": str(github[1])}) as made:
        yield made


@pytest.mark.full(quick=[name for name in NOTEBOOKS if name != "05_tests_and_ci"])  # which runs others
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_that_is_opened_there_replays_cell_by_cell(
    colab: Kernel, github: tuple[str, Path], tmp_path: Path, name: str
) -> None:
    url, _ = github
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
    told = colab.run(FIRST.format(url=url))
    assert not told.ename, told.traceback
    assert f"{url.partition('?')[0]}#recordings (read-only)" in told.status[0]
    if name not in ALONE:
        for folder in ("notebooks", "recordings"):
            shutil.copytree(ROOT / folder, tmp_path / "content" / folder)
        colab.run("import os; os.chdir('notebooks')")
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            ran = colab.run("".join(cell["source"]), cell["id"])
            expected = "raises-exception" in cell["metadata"].get("tags", ())
            assert bool(ran.ename) == expected, ran.traceback
    assert " missing" not in "".join(colab.run("%replay").status)
    assert not (tmp_path / "content" / "recordings" / ".nbreplay").exists(), "nothing was recorded"
