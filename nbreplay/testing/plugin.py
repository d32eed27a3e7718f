"""The pytest plugin: its options, its marker, its fixture, and which test is nbreplay's.

pytest imports this module at every start, wanted or not: it imports nothing of nbreplay before a test asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

if TYPE_CHECKING:
    from nbreplay.core.session import Session
    from nbreplay.testing.function_session import Watch
    from nbreplay.testing.items import Item
    from nbreplay.testing.summary import Tally

__all__ = ["replay"]

_FIXTURE = "_nbreplay_watch"
_NAMES = ("nbreplay", __name__)
_MARKER = (
    "nbreplay(mode=, store=, ignore=, mask=, allow=, allow_children=, only=, speed=): replay the calls of this test; "
    "a store is relative to the test's folder"
)
_tally: pytest.StashKey[Tally] = pytest.StashKey()
_watch: pytest.StashKey[Watch | None] = pytest.StashKey()
_passed: pytest.StashKey[bool] = pytest.StashKey()  # there for every test that is nbreplay's


def pytest_plugin_registered(plugin: object, manager: pytest.PytestPluginManager) -> None:
    """Keep the module from being registered twice, with -p and by its entry point: pytest would refuse to start."""
    if plugin is sys.modules[__name__]:
        for name in _NAMES:
            if not manager.has_plugin(name):
                manager.set_blocked(name)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("nbreplay", "notebooks and tests that call language models")
    group.addoption("--nbreplay", action="store_true", help="collect notebooks, each as a test")
    group.addoption(
        "--nbreplay-mode",
        choices=("replay", "auto", "record"),
        help="forced on notebooks and tests; replay, which sends nothing, if not given",
    )
    group.addoption(
        "--nbreplay-allow-children",
        action="store_true",
        help="let curl, node, … start under replay, which does not cover them",
    )
    group.addoption("--nbreplay-update", action="store_true", help="store the new outputs in notebooks that pass")
    group.addoption(
        "--nbreplay-trim",
        action="store_true",
        help="remove the recordings that nothing asked for, where all has passed",
    )
    group.addoption("--nbreplay-cells", action="store_true", help="have each code cell of a notebook as a test")
    group.addoption(
        "--nbreplay-no-compare",
        dest="nbreplay_compare",
        action="store_const",
        const=False,
        help="do not compare what notebooks display with what they have stored",
    )
    group.addoption(
        "--nbreplay-n",
        type=int,
        default=0,
        metavar="N",
        help="how many notebooks run at a time (twice the processors; 1, where calls are recorded)",
    )
    group.addoption(
        "--nbreplay-timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds that one cell of a notebook may take (600)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, and begin to count."""
    config.addinivalue_line("markers", _MARKER)
    wanted, update = config.getoption("nbreplay"), config.getoption("nbreplay_update")
    if update and not wanted:
        raise pytest.UsageError("--nbreplay-update stores outputs of notebooks, which --nbreplay collects: give both")
    if config.getoption("nbreplay_cells") and not wanted:
        raise pytest.UsageError("--nbreplay-cells is about notebooks, which --nbreplay collects: give both")
    if wanted or config.getoption("nbreplay_mode"):
        from nbreplay.core.config import mode_of_run
        from nbreplay.errors import OptionError

        try:
            mode_of_run(config.getoption("nbreplay_mode"), "--nbreplay-mode")
        except OptionError as error:
            raise pytest.UsageError(str(error)) from None
    if wanted:
        from nbreplay.testing.background import Ahead

        config.pluginmanager.register(Ahead(config), "nbreplay-ahead")
    from nbreplay.testing.summary import Tally

    config.stash[_tally] = Tally(config)
    config.pluginmanager.register(config.stash[_tally], "nbreplay-tally")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a notebook, where that is asked for."""
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
    """Give a test that is marked, or asks for the fixture, its session: before the fixtures that may build clients."""
    names = getattr(item, "fixturenames", None)
    if names is None:
        if _is_notebook(item):
            item.stash[_passed] = True
        return
    # Not by the name "replay": a project may have a fixture of that name of its own.
    if _FIXTURE not in names and item.get_closest_marker("nbreplay") is None:
        return
    item.stash[_passed] = True
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    own = getattr(getattr(item, "_fixtureinfo", None), "argnames", ())
    scopes = {name: found[-1].scope for name, found in known.items() if found}
    others = [name for name in names if name != _FIXTURE]
    place = next((at for at, name in enumerate(others) if name in own and scopes.get(name) == "function"), len(others))
    # Anew: tests of one function share the list, and not all of them need be marked.
    item.fixturenames = [*others[:place], _FIXTURE, *others[place:]]  # type: ignore[attr-defined]


@pytest.fixture
def _nbreplay_watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    from nbreplay.errors import NbreplayError
    from nbreplay.testing.function_session import Watch

    try:
        watch = Watch(request.node, request.config.getoption("nbreplay_mode"))
        watch.start()
    except NbreplayError as error:
        pytest.fail(f"nbreplay: {error}", pytrace=False)
    request.node.stash[_watch] = watch
    request.node.stash.setdefault(_passed, True)  # where a test asks for the fixture as it runs
    try:
        yield watch
    finally:
        watch.stop()
    # What other fixtures, or threads, have asked after the test itself.
    if failures := watch.failures():
        pytest.fail(failures, pytrace=False)


@pytest.fixture
def replay(_nbreplay_watch: Watch) -> Session:
    """The session in which the calls of this test are replayed: ``replay.interactions`` are what it has asked so far.

    The recordings are looked for as a notebook's are, from the test's folder: ``recordings/`` beside it, if nothing
    else is said. ``--nbreplay-mode=auto`` records what is missing.
    """
    return _nbreplay_watch.session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that missed something, also where it has swallowed the exception: the log is the verdict."""
    watch = item.stash.get(_watch, None)
    if watch is None:
        return (yield)
    try:
        result = yield
    except pytest.skip.Exception:
        if failures := watch.failures():
            raise pytest.fail.Exception(failures, pytrace=False) from None
        raise
    if failures := watch.failures():
        pytest.fail(failures, pytrace=False)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have the report of a miss show the user's own lines, and the last report of a test tell what it exchanged."""
    if _passed not in item.stash:
        return (yield)
    watch = item.stash.get(_watch, None)
    if call.excinfo is not None and watch is not None:
        if failures := watch.failures(told=str(call.excinfo.value)):
            item.add_report_section(call.when, "nbreplay", failures)
        if not item.config.getoption("fulltrace"):
            from nbreplay.testing.function_session import shorten

            shorten(call.excinfo)
    report = yield
    if _is_notebook(item) and report.when == "call":
        report.duration = item.seconds  # not how long it was waited for
    item.stash[_passed] &= report.passed
    if report.when == "teardown":
        from nbreplay.testing.summary import exchanged

        whole = item.stash[_passed] and item.config.stash[_tally].whole
        done: Watch | Item | None = watch
        updated = ""
        if _is_notebook(item):
            done, updated = item, str(item.path) if item.updated else ""
        # pytest-xdist carries what else a report has, as long as it is plain data.
        report.nbreplay = exchanged(done, updated, whole)  # type: ignore[attr-defined]
        item.stash[_watch] = None  # pytest keeps every test to the end of the run
    return report


def _is_notebook(item: pytest.Item) -> TypeGuard[Item]:
    if not item.config.getoption("nbreplay"):
        return False
    from nbreplay.testing.items import Item

    return isinstance(item, Item)
