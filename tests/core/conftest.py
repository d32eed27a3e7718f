"""What the core keeps of the environment is read anew for each test, and no session or run is left after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nbreplay.core import active, environment


@pytest.fixture(autouse=True)
def fresh_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environment.refresh()
    yield
    monkeypatch.undo()
    environment.refresh()
    assert not active.sessions()
    assert active.current_run() is None
