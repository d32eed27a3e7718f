"""The quick and the full set. Each test has a folder and an environment of its own, and leaves no session behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from nbreplay.core import strand
from nbreplay.core.session import active_sessions, leave_session
from nbreplay.intercept import placeholder_keys, registry
from nbreplay.intercept.processes.parent import parent
from tests import passed
from tests.provider import Provider, Spawned, spawn
from tests.sdks import report

_PRIVATE = re.compile(r"NBREPLAY_|.*(_KEY|_TOKEN|_SECRET|_BASE_URL)$")
_PROXY = re.compile(r".*_PROXY$|.*_proxy$")
_deferred = pytest.StashKey[int]()

# Session-scoped fixtures and child processes see no keys and no options of whoever runs the tests, either.
for _name in [name for name in os.environ if _PRIVATE.match(name)]:
    del os.environ[_name]
# A pytest that a test starts does not know the options that were given to this one.
os.environ.pop("PYTEST_ADDOPTS", None)
# They reach servers on this machine without a proxy; what a test installs may need one.
if any(_PROXY.match(name) for name in os.environ):
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = f"{os.environ.get('NO_PROXY', '')},127.0.0.1,localhost,::1"
# Where no bytecode is kept, as images of Docker set it, each of hundreds of kernels and commands compiles the package
# and pytest rewrites every test again, which takes longer than the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Each test makes and removes files, which takes longer on a disk than most tests do: in memory, where that has room.
if hasattr(os, "statvfs") and os.access("/dev/shm", os.W_OK):
    _memory = os.statvfs("/dev/shm")
    if _memory.f_bavail * _memory.f_frsize >= 4 << 30 and not _memory.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")
# A shell starts background jobs with SIGINT ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in each run: nobody's change fails by what another one has broken.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.register_profile("full", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--full``, and the options of reports here, where they are known whatever is run."""
    parser.addoption("--full", action="store_true", help="run every test, also those that the quick set leaves out")
    report.add_option(parser)
    passed.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples hypothesis tries; report on the SDK matrix, and on what has passed."""
    if not config.getoption("--hypothesis-profile", None):
        hypothesis.settings.load_profile("full" if config.getoption("--full") else "quick")
    config.pluginmanager.register(report.Report(config), "nbreplay-sdks")
    config.pluginmanager.register(passed.Passed(config), "nbreplay-passed")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `full` out, unless all are wanted, or the marker or single tests are named.

    Those marked `first` come first.
    """
    items.sort(key=lambda item: item.get_closest_marker("first") is None)
    named = any("::" in argument for argument in config.args)
    if config.getoption("--full") or named or "full" in config.getoption("markexpr"):
        return
    families: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("full"):
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
    deferred = {item for family in families.values() for item in set(family) - set(_representatives(family))}
    items[:] = [item for item in items if item not in deferred]
    config.hook.pytest_deselected(items=list(deferred))
    config.stash[_deferred] = len(deferred)


def _representatives(family: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the tests of a parametrized function that the quick set has, as its marker says."""
    marker = family[0].get_closest_marker("full")
    quick = marker.kwargs.get("quick", 0) if marker else 0
    if isinstance(quick, int):
        yield from family[:quick]
    elif quick == "each":
        seen: set[tuple[str, int]] = set()
        for fresh in (all, any):  # first those that are new in every parameter: so the fewest are needed
            for item in family:
                values = {(name, id(value)) for name, value in item.callspec.params.items()}  # type: ignore[attr-defined]
                if fresh(value not in seen for value in values):
                    seen |= values
                    yield item
    else:
        ids = {item.callspec.id: item for item in family}  # type: ignore[attr-defined]
        yield from (ids[name] for name in quick)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that reports how many tests this worker of pytest-xdist has left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deferred"] = session.config.stash.get(_deferred, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the number from a worker: each has collected every test."""
    deferred = getattr(node, "workeroutput", {}).get("deferred", 0)
    node.config.stash[_deferred] = max(deferred, node.config.stash.get(_deferred, 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests were left out, and how to run them."""
    if deferred := config.stash.get(_deferred, 0):
        terminalreporter.write_line(f"{deferred} slow tests were left out. To run them: python -m pytest --full")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the test in an empty folder, with no keys and no options of ours in the environment."""
    for name in list(os.environ):
        if _PRIVATE.match(name) or _PROXY.match(name):
            monkeypatch.delenv(name)
    # A pytest that a test starts would import every plugin that is installed, which takes ten times as long as it does.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # Threads that an earlier test has left would be waited for, as those of a program are.
    strand.pending_work.clear()
    for thread in threading.enumerate():
        vars(thread).pop(strand._BRANCH, None)
    monkeypatch.setattr(parent, "is_sharing", False)  # as in a process that has started no child yet
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(placeholder_keys, "_ever", False)
    try:
        yield
        assert not active_sessions(), "the test left a session switched on"
    finally:
        for session in active_sessions():
            leave_session(session)
        registry.undo()
        # Each session would look for handles of pycurl among all objects, of which there are many here. Tornado's
        # client would keep this pycurl, while the next session hooks into another.
        for name in ("pycurl", "tornado.curl_httpclient"):
            sys.modules.pop(name, None)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder for recordings, not made yet."""
    return tmp_path / "recordings"


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider in this process."""
    with Provider() as made:
        yield made


@pytest.fixture
def spawned() -> Iterator[Spawned]:
    """A provider in another process: what reaches it has left this one."""
    with spawn() as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Which clients to use; see `tests.clients`."""
    return str(request.param)
