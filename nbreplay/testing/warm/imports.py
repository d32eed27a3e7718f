"""The imports of notebooks: which modules can be imported before a kernel is forked, without a notebook noticing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

# Files that libraries read in the working folder while they are imported, by name or by suffix.
_READ = re.compile(r"\.(?!gitignore|gitattributes|gitkeep|DS_Store|ipynb_checkpoints|nbreplay)|matplotlibrc$|wandb$")
_SETTINGS = frozenset({".cfg", ".conf", ".env", ".ini", ".toml", ".yaml", ".yml"})
_DOTENV = ".env"  # looked up in the folders above, too
# Regular expressions, since cells contain magics. Indented imports may never run.
_IMPORT = re.compile(r"^(?:from +([\w.]+) +import|import +([^#;\n]+))", re.MULTILINE)
_RUN = re.compile(r"^%run +(?:-\w +)*[\"']?([\w./ -]+\.(?:ipynb|py))", re.MULTILINE)
_PATH = re.compile(r"^sys\.path\.(?:append\(|insert\(\d+, *)[\"']([^\"'\n]+)", re.MULTILINE)
_OTHER_PATH = re.compile(r"\bsys\.path(?:\.insert\(\d+,(?! *[\"'])|\[.*\] *=| *=)")
_MOST_FILES = 20


def imported_modules(path: Path) -> list[str]:
    """Return the installed modules that the cells of a notebook import, in order.

    Modules in the folder of the notebook, or in a folder that it adds to ``sys.path``, are left out, since they may
    change between runs, but not what they import. A notebook that puts a folder before the installed modules whose name
    is computed has none that can be imported ahead: the folder may contain any of them.
    """
    if any(map(_OTHER_PATH.search, _sources(path))):
        return []
    folder = path.parent
    places = [folder]
    names = dict.fromkeys(_all_imports(path, places))
    own = [str(place) for place in places]
    installed = [entry for entry in sys.path if entry and Path(entry).resolve() != folder.resolve()]

    def is_installed(name: str) -> bool:
        top = name.partition(".")[0]
        return PathFinder.find_spec(top, own) is None and PathFinder.find_spec(top, installed) is not None

    return list(filter(is_installed, names))


def _all_imports(path: Path, places: list[Path]) -> Iterator[str]:
    """Yield the modules that a notebook imports, and those that the files which it imports or runs import.

    The folders that it adds to ``sys.path`` are added to `places`, of which the first is its own.
    """
    files = [path]
    for file in files:  # it grows
        for source in _sources(file):
            more = [places[0] / name for name in _RUN.findall(source)]
            places += [places[0] / name for name in _PATH.findall(source)]
            for first, several in _IMPORT.findall(source):
                for part in [first] if first else several.split(","):
                    for name in re.findall(r"^ *(\w[\w.]*)", part):
                        yield name
                        more += [place / f"{name.replace('.', '/')}.py" for place in places]
            files += [each for each in more if each not in files and each.is_file()][: max(0, _MOST_FILES - len(files))]


def _sources(path: Path) -> Iterator[str]:
    """Yield the source of a module, or of the code cells of a notebook. What is invalid is reported when it is run."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        text = path.read_text("utf-8")
        if path.suffix == ".py":
            yield text
            return
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])


def is_read_by_imports(folder: Path) -> bool:
    """Return whether a folder may change what an import does: by its settings, or by a relative PYTHONPATH."""
    if any(not os.path.isabs(entry) for entry in os.environ.get("PYTHONPATH", "/").split(os.pathsep)):
        return True
    folder = folder.resolve()
    if any((parent / _DOTENV).exists() for parent in folder.parents):
        return True
    with contextlib.suppress(OSError):
        return any(_READ.match(name) or Path(name).suffix in _SETTINGS for name in os.listdir(folder))
    return True


def local_modules(folder: str) -> set[str]:
    """Return the names of the modules and packages in a folder, which precede installed ones of these names."""
    names: set[str] = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            stem, _, suffix = entry.name.partition(".")
            if suffix == "py" or suffix.endswith("so") or os.path.exists(os.path.join(entry.path, "__init__.py")):
                names.add(stem)
    return names
