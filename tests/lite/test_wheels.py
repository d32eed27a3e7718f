"""The wheels of a site, and the lock file from which the kernel loads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import nbreplay
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.lite.distribution import LOCK, find_distribution
from nbreplay.lite.wheels import Platform, Wheel, download_wheels, read_wheel, write_own_wheel

pytest.importorskip("packaging", reason="pip install packaging")

ROOT = Path(nbreplay.__file__).parent.parent
PLATFORM = Platform("3.14", "pyemscripten_2026_0_wasm32")


def test_the_wheel_of_a_checkout_and_of_what_it_installs_are_the_same() -> None:
    Path("first").mkdir()
    Path("second").mkdir()
    wheel = write_own_wheel(Path("first"))
    assert wheel.path.name == f"nbreplay-{wheel.version}-py3-none-any.whl"
    assert wheel.modules == ("nbreplay",)
    needs = {requirement.name for requirement in wheel.depends(PLATFORM)}
    assert {"openai", "msgspec", "ipywidgets"} <= needs
    assert not needs & {"filelock", "ipykernel", "nbclient", "nbformat", "pytest"}
    with zipfile.ZipFile(wheel.path) as archive:
        names = set(archive.namelist())
        archive.extractall("installed")
        record = archive.read(f"nbreplay-{wheel.version}.dist-info/RECORD").decode()
    assert {line.split(",")[0] for line in record.splitlines()} == names
    assert {"nbreplay/py.typed", "nbreplay/lite/wheels.py"} <= names
    assert any(name.startswith("nbreplay/notebook/static/") for name in names)
    assert not any("__pycache__" in name for name in names)
    code = """
from pathlib import Path
import nbreplay
from nbreplay.lite.wheels import write_own_wheel
assert "installed" in nbreplay.__file__
write_own_wheel(Path("second"))
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": "installed"}, check=True)
    assert Path("second", wheel.path.name).read_bytes() == wheel.path.read_bytes()


def write_wheel(name: str, version: str, *requirements: str, tag: str = "py3-none-any") -> Path:
    """Write a wheel without code."""
    path = Path(f"index/{name}-{version}-{tag}.whl")
    path.parent.mkdir(exist_ok=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
    return path


@pytest.mark.full
def test_wheels_are_downloaded_for_the_browser_with_what_they_need_there(monkeypatch: pytest.MonkeyPatch) -> None:
    own = read_wheel(write_wheel("own", "1.0", "a[more]>=1", "shell; sys_platform != 'emscripten'", "frames"))
    own.path.unlink()
    write_wheel("a", "1.0", "b", "extra>=1; extra == 'more'", "compiled==1.0")
    write_wheel("b", "2.0", "c<2")
    for version in ("1.0", "2.0"):
        write_wheel("c", version)
    write_wheel("extra", "1.0")
    write_wheel("compiled", "1.0", tag="cp314-cp314-pyemscripten_2026_0_wasm32")
    write_wheel("compiled", "1.0", tag="cp314-cp314-manylinux_2_28_x86_64")
    write_wheel("frames", "1.0", tag="cp314-cp314-manylinux_2_28_x86_64")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "index", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    Path("out").mkdir()
    wheels, absent = download_wheels(["c"], [own], Path("out"), PLATFORM)
    assert {(wheel.name, wheel.version) for wheel in wheels} == {
        *(("a", "1.0"), ("b", "2.0"), ("c", "1.0"), ("compiled", "1.0"), ("extra", "1.0"))
    }
    assert absent == {"frames"}
    assert {path.name for path in Path("out").iterdir()} == {wheel.path.name for wheel in wheels}
    assert any("pyemscripten" in wheel.path.name for wheel in wheels)


def test_an_error_of_pip_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: Could not reach the index\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(NbreplayError, match="pip could not download the wheels of the site: Could not reach the index"):
        download_wheels(["a"], [], Path(), PLATFORM)


def write_distribution(folder: Path, *files: str) -> None:
    """Write a distribution of Pyodide, whose packages are pandas with numpy, and an older openai."""
    folder.mkdir(parents=True)
    for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", *files):
        (folder / name).touch()
    depends = {"pandas": ["numpy"], "numpy": [], "openai": []}
    packages = {
        name: {"name": name, "file_name": f"{name}.whl", "depends": needs, "imports": [name]}
        for name, needs in depends.items()
    }
    info = {"python": "3.14.2", "abi_version": "2026_0"}
    (folder / LOCK).write_text(json.dumps({"info": info, "packages": packages}))


def lock(offline: bool, copied: list[str]) -> dict[str, dict[str, object]]:
    """Return the packages of the lock file of a site by their name."""
    wheel = Wheel(Path("nbreplay.whl"), "nbreplay", "1.0", ("openai>=2", "pandas", "nothing"), ("nbreplay",))
    openai = Wheel(Path("openai.whl"), "openai", "3.0", (), ("openai",))
    for each in (wheel, openai):
        each.path.write_bytes(b"content")
    distribution = find_distribution("pyodide", "314.0.6", Path())
    wheels = {"../../pypi/nbreplay.whl": wheel, "../../pypi/openai.whl": openai}
    distribution.write_lock(Path("lock.json"), wheels, copied, offline=offline)
    packages: dict[str, dict[str, object]] = json.loads(Path("lock.json").read_text())["packages"]
    return packages


def test_the_lock_file_names_the_wheels_of_the_site_and_pyodides_server_for_the_rest() -> None:
    write_distribution(Path("pyodide"))
    packages = lock(offline=False, copied=[])
    assert {name: package["file_name"] for name, package in packages.items()} == {
        "nbreplay": "../../pypi/nbreplay.whl",
        "openai": "../../pypi/openai.whl",
        "pandas": "https://cdn.jsdelivr.net/pyodide/v314.0.6/full/pandas.whl",
        "numpy": "https://cdn.jsdelivr.net/pyodide/v314.0.6/full/numpy.whl",
    }
    assert packages["nbreplay"]["depends"] == ["openai"], "pandas is loaded where it is needed"
    assert packages["nbreplay"]["imports"] == ["nbreplay"]


def test_offline_the_lock_file_names_nothing_outside() -> None:
    write_distribution(Path("pyodide"), "pandas.whl", "numpy.whl")
    assert set(lock(offline=True, copied=[])) == {"nbreplay", "openai"}
    packages = lock(offline=True, copied=["pandas", "numpy"])
    assert packages["numpy"]["file_name"] == "numpy.whl"
    distribution = find_distribution("pyodide", "314.0.6", Path())
    assert distribution.has("pandas")
    Path("pyodide/numpy.whl").unlink()
    assert not distribution.has("pandas"), "it needs numpy"
    assert not distribution.has("unknown")


def test_what_is_not_pyodide_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other").mkdir()
    with pytest.raises(OptionError, match=r"other is not a distribution of Pyodide: pyodide.mjs is missing"):
        find_distribution("other", "314.0.6", Path())
    with pytest.raises(OptionError, match=r"nowhere does not exist. Name a folder or an archive of Pyodide 314.0.6"):
        find_distribution("nowhere", "314.0.6", Path())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NbreplayError, match=r"npm downloads the core .* --pyodide FOLDER"):
        find_distribution(None, "314.0.6", Path())
