"""The package keeps the rules that `tests.house` measures, and each measure finds what it is to find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import house

# At most so many today, and where the package is to come to.
LIMITS = {
    "modules": (195, 190),
    "lines": (40_000, 39_500),
    "lines of the longest module": (600, 600),
    "import circles": (0, 0),
    "arrows back up": (0, 0),
    "public functions without a docstring": (0, 0),
    'messages that begin with "it" or "its"': (0, 0),
    'messages and docstrings with "is no" or "are no"': (0, 0),
    "functions named by a participle": (0, 0),
    "public functions that return Any": (0, 0),
}


@pytest.fixture(scope="module")
def measured() -> house.House:
    return house.measure()


@pytest.mark.parametrize("name", LIMITS)
def test_the_package_keeps_a_limit(name: str, measured: house.House) -> None:
    today, _ = LIMITS[name]
    assert measured.figures[name] <= today, "\n".join(measured.places.get(name, []))


SAMPLE = {
    "__init__.py": '"""The package."""\nfrom nbreplay.core.one import public\n',
    "errors.py": '"""Errors."""\n',
    "core/__init__.py": '"""The core."""\n',
    "core/one.py": '''"""One. It is no module of use."""
from nbreplay.errors import StoreError
from typing import Any, TYPE_CHECKING, overload
if TYPE_CHECKING:
    from nbreplay.core import two

def public() -> Any:
    from .. import cli
    return told(given := 1)

def told(asked):
    """Say it. Its end."""
    raise StoreError(f"{asked}: it is there")

def open_it() -> int:
    """Open."""
    why = "its name is wrong" if told else "x"
    raise StoreError("there are no such files" + why)

class Public:
    def method(self):
        def inner(): ...
    @property
    def closed(self) -> bool:
        """Closed."""
    def _private(self): ...

class _Private:
    def method(self): ...
''',
    "core/two.py": '"""Two."""\nimport nbreplay.core.one\n',
    "cli/__init__.py": '"""The command line."""\nfrom nbreplay.core import one, two\n',
    "formats/vcr.py": '"""One."""\nfrom nbreplay.providers import names\nfrom nbreplay.intercept import patching\n',
    "providers/names.py": '"""Names."""\n',
    "intercept/patching.py": '"""Patches."""\n',
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = tmp_path_factory.mktemp("sample") / "nbreplay"
    for name, text in SAMPLE.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, encoding="utf-8")
    return package


def texts(found: house.House, rule: str) -> list[str]:
    """The places of a rule without their path and line."""
    return [place.split(": ", 1)[1] for place in found.places[rule]]


def test_each_rule_finds_what_breaks_it(sample: Path) -> None:
    found = house.measure(sample)
    assert found.places["import circles"] == ["nbreplay.cli <-> nbreplay.core.one <-> nbreplay.core.two"]
    assert texts(found, "arrows back up") == ["imports nbreplay.cli", "imports nbreplay.intercept.patching"]
    assert texts(found, "public functions without a docstring") == ["public", "method", "Public"]
    assert sorted(texts(found, 'messages that begin with "it" or "its"')) == ["its name is wrong", "{}: it is there"]
    assert texts(found, 'messages and docstrings with "is no" or "are no"') == [
        "there are no such files",
        "It is no module of use",
    ]
    assert texts(found, "functions named by a participle") == ["def told"]
    assert texts(found, "locals named by a participle") == ["given in public", "asked in told"]
    assert texts(found, "public functions that return Any") == ["public returns Any"]
    assert found.figures["messages of exceptions"] == 2
    assert found.figures["modules"] == len(SAMPLE) - 1, "a package of one line is no module"
    assert found.figures["lines"] == sum(text.count("\n") for text in SAMPLE.values())
    assert found.longest == "nbreplay/core/one.py"
    assert found.places["arrows back up"][0].startswith("nbreplay/core/one.py:8: ")


def test_what_a_module_imports_is_seen_in_functions_too(sample: Path) -> None:
    assert set(house.Module(sample / "core" / "one.py", sample).imports) == {
        *("typing", "nbreplay.errors", "nbreplay.core.two", "nbreplay.cli")
    }
    assert set(house.Module(sample / "cli" / "__init__.py", sample).imports) == {
        "nbreplay.core.one",
        "nbreplay.core.two",
    }
    assert house.Module(sample / "core" / "one.py", sample).room == "core"
    assert house.Module(sample / "__init__.py", sample).room == ""


def test_which_room_sees_which() -> None:
    assert house.may_import("errors") == {"errors"}
    assert house.may_import("core") == {"core", "errors", "prices"}
    assert house.may_import("formats") == {"formats", "providers", "core", "errors", "prices"}
    assert "analysis" not in house.may_import("testing")
    assert house.may_import("cli") >= {"testing", "analysis", "notebook"}


@pytest.mark.parametrize(
    ("name", "participle"),
    [
        ("told", True),
        ("_opened", True),
        ("read", False),
        ("feed", False),
        ("open_archive", False),
        ("is_opened", False),
    ],
)
def test_a_participle_is_known(name: str, participle: bool) -> None:
    assert house.is_participle(name) is participle


def test_the_script_prints_the_table(sample: Path) -> None:
    def printed(*options: str) -> str:
        command = [sys.executable, "-m", "tests.house", "--package", str(sample), *options]
        root = Path(__file__).parent.parent
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout

    assert f"modules {len(SAMPLE) - 1:>50}".split() == printed().splitlines()[0].split()
    assert "nbreplay/core/one.py:8: imports nbreplay.cli" in printed("--places")
    assert json.loads(printed("--json"))["figures"]["import circles"] == 1
