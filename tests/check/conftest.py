"""A way to check what is given."""

from __future__ import annotations

import pytest

from tests.check.making import Check


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    return Check(capsys)
