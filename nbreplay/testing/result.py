"""What became of a notebook that was run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.config import Mode
from nbreplay.testing.outputs.diff import Difference

__all__ = ["CallReport", "CellRun", "Failure", "Result", "Wanted"]


class Wanted(msgspec.Struct, frozen=True):
    """How notebooks are run.

    Attributes
    ----------
    mode : Mode
        Forced on the notebooks, whatever their magics say.
    timeout : float or None
        Seconds that one cell may take.
    keep_going : bool
        Whether the cells after one that fails are run.
    compare : bool or None
        Whether what is displayed is compared with what is stored; None: in a replay, and where the project does not
        say otherwise.
    parameters : mapping of str to object
        Values of JSON's types, set after the cell that is tagged ``parameters``, or before the first.
    allow_children : bool
        Whether child processes start that are network clients.
    """

    mode: Mode = Mode.REPLAY
    timeout: float | None = 600
    keep_going: bool = False
    compare: bool | None = None
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    allow_children: bool = False


class CallReport(msgspec.Struct, frozen=True):
    """One call that a notebook made, as its kernel reports it."""

    outcome: str
    kind: str
    model: str
    key: str
    cell: str | None
    number: int | None
    note: str
    host: str


class CellRun(msgspec.Struct, frozen=True):
    """What became of a code cell.

    Attributes
    ----------
    index : int
        The cell's place among all cells, from 1.
    id : str or None
    first : str
        The first line of its source.
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

    def made(self, call: CallReport) -> bool:
        """Whether a call is this cell's; notebooks of before format 4.5 have no ids."""
        return call.cell == self.id if call.cell and self.id else call.number is not None and call.number == self.number


class Failure(msgspec.Struct, frozen=True):
    """Why a notebook failed.

    Attributes
    ----------
    text : str
        Of one or more lines.
    cell : int or None
        The place of the cell that it belongs to, from 1.
    difference : Difference or None
        Where that is that it does not display what is stored.
    """

    text: str
    cell: int | None = None
    difference: Difference | None = None


class Result(msgspec.Struct, frozen=True):
    """What became of a notebook.

    Attributes
    ----------
    path : Path
    notebook : nbformat.NotebookNode
        As it was executed, nbreplay's own displays left out.
    calls : list of CallReport
    failures : list of Failure
        Why it failed; empty where it passed.
    used : dict of str to list of str
        The stores that it asked, and the names of the recordings that it asked for.
    cells : list of CellRun
        Of the code cells that were reached.
    seconds : float
        How long it took, its kernel's start included.
    uncovered : list of tuple of str
        What replay did not cover, by kind and name; see `nbreplay.core.log.UNCOVERED`.
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
        """Whether every cell ran as it should, and nothing was missing."""
        return not self.failures

    @property
    def errors(self) -> list[str]:
        """The texts of its failures."""
        return [failure.text for failure in self.failures]

    def count(self, outcome: str) -> int:
        """Return how many calls had an outcome."""
        return sum(call.outcome == outcome for call in self.calls)

    def calls_of(self, cell: CellRun) -> list[CallReport]:
        """Return the calls of a cell."""
        return [call for call in self.calls if cell.made(call)]
