"""Commands on a terminal, without a process of their own, and text that a terminal must not obey."""

from __future__ import annotations

import io
import sys

import pytest

from nbreplay.cli.main import main

__all__ = ["EVIL", "UNSAFE", "on_terminal"]

EVIL = "\x1b[31mred\x1b]0;title\x07\t\r\n over \u202egnirts [bold]\x9b2J :smile:"
"""A text of a recording that would change what a terminal shows."""

UNSAFE = frozenset("\x1b\x07\x08\r\u202e\x9b")
"""The characters in it that would."""


class Terminal(io.StringIO):
    """A terminal, in which text can be read again."""

    def isatty(self) -> bool:
        return True


def on_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int, *arguments: str, colours: bool = False
) -> tuple[int, str]:
    """Run a command on a terminal; return its status and what it prints."""
    screen = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen)
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm")
        patch.delenv("NO_COLOR", raising=False)
        if not colours:
            patch.setenv("NO_COLOR", "1")
        return main(arguments), screen.getvalue()
