"""Running notebooks in real kernels, and reporting their calls.

As a program (``python -m nbreplay.testing.runner``), it runs those that `nbreplay.testing.items` names on stdin.
"""

from __future__ import annotations

import _thread
import ast
import asyncio
import contextlib
import copy
import os
import pickle
import queue
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import nbformat
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from nbreplay.core.config import Mode, project
from nbreplay.core.recording.recording import Recording
from nbreplay.core.secrets.redact import Redactor
from nbreplay.core.store.files import open_folder
from nbreplay.core.store.store import Store
from nbreplay.core.words import FAILURES, TOLERABLE, format_failure, suggest
from nbreplay.errors import NbreplayError, OptionError, RecordingIncomplete, RecordingMissing
from nbreplay.notebook.escape import plain
from nbreplay.notebook.stall import NOTE
from nbreplay.testing.installs import ONLY_INSTALLS, find_installs
from nbreplay.testing.isolation import find_left_files, open_copy
from nbreplay.testing.kernels import Kernel, KernelDied, open_kernel
from nbreplay.testing.notebook_file import (
    is_skipped,
    may_raise,
    own_outputs,
    read_notebook,
    requested_check,
    save_outputs,
    tags_of,
)
from nbreplay.testing.notebook_secrets import mask_notebook
from nbreplay.testing.notes import make_notes
from nbreplay.testing.outputs.compare import compare, restore_equal_outputs
from nbreplay.testing.outputs.diff import Difference, first_line, format_difference
from nbreplay.testing.outputs.sanitise import rules_for
from nbreplay.testing.result import CallReport, CellRun, Failure, InputReport, Result, RunOptions
from nbreplay.testing.warm.process import WarmProcess
from nbreplay.testing.warm.tree import warm_processes

_RECORDING_SECONDS = 600  # a notebook may write files so long before its first call

OnCell = Callable[[Path, int, int], None]

_CLEAN = "Remove it before a replay"


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
            near = suggest(path.name, (file.name for file in path.parent.glob("*.ipynb")))
            raise OptionError(f"{path} does not exist.{near or ' Pass a notebook, or a folder that contains some'}")
    return list(dict.fromkeys(notebooks))


def run(
    path: str | os.PathLike[str], options: RunOptions | None = None, *, on_cell: OnCell | None = None, **changes: Any
) -> Result:
    """Execute one notebook, with some changes to `options`. Raise `NbreplayError` if the file is not a notebook."""
    options = msgspec.structs.replace(options or RunOptions(), **changes)
    return asyncio.run(_run_and_replay(Path(path), options, on_cell, None, Path(path)))


def run_all(
    paths: Sequence[Path],
    options: RunOptions,
    *,
    number: int | None = None,
    on_cell: OnCell | None = None,
    on_result: Callable[[Result], None] | None = None,
    copies: Mapping[Path, Path] | None = None,
) -> list[Result]:
    """Execute notebooks, `number` at a time on one event loop. A notebook that cannot be run has a result, too.

    The default is twice the processors; one while recording, since a service may depend on the order. `on_cell` is
    called after each cell with the notebook and the numbers of executed and of all cells, `on_result` with each result
    as soon as it is available, in any order. Where `copies` names a copy of a notebook, this is run in its own folder
    and compared with its own outputs, but its recordings are those of the notebook.
    """
    number = number or (2 * (os.cpu_count() or 1) if options.mode is Mode.REPLAY else 1)

    async def run_paths() -> list[Result]:
        gate = asyncio.Semaphore(number)
        places = [(copies or {}).get(path, path) for path in paths]
        async with warm_processes(places) as warm:

            async def run_path(path: Path, place: Path) -> Result:
                process = warm.get(place)
                async with gate:
                    try:
                        result = await _run_and_replay(path, options, on_cell, process, place)
                    except NbreplayError as error:
                        result = Result(path, failures=[Failure(str(error))])
                    except Exception as error:  # such as one of Jupyter's about a stranger's file
                        text = f"{path} cannot be run: {type(error).__name__}: {error}"
                        result = Result(path, failures=[Failure(text)])
                    if process is not None:
                        await process.release()
                if on_result:
                    on_result(result)
                return result

            return await asyncio.gather(*map(run_path, paths, places))

    return asyncio.run(run_paths())


