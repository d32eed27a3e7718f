"""tavily: searches, over requests and, async, over httpx."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.clients import wait
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

tavily = installed("tavily", "tavily-python")
KEY = "tvly-a-key-of-the-tests"


def sync(stage: Stage) -> Any:
    return closing(tavily.TavilyClient(api_key=KEY, api_base_url=stage.url))


@asynccontextmanager
async def asynchronous(stage: Stage) -> Any:
    made = tavily.AsyncTavilyClient(api_key=KEY, api_base_url=stage.url)
    try:
        yield made
    finally:
        await made.close()


SDK = Sdk("tavily", "tavily-python", {"sync": sync, "async": asynchronous})


@SDK.cell
async def search(c: Any, stage: Stage) -> Any:
    return await wait(c.search("the weather in Tokyo", max_results=1, include_answer=True))


@SDK.cell
async def extract(c: Any, stage: Stage) -> Any:
    return await wait(c.extract(urls=["https://example.com/a", "https://example.com/b"]))


@SDK.cell
async def error_400(c: Any, stage: Stage) -> Any:
    return await raised(tavily.BadRequestError, lambda: c.search("missing"))


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
