"""Websocket sessions in cassettes: each replays through `websockets` as it was recorded, or is refused by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.recording.recording import Recording
from nbreplay.core.store.store import Store
from nbreplay.formats import registry
from nbreplay.formats.cassette_websockets import WebSocketSession, address_of, is_part, read_sessions
from tests.formats.making import SHARED

MADE = Path(__file__).with_name("websockets.yaml")
REAL = SHARED / "cassettes-pydantic-ai" / "realtime"
SECRET = "sk-proj-Zk3uQ9vLr8TnXw2BfG7hJs5d"


def sessions_of(path: Path) -> Iterator[WebSocketSession]:
    """Yield the sessions of a cassette that PyYAML has read."""
    items = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["interactions"]
    yield from read_sessions((number, item) for number, item in enumerate(items, 1) if is_part(item))


def drive(session: WebSocketSession, *, changed: bool = False) -> None:
    """Be the client of a session, in recorded order, and compare every message; the last one may be another."""
    last = max(place for place, (sent, _) in enumerate(session.messages) if sent)
    with connect(address_of(session)) as connection:
        for place, (sent, data) in enumerate(session.messages):
            if sent:
                connection.send(json.dumps({"changed": True} if changed and place == last else data))
            else:
                assert json.loads(connection.recv(5)) == without_secret(data)
        if session.close is not None:
            with pytest.raises(ConnectionClosedError) as closed:
                connection.recv(5)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == session.close


async def drive_async(session: WebSocketSession) -> None:
    async with connect_async(address_of(session)) as connection:
        for sent, data in session.messages:
            if sent:
                await connection.send(json.dumps(data))
            else:
                async with asyncio.timeout(5):
                    assert json.loads(await connection.recv()) == without_secret(data)


def without_secret(data: Any) -> Any:
    return json.loads(json.dumps(data).replace(SECRET, "[secret:1]"))


def import_one(path: Path, store: Path, url: str = "") -> registry.ImportCounts:
    return registry.import_files(path, Store(store), url=url)


def replay(path: Path, store: Path) -> int:
    """Replay all sessions of a cassette, sync and async, and with a changed message; return their number."""
    import_one(path, store)
    count = 0
    with nr.session(store, mode="replay") as own:
        for session in sessions_of(path):
            drive(session)
            count += 1
    assert [call.outcome for call in own.interactions] == ["replayed"] * count
    with nr.session(store, mode="replay"):
        for session in sessions_of(path):
            asyncio.run(drive_async(session))
    with nr.session(store, mode="replay") as other:
        for session in sessions_of(path):
            with pytest.raises(nr.RecordingMissing) as miss:
                drive(session, changed=True)
            last = next(data for sent, data in reversed(session.messages) if sent)
            assert "changed" in str(miss.value)
            assert next(iter(last)) in str(miss.value)
    assert {call.outcome for call in other.interactions} == {"missing"}
    return count


def test_a_made_cassette_replays(store: Path) -> None:
    assert replay(MADE, store) == 3


@pytest.mark.full
def test_the_real_sessions_replay(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip(f"the cassettes of pydantic-ai are not in {REAL}")
    files = [path for path in sorted(REAL.rglob("*.yaml")) if "kind: message" in path.read_text(encoding="utf-8")]
    assert len(files) == 45
    assert sum(replay(path, tmp_path / str(number)) for number, path in enumerate(files)) == 46


def test_what_is_imported(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(MADE), "--store", str(store)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"4 interactions in 1 file: 4 added to {store}" in said
    assert "do not name the address of 3 websocket sessions" in said
    assert "point to api.openai.com (2), generativelanguage.googleapis.com (1)." in said
    recordings = [one for _, one in Store(store).recordings() if isinstance(one, Recording)]
    takes = {take.host: one.takes for one in recordings for take in one.takes}
    broken, again = takes["api.openai.com"]
    assert (broken.complete, broken.status, broken.timed, broken.redacted) == (True, 101, False, 1)
    assert (again.complete, again.reason) == (False, "closed")
    assert SECRET not in "".join(path.read_text() for path in store.glob("*.json"))
    assert main(["check", str(store)]) == 0
    frame = nr.load(store).interactions
    assert frame.duration_s.isna().all()
    assert import_one(MADE, store).known == 4


def test_a_secret_in_a_message_is_found(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_one(MADE, store)
    (path,) = [path for path in store.glob("*.json") if "[secret:1]" in path.read_text()]
    path.write_text(path.read_text().replace("[secret:1]", SECRET))
    assert main(["check", str(store)]) == 1
    assert path.name in capsys.readouterr().out
    assert main(["check", str(store), "--fix"]) == 0
    assert "[secret:1]" in path.read_text()
    (session, *_) = sessions_of(MADE)
    with nr.session(store, mode="replay"):
        drive(session)


def test_an_address_that_the_user_names(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = "wss://me.openai.azure.com/openai/v1/realtime?model=mine"
    assert main(["import", str(MADE), "--store", str(store), "--url", url]) == 0
    assert "do not name" not in capsys.readouterr().out
    (fields,) = [
        one.request for _, one in Store(store).recordings() if isinstance(one, Recording) and one.kind == "websocket"
    ]
    assert fields == {
        "method": "GET",
        "host": "me.openai.azure.com",
        "path": "/openai/v1/realtime",
        "query": [["model", "mine"]],
    }
    assert main(["import", str(MADE), "--store", str(store), "--url", "https://me.openai.azure.com"]) == 2
    assert "is not the address of a websocket" in capsys.readouterr().err


HELLO = {"direction": "received", "data": {"type": "session.created", "session": {"model": "gpt-realtime"}}}


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([{**HELLO, "at": 3}], "interaction 1: unknown field 'at' of a websocket message"),
        ([HELLO, {"direction": "up", "kind": "message", "data": {}}], "interaction 2: direction: 'up' is neither"),
        ([HELLO, {"direction": "sent", "data": "hello"}], "interaction 2: data: str is not JSON data"),
        ([HELLO, {"direction": "sent", "kind": "ping", "data": {}}], "interaction 2: kind: 'ping' is neither"),
        ([{"kind": "close", "code": 1000}], "interaction 1: a session ends that has not begun"),
        ([HELLO, {"kind": "close", "code": 3}], "interaction 2: code: '3' is not a code"),
        ([HELLO, {"kind": "close", "code": 1000, "reason": 3}], "interaction 2: reason: '3' is not text"),
        ([{"direction": "sent", "data": {"hello": 1}}], "nbreplay import CASSETTE --url wss://HOST/PATH"),
        ([HELLO, {"direction": "sent", "data": {1: 2}}], "interaction 2: data is not JSON (the name 1 is not text)"),
    ],
)
def test_a_form_that_is_not_known(items: list[Any], why: str, tmp_path: Path, store: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "interactions": items}))
    counts = import_one(path, store)
    (error,) = counts.left_out
    assert error.startswith(f"{path} cannot be imported: ")
    assert why in error
    assert counts.written == 0
