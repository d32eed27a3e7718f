"""Running notebooks in a real kernel, replayed, recorded or both, and telling what they exchanged."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from nbreplay.core.config import Mode
from nbreplay.core.log import FAILURES
from nbreplay.core.store.folder import open_folder
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.testing.kernels import Kernel, kernel
from nbreplay.testing.notebook_file import read, save, strip
from nbreplay.testing.outputs.compare import compare
from nbreplay.testing.outputs.diff import shown
from nbreplay.testing.outputs.sanitise import rules_for
from nbreplay.testing.result import CallReport, CellRun, Failure, Result, Wanted
from nbreplay.testing.tags import may_raise, skipped, tags
from nbreplay.testing.tags import wanted as wanted_of
from nbreplay.testing.warm.imports import imported
from nbreplay.testing.warm.provisioner import Warm, possible

__all__ = ["at_once", "find_notebooks", "run", "run_all", "update", "warmed", "write"]


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


def at_once(mode: Mode) -> int:
    """Return how many notebooks are run at a time where nobody says: one, where their order may matter to a service."""
    return 2 * (os.cpu_count() or 1) if mode is Mode.REPLAY else 1


def run(path: str | os.PathLike[str], wanted: Wanted | None = None, **given: Any) -> Result:
    """Execute one notebook in a kernel of its own, in the notebook's folder.

    Parameters
    ----------
    path : path
    wanted : Wanted, optional
    **given
        What is not as `wanted` says, such as ``mode``; and ``on_cell``, which is called after each cell with the
        numbers of those done and of all.

    Returns
    -------
    Result

    Raises
    ------
    NbreplayError
        Where the file is no notebook.
    """
    on_cell = given.pop("on_cell", None)
    return asyncio.run(_run(Path(path), msgspec.structs.replace(wanted or Wanted(), **given), on_cell))


def run_all(
    paths: Sequence[Path],
    wanted: Wanted,
    *,
    number: int = 1,
    on_cell: Callable[[Path, int, int], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Execute notebooks, `number` at a time on one event loop; a notebook that cannot be run is a result, too.

    Parameters
    ----------
    paths : sequence of Path
    wanted : Wanted
    number : int
    on_cell : callable
        Called after each cell with the notebook, and the numbers of cells done and of all.
    on_result : callable
        Called with each result as soon as it is there, in whatever order.
    """

    async def every() -> list[Result]:
        gate = asyncio.Semaphore(number)
        async with warmed(paths) as warm:

            async def one(path: Path) -> Result:
                def told(done: int, total: int) -> None:
                    if on_cell:
                        on_cell(path, done, total)

                async with gate:
                    try:
                        result = await _run(path, wanted, told, warm.get(path.parent))
                    except NbreplayError as error:
                        result = Result(path, None, failures=[Failure(str(error))])
                if on_result:
                    on_result(result)
                return result

            return list(await asyncio.gather(*map(one, paths)))

    return asyncio.run(every())


@contextlib.asynccontextmanager
async def warmed(paths: Sequence[Path]) -> AsyncIterator[Mapping[Path, Warm]]:
    """Have a process to fork kernels from for each folder that has several of these notebooks."""
    folders = Counter(path.parent for path in paths)
    warm: dict[Path, Warm] = {}
    try:
        for folder, number in folders.items():
            if number > 1 and possible():
                here = dict.fromkeys(path for path in paths if path.parent == folder)
                warm[folder] = Warm(folder.resolve(), imported(here, folder))
                await warm[folder].start()
        yield warm
    finally:
        for one in warm.values():
            await one.stop()


async def _run(
    path: Path, wanted: Wanted, on_cell: Callable[[int, int], None] | None = None, warm: Warm | None = None
) -> Result:
    notebook = read(path)
    stored = copy.deepcopy(notebook) if _compared(wanted) else None
    for cell in notebook.cells:
        if cell.cell_type == "code" and not skipped(cell):
            cell.outputs, cell.execution_count = [], None
    failures: list[Failure] = []
    cells: list[CellRun] = []
    report: dict[str, Any] = {"calls": [], "used": {}}
    started = time.perf_counter()
    try:
        async with kernel(notebook, path, wanted, warm) as running:
            alive = await _cells(running, wanted, cells, failures, on_cell)
            if alive:
                report = await running.report()
            running.set_widgets_metadata()
    except NbreplayError as error:
        failures.append(Failure(str(error)))
    strip(notebook)
    calls = [CallReport(**item) for item in report["calls"]]
    failures += _verdict(notebook, calls, cells, failures)
    if stored is not None:
        failures += _differences(stored, notebook, path.parent, cells)
    uncovered = [(kind, name) for kind, name in report.get("uncovered", ())]
    return Result(path, notebook, calls, failures, report["used"], cells, time.perf_counter() - started, uncovered)


