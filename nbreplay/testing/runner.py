"""Running notebooks in a real kernel, replayed, recorded or both, and telling what they exchanged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from nbreplay.core.config import Mode
from nbreplay.core.frozen import frozen
from nbreplay.core.log import FAILURES
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.testing.document import read, save, strip
from nbreplay.testing.kernels import kernel

__all__ = ["Call", "Result", "find_notebooks", "run", "run_all", "run_async", "update"]


@frozen
class Call:
    """One call that a notebook made, as its kernel reports it."""

    outcome: str
    kind: str
    model: str
    key: str
    cell: str | None
    number: int | None
    note: str
    host: str


@frozen
class Result:
    """What became of a notebook.

    Attributes
    ----------
    path : Path
    notebook : nbformat.NotebookNode
        As it was executed, nbreplay's own displays left out.
    calls : list of Call
    errors : list of str
        Why it failed; empty where it passed.
    used : dict of str to list of str
        The stores that it asked, and the names of the recordings that it asked for.
    """

    path: Path
    notebook: Any
    calls: list[Call] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    used: dict[str, list[str]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every cell ran as it should, and nothing was missing."""
        return not self.errors

    def count(self, outcome: str) -> int:
        """Return how many calls had an outcome."""
        return sum(call.outcome == outcome for call in self.calls)


def find_notebooks(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the notebooks among files and in folders.

    Raises
    ------
    OptionError
        Where there is none.
    """
    found: list[Path] = []
    for given in map(Path, paths):
        if given.is_dir():
            inside = sorted(path for path in given.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
            if not inside:
                raise OptionError(f"there is no notebook in {given}")
            found += inside
        elif given.is_file():
            found.append(given)
        else:
            raise OptionError(f"there is no notebook {given}")
    return list(dict.fromkeys(found))


def run(
    path: str | os.PathLike[str],
    *,
    mode: Mode = Mode.REPLAY,
    timeout: float | None = 600,
    on_cell: Callable[[int, int], None] | None = None,
) -> Result:
    """Execute one notebook in a kernel of its own, in the notebook's folder.

    Parameters
    ----------
    path : path
    mode : Mode
        Forced on the notebook, whatever its magics say.
    timeout : float or None
        Seconds that one cell may take.
    on_cell : callable
        Called with the number of cells done and of all, after each.

    Returns
    -------
    Result

    Raises
    ------
    NbreplayError
        Where the file is no notebook.
    """
    return asyncio.run(run_async(Path(path), mode=mode, timeout=timeout, on_cell=on_cell))


def run_all(
    paths: Sequence[Path], *, mode: Mode, at_once: int = 1, timeout: float | None = 600, quiet: bool = False
) -> list[Result]:
    """Execute notebooks, `at_once` at a time on one event loop, and show how far they are on a terminal."""

    async def every() -> list[Result]:
        gate = asyncio.Semaphore(at_once)

        async def one(path: Path) -> Result:
            async with gate:
                with _progress(path, quiet) as on_cell:
                    try:
                        return await run_async(path, mode=mode, timeout=timeout, on_cell=on_cell)
                    except NbreplayError as error:
                        return Result(path, None, errors=[str(error)])

        return list(await asyncio.gather(*map(one, paths)))

    return asyncio.run(every())


@contextlib.contextmanager
def _progress(path: Path, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show which cell of a notebook runs, where somebody watches, and take that away again."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r\x1b[K{path.name}: cell {done} of {total}")
        sys.stderr.flush()

    show(0, 0)
    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


async def run_async(
    path: Path, *, mode: Mode, timeout: float | None = 600, on_cell: Callable[[int, int], None] | None = None
) -> Result:
    """Do what `run` does, on a running event loop."""
    notebook = read(path)
    total = len(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    errors: list[str] = []
    calls: list[Call] = []
    used: dict[str, list[str]] = {}
    try:
        async with kernel(notebook, path, mode, timeout) as running:
            for index, cell in enumerate(notebook.cells):
                try:
                    await running.async_execute_cell(cell, index)
                except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                    errors.append(f"cell {index + 1} ({_first(cell)}): {_told(error, timeout)}")
                    if isinstance(error, DeadKernelError):
                        break
                if on_cell:
                    on_cell(index + 1, total)
                if errors:
                    break
            if not any("the kernel died" in error for error in errors):
                report = await running.report()
                calls, used = [Call(**item) for item in report["calls"]], report["used"]
            running.set_widgets_metadata()
    except NbreplayError as error:
        errors.append(str(error))
    strip(notebook)
    errors += _verdict(notebook, calls, errors)
    return Result(path, notebook, calls, errors, used)


def update(result: Result) -> bool:
    """Store the outputs of a notebook that has passed; return whether that changed it. Where it cannot be, it fails."""
    try:
        return result.passed and save(result.path, result.notebook)
    except NbreplayError as error:
        result.errors.append(str(error))
        return False


def _told(error: Exception, timeout: float | None) -> str:
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        longer = "--timeout, or --nbreplay-timeout of pytest, gives it longer"
        return f"it had not ended after {timeout:g} s, and was stopped; {longer}"
    return "the kernel died"


def _first(cell: Any) -> str:
    return next((line for line in cell.source.splitlines() if line.strip()), "")[:60]


def _verdict(notebook: Any, calls: list[Call], errors: list[str]) -> list[str]:
    """Return what went wrong without stopping the notebook: the log is the verdict, whatever swallowed exceptions."""
    tagged = [cell for cell in notebook.cells if "raises-exception" in cell.get("metadata", {}).get("tags", ())]
    # Notebooks of before format 4.5 have no ids.
    expected = {cell.get("id") or cell.get("execution_count") for cell in tagged} - {None}
    found = [
        f"{call.outcome}: {call.note}"
        for call in calls
        if call.outcome in FAILURES
        and (call.cell or call.number) not in expected
        and not any(call.note in error for error in errors)
    ]
    return list(dict.fromkeys(found))
