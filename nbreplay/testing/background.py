"""Notebooks of a pytest run, executed in the background: several at a time, in a process beside pytest's own.

pytest's process turns warnings into errors, captures output and handles signals, which disturbs libraries that talk
to kernels. This module imports nothing of Jupyter before that process needs it.
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
from typing import TYPE_CHECKING

import msgspec

from nbreplay.core.config import Mode, mode_of_run
from nbreplay.errors import NbreplayError
from nbreplay.testing.result import Result, RunOptions

if TYPE_CHECKING:
    import pytest

__all__ = ["BackgroundRunner", "Worker", "main"]

_STOP_SECONDS = 10.0


class Worker:
    """Pytest's side of the process that runs notebooks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nbreplay.testing.background"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._under_way: set[Path] = set()
        self._results: dict[Path, tuple[Result, bool]] = {}

    def start(self, paths: Sequence[Path], options: RunOptions, number: int, *, update: bool) -> None:
        """Start notebooks.

        Parameters
        ----------
        paths : sequence of Path
        options : RunOptions
        number : int
            How many run at a time. 0 means `nbreplay.testing.runner.default_concurrency`.
        update : bool
            Whether to store the new outputs of notebooks that pass.
        """
        assert self._process.stdin is not None
        self._under_way.update(paths)
        with contextlib.suppress(OSError):  # `result` reports it
            pickle.dump((list(paths), options, number, update), self._process.stdin)
            self._process.stdin.flush()

    def knows(self, path: Path) -> bool:
        """Return whether the notebook was started and its result was not taken yet."""
        return path in self._under_way or path in self._results

    def result(self, path: Path) -> tuple[Result, bool]:
        """Wait for the result of a notebook.

        Returns
        -------
        Result
            Without the notebook itself.
        bool
            Whether new outputs were stored.

        Raises
        ------
        NbreplayError
            If the process has ended.
        """
        assert self._process.stdout is not None
        try:
            while path not in self._results:
                result: tuple[Result, bool] = pickle.load(self._process.stdout)
                self._under_way.discard(result[0].path)
                self._results[result[0].path] = result
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise NbreplayError(
                "The process that runs the notebooks has ended. Run them with nbreplay run to see why"
            ) from error
        return self._results.pop(path)

    def stop(self) -> None:
        """Stop the process and the kernels that still run."""
        with self._process, contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


def main() -> None:
    """Run the notebooks that arrive on stdin, until pytest's process ends."""
    from nbreplay.testing.runner import default_concurrency, run_all, update

    requests = sys.stdin.buffer
    # Kernels may write to stdout, which must not mix with the results.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt, asyncio.CancelledError):
        while True:
            paths, options, number, updating = pickle.load(requests)

            def send(result: Result, updating: bool = updating) -> None:
                stored = updating and update(result)
                pickle.dump((msgspec.structs.replace(result, notebook=None), stored), answers)
                answers.flush()

            run_all(paths, options, number=number or default_concurrency(options.mode), on_result=send)


class BackgroundRunner:
    """A pytest plugin that runs all notebooks of a session in the background.

    Parameters
    ----------
    config : pytest.Config

    Raises
    ------
    OptionError
        If the environment and the command line contradict each other.
    """

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        mode = mode_of_run(option("nbreplay_mode"), "--nbreplay-mode") or Mode.REPLAY
        self._options = RunOptions(
            mode,
            option("nbreplay_timeout"),
            compare=False if option("nbreplay_update") else option("nbreplay_compare"),
            allow_children=option("nbreplay_allow_children"),
        )
        self._number: int = option("nbreplay_n")
        self._update: bool = option("nbreplay_update")
        # A worker of pytest-xdist gets one test after the other.
        self._one_by_one = hasattr(config, "workerinput")
        self._worker: Worker | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the process early: it imports libraries while pytest collects."""
        option = session.config.getoption
        if not option("collectonly") and (self._one_by_one or option("dist", "no") == "no"):
            self._worker = Worker()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Start all notebooks."""
        from nbreplay.testing.items import Item

        paths = dict.fromkeys(item.path for item in session.items if isinstance(item, Item))
        if self._worker is not None and paths and not self._one_by_one:
            self._start([*paths])

    def pytest_sessionfinish(self) -> None:
        """Stop the process, even if notebooks still run."""
        if self._worker is not None:
            self._worker.stop()

    def result(self, path: Path) -> tuple[Result, bool]:
        """Return the result of a notebook, and whether new outputs were stored.

        Raises
        ------
        NbreplayError
            If the process that runs the notebooks has ended.
        """
        assert self._worker is not None
        if not self._worker.knows(path):
            self._start([path])
        return self._worker.result(path)

    def _start(self, paths: list[Path]) -> None:
        assert self._worker is not None
        self._worker.start(paths, self._options, self._number, update=self._update)


if __name__ == "__main__":
    main()
