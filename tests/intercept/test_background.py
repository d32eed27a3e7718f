"""What a library asks on its own account is no part of a notebook: not recorded, offline under replay."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

import nbreplay as nr
from nbreplay.core.request.route import is_background
from nbreplay.core.secrets.credentials import PLACEHOLDER
from tests.clients import call, http, outcomes, plain, wait
from tests.provider import Provider

OWN = "/traces/ingest"


async def report(client: Any) -> int:
    answer = await wait(client.post(OWN, json={"data": [{"id": "made up in each run"}]}))
    return int(answer.status_code)


def by_aiohttp(url: str) -> None:
    async def whole() -> None:
        async with aiohttp.ClientSession() as session, session.post(url, json={}) as answer:
            await answer.read()

    asyncio.run(whole())


def by_urllib(url: str) -> None:
    with urllib.request.urlopen(url, data=b"{}") as answer:
        answer.read()


OTHERS: dict[Callable[[str], Any], type[Exception]] = {
    by_aiohttp: aiohttp.ClientConnectorError,
    by_urllib: urllib.error.URLError,
    lambda url: requests.post(url, json={}): requests.ConnectionError,
}


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


@pytest.mark.parametrize("way", OTHERS)
def test_so_it_does_in_every_library(way: Callable[[str], Any], provider: Provider, store: Path) -> None:
    with nr.session(store, mode="replay") as session, pytest.raises(OTHERS[way]):
        way(provider.url + OWN)
    assert outcomes(session) == []
    assert not provider.requests


@pytest.mark.parametrize("mode", ["record", "auto", "replay"])
def test_a_placeholder_for_a_key_does_not_leave_with_it(
    mode: str, flavour: str, provider: Provider, store: Path
) -> None:
    headers = {"authorization": f"Bearer {PLACEHOLDER}"}
    with nr.session(store, mode=mode), pytest.raises(http.ConnectError):
        call(flavour, provider.url, report, plain, headers=headers)
    assert not provider.requests


@pytest.mark.parametrize(
    ("host", "path", "is_own"),
    [
        ("api.openai.com", "/v1/traces/ingest", True),
        ("api.smith.langchain.com", "/runs/multipart", True),
        ("eu.api.smith.langchain.com", "/info", True),
        ("raw.githubusercontent.com", "/BerriAI/litellm/main/model_prices_and_context_window.json", True),
        ("raw.githubusercontent.com", "/me/data/main/data.csv", False),
        ("api.openai.com", "/v1/chat/completions", False),
    ],
)
def test_only_what_is_known_to_be_a_librarys_own_business_is_taken_for_it(host: str, path: str, is_own: bool) -> None:
    assert is_background(host, path) is is_own
