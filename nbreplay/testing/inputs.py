"""Inputs: what a notebook asks for although nobody is at the keyboard, and what it gets.

That is ``getpass``, ``input``, Colab's ``userdata``, ``%store -r`` and environment variables. A run that records gives
the value of the environment's variable or of ``-p``; a replay gives a placeholder for what is secret. For what is left,
an error names the variable.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import linecache
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

import msgspec
from IPython.core.error import StdinNotImplementedError

from nbreplay.core.config import Mode, forced_mode
from nbreplay.core.secrets.credentials import PLACEHOLDER, is_secret_name, is_secret_variable, learn_secret
from nbreplay.errors import NbreplayError
from nbreplay.intercept import placeholder_keys

_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_FILLERS = {
    *("a", "an", "enter", "for", "hidden", "here", "input", "is", "paste", "please", "provide", "the", "to", "type"),
    *("what", "which", "your"),
}
_LAST_WORDS = frozenset(("key", "token", "password", "secret", "pat"))


class InputMissing(NbreplayError, StdinNotImplementedError):
    """A notebook asks for an input that it is not given."""


class Input(msgspec.Struct, frozen=True):
    """One thing that a notebook asked for."""

    name: str  # the variable, or the best guess of it
    kind: str  # ``getpass``, ``input``, ``userdata``, ``store`` or ``environ``
    given: str  # ``value``, ``placeholder``, or ``""`` for nothing
    prompt: str = ""
    cell: str | None = None  # the id of the cell


class Inputs:
    """Answers what the cells of a kernel ask for, and notes it."""

    def __init__(self, shell: Any, parameters: Mapping[str, Any], mode: Mode | None) -> None:
        self._shell, self._mode = shell, mode
        self._parameters = {_plain(name): _text(value) for name, value in parameters.items()}
        self.asked: dict[Input, None] = {}  # in order, each once

    def install(self) -> None:
        """Take the place of the front end that a notebook asks, and look at each cell before it runs."""
        kernel = self._shell.kernel
        kernel.raw_input, kernel.getpass = self._input, self._getpass
        self._shell.ast_transformers.append(self)
        magics = self._shell.magics_manager.magics["line"]
        if store := magics.get("store"):
            magics["store"] = lambda line: self._restore(store, line)

    # As IPython calls a transformer of a cell's syntax tree.
    def visit(self, node: ast.AST) -> ast.AST:
        """Set the variables that a cell reads, and have it import a stand-in for Colab's ``userdata``."""
        for name, is_needed in _variables_read(node).items():
            if not os.environ.get(name):
                self._set_variable(name, is_needed)
        changed: ast.AST = _UserdataImport().visit(node)
        return changed

    def _set_variable(self, name: str, is_needed: bool) -> None:
        value = self._parameters.get(_plain(name))
        given = "value" if value else ""
        if value:
            os.environ[name] = value
        elif is_needed and is_secret_variable(name) and self._mode in (Mode.REPLAY, Mode.AUTO):
            given = "placeholder" if placeholder_keys.place_one(name) else ""
        if given or is_needed:
            self._note(name, "environ", given)

    def _input(self, prompt: object = "") -> str:
        names = list(_names_of(str(prompt), sys._getframe(1)))
        is_secret = any(is_secret_name(name) or is_secret_variable(name) for name in names)
        return self._answer("input", names, str(prompt), is_secret=is_secret)

    def _getpass(self, prompt: str = "", stream: Any = None, *, echo_char: str | None = None) -> str:  # noqa: ARG002
        return self._answer("getpass", list(_names_of(str(prompt), sys._getframe(1))), str(prompt), is_secret=True)

    def secret(self, name: str) -> str:
        """Return what Colab keeps under a name. Raise `InputMissing` if there is nothing."""
        return self._answer("userdata", [name], "", is_secret=True)

    def _restore(self, original: Any, line: str) -> Any:
        options = line.split()
        for name in list(options) if "-r" in options else ():
            if name.startswith("-") or f"autorestore/{name}" in self._shell.db:
                continue
            value, given = self._find("store", [name], is_secret=is_secret_name(name))
            self._note(name, "store", given)
            if value is not None:
                self._shell.user_ns[name] = value
                options.remove(name)
        # Without a name it would restore all.
        return None if options == ["-r"] != line.split() else original(" ".join(options))

    def _answer(self, kind: str, names: list[str], prompt: str, *, is_secret: bool) -> str:
        value, given = self._find(kind, names, is_secret=is_secret)
        best = _best(names, is_secret=is_secret)
        if is_secret and is_secret_variable(_plain(best)):
            best = _plain(best)
        self._note(best, kind, given, prompt)
        if value is not None:
            return value
        shown = " ".join(filter(None, [kind, json.dumps(prompt, ensure_ascii=False) if prompt else ""]))
        remedies = [f"set the variable {best}"] if is_secret and is_secret_variable(best) else []
        remedies.append(f"pass -p {best or 'NAME'}=VALUE")
        text = f"the notebook asks for {best or 'an input'} ({shown}), and nobody can answer. "
        raise InputMissing(text + re.sub("^[sp]", lambda match: match[0].upper(), " or ".join(remedies)))

    def _find(self, kind: str, names: list[str], *, is_secret: bool) -> tuple[str | None, str]:
        """Return the value to give, or None, and the word for it that `Input.given` has."""
        value = next((self._parameters[_plain(name)] for name in names if _plain(name) in self._parameters), None)
        variables = [name for each in names for name in dict.fromkeys([each, _plain(each)])]
        if kind != "userdata":  # USER and PATH are answers to no question
            variables = [name for name in variables if is_secret_variable(name) or _VARIABLE.fullmatch(name)]
        if value is None:
            value = next(filter(None, map(_real_value, variables)), None)
        if value is None and is_secret and not any(map(is_secret_variable, variables)):
            value = _only_key()
        if value is not None:
            if is_secret:
                learn_secret(value)
            return value, "value"
        if is_secret and self._mode in (Mode.REPLAY, Mode.AUTO):
            return placeholder_keys.give(_plain(_best(names, is_secret=is_secret))), "placeholder"
        return None, ""

    def _note(self, name: str, kind: str, given: str, prompt: str = "") -> None:
        cell = (self._shell.get_parent() or {}).get("metadata", {}).get("cellId")
        self.asked[Input(name, kind, given, prompt, cell)] = None


