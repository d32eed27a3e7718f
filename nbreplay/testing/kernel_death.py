"""The death of a kernel: the signal or the exit status of its process, and what it wrote last."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from nbreplay.testing.in_kernel import LAST_WORDS
from nbreplay.testing.outputs.sanitise import render_stream

_TAIL = 16_384  # bytes
_MOST_LINES = 12
# Frames of Jupyter, which follow those of a cell in a traceback that begins with the innermost one.
_OUTER_FRAME = re.compile(r'File ".*[/\\](?:IPython[/\\]core|ipykernel)[/\\]')
_FATAL = "Fatal Python error:"
_HINTS = {
    "SIGKILL": "perhaps because memory ran out",
    "SIGSEGV": "a compiled library crashed, or the stack overflowed",
    "SIGABRT": "a compiled library gave up",
    "SIGBUS": "a compiled library crashed, or a disk is full",
    "SIGILL": "a compiled library needs another processor",
    "SIGTERM": "another process stopped it",
    "SIGXCPU": "a limit of processor time was reached",
    "SIGXFSZ": "a limit of file size was reached",
}


def describe_death(status: int | None, folder: Path) -> str:
    """Return why a kernel died: its exit status, negative for a signal, and the last lines that it wrote."""
    lines = [_describe_status(status)]
    lines += [f"  {line}" for line in read_last_words(folder / LAST_WORDS)]
    return "\n".join(lines)


def _describe_status(status: int | None) -> str:
    if status is None:
        return "the kernel died"
    if status >= 0:
        return f"the kernel died with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = _HINTS.get(name)
    return f"the kernel died of {name}{f' ({hint})' if hint else ''}"


def read_last_words(path: Path) -> list[str]:
    """Return the last lines of a file of errors, without escapes; of a fatal error, its traceback down to the cell."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read(_TAIL).decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip()[:500] for line in render_stream(text).splitlines() if line.strip()]
    start = next((place for place, line in enumerate(lines) if line.startswith(_FATAL)), None)
    if start is None:
        return lines[-_MOST_LINES:]
    lines = lines[start:]
    outer = next((place for place, line in enumerate(lines) if _OUTER_FRAME.search(line)), len(lines))
    return lines[: min(outer, _MOST_LINES)]
