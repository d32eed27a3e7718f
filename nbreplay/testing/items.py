"""Notebooks as pytest items: one item per notebook, or one per code cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbreplay.testing.result import CallReport, CellRun, Failure, Result


class NotebookFile(pytest.File):
    """Collects the items of a notebook."""

    ran: tuple[Result, bool] | None = None  # the result of the notebook, and whether new outputs were stored

    def collect(self) -> Iterator[Item]:
        """Yield the notebook, or its code cells with ``--nbreplay-cells``."""
        if not self.config.getoption("nbreplay_cells"):
            yield NotebookItem.from_parent(self, name=self.path.name, nodeid=self.nodeid)
            return
        from nbreplay.errors import NbreplayError
        from nbreplay.testing.notebook_file import read_notebook

        try:
            cells = read_notebook(self.path).cells
        except NbreplayError as error:
            raise self.CollectError(str(error)) from None
        numbers = [index for index, cell in enumerate(cells, 1) if cell.cell_type == "code" and cell.source.strip()]
        for index in numbers:
            first = next(line for line in cells[index - 1].source.splitlines() if line.strip())
            name = f"{index}: {first.strip()[:60]}"
            yield CellItem.from_parent(self, name=name, index=index, last=index == numbers[-1])


class Item(pytest.Item):
    """A notebook or a code cell. `nbreplay.testing.background` runs it ahead of its turn."""

    @property
    def ran(self) -> tuple[Result, bool] | None:
        """The result of the notebook, and whether new outputs were stored."""
        return self.parent.ran if isinstance(self.parent, NotebookFile) else None

    @property
    def used(self) -> dict[str, list[str]]:
        """Names of the recordings that the notebook used, by store."""
        return self.ran[0].used if self.ran else {}

    @property
    def uncovered(self) -> list[tuple[str, str]]:
        """Kind and name of each thing that replay did not cover."""
        return self.ran[0].uncovered if self.ran else []

    @property
    def updated(self) -> bool:
        """Whether new outputs were stored in the notebook."""
        return bool(self.ran and self.ran[1])

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.ran[0].seconds if self.ran else 0.0

    @property
    def calls(self) -> list[CallReport]:
        """The calls that it made."""
        return self.ran[0].calls if self.ran else []

    def runtest(self) -> None:
        """Wait for the result, and fail if the notebook or cell failed."""
        from nbreplay.errors import NbreplayError
        from nbreplay.testing.report import format_failures

        assert isinstance(self.parent, NotebookFile)
        if self.parent.ran is None or isinstance(self, NotebookItem):
            try:
                self.parent.ran = self.config.pluginmanager.getplugin("nbreplay-background").result(self.path)
            except NbreplayError as error:
                pytest.fail(str(error), pytrace=False)
        assert self.ran is not None
        if failures := self.failures(self.ran[0]):
            pytest.fail("\n".join(format_failures(failures, colour=self._coloured())), pytrace=False)

    def _coloured(self) -> bool:
        return self.config.get_terminal_writer().hasmarkup

    def failures(self, result: Result) -> list[Failure]:
        """Return the failures of this item."""
        return result.failures

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the heading of the report. Pytest would take the path alone for a dotted name."""
        return self.path, None, f"notebook {self.nodeid}"


class NotebookItem(Item):
    """A notebook."""


class CellItem(Item):
    """A code cell of a notebook. The last one also has the failures and calls that belong to no cell."""

    def __init__(self, *, index: int, last: bool, **options: Any) -> None:
        super().__init__(**options)
        # index: position among all cells, from 1
        self.index, self._last = index, last

    @property
    def cell(self) -> CellRun | None:
        """The result of the cell; None if it was not reached."""
        return next((cell for cell in self.ran[0].cells if cell.index == self.index), None) if self.ran else None

    @property
    def calls(self) -> list[CallReport]:
        """The calls that the cell made."""
        if self.ran is None:
            return []
        result, cell = self.ran[0], self.cell
        others = [call for call in result.calls if not any(each.owns(call) for each in result.cells)]
        return (result.calls_of(cell) if cell else []) + (others if self._last else [])

    @property
    def seconds(self) -> float:
        """Duration of the cell in seconds."""
        return self.cell.seconds if self.cell else 0.0

    def failures(self, result: Result) -> list[Failure]:
        """Return the failures of the cell; skip a cell that did not run."""
        failures = [failure for failure in result.failures if failure.cell == self.index]
        if self._last:
            failures += [failure for failure in result.failures if failure.cell is None]
        if not failures and self.cell is None:
            pytest.skip("not reached: the notebook failed before this cell")
        if not failures and self.cell and self.cell.status == "skipped":
            pytest.skip("skipped by a tag of the cell")
        return failures
