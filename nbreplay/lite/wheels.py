"""The wheels of a site: nbreplay's own, made of the files that are installed here, and those that it needs there.

A browser has another platform and another Python than this machine, and pip evaluates the markers of requirements for
the Python that it runs in. So pip only downloads here, and this module follows the requirements of each wheel.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbreplay.errors import NbreplayError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PACKAGE = Path(__file__).parent.parent
_DATE = (2020, 1, 1, 0, 0, 0)  # of every file of the wheel, so that the same files give the same wheel
_ABSENT = re.compile(r"No matching distribution found for ([\w.-]+)")
_METADATA = {"METADATA", "entry_points.txt"}


class Platform(msgspec.Struct, frozen=True):
    """What a wheel must fit, such as Python 3.14 and the tag ``pyemscripten_2026_0_wasm32``."""

    python: str
    tag: str

    def environment(self, extra: str = "") -> dict[str, str]:
        """Return the values of environment markers there."""
        names = {"sys_platform": "emscripten", "platform_system": "Emscripten", "platform_machine": "wasm32"}
        versions = {"python_version": self.python, "python_full_version": f"{self.python}.0"}
        return {**names, **versions, "os_name": "posix", "implementation_name": "cpython", "extra": extra}


class Wheel(msgspec.Struct, frozen=True):
    """A wheel, and what its metadata say."""

    path: Path
    name: str  # normalised
    version: str
    requirements: tuple[str, ...]
    modules: tuple[str, ...]  # the names that can be imported from it

    def depends(self, platform: Platform, extras: Iterable[str] = ()) -> Iterator[Requirement]:
        """Yield the requirements that hold on a platform."""
        from packaging.requirements import Requirement

        for requirement in map(Requirement, self.requirements):
            marker = requirement.marker
            if marker is None or any(marker.evaluate(platform.environment(extra)) for extra in ("", *extras)):
                yield requirement


def normalise(name: str) -> str:
    """Return the name of a distribution as indexes have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_wheel(path: Path) -> Wheel:
    """Return a wheel with its metadata."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        fields: Message = Parser().parsestr(archive.read(metadata).decode("utf-8"))
    tops = {name.split("/")[0] for name in names if name.count("/") or name.endswith(".py")}
    modules = sorted(top.removesuffix(".py") for top in tops if top.removesuffix(".py").isidentifier())
    requirements = tuple(map(str, fields.get_all("Requires-Dist") or ()))
    return Wheel(path, normalise(str(fields["Name"])), str(fields["Version"]), requirements, tuple(modules))


def write_own_wheel(folder: Path) -> Wheel:
    """Write the wheel of the nbreplay that is running, from an installation or a checkout, and return it."""
    distribution = importlib.metadata.distribution("nbreplay")
    stem = f"nbreplay-{distribution.version}"
    files = {
        f"nbreplay/{path.relative_to(_PACKAGE).as_posix()}": path.read_bytes()
        for path in sorted(_PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    for name in sorted(_METADATA):
        files[f"{stem}.dist-info/{name}"] = (distribution.read_text(name) or "").encode("utf-8")
    wheel = "Wheel-Version: 1.0\nGenerator: nbreplay\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{stem}.dist-info/WHEEL"] = wheel.encode("ascii")
    rows = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items()]
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join([*rows, f"{record},,\n"]).encode("utf-8")
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
    return read_wheel(path)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")


def download_wheels(
    wanted: Iterable[str], own: Iterable[Wheel], folder: Path, platform: Platform
) -> tuple[list[Wheel], set[str]]:
    """Download wheels and all that they need, as pip is configured here.

    Parameters
    ----------
    wanted : iterable of str
        Requirements, such as ``openai>=2``.
    own : iterable of Wheel
        Wheels that are there already; what they need is downloaded, too.

    Returns
    -------
    list of Wheel, and set of str
        The wheels, and the distributions that are needed and have no wheel for the platform.
    """
    from packaging.requirements import Requirement

    resolver = _Resolver({wheel.name: wheel for wheel in own}, folder, platform)
    for wheel in list(resolver.wheels.values()):
        resolver.add(wheel.depends(platform))
    resolver.add(map(Requirement, wanted))
    resolver.resolve()
    return [wheel for name, wheel in sorted(resolver.wheels.items()) if name not in resolver.own], resolver.absent


class _Resolver:
    """Follows requirements until there is a wheel for each."""

    def __init__(self, own: dict[str, Wheel], folder: Path, platform: Platform) -> None:
        self.own, self.wheels = frozenset(own), dict(own)
        self.folder, self.platform = folder, platform
        self.bounds: dict[str, set[str]] = defaultdict(set)  # of versions, by the name
        self.extras: dict[str, set[str]] = defaultdict(set)
        self.pending: set[str] = set()
        self.absent: set[str] = set()

    def add(self, requirements: Iterable[Requirement]) -> None:
        """Take requirements in. A wheel whose version they exclude is downloaded again."""
        for requirement in requirements:
            name = normalise(requirement.name)
            wheel = self.wheels.get(name)
            new_extras = requirement.extras - self.extras[name]
            self.extras[name] |= requirement.extras
            self.bounds[name] |= {str(bound) for bound in requirement.specifier}
            if name in self.own or name in self.absent:
                continue
            if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
                self.pending.add(name)
            elif new_extras:
                self.add(wheel.depends(self.platform, new_extras))

    def resolve(self) -> None:
        """Download until nothing is pending."""
        for _ in range(50):
            if not self.pending:
                return
            names, self.pending = sorted(self.pending), set()
            for name in names:
                if old := self.wheels.pop(name, None):
                    old.path.unlink()
            for wheel in self._download(names):
                self.wheels[wheel.name] = wheel
            for name in names:
                if name in self.wheels:
                    self.add(self.wheels[name].depends(self.platform, self.extras[name]))
        raise NbreplayError(f"the requirements of {', '.join(sorted(self.pending))} contradict each other")

    def _download(self, names: list[str]) -> list[Wheel]:
        before = set(self.folder.glob("*.whl"))
        while names:
            arguments = ["--no-deps", "--only-binary=:all:", "--implementation=cp", f"--platform={self.platform.tag}"]
            arguments += [f"--python-version={self.platform.python}", f"--dest={self.folder}", "--quiet"]
            bounds = [name + ",".join(sorted(self.bounds[name])) for name in names]
            command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *arguments, *bounds]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                break
            match = _ABSENT.search(done.stderr)
            name = normalise(match[1]) if match else ""
            if name not in names:
                raise NbreplayError(_explain(done.stderr))
            self.absent.add(name)
            names.remove(name)
        return [read_wheel(path) for path in sorted(set(self.folder.glob("*.whl")) - before)]


def _explain(stderr: str) -> str:
    if "No module named pip" in stderr:
        return "pip downloads the wheels of the site, and is not installed here. Run python -m ensurepip"
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return f"pip could not download the wheels of the site: {' '.join(errors[-2:]) or stderr.strip()[-300:]}"
