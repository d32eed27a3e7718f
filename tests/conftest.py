"""What every test has: a folder and an environment of its own, and nothing left switched on after it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbreplay.core import active
from nbreplay.intercept import keys, switch
from tests.provider import Provider, Spawned, spawn

_OURS = re.compile(r"NBREPLAY_|.*_API_KEY$|.*_AUTH_TOKEN$|.*_BASE_URL$|.*_PROXY$|.*_proxy$")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the test in an empty folder, with no keys and no options of ours in the environment."""
    for name in list(os.environ):
        if _OURS.match(name):
            monkeypatch.delenv(name)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(keys, "_ever", False)
    try:
        yield
        assert not active.sessions(), "the test left a session switched on"
    finally:
        for session in active.sessions():
            active.leave(session)
        switch.undo()


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
