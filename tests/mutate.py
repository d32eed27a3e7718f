"""Mutation testing: how many small changes of a module its tests notice.

``python -m tests.mutate nbreplay.core.selection tests/core/test_selection.py`` changes one operator, constant,
condition, argument or statement at a time, runs the tests, and prints the score and the changes that no test noticed.
``--list`` only prints the changes. Each change runs in a fork of a process that has imported everything.
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import pytest

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


def _changes(node: ast.AST) -> Iterator[tuple[str, Any, Any]]:
    """Yield what can be changed in a node itself: field, old value, new value."""
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            new = [*node.ops[:index], _SWAPS[type(operator)](), *node.ops[index + 1 :]]
            yield "ops", node.ops, new
    elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign) and type(node.op) in _SWAPS:
        yield "op", node.op, _SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant):
        match node.value:
            case bool():
                yield "value", node.value, not node.value
            case int() | float():
                yield "value", node.value, node.value + 1
            case str():
                yield "value", node.value, f"XX{node.value}"
            case bytes():
                yield "value", node.value, b"XX" + node.value
    elif isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare):
        yield "test", node.test, ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return | ast.Assign | ast.AnnAssign) and node.value is not None:
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield "value", node.value, ast.Constant(None)
    elif isinstance(node, ast.Call):
        for index, argument in enumerate(node.args):
            if not isinstance(argument, ast.Constant | ast.Starred):
                yield "args", node.args, [*node.args[:index], ast.Constant(None), *node.args[index + 1 :]]
        for index in range(len(node.keywords)):
            yield "keywords", node.keywords, [*node.keywords[:index], *node.keywords[index + 1 :]]
    elif isinstance(node, ast.comprehension) and node.ifs and not isinstance(node.ifs[0], ast.Compare):
        yield "ifs", node.ifs, [ast.UnaryOp(ast.Not(), test) for test in node.ifs]
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list) and not isinstance(node, ast.Module | ast.ClassDef):
            for index, statement in enumerate(block):
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                    yield field, block, [*block[:index], ast.Pass(), *block[index + 1 :]]
                elif isinstance(statement, ast.Break | ast.Continue):
                    swap: ast.stmt = ast.Continue() if isinstance(statement, ast.Break) else ast.Break()
                    yield field, block, [*block[:index], swap, *block[index + 1 :]]


_DECLARATIONS = ("annotation", "returns", "decorator_list")


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Yield each node that runs, with the qualified name of the function that it is in, ``""`` outside of any.

    Neither annotations, types, docstrings, ``__all__``, imports nor the text of errors are among them.
    """
    todo: list[tuple[ast.AST, tuple[str, ...], bool]] = [(tree, (), False)]
    while todo:
        node, names, inside = todo.pop(0)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.Assert | ast.JoinedStr):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Assign) and (
            ast.unparse(node.targets[0]) == "__all__"
            or (not inside and ast.unparse(node.value).partition("[")[0] in ("list", "dict", "tuple", "Literal"))
            or ast.unparse(node.value).startswith("TypeVar(")
        ):
            continue  # names that are exported, and types
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if names and not inside and not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue  # the fields of a class
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not inside:
            names, inside = (*names, node.name), not isinstance(node, ast.ClassDef)
        yield node, ".".join(names) if inside else ""
        for field, value in ast.iter_fields(node):
            if field == "body" or (not isinstance(node, ast.ClassDef) and field not in _DECLARATIONS):
                items = value if isinstance(value, list) else [value]
                todo += [(item, names, inside) for item in items if isinstance(item, ast.AST)]


class Change(NamedTuple):
    """A change to a module: its line, the function that it is in, its description, and how to make it."""

    line: int
    function: str
    text: str
    tree: ast.Module
    node: ast.AST
    field: str
    new: Any

    def apply(self) -> ast.Module:
        """Change the tree, for good, and return it."""
        setattr(self.node, self.field, self.new)
        return ast.fix_missing_locations(self.tree)


def find_changes(source: str) -> list[Change]:
    """Return each small change to a module."""
    tree = ast.parse(source)
    changes = []
    for node, function in _nodes(tree):
        for field, old, new in _changes(node):
            shown = node if isinstance(node, ast.expr | ast.Return | ast.Assign | ast.AnnAssign) else None
            before = ast.unparse(shown) if shown else ""
            if isinstance(new, list) and not shown:
                pairs = zip(old, new, strict=True)
                before, after = next((ast.unparse(a), ast.unparse(b)) for a, b in pairs if a is not b)
            elif shown:
                setattr(node, field, new)
                after = ast.unparse(shown)
                setattr(node, field, old)
            else:
                before, after = ast.unparse(old), ast.unparse(new)
            line = getattr(node, "lineno", None) or getattr(old, "lineno", None) or _line_of(old)
            changes.append(Change(line, function, f"{before}  ->  {after}", tree, node, field, new))
    return sorted(changes, key=lambda change: change.line)


def _line_of(nodes: Any) -> int:
    return next((node.lineno for node in nodes if hasattr(node, "lineno")), 0) if isinstance(nodes, list) else 0


