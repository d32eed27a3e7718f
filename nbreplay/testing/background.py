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
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nbreplay.core.config import Mode, mode_of_run
from nbreplay.errors import NbreplayError
from nbreplay.testing.result import Result, RunOptions

if TYPE_CHECKING:
    import pytest

_STOP_SECONDS = 10.0


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
        self._process: subprocess.Popen[bytes] | None = None
        self._under_way: set[Path] = set()
        self._results: dict[Path, tuple[Result, bool]] = {}

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the process early: it imports libraries while pytest collects."""
        option = session.config.getoption
        if option("collectonly") or not (self._one_by_one or option("dist", "no") == "no"):
            return
        command = [sys.executable, "-m", "nbreplay.testing.background"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Start all notebooks."""
        from nbreplay.testing.items import Item

        paths = dict.fromkeys(item.path for item in session.items if isinstance(item, Item))
        if self._process is not None and paths and not self._one_by_one:
            self._start([*paths])

    def pytest_sessionfinish(self) -> None:
        """Stop the process, even if notebooks still run."""
        if self._process is None:
            return
        with self._process, contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()

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
            If the process that runs the notebooks has ended.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        if path not in self._under_way and path not in self._results:
            self._start([path])
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

    def _start(self, paths: list[Path]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._under_way.update(paths)
        with contextlib.suppress(OSError):  # `result` reports it
            pickle.dump((paths, self._options, self._number, self._update), self._process.stdin)
            self._process.stdin.flush()


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


if __name__ == "__main__":
    main()
