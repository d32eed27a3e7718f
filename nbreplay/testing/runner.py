"""Running notebooks in real kernels, and reporting their calls."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
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
from nbreplay.core.store.files import open_folder
from nbreplay.errors import NbreplayError, OptionError
from nbreplay.testing.kernels import Kernel, open_kernel
from nbreplay.testing.notebook_file import (
    is_skipped,
    may_raise,
    read_notebook,
    requested_check,
    save_outputs,
    strip_status,
    tags_of,
)
from nbreplay.testing.outputs.compare import compare
from nbreplay.testing.outputs.diff import format_difference
from nbreplay.testing.outputs.sanitise import rules_for
from nbreplay.testing.result import CallReport, CellRun, Failure, Result, RunOptions
from nbreplay.testing.warm.provisioner import WarmProcess, can_fork, imported_modules


def find_notebooks(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the notebooks among files and in folders.

    Raises
    ------
    OptionError
        If a path is not a notebook, or a folder has none.
    """
    notebooks: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*.ipynb") if ".ipynb_checkpoints" not in file.parts)
            if not inside:
                raise OptionError(f"{path} contains no notebook. Pass a notebook, or a folder that contains some")
            notebooks += inside
        elif path.is_file():
            notebooks.append(path)
        else:
            raise OptionError(f"{path} does not exist. Pass a notebook, or a folder that contains some")
    return list(dict.fromkeys(notebooks))


def default_concurrency(mode: Mode) -> int:
    """Return the number of notebooks to run at a time: one while recording, since a service may depend on the order."""
    return 2 * (os.cpu_count() or 1) if mode is Mode.REPLAY else 1


def run(path: str | os.PathLike[str], options: RunOptions | None = None, **changes: Any) -> Result:
    """Execute one notebook in a kernel of its own, in the notebook's folder.

    Parameters
    ----------
    path : path
    options : RunOptions, optional
    **changes
        Fields of `options` to change, such as ``mode``. ``on_cell`` is a function that is called after each cell with
        the numbers of executed and of all cells.

    Returns
    -------
    Result

    Raises
    ------
    NbreplayError
        If the file is not a notebook.
    """
    on_cell = changes.pop("on_cell", None)
    return asyncio.run(_run(Path(path), msgspec.structs.replace(options or RunOptions(), **changes), on_cell))


