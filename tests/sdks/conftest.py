"""The matrix's report: every SDK and mode by name at the end of a run, and in a file for `tests.sdks.table`."""

from __future__ import annotations

import gc
import json
import ssl
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.sdks.server import prepare

pytest.register_assert_rewrite("tests.sdks.harness")  # so that its failures show what differs
_HERE = Path(__file__).parent
_ROWS = pytest.StashKey[list[dict[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--sdks-json``."""
    parser.addoption("--sdks-json", metavar="FILE", help="write what the SDK matrix has shown, for tests.sdks.table")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no rows."""
    config.stash[_ROWS] = []
    config.pluginmanager.register(_Report(config), "nbreplay-sdks")


@pytest.fixture(scope="session", autouse=True)
def servers() -> None:
    """Have servers start fast."""
    prepare()


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have none loaded: nobody speaks TLS here, and each client would spend more on it than on all the rest."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let SDKs leave connections to the garbage collector, as some do: it runs in any later test, and fails that."""
    if _HERE in item.path.parents:
        for ignored in ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"):
            item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """Have what they leave collected before other tests begin."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


class _Report:
    def __init__(self, config: pytest.Config) -> None:
        self._config, self._rows = config, config.stash[_ROWS]

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
        path = self._config.getoption("--sdks-json", None)
        if path and not hasattr(self._config, "workerinput"):  # a worker of pytest-xdist has a part of them only
            python = ".".join(map(str, sys.version_info[:3]))
            told = {"python": python, "openai": metadata.version("openai"), "cells": self._rows}
            Path(path).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8", newline="\n")
