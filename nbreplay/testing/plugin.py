"""The pytest plugin: its options, marker and fixture.

Pytest imports this module at every start, so it imports the rest of nbreplay only when a test needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

if TYPE_CHECKING:
    from nbreplay.core.session import Session
    from nbreplay.testing.function_session import FunctionSession
    from nbreplay.testing.items import Item
    from nbreplay.testing.summary import RunSummary

__all__ = ["replay"]

_FIXTURE = "_nbreplay_session"
_NAMES = ("nbreplay", __name__)
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
        for name in _NAMES:
            if not manager.has_plugin(name):
                manager.set_blocked(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options."""
    group = parser.getgroup("nbreplay", "notebooks and tests that call language models")
    group.addoption("--nbreplay", action="store_true", help="collect notebooks as tests")
    group.addoption(
        "--nbreplay-mode",
        choices=("replay", "auto", "record"),
        help="mode of all notebooks and tests (default: replay, which sends nothing)",
    )
    group.addoption(
        "--nbreplay-allow-children",
        action="store_true",
        help="let curl, node and other network clients start; replay does not cover them",
    )
    group.addoption("--nbreplay-update", action="store_true", help="store the new outputs of notebooks that pass")
    group.addoption(
        "--nbreplay-trim",
        action="store_true",
        help="remove unused recordings if all tests pass",
    )
    group.addoption("--nbreplay-cells", action="store_true", help="collect each code cell of a notebook as a test")
    group.addoption(
        "--nbreplay-no-compare",
        dest="nbreplay_compare",
        action="store_const",
        const=False,
        help="do not compare displayed outputs with stored outputs",
    )
    group.addoption(
        "--nbreplay-n",
        type=int,
        default=0,
        metavar="N",
        help="number of notebooks that run at a time (default: twice the processors; 1 while recording)",
    )
    group.addoption(
        "--nbreplay-timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds per notebook cell (default: 600)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the options and register the plugins that need them."""
    config.addinivalue_line("markers", _MARKER)
    collects, update = config.getoption("nbreplay"), config.getoption("nbreplay_update")
    if update and not collects:
        raise pytest.UsageError("--nbreplay-update needs --nbreplay, which collects the notebooks. Pass both")
    if config.getoption("nbreplay_cells") and not collects:
        raise pytest.UsageError("--nbreplay-cells needs --nbreplay, which collects the notebooks. Pass both")
    if collects or config.getoption("nbreplay_mode"):
        from nbreplay.core.config import mode_of_run
        from nbreplay.errors import OptionError

        try:
            mode_of_run(config.getoption("nbreplay_mode"), "--nbreplay-mode")
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None
    if collects:
        from nbreplay.testing.background import BackgroundRunner

        config.pluginmanager.register(BackgroundRunner(config), "nbreplay-background")
    from nbreplay.testing.summary import RunSummary

    config.stash[_summary] = RunSummary(config)
    config.pluginmanager.register(config.stash[_summary], "nbreplay-summary")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a notebook, with ``--nbreplay``."""
    if file_path.suffix != ".ipynb" or not parent.config.getoption("nbreplay"):
        return None
    if ".ipynb_checkpoints" in file_path.parts:
        return None
    from nbreplay.testing.items import NotebookFile

    return NotebookFile.from_parent(parent, path=file_path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
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
    definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    own = getattr(getattr(item, "_fixtureinfo", None), "argnames", ())
    scopes = {name: fixtures[-1].scope for name, fixtures in definitions.items() if fixtures}
    others = [name for name in names if name != _FIXTURE]
    place = next(
        (index for index, name in enumerate(others) if name in own and scopes.get(name) == "function"), len(others)
    )
    # A new list: the tests of one function share it, and not all of them need be marked.
    item.fixturenames = [*others[:place], _FIXTURE, *others[place:]]  # type: ignore[attr-defined]


@pytest.fixture
def _nbreplay_session(request: pytest.FixtureRequest) -> Iterator[FunctionSession]:
    from nbreplay.errors import NbreplayError
    from nbreplay.testing.function_session import FunctionSession

    try:
        session = FunctionSession(request.node, request.config.getoption("nbreplay_mode"))
        session.start()
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
        if failures := session.new_failures(reported=str(call.excinfo.value)):
            item.add_report_section(call.when, "nbreplay", failures)
        if not item.config.getoption("fulltrace"):
            from nbreplay.testing.function_session import shorten

            shorten(call.excinfo)
    report = yield
    if _is_notebook(item) and report.when == "call":
        report.duration = item.seconds  # not the time that pytest waited for it
    item.stash[_passed] &= report.passed
    if report.when == "teardown":
        from nbreplay.testing.summary import test_entry

        whole = item.stash[_passed] and item.config.stash[_summary].whole
        test: FunctionSession | Item | None = session
        updated = ""
        if _is_notebook(item):
            test, updated = item, str(item.path) if item.updated else ""
        # pytest-xdist transfers attributes of a report if they are plain data.
        report.nbreplay = test_entry(test, updated, whole)  # type: ignore[attr-defined]
        item.stash[_session] = None  # pytest keeps every test until the end of the run
    return report


def _is_notebook(item: pytest.Item) -> TypeGuard[Item]:
    if not item.config.getoption("nbreplay"):
        return False
    from nbreplay.testing.items import Item

    return isinstance(item, Item)
