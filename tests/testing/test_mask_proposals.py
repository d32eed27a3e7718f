"""A failure over text that varies by itself proposes the lines of pyproject.toml that mask it."""

from __future__ import annotations

import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_output

from nbreplay.cli.main import main
from nbreplay.testing.outputs.compare import compare
from nbreplay.testing.outputs.sanitise import Rules
from nbreplay.testing.result import Failure, format_failures
from tests.testing.making import notebook
from tests.testing.test_outputs import display, failed, made, out

PICTURES = [new_output("display_data", {"image/png": data}) for data in ("aGVsbG8=", "d29ybGQ=")]


@pytest.mark.parametrize(
    ("old", "new", "patterns"),
    [
        (out("Took 0.53 s\n"), out("Took 1.2 s\n"), [r"Took \d+\.\d+ s\b"]),
        (display("{'id': 'run-3f2a9c1d'}"), display("{'id': 'run-4f2a9c1d'}"), ["run-[0-9a-f]{8,15}"]),
        (display("<p>took 0.5 s</p>", "text/html"), display("<p>took 0.6 s</p>", "text/html"), [r"took \d+\.\d+ s\b"]),
        (
            display({"at": "2026-11-30", "n": 1}, "application/json"),
            display({"at": "2026-12-01", "n": 1}, "application/json"),
            [r"\d{4}-\d\d-\d\d"],
        ),
        (failed("timed out after 1.25 s"), failed("timed out after 1.5 s"), [r"\d+\.\d+ s\b"]),
    ],
)
def test_the_masks_make_the_outputs_equal(old: Any, new: Any, patterns: list[str]) -> None:
    (difference,) = compare(made(old), made(new), Rules())
    assert [mask.pattern for mask in difference.masks] == patterns
    assert compare(made(old), made(new), Rules(mask=tuple(patterns))) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([out("Tokyo")], [out("Kyoto")]),
        ([out("took 0.5 s"), display("Tokyo")], [out("took 0.6 s"), display("Kyoto")]),
        ([out("took 0.5 s")], [out("took 0.5 s"), display("took 0.5 s")]),
        ([out("took 0.5 s"), PICTURES[0]], [out("took 0.6 s"), PICTURES[1]]),
        ([display({"seconds": 0.5}, "application/json")], [display({"seconds": 0.6}, "application/json")]),
        ([out("b: 1\na: 2")], [out("a: 2\nb: 1")]),
    ],
)
def test_no_mask_is_proposed_where_none_would_do(old: list[Any], new: list[Any]) -> None:
    (difference,) = compare(made(*old), made(*new), Rules(), replays=True)
    assert difference.masks == ()


def test_a_number_may_be_a_result_unless_two_replays_differ_in_it() -> None:
    pair = made(out("attempt 3")), made(out("attempt 5"))
    assert compare(*pair, Rules())[0].masks == ()
    assert [mask.pattern for mask in compare(*pair, Rules(), replays=True)[0].masks] == [r"attempt \d+"]


def test_a_number_that_looks_like_a_date_in_one_replay_is_still_a_number() -> None:
    for pair in (("attempt 20201131", "attempt 5"), ("attempt 7", "attempt 1700000000")):
        (difference,) = compare(*(made(out(text)) for text in pair), Rules(), replays=True)
        assert [mask.pattern for mask in difference.masks] == [r"attempt \d+"]


def test_the_lines_that_are_shown_keep_the_masks_that_the_project_has(tmp_path: Path) -> None:
    settings = tmp_path / "pyproject.toml"
    settings.write_text("[tool.nbreplay.outputs]\nmask = ['\\d+ rows', \"it's\"]\n")
    differences = compare(made(out("it's 5 rows\n'took': 0.5")), made(out("it's 6 rows\n'took': 0.6")), Rules())
    differences += compare(made(out("run-3f2a9c1d " * 9)), made(out("run-4f2a9c1d " * 9)), Rules())
    lines = format_failures([Failure("", 1, difference) for difference in differences], tmp_path)
    at = next(at for at, line in enumerate(lines) if "set in" in line)
    assert lines[at] == f"cell 1 differs only in a random id. If that varies by itself, set in {settings}:"
    assert tomllib.loads(textwrap.dedent("\n".join(lines[at + 1 : at + 3]))) == {
        "tool": {"nbreplay": {"outputs": {"mask": [r"\d+ rows", "it's", "run-[0-9a-f]{8,15}"]}}}
    }
    assert "nbreplay run --update" in lines[at + 3]  # the other cell differs in a number of rows, too


SOURCES = (
    "import random, time\nbegun = time.perf_counter()",
    "print(f'Took {time.perf_counter() - begun:.9f} s')\nprint('limit is 30 s')",
    "print('attempt', random.randint(10**8, 10**9 - 1))",
)


@pytest.mark.full
def test_the_lines_work_when_they_are_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(notebook(tmp_path / "one.ipynb", *SOURCES))
    assert main(["run", path, "--update"]) == 0
    capsys.readouterr()
    assert main(["run", path]) == 1
    text = capsys.readouterr().out
    assert "cell 2 differs only in a duration." in text
    assert "nbreplay run --update" in text  # the number may be a result
    assert main(["run", path, "--times", "3"]) == 1
    text = capsys.readouterr().out
    assert text.count("cell 2 (") == text.count("cell 3 (") == 1
    assert "cells 2 and 3 differ only in a duration and a number." in text
    assert "--update" not in text
    pasted = re.search(r"(?m)^ +\[tool\.nbreplay\.outputs\]\n.*\n", text)
    assert pasted
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(pasted[0]))
    assert main(["run", path, "--times", "2"]) == 0
    assert main(["run", path]) == 0
