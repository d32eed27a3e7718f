"""Install what the tests of Pyodide's kernel need: ``python -m tests.pyodide FOLDER``, and set NODE_PATH as it says."""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.pyodide.kernel import SITE

_PYODIDE = "pyodide@314"
_PLATFORM = ["--platform", "pyemscripten_2026_0_wasm32", "--python-version", "3.14", "--only-binary", ":all:"]
# What nbreplay's requirements come to there. pip reads the conditions in them for the machine that it runs on.
_PACKAGES = [
    "anywidget",
    "comm",
    "httpx2-jsfetch>=1",
    "ipython",
    "ipywidgets",
    "msgspec",
    "openai>=3",
    "pydantic",
    "requests",
    "rich",
]


def install(folder: Path) -> None:
    """Install npm's pyodide, and unpack the wheels, into ``node_modules`` of a folder."""
    npm = shutil.which("npm") or "npm"
    subprocess.run(
        [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), _PYODIDE], check=True
    )
    site = folder / "node_modules" / SITE
    with tempfile.TemporaryDirectory() as wheels:
        download = [sys.executable, "-m", "pip", "download", "-qq", "--dest", wheels]
        subprocess.run([*download, *_PLATFORM, *_PACKAGES], check=True)
        subprocess.run([*download, "--no-deps", "jupyterlite-pyodide-kernel"], check=True)
        for path in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(path) as wheel:
                if path.name.startswith("jupyterlite_pyodide_kernel"):
                    _unpack_kernel(wheel, site)
                else:
                    wheel.extractall(site)


def _unpack_kernel(extension: zipfile.ZipFile, site: Path) -> None:
    """Unpack the wheels of the kernel, which are in that of JupyterLite's extension."""
    for name in extension.namelist():
        if name.endswith(".whl") and Path(name).name.startswith(("ipykernel-", "piplite-", "pyodide_kernel-")):
            with zipfile.ZipFile(io.BytesIO(extension.read(name))) as wheel:
                wheel.extractall(site)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.pyodide", description=__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    chosen = parser.parse_args().folder.resolve()
    install(chosen)
    print(f"export NODE_PATH={chosen / 'node_modules'}")
