"""What ``nbreplay adopt`` prints of each notebook, on a terminal and in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbreplay.cli.adopt import _print_findings
from nbreplay.testing.adoption.evidence import Evidence
from nbreplay.testing.result import CallReport, Failure, Result

MISS = """no recorded answer for this chat test call
  nearest  chat-18416a16b2502417.json
  differs  messages[0].content
             recorded  "A joke about birds"
             asked     "A joke about goats"
  to fix   record again"""
ERROR = "cell 3 (print(answer)): AttributeError: 'Response' object has no attribute 'output_txt', which is a long text"
IN_A_FILE = f"""ok    a.ipynb
FAIL  b[red].ipynb
      failed while recording: correct the notebook and run adopt again
        {ERROR}
FAIL  c.ipynb
      asks something else in replay: make the request the same in every run. nbreplay run shows the whole difference
        messages[0].content recorded "A joke about birds" asked "A joke about goats"
1 of 3 notebooks replay without a key, 0 calls recorded
"""


@pytest.fixture
def adoption() -> Any:
    call = CallReport("missing", "chat", "test", "k1:0", None, None, MISS, "api.example.org")
    missed = Result(Path("c.ipynb"), failures=[Failure(MISS)], calls=[call])
    failed = Result(Path("b[red].ipynb"), failures=[Failure(ERROR)])
    evidence = [
        Evidence(Path("a.ipynb"), check=Result(Path("a.ipynb"))),
        Evidence(Path("b[red].ipynb"), record=failed),
        Evidence(Path("c.ipynb"), replays=[missed]),
    ]
    return cast(Any, SimpleNamespace(evidence=evidence))


def test_a_file_has_each_text_in_one_line(adoption: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _print_findings(adoption)
    assert capsys.readouterr().out == IN_A_FILE


def test_a_terminal_folds_long_lines_below_their_beginning(
    adoption: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    _print_findings(adoption)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert "        cell 3 (print(answer)): AttributeError: 'Response'" in [line.rstrip() for line in lines]
    assert "        object has no attribute 'output_txt', which is a" in [line.rstrip() for line in lines]
