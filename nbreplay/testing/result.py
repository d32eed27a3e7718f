"""The result of running a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.config import Mode
from nbreplay.testing.outputs.diff import Difference


class RunOptions(msgspec.Struct, frozen=True):
    """How to run notebooks."""

    mode: Mode = Mode.REPLAY  # overrides the magics of the notebooks
    timeout: float | None = 600  # seconds per cell
    keep_going: bool = False  # whether to run the cells after one that fails
    # Whether to compare the displayed outputs with the stored ones. None: in replay mode, unless the project's settings
    # say otherwise.
    compare: bool | None = None
    # JSON values, assigned after the cell with the tag ``parameters``, or before the first cell
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    allow_children: bool = False  # whether network clients may start as child processes


class CallReport(msgspec.Struct, frozen=True):
    """A call that a notebook made, as its kernel reports it."""

    outcome: str
    kind: str
    model: str
    key: str
    cell: str | None
    number: int | None
    note: str
    host: str


class CellRun(msgspec.Struct, frozen=True):
    """The result of running a code cell."""

    index: int  # position among all cells, from 1
    id: str | None
    first: str  # first line of its source
    status: str
    seconds: float
    number: int | None = None  # its execution count

    def owns(self, call: CallReport) -> bool:
        """Return whether this cell made a call. Notebooks before format 4.5 have no cell ids."""
        return call.cell == self.id if call.cell and self.id else call.number is not None and call.number == self.number


class Failure(msgspec.Struct, frozen=True):
    """Why a notebook failed."""

    text: str  # one or more lines
    cell: int | None = None  # position of the failing cell, from 1
    difference: Difference | None = None  # set if the cell displays something other than the stored outputs


class Result(msgspec.Struct, frozen=True):
    """The result of running a notebook."""

    path: Path
    notebook: Any  # as executed, without nbreplay's own displays
    calls: list[CallReport] = msgspec.field(default_factory=list)
    failures: list[Failure] = msgspec.field(default_factory=list)  # empty if the notebook passed
    used: dict[str, list[str]] = msgspec.field(default_factory=dict)  # names of the recordings that it used, by store
    cells: list[CellRun] = msgspec.field(default_factory=list)  # the code cells that were reached
    seconds: float = 0.0  # duration, including the start of the kernel
    # Kind and name of each thing that replay did not cover; see `nbreplay.core.log.UNCOVERED`.
    uncovered: list[tuple[str, str]] = msgspec.field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every cell ran and no recording was missing."""
        return not self.failures

    @property
    def errors(self) -> list[str]:
        """Texts of the failures."""
        return [failure.text for failure in self.failures]

    def count(self, outcome: str) -> int:
        """Return the number of calls with an outcome."""
        return sum(call.outcome == outcome for call in self.calls)

    def calls_of(self, cell: CellRun) -> list[CallReport]:
        """Return the calls that a cell made."""
        return [call for call in self.calls if cell.owns(call)]
