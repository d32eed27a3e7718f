"""aiohttp, plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sdks import plain
from tests.sdks.dump import headers_of
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

aiohttp = installed("aiohttp")
SDK = Sdk("aiohttp", "aiohttp", {"async": lambda _: aiohttp.ClientSession()})


def head(answer: Any) -> Any:
    kind = (answer.content_type, answer.charset)
    history = [(one.status, str(one.url)) for one in answer.history]
    return type(answer), answer.status, answer.reason, headers_of(answer.headers), *kind, str(answer.url), history


async def fetch(c: Any, method: str, url: str, **sent: Any) -> Any:
    options: dict[str, Any] = {"json": sent["json"]} if "json" in sent else {}
    options |= {"data": sent["form"]} if "form" in sent else {}
    if "file" in sent:
        options["data"] = form = aiohttp.FormData()
        form.add_field("file", sent["file"][1], filename=sent["file"][0])
    async with c.request(method, url, **options) as answer:
        return head(answer), await answer.read()


plain.add(SDK, fetch)


@SDK.cell
async def get_text_decoded(c: Any, stage: Stage) -> Any:
    async with c.get(f"{stage.url}/plain/text") as answer:
        return await answer.text()


@SDK.cell
async def get_json_decoded(c: Any, stage: Stage) -> Any:
    async with c.get(f"{stage.url}/plain/json") as answer:
        return await answer.json()


@SDK.cell(streams=True)
async def events(c: Any, stage: Stage) -> Any:
    async with c.get(f"{stage.url}/plain/events") as answer:
        return head(answer), await stage.all(answer.content)


@SDK.cell(streams=True)
async def events_gzip(c: Any, stage: Stage) -> Any:
    async with c.get(f"{stage.url}/plain/gzip-events") as answer:
        return head(answer), await stage.all(answer.content)


@SDK.cell
async def binary_in_pieces(c: Any, stage: Stage) -> Any:
    async with c.get(f"{stage.url}/plain/binary") as answer:
        return b"".join([piece async for piece in answer.content.iter_chunked(100)])


@SDK.cell
async def concurrent(c: Any, stage: Stage) -> Any:
    return await stage.together(fetch(c, "GET", f"{stage.url}/plain/json?{number}") for number in range(12))


@SDK.cell
async def error_404_raised(c: Any, stage: Stage) -> Any:
    async with c.get(f"{stage.url}/plain/missing") as answer:
        error: Any = await raised(aiohttp.ClientResponseError, answer.raise_for_status)
        return type(error), str(error), error.status, error.message, await answer.read()


@SDK.cell(answered=False)
async def refused(c: Any, stage: Stage) -> Any:
    error: Any = await raised(aiohttp.ClientConnectorError, lambda: c.get("http://127.0.0.1:1/"))
    return type(error), isinstance(error, OSError)


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
