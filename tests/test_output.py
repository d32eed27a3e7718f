"""What commands print: colours, folded lines and control characters, on terminals and in pipes."""

from __future__ import annotations

import io
import sys

import pytest

from nbreplay.cli.output import BAD, NAME, is_terminal, print_error, print_json, print_text
from tests.terminals import EVIL, UNSAFE

LONG = "  to fix   nbreplay run a.ipynb --mode auto, with a key that is set"


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, terminal: bool, **environment: str) -> str:
    """What is printed with such variables."""
    stream = Terminal() if terminal else io.StringIO()
    with monkeypatch.context() as patch:
        for name in ("NO_COLOR", "FORCE_COLOR", "JPY_PARENT_PID", "COLORTERM"):
            patch.delenv(name, raising=False)
        for name, value in {"COLUMNS": "40", "TERM": "xterm", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdout", stream)
        print_text(("FAIL", BAD), "  a.ipynb")
        print_text(LONG, indent=2, hang=11, highlights={"nbreplay run": NAME})
    return stream.getvalue()


PLAIN = f"FAIL  a.ipynb\n  {LONG}\n"
FOLDED = """\
FAIL  a.ipynb
    to fix   nbreplay run a.ipynb --mode
             auto, with a key that is
             set
"""


def test_a_terminal_folds_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, True, NO_COLOR="1") == FOLDED
    assert "\x1b" not in printed(monkeypatch, True, TERM="dumb")
    coloured = printed(monkeypatch, True)
    assert coloured.startswith("\x1b[1;31mFAIL\x1b[0m  a.ipynb\n")
    assert "    to fix   \x1b[36mnbreplay run\x1b[0m a.ipynb" in coloured


def test_a_pipe_and_a_notebook_get_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, False) == printed(monkeypatch, True, JPY_PARENT_PID="1") == PLAIN
    assert printed(monkeypatch, True, JPY_PARENT_PID="1", FORCE_COLOR="1") == PLAIN
    assert printed(monkeypatch, False, FORCE_COLOR="1", NO_COLOR="1") == PLAIN
    forced = printed(monkeypatch, False, FORCE_COLOR="1")
    assert "\x1b[1;31mFAIL" in forced
    assert forced.count("\n") == 2


def test_nobody_answers_a_notebook_or_a_stream_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert is_terminal(Terminal())
    assert not is_terminal(None)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert not is_terminal(Terminal())


def test_json_has_half_a_character_as_a_number(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    print_json({"text": "half \ud83d, whole \U0001f600"})
    assert capsysbinary.readouterr().out.decode() == '{\n  "text": "half \\ud83d, whole \U0001f600"\n}\n'


def test_no_text_is_obeyed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    print_text(EVIL)
    print_error(EVIL)
    outputs = [*capsys.readouterr()]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", screen := Terminal())
        patch.setenv("NO_COLOR", "1")
        print_text(EVIL)
    for output in (*outputs, screen.getvalue()):
        assert not set(output) & UNSAFE
        assert "[bold]" in output
        assert ":smile:" in output
