"""No session and no run of a cell is left after a test of the core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nbreplay.core import active


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    assert not active.sessions()
    assert active.current_run() is None
