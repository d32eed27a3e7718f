"""requests, over urllib3."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.sdks import plain
from tests.sdks.dump import headers_of
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

requests = installed("requests")
SDK = Sdk("requests", "requests", {"sync": lambda _: requests.Session()})


async def fetch(c: Any, method: str, url: str, **sent: Any) -> Any:
    options: dict[str, Any] = {"json": sent["json"]} if "json" in sent else {}
    options |= {"data": sent["form"]} if "form" in sent else {}
    options |= {"files": {"file": sent["file"]}} if "file" in sent else {}
    answer = c.request(method, url, **options)
    return answer, answer.text, [(one.status_code, one.url) for one in answer.history], answer.url


plain.add(SDK, fetch)


@SDK.cell(streams=True)
async def events(c: Any, stage: Stage) -> Any:
    with c.get(f"{stage.url}/plain/events", stream=True) as answer:
        return headers_of(answer.headers), await stage.all(answer.iter_lines(chunk_size=1))


@SDK.cell(streams=True)
async def events_gzip(c: Any, stage: Stage) -> Any:
    with c.get(f"{stage.url}/plain/gzip-events", stream=True) as answer:
        return headers_of(answer.headers), await stage.all(answer.iter_lines(chunk_size=1))


@SDK.cell
async def binary_in_pieces(c: Any, stage: Stage) -> Any:
    with c.get(f"{stage.url}/plain/binary", stream=True) as answer:
        return b"".join(answer.iter_content(chunk_size=100))


@SDK.cell
async def binary_raw(c: Any, stage: Stage) -> Any:
    with c.get(f"{stage.url}/plain/binary", stream=True) as answer:
        return answer.raw.read(10), answer.raw.read(), answer.raw.status, answer.raw.reason


@SDK.cell
async def threads(c: Any, stage: Stage) -> Any:
    return stage.in_threads([partial(c.get, f"{stage.url}/plain/json?{number}") for number in range(12)])


@SDK.cell
async def error_404_raised(c: Any, stage: Stage) -> Any:
    return await raised(requests.HTTPError, c.get(f"{stage.url}/plain/missing").raise_for_status)


@SDK.cell(answered=False)
async def refused(c: Any, stage: Stage) -> Any:
    return type(await raised(requests.ConnectionError, lambda: c.get("http://127.0.0.1:1/")))


@pytest.mark.full(quick=6)
@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