async def _run_and_replay(
    path: Path, options: RunOptions, on_cell: OnCell | None, warm: WarmProcess | None, place: Path
) -> Result:
    """Execute one notebook; where its outputs are to be stored and it was recorded, replay it and take those outputs.

    A notebook that does not replay fails now, while the key is at hand.
    """
    with contextlib.suppress(OptionError):  # the kernel, which reads them too, reports it
        options = options.with_defaults(project(path.parent))
    names = set(os.listdir(place.parent))
    result = await _run(path, options, on_cell, warm, place)
    was_replayed = bool(result.calls) and all(call.outcome == "replayed" for call in result.calls)
    if options.mode is Mode.REPLAY or not options.update or not result.passed or was_replayed:
        return result
    replays = msgspec.structs.replace(options, mode=Mode.REPLAY, compare=False)
    replay = await _run(path, replays, None, warm, place)
    left = [] if options.isolated else _left_files(place.parent, names)
    if left and _keys(replay) != _keys(result):
        # What the recording run has left changes what the notebook asks. A clone of the project does not have it.
        clean = await _run_without(left, path, replays, warm, place)
        if clean.passed:
            replay = clean
            result.notes.append(f"asks something else where an earlier run has left {', '.join(left)}. {_CLEAN}")
    if replay.passed:
        rules = rules_for(place.parent)
        for difference in compare(result.notebook, replay.notebook, rules):
            result.notes.append(
                f"cell {difference.index} ({difference.first}) displays something else when it is replayed. "
                "What the replay displays is stored"
            )
    else:
        result.failures += replay.failures
        result.notes.append("recorded, but its replay failed. No outputs are stored. nbreplay adopt says what it needs")
    result.notebook = replay.notebook
    result.uncovered = list(dict.fromkeys((*result.uncovered, *replay.uncovered)))
    result.seconds += replay.seconds
    return result


def _left_files(folder: Path, names: Collection[str]) -> list[str]:
    return find_left_files(folder, set(os.listdir(folder)).difference(names), since=0)


def _keys(result: Result) -> Counter[str]:
    return Counter(call.key for call in result.calls)


async def _run_without(
    names: Sequence[str], path: Path, options: RunOptions, warm: WarmProcess | None, place: Path
) -> Result:
    """Execute one notebook in a copy of its folder that lacks some files and folders."""
    with open_copy(place) as copied:
        for name in names:
            left = copied.path.parent / name
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)
        result = await _execute(path, options, None, warm, copied.path)
        result.used = {copied.origin(store): names for store, names in result.used.items()}
        return result


async def _run(
    path: Path, options: RunOptions, on_cell: OnCell | None, warm: WarmProcess | None, place: Path
) -> Result:
    """Execute one notebook in its folder, or in the copy at another place; if `isolated`, in a copy that is removed."""
    if place != path or not options.isolated:
        return await _execute(path, options, on_cell, warm, place)
    with open_copy(path) as copied:
        result = await _execute(path, options, on_cell, warm, copied.path)
        if result.count("recorded") and (lost := list(filter(copied.owns, result.used))):
            text = f"{copied.origin(lost[0])} was copied with the folder of the notebook, so what was recorded is gone"
            remedy = "Set it as store in [tool.nbreplay] of pyproject.toml, or record without --isolated"
            result.failures.append(Failure(f"{text}. {remedy}"))
        result.used = {copied.origin(store): names for store, names in result.used.items()}
        return result