_inputs: Inputs | None = None


def install(shell: Any, parameters: Mapping[str, Any]) -> None:
    """Answer what the cells of this kernel ask for, from the environment and from these parameters."""
    global _inputs
    _inputs = Inputs(shell, parameters, forced_mode())
    _inputs.install()


def list_inputs() -> list[dict[str, Any]]:
    """Return what the cells asked for, as JSON data."""
    return [msgspec.structs.asdict(item) for item in _inputs.asked] if _inputs else []


class _Userdata:
    """Stands in for ``google.colab.userdata``, which exists in Colab only."""

    SecretNotFoundError = NotebookAccessError = TimeoutException = InputMissing

    def get(self, key: str) -> str:
        return _inputs.secret(key) if _inputs else os.environ[key]


userdata = _Userdata()


def _has_colab() -> bool:
    try:
        return importlib.util.find_spec("google.colab") is not None
    except (ImportError, ValueError):
        return False


class _UserdataImport(ast.NodeTransformer):
    """Imports `userdata` from here. Notebooks that can do without it try the import, and keep their own way."""

    def visit_Try(self, node: ast.Try) -> ast.AST:
        return node if node.handlers else self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        ours = [alias for alias in node.names if alias.name == "userdata"]
        if node.module != "google.colab" or not ours or _has_colab():
            return node
        rest = [alias for alias in node.names if alias.name != "userdata"]
        stand_in = ast.copy_location(ast.ImportFrom(module=__name__, names=ours, level=0), node)
        return [stand_in, *([ast.copy_location(ast.ImportFrom("google.colab", rest, 0), node)] if rest else [])]


def _variables_read(node: ast.AST) -> dict[str, bool]:
    """Return the environment variables that a cell reads, and whether it needs each: it asks before if it does not."""
    checked = {name.id for test in _tests_that_refuse(node) for name in ast.walk(test) if isinstance(name, ast.Name)}
    needed: dict[str, bool] = {}
    for name, is_needed in _reads(node, checked, is_optional=False):
        needed[name] = needed.get(name, True) and is_needed
    return needed


