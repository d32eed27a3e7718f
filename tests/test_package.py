"""The package as a whole: its rooms, its names, and what importing it costs."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import nbreplay
from tests.house import Module, modules_of

PACKAGE = Path(nbreplay.__file__).parent
MODULES = modules_of(PACKAGE)
NAMES = [module.name for module in MODULES]


def test_the_core_imports_nothing_but_the_standard_library_json_parsers_and_the_file_lock() -> None:
    core = [module for module in MODULES if module.room in ("core", "errors")]
    assert len(core) > 10
    for module in core:
        others = {name.split(".")[0] for name in module.imports} - sys.stdlib_module_names - {"nbreplay"}
        assert others <= ({"filelock", "msgspec", "pydantic_core"} if module.room == "core" else set()), module.name


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_a_module_says_what_it_owns(module: Module) -> None:
    assert ast.get_docstring(module.tree)


def test_the_public_names_are_sorted_and_can_be_imported() -> None:
    names = nbreplay.__all__
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert dir(nbreplay) == names
    for name in names:
        assert getattr(nbreplay, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        nbreplay.no_such_name  # noqa: B018


OPTIONAL = {"sphinx", "wsproto"}
"""What modules import that only they need, and that the quick set of tests does without."""


@pytest.mark.parametrize("module", MODULES, ids=NAMES)
def test_every_list_of_names_is_sorted_and_true(module: Module) -> None:
    names = next(
        (
            ast.literal_eval(node.value)
            for node in module.tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        [],
    )
    order = sorted(names, key=lambda name: (not name.isupper(), not name[:1].isupper(), name))
    assert names in (order, sorted(names))
    try:
        loaded = importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed: pip install -e '.[test-full]'")
    assert [name for name in names if not hasattr(loaded, name)] == []


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
    assert not loaded_by("from nbreplay.analysis import columns, rows, sources") & HEAVY
    loaded = loaded_by("from nbreplay import load")
    assert "pandas" in loaded
    assert not loaded & (HEAVY - {"pandas", "numpy"})


def test_the_extension_and_the_command_load_a_dependency_only_when_they_use_it() -> None:
    dependencies = {"ipykernel", "msgspec", "nbformat", "pydantic", "rich", "tomlkit", *HEAVY}
    code = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
shell.run_line_magic("load_ext", "nbreplay")
shell.run_line_magic("replay", "replay")
shell.run_line_magic("replay", "off")
"""
    assert loaded_by(code) & dependencies == {"IPython", "msgspec"}
    command = "from nbreplay.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert loaded_by(command) & dependencies <= {"msgspec", "rich"}  # which lays out the help


def test_replaying_needs_no_library_no_lock_and_no_socket() -> None:
    code = """
from nbreplay import Session, Store
from nbreplay.core.config import Options
from nbreplay.core.request.request import Call
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
