"""litellm: its own objects over several providers, sync over httpx, async over aiohttp under httpx."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clients import items, said, wait
from tests.sdks.dump import HEADERS, dump, headers_of
from tests.sdks.harness import Cell, Sdk, Stage, check, installed, raised
from tests.sdks.openai_client import PARAMETERS, City

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else its import asks GitHub for prices
litellm = installed("litellm", extra="sdks-openai2")

MADE_UP = frozenset({"_response_ms", "litellm_overhead_time_ms", "callback_duration_ms", "litellm_call_id"})
OWN_ID = re.compile(r"chatcmpl-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HELLO = said("hello")
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}


@contextmanager
def sync(stage: Stage) -> Iterator[str]:
    """Give the flavour's prefix; close the clients after it, which litellm keeps for ever."""
    try:
        yield ""
    finally:
        for one in _kept():
            one.close()


@asynccontextmanager
async def asynchronous(stage: Stage) -> AsyncIterator[str]:
    """Do the same for the other flavour."""
    try:
        yield "a"
    finally:
        await litellm.close_litellm_async_clients()
        for one in _kept():
            await wait(one.close())
        await litellm.module_level_aclient.client._transport.aclose()  # that of Anthropic's streams; it opens again


def _kept() -> list[Any]:
    cache = litellm.in_memory_llm_clients_cache
    found = [value for value in cache.cache_dict.values() if hasattr(value, "close")]
    cache.flush_cache()
    return found


SDK = Sdk("litellm", "litellm", {"sync": sync, "async": asynchronous})


def asked(a: str, stage: Stage, what: str = "completion", provider: str = "openai", **options: Any) -> Any:
    base = stage.url if provider == "anthropic" else f"{stage.url}/v1"
    given = {"model": f"{provider}/test", "api_base": base, "api_key": "a-key-of-the-tests", "num_retries": 0}
    return wait(getattr(litellm, a + what)(**{**given, **options}))


async def answer(a: str, stage: Stage, *args: Any, **options: Any) -> Any:
    return lasting(await asked(a, stage, *args, **options))


async def streamed(a: str, stage: Stage, *args: Any, **options: Any) -> Any:
    found = []
    stream = await asked(a, stage, *args, stream=True, **options)
    async for chunk in items(stream if a else (chunk for chunk in stream)):  # it is of both kinds
        stage.arrived()
        found.append(lasting(chunk))
    return found


def lasting(value: Any) -> Any:
    """Return a dump without what litellm makes up in each run.

    That is how long things took, the id of the call, when a chunk came (it has the client's clock there), and the id
    where the provider's own is not used. The headers are those that recordings keep.
    """
    return _lasting(dump(value))


def _lasting(node: Any) -> Any:
    if isinstance(node, list):
        return [_lasting(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {name: _lasting(item) for name, item in node.items() if name not in MADE_UP and _kept_header(name)}
    for name in ("headers", "_response_headers"):
        if isinstance(made.get(name), dict):
            made[name] = headers_of(made[name])
    for name in ("created", "created_at"):
        if isinstance(made.get(name), int | float) and abs(time.time() - made[name]) < 600:
            made[name] = "the client's"
    for name in ("id", "received_model_id"):
        if isinstance(made.get(name), str) and OWN_ID.fullmatch(made[name]):
            made[name] = "the client's"
    return made


def _kept_header(name: str) -> bool:
    return not name.startswith("llm_provider-") or name.removeprefix("llm_provider-") in HEADERS


@SDK.cell
async def chat(a: str, stage: Stage) -> Any:
    return await answer(a, stage, messages=HELLO)


@SDK.cell
async def chat_tools(a: str, stage: Stage) -> Any:
    first = await asked(a, stage, messages=HELLO, tools=[TOOL])
    call = first.choices[0].message
    turns = [*HELLO, call, {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "18 degrees"}]
    return lasting(first), await answer(a, stage, messages=turns, tools=[TOOL])


@SDK.cell
async def chat_structured(a: str, stage: Stage) -> Any:
    return await answer(a, stage, messages=HELLO, response_format=City)


@SDK.cell(streams=True)
async def chat_stream(a: str, stage: Stage) -> Any:
    return await streamed(a, stage, messages=HELLO)


@SDK.cell(streams=True)
async def chat_stream_tools(a: str, stage: Stage) -> Any:
    return await streamed(a, stage, messages=HELLO, tools=[TOOL], stream_options={"include_usage": True})


@SDK.cell
async def embeddings(a: str, stage: Stage) -> Any:
    return await answer(a, stage, "embedding", input=["one", "two"])


@SDK.cell
async def response(a: str, stage: Stage) -> Any:
    return await answer(a, stage, "responses", input="hello")


@SDK.cell(streams=True)
async def response_stream(a: str, stage: Stage) -> Any:
    # of a model that it does not know it would ask for the whole, and cut that
    return await streamed(a, stage, "responses", input="hello", model="openai/gpt-4o")


@SDK.cell
async def message(a: str, stage: Stage) -> Any:
    return await answer(a, stage, provider="anthropic", messages=HELLO)


@SDK.cell(streams=True)
async def message_stream(a: str, stage: Stage) -> Any:
    return await streamed(a, stage, provider="anthropic", messages=HELLO)


@SDK.cell(streams=True)
async def message_stream_tools(a: str, stage: Stage) -> Any:
    return await streamed(a, stage, provider="anthropic", messages=HELLO, tools=[TOOL])


@SDK.cell
async def error_400(a: str, stage: Stage) -> Any:
    given = {"model": "openai/test/status=400", "messages": HELLO}
    return await raised(litellm.BadRequestError, lambda: asked(a, stage, **given))


@SDK.cell(only="async")
async def chat_concurrent(a: str, stage: Stage) -> Any:
    return await stage.together([answer(a, stage, messages=said(f"question {number}")) for number in range(8)])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of litellm's own use of pydantic
@pytest.mark.parametrize("cell", SDK.cells, ids=str)
def test_a_replay_equals_what_was_recorded(cell: Cell, tmp_path: Path, record_property: Any) -> None:
    check(cell, tmp_path, record_property)
