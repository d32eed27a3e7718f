"""No session and no run of a cell is left after a test of the core."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nbreplay.core.cell import current_run
from nbreplay.core.session import active_sessions


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    assert not active_sessions()
    assert current_run() is None
