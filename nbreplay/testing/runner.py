"""Running notebooks in real kernels, and reporting their calls.

As a program (``python -m nbreplay.testing.runner``), it runs those that `nbreplay.testing.items` names on stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
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
    own_outputs,
    read_notebook,
    requested_check,
    save_outputs,
    tags_of,
)
from nbreplay.testing.outputs.compare import compare
from nbreplay.testing.outputs.diff import first_line, format_difference
from nbreplay.testing.outputs.sanitise import rules_for
from nbreplay.testing.result import CallReport, CellRun, Failure, Result, RunOptions
from nbreplay.testing.warm.provisioner import WarmProcess, warm_processes

OnCell = Callable[[Path, int, int], None]


def find_notebooks(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the notebooks among files and in folders; raise `OptionError` where a path leads to none."""
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


def run(
    path: str | os.PathLike[str], options: RunOptions | None = None, *, on_cell: OnCell | None = None, **changes: Any
) -> Result:
    """Execute one notebook, with some changes to `options`. Raise `NbreplayError` if the file is not a notebook."""
    return asyncio.run(_run(Path(path), msgspec.structs.replace(options or RunOptions(), **changes), on_cell))


def run_all(
    paths: Sequence[Path],
    options: RunOptions,
    *,
    number: int | None = None,
    on_cell: OnCell | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Execute notebooks, `number` at a time on one event loop. A notebook that cannot be run has a result, too.

    The default is twice the processors; one while recording, since a service may depend on the order. `on_cell` is
    called after each cell with the notebook and the numbers of executed and of all cells, `on_result` with each result
    as soon as it is available, in any order.
    """
    number = number or (2 * (os.cpu_count() or 1) if options.mode is Mode.REPLAY else 1)

    async def run_paths() -> list[Result]:
        gate = asyncio.Semaphore(number)
        async with warm_processes(paths) as warm:

            async def run_path(path: Path) -> Result:
                async with gate:
                    try:
                        result = await _run(path, options, on_cell, warm.get(path.parent))
                    except NbreplayError as error:
                        result = Result(path, failures=[Failure(str(error))])
                if on_result:
                    on_result(result)
                return result

            return await asyncio.gather(*map(run_path, paths))

    return asyncio.run(run_paths())


async def _run(
    path: Path, options: RunOptions, on_cell: OnCell | None = None, warm: WarmProcess | None = None
) -> Result:
    """Execute one notebook in a kernel of its own, in the notebook's folder."""
    notebook = read_notebook(path)
    stored = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not is_skipped(cell):
            cell.outputs, cell.execution_count = [], None
    result = Result(path, notebook)
    started = time.perf_counter()
    try:
        async with open_kernel(notebook, path, options, warm) as kernel:
            if await _run_cells(kernel, result, options, on_cell):
                report = await kernel.report()
                result.calls = [CallReport(**call) for call in report["calls"]]
                result.used, result.uncovered = report["used"], [(kind, name) for kind, name in report["uncovered"]]
            kernel.set_widgets_metadata()
    except NbreplayError as error:
        result.failures.append(Failure(str(error)))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = own_outputs(cell)
    result.failures += _logged_failures(result)
    if options.mode is Mode.REPLAY if options.compare is None else options.compare:
        result.failures += _differences(stored, result)
    result.seconds = time.perf_counter() - started
    return result


async def _run_cells(kernel: Kernel, result: Result, options: RunOptions, on_cell: OnCell | None) -> bool:
    """Execute the cells of a notebook, and add to its result. Return whether the kernel is still alive."""
    every = kernel.nb.cells
    if not any("parameters" in tags_of(cell) for cell in every):
        await kernel.assign(options.parameters)
    for index, cell in enumerate(every, 1):
        if cell.cell_type == "code" and cell.source.strip():
            run = CellRun(index, cell.get("id"), first_line(cell.source))
            result.cells.append(run)
            if is_skipped(cell):
                continue
            kernel.allow_errors = requested_check(cell) == "ignore"
            started = time.perf_counter()
            try:
                await kernel.async_execute_cell(cell, index - 1)
                run.status = "ok"
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                run.status = "failed"
                text = f"cell {index} ({run.first}): {_describe_error(error, options.timeout)}"
                result.failures.append(Failure(text, index))
                if isinstance(error, DeadKernelError):
                    return False
            finally:
                run.seconds, run.number = time.perf_counter() - started, cell.get("execution_count")
            if run.status == "failed" and not options.keep_going:
                break
            if "parameters" in tags_of(cell):
                await kernel.assign(options.parameters)
        if on_cell:
            on_cell(result.path, index, len(every))
    return True


def _describe_error(error: Exception, timeout: float | None) -> str:
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        remedy = "Raise --timeout, or --nbreplay-timeout of pytest, to give it longer"
        return f"cell timed out after {timeout:g} s. {remedy}"
    return "the kernel died"


def _logged_failures(result: Result) -> list[Failure]:
    """Return the failed calls whose exceptions the notebook caught: the log decides."""
    failures: dict[str, Failure] = {}
    for call in result.calls:
        if call.outcome not in FAILURES or any(call.note in failure.text for failure in result.failures):
            continue
        cell = next((cell.index for cell in result.cells if cell.owns(call)), None)
        if cell is None or not may_raise(result.notebook.cells[cell - 1]):
            text = f"{call.outcome}: {call.note}"
            failures.setdefault(text, Failure(text, cell))
    return list(failures.values())


def _differences(stored: Any, result: Result) -> list[Failure]:
    executed = {cell.index for cell in result.cells if cell.status == "ok"}
    if not executed:
        return []
    try:
        differences = compare(stored, result.notebook, rules_for(result.path.parent))
    except NbreplayError as error:
        return [Failure(str(error))]
    return [
        Failure(format_difference(difference, colour=False), difference.index, difference)
        for difference in differences
        if difference.index in executed
    ]


def update(result: Result) -> None:
    """Store the outputs of a notebook that passed. An error fails the result."""
    try:
        result.updated = result.passed and save_outputs(result.path, result.notebook)
    except NbreplayError as error:
        result.failures.append(Failure(str(error)))


def write(result: Result, folder: Path) -> None:
    """Write an executed notebook into a folder under its own name, even if it failed.

    Raise `OptionError` if this would replace the notebook itself, or the folder is a link.
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


def compare_runs(results: Sequence[Result]) -> Result:
    """Compare all runs of a notebook. Return the first that failed, else the first; it fails if the runs differ."""
    first, *others = results
    if failed := next((result for result in results if not result.passed), None):
        return failed
    text = nbformat.writes(first.notebook)
    if all(nbformat.writes(other.notebook) == text for other in others):
        first.note = f"{len(results)} runs, byte for byte the same"
        return first
    # The outputs of cells that only have to run may differ.
    rules = rules_for(first.path.parent)
    first.failures += [
        Failure(f"run {number} differs from run 1", difference.index, difference)
        for number, other in enumerate(others, 2)
        for difference in compare(first.notebook, other.notebook, rules)
    ]
    first.note = f"{len(results)} runs, the same except for masked text" if first.passed else ""
    return first


def serve() -> None:
    """Run the notebooks that arrive on stdin, until pytest's process ends."""
    requests = sys.stdin.buffer
    # Kernels may write to stdout, which must not mix with the results.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt, asyncio.CancelledError):
        while True:
            paths, options, number, updates = pickle.load(requests)

            def send(result: Result, updates: bool = updates) -> None:
                if updates:
                    update(result)
                pickle.dump(msgspec.structs.replace(result, notebook=None), answers)
                answers.flush()

            run_all(paths, options, number=number, on_result=send)


if __name__ == "__main__":
    serve()
