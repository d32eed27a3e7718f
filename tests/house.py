"""Measures the package against the rules that CONTRIBUTING gives: sizes, imports, names, docstrings and texts.

``python -m tests.house`` prints the table, ``--places`` each place that breaks a rule, ``--json`` both as JSON, and
``--package PATH`` measures another copy of the package.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "nbreplay"

# A room imports from those in the rows above its own, and from no other room of its own row.
ORDER = (
    ("errors", "prices"),
    ("core",),
    ("providers", "intercept", "formats"),
    ("notebook",),
    ("analysis", "serve", "testing"),
    ("lite",),
    ("cli", "sphinx"),
)
SIDEWAYS = {("intercept", "providers"), ("formats", "providers")}

# Reports that stand in the stored outputs of saved notebooks, which a new version must not make differ.
IN_NOTEBOOKS = ("It does not display what it displayed before. To store what is new: nbreplay run --update, or",)

_LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
_TOP = len(ORDER)

_PARTICIPLE = re.compile(
    """[a-z]{2,}ed
    |begun|begot|bound|broken|brought|built|caught|chosen|done|drawn|driven|fed|felt|forgotten|found|frozen|given|gone
    |got|grown|heard|held|hidden|kept|known|laid|led|left|lost|made|meant|met|paid|said|seen|sent|shown|shut|spoken
    |stood|struck|sung|taken|thought|thrown|told|torn|understood|woken|won|worn|written""",
    re.VERBOSE,
)
_NOUNS = {"feed", "need", "seed", "shed", "speed"}

LOCALS = (
    "asked",
    "found",
    "given",
    "held",
    "kept",
    "known",
    "made",
    "opened",
    "said",
    "seen",
    "shown",
    "taken",
    "told",
)
"""Participles that are counted as names of locals and parameters, too."""


@dataclass(frozen=True)
class Place:
    """Where a rule is broken."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


