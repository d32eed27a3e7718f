"""Notebooks as pytest items, which run in the background: several at a time, in a process beside pytest's own.

Pytest's process turns warnings into errors, captures output and handles signals, which disturbs libraries that talk
to kernels. So this module imports nothing of Jupyter, unless cells are collected.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbreplay.core.config import Mode, mode_of_run
from nbreplay.errors import NbreplayError
from nbreplay.testing import FLAGS
from nbreplay.testing.outputs.diff import first_line
from nbreplay.testing.result import Result, RunOptions, format_failures

_STOP_SECONDS = 10.0


class NotebookFile(pytest.File):
    """Collects the items of a notebook: one for all, or one per code cell."""

    result: Result | None = None

    def collect(self) -> Iterator[NotebookItem]:
        """Yield the notebook, or its code cells with ``--nbreplay-cells``."""
        if not self.config.getoption("nbreplay_cells"):
            yield NotebookItem.from_parent(self, name=self.path.name, nodeid=self.nodeid)
            return
        from nbreplay.testing.notebook_file import read_notebook

        try:
            cells = read_notebook(self.path).cells
        except NbreplayError as error:
            raise self.CollectError(str(error)) from None
        code = {index: cell for index, cell in enumerate(cells, 1) if cell.cell_type == "code" and cell.source.strip()}
        for index, cell in code.items():
            name = f"{index}: {first_line(cell.source)}"
            yield CellItem.from_parent(self, name=name, index=index, last=index == max(code))


class NotebookItem(pytest.Item):
    """A notebook. `BackgroundRunner` runs it ahead of its turn."""

    parent: NotebookFile

    @property
    def result(self) -> Result:
        """The result of the notebook; empty until it has run."""
        return self.parent.result or Result(self.path)

    def runtest(self) -> None:
        """Wait for the result, and fail if there are failures."""
        if self.parent.result is None or not isinstance(self, CellItem):
            try:
                self.parent.result = self.config.pluginmanager.getplugin("nbreplay-background").result(self.path)
            except NbreplayError as error:
                pytest.fail(str(error), pytrace=False)
        if failures := self.result.failures:
            colour = self.config.get_terminal_writer().hasmarkup
            pytest.fail("\n".join(format_failures(failures, self.path.parent, colour=colour)), pytrace=False)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the heading of the report. Pytest would take the path alone for a dotted name."""
        return self.path, None, f"notebook {self.nodeid}"


class CellItem(NotebookItem):
    """A code cell of a notebook. The last one also has the failures and calls that belong to no cell."""

    def __init__(self, *, index: int, last: bool, **options: Any) -> None:
        super().__init__(**options)
        self._index, self._last = index, last  # the index is the position among all cells, from 1

    @property
    def result(self) -> Result:
        """The part of the notebook's result that belongs to the cell."""
        whole = super().result
        cells = [cell for cell in whole.cells if cell.index == self._index]
        calls = [call for cell in cells for call in whole.calls_of(cell)]
        failures = [failure for failure in whole.failures if failure.cell == self._index]
        if self._last:
            calls += [call for call in whole.calls if not any(cell.owns(call) for cell in whole.cells)]
            failures += [failure for failure in whole.failures if failure.cell is None]
        notes = whole.notes if self._last else []
        changes = {"calls": calls, "failures": failures, "cells": cells, "notes": notes}
        return msgspec.structs.replace(whole, **changes, seconds=sum(cell.seconds for cell in cells))

    def runtest(self) -> None:
        """Wait for the result, and fail if there are failures; skip a cell that did not run."""
        super().runtest()
        if not self.result.cells:
            pytest.skip("not reached: the notebook failed before this cell")
        if self.result.cells[0].status == "skipped":
            pytest.skip(self.result.cells[0].reason)


class BackgroundRunner:
    """A pytest plugin that runs all notebooks of a session in the background."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        self._update: bool = option("nbreplay_update")
        self._options = RunOptions(
            mode_of_run(option("nbreplay_mode"), "--nbreplay-mode") or Mode.REPLAY,
            option("nbreplay_timeout"),
            compare=False if self._update else option("nbreplay_compare"),
            **{flag: option(f"nbreplay_{flag}") for flag in FLAGS},
            kernel=option("nbreplay_kernel"),
            update=self._update,
            keep_errors=option("nbreplay_keep_errors"),
        )
        self._number: int = option("nbreplay_n")
        # A worker of pytest-xdist gets one test after the other.
        self._one_by_one = hasattr(config, "workerinput")
        self._process: Any = None
        self._results: dict[Path, Result | None] = {}  # None while a notebook runs

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the process early: it imports libraries while pytest collects."""
        option = session.config.getoption
        if not option("collectonly") and (self._one_by_one or option("dist", "no") == "no"):
            command, pipe = [sys.executable, "-m", "nbreplay.testing.runner"], subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Start all notebooks."""
        paths = dict.fromkeys(item.path for item in session.items if isinstance(item, NotebookItem))
        if self._process is not None and paths and not self._one_by_one:
            self._start([*paths])

    def pytest_sessionfinish(self) -> None:
        """Stop the process, even if notebooks still run."""
        if self._process is None:
            return
        with self._process, contextlib.suppress(OSError):
            if not self._results:  # it has no kernels, and may still import libraries, where an interrupt is an error
                self._process.kill()
                return
            self._process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def result(self, path: Path) -> Result:
        """Wait for the result of a notebook. It does not contain the notebook itself."""
        if path not in self._results:
            self._start([path])
        try:
            while (result := self._results[path]) is None:
                other: Result = pickle.load(self._process.stdout)
                self._results[other.path] = other
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise NbreplayError(
                "The process that runs the notebooks has ended. Run them with nbreplay run to see why"
            ) from error
        del self._results[path]
        return result

    def _start(self, paths: list[Path]) -> None:
        self._results.update(dict.fromkeys(paths))
        with contextlib.suppress(OSError):  # `result` reports it
            pickle.dump((paths, self._options, self._number, self._update), self._process.stdin)
            self._process.stdin.flush()
