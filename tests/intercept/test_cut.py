"""Streams that are cut short, by the caller, an interrupt or the network: what is kept, and what a replay does."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from tests.clients import call, dumped, entered, finish, items, outcomes, plain, recordings, said, sdk, takes, wait
from tests.provider import Provider

HELD = "test/hold+words=20"
"""The server sends the opening and the first piece, and the others when it is told to."""


def asked(client: Any, model: str = HELD) -> Any:
    return client.chat.completions.create(model=model, messages=said("hello"), stream=True)


async def some(stream: Any, number: int) -> list[Any]:
    """Return the first chunks of a stream, which is left open."""
    if hasattr(stream, "__anext__"):
        return [await stream.__anext__() for _ in range(number)]
    return [next(stream) for _ in range(number)]


async def closing(client: Any) -> list[Any]:
    stream = await wait(asked(client))
    found = await some(stream, 2)
    await wait(stream.close())
    return found


async def leaving(client: Any) -> list[Any]:
    found: list[Any] = []
    async with entered(await wait(asked(client))) as stream:
        async for chunk in items(stream):
            found.append(chunk)
            if len(found) == 2:
                break
    return found


async def forgetting(client: Any) -> list[Any]:
    found: list[Any] = []
    if hasattr(client, "__aenter__"):
        async for chunk in await asked(client):
            found.append(chunk)
            if len(found) == 2:
                break
    else:
        for chunk in asked(client):
            found.append(chunk)
            if len(found) == 2:
                break
    gc.collect()
    await asyncio.sleep(0) if hasattr(client, "__aenter__") else None
    return found


async def to_the_end(
    client: Any, model: str = HELD, provider: Provider | None = None
) -> tuple[list[Any], BaseException | None]:
    """Return the chunks of a stream, and what ends it early; have the provider send what it holds."""
    found: list[Any] = []
    stream = await wait(asked(client, model))
    try:
        async for chunk in items(stream):
            found.append(chunk)
            if len(found) == 2 and provider is not None:
                provider.ack()
    except BaseException as error:
        return found, error
    finally:
        await wait(stream.close())
    return found, None


@pytest.mark.parametrize("way", [closing, leaving])
def test_a_stream_that_its_caller_closed(way: Any, flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record") as session:
        live = call(flavour, provider.url, way)
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "closed")
    assert len(take.body.chunks) == 2  # type: ignore[union-attr]
    assert outcomes(session) == ["recorded"]
    hits = provider.hits

    with nr.session(store, mode="replay") as again:
        assert dumped(call(flavour, provider.url, way)) == dumped(live)
    assert outcomes(again) == ["replayed"], "whoever stops at the same place misses nothing"

    with nr.session(store, mode="replay") as further:
        found, error = call(flavour, provider.url, to_the_end)
    assert dumped(found) == dumped(live)
    assert isinstance(error, nr.RecordingIncomplete)
    assert not isinstance(error, Exception)
    assert "closed" in str(error)
    assert "record" in str(error), "and how to have more of it"
    assert outcomes(further) == ["missing"]

    with nr.session(store, mode="auto") as auto:
        assert dumped(call(flavour, provider.url, way)) == dumped(live)
    assert outcomes(auto) == ["replayed"]
    assert provider.hits == hits


def test_a_stream_that_its_caller_forgot(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        live = call(flavour, provider.url, forgetting)
    (take,) = takes(store)
    assert not take.complete
    assert take.reason in ("closed", "open")
    with nr.session(store, mode="replay"):
        found, error = call(flavour, provider.url, to_the_end)
    assert dumped(found) == dumped(live)
    assert isinstance(error, nr.RecordingIncomplete)


def test_an_event_that_was_cut_in_the_middle_is_kept_as_it_came(flavour: str, provider: Provider, store: Path) -> None:
    """A plain client may stop between any two bytes."""
    body = {"model": HELD, "messages": said("hello"), "stream": True}

    async def operation(client: Any) -> bytes:
        data = b""
        async with entered(client.stream("POST", "/chat/completions", json=body)) as answer:
            async for piece in items(answer.iter_raw() if flavour == "sync" else answer.aiter_raw()):
                data += piece
                if b"answer" in data:
                    break
        return data

    with nr.session(store, mode="record"):
        live = call(flavour, provider.url, operation, plain)
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "closed")
    assert take.body.data() == live


def test_a_plain_body_that_its_caller_closed(flavour: str, provider: Provider, store: Path) -> None:
    """Not every answer that comes in pieces is a stream of events."""

    async def operation(client: Any) -> bytes:
        async with entered(client.stream("POST", "/audio/speech", json={"model": "test"})) as answer:
            async for piece in items(answer.iter_raw(1000) if flavour == "sync" else answer.aiter_raw(1000)):
                return bytes(piece)
        return b""

    async def whole(client: Any) -> bytes:
        return bytes((await wait(client.post("/audio/speech", json={"model": "test"}))).content)

    with nr.session(store, mode="record"):
        live = call(flavour, provider.url, operation, plain)
    (take,) = takes(store)
    assert take.body.data().startswith(live)
    assert (take.complete, take.reason) == (False, "closed")
    with nr.session(store, mode="replay"), pytest.raises(nr.RecordingIncomplete):
        call(flavour, provider.url, whole, plain)


def test_closing_after_the_last_event_is_no_cut(flavour: str, provider: Provider, store: Path) -> None:
    async def operation(client: Any) -> bytes:
        data, body = b"", {"model": "test", "messages": said("hello"), "stream": True}
        async with entered(client.stream("POST", "/chat/completions", json=body)) as answer:
            async for piece in items(answer.iter_raw() if flavour == "sync" else answer.aiter_raw()):
                data += piece
                if b"[DONE]" in data:
                    break
        return data

    with nr.session(store, mode="record"):
        call(flavour, provider.url, operation, plain)
    (take,) = takes(store)
    assert (take.complete, take.reason) == (True, None)


DROPPED = "test/drop=5+words=20"


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_a_connection_that_broke(kind: str, flavour: str, store: Path) -> None:
    async def by_plain(client: Any) -> tuple[list[bytes], BaseException | None]:
        data, body = b"", {"model": DROPPED, "messages": said("hello"), "stream": True}
        try:
            async with entered(client.stream("POST", "/chat/completions", json=body)) as answer:
                async for piece in items(answer.iter_raw() if flavour == "sync" else answer.aiter_raw()):
                    data += piece
        except Exception as error:
            return [data], error
        return [data], None

    def run(url: str) -> tuple[list[Any], BaseException | None]:
        if kind == "plain":
            return call(flavour, url, by_plain, plain)  # type: ignore[no-any-return]
        return call(flavour, url, lambda client: to_the_end(client, DROPPED))  # type: ignore[no-any-return]

    with Provider() as provider, nr.session(store, mode="record") as session:
        live, live_error = run(provider.url)
    (take,) = takes(store)
    assert (take.complete, take.reason) == (False, "dropped")
    assert len(take.body.chunks) == 6, "the opening and five pieces"  # type: ignore[union-attr]
    assert outcomes(session) == ["recorded"]
    assert isinstance(live_error, Exception)

    with nr.session(store, mode="replay") as again:
        found, error = run(provider.url)
    assert dumped(found) == dumped(live)
    assert type(error) is type(live_error), "the library's own error"
    assert str(error) == str(live_error)
    assert outcomes(again) == ["replayed"]


def test_auto_records_anew_what_broke(flavour: str, provider: Provider, store: Path) -> None:
    model = "test/drop=5,99+words=20"
    with nr.session(store, mode="record"):
        _, error = call(flavour, provider.url, lambda client: to_the_end(client, model))
        assert isinstance(error, Exception)
    with nr.session(store, mode="auto") as session:
        found, error = call(flavour, provider.url, lambda client: to_the_end(client, model))
    assert error is None
    assert outcomes(session) == ["recorded"]
    (take,) = takes(store)
    assert (take.complete, take.reason) == (True, None), "it has taken the place of the broken one"
    with nr.session(store, mode="replay"):
        assert dumped(call(flavour, provider.url, lambda client: to_the_end(client, model))[0]) == dumped(found)


def test_what_broke_does_not_displace_a_whole_take(flavour: str, provider: Provider, store: Path) -> None:
    model = "test/drop=99,5+words=20"
    with nr.session(store, mode="record"):
        whole, _ = call(flavour, provider.url, lambda client: to_the_end(client, model))
    with nr.session(store, mode="record"):
        _, error = call(flavour, provider.url, lambda client: to_the_end(client, model))
        assert isinstance(error, Exception)
    with nr.session(store, mode="replay"):
        found, error = call(flavour, provider.url, lambda client: to_the_end(client, model))
    assert error is None
    assert dumped(found) == dumped(whole)


def test_what_the_caller_closed_does_not_throw_a_whole_take_away(flavour: str, provider: Provider, store: Path) -> None:
    with nr.session(store, mode="record"):
        whole, error = call(flavour, provider.url, lambda client: to_the_end(client, HELD, provider))
        assert error is None
    with nr.session(store, mode="record"):
        first = call(flavour, provider.url, closing)
    assert [take.reason for take in takes(store)] == ["closed", None]
    with nr.session(store, mode="replay"):
        assert dumped(call(flavour, provider.url, closing)) == dumped(first)
        found, error = call(flavour, provider.url, to_the_end)
    assert error is None
    assert dumped(found) == dumped(whole)


# Interrupts


def interrupted(store: Path) -> None:
    """See that the store holds one take, of an interrupted stream, which replays as such and is recorded anew."""
    (take,) = takes(store)
    assert not take.complete
    assert take.reason == "interrupted"


def test_an_interrupt_in_the_loop_of_the_consumer(provider: Provider, store: Path) -> None:
    seen: list[Any] = []

    def loop(client: Any) -> None:
        for chunk in asked(client):
            seen.append(chunk)
            if len(seen) == 2:
                raise KeyboardInterrupt

    with sdk("sync", provider.url) as client:
        with pytest.raises(KeyboardInterrupt), nr.session(store, mode="record"):
            loop(client)
        (take,) = takes(store)
        assert not take.complete
        assert take.reason in ("interrupted", "open", "closed")
        with nr.session(store, mode="replay"):
            found, error = finish("sync", to_the_end(client))
        assert dumped(found) == dumped(seen)
        assert isinstance(error, nr.RecordingIncomplete)


def test_an_interrupt_while_waiting_for_the_next_chunk(provider: Provider, store: Path) -> None:
    seen: list[Any] = []

    def loop(client: Any) -> None:
        for chunk in asked(client):
            seen.append(chunk)
            if len(seen) == 2:
                threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()

    with sdk("sync", provider.url) as client:
        with nr.session(store, mode="record") as session, pytest.raises(KeyboardInterrupt):
            loop(client)
        interrupted(store)
        assert outcomes(session) == ["recorded"]
        with nr.session(store, mode="replay"):
            found, error = finish("sync", to_the_end(client))
        assert dumped(found) == dumped(seen)
        assert isinstance(error, nr.RecordingIncomplete)
        assert "interrupted" in str(error)


async def cancelled(work: Callable[[asyncio.Event], Any]) -> None:
    """Run `work` as a task, and cancel it when it has set the event."""
    ready = asyncio.Event()
    task = asyncio.create_task(work(ready))
    await asyncio.wait_for(ready.wait(), 20)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_is_cancelled(provider: Provider, store: Path) -> None:
    seen: list[Any] = []
    async with sdk("async", provider.url) as client:

        async def work(ready: asyncio.Event) -> None:
            async for chunk in await asked(client):
                seen.append(chunk)
                if len(seen) == 2:
                    ready.set()

        with nr.session(store, mode="record") as session:
            await cancelled(work)
        interrupted(store)
        assert outcomes(session) == ["recorded"]
        with nr.session(store, mode="replay"):
            found, error = await to_the_end(client)
        assert dumped(found) == dumped(seen)
        assert isinstance(error, nr.RecordingIncomplete)


async def test_a_task_that_is_cancelled_before_there_is_an_answer(provider: Provider, store: Path) -> None:
    """Nothing has come: a replay has nothing to give, and says so as a miss, not as a failure of the network."""
    async with sdk("async", provider.url) as client:

        async def work(ready: asyncio.Event) -> None:
            ready.set()
            await asked(client, "test/delay=1000")

        with nr.session(store, mode="record"):
            await cancelled(work)
        with nr.session(store, mode="replay") as session, pytest.raises(nr.RecordingMissing):
            await asked(client, "test/delay=1000")
    assert outcomes(session) == ["missing"]


def test_auto_records_anew_what_was_interrupted(provider: Provider, store: Path) -> None:
    async def whole() -> None:
        async with sdk("async", provider.url) as client:
            stream: list[Any] = []

            async def work(ready: asyncio.Event) -> None:
                stream.append(await asked(client))
                await some(stream[0], 2)
                ready.set()
                await some(stream[0], 1)

            with nr.session(store, mode="record"):
                await cancelled(work)
            interrupted(store)
            with nr.session(store, mode="auto") as session:
                found, error = await to_the_end(client, HELD, provider)
            assert error is None
            assert outcomes(session) == ["recorded"]
            (take,) = takes(store)
            assert take.complete
            assert len(found) == 22

    asyncio.run(whole())


# The end of the session


def test_a_stream_that_is_read_on_after_the_session_is_written_whole(
    flavour: str, provider: Provider, store: Path
) -> None:
    async def operation(client: Any) -> tuple[list[Any], Any]:
        with nr.session(store, mode="record") as session:
            stream = await wait(asked(client))
            found = await some(stream, 2)
        (take,) = takes(store)
        assert (take.complete, take.reason) == (False, "open")
        assert len(take.body.chunks) == 2  # type: ignore[union-attr]
        provider.ack()
        found += [chunk async for chunk in items(stream)]
        return found, session

    live, session = call(flavour, provider.url, operation)
    (take,) = takes(store)
    assert (take.complete, take.reason) == (True, None)
    assert len(live) == 22
    assert outcomes(session) == ["recorded"]
    with nr.session(store, mode="replay"):
        found, error = call(flavour, provider.url, to_the_end)
    assert error is None
    assert dumped(found) == dumped(live)


def test_a_stream_that_is_left_open_ends_where_the_session_did(flavour: str, provider: Provider, store: Path) -> None:
    async def operation(client: Any) -> list[Any]:
        with nr.session(store, mode="record"):
            stream = await wait(asked(client))
            found = await some(stream, 2)
        (take,) = takes(store)
        assert take.reason == "open"
        with nr.session(store, mode="replay"):
            again, error = await to_the_end(client)
        assert dumped(again) == dumped(found)
        assert isinstance(error, nr.RecordingIncomplete)
        with nr.session(store, mode="auto") as auto:
            whole, error = await to_the_end(client, HELD, provider)
        assert error is None
        assert outcomes(auto) == ["recorded"]
        await wait(stream.close())
        return whole

    live = call(flavour, provider.url, operation)
    assert len(live) == 22
    with nr.session(store, mode="replay"):
        found, error = call(flavour, provider.url, to_the_end)
    assert error is None, "the whole take stands in front, whatever becomes of the other"
    assert dumped(found) == dumped(live)


def test_no_recording_without_an_answer_of_its_own(flavour: str, provider: Provider, store: Path) -> None:
    """A stream that was opened under replay leaves nothing behind, however it ends."""
    with nr.session(store, mode="record"):
        call(flavour, provider.url, closing)
    before = [recording.text() for recording in recordings(store)]
    for mode in ("replay", "auto"):
        with nr.session(store, mode=mode):
            call(flavour, provider.url, closing)
    assert [recording.text() for recording in recordings(store)] == before
