"""What a library reports on itself in the background is no part of a notebook: not recorded, offline under replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests.clients import call, http, outcomes, plain, wait
from tests.provider import Provider


async def report(client: Any) -> int:
    answer = await wait(client.post("/traces/ingest", json={"data": [{"id": "made up in each run"}]}))
    return int(answer.status_code)


@pytest.mark.parametrize("mode", ["record", "auto"])
def test_it_goes_out_and_is_not_recorded(mode: str, flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode=mode) as session:
        call(flavour, provider.url, report, plain)
    assert outcomes(session) == ["live"]
    assert len(provider.requests) == 1
    assert not list(store.glob("*.json"))


def test_under_replay_it_fails_as_it_would_offline(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="replay") as session, pytest.raises(http.ConnectError):
        call(flavour, provider.url, report, plain)
    assert outcomes(session) == []
    assert not provider.requests
