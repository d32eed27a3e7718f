"""``nbreplay verify``: what is asked again, what is told of it, and what never leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nbreplay as nr
from nbreplay.cli.main import main
from nbreplay.core.store.store import Store
from tests.analysis.making import put
from tests.clients import said, sdk
from tests.provider import Provider

ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
LOCAL = ("--allow", "127.0.0.1")
SAID = {"choices": [{"index": 0, "message": {"content": "Hello"}}]}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def record(store: Path, provider: Provider) -> None:
    with nr.session(store, mode="record"), sdk("sync", provider.url) as client:
        client.chat.completions.create(model="test/", messages=said("plain"))
        list(client.chat.completions.create(model="test/words=4", messages=said("streamed"), stream=True))


def texts(store: Path) -> set[str]:
    frame = nr.load(store, cache=False).messages
    return set(frame[frame.direction == "output"].content)


def test_drift_is_told_and_kept_only_when_asked(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        record(store, provider)
        bodies = [json.loads(body) for _, _, body in provider.requests]
        files = {path.name: path.read_bytes() for path in store.glob("*.json")}
        before = texts(store)
        # Each answer of the tests' provider is another.
        assert main(["verify", str(store), *LOCAL]) == 1
        out = capsys.readouterr().out
        assert "0 same, 2 changed" in out
        again = [json.loads(body) for _, _, body in provider.requests[2:]]
        assert sorted(again, key=len) == sorted(bodies, key=len)  # one streams, and has a field more
        assert {path.name: path.read_bytes() for path in store.glob("*.json")} == files
        assert main(["verify", str(store), "--update", "--json", *LOCAL]) == 0
        made = json.loads(capsys.readouterr().out)
    assert made["counts"]["changed"] == made["updated"] == 2
    assert made["left_out"] == []
    assert {row["text_a"] for row in made["pairs"]} == before
    assert {row["text_b"] for row in made["pairs"]} == texts(store)
    assert len(nr.load(store)) == 2


def test_a_service_that_is_gone_changes_nothing(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Provider() as provider:
        record(store, provider)
    before = texts(store)
    main(["verify", str(store), "--update", *LOCAL])
    assert capsys.readouterr().err.count("could not be reached") == 2
    assert texts(store) == before


def test_hosts_of_ones_own_network_are_asked_only_where_they_are_allowed(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Provider() as provider:
        record(store, provider)
        hits = provider.hits
        assert main(["verify", str(store)]) == 0
        assert provider.hits == hits
    assert capsys.readouterr().err.count("Pass --allow 127.0.0.1:") == 2


def test_what_is_not_asked_again_is_said(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    put(Store(store), ASKED, SAID)
    put(Store(store), ASKED | {"n": 1}, SAID, host="api.openai.com.example.org")
    put(Store(store), ASKED | {"user": "[secret:1]"}, SAID, host="127.0.0.1:9")
    put(Store(store), {"tool": "t", "arguments": {}}, {"return": 1}, kind="tool")
    put(Store(store), ASKED | {"n": 3}, {"error": {"message": "no"}}, status=500)
    (store / "chat-0000000000000001.json").write_text("{")
    assert main(["verify", str(store)]) == 0
    told = capsys.readouterr().err
    for why in (
        "no key for api.openai.com. Set OPENAI_API_KEY",
        "verify does not know how api.openai.com.example.org is authorised",
        "a secret or a masked text of the request",
        "not an inference call",
        "no good answer",
        "invalid JSON",
    ):
        assert told.count(why) == 1, why


def test_replay_is_no_way_to_verify(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Store(store), ASKED, SAID, host="127.0.0.1:9")
    monkeypatch.setenv("NBREPLAY_MODE", "replay")
    assert main(["verify", str(store), *LOCAL]) == 2
    assert "NBREPLAY_MODE is replay" in capsys.readouterr().err
    assert main(["verify", str(store / "none")]) == 2
