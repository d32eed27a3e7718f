"""Failures as data: replayed as the SDK's own exceptions, and nobody sleeps through a back-off."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

import nbreplay as nr
from tests.clients import KEY, call, chat, http, items, outcomes, said, sdk, takes, wait
from tests.provider import Provider

STATUSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "InternalServerError",
}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long anything has slept, in seconds; nothing really does."""
    found: list[float] = []

    async def sleep(seconds: float, *_: Any) -> None:
        found.append(seconds)

    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(anyio, "sleep", sleep)
    return found


def claude(flavour: str, url: str, **options: Any) -> Any:
    anthropic = pytest.importorskip("anthropic", reason="pip install -e '.[test-full]'")
    kind = anthropic.Anthropic if flavour == "sync" else anthropic.AsyncAnthropic
    return kind(**{"base_url": url.removesuffix("/v1"), "api_key": KEY, "max_retries": 0, **options})


async def message(client: Any, model: str) -> Any:
    return await wait(client.messages.create(model=model, max_tokens=9, messages=said("hi")))


def error_of(flavour: str, url: str, operation: Any, made: Any) -> list[Any]:
    """What the SDK raises: class, status, body and text."""
    with pytest.raises(Exception) as caught:
        call(flavour, url, operation, made)
    error: Any = caught.value
    assert "APIStatusError" in {kind.__name__ for kind in type(error).__mro__}
    return [type(error).__name__, error.status_code, error.body, str(error), error.request_id]


@pytest.mark.parametrize("made", [sdk, claude], ids=["openai", "anthropic"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_replayed_as_the_same_exception(
    status: int, made: Any, flavour: str, provider: Provider, store: Path, slept: list[float]
) -> None:
    model = f"test/status={status}"
    operation = chat(model=model) if made is sdk else (lambda client: message(client, model))
    with nr.session(store, mode="record"):
        recorded = error_of(flavour, provider.url, operation, made)
    hits = len(provider.requests)
    with nr.session(store, mode="replay") as session:
        assert error_of(flavour, provider.url, operation, made) == recorded
    assert recorded[:2] == [STATUSES[status] if status != 503 or made is sdk else recorded[0], status]
    assert "answer 1" in str(recorded)
    assert outcomes(session) == ["replayed"]
    assert len(provider.requests) == hits
    assert sum(slept) < 0.01


@pytest.mark.parametrize("made", [sdk, claude], ids=["openai", "anthropic"])
def test_what_was_retried_is_retried_again_without_sleeping(
    made: Any, flavour: str, provider: Provider, store: Path, slept: list[float]
) -> None:
    model = "test/status=429,500,200"
    operation = chat(model=model) if made is sdk else (lambda client: message(client, model))
    with nr.session(store, mode="record"):
        recorded = call(flavour, provider.url, operation, made, max_retries=3)
    assert [take.status for take in takes(store)] == [429, 500, 200]
    assert sum(slept) > 0.1, "the SDK waits between its attempts"
    slept.clear()
    with nr.session(store, mode="replay") as session:
        assert call(flavour, provider.url, operation, made, max_retries=3) == recorded
    assert outcomes(session) == ["replayed"] * 3
    assert sum(slept) < 0.01


@pytest.mark.parametrize("where", ["before the answer", "in the middle"])
def test_a_timeout_is_replayed_without_waiting(where: str, flavour: str, provider: Provider, store: Path) -> None:
    model = "test/delay=3000" if where == "before the answer" else "test/words=4+hold"

    async def operation(client: Any) -> Any:
        pieces = []
        try:
            stream = await wait(client.chat.completions.create(model=model, messages=said("hi"), stream=True))
            async for chunk in items(stream):
                pieces.append(chunk.model_dump_json())
        except (openai.APITimeoutError, http.ReadTimeout) as error:
            return [*pieces, type(error).__name__, str(error)]
        raise AssertionError("it did not time out")

    with nr.session(store, mode="record"):
        recorded = call(flavour, provider.url, operation, timeout=1)
    (take,) = takes(store)
    assert (take.complete, take.reason, take.status) == (False, "dropped", None if "before" in where else 200)
    assert (take.error or {})["type"] == "ReadTimeout"
    hits = len(provider.requests)
    with nr.session(store, mode="replay") as session:
        assert call(flavour, provider.url, operation, timeout=1000) == recorded
    assert outcomes(session) == ["replayed"]
    assert len(provider.requests) == hits
    assert len(recorded) == 2 if "before" in where else len(recorded) > 2


def test_a_refused_connection_is_replayed(flavour: str, store: Path) -> None:
    async def operation(client: Any) -> Any:
        with pytest.raises(openai.APIConnectionError) as caught:
            await chat()(client)
        return [str(caught.value), type(caught.value.__cause__).__name__, str(caught.value.__cause__)]

    with nr.session(store, mode="record"):
        recorded = call(flavour, "http://127.0.0.1:1/v1", operation)
    with nr.session(store, mode="replay") as session:
        assert call(flavour, "http://127.0.0.1:1/v1", operation) == recorded
    assert recorded[1] == "ConnectError"
    assert outcomes(session) == ["replayed"]
