"""SDKs that talk over websockets: recorded against a server on this machine, then replayed without it."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbreplay as nr
from nbreplay.core.store.store import Store
from nbreplay.errors import RecordingMissing
from tests.clients import KEY, outcomes
from tests.sdks.harness import installed
from tests.websocket_server import WebSocketServer

openai = installed("openai", "openai")

AUDIO = base64.b64encode(bytes(range(256)) * 20).decode()
TEXT = ["It is ", "18 °C ", "and clear."]

pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


def serve(connection: Any) -> None:
    """Answer as the three services do, with new ids each time."""
    path = connection.request.path
    if "/realtime" in path:
        _realtime(connection)
    elif "/responses" in path:
        _responses(connection)
    else:
        _live(connection)


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:20]}"


def _realtime(connection: Any) -> None:
    def send(kind: str, **fields: Any) -> None:
        connection.send(json.dumps({"type": kind, "event_id": _id("event"), **fields}, ensure_ascii=False))

    session = {"type": "realtime", "object": "realtime.session", "id": _id("sess"), "model": "gpt-realtime"}
    send("session.created", session=session)
    for message in connection:
        event = json.loads(message)
        if event["type"] == "session.update":
            send("session.updated", session={**session, **event["session"]})
        elif event["type"] == "conversation.item.create":
            send("conversation.item.added", item={**event["item"], "id": _id("item")}, previous_item_id=None)
        elif event["type"] == "response.create":
            response, item = _id("resp"), _id("item")
            place = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
            send("response.created", response={"object": "realtime.response", "id": response, "status": "in_progress"})
            for delta in TEXT:
                send("response.output_text.delta", delta=delta, **place)
            send("response.output_audio.delta", delta=AUDIO, **place)
            send("response.done", response={"object": "realtime.response", "id": response, "status": "completed"})


def _responses(connection: Any) -> None:
    for message in connection:
        request = json.loads(message)
        response = {
            "id": _id("resp"),
            "object": "response",
            "created_at": 1763841350,
            "model": request.get("model", "test"),
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "status": "in_progress",
        }
        item = {"id": _id("msg"), "type": "message", "role": "assistant", "status": "completed"}
        item["content"] = [{"type": "output_text", "text": "".join(TEXT), "annotations": []}]
        events: list[dict[str, Any]] = [{"type": "response.created", "response": response}]
        place = {"item_id": item["id"], "output_index": 0, "content_index": 0, "logprobs": []}
        events += [{"type": "response.output_text.delta", "delta": delta, **place} for delta in TEXT]
        usage = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
        usage["input_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": 0}  # type: ignore[assignment]
        usage["output_tokens_details"] = {"reasoning_tokens": 0}  # type: ignore[assignment]
        whole = {**response, "output": [item], "status": "completed", "usage": usage}
        events.append({"type": "response.completed", "response": whole})
        for number, event in enumerate(events):
            connection.send(json.dumps({**event, "sequence_number": number}))


def _live(connection: Any) -> None:
    def send(value: Any) -> None:
        connection.send(json.dumps(value, indent=2).encode() + b"\n")  # Gemini sends its JSON as binary

    for message in connection:
        request = json.loads(message)
        if "setup" in request:
            send({"setupComplete": {"sessionId": _id("session")}})
        else:
            for part in [*({"text": text} for text in TEXT), {"inlineData": {"mimeType": "audio/pcm", "data": AUDIO}}]:
                send({"serverContent": {"modelTurn": {"parts": [part], "role": "model"}}})
            send({"serverContent": {"turnComplete": True}})


# What programs do


def _client(kind: str, server: WebSocketServer) -> Any:
    url = f"{server.url}/v1"
    return getattr(openai, kind)(
        api_key=KEY, base_url=url.replace("ws:", "http:"), websocket_base_url=url, max_retries=0
    )


ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather in Tokyo?"}]}


def realtime_sync(server: WebSocketServer, question: str) -> Any:
    events = []
    with _client("OpenAI", server) as client, client.realtime.connect(model="gpt-realtime") as connection:
        connection.session.update(session={"type": "realtime", "instructions": question})
        connection.conversation.item.create(item=ITEM)
        connection.response.create()
        for event in connection:
            events.append(event.model_dump(warnings=False))
            if event.type == "response.done":
                break
    return events


async def realtime_async(server: WebSocketServer, question: str) -> Any:
    """A task listens while the other one sends."""
    async with (
        _client("AsyncOpenAI", server) as client,
        client.realtime.connect(model="gpt-realtime") as connection,
    ):
        created = asyncio.Event()

        async def listen() -> Any:
            events = []
            async for event in connection:
                events.append(event.model_dump(warnings=False))
                if event.type == "session.created":
                    created.set()
                if event.type == "response.done":
                    break
            return events

        task = asyncio.create_task(listen())
        await created.wait()
        await connection.session.update(session={"type": "realtime", "instructions": question})
        await connection.conversation.item.create(item=ITEM)
        await connection.response.create()
        return await task


def responses_sync(server: WebSocketServer, question: str) -> Any:
    events = []
    with _client("OpenAI", server) as client, client.responses.connect() as connection:
        for text in (question, "and tomorrow?"):
            connection.send({"type": "response.create", "model": "gpt-4o", "input": text})
            for event in connection:
                events.append(event.model_dump(warnings=False))
                if event.type == "response.completed":
                    break
    return events


async def responses_async(server: WebSocketServer, question: str) -> Any:
    events = []
    async with _client("AsyncOpenAI", server) as client, client.responses.connect() as connection:
        await connection.send({"type": "response.create", "model": "gpt-4o", "input": question})
        async for event in connection:
            events.append(event.model_dump(warnings=False))
            if event.type == "response.completed":
                break
    return events


async def agents_websocket(server: WebSocketServer, question: str) -> Any:
    agents = installed("agents", "openai-agents")
    agents.set_tracing_disabled(True)
    async with _client("AsyncOpenAI", server) as client:
        model = agents.OpenAIResponsesWSModel("gpt-4o", client)
        helper = agents.Agent(name="helper", instructions="Be brief.", model=model)
        result = agents.Runner.run_streamed(helper, question)
        events = [
            event.data.model_dump(warnings=False) async for event in result.stream_events() if "raw" in event.type
        ]
        await model.close()
        return events, result.final_output


async def agents_realtime(server: WebSocketServer, question: str) -> Any:
    installed("agents", "openai-agents")
    from agents.realtime import OpenAIRealtimeWebSocketModel, RealtimeAgent, RealtimeRunner

    agent = RealtimeAgent(name="helper", instructions="Be brief.")
    runner = RealtimeRunner(agent, model=OpenAIRealtimeWebSocketModel())
    events = []
    async with await runner.run(model_config={"api_key": KEY, "url": f"{server.url}/v1/realtime?model=m"}) as session:
        await session.send_message(question)
        async for event in session:
            raw = getattr(getattr(event, "data", None), "data", None)
            events.append((event.type, raw if isinstance(raw, dict) else None))
            if isinstance(raw, dict) and raw.get("type") == "response.done":
                break
    return events


async def gemini_live(server: WebSocketServer, question: str) -> Any:
    genai = installed("google.genai", "google-genai")
    client = genai.Client(api_key=KEY)
    # It insists on TLS, which the server here does not speak.
    client._api_client._websocket_base_url = lambda *_: server.url
    client._api_client._websocket_ssl_ctx = {}
    messages = []
    async with client.aio.live.connect(model="gemini-live", config={"response_modalities": ["TEXT"]}) as session:
        await session.send_client_content(turns={"role": "user", "parts": [{"text": question}]}, turn_complete=True)
        async for message in session.receive():
            messages.append(message.model_dump())
    return messages


WAYS: dict[str, Callable[[WebSocketServer, str], Any]] = {
    "openai realtime": realtime_sync,
    "openai realtime async": realtime_async,
    "openai responses": responses_sync,
    "openai responses async": responses_async,
    "openai-agents responses": agents_websocket,
    "openai-agents realtime": agents_realtime,
    "google-genai live": gemini_live,
}


@pytest.fixture
def server() -> Iterator[WebSocketServer]:
    server = WebSocketServer(serve)
    yield server
    server.close()


async def run(name: str, server: WebSocketServer, question: str = "Weather in Tokyo?") -> Any:
    made = WAYS[name](server, question)
    return await made if asyncio.iscoroutine(made) else made


@pytest.mark.full(quick=1)
@pytest.mark.parametrize("name", WAYS)
async def test_a_replay_equals_what_was_recorded(name: str, server: WebSocketServer, store: Path) -> None:
    """One changed message is a miss that shows both."""
    with nr.session(store, mode="record") as session:
        live = await run(name, server)
    assert outcomes(session) == ["recorded"]
    assert len(live) > 3 or isinstance(live, tuple)
    server.close()
    with nr.session(store, mode="replay") as again:
        assert await run(name, server) == live
    assert outcomes(again) == ["replayed"]
    assert server.hits == 1
    with nr.session(store, mode="replay") as missed, pytest.raises(BaseException) as caught:
        await asyncio.wait_for(run(name, server, "Weather in Oslo?"), 20)
    if name != "openai-agents realtime":  # which sends in a task of its own
        assert isinstance(caught.value, RecordingMissing)
    assert outcomes(missed) == ["missing"]
    assert "Oslo" in missed.interactions[0].note


@pytest.mark.full
@pytest.mark.parametrize("name", ["openai realtime async", "google-genai live"])
async def test_the_bytes_of_each_message_are_the_recorded_ones(name: str, server: WebSocketServer, store: Path) -> None:
    from nbreplay.core.recording.websocket import frames_of

    with nr.session(store, mode="record"):
        await run(name, server)
    ((_, recording),) = Store(store).recordings()
    frames = [frame for _, frame in frames_of(recording.takes[0].body)]  # type: ignore[arg-type]
    sent = [frame.content for frame in frames if frame.by == "client" and hasattr(frame, "content")]
    assert sent == server.received
    assert any(b"\n  " in frame.data_bytes() for frame in frames if hasattr(frame, "content")) == ("live" in name)
