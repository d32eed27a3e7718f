"""What an installation costs: ``python -m tests.benchmarks.install [--rounds N] [--against PATH] [--here]``.

Installs nbreplay into a fresh environment, and another version beside it. Prints how many packages that are and how
many MB, which dependency brings which of them alone, and the CPU time of starting, in processes that take turns: as
ratios to bare Python, to pandas and to openai. ``--here`` measures the environment that it runs in.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["STARTS", "Package", "brought_alone", "list_packages", "main", "measure_starts"]

_HERE = Path(__file__).parents[2]
_PRODUCT = "nbreplay"
_OWN = ("ipython", "ipywidgets", "openai", "pandas", "nbclient")  # what the product is about
_SHELL = "from IPython.core.interactiveshell import InteractiveShell as Shell; shell = Shell()"

STARTS = {
    "python": "pass",
    "import pandas": "import pandas",
    "import openai": "import openai",
    "import nbreplay": "import nbreplay",
    "nbreplay.session": "import nbreplay; nbreplay.session",
    "nbreplay.load": "import nbreplay; nbreplay.load",
    "nbreplay --help": "from nbreplay.cli.main import main; main(['--help'])",
    "IPython": _SHELL,
    "%load_ext nbreplay": f"{_SHELL}; shell.run_line_magic('load_ext', 'nbreplay')",
}
"""What is started, by name: the code of a process."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution: its bytes, and the names of those that it requires."""

    name: str
    size: int
    requires: tuple[str, ...]


def list_packages(folder: Path) -> list[Package]:
    """Return the packages that the product brings into a folder ``site-packages``, itself among them."""
    every = {}
    for found in importlib.metadata.distributions(path=[str(folder)]):
        name = canonicalize_name(found.metadata["Name"])
        requirements = map(Requirement, found.requires or ())
        names = (each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""}))
        size = sum(path.stat().st_size for file in found.files or () if (path := Path(str(file.locate()))).is_file())
        every[name] = Package(name, size, tuple(canonicalize_name(each) for each in names))
    return [every[name] for name in sorted(reachable(every, [_PRODUCT]))]


def reachable(packages: Mapping[str, Package], names: Iterable[str], without: str = "") -> set[str]:
    """Return the names of what these packages bring, themselves included, if one of them were not there."""
    found: set[str] = set()
    left = [name for name in names if name != without]
    while left:
        name = left.pop()
        if name in packages and name not in found:
            found.add(name)
            left += [each for each in packages[name].requires if each != without]
    return found


def brought_alone(packages: Sequence[Package], root: str = _PRODUCT) -> dict[str, list[Package]]:
    """Return, for each requirement of the root, the packages that would not be there without it."""
    every = {package.name: package for package in packages}
    whole = reachable(every, [root])
    shares = {}
    for name in every[root].requires:
        # The root alone does not require it; another dependency may.
        edited = every | {root: Package(root, 0, tuple(each for each in every[root].requires if each != name))}
        shares[name] = [every[each] for each in sorted(whole - reachable(edited, [root]))]
    return shares


def measure_starts(pythons: Mapping[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Return the median CPU seconds of each start, by the name of its Python; they take turns."""
    spent: dict[str, dict[str, list[float]]] = {side: {name: [] for name in STARTS} for side in pythons}
    for number in range(-1, rounds):  # the first round compiles, and does not count
        for name, code in STARTS.items():
            for side, python in pythons.items():
                process = subprocess.Popen([python, "-c", code], stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise SystemExit(f"{name} failed in {python}")
                if number >= 0:
                    spent[side][name].append(usage.ru_utime + usage.ru_stime)
    return {side: {name: statistics.median(every) for name, every in rows.items()} for side, rows in spent.items()}


def _install(checkout: Path, folder: Path) -> str:
    """Return the Python of a fresh environment with a checkout in it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", str(checkout)], check=True)
    return python


def _site_packages(python: str) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


def _print_packages(side: str, packages: Sequence[Package]) -> None:
    print(f"{side}: {len(packages)} packages, {_mb(packages)}")
    for name, alone in sorted(brought_alone(packages).items(), key=lambda item: -sum(one.size for one in item[1])):
        others = ", ".join(one.name for one in alone if one.name != name)
        print(f"  {name:12} alone {len(alone):3} packages {_mb(alone):>9}   {others}".rstrip())
    every = {package.name: package for package in packages}
    others = [every[name] for name in set(every) - reachable(every, _OWN) - {_PRODUCT}]
    print(f"  all but {', '.join(_OWN)}: {len(others)} packages {_mb(others)}")


def _mb(packages: Iterable[Package]) -> str:
    return f"{sum(package.size for package in packages) / 1e6:.1f} MB"


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.install", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--against", type=Path, metavar="PATH", help="the checkout of another version of nbreplay")
    parser.add_argument("--here", action="store_true", help="measure this environment instead of a fresh one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pythons = {"nbreplay": sys.executable if options.here else _install(_HERE, folder / "this")}
        if options.against:
            pythons["against"] = _install(options.against.resolve(), folder / "against")
        for side, python in pythons.items():
            _print_packages(side, list_packages(_site_packages(python)))
        for side, times in (every := measure_starts(pythons, options.rounds)).items():
            print(f"{side}: CPU, median of {options.rounds}        s  × python  × pandas  × openai")
            for start, seconds in times.items():
                names = ("python", "import pandas", "import openai")
                ratios = "".join(f"{seconds / times[base]:10.2f}" for base in names)
                against = f"   {seconds / every['against'][start]:5.2f} × against" if "against" in every else ""
                print(f"  {start:20} {seconds:9.3f}{ratios}{against}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