def _functions(owner: Any) -> Iterator[tuple[str, types.FunctionType]]:
    """Yield the functions that a module or class defines, by qualified name."""
    for value in list(vars(owner).values()):
        if isinstance(value, property | functools.cached_property):
            value = value.fget if isinstance(value, property) else value.func
        value = getattr(value, "__func__", getattr(value, "__wrapped__", value))
        if isinstance(value, types.FunctionType):
            yield value.__qualname__, value
        elif isinstance(value, type) and value.__module__ == getattr(owner, "__module__", owner.__name__):
            yield from _functions(value)


def _install(module: types.ModuleType, tree: ast.Module) -> None:
    """Put the changed code into the functions of the module, and its changed constants wherever they were imported."""
    changed = types.ModuleType(module.__name__)
    changed.__file__ = module.__file__
    exec(compile(tree, module.__file__ or "", "exec"), changed.__dict__)
    new = dict(_functions(changed))
    for name, function in _functions(module):
        if name in new and new[name].__module__ == module.__name__:
            function.__code__ = new[name].__code__
            function.__defaults__, function.__kwdefaults__ = new[name].__defaults__, new[name].__kwdefaults__
    for name, value in list(vars(module).items()):
        if hasattr(value, "cache_clear"):
            value.cache_clear()
        # Functions and objects of the module's own classes have the new code already.
        own = getattr(value, "__module__", type(value).__module__) == module.__name__
        if own or name.startswith("__") or isinstance(value, type | types.ModuleType | TypeVar):
            continue
        for key, user in list(sys.modules.items()):
            if key.startswith("nbreplay") and vars(user).get(name) is value:
                setattr(user, name, vars(changed).get(name))


class _Mutation:
    """A plugin of pytest that runs the tests of each change in a fork: those that enter the changed function."""

    def __init__(self, module: types.ModuleType, changes: list[Change], at_once: int) -> None:
        self.module, self.changes, self.at_once = module, changes, at_once
        self.survivors: list[Change] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests without a change, and then those of each change."""
        started = time.monotonic()
        with tempfile.NamedTemporaryFile() as file:
            child = self._fork(session.items, None, file.name)
            if os.waitpid(child, 0)[1]:
                print("the tests fail without any change")
                os._exit(1)
            entered = json.load(file)
        limit = 10 + 4 * (time.monotonic() - started)
        todo, running = self.changes[::-1], dict[int, tuple[Change, float]]()
        while todo or running:
            while todo and len(running) < self.at_once:
                change = todo.pop()
                items = [item for item, names in zip(session.items, entered, strict=True) if change.function in names]
                running[self._fork(items, change)] = change, time.monotonic() + limit
            for child, (change, end) in list(running.items()):
                if time.monotonic() > end:
                    os.killpg(child, signal.SIGKILL)
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    del running[child]
                    if status == 0:
                        self.survivors.append(change)
                        print(f"{change.line}: {change.text}", flush=True)
            time.sleep(0.005)
        return True

    def _fork(self, items: list[pytest.Item], change: Change | None, report: str = "") -> int:
        """Run `items` in a fork, which ends with 0 where they pass. Report which functions each of them enters."""
        child = os.fork()
        if child:
            return child
        failed, entered, names = True, list[list[str]](), {""}

        def trace(frame: types.FrameType, _: str, __: object) -> None:
            if frame.f_code.co_filename == self.module.__file__:
                names.add(frame.f_code.co_qualname.partition(".<locals>")[0])

        try:
            os.setsid()
            for number in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            if change is not None:
                _install(self.module, change.apply())
            else:
                threading.settrace(trace)
            session = items[0].session if items else None
            for item, following in itertools.zip_longest(items, items[1:]):
                names = {""}
                if change is None:
                    sys.settrace(trace)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                sys.settrace(None)
                entered.append(sorted(names))
                if item.session.testsfailed:
                    break
            if report:
                with open(report, "w", encoding="utf-8") as file:
                    json.dump(entered, file)
            failed = bool(session and session.testsfailed)
        finally:
            os._exit(failed)


def main() -> int:
    """Print the changes that survive, and the score of a module."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutate", description="Mutation testing of one module.")
    parser.add_argument("module", help="such as nbreplay.core.selection")
    parser.add_argument("tests", nargs="*", help="files of tests")
    parser.add_argument("--list", action="store_true", help="print the changes, run nothing")
    parser.add_argument("--lines", help="only changes in these lines, such as 10-40")
    parser.add_argument("-n", type=int, default=2, help="how many changes are tested at once (default: 2)")
    options = parser.parse_args()
    module = importlib.import_module(options.module)
    with open(module.__file__ or "", encoding="utf-8") as file:
        changes = find_changes(file.read())
    if options.lines:
        first, _, last = options.lines.partition("-")
        changes = [change for change in changes if int(first) <= change.line <= int(last or first)]
    if options.list:
        print("\n".join(f"{change.line}: {change.text}" for change in changes))
        return 0
    mutation = _Mutation(module, changes, options.n)
    quiet = ["-o", "addopts=--import-mode=importlib", "-W", "ignore:Module already imported"]
    for plugin in ("cacheprovider", "terminal"):
        quiet += ["-p", f"no:{plugin}"]
    if status := pytest.main([*quiet, *options.tests], plugins=[mutation]):
        return int(status)
    killed = len(changes) - len(mutation.survivors)
    print(f"{options.module}: {killed} of {len(changes)} changes noticed, {killed / len(changes):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