async def _cells(
    running: Kernel,
    wanted: Wanted,
    cells: list[CellRun],
    failures: list[Failure],
    on_cell: Callable[[int, int], None] | None,
) -> bool:
    """Execute the cells of a notebook, and note what becomes of them; return whether the kernel still lives."""
    every = running.nb.cells
    given = dict(wanted.parameters)
    if given and not any("parameters" in tags(cell) for cell in every):
        await running.assign(given)
    for index, cell in enumerate(every, 1):
        if cell.cell_type == "code" and cell.source.strip():
            if skipped(cell):
                cells.append(CellRun(index, cell.get("id"), _first(cell), "skipped", 0.0))
                continue
            failed, started = False, time.perf_counter()
            running.allow_errors = wanted_of(cell) == "ignore"
            try:
                await running.async_execute_cell(cell, index - 1)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                failed = True
                failures.append(Failure(f"cell {index} ({_first(cell)}): {_told(error, wanted.timeout)}", index))
                if isinstance(error, DeadKernelError):
                    return False
            finally:
                status, seconds = "failed" if failed else "ok", time.perf_counter() - started
                number = cell.get("execution_count")
                cells.append(CellRun(index, cell.get("id"), _first(cell), status, seconds, number))
            if failed and not wanted.keep_going:
                break
            if given and "parameters" in tags(cell):
                await running.assign(given)
        if on_cell:
            on_cell(index, len(every))
    return True


def _compared(wanted: Wanted) -> bool:
    return wanted.mode is Mode.REPLAY if wanted.compare is None else wanted.compare


def _differences(stored: Any, notebook: Any, folder: Path, cells: list[CellRun]) -> list[Failure]:
    ran = {cell.index for cell in cells if cell.status == "ok"}
    if not ran:
        return []
    try:
        rules = rules_for(folder)
    except NbreplayError as error:
        return [Failure(str(error))]
    found = [difference for difference in compare(stored, notebook, rules) if difference.index in ran]
    return [Failure(shown(difference, colour=False), difference.index, difference) for difference in found]


def update(result: Result) -> bool:
    """Store the outputs of a notebook that has passed; return whether that changed it. Where it cannot be, it fails."""
    try:
        return result.passed and save(result.path, result.notebook)
    except NbreplayError as error:
        result.failures.append(Failure(str(error)))
        return False


def write(result: Result, folder: Path) -> None:
    """Write a notebook as it was executed, also one that failed, into a folder, under its own name.

    Raises
    ------
    OptionError
        Where that would replace the notebook itself, or the folder is a link.
    NbreplayError
        Where it cannot be written.
    """
    if result.notebook is None:
        return
    target = folder / result.path.name
    if target.exists() and target.samefile(result.path):
        raise OptionError(f"--output {folder} holds the notebook itself: name another folder, or use --update")
    if folder.is_symlink():
        raise OptionError(f"--output {folder} is a symbolic link: name the folder that it leads to, {folder.resolve()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open_folder(folder) as outputs, outputs.write(target.name) as file:
            file.write((nbformat.writes(result.notebook).rstrip("\n") + "\n").encode("utf-8"))
    except OSError as error:
        raise NbreplayError(f"{target} cannot be written: {error.strerror or error}") from error


def _told(error: Exception, timeout: float | None) -> str:
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        longer = "--timeout, or --nbreplay-timeout of pytest, gives it longer"
        return f"it had not ended after {timeout:g} s, and was stopped; {longer}"
    return "the kernel died"


def _first(cell: Any) -> str:
    return next((line for line in cell.source.splitlines() if line.strip()), "")[:60]


def _verdict(notebook: Any, calls: list[CallReport], cells: list[CellRun], known: list[Failure]) -> list[Failure]:
    """Return what went wrong without stopping the notebook: the log is the verdict, whatever swallowed exceptions."""
    found: dict[str, Failure] = {}
    for call in calls:
        if call.outcome not in FAILURES or any(call.note in failure.text for failure in known):
            continue
        cell = next((cell.index for cell in cells if cell.made(call)), None)
        if cell is None or not may_raise(notebook.cells[cell - 1]):
            text = f"{call.outcome}: {call.note}"
            found.setdefault(text, Failure(text, cell))
    return list(found.values())
