"""The site: JupyterLite over the contents, with Pyodide's kernel, the wheels, and the lock file that loads them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from nbreplay import __version__
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.lite.contents import Contents
from nbreplay.lite.distribution import LOCK, Distribution, find_distribution
from nbreplay.lite.wheels import Wheel, download_wheels, read_wheel, write_own_wheel

MARKER = "nbreplay-lite.json"
"""A file of every site that nbreplay made: only such a site is replaced."""

_KERNEL = "@jupyterlite/pyodide-kernel-extension"
_EXTENSIONS = (_KERNEL, "@jupyter-widgets/jupyterlab-manager", "anywidget")
_APPS = ("lab", "notebooks", "tree")
_PYODIDE = "static/pyodide"
# What the kernel needs, in the words of its lock file: what is named there is not installed again.
_PRELOADED = ("micropip", "piplite", "ipykernel", "comm", "pyodide-kernel", "jedi", "ipython")
_ADDED = ("micropip", "jedi")  # what no wheel requires
_UNUSED = ("jupyterlab-widgets",)  # the site has its extension, and Python imports nothing of it


class Site(msgspec.Struct, frozen=True):
    """A site that was made."""

    folder: Path
    notebooks: tuple[str, ...]  # their paths on the site
    recordings: int
    files: tuple[str, ...]  # what the notebooks need beside them
    size: int  # bytes
    notes: tuple[str, ...]  # what is missing, and what a reader's browser fetches from elsewhere


def require_empty_or_site(folder: Path) -> None:
    """Raise `OptionError` where a folder contains anything but a site of nbreplay's."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file. Name a new folder for the site")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise OptionError(f"{folder} is not empty, and not a site of nbreplay lite. Name a new folder")


def require_tools() -> str:
    """Return the version of Pyodide that the kernel wants; raise `OptionError` where the extra is not installed."""
    try:
        import jupyter_server  # noqa: F401
        import jupyterlite_core  # noqa: F401
        from jupyterlite_pyodide_kernel.constants import PYODIDE_VERSION
    except ImportError as error:
        raise OptionError(f"{error.name} is not installed. pip install 'nbreplay[lite]'") from None
    return str(PYODIDE_VERSION)


