"""Notes on a run: what a user should know of it, and that does not fail it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from nbreplay.core.config import Mode
from nbreplay.core.words import join_words
from nbreplay.testing.installs import ONLY_INSTALLS
from nbreplay.testing.notebook_file import KEEPS_ERRORS
from nbreplay.testing.outputs.sanitise import render_stream
from nbreplay.testing.result import PrintedKey, Result, RunOptions

_TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(r"(?m)^[A-Za-z_][\w.]*(?::.*)?$")  # the line of a traceback that names the exception


def make_notes(result: Result, options: RunOptions) -> list[str]:
    """Return the notes on a run, of each kind in the order of `_KINDS`."""
    return [note for find in _KINDS for note in find(result, options)]


def _no_call(result: Result, _: RunOptions) -> Iterator[str]:
    if result.passed and result.cells and not result.calls:
        yield "makes no call"


def _skipped_installs(result: Result, _: RunOptions) -> Iterator[str]:
    if cells := [str(cell.index) for cell in result.cells if cell.reason == ONLY_INSTALLS]:
        yield f"skipped, since only packages are installed there: cell{'s' * (len(cells) > 1)} {join_words(cells)}"


def _edited_cells(result: Result, options: RunOptions) -> Iterator[str]:
    """Whoever edits a cell and runs it in ``auto`` expects a new recording."""
    for cell in result.cells if options.mode is Mode.AUTO else ():
        calls = result.calls_of(cell)
        if any(call.edited for call in calls) and all(call.outcome == "replayed" for call in calls):
            yield f"cell {cell.index} ({cell.first}) was edited after it was recorded, and calls nothing new"


def _lost_failures(result: Result, _: RunOptions) -> Iterator[str]:
    for place, call in enumerate(result.calls):
        if call.lost:
            cell = next((f"cell {cell.index} ({cell.first}): " for cell in result.cells if cell.owns(call)), "")
            is_retried = any(other.key == call.key and not other.lost for other in result.calls[place + 1 :])
            effect = "A replay answers at once, as the retry did" if is_retried else "A replay misses it"
            yield (
                f"{cell}auto did not keep the failure of a {f'{call.kind} {call.model}'.strip()} call: {call.lost}. "
                f"{effect}. To keep it, pass --keep-errors (to pytest: --nbreplay-keep-errors), "
                f"or tag the cell {KEEPS_ERRORS}"
            )


def _tracebacks(result: Result, _: RunOptions) -> Iterator[str]:
    for cell in result.cells if result.notebook is not None else ():
        outputs = result.notebook.cells[cell.index - 1].outputs if cell.status == "ok" else ()
        text = "".join(output.text for output in outputs if output.get("name") == "stderr")
        if _TRACEBACK in text:
            error = _ERROR.search(render_stream(text).rpartition(_TRACEBACK)[2])
            yield f"cell {cell.index} ({cell.first}) prints a traceback" + (f": {error[0]}" if error else "")


def _printed_keys(result: Result, options: RunOptions) -> Iterator[str]:
    """The placeholder of a replay is not a key, unless it is about to be stored."""
    for cell, kinds in _kinds_by_cell(result, result.printed_keys):
        if kinds != "placeholder" or options.update:
            yield f"{cell} prints a key ({kinds}). It is masked in what is stored"


def _stored_keys(result: Result, _: RunOptions) -> Iterator[str]:
    for cell, kinds in _kinds_by_cell(result, result.stored_keys):
        if kinds != "placeholder":
            remedy = "To mask it, pass --update (to pytest: --nbreplay-update)"
            yield f"the stored outputs of {cell} contain a key ({kinds}). {remedy}"


def _kinds_by_cell(result: Result, keys: Sequence[PrintedKey]) -> Iterator[tuple[str, str]]:
    for index in sorted({key.cell for key in keys}):
        first = next((f" ({cell.first})" for cell in result.cells if cell.index == index), "")
        yield f"cell {index}{first}", ", ".join(sorted({key.kind for key in keys if key.cell == index}))


def _unset_variables(result: Result, options: RunOptions) -> Iterator[str]:
    """In ``auto`` a run can do without a key that no call needs."""
    is_needed = options.mode is Mode.RECORD or (options.mode is Mode.AUTO and not result.passed)
    if is_needed and result.unset:
        were, are = ("was", "is") if len(result.unset) == 1 else ("were", "are")
        yield f"{join_words(result.unset)} {were} set when this store was recorded, and {are} not set now"


_KINDS: tuple[Callable[[Result, RunOptions], Iterator[str]], ...] = (
    _no_call,
    _skipped_installs,
    _edited_cells,
    _lost_failures,
    _tracebacks,
    _printed_keys,
    _unset_variables,
    _stored_keys,
)
