"""What the matrix spares its clients, and what it lets them leave behind."""

from __future__ import annotations

import gc
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdks.server import prepare

pytest.register_assert_rewrite("tests.sdks.harness")  # so that its failures show what differs
_HERE = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def servers() -> None:
    """Have servers start fast."""
    prepare()


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have none loaded: nobody speaks TLS here, and each client would spend more on it than on all the rest."""
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let SDKs leave connections to the garbage collector, as some do: it runs in any later test, and fails that."""
    if _HERE in item.path.parents:
        for ignored in ("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"):
            item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """Have what they leave collected before other tests begin."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