async def _execute(
    path: Path, options: RunOptions, on_cell: OnCell | None, warm: WarmProcess | None, place: Path
) -> Result:
    """Execute the notebook at `place` in a kernel of its own, in the folder there."""
    names = os.listdir(place.parent)
    notebook = read_notebook(place)
    stored = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and not is_skipped(cell):
            cell.outputs, cell.execution_count = [], None
    result = Result(path, notebook)
    started, died, secrets = time.perf_counter(), False, list[str]()
    try:
        async with open_kernel(notebook, path, options, warm, place.parent) as kernel:
            result.notes += filter(None, [kernel.choice.note])
            died = not await _run_cells(kernel, result, options, on_cell)
            if not died:
                report = await kernel.report()
                result.calls = msgspec.convert(report["calls"], list[CallReport])
                result.inputs = [InputReport(**item) for item in report["inputs"]]
                result.unset = report["unset"]
                result.used, result.uncovered = report["used"], [(kind, name) for kind, name in report["uncovered"]]
                secrets = report["secrets"]
            kernel.set_widgets_metadata()
    except NbreplayError as error:
        result.failures.append(Failure(str(error)))
        died = isinstance(error, KernelDied)
    if died and warm is not None and not _had_effects(result):
        again = await _execute(path, options, on_cell, None, place)
        again.notes.append(f"{result.errors[0]}\nIt had done nothing yet, so the notebook was started again")
        return again
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = own_outputs(cell)
    for run in result.cells:
        if run.status == "skipped":
            notebook.cells[run.index - 1].outputs = stored.cells[run.index - 1].outputs
    result.printed_keys = mask_notebook(notebook, secrets)
    redact = Redactor(secrets).text
    result.failures = [msgspec.structs.replace(failure, text=redact(failure.text)) for failure in result.failures]
    result.failures = [_explain_interrupt(failure, result) for failure in result.failures]
    result.failures += _logged_failures(result)
    if options.mode is Mode.REPLAY and result.count("missing"):
        _mention_left_files(result, options, place.parent, names)
    if options.mode is Mode.REPLAY if options.compare is None else options.compare:
        # Of a notebook that Jupyter has saved. Its key is not what differs.
        result.stored_keys = mask_notebook(stored, secrets)
        result.failures += _differences(stored, result, place.parent)
    result.notes += make_notes(result, options)
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
                if options.skip_installs and find_installs(cell.source).are_all:  # the kernel has left it out
                    run.status, run.reason = "skipped", ONLY_INSTALLS
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                run.status = "failed"
                died = isinstance(error, DeadKernelError)
                reason = kernel.describe_death() if died else _describe_error(error, options.timeout)
                text = f"cell {index} ({run.first}): {reason}"
                result.failures.append(Failure(text, index))
                if died:
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
        text = f"{error.ename}: {error.evalue}"
        variable = re.fullmatch("'([A-Za-z_][A-Za-z0-9_]*)'", error.evalue)
        if error.ename == "KeyError" and variable and "_Environ" in error.traceback:
            text += f". The variable {variable[1]} is not set. Set it or pass -p {variable[1]}=VALUE"
        return text
    return f"cell timed out after {timeout:g} s. Raise --timeout, or --nbreplay-timeout of pytest, to give it longer"


def _had_effects(result: Result) -> bool:
    """Return whether more ran than the imports of a first cell, which can be repeated."""
    reached = [cell for cell in result.cells if cell.status != "skipped"]
    if not reached:
        return False
    cell = result.notebook.cells[reached[0].index - 1]
    with contextlib.suppress(SyntaxError, ValueError):
        imports_only = all(isinstance(line, ast.Import | ast.ImportFrom) for line in ast.parse(cell.source).body)
        return len(reached) > 1 or bool(cell.outputs) or not imports_only
    return True


def _explain_interrupt(failure: Failure, result: Result) -> Failure:
    """Return the failure of a cell that was interrupted after a miss as that miss."""
    cell = next((cell for cell in result.cells if cell.index == failure.cell), None)
    missing = [call for call in result.calls if cell and cell.owns(call) and call.note.endswith(NOTE)]
    if cell is None or not missing:
        return failure
    return Failure(f"cell {cell.index} ({cell.first}): RecordingMissing: {missing[0].note}", cell.index)


def _logged_failures(result: Result) -> list[Failure]:
    """Return the failed calls whose exceptions the notebook caught, or a tag let pass: the log decides."""
    failures: dict[str, Failure] = {}
    for call in result.calls:
        if call.outcome not in FAILURES or any(call.note in failure.text for failure in result.failures):
            continue
        cell = next((cell.index for cell in result.cells if cell.owns(call)), None)
        if cell is None or not (call.outcome in TOLERABLE and may_raise(result.notebook.cells[cell - 1])):
            text = format_failure(call.outcome, call.note)
            failures.setdefault(text, Failure(text, cell))
    for run in result.cells:
        for text in _misses_shown(result.notebook.cells[run.index - 1]) if run.status == "ok" else ():
            if not any(text in other.text for other in (*failures.values(), *result.failures)):
                failures[text] = Failure(f"cell {run.index} ({run.first}): RecordingMissing: {text}", run.index)
    return list(failures.values())


def _mention_left_files(result: Result, options: RunOptions, folder: Path, names: Collection[str]) -> None:
    """Add to the first miss what was in the folder before the run, and not when it was recorded."""
    stores = {path: Store(path) for path in result.used}
    used = [stores[path].read(name) for path, names in result.used.items() for name in names]
    takes = [take for recording in used if recording for take in recording.takes]
    if not takes:
        stored = (recording for store in stores.values() for _, recording in store.recordings())
        takes = [take for recording in stored if isinstance(recording, Recording) for take in recording.takes]
    dates = list[float]()
    for take in takes:
        with contextlib.suppress(ValueError, OverflowError, OSError):  # anything may stand there
            dates.append(datetime.fromisoformat(take.recorded_at).timestamp())
    if dates and (left := find_left_files(folder, names, min(dates) - _RECORDING_SECONDS)):
        misses = [call.note for call in result.calls if call.outcome == "missing"]
        failures = [any(miss in failure.text for miss in misses) for failure in result.failures]
        first = failures.index(True)
        remedy = "Remove it" if options.isolated else "Remove it, and pass --isolated"
        text = f"What an earlier run has left may be the reason: {plain(', '.join(left[:5]))}. {remedy}"
        failure = result.failures[first]
        result.failures[first] = msgspec.structs.replace(failure, text=f"{failure.text}\n{text}")


