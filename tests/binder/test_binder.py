"""What Binder builds: its environment, every notebook in it, and what repo2docker makes of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

with warnings.catch_warnings():
    # repo2docker imports a name of python-json-logger that has moved.
    warnings.filterwarnings("ignore", "pythonjsonlogger", DeprecationWarning)
    pytest.importorskip("repo2docker", reason="jupyter-repo2docker is not installed: pip install -e '.[binder]'")

from repo2docker.app import Repo2Docker
from repo2docker.buildpacks import PythonBuildPack

ROOT = Path(__file__).resolve().parents[2]
VERSION = (ROOT / "binder" / "runtime.txt").read_text("utf-8").strip().removeprefix("python-")
SECRETS = re.compile(r"NBREPLAY_|PYTHON|VIRTUAL_ENV|.*_API_KEY$|.*_AUTH_TOKEN$|.*_BASE_URL$")
LINK = re.compile(r"https://mybinder\.org/v2/[^\s)>\"'`]+")
UNRECORDED = """
%load_ext nbreplay
%replay on
from openai import OpenAI
OpenAI().chat.completions.create(model="smollm2-135m", messages=[{"role": "user", "content": "never asked"}])
"""


def cloned(folder: Path) -> Path:
    """A copy of what git holds, or would: that is what Binder has, and nothing is changed here."""
    if not (ROOT / ".git").exists():
        pytest.skip("Binder builds from git, and this folder is not a clone")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@dataclass(frozen=True)
class Built:
    """A repository as it lies in Binder's image, and the environment that was installed for it."""

    repository: Path
    prefix: Path

    def run(self, *command: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
        """Run a command as in a container: by binder/start where there is one, and with nothing of this machine's."""
        start = self.repository / "binder" / "start"
        return subprocess.run(
            [*([str(start)] if start.exists() else []), *command],
            cwd=self.repository / folder,
            env={
                "PATH": f"{self.prefix / 'bin'}:/usr/bin:/bin",
                "HOME": str(self.repository),
                "LC_ALL": "C.UTF-8",
                "REPO_DIR": str(self.repository),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def the_python() -> str:
    """The Python that binder/runtime.txt names."""
    if sys.version_info[:2] == tuple(map(int, VERSION.split("."))):
        return sys.executable
    return shutil.which(f"python{VERSION}") or pytest.skip(f"there is no Python {VERSION} here")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """What Binder would have, made in the order in which it makes it."""
    made = Built(cloned(tmp_path_factory.mktemp("repository")), tmp_path_factory.mktemp("environment") / "venv")
    # How packages are reached from here, by which index or proxy, is this machine's to say.
    environment = {name: value for name, value in os.environ.items() if not SECRETS.match(name)}
    for command in (
        [the_python(), "-m", "venv", str(made.prefix)],
        [str(made.prefix / "bin" / "pip"), "install", "-q", "-r", "binder/requirements.txt"],
    ):
        done = subprocess.run(command, cwd=made.repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    if (made.repository / "binder" / "postBuild").exists():
        done = made.run("./binder/postBuild")
        assert done.returncode == 0, done.stdout
    return made


def test_every_notebook_runs_in_what_binder_builds(built: Built) -> None:
    done = built.run("nbreplay", "run", "notebooks")
    assert done.returncode == 0, done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.endswith(" 0 missing")
    assert re.search(r"\b[1-9]\d* replayed, 0 recorded", last)
    for path in (built.repository / "notebooks").glob("*.ipynb"):
        assert path.read_bytes() == (ROOT / "notebooks" / path.name).read_bytes()


def test_what_the_notebooks_import_is_the_installed_package(built: Built) -> None:
    done = built.run("python", "-c", "import nbreplay; print(nbreplay.__file__)", folder="notebooks")
    assert Path(done.stdout.strip()).is_relative_to(built.prefix)


def test_what_is_not_recorded_says_so_though_the_notebook_says_on(built: Built) -> None:
    (built.repository / "unrecorded.ipy").write_text(UNRECORDED, "utf-8")
    done = built.run("ipython", "--colors=NoColor", "../unrecorded.ipy", folder="notebooks")
    assert "RecordingMissing" in done.stdout
    assert "recordings (replay)" in done.stdout  # without binder/start it would be auto: a key would send it


def test_repo2docker_chooses_its_python_build_pack_and_binders_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cloned(tmp_path / "repository"))
    app = Repo2Docker()
    pack = next(made for kind in app.buildpacks if (made := kind(base_image=app.base_image)).detect())
    assert type(pack) is PythonBuildPack
    assert pack.binder_dir == "binder"
    assert pack.runtime[:2] == ("python", VERSION)
    assert pack.python_version == VERSION == "3.11"
    # One environment for JupyterLab and the kernel: the widget that pip installs is JupyterLab's, too.
    assert not pack.separate_kernel_env
    pack.platform = "linux/amd64"
    (lock,) = (name for name in pack.get_build_script_files() if name.endswith(".lock"))
    packages = Path(str(sys.modules["repo2docker.buildpacks"].__path__[0]), lock).read_text("utf-8")
    assert f"/python-{VERSION}." in packages
    assert "/jupyterlab-4." in packages


def test_repo2docker_renders_the_steps(tmp_path: Path) -> None:
    repository = cloned(tmp_path / "repository")
    command = [sys.executable, "-m", "repo2docker", "--no-build", "."]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python={VERSION}" in done.stderr
    lines = iter(done.stdout.splitlines())
    for step in (
        r"ENV KERNEL_PYTHON_PREFIX=\$\{NB_PYTHON_PREFIX\}",
        r"COPY .* /tmp/env/environment\.lock",
        # The whole repository first: nbreplay is installed from it.
        r"COPY .* src/ \$\{REPO_DIR\}/",
        r'RUN \$\{KERNEL_PYTHON_PREFIX\}/bin/pip install .*-r "binder/requirements\.txt"',
        r'ENV R2D_ENTRYPOINT="\$\{REPO_DIR\}/binder/start"',
        r"ENTRYPOINT .*repo2docker-entrypoint.*",
    ):
        assert any(re.fullmatch(step, line) for line in lines), f"not there, or not in this order: {step}"


def test_scripts_may_be_executed_and_stop_at_an_error() -> None:
    scripts = [path for name in ("start", "postBuild") if (path := ROOT / "binder" / name).exists()]
    for path in scripts:
        assert os.access(path, os.X_OK)
        lines = path.read_text("utf-8").splitlines()
        assert lines[0].startswith("#!")
        assert "set -e" in lines
        assert path.name != "start" or lines[-1] == 'exec "$@"'


def test_every_link_to_binder_opens_a_notebook_that_there_is() -> None:
    texts = {path: path.read_text("utf-8") for path in (ROOT / "README.md", ROOT / "binder" / "README.md")}
    links = [link for text in texts.values() for link in LINK.findall(text)]
    assert links
    for link in links:
        (opened,) = parse_qs(urlsplit(link).query)["urlpath"]
        assert opened == "lab/tree/notebooks/01_quickstart.ipynb"
        assert (ROOT / opened.removeprefix("lab/tree/")).is_file()
    for path, text in texts.items():
        for target in re.findall(r"\]\((binder/[^)]+)\)", text):
            assert (path.parent / target).is_file()
