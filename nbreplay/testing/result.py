"""The results of running notebooks, and their failures as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nbreplay.core.config import Mode, Project, describe_project_file, format_setting
from nbreplay.core.variable_text import Proposal
from nbreplay.core.words import join_words
from nbreplay.notebook.escape import plain
from nbreplay.testing.outputs.diff import Difference, format_difference
from nbreplay.testing.outputs.sanitise import rules_for

REMEDY = (
    "It does not display what it displayed before. To store what is new: nbreplay run --update, or",
    "pytest --nbreplay-update. What may differ: tag the cell nbreplay-run, or mask it in pyproject.toml,",
    "[tool.nbreplay.outputs].",
)
"""The lines at the end of the failures if outputs differ."""

_PROJECT_FLAGS = ("isolated", "fast_sleep", "skip_installs")


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
    isolated: bool = False  # whether each notebook runs in a copy of its folder
    fast_sleep: bool = False  # whether sleeps are short in threads that replay calls
    skip_installs: bool = False  # whether cells and lines that install packages are left out
    keep_errors: bool = False  # whether ``auto`` keeps failures that may pass, such as a 429
    kernel: str | None = None  # name of an installed kernel. None: the one that a notebook names
    # Whether the outputs are to be stored. Those of a recording are then the outputs of its replay, since tools, for
    # one, run and print only while they are recorded.
    update: bool = False

    def with_defaults(self, defaults: Project) -> RunOptions:
        """Return these options with those that a project sets for all its runs."""
        flags = {name: getattr(self, name) or getattr(defaults, name) for name in _PROJECT_FLAGS}
        return msgspec.structs.replace(self, **flags)


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
    edited: bool = False  # whether its cell was edited after the answer was recorded
    masks: tuple[Proposal, ...] = ()  # with which another recording would answer it, if it is missing
    lost: str = ""  # the failure that ``auto`` did not keep, such as ``429 Too Many Requests``


class InputReport(msgspec.Struct, frozen=True):
    """One thing that a notebook asked for; see `nbreplay.testing.inputs.Input`."""

    name: str
    kind: str
    given: str
    prompt: str
    cell: str | None


class CellRun(msgspec.Struct):
    """The result of a code cell that was reached."""

    index: int  # position among all cells, from 1
    id: str | None
    first: str  # first line of its source
    status: str = "skipped"  # or ``ok`` or ``failed``
    reason: str = "skipped by a tag of the cell"  # why it is skipped
    seconds: float = 0.0
    number: int | None = None  # its execution count

    def owns(self, call: CallReport) -> bool:
        """Return whether this cell made a call. Notebooks before format 4.5 have no cell ids."""
        return call.cell == self.id if call.cell and self.id else call.number is not None and call.number == self.number


class Failure(msgspec.Struct, frozen=True):
    """Why a notebook failed."""

    text: str  # one or more lines
    cell: int | None = None  # position of the failing cell, from 1
    difference: Difference | None = None  # set if the cell displays something other than the stored outputs


class PrintedKey(msgspec.Struct, frozen=True):
    """A secret in the outputs of a cell, which are masked."""

    cell: int  # position of the cell, from 1
    kind: str  # the rule that found it; see `nbreplay.core.secrets.redact.Match`


class Result(msgspec.Struct):
    """The result of running a notebook."""

    path: Path
    notebook: Any = None  # as executed, without nbreplay's own displays
    calls: list[CallReport] = msgspec.field(default_factory=list)
    failures: list[Failure] = msgspec.field(default_factory=list)  # empty if the notebook passed
    used: dict[str, list[str]] = msgspec.field(default_factory=dict)  # names of the recordings that it used, by store
    cells: list[CellRun] = msgspec.field(default_factory=list)  # the code cells that were reached
    seconds: float = 0.0  # duration, including the start of the kernel
    # Kind and name of each thing that replay did not cover; see `nbreplay.core.log.UNCOVERED`.
    uncovered: list[tuple[str, str]] = msgspec.field(default_factory=list)
    inputs: list[InputReport] = msgspec.field(default_factory=list)  # keys and other values that it asked for
    unset: list[str] = msgspec.field(default_factory=list)  # variables that were set when its store was recorded
    updated: bool = False  # whether its new outputs were stored
    printed_keys: list[PrintedKey] = msgspec.field(default_factory=list)
    stored_keys: list[PrintedKey] = msgspec.field(default_factory=list)  # in the outputs that it was compared with
    note: str = ""  # how equal several runs are
    notes: list[str] = msgspec.field(default_factory=list)  # sentences to report that are not failures

    @property
    def passed(self) -> bool:
        """Whether every cell ran and no recording was missing."""
        return not self.failures

    @property
    def errors(self) -> list[str]:
        """Texts of the failures."""
        return [failure.text for failure in self.failures]

    @property
    def masks(self) -> list[Proposal]:
        """The masks that would make its outputs equal to the stored ones, for cells that differ only in such text."""
        differences = (failure.difference for failure in self.failures if failure.difference)
        return list({mask.pattern: mask for difference in differences for mask in difference.masks}.values())

    def count(self, outcome: str) -> int:
        """Return the number of calls with an outcome."""
        return sum(call.outcome == outcome for call in self.calls)

    def calls_of(self, cell: CellRun) -> list[CallReport]:
        """Return the calls that a cell made."""
        return [call for call in self.calls if cell.owns(call)]


def format_failures(failures: Iterable[Failure], folder: Path, *, colour: bool = False) -> list[str]:
    """Return failures as lines for a terminal, with the remedy if outputs differ.

    `folder` is the notebook's: its project says what is masked already.
    """
    lines: list[str] = []
    differences: list[Difference] = []
    for failure in failures:
        if failure.difference is not None:
            lines += format_difference(failure.difference, colour).split("\n")
            differences.append(failure.difference)
        else:
            lines += map(plain, failure.text.rstrip().split("\n"))
    if maskable := [difference for difference in differences if difference.masks]:
        lines += _describe_masks(maskable, folder)
    return [*lines, *(REMEDY if len(maskable) < len(differences) else ())]


def _describe_masks(differences: Sequence[Difference], folder: Path) -> list[str]:
    """Return what alone differs in the outputs of some cells, and the lines of pyproject.toml that mask it."""
    cells = sorted({difference.index for difference in differences})
    masks = [mask for difference in differences for mask in difference.masks]
    numbers, names = join_words(map(str, cells)), join_words(dict.fromkeys(mask.name for mask in masks))
    subject = f"cells {numbers} differ" if len(cells) > 1 else f"cell {numbers} differs"
    patterns = dict.fromkeys([*rules_for(folder).mask, *(mask.pattern for mask in masks)])
    return [
        f"{subject} only in {names}. If that varies by itself, set in {plain(describe_project_file(folder))}:",
        "    [tool.nbreplay.outputs]",
        *(f"    {plain(line)}" for line in format_setting("mask", patterns).split("\n")),
    ]