def _misses_shown(cell: Any) -> list[str]:
    """Return the texts of the misses that a cell was let raise by its tag. Not all of them are logged as missing."""
    names = (RecordingMissing.__name__, RecordingIncomplete.__name__)
    return [output.evalue for output in cell.outputs if output.output_type == "error" and output.ename in names]


def _differences(stored: Any, result: Result, folder: Path) -> list[Failure]:
    executed = {cell.index for cell in result.cells if cell.status == "ok"}
    if not executed:
        return []
    try:
        differences = compare(stored, result.notebook, rules_for(folder))
    except NbreplayError as error:
        return [Failure(str(error))]
    return [
        Failure(format_difference(difference, colour=False), difference.index, difference)
        for difference in differences
        if difference.index in executed
    ]


def update(result: Result) -> None:
    """Store the outputs of a notebook that passed, where they are not equal to the stored ones.

    An error fails the result.
    """
    try:
        if result.passed:
            restore_equal_outputs(read_notebook(result.path), result.notebook, rules_for(result.path.parent))
            result.updated = save_outputs(result.path, result.notebook)
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
    """Compare all runs of a notebook. Return the first that failed, else the first; it fails if the runs differ.

    Where only outputs differ, a cell that varies from run to run is shown as that, whatever is stored.
    """
    first, *others = results
    failures = [failure for result in results for failure in result.failures]
    if any(failure.difference is None for failure in failures):
        return next(result for result in results if not result.passed)
    text = nbformat.writes(first.notebook)
    if not failures and all(nbformat.writes(other.notebook) == text for other in others):
        first.note = f"{len(results)} runs, byte for byte the same"
        return first
    # The outputs of cells that only have to run may differ.
    rules = rules_for(first.path.parent)
    varying = _varying_cells([compare(first.notebook, other.notebook, rules, replays=True) for other in others])
    cells = {failure.cell for failure in varying}
    stored = {failure.cell: failure for failure in reversed(failures) if failure.cell not in cells}
    first.failures = sorted([*stored.values(), *varying], key=lambda failure: failure.cell or 0)
    first.note = f"{len(results)} runs, the same except for masked text" if first.passed else ""
    return first


def _varying_cells(comparisons: Sequence[Sequence[Difference]]) -> list[Failure]:
    """Return a failure for each cell that is not the same in all runs: the first difference, and the masks of all."""
    cells: dict[int, list[tuple[int, Difference]]] = defaultdict(list)
    for number, differences in enumerate(comparisons, 2):
        for difference in differences:
            cells[difference.index].append((number, difference))
    failures = []
    for index, differing in cells.items():
        number, first = differing[0]
        masks = {mask.pattern: mask for _, difference in differing for mask in difference.masks}
        is_masked = all(difference.masks for _, difference in differing)
        shown = msgspec.structs.replace(first, masks=tuple(masks.values()) if is_masked else ())
        failures.append(Failure(f"run {number} differs from run 1", index, shown))
    return failures


def serve() -> None:
    """Run the notebooks that arrive on stdin, until pytest's process ends, however it ends."""
    # Kernels may write to stdout, which must not mix with the results.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, which children inherit
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    with contextlib.suppress(OSError, KeyboardInterrupt, asyncio.CancelledError):
        while True:
            paths, options, number, updates = requests.get()

            def send(result: Result, updates: bool = updates) -> None:
                if updates:
                    update(result)
                pickle.dump(msgspec.structs.replace(result, notebook=None), answers)
                answers.flush()

            run_all(paths, options, number=number, on_result=send)
    # The interrupt may have come while the event loop was being closed, which would be reported at exit.
    sys.unraisablehook = lambda _: None


def _read_requests(requests: queue.SimpleQueue[Any]) -> None:
    """Read requests in a thread. When pytest's process has ended, interrupt the notebooks that still run."""
    # A file of its own: sys.stdin is closed at exit, while this thread may be reading.
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError), os.fdopen(os.dup(0), "rb") as file:
        while True:
            requests.put(pickle.load(file))
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    serve()
