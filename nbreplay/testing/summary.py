"""The summary at the end of a pytest run: one line of counts, and the recordings that no test used."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbreplay.testing.function_session import FunctionSession
    from nbreplay.testing.items import Item


def test_entry(test: FunctionSession | Item | None, updated: str, whole: bool) -> dict[str, Any]:
    """Return the entry of one test in the summary, as plain data.

    Parameters
    ----------
    test : FunctionSession or Item or None
        None if the test did not start.
    updated : str
        The notebook whose outputs were stored, or ``""``.
    whole : bool
        Whether the test passed, and no test was deselected so far.
    """
    calls = test.calls if test else []
    return {
        "counts": dict(Counter(call.outcome for call in calls)),
        "used": test.used if test else {},
        "uncovered": test.uncovered if test else [],
        "updated": updated,
        "whole": whole,
    }


class RunSummary:
    """A pytest plugin that adds up the entries of all tests. Some hooks get no configuration, so it keeps one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        # Whether all tests of whole folders have run and passed so far. Only then are unused recordings reported.
        self.whole = _whole_folders(config)
        self._tests = self._failed = 0
        self._counts: Counter[str] = Counter()
        self._used: dict[str, set[str]] = {}
        self._uncovered: dict[tuple[str, str], None] = {}
        self._updated: dict[str, None] = {}  # each once, in their order

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note that tests were deselected."""
        self.whole = self.whole and not items

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that collecting failed."""
        self.whole = self.whole and report.passed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the entry of a test. With pytest-xdist, it arrives here from a worker."""
        self._failed += report.failed
        entry = getattr(report, "nbreplay", None)
        if entry is None:
            return
        self._tests += 1
        self.whole = self.whole and entry["whole"]
        self._counts.update(entry["counts"])
        for store, names in entry["used"].items():
            self._used.setdefault(store, set()).update(names)
        self._uncovered.update(dict.fromkeys((kind, name) for kind, name in entry["uncovered"]))
        if entry["updated"]:
            self._updated[entry["updated"]] = None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Print the summary."""
        if not self._tests:
            return
        from nbreplay.core.log import describe_uncovered, format_counts

        most = self._config.getoption("maxfail") or 0
        stopped = 0 < most <= self._failed or exitstatus == pytest.ExitCode.INTERRUPTED
        unused = self._find_unused() if self.whole and not stopped else {}
        terminalreporter.ensure_newline()
        for path in self._updated:
            terminalreporter.write_line(f"nbreplay: outputs stored in {self._short(path)}")
        for line in describe_uncovered(self._uncovered):
            terminalreporter.write_line(f"nbreplay: {line}")
        trimming = self._config.getoption("nbreplay_trim")
        if trimming and not (self.whole and not stopped):
            terminalreporter.write_line(
                "nbreplay: nothing trimmed. Trimming needs a run over whole folders in which all tests pass"
            )
        for store, names in unused.items():
            if trimming:
                self._trim(terminalreporter, store, names)
                continue
            more = "" if terminalreporter.verbosity > 0 else " (-v lists them)"
            terminalreporter.write_line(f"nbreplay: {len(names)} unused in {self._short(store)}{more}")
            if not more:
                for name in names:
                    terminalreporter.write_line(f"  {name}")
        number = 0 if trimming else sum(map(len, unused.values()))
        unused_note = f", {number} unused" if number else ""
        terminalreporter.write_line(f"nbreplay: {format_counts(self._counts)}{unused_note}")

    def _find_unused(self) -> dict[str, list[str]]:
        from nbreplay.core.store.archive import is_archive
        from nbreplay.core.store.store import Store
        from nbreplay.errors import StoreError

        unused_by_store = {}
        for store, names in sorted(self._used.items()):
            if is_archive(store):
                continue  # an archive is read-only
            # A test may have removed the store, or replaced it by a file.
            with contextlib.suppress(StoreError):
                if left := Store(store).find_unused(names):
                    unused_by_store[store] = left
        return unused_by_store

    def _trim(self, terminalreporter: pytest.TerminalReporter, store: str, names: list[str]) -> None:
        from nbreplay.core.store.store import Store
        from nbreplay.errors import StoreError

        try:
            removed = Store(store).remove(names)
        except StoreError as error:
            terminalreporter.write_line(f"nbreplay: {error}")
        else:
            terminalreporter.write_line(f"nbreplay: {len(removed)} files removed from {self._short(store)}")

    def _short(self, path: str) -> str:
        short = os.path.relpath(path, self._config.invocation_params.dir) if os.path.isabs(path) else path
        return path if short.startswith("..") else short


def _whole_folders(config: pytest.Config) -> bool:
    """Return whether the run covers whole folders. In a worker of pytest-xdist, the controller decides."""
    if hasattr(config, "workerinput"):
        return True
    option = config.getoption
    if option("lf", False) or option("ignore", None) or option("ignore_glob", None):
        return False
    folder = Path(config.invocation_params.dir)
    return all((folder / argument).is_dir() for argument in config.args)
