"""httpx and httpx2, plain."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.clients import entered, items, wait
from tests.sdks import plain
from tests.sdks.dump import headers_of
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

CELLS: list[Cell] = []


async def fetch(c: Any, method: str, url: str, **sent: Any) -> Any:
    options: dict[str, Any] = {"json": sent["json"]} if "json" in sent else {}
    options |= {"data": sent["form"]} if "form" in sent else {}
    options |= {"files": {"file": sent["file"]}} if "file" in sent else {}
    answer = await wait(c.request(method, url, **options))
    return answer, answer.text, [(one.status_code, str(one.url)) for one in answer.history], str(answer.url)


def library(name: str) -> None:
    http = installed(name)
    sdk = Sdk(name, name, {"sync": client(http.Client), "async": client(http.AsyncClient)})
    plain.add(sdk, fetch)

    @sdk.cell(streams=True)
    async def events(c: Any, stage: Stage) -> Any:
        async with entered(c.stream("GET", f"{stage.url}/plain/events")) as answer:
            lines = answer.iter_lines() if isinstance(c, http.Client) else answer.aiter_lines()
            return headers_of(answer.headers), await stage.all(lines)

    @sdk.cell(streams=True)
    async def events_gzip(c: Any, stage: Stage) -> Any:
        async with entered(c.stream("GET", f"{stage.url}/plain/gzip-events")) as answer:
            lines = answer.iter_lines() if isinstance(c, http.Client) else answer.aiter_lines()
            return headers_of(answer.headers), await stage.all(lines)

    @sdk.cell
    async def binary_in_pieces(c: Any, stage: Stage) -> Any:
        async with entered(c.stream("GET", f"{stage.url}/plain/binary")) as answer:
            pieces = answer.iter_bytes(100) if isinstance(c, http.Client) else answer.aiter_bytes(100)
            return [piece async for piece in items(pieces)]

    @sdk.cell(only="async")
    async def concurrent(c: Any, stage: Stage) -> Any:
        return await stage.together(fetch(c, "GET", f"{stage.url}/plain/json?{number}") for number in range(12))

    @sdk.cell
    async def error_404_raised(c: Any, stage: Stage) -> Any:
        answer = await wait(c.get(f"{stage.url}/plain/missing"))
        return await raised(http.HTTPStatusError, answer.raise_for_status)

    @sdk.cell(answered=False)
    async def refused(c: Any, stage: Stage) -> Any:
        return await raised(http.ConnectError, lambda: c.get("http://127.0.0.1:1/"))

    CELLS.extend(sdk.cells)


def client(kind: type) -> Any:
    return lambda _: kind(follow_redirects=True)


for _name in ("httpx", "httpx2"):
    if importlib.util.find_spec(_name):
        library(_name)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
