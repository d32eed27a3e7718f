"""The table says what the runs have shown, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sdks.table import lacking, main, table, written


def run(openai: str, *outcomes: str, kind: str = "chat", **more: str) -> dict[str, Any]:
    cell = {"sdk": "openai", "distribution": "openai", "version": openai, "flavour": "sync", "kind": kind}
    cell |= {"streams": str("stream" in kind), "library": "httpx 1", **more}
    cells = [{**cell, "outcome": outcome} for outcome in outcomes]
    return {"python": "3.11.7", "openai": openai, "cells": cells}


def test_one_sdk_has_one_row_for_both_environments() -> None:
    lines = table([run("3.1", "passed"), run("2.9", "passed", kind="chat-stream-tools", flavour="async")]).split("\n")
    assert lines[2:3] == ["| openai | 3.1, 2.9 | httpx 1 | 1 | 1 | 1 | 1 | chat |"]
    assert lines[-1].startswith("2 of 2 cells passed, in environments with openai 3.1 (Python 3.11.7) and openai 2.9")


def test_what_failed_is_said() -> None:
    text = table([run("3.1", "passed"), run("2.9", "failed")])
    assert "| **0 of 1** | – | – | – | chat |" in text
    assert "1 of 2 cells passed" in text


def test_a_cell_that_failed_before_a_call_has_no_library() -> None:
    told = run("3.1", "failed")
    del told["cells"][0]["library"]
    assert "| openai | 3.1 |  | **0 of 1** |" in table([told])


PAGE = "before\n<!-- clients -->\nold\n<!-- end of clients -->\nafter\n"


def test_a_page_is_written_between_its_marks_and_told_from_what_a_run_shows(tmp_path: Path) -> None:
    passed = [run("3.1", "passed")]
    page = written(PAGE, table(passed))
    assert page.startswith("before\n<!-- clients -->\n| client |")
    assert page.endswith("<!-- end of clients -->\nafter\n")
    assert written(page, table(passed)) == page
    assert lacking(page, [run("3.9", "passed")]) == [], "versions may move"
    assert lacking(PAGE, passed) == ["openai was run and is not in the page"]
    assert lacking(page, []) == ["openai is in the page and was not run"]
    assert lacking(page, [run("3.1", "failed")]) == ["openai sync chat: failed"]
    with pytest.raises(SystemExit):
        written("no marks", "")


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run("3.1", "passed")), "utf-8")
    (tmp_path / "page.md").write_text(PAGE, "utf-8")
    arguments = [str(tmp_path / "run.json"), "--check", str(tmp_path / "page.md")]
    with pytest.raises(SystemExit, match="not in the page"):
        main(arguments)
    main([str(tmp_path / "run.json"), "--into", str(tmp_path / "page.md")])
    main(arguments)
    assert "| openai | 3.1 |" in capsys.readouterr().out
