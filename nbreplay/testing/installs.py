"""Installs in cells: ``%pip``, ``!apt-get`` and the like. They belong to the set-up of a machine, not to a notebook.

They are found in the code that IPython makes of a cell, so that quotes, continued lines and ``if`` are understood. What
is installed depends on the machine, so it is not compared; ``--skip-installs`` leaves it out.
"""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any, NamedTuple

from nbreplay.intercept.processes.programs import INSTALLERS, is_install

ONLY_INSTALLS = "the cell only installs packages"
"""The reason why a cell is skipped."""

_MAGICS = frozenset({"conda", "mamba", "micromamba", "pip", "uv"})
_SHELL_MAGICS = frozenset({"!", "bash", "script", "sh", "sx", "system"})
_PYTHON_MAGICS = frozenset({"capture", "time"})
"""Cell magics whose cell is Python."""
_SHELL_FUNCTIONS = frozenset({"getoutput", "system"})
"""Functions of IPython and os that take a command as text."""
_SUBPROCESS = frozenset({"call", "check_call", "check_output", "run"})
_INSTALLER = re.compile(rf"\b(?:{'|'.join(sorted(INSTALLERS))})\b")
_AUTOMAGIC = re.compile(rf"\s*(?:{'|'.join(sorted(_MAGICS))}) [^=\n]*\s*")


class Installs(NamedTuple):
    """The installs of a cell."""

    commands: tuple[str, ...] = ()
    are_all: bool = False  # whether the cell does nothing else


def find_installs(source: str) -> Installs:
    """Return the commands of a cell that install packages."""
    if not _INSTALLER.search(source):
        return Installs()
    from IPython.core.inputtransformer2 import TransformerManager

    if _AUTOMAGIC.fullmatch(source):
        source = f"%{source.strip()}"
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except (SyntaxError, ValueError, RecursionError):  # the notebook will say so
        return Installs()
    remover = InstallRemover()
    remover.visit(tree)
    rest = (line for line in tree.body if not isinstance(line, ast.Pass))
    return Installs(tuple(dict.fromkeys(remover.commands)), bool(remover.commands) and not any(rest))


class InstallRemover(ast.NodeTransformer):
    """Removes installs from the code of a cell. It is one of the transformers of an IPython shell, too."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Remove a line that installs."""
        if isinstance(node.value, ast.Call) and (command := self._install(node.value)):
            self.commands.append(command)
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Let a command whose result is used do nothing."""
        if (command := self._install(node)) and _name(node) in _SHELL_FUNCTIONS:
            self.commands.append(command)
            node.args = [ast.copy_location(ast.Constant(":"), node)]
        return self.generic_visit(node)

    def _install(self, node: ast.Call) -> str:
        """Return the command of a call that installs, else ``""``."""
        name, texts = _name(node), [_text(argument) for argument in node.args]
        match name, texts:
            case ("run_line_magic", [magic, line, *_]) if magic in _MAGICS:
                command = f"{magic} {line}"
            case ("run_line_magic", [magic, line, *_]) if magic in _SHELL_MAGICS:
                command = line
            case ("run_cell_magic", [magic, _, body]) if magic in _SHELL_MAGICS:
                command = body
            case ("run_cell_magic", [magic, _, body]) if magic in _PYTHON_MAGICS:
                installs = find_installs(body)
                if installs.are_all:
                    return "\n".join(installs.commands)
                self.commands += installs.commands  # IPython gives the rest of the cell to this once more
                return ""
            case (function, [line, *_]) if function in _SHELL_FUNCTIONS | _SUBPROCESS:
                command = line
            case _:
                return ""
        return command.strip() if is_install(command) else ""


def _name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _text(node: ast.expr) -> str:
    """Return a literal text, or a command line of texts; ``sys.executable`` is this Python."""
    value: Any = node.value if isinstance(node, ast.Constant) else None
    if isinstance(node, ast.List | ast.Tuple):
        return shlex.join(filter(None, map(_text, node.elts)))
    if isinstance(node, ast.Attribute) and node.attr == "executable":
        return "python"
    return value if isinstance(value, str) else ""
