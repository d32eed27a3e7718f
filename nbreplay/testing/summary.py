"""What a whole run of pytest's has exchanged, told at its end: one line, and the recordings that nothing asked for."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbreplay.testing.function_session import Watch
    from nbreplay.testing.items import Item

__all__ = ["Tally", "exchanged"]


def exchanged(done: Watch | Item | None, updated: str, whole: bool) -> dict[str, Any]:
    """Return what one test has exchanged, as plain data.

    Parameters
    ----------
    done : Watch or Item or None
        None where the test was not begun.
    updated : str
        The notebook whose outputs were stored, or ``""``.
    whole : bool
        Whether it has passed, and the process that ran it has left no other out.
    """
    calls = done.calls if done else []
    return {
        "counts": dict(Counter(call.outcome for call in calls)),
        "used": done.used if done else {},
        "uncovered": done.uncovered if done else [],
        "updated": updated,
        "whole": whole,
    }


class Tally:
    """Adds up what tests have exchanged; a plugin of its own, for it needs the configuration where pytest gives none.

    Attributes
    ----------
    whole : bool
        Whether every test of the folders that were asked for has run and passed, so far. Else recordings that nothing
        asked for are no news.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.whole = _whole_folders(config)
        self._tests = self._failed = 0
        self._counts: Counter[str] = Counter()
        self._used: dict[str, set[str]] = {}
        self._uncovered: dict[tuple[str, str], None] = {}
        self._updated: dict[str, None] = {}  # each once, in their order

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note that not all is run."""
        self.whole = self.whole and not items

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that not all is found."""
        self.whole = self.whole and report.passed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what a test has exchanged; with pytest-xdist, this is where it arrives."""
        self._failed += report.failed
        told = getattr(report, "nbreplay", None)
        if told is None:
            return
        self._tests += 1
        self.whole = self.whole and told["whole"]
        self._counts.update(told["counts"])
        for store, names in told["used"].items():
            self._used.setdefault(store, set()).update(names)
        self._uncovered.update(dict.fromkeys((kind, name) for kind, name in told["uncovered"]))
        if told["updated"]:
            self._updated[told["updated"]] = None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Say it."""
        if not self._tests:
            return
        from nbreplay.core.log import describe_uncovered, format_counts

        most = self._config.getoption("maxfail") or 0
        stopped = 0 < most <= self._failed or exitstatus == pytest.ExitCode.INTERRUPTED
        unused = self._unused() if self.whole and not stopped else {}
        terminalreporter.ensure_newline()
        for path in self._updated:
            terminalreporter.write_line(f"nbreplay: outputs stored in {self._short(path)}")
        for line in describe_uncovered(self._uncovered):
            terminalreporter.write_line(f"nbreplay: {line}")
        trimming = self._config.getoption("nbreplay_trim")
        if trimming and not (self.whole and not stopped):
            terminalreporter.write_line("nbreplay: nothing trimmed: not all tests of whole folders have run and passed")
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
        terminalreporter.write_line(
            f"nbreplay: {format_counts(self._counts)}" + (f", {number} unused" if number else "")
        )

    def _unused(self) -> dict[str, list[str]]:
        from nbreplay.core.store.archive import is_archive
        from nbreplay.core.store.store import Store
        from nbreplay.errors import StoreError

        found = {}
        for store, names in sorted(self._used.items()):
            if is_archive(store):
                continue  # nobody can take out of it what nothing asks for
            # A test may have taken it away, or made a file of it.
            with contextlib.suppress(StoreError):
                if left := Store(store).unused(names):
                    found[store] = left
        return found

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
    """Whether a run was asked for whole folders. A worker of pytest-xdist leaves it to who started it."""
    if hasattr(config, "workerinput"):
        return True
    option = config.getoption
    if option("lf", False) or option("ignore", None) or option("ignore_glob", None):
        return False
    folder = Path(config.invocation_params.dir)
    return all((folder / argument).is_dir() for argument in config.args)
