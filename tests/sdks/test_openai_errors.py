"""openai: its errors, as it raises them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from tests.clients import http, items, wait
from tests.sdks.dump import dump
from tests.sdks.harness import Cell, Stage, check, raised
from tests.sdks.openai_client import HELLO, MAJOR, sdk

SDK = sdk()


def failing(status: int, kind: type[openai.APIStatusError]) -> None:
    @SDK.cell(kind=f"error-{status}")
    async def error(c: Any, stage: Stage) -> Any:
        asked = {"model": f"test/status={status}", "messages": HELLO}
        first = await raised(kind, lambda: c.chat.completions.create(**asked))
        return first, await raised(kind, lambda: c.chat.completions.create(**asked, stream=True))


failing(400, openai.BadRequestError)
failing(401, openai.AuthenticationError)
failing(404, openai.NotFoundError)
failing(429, openai.RateLimitError)
failing(500, openai.InternalServerError)


@SDK.cell
async def retried(c: Any, stage: Stage) -> Any:
    patient = c.with_options(max_retries=2)
    return await wait(patient.chat.completions.create(model="test/status=429,429,200", messages=HELLO))


@SDK.cell
async def dropped(c: Any, stage: Stage) -> Any:
    stream = await wait(c.chat.completions.create(model="test/drop=2", messages=HELLO, stream=True))
    found = []

    async def read() -> None:
        async for chunk in items(stream):
            found.append(dump(chunk))

    if MAJOR < 3:
        return found, str(await raised(http.RemoteProtocolError, read))
    error = await raised(openai.APIConnectionError, read)
    return found, error, type(error.__cause__), str(error.__cause__)


@SDK.cell(answered=False)
async def timeout(c: Any, stage: Stage) -> Any:
    hasty = c.with_options(timeout=0.3)
    made = {"model": "test/delay=2000", "messages": HELLO}
    return await raised(openai.APITimeoutError, lambda: hasty.chat.completions.create(**made))


@SDK.cell(answered=False)
async def refused(c: Any, stage: Stage) -> Any:
    nowhere = c.with_options(base_url="http://127.0.0.1:1/v1")
    return await raised(
        openai.APIConnectionError, lambda: nowhere.chat.completions.create(model="test", messages=HELLO)
    )


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
