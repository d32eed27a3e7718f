"""The table says what the runs have shown, and no more."""

from __future__ import annotations

from typing import Any

from tests.sdks.table import table


def run(openai: str, *outcomes: str, kind: str = "chat", **more: str) -> dict[str, Any]:
    cell = {"sdk": "openai", "distribution": "openai", "version": openai, "flavour": "sync", "kind": kind}
    cell |= {"streams": str("stream" in kind), "library": "httpx 1", **more}
    cells = [{**cell, "outcome": outcome} for outcome in outcomes]
    return {"python": "3.11.7", "openai": openai, "cells": cells}


def test_one_sdk_has_one_row_for_both_environments() -> None:
    lines = table([run("3.1", "passed"), run("2.9", "passed", kind="chat-stream-tools", flavour="async")]).split("\n")
    assert lines[2:3] == ["| openai | 3.1, 2.9 | httpx 1 | 1 | 1 | 1 | 1 | chat | 2 |"]
    assert lines[-1].startswith("2 of 2 cells passed, in environments with openai 3.1 (Python 3.11.7) and openai 2.9")


def test_what_failed_is_said() -> None:
    text = table([run("3.1", "passed"), run("2.9", "failed")])
    assert "| **0 of 1** | – | – | – | chat | **1 of 2** |" in text
    assert "1 of 2 cells passed" in text


def test_a_cell_that_failed_before_a_call_has_no_library() -> None:
    told = run("3.1", "failed")
    del told["cells"][0]["library"]
    assert "| openai | 3.1 |  | **0 of 1** |" in table([told])
