"""The matrix's report: every SDK and mode by name at the end of a run, and in a file for `tests.sdks.table`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Report", "add_option"]


def add_option(parser: pytest.Parser) -> None:
    """Add ``--sdks-json``."""
    parser.addoption("--sdks-json", metavar="FILE", help="write what the SDK matrix has shown, for tests.sdks.table")


class Report:
    """A plugin of pytest's."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._rows: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = {str(name): str(value) for name, value in report.user_properties}
        if report.when == "call" and "sdk" in told:
            self._rows.append({**told, "outcome": report.outcome})

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._rows:
            return
        terminalreporter.section("SDK matrix")
        modes: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for row in self._rows:
            failed = "" if row["outcome"] == "passed" else f" ({row['outcome'].upper()})"
            modes[row["sdk"], row["flavour"]].append(row["kind"] + failed)
        for (sdk, flavour), kinds in sorted(modes.items()):
            one = next(row for row in self._rows if row["sdk"] == sdk)
            terminalreporter.write_line(
                f"{sdk} ({one['distribution']} {one['version']}) {flavour}: {len(kinds)} cells: {', '.join(kinds)}"
            )

    def pytest_sessionfinish(self) -> None:
        path = self._config.getoption("--sdks-json")
        if path and not hasattr(self._config, "workerinput"):  # a worker of pytest-xdist has a part of them only
            python = ".".join(map(str, sys.version_info[:3]))
            told = {"python": python, "openai": metadata.version("openai"), "cells": self._rows}
            Path(path).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8", newline="\n")
