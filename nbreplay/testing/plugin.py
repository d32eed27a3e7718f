"""The pytest plugin: its options, marker, fixture and summary.

Pytest imports this module at every start, so it imports the rest of nbreplay only when a test needs it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

from nbreplay.testing import FLAGS, KERNEL, NO_COMPARE, NUMBER, option_name

if TYPE_CHECKING:
    from nbreplay.core.session import Session
    from nbreplay.core.store.store import Store
    from nbreplay.testing.function_session import FunctionSession
    from nbreplay.testing.items import NotebookItem

__all__ = ["replay"]

_FIXTURE = "_nbreplay_session"
_MARKER = (
    "nbreplay(mode=, store=, ignore=, mask=, allow=, allow_children=, only=, speed=): replay the calls of this test. "
    "A store is relative to the test's folder."
)
_summary: pytest.StashKey[RunSummary] = pytest.StashKey()
_session: pytest.StashKey[FunctionSession | None] = pytest.StashKey()
_passed: pytest.StashKey[bool] = pytest.StashKey()  # set for every test that nbreplay handles


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Block a second registration, by ``-p`` and by the entry point: pytest would refuse to start."""
    if plugin is sys.modules[__name__]:
        for name in ("nbreplay", __name__):
            if not manager.has_plugin(name):
                manager.set_blocked(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options."""
    add = parser.getgroup("nbreplay", "notebooks and tests that call language models").addoption
    add("--nbreplay", action="store_true", help="collect notebooks as tests")
    modes = "mode of all notebooks and tests (default: replay, which sends nothing)"
    add("--nbreplay-mode", choices=("replay", "auto", "record"), help=modes)
    errors = "with --nbreplay-mode auto, also keep failures that may pass, such as 401 and 429"
    add("--nbreplay-keep-errors", action="store_true", help=errors)
    for flag, text in FLAGS.items():
        add(option_name(flag, "--nbreplay-"), action="store_true", help=text)
    add("--nbreplay-kernel", metavar="NAME", help=KERNEL)
    add("--nbreplay-update", action="store_true", help="store the new outputs of notebooks that pass")
    add("--nbreplay-trim", action="store_true", help="remove unused recordings if all tests pass")
    add("--nbreplay-cells", action="store_true", help="collect each code cell of a notebook as a test")
    add("--nbreplay-no-compare", dest="nbreplay_compare", action="store_const", const=False, help=NO_COMPARE)
    add("--nbreplay-n", type=int, default=0, metavar="N", help=NUMBER)
    add("--nbreplay-timeout", type=float, default=600.0, metavar="S", help="seconds per notebook cell (default: 600)")


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and register the plugins that need them."""
    config.addinivalue_line("markers", _MARKER)
    collects, mode = config.getoption("nbreplay"), config.getoption("nbreplay_mode")
    for name in ("update", "cells"):
        if config.getoption(f"nbreplay_{name}") and not collects:
            raise pytest.UsageError(f"--nbreplay-{name} needs --nbreplay, which collects the notebooks. Pass both")
    if collects or mode:
        from nbreplay.core.config import mode_of_run
        from nbreplay.errors import OptionError

        try:
            mode_of_run(mode, "--nbreplay-mode")
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None
    if collects:
        from nbreplay.testing.items import BackgroundRunner

        config.pluginmanager.register(BackgroundRunner(config), "nbreplay-background")
    config.stash[_summary] = RunSummary(config)
    config.pluginmanager.register(config.stash[_summary], "nbreplay-summary")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a notebook, with ``--nbreplay``."""
    is_notebook = file_path.suffix == ".ipynb" and ".ipynb_checkpoints" not in file_path.parts
    if not is_notebook or not parent.config.getoption("nbreplay"):
        return None
    from nbreplay.testing.items import NotebookFile

    return NotebookFile.from_parent(parent, path=file_path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep the cells of a notebook on one worker."""
    if not config.getoption("nbreplay_cells") or config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByNotebook(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.endswith(".ipynb") else nodeid

    return ByNotebook(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Add the session fixture to marked tests, before the fixtures that may create clients."""
    names = getattr(item, "fixturenames", None)
    if names is None:
        if _is_notebook(item):
            item.stash[_passed] = True
        return
    # A project may have its own fixture named "replay", so that name does not count.
    if _FIXTURE not in names and item.get_closest_marker("nbreplay") is None:
        return
    item.stash[_passed] = True
    info = getattr(item, "_fixtureinfo", None)
    own, definitions = getattr(info, "argnames", ()), getattr(info, "name2fixturedefs", {})
    of_function = [name for name in own if definitions.get(name) and definitions[name][-1].scope == "function"]
    others = [name for name in names if name != _FIXTURE]
    place = next((index for index, name in enumerate(others) if name in of_function), len(others))
    # A new list: the tests of one function share it, and not all of them need be marked.
    item.fixturenames = [*others[:place], _FIXTURE, *others[place:]]  # type: ignore[attr-defined]


@pytest.fixture
def _nbreplay_session(request: pytest.FixtureRequest) -> Iterator[FunctionSession]:
    from nbreplay.errors import NbreplayError
    from nbreplay.testing.function_session import FunctionSession

    try:
        session = FunctionSession(request.node, request.config.getoption("nbreplay_mode"))
    except NbreplayError as error:
        pytest.fail(f"nbreplay: {error}", pytrace=False)
    request.node.stash[_session] = session
    request.node.stash.setdefault(_passed, True)  # a test may request the fixture while it runs
    try:
        yield session
    finally:
        session.stop()
    # Other fixtures or threads may have made calls after the test.
    if failures := session.new_failures():
        pytest.fail(failures, pytrace=False)


@pytest.fixture
def replay(_nbreplay_session: FunctionSession) -> Session:
    """The session that replays the calls of this test. ``replay.interactions`` lists its calls so far.

    The recordings are in the nearest ``recordings/`` folder, beside the test or above it, unless the marker names a
    store. ``--nbreplay-mode=auto`` records what is missing.
    """
    return _nbreplay_session.session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that missed a recording, even if it caught the exception: the log decides."""
    session = item.stash.get(_session, None)
    if session is None:
        return (yield)
    try:
        result = yield
    except pytest.skip.Exception:
        if failures := session.new_failures():
            raise pytest.fail.Exception(failures, pytrace=False) from None
        raise
    if failures := session.new_failures():
        pytest.fail(failures, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show only the user's own lines for a miss, and attach the summary entry to the last report of a test."""
    if _passed not in item.stash:
        return (yield)
    session = item.stash.get(_session, None)
    if call.excinfo is not None and session is not None:
        if failures := session.new_failures(report=str(call.excinfo.value)):
            item.add_report_section(call.when, "nbreplay", failures)
        if not item.config.getoption("fulltrace"):
            from nbreplay.testing.function_session import shorten

            shorten(call.excinfo)
    report = yield
    if _is_notebook(item) and report.when == "call":
        report.duration = item.result.seconds  # not the time that pytest waited for it
    item.stash[_passed] &= report.passed
    if report.when == "teardown":
        from nbreplay.core.log import UNSEEN_CALLS
        from nbreplay.testing.result import Result

        test = item.result if _is_notebook(item) else session or Result(item.path)
        # pytest-xdist transfers attributes of a report if they are plain data.
        report.nbreplay = {  # type: ignore[attr-defined]
            "counts": dict(Counter(call.outcome for call in test.calls)),
            "used": test.used,
            "uncovered": test.uncovered,
            "updated": str(item.path) if test.updated else "",
            "notes": [(str(item.path), note) for note in test.notes],
            "whole": item.stash[_passed]
            and item.config.stash[_summary].whole
            and all(name != UNSEEN_CALLS for _, name in test.uncovered),
        }
        item.stash[_session] = None  # pytest keeps every test until the end of the run
    return report


def _is_notebook(item: pytest.Item) -> TypeGuard[NotebookItem]:
    if not item.config.getoption("nbreplay"):
        return False
    from nbreplay.testing.items import NotebookItem

    return isinstance(item, NotebookItem)


class RunSummary:
    """A pytest plugin that adds up the entries of all tests. Some hooks get no configuration, so it keeps one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        # Whether no test of whole folders was left out so far. If all pass, unused recordings are reported.
        self.whole = _covers_whole_folders(config)
        self._failed = 0
        self._entries: list[dict[str, Any]] = []

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Note that tests were deselected."""
        self.whole = self.whole and not items

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that collecting failed."""
        self.whole = self.whole and report.passed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the entry of a test. With pytest-xdist, it arrives here from a worker."""
        self._failed += report.failed
        if entry := getattr(report, "nbreplay", None):
            self._entries.append(entry)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Print the summary."""
        if not self._entries:
            return
        from nbreplay.core.log import describe_uncovered
        from nbreplay.core.store.store import format_makers
        from nbreplay.core.words import count_of, format_counts
        from nbreplay.errors import StoreError
        from nbreplay.notebook.escape import plain

        def write(line: str) -> None:
            terminalreporter.write_line(f"nbreplay: {line}")

        most, trims = self._config.getoption("maxfail") or 0, self._config.getoption("nbreplay_trim")
        stopped = 0 < most <= self._failed or exitstatus == pytest.ExitCode.INTERRUPTED
        whole = self.whole and not stopped and all(entry["whole"] for entry in self._entries)
        terminalreporter.ensure_newline()
        for path in dict.fromkeys(entry["updated"] for entry in self._entries if entry["updated"]):
            write(f"outputs stored in {self._short(path)}")
        for path, note in dict.fromkeys(note for entry in self._entries for note in map(tuple, entry["notes"])):
            write(f"{self._short(path)}: {plain(note)}")
        for line in describe_uncovered(event for entry in self._entries for event in entry["uncovered"]):
            write(line)
        if trims and not whole:
            write("nothing trimmed. Trimming needs a run over whole folders in which all tests pass")
        total = 0
        for store, names in self._find_unused() if whole else ():
            if trims:
                try:
                    write(f"{count_of(len(store.remove(names)), 'file')} removed from {self._short(store.name)}")
                except StoreError as error:
                    write(str(error))
                continue
            total += len(names)
            more = "" if terminalreporter.verbosity > 0 else " (-v lists them)"
            write(f"{len(names)} unused in {self._short(store.name)}{more}")
            for name in names if not more else ():
                terminalreporter.write_line(plain(f"  {name}{format_makers(store.makers(name))}"))
        counts: Counter[str] = Counter()
        for entry in self._entries:
            counts.update(entry["counts"])
        write(format_counts(counts, total))

    def _find_unused(self) -> Iterator[tuple[Store, list[str]]]:
        """Yield each store with the names of its unused recordings. An archive has none, since it is read-only."""
        from nbreplay.core.store.archive import is_archive
        from nbreplay.core.store.store import Store
        from nbreplay.errors import StoreError

        used = defaultdict(set)
        for entry in self._entries:
            for path, names in entry["used"].items():
                used[path].update(names)
        for path in sorted(path for path in used if not is_archive(path)):
            with contextlib.suppress(StoreError):  # a test may have removed the store, or replaced it by a file
                store = Store(path)
                if unused := store.find_unused(used[path]):
                    yield store, unused

    def _short(self, path: str) -> str:
        short = os.path.relpath(path, self._config.invocation_params.dir) if os.path.isabs(path) else path
        return path if short.startswith("..") else short


def _covers_whole_folders(config: pytest.Config) -> bool:
    """Return whether the run covers whole folders. In a worker of pytest-xdist, the controller decides."""
    if hasattr(config, "workerinput"):
        return True
    if any(config.getoption(name, None) for name in ("lf", "ignore", "ignore_glob")):
        return False
    return all((config.invocation_params.dir / argument).is_dir() for argument in config.args)
