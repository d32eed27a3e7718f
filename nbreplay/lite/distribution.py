"""Pyodide's distribution: its core, and the lock file that says where the kernel finds each package.

The lock file of the site is Pyodide's own, in which the wheels of the site replace those of the same name. So all of
them are loaded while the kernel starts, and no cell has to install anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from nbreplay.errors import NbreplayError, OptionError
from nbreplay.lite.wheels import Platform, Wheel, normalise

LOCK = "pyodide-lock.json"
_CORE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", LOCK)
_CDN = "https://cdn.jsdelivr.net/pyodide/v{version}/full/"


class Distribution:
    """An unpacked distribution of Pyodide: the core alone, or with packages beside it.

    Attributes
    ----------
    folder : pathlib.Path
    version : str
        Such as ``314.0.6``.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version = folder, version
        if missing := [name for name in _CORE if not (folder / name).is_file()]:
            raise OptionError(f"{folder} is not a distribution of Pyodide: {missing[0]} is missing")
        try:
            lock = json.loads((folder / LOCK).read_text(encoding="utf-8"))
            self.info: dict[str, str] = lock["info"]
            self.packages: dict[str, dict[str, Any]] = lock["packages"]
            self.platform = Platform(
                ".".join(self.info["python"].split(".")[:2]), f"pyemscripten_{self.info['abi_version']}_wasm32"
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OptionError(f"{folder / LOCK} cannot be read: {error}. Use Pyodide {version}") from None

    def copy_core(self, folder: Path) -> None:
        """Copy the files of the core into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _CORE:
            shutil.copyfile(self.folder / name, folder / name)

    def requires(self, names: Iterable[str]) -> list[str]:
        """Return the packages of the distribution that these need, themselves included; others are left out."""
        closure: dict[str, None] = {}
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in self.packages and name not in closure:
                closure[name] = None
                pending += self.packages[name]["depends"]
        return sorted(closure)

    def has(self, name: str) -> bool:
        """Tell whether a package and all that it needs lie beside the core."""
        needs = self.requires([name])
        return bool(needs) and all((self.folder / self.packages[need]["file_name"]).is_file() for need in needs)

    def write_lock(self, path: Path, wheels: Mapping[str, Wheel], copied: Collection[str], *, offline: bool) -> None:
        """Write the lock file of a site.

        Parameters
        ----------
        path : pathlib.Path
        wheels : mapping of str to Wheel
            Wheels of the site by their address, relative to the lock file.
        copied : collection of str
            Packages of the distribution that lie beside the lock file. Others come from Pyodide's server, unless the
            site is `offline`, which knows none of them.
        """
        own = {wheel.name: (address, wheel) for address, wheel in wheels.items()}
        packages: dict[str, dict[str, Any]] = {}
        for name, package in self.packages.items():
            if name in copied:
                packages[name] = package
            elif not offline:
                address = _CDN.format(version=self.version) + package["file_name"]
                packages[name] = {**package, "file_name": address}
        known = {*packages, *own}
        for name, (address, wheel) in own.items():
            # Frames alone need pandas, which takes longer to load than all the rest.
            depends = {normalise(each.name) for each in wheel.depends(self.platform)} & known
            packages[name] = {
                "name": name,
                "version": wheel.version,
                "file_name": address,
                "install_dir": "site",
                "sha256": hashlib.sha256(wheel.path.read_bytes()).hexdigest(),
                "package_type": "package",
                "imports": list(wheel.modules),
                "depends": sorted(depends - {name} - ({"pandas"} if name == "nbreplay" else set())),
                "unvendored_tests": False,
            }
        path.write_text(json.dumps({"info": self.info, "packages": packages}), encoding="utf-8")


def find_distribution(source: str | None, version: str, folder: Path) -> Distribution:
    """Return the distribution of Pyodide in a folder or an archive, or else the core that npm downloads.

    `folder` is where it may be unpacked.
    """
    if source is None:
        return Distribution(_unpack(_download(version, folder), folder), version)
    path = Path(source)
    if path.is_file():
        return Distribution(_unpack(path, folder), version)
    if not path.is_dir():
        raise OptionError(f"{source} does not exist. Name a folder or an archive of Pyodide {version}")
    return Distribution(path / "pyodide" if (path / "pyodide").is_dir() else path, version)


def _unpack(archive: Path, folder: Path) -> Path:
    try:
        with tarfile.open(archive) as file:
            file.extractall(folder / "unpacked", filter="data")
    except (OSError, tarfile.TarError) as error:
        raise OptionError(f"{archive} cannot be unpacked: {error}") from None
    found = sorted((folder / "unpacked").rglob(LOCK))
    return found[0].parent if found else folder / "unpacked"


def _download(version: str, folder: Path) -> Path:
    npm = shutil.which("npm")
    wanted = f"pyodide@{version}"
    remedy = f"Install Node.js, or name a folder with Pyodide {version}: --pyodide FOLDER"
    if npm is None:
        raise NbreplayError(f"npm downloads the core of Pyodide, and is not installed here. {remedy}")
    command = [npm, "pack", wanted, "--silent", "--pack-destination", os.fspath(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    archive = next(iter(sorted(folder.glob("pyodide-*.tgz"))), None)
    if done.returncode or archive is None:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no file was written")
        raise NbreplayError(f"npm could not download {wanted}: {reason}. Try again, or pass --pyodide FOLDER")
    return archive