def build_site(
    contents: Contents, folder: Path, *, offline: bool, pyodide: str | None, progress: Callable[[str], object]
) -> Site:
    """Build a site. `progress` is called with what is done next."""
    version = require_tools()
    require_empty_or_site(folder)
    progress("checking for secrets")
    contents.check()
    with tempfile.TemporaryDirectory(prefix="nbreplay-lite-") as name:
        work = Path(name)
        lite = work / "lite"
        (lite / "pypi").mkdir(parents=True)
        recordings = contents.copy(lite / "files")
        progress("getting Pyodide")
        distribution = find_distribution(pyodide, version, work)
        progress("downloading wheels")
        notes = _add_packages(contents, lite, distribution, offline=offline)
        progress("building the site")
        site = work / "site"
        _run_jupyterlite(lite, site)
        _finish(site, contents)
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(site, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    notebooks = tuple(map(contents.place, contents.notebooks))
    return Site(folder, notebooks, recordings, tuple(map(contents.place, contents.files)), size, tuple(notes))


def _add_packages(contents: Contents, lite: Path, distribution: Distribution, *, offline: bool) -> list[str]:
    """Write wheels, core, lock file and settings; return notes on what is not in the site."""
    extension = _find_extension(_KERNEL)
    shims = {f"../../extensions/{_KERNEL}/static/pypi/{wheel.path.name}": wheel for wheel in _read_shims(extension)}
    own = write_own_wheel(lite / "pypi")
    extra = _distributions_of(contents.modules, distribution)
    wheels, absent = download_wheels([*_ADDED, *extra], [own, *shims.values()], lite / "pypi", distribution.platform)
    wheels = [wheel for wheel in wheels if wheel.name not in _UNUSED]
    for name in _UNUSED:
        for path in (lite / "pypi").glob(f"{name.replace('-', '_')}-*.whl"):
            path.unlink()
    addresses = shims | {f"../../pypi/{wheel.path.name}": wheel for wheel in (own, *wheels)}
    core = lite / _PYODIDE
    distribution.copy_core(core)
    copied: list[str] = []
    frames = contents.needs_frames
    for name in sorted(absent | ({"pandas"} if frames else set())):
        if distribution.has(name) and (name != "pandas" or frames):
            copied += distribution.requires([name])
    for name in dict.fromkeys(copied):
        file = distribution.packages[name]["file_name"]
        shutil.copyfile(distribution.folder / file, core / file)
    distribution.write_lock(core / LOCK, addresses, copied, offline=offline)
    loads_frames = bool(frames) and (not offline or "pandas" in copied)
    _write_settings(lite, [*_PRELOADED, "nbreplay", *(["pandas"] if loads_frames else [])], offline=offline)
    return _notes(contents, distribution, absent, copied, extra, offline=offline)


def _find_extension(name: str) -> Path:
    """Return the folder of an extension of JupyterLab that is installed."""
    from jupyter_core.paths import jupyter_path

    for folder in map(Path, jupyter_path("labextensions")):
        if (folder / name / "package.json").is_file():
            return folder / name
    package = {_KERNEL: "jupyterlite-pyodide-kernel", "anywidget": "anywidget"}.get(name, "jupyterlab-widgets")
    raise OptionError(f"{package} is installed without its extension of JupyterLab. Install it again with pip")


def _read_shims(extension: Path) -> list[Wheel]:
    """Return the wheels that the kernel brings, such as its ipykernel; of several versions the last."""
    wheels = [read_wheel(path) for path in (extension / "static" / "pypi").glob("*.whl")]
    wheels.sort(key=lambda wheel: [int(part) for part in re.findall(r"\d+", wheel.version)])
    return list({wheel.name: wheel for wheel in wheels}.values())


def _distributions_of(modules: Iterable[str], distribution: Distribution) -> dict[str, str]:
    """Return what the notebooks import and the site must get from an index, each with the module."""
    import importlib.metadata

    known = {module for package in distribution.packages.values() for module in package["imports"]}
    known |= {*sys.stdlib_module_names, "nbreplay", "IPython", "ipykernel", "js", "pyodide", "pyodide_js"}
    installed = importlib.metadata.packages_distributions()
    return {installed[module][0]: module for module in modules if module not in known and module in installed}


def _write_settings(lite: Path, preloaded: list[str], *, offline: bool) -> None:
    kernel = {"loadPyodideOptions": {"packages": preloaded}, "disablePyPIFallback": offline}
    settings = {"appName": "nbreplay", "litePluginSettings": {f"{_KERNEL}:kernel": kernel}}
    data = {"jupyter-lite-schema-version": 0, "jupyter-config-data": settings}
    (lite / "jupyter-lite.json").write_text(json.dumps(data), encoding="utf-8")
    build = {
        "apps": _APPS,
        "federated_extensions": [os.fspath(_find_extension(name)) for name in _EXTENSIONS],
        "ignore_sys_prefix": True,
        "ignore_contents": [],
        "no_sourcemaps": True,
        "no_unused_shared_packages": True,
    }
    (lite / "jupyter_lite_config.json").write_text(json.dumps({"LiteBuildConfig": build}), encoding="utf-8")


def _run_jupyterlite(lite: Path, site: Path) -> None:
    command = [sys.executable, "-m", "jupyterlite_core", "build", f"--lite-dir={lite}", f"--output-dir={site}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTERLITE_")}
    done = subprocess.run(command, cwd=lite, env=environment, capture_output=True, text=True)
    if done.returncode or not (site / "lab" / "index.html").is_file():
        reason = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise NbreplayError(f"jupyter lite build failed:\n{reason}")


def _finish(site: Path, contents: Contents) -> None:
    (site / ".nojekyll").touch()  # GitHub Pages would else leave out what begins with an underscore
    marker = {"nbreplay": __version__, "notebooks": [contents.place(path) for path in contents.notebooks]}
    (site / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def _notes(
    contents: Contents,
    distribution: Distribution,
    absent: set[str],
    copied: list[str],
    extra: dict[str, str],
    *,
    offline: bool,
) -> list[str]:
    """Return what is not in the site, in words."""
    notes = []
    in_lock = {module: name for name, package in distribution.packages.items() for module in package["imports"]}
    needed = {in_lock[module]: notebook for module, notebook in contents.modules.items() if module in in_lock}
    if contents.needs_frames:
        needed["pandas"] = contents.needs_frames[0]
    missing = {name: notebook for name, notebook in needed.items() if name in absent and name not in copied}
    for name, notebook in missing.items():
        if offline:
            remedy = "leave --offline out, or name a whole distribution of Pyodide with --pyodide"
            notes.append(f"{name}, which {notebook} needs, is not in the site: {remedy}")
        else:
            notes.append(f"{name}, which {notebook} needs, comes from Pyodide's server, cdn.jsdelivr.net")
    for package, module in extra.items():
        if package in absent:
            notebook = contents.modules[module]
            notes.append(f"{package}, which {notebook} needs, has no wheel for Pyodide: {notebook} stops there")
    return notes
