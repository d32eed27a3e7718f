"""The process beside pytest's that runs the notebooks, several at a time, while other tests run.

A process of its own: pytest's treats warnings as errors, captures what is written and has signals of its own, which
is nothing for libraries that talk to kernels. `Worker` is pytest's side of it, and imports nothing of jupyter's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nbreplay.errors import NbreplayError
from nbreplay.testing.result import Result, Wanted

__all__ = ["Worker", "main"]

_STOP_SECONDS = 10.0


class Worker:
    """Runs notebooks, and has their results when they are asked for."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nbreplay.testing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._under_way: set[Path] = set()
        self._results: dict[Path, tuple[Result, bool]] = {}

    def start(self, paths: Sequence[Path], wanted: Wanted, number: int, *, update: bool) -> None:
        """Have notebooks run, and their outputs stored where they pass and that is asked for.

        Parameters
        ----------
        paths : sequence of Path
        wanted : Wanted
        number : int
            How many at a time; 0: as many as `nbreplay.testing.runner.at_once` says.
        update : bool
        """
        assert self._process.stdin is not None
        self._under_way.update(paths)
        with contextlib.suppress(OSError):  # `result` tells of it
            pickle.dump((list(paths), wanted, number, update), self._process.stdin)
            self._process.stdin.flush()

    def knows(self, path: Path) -> bool:
        """Whether the notebook has been started, and its result was not yet taken."""
        return path in self._under_way or path in self._results

    def result(self, path: Path) -> tuple[Result, bool]:
        """Wait for a notebook's result, and return it without the notebook, and whether new outputs were stored.

        Raises
        ------
        NbreplayError
            Where the process has ended.
        """
        assert self._process.stdout is not None
        try:
            while path not in self._results:
                told: tuple[Result, bool] = pickle.load(self._process.stdout)
                self._under_way.discard(told[0].path)
                self._results[told[0].path] = told
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise NbreplayError("the process that runs the notebooks has ended") from error
        return self._results.pop(path)

    def stop(self) -> None:
        """End it, and the kernels that still run."""
        with self._process, contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


def main() -> None:
    """Run what is asked for, until pytest's process has ended."""
    from nbreplay.testing.runner import at_once, run_all, update

    asked = sys.stdin.buffer
    # What kernels write to their output is not to stand among the results.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt, asyncio.CancelledError):
        while True:
            paths, wanted, number, updating = pickle.load(asked)

            def told(result: Result, updating: bool = updating) -> None:
                stored = updating and update(result)
                pickle.dump((msgspec.structs.replace(result, notebook=None), stored), answers)
                answers.flush()

            run_all(paths, wanted, number=number or at_once(wanted.mode), on_result=told)


if __name__ == "__main__":
    main()
