"""The result of running a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.config import Mode
from nbreplay.testing.outputs.diff import Difference


class RunOptions(msgspec.Struct, frozen=True):
    """How to run notebooks.

    Attributes
    ----------
    mode : Mode
        Overrides the magics of the notebooks.
    timeout : float or None
        Seconds per cell.
    keep_going : bool
        Whether to run the cells after one that fails.
    compare : bool or None
        Whether to compare the displayed outputs with the stored ones. None: in replay mode, unless the project's
        settings say otherwise.
    parameters : mapping of str to object
        JSON values, assigned after the cell with the tag ``parameters``, or before the first cell.
    allow_children : bool
        Whether network clients may start as child processes.
    """

    mode: Mode = Mode.REPLAY
    timeout: float | None = 600
    keep_going: bool = False
    compare: bool | None = None
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    allow_children: bool = False


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
    """The result of running a code cell.

    Attributes
    ----------
    index : int
        Position among all cells, from 1.
    id : str or None
    first : str
        First line of its source.
    status : {"ok", "failed", "skipped"}
    seconds : float
    number : int or None
        Its execution count.
    """

    index: int
    id: str | None
    first: str
    status: str
    seconds: float
    number: int | None = None

    def owns(self, call: CallReport) -> bool:
        """Return whether this cell made a call. Notebooks before format 4.5 have no cell ids."""
        return call.cell == self.id if call.cell and self.id else call.number is not None and call.number == self.number


class Failure(msgspec.Struct, frozen=True):
    """Why a notebook failed.

    Attributes
    ----------
    text : str
        One or more lines.
    cell : int or None
        Position of the failing cell, from 1.
    difference : Difference or None
        Set if the cell displays something other than the stored outputs.
    """

    text: str
    cell: int | None = None
    difference: Difference | None = None


class Result(msgspec.Struct, frozen=True):
    """The result of running a notebook.

    Attributes
    ----------
    path : Path
    notebook : nbformat.NotebookNode
        As executed, without nbreplay's own displays.
    calls : list of Call
    failures : list of Failure
        Empty if the notebook passed.
    used : dict of str to list of str
        Names of the recordings that it used, by store.
    cells : list of CellRun
        The code cells that were reached.
    seconds : float
        Duration, including the start of the kernel.
    uncovered : list of tuple of str
        Kind and name of each thing that replay did not cover; see `nbreplay.core.log.UNCOVERED`.
    """

    path: Path
    notebook: Any
    calls: list[CallReport] = msgspec.field(default_factory=list)
    failures: list[Failure] = msgspec.field(default_factory=list)
    used: dict[str, list[str]] = msgspec.field(default_factory=dict)
    cells: list[CellRun] = msgspec.field(default_factory=list)
    seconds: float = 0.0
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
