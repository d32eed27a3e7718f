"""boto3: Bedrock's runtime, over botocore's urllib3."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.sdks.dump import headers_of
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised

boto3 = installed("boto3")
HELLO = [{"role": "user", "content": [{"text": "hello"}]}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": SCHEMA}}}]}
ASKED: dict[str, Any] = {"modelId": "amazon.test-v1:0", "messages": HELLO}


def client(stage: Stage) -> Any:
    keys = {"aws_access_key_id": "a-key-of-the-tests", "aws_secret_access_key": "a-secret-of-the-tests"}
    made = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=stage.url, **keys)
    return contextlib.closing(made)


SDK = Sdk("boto3-bedrock", "boto3", {"sync": client})


def whole(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with those headers only that recordings keep."""
    about = dict(answer["ResponseMetadata"])
    return {**answer, "ResponseMetadata": {**about, "HTTPHeaders": headers_of(about["HTTPHeaders"])}}


async def streamed(stage: Stage, answer: dict[str, Any], name: str) -> Any:
    with contextlib.closing(answer[name]) as stream:
        return whole({**answer, name: await stage.all(stream)})


@SDK.cell
async def converse(c: Any, stage: Stage) -> Any:
    return whole(c.converse(**ASKED, inferenceConfig={"temperature": 0.1}))


@SDK.cell
async def converse_tools(c: Any, stage: Stage) -> Any:
    first = c.converse(**ASKED, toolConfig=TOOLS)
    message = first["output"]["message"]
    use = message["content"][1]["toolUse"]["toolUseId"]
    result = {"toolResult": {"toolUseId": use, "content": [{"text": "18 degrees"}]}}
    turns = [*HELLO, message, {"role": "user", "content": [result]}]
    return whole(first), whole(c.converse(**{**ASKED, "messages": turns}, toolConfig=TOOLS))


@SDK.cell(streams=True)
async def converse_stream(c: Any, stage: Stage) -> Any:
    return await streamed(stage, c.converse_stream(**ASKED), "stream")


@SDK.cell(streams=True)
async def converse_stream_tools(c: Any, stage: Stage) -> Any:
    return await streamed(stage, c.converse_stream(**ASKED, toolConfig=TOOLS), "stream")


@SDK.cell
async def invoke(c: Any, stage: Stage) -> Any:
    answer = c.invoke_model(modelId="amazon.test-v1:0", body=json.dumps({"prompt": "hello"}))
    with contextlib.closing(answer["body"]) as body:
        return whole({**answer, "body": body.read()})


@SDK.cell(streams=True)
async def invoke_stream(c: Any, stage: Stage) -> Any:
    asked = json.dumps({"prompt": "hello"})
    return await streamed(stage, c.invoke_model_with_response_stream(modelId="amazon.test", body=asked), "body")


@SDK.cell
async def error_404(c: Any, stage: Stage) -> Any:
    kind = c.exceptions.ResourceNotFoundException
    error: Any = await raised(kind, lambda: c.converse(**{**ASKED, "modelId": "missing"}))
    return str(error), whole(error.response)


@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
