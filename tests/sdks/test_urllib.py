"""urllib.request and what reads over it (pandas), and http.client itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.sdks import plain
from tests.sdks.dump import headers_of
from tests.sdks.harness import Cell, Sdk, Stage, check, raised

SDK = Sdk("urllib", "python", {"sync": lambda _: contextlib.nullcontext(urllib.request.build_opener())})


def head(answer: Any) -> Any:
    return type(answer), answer.status, answer.reason, headers_of(answer.headers), answer.url, answer.version


async def fetch(c: Any, method: str, url: str, **sent: Any) -> Any:
    data, kind = None, {}
    if "json" in sent:
        data, kind = json.dumps(sent["json"]).encode(), {"content-type": "application/json"}
    if "form" in sent:
        data = urllib.parse.urlencode(sent["form"]).encode()
    if "file" in sent:
        start = f'--line\r\ncontent-disposition: form-data; name="file"; filename="{sent["file"][0]}"\r\n\r\n'.encode()
        data = start + sent["file"][1] + b"\r\n--line--\r\n"
        kind = {"content-type": "multipart/form-data; boundary=line"}
    try:
        with c.open(urllib.request.Request(url, data=data, headers=kind, method=method), timeout=30) as answer:
            return head(answer), decoded(answer)
    except urllib.error.HTTPError as error:
        with error:
            return "HTTPError", str(error), error.code, headers_of(error.headers), error.read()


def decoded(answer: Any) -> bytes:
    """Decode as callers must whose library does not; what is replayed is decoded, and says so."""
    data, encoding = answer.read(), answer.headers.get("content-encoding")
    return bytes(zlib.decompress(data, wbits=47) if encoding else data)


plain.add(SDK, fetch)


@SDK.cell(streams=True)
async def events(c: Any, stage: Stage) -> Any:
    with c.open(f"{stage.url}/plain/events") as answer:
        return head(answer), await stage.all(answer)


@SDK.cell
async def binary_in_pieces(c: Any, stage: Stage) -> Any:
    with c.open(f"{stage.url}/plain/binary") as answer:
        return answer.read(10), answer.read(100), answer.read(), answer.read()


@SDK.cell
async def module_function(c: Any, stage: Stage) -> Any:
    with urllib.request.urlopen(f"{stage.url}/plain/json") as answer:
        return json.load(answer)


@SDK.cell
async def pandas_csv(c: Any, stage: Stage) -> Any:
    frame = pd.read_csv(f"{stage.url}/plain/table.csv")
    return frame.to_dict("list"), {name: str(kind) for name, kind in frame.dtypes.items()}


@SDK.cell
async def http_client(c: Any, stage: Stage) -> Any:
    """Two requests over one connection, and its answers' own methods."""
    found = []
    with contextlib.closing(http.client.HTTPConnection(stage.url.removeprefix("http://"))) as connection:
        for path in ("/plain/json", "/plain/text"):
            connection.request("GET", path)
            answer = connection.getresponse()
            found.append((answer.status, answer.getheader("content-type"), answer.read(5), answer.read()))
    return found


@SDK.cell(answered=False)
async def refused(c: Any, stage: Stage) -> Any:
    error: Any = await raised(urllib.error.URLError, lambda: c.open("http://127.0.0.1:1/"))
    return type(error), type(error.reason)


@pytest.mark.full(quick=6)
@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
