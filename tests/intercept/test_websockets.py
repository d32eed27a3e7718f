"""Websockets are no HTTP: refused under replay, with the name of the call; said while recording."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import websockets.asyncio.client
import websockets.sync.client
import websockets.sync.server

import nbreplay as nr
from nbreplay.errors import RecordingMissing
from nbreplay.intercept import patching
from nbreplay.intercept.http.websockets import install
from tests.clients import KEY, outcomes

# As a program has it that imported the function before anything was switched on.
EARLY = websockets.sync.client.connect


@pytest.fixture
def server() -> Iterator[str]:
    """A websocket server that greets; its address."""
    with websockets.sync.server.serve(
        lambda connection: connection.send("hello"), "127.0.0.1", 0, open_timeout=1
    ) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{serving.socket.getsockname()[1]}/v1"
        serving.shutdown()
        thread.join()


async def greeted(url: str) -> Any:
    async with websockets.asyncio.client.connect(url) as connection:
        return await connection.recv()


def realtime(url: str) -> Any:
    sdk = openai.OpenAI(api_key=KEY, base_url=url.replace("ws:", "http:"), websocket_base_url=url, max_retries=0)
    with sdk, sdk.realtime.connect(model="gpt-realtime") as connection:
        return connection.recv_bytes()


def plain(url: str) -> Any:
    with EARLY(url) as connection:
        return connection.recv()


CALLS = {
    "realtime.connect": realtime,
    "websockets.connect": plain,
    "websockets.connect async": lambda url: asyncio.run(greeted(url)),
}


@pytest.mark.parametrize("name", CALLS)
def test_replay_refuses_it_and_names_the_call(name: str, store: Path) -> None:
    url = "ws://models.example:9/v1"
    with nr.session(store, mode="replay") as session, pytest.raises(RecordingMissing) as caught:
        CALLS[name](url)
    assert name.partition(" ")[0] in str(caught.value)
    assert "ws://models.example:9/v1" in str(caught.value)
    assert "--allow models.example:9" in str(caught.value)
    assert outcomes(session) == ["blocked"]


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")
@pytest.mark.parametrize("mode", ["record", "auto"])
@pytest.mark.parametrize("name", CALLS)
def test_recording_says_that_it_is_not_recorded_and_lets_it_go(name: str, mode: str, server: str, store: Path) -> None:
    with (
        nr.session(store, mode=mode) as session,
        pytest.warns(UserWarning, match=f"{name.partition(' ')[0]}.* does not record"),
    ):
        assert CALLS[name](server) in ("hello", b"hello")
    assert outcomes(session) == ["live"]


def test_a_placeholder_for_a_key_is_not_sent(server: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with nr.session(store, mode="auto") as session:
        sdk = openai.OpenAI(base_url=server.replace("ws:", "http:"), websocket_base_url=server)
        with (
            sdk,
            pytest.warns(UserWarning, match="does not record"),
            pytest.raises(RecordingMissing, match="placeholder"),
        ):
            sdk.realtime.connect(model="m").enter()
    assert outcomes(session) == ["live", "blocked"]


def test_an_allowed_host_is_reached_under_replay(server: str, store: Path) -> None:
    host = server.split("/")[2]
    with nr.session(store, mode="replay", allow=[host]) as session:
        assert plain(server) == "hello"
    assert outcomes(session) == ["live"]


def test_off_and_outside_any_session_nothing_is_said(server: str, store: Path) -> None:
    with nr.session(store, mode="off"):
        assert plain(server) == "hello"
    assert plain(server) == "hello"


def test_the_hook_is_taken_back() -> None:
    before = websockets.sync.client.parse_uri
    undo = install(websockets.sync.client)
    assert websockets.sync.client.parse_uri is not before
    undo()
    assert websockets.sync.client.parse_uri is before


def test_a_library_without_the_hook_is_reported(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(websockets.sync.client, "parse_uri")
    with nr.session(store, mode="replay"):
        assert any("websockets.sync.client" in problem for problem in patching.problems())


def test_a_client_that_is_imported_later_is_hooked_too(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "websockets.sync.client")
    with nr.session(store, mode="replay"):
        late = importlib.import_module("websockets.sync.client")
        with pytest.raises(RecordingMissing):
            late.connect("ws://models.example/v1")
