"""Which tests have passed in one run, so that another run can leave them out: no test is run twice."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["Passed", "add_options"]


def add_options(parser: pytest.Parser) -> None:
    """Add ``--passed`` and ``--but``."""
    parser.addoption("--passed", metavar="FILE", help="write the tests that pass, one per line")
    parser.addoption("--but", metavar="FILE", help="leave out the tests that another run wrote with --passed")


class Passed:
    """A plugin of pytest's."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Hypothesis tries more examples in the full set.
        if report.when == "call" and report.passed and "hypothesis" not in report.keywords:
            self._names.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if path := self._config.getoption("--but"):
            names = set(Path(path).read_text("utf-8").splitlines())
            self._config.hook.pytest_deselected(items=[item for item in items if item.nodeid in names])
            items[:] = [item for item in items if item.nodeid not in names]

    def pytest_sessionfinish(self) -> None:
        path = self._config.getoption("--passed")
        if path and not hasattr(self._config, "workerinput"):  # a worker of pytest-xdist has a part of them only
            Path(path).write_text("".join(f"{name}\n" for name in self._names), "utf-8")
