"""The package as a whole: its rooms, its names, and what importing it costs."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbreplay

PACKAGE = Path(nbreplay.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LINES = 600

# errors <- core <- intercept <- notebook, testing, cli; core <- formats <- analysis.
MAY_IMPORT = {
    "errors": set(),
    "prices": set(),
    "core": {"errors"},
    "intercept": {"errors", "core"},
    "formats": {"errors", "core"},
    "analysis": {"errors", "prices", "core", "formats"},
    "notebook": {"errors", "prices", "core", "intercept"},
    "testing": {"errors", "core", "intercept", "notebook"},
    "_show": {"errors", "core", "notebook", "analysis"},
    "verify": {"errors", "core", "intercept", "analysis", "notebook"},
    "check": {"errors", "core", "notebook", "testing"},
    "cli": {"check", "verify", "errors", "core", "intercept", "formats", "analysis", "notebook", "testing", "_show"},
    "__main__": {"cli"},
}


def room(module: str) -> str:
    """The room that a module is in: its first name below the package."""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """The modules that a module imports, inside of functions too."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # "from nbreplay.core import active" imports a module, "from nbreplay.core.cell import Run" a name.
            folder = PACKAGE.parent / module.replace(".", "/")
            modules = {item.name for item in node.names if (folder / f"{item.name}.py").is_file()}
            yield from (f"{module}.{name}" for name in modules)
            if len(modules) < len(node.names):
                yield module


def ours(path: Path) -> set[str]:
    return {room(module) for module in imported(path) if module.split(".")[0] == "nbreplay"} - {""}


@pytest.mark.parametrize("path", [path for path in MODULES if path != PACKAGE / "__init__.py"], ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    own = room(name_of(path))
    allowed = MAY_IMPORT[own] | {own}
    if name_of(path) in ("nbreplay.core.session", "nbreplay.analysis.compare"):
        allowed |= {"_show"}  # the only edges upwards, taken when somebody calls show()
    assert ours(path) <= allowed


def test_the_core_imports_nothing_but_the_standard_library_json_parsers_and_the_file_lock() -> None:
    for path in (PACKAGE / "core").glob("*.py"):
        others = {module.split(".")[0] for module in imported(path)} - sys.stdlib_module_names - {"nbreplay"}
        assert others <= {"filelock", "msgspec", "pydantic_core"}, path.name
    assert {module.split(".")[0] for module in imported(PACKAGE / "errors.py")} <= sys.stdlib_module_names


def test_the_way_imports_are_read_sees_them(tmp_path: Path) -> None:
    found = set(imported(PACKAGE / "core" / "session.py"))
    assert {
        "warnings",
        "nbreplay.core.active",
        "nbreplay.core.cell",
        "nbreplay.core.explain",
        "nbreplay._show",
    } <= found
    assert ours(PACKAGE / "core" / "session.py") == {"core", "errors", "_show"}
    assert room("nbreplay.core.session") == "core"
    assert room("nbreplay") == ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_owns_and_stays_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= LINES


def test_the_public_names_are_sorted_and_can_be_imported() -> None:
    names = nbreplay.__all__
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert dir(nbreplay) == names
    for name in names:
        assert getattr(nbreplay, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        nbreplay.no_such_name  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_list_of_names_is_sorted_and_true(path: Path) -> None:
    names = next(
        (
            ast.literal_eval(node.value)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        [],
    )
    order = sorted(names, key=lambda name: (not name.isupper(), not name[:1].isupper(), name))
    assert names in (order, sorted(names))
    module = importlib.import_module(name_of(path))
    assert [name for name in names if not hasattr(module, name)] == []


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded in a new process after `code`."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"pandas", "numpy", "ipywidgets", "anywidget", "IPython", "openai", "anthropic", "httpx", "httpx2", "nbclient"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_by("import nbreplay")
    assert "nbreplay" in loaded
    assert not loaded & HEAVY
    assert not loaded & {"filelock", "socket", "asyncio", "multiprocessing", "subprocess"}


def test_frames_are_loaded_when_they_are_asked_for_and_need_no_notebook() -> None:
    assert not loaded_by("from nbreplay.analysis import columns, links, rows, sources") & HEAVY
    loaded = loaded_by("from nbreplay import load")
    assert "pandas" in loaded
    assert not loaded & (HEAVY - {"pandas", "numpy"})


def test_replaying_needs_no_library_no_lock_and_no_socket() -> None:
    code = """
from nbreplay import Session, Store
from nbreplay.core.config import Options
from nbreplay.core.request import Call
session = Session(Store("there is none"), Options.of(mode="replay"))
with session:
    try:
        session.ask(Call("GET", "example.com", "/", "", b""))
    except BaseException as error:
        assert type(error).__name__ == "RecordingMissing"
    else:
        raise AssertionError
"""
    assert not loaded_by(code) & (HEAVY | {"filelock", "asyncio", "multiprocessing"})
