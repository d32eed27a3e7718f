"""Running notebooks in a real kernel, replayed, recorded or both, and telling what they exchanged."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import copy
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from nbreplay.core.config import Mode
from nbreplay.errors import NbreplayError, OptionError

__all__ = ["Call", "Result", "find_notebooks", "read", "run", "run_all", "run_async", "save"]

_SWITCH_ON = "from nbreplay.testing import inside; inside.begin()"
_REPORT = "__import__('nbreplay.testing.inside', fromlist=['report']).report()"


@dataclass(frozen=True, slots=True)
class Call:
    """One call that a notebook made, as its kernel reports it."""

    outcome: str
    kind: str
    model: str
    key: str
    cell: str | None
    note: str
    host: str


@dataclass(frozen=True, slots=True)
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
    """

    path: Path
    notebook: Any
    calls: list[Call] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

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


def read(path: Path) -> Any:
    """Return a notebook.

    Raises
    ------
    NbreplayError
        Where the file is none; the message names it.
    """
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise NbreplayError(f"{path} cannot be read as a notebook: {error}") from error


class _Client(NotebookClient):  # type: ignore[misc]
    """Executes a notebook; tells the kernel which cell it runs, as JupyterLab does."""

    def __init__(self, notebook: Any, on_cell: Callable[[int], None], **given: Any) -> None:
        super().__init__(notebook, **given)
        self._on_cell = on_cell

    async def async_execute_cell(self, cell: Any, cell_index: int, **given: Any) -> Any:
        message = self.kc.session.msg
        cell_id = cell.get("id")

        def with_cell(kind: str, *args: Any, **kwargs: Any) -> Any:
            made = message(kind, *args, **kwargs)
            if kind == "execute_request" and cell_id:
                made["metadata"]["cellId"] = cell_id
            return made

        self.kc.session.msg = with_cell
        try:
            return await super().async_execute_cell(cell, cell_index, **given)
        finally:
            del self.kc.session.msg
            self._on_cell(cell_index)

    async def ask_kernel(self, expression: str) -> Any:
        """Return the value of an expression in the kernel, which must be a JSON text."""
        reply = await self.kc._async_execute_interactive(
            "", silent=True, store_history=False, user_expressions={"it": expression}, timeout=30
        )
        found = reply["content"].get("user_expressions", {}).get("it", {})
        if found.get("status") != "ok":
            raise NbreplayError(f"the kernel could not report: {found.get('evalue', found)}")
        return json.loads(ast.literal_eval(found["data"]["text/plain"]))


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
        yield lambda done, total: None
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
    notebook = copy.deepcopy(read(path))
    total = len(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = _Client(
        notebook,
        lambda index: on_cell(index + 1, total) if on_cell else None,
        timeout=timeout,
        kernel_name=notebook.metadata.get("kernelspec", {}).get("name", "python3"),
        resources={"metadata": {"path": str(path.resolve().parent)}},
        record_timing=False,
        coalesce_streams=True,
        # The kernel's own warnings would stand between the results of notebooks.
        extra_arguments=[f"--IPKernelApp.exec_lines={_SWITCH_ON}", "--IPKernelApp.log_level=40"],
        kernel_manager_class=AsyncKernelManager,
    )
    errors: list[str] = []
    calls: list[Call] = []
    async with _kernel(client, path, mode):
        try:
            for index, cell in enumerate(notebook.cells):
                await client.async_execute_cell(cell, index, execution_count=None)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            errors.append(_told(notebook, error))
        with contextlib.suppress(Exception) if errors else contextlib.nullcontext():
            calls = [Call(**item) for item in await client.ask_kernel(_REPORT)]
    _strip(notebook)
    errors += _verdict(notebook, calls, errors)
    return Result(path, notebook, calls, errors)


@contextlib.asynccontextmanager
async def _kernel(client: _Client, path: Path, mode: Mode) -> AsyncIterator[None]:
    environment = {**os.environ, "NBREPLAY_MODE": mode.value, "NBREPLAY_NOTEBOOK": str(path)}
    async with client.async_setup_kernel(env=environment):
        yield


def _told(notebook: Any, error: Exception) -> str:
    if isinstance(error, CellExecutionError):
        for number, cell in enumerate(notebook.cells, 1):
            for output in cell.get("outputs", ()):
                if output.output_type == "error" and output.ename == error.ename and output.evalue == error.evalue:
                    return f"cell {number} ({_first(cell)}): {output.ename}: {output.evalue}"
        return f"{error.ename}: {error.evalue}"
    return str(error).strip() or type(error).__name__


def _first(cell: Any) -> str:
    return next((line for line in cell.source.splitlines() if line.strip()), "")[:60]


def _verdict(notebook: Any, calls: list[Call], errors: list[str]) -> list[str]:
    """Return what went wrong without stopping the notebook: the log is the verdict, whatever swallowed the exception."""
    expected = {
        cell.get("id") for cell in notebook.cells if "raises-exception" in cell.get("metadata", {}).get("tags", ())
    }
    found = []
    for call in calls:
        if call.outcome in ("missing", "blocked", "unsaved") and not (call.cell and call.cell in expected):
            text = f"{call.outcome}: {call.note}"
            if not any(call.note in error for error in errors):
                found.append(text)
    return list(dict.fromkeys(found))


def _strip(notebook: Any) -> None:
    """Leave out the displays that are nbreplay's own: they tell of the run, not of the notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("metadata", {}).get("nbreplay") != "status"]


def save(result: Result) -> bool:
    """Store the outputs of a run in its notebook, and nothing else; return whether that changed the file."""
    path = result.path
    before = path.read_text(encoding="utf-8")
    stored = json.loads(before)
    for cell, executed in zip(stored["cells"], result.notebook.cells, strict=True):
        if cell["cell_type"] == "code":
            outputs = json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=[executed])))["cells"][0]["outputs"]
            if cell.get("outputs") != outputs or cell.get("execution_count") != executed.execution_count:
                cell["outputs"], cell["execution_count"] = outputs, executed.execution_count
                for output in outputs:
                    if "execution_count" in output:
                        output["execution_count"] = executed.execution_count
    after = json.dumps(stored, ensure_ascii=False, indent=1) + ("\n" if before.endswith("\n") else "")
    if after == before:
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(after, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
    return True