def _tests_that_refuse(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the tests of a cell that refuses to go on without something."""
    for part in ast.walk(node):
        match part:
            case ast.If(test=test, body=[*_, ast.Raise()]) | ast.Assert(test=test):
                yield test


def _reads(node: ast.AST, checked: set[str], *, is_optional: bool) -> Iterator[tuple[str, bool]]:
    """Yield the variables that a part of a cell reads. `checked` are the names that it refuses to go on without."""
    kept: ast.AST | None = None  # a value that a later cell may test: it takes another way with a placeholder
    match node:
        case ast.Subscript(value=place, slice=ast.Constant(value=str(name)), ctx=ast.Load()) if _is_environ(place):
            yield name, not is_optional
        case ast.Call(func=func, args=[ast.Constant(value=str(name))]) if _is_getter(func):
            yield name, not is_optional
        case ast.Call(func=ast.Name(id="bool"), args=[kept]) | ast.Compare(left=kept, ops=[ast.Is() | ast.IsNot()]):
            pass
        case ast.Compare(left=ast.Constant(value=str(name)), comparators=[place]) if _is_environ(place):
            yield name, not is_optional
        case ast.If(body=[*_, ast.Raise()]) | ast.Assert():  # refuses to go on without it
            yield from _reads(node.test, checked, is_optional=is_optional)
            return
        case ast.Assign(targets=[target], value=kept) | ast.AnnAssign(target=target, value=kept):
            kept = None if isinstance(target, ast.Name) and target.id in checked else kept
        case ast.Return(value=kept):
            pass
    for field, value in ast.iter_fields(node):
        optional = is_optional or field == "test" or isinstance(node, ast.BoolOp)
        optional = optional or (isinstance(node, ast.Try) and field == "body" and bool(node.handlers))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                # What raises an error without the variable is needed all the same.
                is_kept = child is kept and isinstance(child, ast.Call) and _is_getter(child.func)
                yield from _reads(child, checked, is_optional=optional or is_kept)


def _is_environ(node: ast.AST) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "environ") or (
        isinstance(node, ast.Name) and node.id == "environ"
    )


def _is_getter(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == "getenv" or (node.attr == "get" and _is_environ(node.value))
    return isinstance(node, ast.Name) and node.id == "getenv"


def _names_of(prompt: str, frame: FrameType) -> Iterator[str]:
    """Yield the names that a question may be about, the surest first: of its prompt, and of the statement that asks."""
    yield from _VARIABLE.findall(prompt)
    statement, call = _statement_at(frame)
    constants = [node.value for node in ast.walk(statement) if isinstance(node, ast.Constant)] if statement else []
    yield from (value for value in constants if isinstance(value, str) and _VARIABLE.fullmatch(value))
    targets = list(_targets(statement, call)) if statement else []
    for target in targets:
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Name):
            value = {**frame.f_globals, **frame.f_locals}.get(target.slice.id)
            yield from [value] if isinstance(value, str) else []
    for target in targets:
        match target:
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.keyword(arg=str(text)):
                yield text
    if name := _name_in(prompt):
        yield name


def _statement_at(frame: FrameType) -> tuple[ast.stmt | None, ast.Call | None]:
    """Return the innermost statement that a frame is in, and its call of ``input`` or ``getpass``."""
    try:
        tree = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except (SyntaxError, ValueError):
        return None, None
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    around = [node for node in statements if node.lineno <= frame.f_lineno <= (node.end_lineno or node.lineno)]
    statement = max(around, key=lambda node: (node.lineno, node.col_offset), default=None)
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)] if statement else []
    names = [(call, getattr(call.func, "id", getattr(call.func, "attr", ""))) for call in calls]
    return statement, next((call for call, name in names if name in ("input", "getpass")), None)


def _targets(statement: ast.stmt, call: ast.Call | None) -> Iterator[ast.AST]:
    """Yield what the answer is assigned to, or passed as."""
    for node in ast.walk(statement):
        match node:
            case ast.keyword(value=value) if call is not None and call in ast.walk(value):
                yield node
            case ast.NamedExpr(target=name):
                yield name
    match statement:
        case ast.Assign(targets=targets):
            yield from targets
        case ast.AnnAssign(target=target):
            yield target


def _name_in(prompt: str) -> str:
    """Return the variable that the words of a prompt name: ``OPENAI_API_KEY`` for ``Enter your OpenAI API key:``."""
    words = [word for word in re.findall(r"[A-Za-z0-9]+(?:'s)?", prompt) if word.lower() not in _FILLERS]
    last = next((place for place, word in enumerate(words) if word.lower() in _LAST_WORDS), len(words))
    return "_".join(words[: last + 1]).upper() if len(words) <= 6 or last < len(words) else ""


def _best(names: Iterable[str], *, is_secret: bool) -> str:
    """Return the name to tell the user: for a key, the first that is written as variables are."""
    names = list(names)
    return next(filter(_VARIABLE.fullmatch, names if is_secret else ()), next(iter(names), ""))


def _plain(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_").upper()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def is_unset(name: str) -> bool:
    """Return whether a variable has no value of its own, but a placeholder at most."""
    return not _real_value(name)


def _real_value(name: str) -> str:
    value = os.environ.get(name, "")
    return "" if PLACEHOLDER in value else value


def _only_key() -> str | None:
    """Return the key that is set for the SDKs that are imported, if there is one only."""
    rows = [row for row in placeholder_keys.PROVIDERS if row.sdk in sys.modules]
    values = {value for row in rows for name in row.names if (value := _real_value(name))}
    return values.pop() if len(values) == 1 else None