class Module:
    """A module of the package, parsed."""

    def __init__(self, path: Path, package: Path) -> None:
        self.path, self.package = path, package
        self.shown = path.relative_to(package.parent).as_posix()
        parts = path.relative_to(package.parent).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.source = path.read_text(encoding="utf-8")
        self.lines = len(self.source.splitlines())
        self.tree = ast.parse(self.source)

    @property
    def room(self) -> str:
        """The first name below the package; empty for the package itself."""
        return room_of(self.name)

    @cached_property
    def imports(self) -> dict[str, int]:
        """The modules that are imported anywhere in this one, each with the first line that does."""
        found: dict[str, int] = {}
        base = self.name if self.is_package else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = self._imported_from(node, base)
            else:
                continue
            for name in names:
                found.setdefault(name, node.lineno)
        return found

    def _imported_from(self, node: ast.ImportFrom, base: str) -> list[str]:
        above = ".".join(base.split(".")[: len(base.split(".")) - node.level + 1]) if node.level else ""
        module = ".".join(filter(None, (above, node.module)))
        # "from nbreplay.core import active" imports a module, "from nbreplay.core.cell import Run" a name.
        folder = self.package.parent / module.replace(".", "/")
        inner = [
            f"{module}.{each.name}"
            for each in node.names
            if (folder / f"{each.name}.py").is_file() or (folder / each.name / "__init__.py").is_file()
        ]
        return inner if len(inner) == len(node.names) else [*inner, module]

    def at(self, node: ast.AST, text: str) -> Place:
        """The place of a node."""
        return Place(self.shown, getattr(node, "lineno", 1), text)

    @cached_property
    def docstrings(self) -> dict[int, ast.Constant]:
        """Docstrings, and the strings below constants that describe them, by the identity of their node."""
        found = {}
        for node in ast.walk(self.tree):
            for statement in getattr(node, "body", []) if not isinstance(node, ast.Lambda | ast.IfExp) else []:
                if (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                ):
                    found[id(statement.value)] = statement.value
        return found

    @cached_property
    def texts(self) -> list[tuple[ast.AST, str]]:
        """Every string but docstrings; an f-string with {} for each value."""
        found: list[tuple[ast.AST, str]] = []
        inner: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.JoinedStr):
                inner.update(id(value) for value in node.values)
                found.append((node, _text(node)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append((node, node.value))
        return [(node, text) for node, text in found if id(node) not in inner and id(node) not in self.docstrings]


Function = ast.FunctionDef | ast.AsyncFunctionDef


def room_of(module: str) -> str:
    """The room of a module's dotted name."""
    return [*module.split("."), ""][1]


def may_import(room: str) -> set[str]:
    """The rooms that a room may import from, itself included; the package itself and the command line see all."""
    level = _LEVELS.get(room, _TOP)
    below = {each for each, other in _LEVELS.items() if other < level}
    return below | {room} | {to for origin, to in SIDEWAYS if origin == room}


def modules_of(package: Path = PACKAGE) -> list[Module]:
    """Every module of the package, by name."""
    return [Module(path, package) for path in sorted(package.rglob("*.py"))]


def _text(node: ast.AST | None) -> str:
    """The text of an expression: of a sum or a choice its first part; {} for what is not known."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in values)
        case ast.BinOp(left=left):
            return _text(left)
        case ast.IfExp(body=body):
            return _text(body)
        case ast.Call(func=ast.Attribute(value=value)):
            return _text(value)
    return "{}"


def circles(modules: list[Module]) -> list[list[str]]:
    """The groups of modules that import each other, over imports of every kind (Tarjan's algorithm)."""
    edges = graph(modules)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found


def graph(modules: list[Module]) -> dict[str, set[str]]:
    """For each module the modules of the package that it imports."""
    known = {module.name for module in modules}
    return {module.name: {name for name in module.imports if name in known} - {module.name} for module in modules}


def back_arrows(module: Module) -> list[Place]:
    """The imports of a module from a room that it may not see. The package's own names may come from anywhere."""
    if module.name == module.package.name:
        return []
    allowed = may_import(module.room)
    return [
        Place(module.shown, line, f"imports {name}")
        for name, line in module.imports.items()
        if name.split(".")[0] == module.package.name and room_of(name) and room_of(name) not in allowed
    ]


def functions(module: Module) -> Iterator[tuple[Function, bool]]:
    """Every function and method, and whether it is public: neither it nor what it stands in begins with _."""

    def inside(node: ast.AST, public: bool) -> Iterator[tuple[Function, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from inside(child, public and not child.name.startswith("_"))
            elif isinstance(child, Function):
                yield child, public and not child.name.startswith("_")
                yield from inside(child, False)
            else:
                yield from inside(child, public)

    return inside(module.tree, True)


def _decorators(function: Function) -> list[str]:
    return [ast.unparse(each).rpartition(".")[2] for each in function.decorator_list]


def without_docstring(module: Module) -> list[Place]:
    """Public functions, methods and classes without a docstring."""
    assigned = {ast.unparse(node.targets[0]) for node in ast.walk(module.tree) if isinstance(node, ast.Assign)}
    found = [
        module.at(function, function.name)
        for function, public in functions(module)
        if public
        and not ast.get_docstring(function)
        and f"{function.name}.__doc__" not in assigned
        and not {"overload", "setter"} & set(_decorators(function))
    ]
    classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    return found + [module.at(node, node.name) for node in classes if not ast.get_docstring(node)]


def returning_any(module: Module) -> list[Place]:
    """Public functions that return Any."""
    return [
        module.at(function, f"{function.name} returns {ast.unparse(function.returns)}")
        for function, public in functions(module)
        if public and function.returns is not None and re.fullmatch(r"Any( \| None)?", ast.unparse(function.returns))
    ]


def raised(module: Module) -> list[Place]:
    """The messages of all exceptions that are made, raised at once or returned by a function to be raised."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            text = _text(node.args[0])
            if re.search(r"(Error|Missing|Incomplete|Mismatch|Blocked|Exit|Warning)$", name) and text != "{}":
                found.append(module.at(node, text))
    return found


def with_it(module: Module) -> list[Place]:
    """Texts that begin with "it" or "its", or do after the name of a file.

    All texts, not only those in a ``raise``: a message is often put together of a reason and a path.
    """
    pattern = re.compile(r"(?:(?:\{\}|[\w.%]+), )*(?:\{\}: )?its?\b(?![.(])(?=\s)", re.IGNORECASE)
    return [module.at(node, text) for node, text in module.texts if pattern.match(text) and text not in IN_NOTEBOOKS]


def with_no(module: Module) -> list[Place]:
    """Texts and docstrings with "is no" or "are no"."""
    found = [*module.texts, *((node, str(node.value)) for node in module.docstrings.values())]
    pattern = re.compile(r"[^.;\n]*\b(?:is|are) no\s[^.;\n]*")
    return [
        Place(module.shown, getattr(node, "lineno", 1) + text.count("\n", 0, match.start()), match[0].strip())
        for node, text in found
        for match in pattern.finditer(text)
    ]


def is_participle(name: str) -> bool:
    """Tell whether a name is one bare participle: told, opened, made."""
    word = name.strip("_")
    return word not in _NOUNS and _PARTICIPLE.fullmatch(word) is not None


def participles(module: Module) -> list[Place]:
    """Functions whose name is a bare participle. Properties and questions (``closed``) may be."""
    return [
        module.at(function, f"def {function.name}")
        for function, _ in functions(module)
        if is_participle(function.name)
        and not {"property", "cached_property", "setter"} & set(_decorators(function))
        and not (function.returns is not None and ast.unparse(function.returns) == "bool")
    ]


def participle_locals(module: Module) -> list[Place]:
    """Locals and parameters that are named by one of `LOCALS`."""
    found: list[Place] = []
    for function, _ in functions(module):
        names = {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        given = function.args
        names |= {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
        found += [
            module.at(function, f"{name} in {function.name}") for name in sorted(names) if name.strip("_") in LOCALS
        ]
    return found


RULES: dict[str, Callable[[Module], list[Place]]] = {
    "arrows back up": back_arrows,
    "public functions without a docstring": without_docstring,
    'messages that begin with "it" or "its"': with_it,
    'messages and docstrings with "is no" or "are no"': with_no,
    "functions named by a participle": participles,
    "locals named by a participle": participle_locals,
    "public functions that return Any": returning_any,
}
"""Each rule with what finds the places that break it."""


@dataclass(frozen=True)
class House:
    """The measures of a package.

    Attributes
    ----------
    figures : dict of str to int
    places : dict of str to list of str
        For each rule what breaks it.
    """

    figures: dict[str, int]
    places: dict[str, list[str]]
    longest: str
    shortest: str


def measure(package: Path = PACKAGE) -> House:
    """Measure a package."""
    modules = modules_of(package)
    sized = sorted((module for module in modules if not module.is_package), key=lambda module: module.lines)
    groups = circles(modules)
    places = {"import circles": [" <-> ".join(group) for group in groups]}
    places |= {rule: [str(place) for module in modules for place in find(module)] for rule, find in RULES.items()}
    figures = {
        "modules": sum(not module.is_package or module.lines > 1 for module in modules),
        "lines": sum(module.lines for module in modules),
        "lines of the longest module": sized[-1].lines,
        "lines of the shortest module": sized[0].lines,
        "messages of exceptions": sum(len(raised(module)) for module in modules),
        **{rule: len(found) for rule, found in places.items()},
    }
    return House(figures, places, sized[-1].shown, sized[0].shown)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.house", description="Measure the package.")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="the package's folder")
    parser.add_argument("--places", action="store_true", help="print each place that breaks a rule, too")
    parser.add_argument("--json", action="store_true", help="print figures and places as JSON")
    options = parser.parse_args()
    house = measure(options.package.resolve())
    if options.json:
        print(json.dumps({"figures": house.figures, "places": house.places}, indent=2, ensure_ascii=False))
        return
    for name, value in house.figures.items():
        note = {"lines of the longest module": house.longest, "lines of the shortest module": house.shortest}.get(
            name, ""
        )
        print(f"{name:<50} {value:>7,}  {note}".rstrip())
    if options.places:
        for rule, found in house.places.items():
            print("", rule, *(f"  {place}" for place in found), sep="\n")


if __name__ == "__main__":
    main()
