"""openai over aiohttp: its own `DefaultAioHttpClient`, which passes two hooks and is recorded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

from tests.sdks import test_openai, test_openai_errors, test_openai_responses
from tests.sdks.harness import Cell, Sdk, Stage, check, installed
from tests.sdks.openai_client import MAJOR

installed("aiohttp")
if MAJOR < 3:
    installed("httpx_aiohttp", "httpx-aiohttp", "sdks-openai2")


def client(stage: Stage) -> Any:
    inner = openai.DefaultAioHttpClient()
    return openai.AsyncOpenAI(base_url=f"{stage.url}/v1", api_key="a-key", max_retries=0, http_client=inner)


SDK = Sdk("openai-aiohttp", "openai", {"async": client})
_CELLS = [cell for module in (test_openai, test_openai_responses, test_openai_errors) for cell in module.SDK.cells]
for _name in (
    *("chat", "chat-tools", "chat-stream", "chat-stream-tools", "chat-stream-helper", "chat-parse", "chat-raw"),
    *("chat-streaming-response", "embeddings", "response", "response-stream", "models", "image", "speech"),
    *("file-upload", "audio-upload", "chat-concurrent", "chat-stream-concurrent", "error-400", "error-500", "retried"),
):
    _cell = next(cell for cell in _CELLS if cell.kind == _name and cell.flavour == "async")
    SDK.cell(_cell.operation, kind=_name, streams=_cell.streams)


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
