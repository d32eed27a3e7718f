"""Sessions, transports and what they have seen."""

# mypy: disallow-any-expr

from __future__ import annotations

import asyncio
from typing import Literal, assert_type

import httpx
import httpx2
from IPython.core.interactiveshell import InteractiveShell
from openai import AsyncOpenAI, OpenAI

import nbreplay as nr


def replay_and_look(store: str) -> list[str]:
    with nr.session(store, "replay", speed=2, ignore=["metadata.run_id"], mask=("run-[0-9]+",)) as session:
        assert_type(session, nr.Session)
        OpenAI().embeddings.create(model="text-embedding-3-small", input="Tokyo")
    assert_type(session.interactions, list[nr.Interaction])
    for call in session.interactions:
        assert_type(call.outcome, Literal["replayed", "recorded", "live", "missing", "unsaved", "blocked"])
        assert_type(call.served_s, float | None)
        assert_type(call.take, nr.Take | None)
        if call.take is not None:
            assert_type(call.take.status, int | None)
            assert_type(call.take.headers.get("content-type", ""), str)
            assert_type(call.take.recorded_at, str)
    session.show()
    return [call.key for call in session.interactions if call.request and call.request.model == "gpt-4o"]


async def record_in_the_background() -> nr.Session:
    async with nr.session(mode="record", only=["api.openai.com"], allow=["localhost:8080"]) as session:
        await AsyncOpenAI().models.list()
    return assert_type(session, nr.Session)


def without_patching() -> str:
    transport = nr.transport("recordings", mode="auto", inner=httpx2.HTTPTransport(retries=2))
    OpenAI(http_client=httpx2.Client(transport=transport))
    AsyncOpenAI(http_client=httpx2.AsyncClient(transport=nr.transport(mode="record-if-missing")))
    httpx.AsyncClient(transport=nr.transport(inner=httpx.AsyncHTTPTransport()))
    with httpx.Client(transport=nr.transport("recordings.zip"), mounts={"https://": transport}) as client:
        client.get("https://example.com")
    assert_type(transport, nr.Transport)
    assert_type(transport.session, nr.Session)
    assert_type(transport.session.store, nr.Store)
    return repr(transport.session.interactions[-1])


def read_a_store(store: nr.Store) -> None:
    assert_type(store.names(), list[str])
    for name, content in store.recordings():
        assert_type(name, str)
        if isinstance(content, nr.RecordingFormatError):
            continue
        assert_type(content, nr.Recording)
        assert_type(content.key, str)
        assert_type([take.duration_s for take in content.takes], list[float | None])
        content.text().encode()


def catch(error: BaseException) -> str:
    if isinstance(error, nr.NetworkBlocked):
        assert_type(error.errno, int | None)
    return str(error) if isinstance(error, nr.RecordingMissing | nr.NbreplayError) else ""


def switch_on(shell: InteractiveShell) -> None:
    nr.load_ipython_extension(shell)
    nr.unload_ipython_extension(shell)
    assert_type(nr.__version__, str)


def test_of_a_user(replay: nr.Session) -> None:
    asyncio.run(record_in_the_background())
    assert not replay.interactions