def run_all(
    paths: Sequence[Path],
    options: RunOptions,
    *,
    number: int = 1,
    on_cell: Callable[[Path, int, int], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Execute notebooks, `number` at a time on one event loop. A notebook that cannot be run has a result, too.

    Parameters
    ----------
    paths : sequence of Path
    options : RunOptions
    number : int
    on_cell : callable
        Called after each cell with the notebook and the numbers of executed and of all cells.
    on_result : callable
        Called with each result as soon as it is available, in any order.
    """

    async def every() -> list[Result]:
        gate = asyncio.Semaphore(number)
        async with warm_folders(paths) as warm:

            async def one(path: Path) -> Result:
                report_cell = functools.partial(on_cell, path) if on_cell else None
                async with gate:
                    try:
                        result = await _run(path, options, report_cell, warm.get(path.parent))
                    except NbreplayError as error:
                        result = Result(path, None, failures=[Failure(str(error))])
                if on_result:
                    on_result(result)
                return result

            return list(await asyncio.gather(*map(one, paths)))

    return asyncio.run(every())


@contextlib.asynccontextmanager
async def warm_folders(paths: Sequence[Path]) -> AsyncIterator[Mapping[Path, WarmProcess]]:
    """Start a process to fork kernels from, for each folder with several of these notebooks."""
    folders = Counter(path.parent for path in paths)
    warm: dict[Path, WarmProcess] = {}
    try:
        for folder, number in folders.items():
            if number > 1 and can_fork():
                here = dict.fromkeys(path for path in paths if path.parent == folder)
                warm[folder] = WarmProcess(folder.resolve(), imported_modules(here, folder))
                await warm[folder].start()
        yield warm
    finally:
        for one in warm.values():
            await one.stop()


async def _run(
    path: Path, options: RunOptions, on_cell: Callable[[int, int], None] | None = None, warm: WarmProcess | None = None
) -> Result:
    notebook = read_notebook(path)
    stored = copy.deepcopy(notebook) if _compares(options) else None
    for cell in notebook.cells:
        if cell.cell_type == "code" and not is_skipped(cell):
            cell.outputs, cell.execution_count = [], None
    failures: list[Failure] = []
    cells: list[CellRun] = []
    report: dict[str, Any] = {"calls": [], "used": {}}
    started = time.perf_counter()
    try:
        async with open_kernel(notebook, path, options, warm) as running:
            alive = await _run_cells(running, options, cells, failures, on_cell)
            if alive:
                report = await running.report()
            running.set_widgets_metadata()
    except NbreplayError as error:
        failures.append(Failure(str(error)))
    strip_status(notebook)
    calls = [CallReport(**item) for item in report["calls"]]
    failures += _logged_failures(notebook, calls, cells, failures)
    if stored is not None:
        failures += _differences(stored, notebook, path.parent, cells)
    uncovered = [(kind, name) for kind, name in report.get("uncovered", ())]
    return Result(path, notebook, calls, failures, report["used"], cells, time.perf_counter() - started, uncovered)


async def _run_cells(
    running: Kernel,
    options: RunOptions,
    cells: list[CellRun],
    failures: list[Failure],
    on_cell: Callable[[int, int], None] | None,
) -> bool:
    """Execute the cells of a notebook, and add to `cells` and `failures`. Return whether the kernel is still alive."""
    every = running.nb.cells
    parameters = dict(options.parameters)
    if parameters and not any("parameters" in tags_of(cell) for cell in every):
        await running.assign(parameters)
    for index, cell in enumerate(every, 1):
        if cell.cell_type == "code" and cell.source.strip():
            if is_skipped(cell):
                cells.append(CellRun(index, cell.get("id"), _first_line(cell), "skipped", 0.0))
                continue
            failed, started = False, time.perf_counter()
            running.allow_errors = requested_check(cell) == "ignore"
            try:
                await running.async_execute_cell(cell, index - 1)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                failed = True
                failures.append(
                    Failure(f"cell {index} ({_first_line(cell)}): {_describe_error(error, options.timeout)}", index)
                )
                if isinstance(error, DeadKernelError):
                    return False
            finally:
                status, seconds = "failed" if failed else "ok", time.perf_counter() - started
                number = cell.get("execution_count")
                cells.append(CellRun(index, cell.get("id"), _first_line(cell), status, seconds, number))
            if failed and not options.keep_going:
                break
            if parameters and "parameters" in tags_of(cell):
                await running.assign(parameters)
        if on_cell:
            on_cell(index, len(every))
    return True


def _compares(options: RunOptions) -> bool:
    return options.mode is Mode.REPLAY if options.compare is None else options.compare


def _differences(stored: Any, notebook: Any, folder: Path, cells: list[CellRun]) -> list[Failure]:
    executed = {cell.index for cell in cells if cell.status == "ok"}
    if not executed:
        return []
    try:
        rules = rules_for(folder)
    except NbreplayError as error:
        return [Failure(str(error))]
    return [
        Failure(format_difference(difference, colour=False), difference.index, difference)
        for difference in compare(stored, notebook, rules)
        if difference.index in executed
    ]


def update(result: Result) -> bool:
    """Store the outputs of a notebook that passed, and return whether the file changed. An error fails the result."""
    try:
        return result.passed and save_outputs(result.path, result.notebook)
    except NbreplayError as error:
        result.failures.append(Failure(str(error)))
        return False


def write(result: Result, folder: Path) -> None:
    """Write an executed notebook into a folder under its own name, even if it failed.

    Raises
    ------
    OptionError
        If this would replace the notebook itself, or the folder is a link.
    NbreplayError
        If the file cannot be written.
    """
    if result.notebook is None:
        return
    target = folder / result.path.name
    if target.exists() and target.samefile(result.path):
        raise OptionError(f"--output {folder} contains the notebook itself. Pass another folder, or use --update")
    if folder.is_symlink():
        raise OptionError(f"--output {folder} is a symbolic link. Pass its target, {folder.resolve()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open_folder(folder) as outputs, outputs.write(target.name) as file:
            file.write((nbformat.writes(result.notebook).rstrip("\n") + "\n").encode("utf-8"))
    except OSError as error:
        raise NbreplayError(f"Cannot write {target}: {error.strerror or error}") from error


def _describe_error(error: Exception, timeout: float | None) -> str:
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        remedy = "Raise --timeout, or --nbreplay-timeout of pytest, to give it longer"
        return f"cell timed out after {timeout:g} s. {remedy}"
    return "the kernel died"


def _first_line(cell: Any) -> str:
    return next((line for line in cell.source.splitlines() if line.strip()), "")[:60]


def _logged_failures(
    notebook: Any, calls: list[CallReport], cells: list[CellRun], known: list[Failure]
) -> list[Failure]:
    """Return the failed calls whose exceptions the notebook caught: the log decides."""
    failures: dict[str, Failure] = {}
    for call in calls:
        if call.outcome not in FAILURES or any(call.note in failure.text for failure in known):
            continue
        cell = next((cell.index for cell in cells if cell.owns(call)), None)
        if cell is None or not may_raise(notebook.cells[cell - 1]):
            text = f"{call.outcome}: {call.note}"
            failures.setdefault(text, Failure(text, cell))
    return list(failures.values())


def compare_runs(results: Sequence[Result]) -> tuple[Result, str]:
    """Compare several runs of one notebook.

    Parameters
    ----------
    results : sequence of Result
        All runs of the notebook, in order.

    Returns
    -------
    Result
        The first run that failed, else the first run. It fails too if the runs differ.
    str
        A note on how equal the runs are; empty if one failed.
    """
    failed = next((result for result in results if not result.passed), None)
    if failed is not None:
        return failed, ""
    first, *others = results
    text = nbformat.writes(first.notebook)
    if all(nbformat.writes(other.notebook) == text for other in others):
        return first, f"{len(results)} runs, byte for byte the same"
    # The outputs of cells that only have to run may differ.
    rules = rules_for(first.path.parent)
    failures = [
        Failure(f"run {number} differs from run 1", difference.index, difference)
        for number, other in enumerate(others, 2)
        for difference in compare(first.notebook, other.notebook, rules)
    ]
    note = "" if failures else f"{len(results)} runs, the same except for masked text"
    return msgspec.structs.replace(first, failures=failures), note
