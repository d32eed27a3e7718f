"""No test of the core sees the variables of whoever runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from nbreplay.core import active, environment

settings.register_profile("quick", deadline=None, max_examples=25)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith("NBREPLAY_") or name.endswith(("_KEY", "_TOKEN", "_SECRET")):
            monkeypatch.delenv(name)
    environment.refresh()
    yield
    monkeypatch.undo()
    environment.refresh()
    assert not active.sessions()
    assert active.current_run() is None
