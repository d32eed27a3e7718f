"""Notebooks run ahead of their turn: several at a time in a process beside pytest's, from when all tests are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbreplay.core.config import Mode, mode_of_run
from nbreplay.testing.items import Item
from nbreplay.testing.result import Result, Wanted
from nbreplay.testing.worker import Worker

__all__ = ["Ahead"]


class Ahead:
    """Has the notebooks run, as a plugin of pytest's of its own.

    Parameters
    ----------
    config : pytest.Config

    Raises
    ------
    OptionError
        Where the environment and the command line contradict each other.
    """

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        mode = mode_of_run(option("nbreplay_mode"), "--nbreplay-mode") or Mode.REPLAY
        self._wanted = Wanted(
            mode,
            option("nbreplay_timeout"),
            compare=False if option("nbreplay_update") else option("nbreplay_compare"),
            allow_children=option("nbreplay_allow_children"),
        )
        self._number: int = option("nbreplay_n")
        self._update: bool = option("nbreplay_update")
        # pytest-xdist hands its workers one test after the other.
        self._one_by_one = hasattr(config, "workerinput")
        self._worker: Worker | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start the process: it has things to import while pytest looks for tests."""
        option = session.config.getoption
        if not option("collectonly") and (self._one_by_one or option("dist", "no") == "no"):
            self._worker = Worker()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Have all of them run."""
        paths = dict.fromkeys(item.path for item in session.items if isinstance(item, Item))
        if self._worker is not None and paths and not self._one_by_one:
            self._start([*paths])

    def pytest_sessionfinish(self) -> None:
        """End what still runs, where not all was waited for."""
        if self._worker is not None:
            self._worker.stop()

    def result(self, path: Path) -> tuple[Result, bool]:
        """Return what has become of a notebook, and whether new outputs were stored.

        Raises
        ------
        NbreplayError
            Where nobody can tell.
        """
        assert self._worker is not None
        if not self._worker.knows(path):
            self._start([path])
        return self._worker.result(path)

    def _start(self, paths: list[Path]) -> None:
        assert self._worker is not None
        self._worker.start(paths, self._wanted, self._number, update=self._update)
